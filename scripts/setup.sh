#!/usr/bin/env bash
# Installs what the tests need besides Rust, with apt, as root: a C compiler for wasm guests with
# its C library, a registry of images, CNI plugins with what they call, and looks for Go. Says
# nothing where all is there. As an ordinary user, or without apt, it names what is missing and
# goes on: what needs it is then skipped, loudly.
set -euo pipefail

missing=()
lacks() { command -v "$1" >/dev/null || missing+=("$2"); }
lacks cc gcc
lacks clang clang
lacks wasm-ld lld
[ -e /usr/include/wasm32-wasi/stdio.h ] || missing+=(wasi-libc)
compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a' >/dev/null ||
  missing+=(libclang-rt-dev-wasm32)
lacks go golang-go
lacks ip iproute2
lacks iptables iptables
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
# A real registry for the tests, its passwords and certificates.
lacks docker-registry docker-registry
lacks htpasswd apache2-utils
lacks openssl openssl
lacks curl curl

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing ${missing[*]}" >&2
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  # The lists may be recent enough; a machine just made has none.
  apt-get -qq install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
    { apt-get -qq update >"$log" 2>&1 &&
      apt-get -qq install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; } ||
    { echo "setup: apt could not install them:" >&2; sed -E 's|[a-z+]+://[^/[:space:]]+|(mirror)|g' "$log" >&2; exit 1; }
else
  echo "setup: MISSING: ${missing[*]} (as root: apt-get install ${missing[*]})" >&2
fi
