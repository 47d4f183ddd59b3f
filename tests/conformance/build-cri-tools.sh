#!/bin/sh
# Builds crictl and critest v1.36.0 with Go's own client into a cache folder, once, and prints
# the folder. Usage: build-cri-tools.sh [crictl] [critest]   (default: crictl)
set -eu

version=v1.36.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wasmpod/cri-tools-$version
[ $# -gt 0 ] || set -- crictl

missing=
for tool in "$@"; do
    [ -x "$cache/$tool" ] || missing="$missing $tool"
done
if [ -z "$missing" ]; then
    echo "$cache"
    exit 0
fi

command -v go >/dev/null || {
    echo "build-cri-tools: go is not installed, it builds$missing" >&2
    exit 1
}
mkdir -p "$cache"
# A folder of our own, so that two builds at once do not meet; its module file says which
# version is built.
build=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$build"' EXIT
cd "$build"
export GOFLAGS=-mod=mod GOTOOLCHAIN=auto CGO_ENABLED=0
go mod init wasmpod.local/cri-tools >&2
go get "sigs.k8s.io/cri-tools@$version" >&2
for tool in $missing; do
    case $tool in
    crictl) go build -o "$tool" sigs.k8s.io/cri-tools/cmd/crictl >&2 ;;
    critest) go test -c -o "$tool" sigs.k8s.io/cri-tools/cmd/critest >&2 ;;
    *)
        echo "build-cri-tools: no tool $tool: it builds crictl and critest" >&2
        exit 2
        ;;
    esac
    mv "$tool" "$cache/$tool"
done
echo "$cache"
