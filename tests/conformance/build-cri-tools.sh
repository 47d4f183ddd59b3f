#!/bin/sh
# Builds crictl and critest v1.36.0 into a cache folder, once, and prints the folder.
# Usage: build-cri-tools.sh [crictl] [critest]   (default: crictl)
set -eu
. "$(dirname "$0")/go-tools.sh"

module=sigs.k8s.io/cri-tools
[ $# -gt 0 ] || set -- crictl
for tool; do
    shift
    case $tool in
    crictl) set -- "$@" "crictl=$module/cmd/crictl" ;;
    critest) set -- "$@" "critest=test:$module/cmd/critest" ;;
    *)
        echo "build-cri-tools: no tool $tool: it builds crictl and critest" >&2
        exit 2
        ;;
    esac
done
go_tools cri-tools "$module" v1.36.0 "$@"
