#!/usr/bin/env bash
# Builds wasmpod and measures it; prints a table.
#
#   tests/bench/run.sh               everything
#   tests/bench/run.sh latency stop  only these: latency exec streams throughput idle polls stop
#                                    files network pulls store services pinning
#                                    plugins
#
# As root for pods with a network namespace of their own. Best on an idle machine.
#
# WASMPOD_BENCH_PROFILE     cargo profile (bench, which is release); dev to work on the bench itself
# WASMPOD_BENCH_SCALE       divides every count of pods, for a quick look (default 1)
# WASMPOD_BENCH_PEER        another CRI endpoint with a wasm handler, "unix:///run/x.sock,HANDLER":
#                           latency and throughput are measured there too, by the same calls
# WASMPOD_BENCH_PEER_IMAGE  an image there that prints something and ends
#
# Where a `wasmtime` is installed, its `run`, `compile` and `serve` of the same files are measured beside.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/env.sh

scripts/setup.sh
scripts/build-guests.sh >/dev/null
exec cargo bench --locked --quiet --profile "${WASMPOD_BENCH_PROFILE:-bench}" --bench pods -- "$@"
