#!/bin/sh
# Builds the CNI project's plugins v1.9.1, which speak CNI 1.1.0, into a cache folder, once, and
# prints the folder. tests/network uses them where CNI_PLUGINS names it, as scripts/test.sh does:
#
#   CNI_PLUGINS=$(tests/conformance/build-cni-plugins.sh) cargo test --test all network::
set -eu
. "$(dirname "$0")/go-tools.sh"

module=github.com/containernetworking/plugins
set --
for plugin in main/bridge main/ptp main/loopback ipam/host-local ipam/static meta/portmap \
    meta/firewall meta/bandwidth meta/tuning; do
    set -- "$@" "${plugin##*/}=$module/plugins/$plugin"
done
go_tools cni-plugins "$module" v1.9.1 "$@"
