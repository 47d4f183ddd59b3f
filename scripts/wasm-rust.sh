#!/usr/bin/env bash
# Finds a rustc that builds for wasm32-wasip1 and wasm32-wasip2, or sets one up. Prints one export
# line for the shell; everything else goes to stderr.
#
#   eval "$(scripts/wasm-rust.sh)"
#   RUSTC="$WASM_RUSTC" cargo build --release --target wasm32-wasip1
#
# In this order:
#   1. the active toolchain, where its targets are installed (`rustup target add ...`);
#   2. what an earlier run of this script set up in the cache folder;
#   3. on Debian, from Debian's own archive: its rustc with its wasm standard library, taken in by
#      apt with a configuration of its own (signatures are checked; the system's package state is
#      not touched, no root needed) and unpacked into the cache folder. It runs on the C library
#      it came with. The linkers are the active toolchain's;
#   4. `rustup target add`, where there is a rustup.
#
# XDG_CACHE_HOME    the cache folder is $XDG_CACHE_HOME/wasmpod/wasm-rust (~/.cache by default);
#                   remove it to start over
# WASM_RUST_SUITES  Debian suites to try, in order
set -euo pipefail

readonly targets=(wasm32-wasip1 wasm32-wasip2)
readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/wasmpod"
readonly home="$cache/wasm-rust"
# What examples/ need (rust-version in their Cargo.toml).
readonly oldest=1.88.0
# Debian 13 has an older one.
read -ra suites <<<"${WASM_RUST_SUITES:-forky sid}"

note() { echo "wasm-rust: $*" >&2; }
fail() { note "$@"; exit 1; }
answer() { printf 'export WASM_RUSTC=%q\n' "$1"; exit 0; }
# Mirrors are nobody's business in a build log.
without_hosts() { sed -E 's|[a-z+]+://[^/[:space:])]+|(mirror)|g' >&2; }

# Does this rustc have a standard library for each target?
knows_targets() {
  local target folder
  for target in "${targets[@]}"; do
    folder=$("$1" --print target-libdir --target "$target" 2>/dev/null) || return 1
    compgen -G "$folder/libstd-*.rlib" >/dev/null || return 1
  done
}

# Is this rustc as new as the examples need?
is_recent() {
  local version
  version=$("$1" --version | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
  [ -n "$version" ] && [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" = "$oldest" ]
}

# Does it really link a program for each? Wasm files begin with a zero byte and "asm".
builds() {
  local scratch target outcome=0
  scratch=$(mktemp -d)
  echo 'fn main() { println!("{:?}", std::env::args()); }' >"$scratch/main.rs"
  for target in "${targets[@]}"; do
    "$1" --edition 2021 --target "$target" -o "$scratch/out.wasm" "$scratch/main.rs" >&2 &&
      [ "$(head -c 4 "$scratch/out.wasm" | tail -c 3)" = asm ] || outcome=1
    rm -f "$scratch/out.wasm"
  done
  rm -rf "$scratch"
  return "$outcome"
}

active=$(rustup which rustc 2>/dev/null || command -v rustc) || fail "no rustc: install Rust first"
knows_targets "$active" && is_recent "$active" && answer "$active"

host=$("$active" -vV | sed -n 's/^host: //p')
linkers="$("$active" --print sysroot)/lib/rustlib/$host/bin"

# The active toolchain may have been updated since: its linkers are linked anew each time.
borrow_linkers() {
  local into="$1/usr/lib/rustlib/$host/bin" tool
  mkdir -p "$into"
  for tool in rust-lld wasm-component-ld gcc-ld; do ln -sfn "$linkers/$tool" "$into/$tool"; done
}

# One at a time: whoever comes second finds the work done.
mkdir -p "$cache"
exec 8>"$home.lock"
flock 8

if [ -e "$home/complete" ] && [ -x "$linkers/wasm-component-ld" ]; then
  borrow_linkers "$home"
  is_recent "$home/rustc" && answer "$home/rustc"
fi

archive=/etc/apt/sources.list.d/debian.sources
debian_possible() {
  [ -x "$linkers/rust-lld" ] && [ -x "$linkers/wasm-component-ld" ] && [ -r "$archive" ] &&
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null &&
    [ "$(uname -m)" = x86_64 ]
}

# An apt of its own in folder $1 that sees nothing but suite $2.
private_apt() {
  local apt=$1 suite=$2
  mkdir -p "$apt"/{sources,preferences,lists/partial,cache/archives/partial,packages}
  : >"$apt/status"
  {
    echo "Types: deb"
    grep -m1 '^URIs:' "$archive"
    echo "Suites: $suite"
    echo "Components: main"
    grep -m1 '^Signed-By:' "$archive"
  } >"$apt/sources/archive.sources"
  cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt/preferences";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "";
CONF
}

newest() { apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: //p'; }

# Takes rustc and its wasm standard library from one suite into $home.
from_debian() {
  local suite=$1 apt="$scratch/$1" compiler library needed new="$home.new"
  private_apt "$apt" "$suite"
  export APT_CONFIG="$apt/apt.conf"
  apt-get -qq update 2>&1 | without_hosts || return 1
  compiler=$(newest rustc) library=$(newest libstd-rust-dev-wasm32)
  if [ -z "$compiler" ] || [ "$compiler" != "$library" ]; then
    note "Debian $suite: rustc '$compiler', its wasm library '$library'"
    return 1
  fi
  # The libraries that it needs, down to the C library. Not its gcc and binutils: host code
  # (build scripts, proc macros) is linked by this machine's cc.
  needed=$(apt-get install --simulate --no-install-recommends \
    libstd-rust-dev libstd-rust-dev-wasm32 | sed -n 's/^Inst \([^ ]*\).*/\1/p') || return 1
  note "fetching rustc $compiler from Debian $suite"
  # shellcheck disable=SC2086 # a list of names
  (cd "$apt/packages" && apt-get -qq download rustc $needed 2>&1) | without_hosts || return 1
  rm -rf "$new"
  mkdir -p "$new"
  find "$apt/packages" -name '*.deb' -print0 |
    xargs -0 -P "$(nproc)" -I{} dpkg-deb --extract {} "$new" || return 1
  rm -rf "$new/usr/share" "$new/etc"
  cat >"$new/rustc" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/usr
exec "$here/lib64/ld-linux-x86-64.so.2" --library-path "$here/lib/x86_64-linux-gnu" "$here/bin/rustc" "$@"
WRAPPER
  chmod +x "$new/rustc"
  borrow_linkers "$new"
  if ! is_recent "$new/rustc" || ! knows_targets "$new/rustc" || ! builds "$new/rustc"; then
    note "Debian $suite: its rustc $compiler does not build for ${targets[*]}, or is older than $oldest"
    return 1
  fi
  "$new/rustc" --version >"$new/complete"
  rm -rf "$home"
  mv "$new" "$home"
}

if debian_possible; then
  scratch=$(mktemp -d)
  chmod 755 "$scratch"
  trap 'rm -rf "$scratch" "$home.new"' EXIT
  for suite in "${suites[@]}"; do
    if from_debian "$suite"; then
      note "$(cat "$home/complete"), in $home"
      answer "$home/rustc"
    fi
  done
fi

if command -v rustup >/dev/null; then
  note "rustup target add ${targets[*]}"
  if rustup target add "${targets[@]}" 2>&1 | without_hosts && knows_targets "$active" &&
    is_recent "$active"; then
    answer "$active"
  fi
fi
fail "no wasm-capable rustc of version $oldest or later: run 'rustup target add ${targets[*]}'"
