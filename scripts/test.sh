#!/usr/bin/env bash
# Passes everything that a change has to pass: format, licences, lints, all tests. Sets up what
# these need. Run as root for all of them; as an ordinary user the tests that need root say that
# they are skipped. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

readonly deny_version=0.20.2
step() { echo "=== $* ($SECONDS s)" >&2; }

step setup
scripts/setup.sh
scripts/build-guests.sh >/dev/null

step format
cargo fmt --check
cargo fmt --all --check --manifest-path examples/Cargo.toml

step licences, bans, sources
readonly deny="$wasmpod_cache/bin/cargo-deny"
if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
  # A target folder of its own, for its features are not ours.
  CARGO_TARGET_DIR="$wasmpod_cache/cargo-deny-target" \
    cargo install --quiet --locked --force --root "$wasmpod_cache" "cargo-deny@$deny_version"
  rm -rf "$wasmpod_cache/cargo-deny-target"
fi
"$deny" --log-level error check bans licenses sources

step lints
cargo clippy --locked --quiet --all-targets -- --deny warnings

if [ $# -eq 0 ] && [ "$(id -u)" = 0 ]; then
  step tests of the network with current CNI plugins
  # The tests below take the system's, which are older.
  CNI_PLUGINS=$(tests/conformance/build-cni-plugins.sh)
  export CNI_PLUGINS
  cargo test --locked --no-fail-fast --test all network::
  unset CNI_PLUGINS
fi

step the toolbox, its parser against whatever text, the streaming server against whatever clients
# Ten minutes of each, with WASMPOD_FUZZ_SECONDS=600 in front:
#   cargo test --manifest-path examples/Cargo.toml -p toolbox whatever
#   cargo test --lib streaming::fuzz
fuzz_seconds="${WASMPOD_FUZZ_SECONDS:-60}"
WASMPOD_FUZZ_SECONDS="$fuzz_seconds" CARGO_TARGET_DIR="$wasmpod_cache/examples-target" \
  cargo test --locked --quiet --manifest-path examples/Cargo.toml --package toolbox &
toolbox=$!
WASMPOD_FUZZ_SECONDS="$fuzz_seconds" cargo test --locked --quiet --lib streaming::fuzz
wait "$toolbox"

step the guest SDK and the example plugins, on a fake node
CARGO_TARGET_DIR="$wasmpod_cache/examples-target" cargo test --locked --quiet \
  --manifest-path examples/Cargo.toml --package wasmpod-guest --package audit --package env-inject \
  --package exclusive-cpus --package graceful --package image-allowlist --package numa-affinity

step tests
if [ "$(id -u)" = 0 ]; then
  # What setup has installed must be used: nothing is skipped for want of it.
  export WASMPOD_TESTS_SKIP_NOTHING=1
fi
# Last, so that its closing lines close the run.
exec env -u WASMPOD_FUZZ_SECONDS cargo test --locked --no-fail-fast "$@"
