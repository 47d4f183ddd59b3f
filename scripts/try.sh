#!/usr/bin/env bash
# Builds wasmpod and the example guests, then runs a pod: examples/hello.yaml, or the file named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

scripts/setup.sh
cargo build --locked --quiet
guests=$(scripts/build-guests.sh)
# For `wasmpod exec POD sh`, whatever a container holds: where a daemon looks beside its program.
install -D -m 644 "$guests/toolbox.wasm" "$CARGO_TARGET_DIR/lib/wasmpod/toolbox.wasm"
readonly wasmpod="$CARGO_TARGET_DIR/debug/wasmpod"
echo "+ $wasmpod run ${1:-examples/hello.yaml}" >&2
exec "$wasmpod" run "${1:-examples/hello.yaml}"
