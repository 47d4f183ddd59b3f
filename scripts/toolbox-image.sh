#!/usr/bin/env bash
# Makes an image of the toolbox, a tar in OCI's layout that `wasmpod import` takes and `wasmpod
# push` then brings to a registry:
#
#   scripts/toolbox-image.sh FILE.tar [ENV=VALUE | /PATH | /PATH=FILE | --cmd=WORDS | --user=USER]...
#
# The component is /bin/toolbox.wasm, and every program of it a link to that, so that `ls /bin`
# shows what there is and a container's command may be `sh`, `/bin/sh` or `top`. Further words add
# variables, empty folders and files, say what runs and as whom. The same input gives the same bytes.
set -euo pipefail

readonly repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly out=${1:?usage: toolbox-image.sh FILE.tar [WORD]...}
shift
guests=$("$repo/scripts/build-guests.sh")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root="$scratch/root" layout="$scratch/layout"
mkdir -p "$root"/{bin,etc,root,tmp} "$layout/blobs/sha256"
chmod 1777 "$root/tmp"

cp "$guests/toolbox.wasm" "$root/bin/toolbox.wasm"
ln -s toolbox.wasm "$root/bin/busybox"
ln -s toolbox.wasm "$root/bin/toolbox"
# The table from which the component's own list is made.
names=$(sed -n 's/^    "\([^"]*\)" => [a-z_:]*,$/\1/p' "$repo/examples/toolbox/src/applets/mod.rs")
while read -r name; do ln -s toolbox.wasm "$root/bin/$name"; done <<<"$names"
# What starts in an image is known by its ending.
ln -s toolbox.wasm "$root/bin/sh.wasm"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
cat >>"$root/etc/passwd" <<'TEXT'
www-data:x:33:33:www-data:/:/bin/false
default-user:x:1000:1000:default-user:/:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
TEXT
cat >"$root/etc/group" <<'TEXT'
root:x:0:
www-data:x:33:
users:x:100:
default-user:x:1000:
group-defined-in-image:x:50000:default-user
nogroup:x:65534:
TEXT

env='"PATH=/bin"' cmd='"/bin/sh.wasm"' user=
for word in "$@"; do
  case $word in
    --cmd=*)
      read -ra words <<<"${word#*=}"
      ln -sf toolbox.wasm "$root/bin/${words[0]}.wasm"
      cmd="\"/bin/${words[0]}.wasm\"$(printf ',"%s"' "${words[@]:1}")"
      ;;
    --user=*) user=${word#*=} ;;
    /*=*) mkdir -p "$root$(dirname "${word%%=*}")" && cp "${word#*=}" "$root${word%%=*}" ;;
    /*) mkdir -p "$root$word" ;;
    *=*) env="$env,\"$word\"" ;;
    *) echo "toolbox-image: $word is no variable, folder or file" >&2 && exit 2 ;;
  esac
done

# Puts a file among the blobs and prints its descriptor's digest and size.
blob() {
  local digest
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  cp "$1" "$layout/blobs/sha256/$digest"
  echo "\"digest\":\"sha256:$digest\",\"size\":$(stat -c %s "$1")"
}
same=(--format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner)

tar "${same[@]}" -C "$root" -cf "$scratch/layer.tar" .
layer=$(blob "$scratch/layer.tar")
diff=$(sha256sum "$scratch/layer.tar" | cut -d' ' -f1)
cat >"$scratch/config.json" <<JSON
{"architecture":"wasm","os":"wasip1","config":{"Env":[$env],"Cmd":[$cmd],"User":"$user"},"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]}}
JSON
config=$(blob "$scratch/config.json")
cat >"$scratch/manifest.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",$config},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",$layer}]}
JSON
manifest=$(blob "$scratch/manifest.json")
cat >"$layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",$manifest}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
tar "${same[@]}" -C "$layout" -cf "$scratch/image.tar" .
mv "$scratch/image.tar" "$out"
