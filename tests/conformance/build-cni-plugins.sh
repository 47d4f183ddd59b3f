#!/bin/sh
# Builds the CNI project's plugins v1.9.1, which speak CNI 1.1.0, with Go's own client into a
# cache folder, once, and prints the folder. For tests/network.rs:
#
#   CNI_PLUGINS=$(tests/conformance/build-cni-plugins.sh) scripts/test.sh network::
set -eu

version=v1.9.1
module=github.com/containernetworking/plugins
plugins="main/bridge main/ptp main/loopback ipam/host-local ipam/static meta/portmap meta/firewall
meta/bandwidth meta/tuning"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wasmpod/cni-plugins-$version

missing=
for plugin in $plugins; do
    [ -x "$cache/${plugin##*/}" ] || missing="$missing $plugin"
done
if [ -z "$missing" ]; then
    echo "$cache"
    exit 0
fi

command -v go >/dev/null || {
    echo "build-cni-plugins: go is not installed, it builds$missing" >&2
    exit 1
}
mkdir -p "$cache"
# A folder of our own, so that two builds at once do not meet.
build=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$build"' EXIT
cd "$build"
export GOFLAGS=-mod=mod GOTOOLCHAIN=auto CGO_ENABLED=0
go mod init wasmpod.local/cni-plugins >&2
go get "$module@$version" >&2
for plugin in $missing; do
    name=${plugin##*/}
    go build -o "$name" "$module/plugins/$plugin" >&2
    mv "$name" "$cache/$name"
done
echo "$cache"
