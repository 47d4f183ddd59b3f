# Sourced: builds programs of a Go module with Go's own client into a cache folder, once.
# shellcheck shell=sh

# go_tools CACHE MODULE VERSION TOOL...: a TOOL is NAME=PACKAGE, or NAME=test:PACKAGE for the
# package's tests as a program. Prints the folder. Go's module file, in a folder of the build's
# own, says which version is built.
go_tools() {
    tools_cache=${XDG_CACHE_HOME:-$HOME/.cache}/wasmpod/$1-$3
    tools_module=$2@$3
    shift 3
    tools_missing=
    for tool in "$@"; do
        [ -x "$tools_cache/${tool%%=*}" ] || tools_missing="$tools_missing $tool"
    done
    if [ -n "$tools_missing" ]; then
        command -v go >/dev/null || {
            echo "go is not installed, it builds$tools_missing" >&2
            return 1
        }
        mkdir -p "$tools_cache"
        # Two builds at once do not meet.
        tools_build=$(mktemp -d "$tools_cache/build.XXXXXX")
        (
            set -e
            trap 'rm -rf "$tools_build"' EXIT
            cd "$tools_build"
            export GOFLAGS=-mod=mod GOTOOLCHAIN=auto CGO_ENABLED=0
            go mod init wasmpod.local/tools >&2
            go get "$tools_module" >&2
            for tool in $tools_missing; do
                name=${tool%%=*}
                case ${tool#*=} in
                test:*) go test -c -o "$name" "${tool#*=test:}" >&2 ;;
                *) go build -o "$name" "${tool#*=}" >&2 ;;
                esac
                mv "$name" "$tools_cache/$name"
            done
        ) || return 1
    fi
    echo "$tools_cache"
}
