#!/usr/bin/env bash
# Builds wasmpod and the example guests, then runs a pod: examples/hello.yaml, or the file named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

scripts/setup.sh
cargo build --locked --quiet
guests=$(scripts/build-guests.sh)
# For `wasmpod exec POD sh`, beside whatever a container holds.
export WASMPOD_TOOLBOX="$guests/toolbox.wasm"
readonly wasmpod="$CARGO_TARGET_DIR/debug/wasmpod"
echo "+ $wasmpod run ${1:-examples/hello.yaml}" >&2
exec "$wasmpod" run "${1:-examples/hello.yaml}"
