#!/bin/sh
# Builds crictl and critest v1.36.0 into a cache folder, once, and prints the folder; and ginkgo of
# the version that critest asks for, which runs its specs side by side.
# Usage: build-cri-tools.sh [crictl] [critest] [ginkgo]   (default: crictl)
set -eu
. "$(dirname "$0")/go-tools.sh"

module=sigs.k8s.io/cri-tools
[ $# -gt 0 ] || set -- crictl
for tool; do
    shift
    case $tool in
    crictl) set -- "$@" "crictl=$module/cmd/crictl" ;;
    critest) set -- "$@" "critest=test:$module/cmd/critest" ;;
    ginkgo) set -- "$@" "ginkgo=github.com/onsi/ginkgo/v2/ginkgo" ;;
    *)
        echo "build-cri-tools: no tool $tool: it builds crictl, critest and ginkgo" >&2
        exit 2
        ;;
    esac
done
go_tools cri-tools "$module" v1.36.0 "$@"
