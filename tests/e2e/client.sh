# The beginning of each script in clients/: the shared functions, the registry under test and an image to push.
# Such a script prints on its last line of standard output what was shown; it fails by failing.
# shellcheck shell=bash
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/image.sh
. "$E2E/image.sh"

CLIENT=$(basename "$0" .sh)
# A repository that no earlier run has used, since the registry may be one that lives on.
export REPO="e2e/$CLIENT-$RANDOM$RANDOM"
begin
need curl jq tar gzip sha256sum
export HOME="$WORK/home" XDG_RUNTIME_DIR="$WORK/run"
mkdir "$HOME" && mkdir -m 700 "$XDG_RUNTIME_DIR"
start_registry directory
# An image layout whose tag v1 is an index of two platforms.
LAYOUT="$WORK/layout"
INDEX=$(make_layout "$LAYOUT" v1)

# platform_digest ARCHITECTURE: the digest of the index's manifest for it.
platform_digest() {
  jq -r --arg arch "$1" '.manifests[] | select(.platform.architecture == $arch).digest' "$(blob_path "$LAYOUT" "$INDEX")"
}

# whole_image REPOSITORY REFERENCE: the registry serves the index and, under it, both manifests and every blob of them.
whole_image() {
  local digest child blob
  digest=$(served_digest "$1" "$2")
  curl -sS --fail -H "Accept: $INDEX_TYPE" -H 'Accept: application/vnd.docker.distribution.manifest.list.v2+json' \
    "http://$REGISTRY/v2/$1/manifests/$digest" >"$WORK/index.served"
  same "$1 at $2, platforms" "amd64 arm64" "$(jq -r '[.manifests[].platform.architecture] | sort | join(" ")' "$WORK/index.served")"
  for child in $(jq -r '.manifests[].digest' "$WORK/index.served"); do
    same "$1 at $child" "$child" "$(served_digest "$1" "$child")"
    curl -sS --fail -H "Accept: $MANIFEST_TYPE" -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
      "http://$REGISTRY/v2/$1/manifests/$child" >"$WORK/manifest.served"
    for blob in $(jq -r '.config.digest, .layers[].digest' "$WORK/manifest.served"); do
      curl -sS --fail -o "$WORK/blob.served" "http://$REGISTRY/v2/$1/blobs/$blob"
      same "$1, blob $blob" "$blob" "$(digest_of "$WORK/blob.served")"
    done
  done
}
