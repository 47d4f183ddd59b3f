#!/usr/bin/env bash
# Builds every guest in examples/ and prints the folder that holds them:
#
#   NAME.wasm       Rust for wasm32-wasip1 (a core module), Go, C
#   NAME-p2.wasm    Rust for wasm32-wasip2 (a component)
#   web.wasm        Rust, a component of WASI 0.2 that answers HTTP requests
#   web-p3.wasm, p3-command.wasm  Rust, components of WASI 0.3
#   audit, env-inject, exclusive-cpus, image-allowlist, numa-affinity, plugin-probe
#                   Rust, lifecycle plugins: components with the guest SDK
#   c-plugin.wasm   C, a lifecycle plugin
#   graceful.wasm   Rust, a container that asks the guest SDK for its own stop
#   toolbox.wasm    Rust, the debugging shell, a component of WASI 0.2 (scripts/toolbox-image.sh
#                   makes an image of it)
#
# Does nothing, quickly, when nothing changed. Go and C guests are left out, loudly, where their
# compilers are missing (scripts/setup.sh installs them).
set -euo pipefail

readonly repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly examples="$repo/examples"
readonly target="$examples/target"
readonly guests="$target/guests"
readonly stamp="$guests/.built"

note() { echo "build-guests: $*" >&2; }

mkdir -p "$guests"
exec 9>"$target/.lock"
flock 9

changed=yes
if [ -e "$stamp" ]; then
  changed=$(find "$examples" "$repo/scripts" "$repo/wit" "$repo/guest-sdk" -path "$target" -prune -o -newer "$stamp" -print -quit)
fi
if [ -z "$changed" ]; then
  echo "$guests"
  exit 0
fi
start=$(mktemp "$target/.start.XXXXXX")
trap 'rm -f "$start"' EXIT
complete=yes

# Renamed in, so that no reader sees half a file; and only when it differs, so that its time tells.
publish() {
  cmp -s "$1" "$guests/$2" && return
  cp "$1" "$guests/$2.new"
  mv "$guests/$2.new" "$guests/$2"
}

# The workspace's default members for a target; their files in the folder get the suffix.
rust() {
  local triple=$1 suffix=$2 file
  compile --target "$triple" --target-dir "$target/rust"
  for file in "$target/rust/$triple"/release/*.wasm; do
    publish "$file" "$(basename "$file" .wasm)$suffix.wasm"
  done
}

compile() {
  # Flags that cargo hands to tests and build scripts are meant for the host.
  env -u CARGO_ENCODED_RUSTFLAGS -u RUSTFLAGS -u CARGO_BUILD_TARGET -u RUSTC_WRAPPER \
    -u RUSTC_WORKSPACE_WRAPPER -u RUSTUP_TOOLCHAIN_SOURCE RUSTC="$WASM_RUSTC" \
    cargo build --quiet --release --locked --manifest-path "$examples/Cargo.toml" "$@" >&2
}

export_line=$("$repo/scripts/wasm-rust.sh")
eval "$export_line"
rust wasm32-wasip1 ""
rust wasm32-wasip2 "-p2"
# Only components, and libraries to cargo: they have no p1 form, and names with underscores.
for guest in p3-command toolbox web web-p3 \
  audit env-inject exclusive-cpus graceful image-allowlist numa-affinity \
  plugin-probe hooks-probe; do
  compile --package "$guest" --target wasm32-wasip2 --target-dir "$target/components"
  publish "$target/components/wasm32-wasip2/release/${guest//-/_}.wasm" "$guest.wasm"
done

if command -v go >/dev/null; then
  for guest in go-hello go-server; do
    (cd "$examples/$guest" && GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local \
      go build -trimpath -o "$target/$guest.wasm" . >&2)
    publish "$target/$guest.wasm" "$guest.wasm"
  done
else
  note "SKIPPED go-hello and go-server: no go"
  complete=
fi

if command -v clang >/dev/null && command -v wasm-ld >/dev/null && [ -e /usr/include/wasm32-wasi/stdio.h ]; then
  clang --target=wasm32-wasi -O2 -Wall -Werror -Wl,--strip-debug -o "$target/c-hello.wasm" "$examples/c-hello/hello.c" >&2
  publish "$target/c-hello.wasm" c-hello.wasm
  "$repo/scripts/build-c-plugin.sh" "$target/c-plugin.wasm"
  publish "$target/c-plugin.wasm" c-plugin.wasm
else
  note "SKIPPED c-hello and c-plugin: no clang, wasm-ld or wasi-libc"
  complete=
fi

# A later run tries again what was left out.
[ -n "$complete" ] && touch -r "$start" "$stamp"
echo "$guests"
