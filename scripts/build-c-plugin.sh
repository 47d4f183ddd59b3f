#!/usr/bin/env bash
# Builds examples/c-plugin into the file that its argument names: wit-bindgen's C output of
# guest-sdk/wit, clang, and wasm-component-ld, which is wit-component as a linker. wit-bindgen comes
# from crates.io, once, into the cache folder; the linker is the wasm toolchain's
# (scripts/wasm-rust.sh). Nothing generated is kept in the checkout.
#
#   scripts/build-c-plugin.sh OUTPUT.wasm
set -euo pipefail

readonly repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly output=$1
. "$repo/scripts/env.sh"

readonly bindgen_version=0.63.0
readonly bindgen="$wasmpod_cache/bin/wit-bindgen"
if [[ $("$bindgen" --version 2>/dev/null) != "wit-bindgen-cli $bindgen_version"* ]]; then
  echo "build-c-plugin: building wit-bindgen $bindgen_version (minutes, once)" >&2
  CARGO_TARGET_DIR="$wasmpod_cache/wit-bindgen-target" \
    cargo install --quiet --locked --force --root "$wasmpod_cache" \
    --no-default-features --features c "wit-bindgen-cli@$bindgen_version" >&2
  rm -rf "$wasmpod_cache/wit-bindgen-target"
fi

eval "$("$repo/scripts/wasm-rust.sh")"
linkers="$("$WASM_RUSTC" --print sysroot)/lib/rustlib/$("$WASM_RUSTC" -vV | sed -n 's/^host: //p')/bin"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$bindgen" c "$repo/guest-sdk/wit" --world plugin --out-dir "$scratch" >"$scratch/log" 2>&1 ||
  { cat "$scratch/log" >&2; exit 1; }
readonly flags=(--target=wasm32-wasi -O2 -Wall -I "$scratch")
# wit-bindgen's own code is not held to our warnings.
clang "${flags[@]}" -w -c -o "$scratch/generated.o" "$scratch/plugin.c"
clang "${flags[@]}" -Wextra -Werror -c -o "$scratch/cpus.o" "$repo/examples/c-plugin/cpus.c"
# A reactor: it has no main. The adapter turns what the C library imports into WASI 0.2.
clang --target=wasm32-wasi -mexec-model=reactor -fuse-ld="$linkers/wasm-component-ld" \
  -Wl,--wasm-ld-path,"$(command -v wasm-ld)",--wasi-adapter,reactor,--strip-debug \
  -o "$output" "$scratch/cpus.o" "$scratch/generated.o" "$scratch/plugin_component_type.o"
