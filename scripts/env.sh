# Sourced by the other scripts: where things are kept that outlive a checkout.
# shellcheck shell=bash
readonly wasmpod_cache="${XDG_CACHE_HOME:-$HOME/.cache}/wasmpod"
# One folder, one profile, one set of features: wasmtime takes minutes and is built once.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$wasmpod_cache/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
