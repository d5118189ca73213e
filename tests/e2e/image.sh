# Images out of nothing: OCI image layouts written with tar, gzip, sha256sum and jq; sourced by the client tests.
# shellcheck shell=bash

INDEX_TYPE=application/vnd.oci.image.index.v1+json
MANIFEST_TYPE=application/vnd.oci.image.manifest.v1+json
CONFIG_TYPE=application/vnd.oci.image.config.v1+json
LAYER_TYPE=application/vnd.oci.image.layer.v1.tar+gzip

# digest_of FILE: as `sha256:<hex>`.
digest_of() { printf 'sha256:%s' "$(sha256sum "$1" | cut -d' ' -f1)"; }

# blob_path LAYOUT DIGEST: where an image layout keeps the blob.
blob_path() { printf '%s/blobs/%s' "$1" "${2/://}"; }

# add_blob LAYOUT FILE: moves FILE in under its digest, which it prints.
add_blob() {
  local digest path
  digest=$(digest_of "$2")
  path=$(blob_path "$1" "$digest")
  mkdir -p "${path%/*}"
  mv "$2" "$path"
  printf '%s' "$digest"
}

# descriptor LAYOUT DIGEST MEDIATYPE [PLATFORM-JSON]: prints the descriptor of a blob of the layout.
descriptor() {
  jq -nc --arg digest "$2" --arg type "$3" --argjson size "$(stat -c %s "$(blob_path "$1" "$2")")" \
    --argjson platform "${4:-null}" \
    '{mediaType: $type, digest: $digest, size: $size} + (if $platform then {platform: $platform} else {} end)'
}

# rootfs DIR: fills DIR with a few files that exist nowhere else: one large, one small, one empty, a link.
rootfs() {
  mkdir -p "$1/etc" "$1/data"
  head -c 3000000 /dev/urandom >"$1/data/large"
  head -c 1000 /dev/urandom | base64 >"$1/etc/small"
  : >"$1/etc/empty"
  ln -s ../data/large "$1/etc/link"
}

# add_image LAYOUT ARCHITECTURE: adds an image of two layers, one of them random; prints its manifest's digest.
add_image() {
  local layout=$1 arch=$2 scratch layers='[]' diffs='[]' i digest
  scratch=$(mktemp -d "$WORK/image.XXXXXX")
  rootfs "$scratch/1"
  mkdir -p "$scratch/2" && echo "$arch" >"$scratch/2/architecture"
  for i in 1 2; do
    tar -C "$scratch/$i" --owner=0 --group=0 -cf "$scratch/$i.tar" .
    diffs=$(jq -c --arg diff "$(digest_of "$scratch/$i.tar")" '. + [$diff]' <<<"$diffs")
    gzip -n "$scratch/$i.tar"
    digest=$(add_blob "$layout" "$scratch/$i.tar.gz")
    layers=$(jq -c --argjson layer "$(descriptor "$layout" "$digest" "$LAYER_TYPE")" '. + [$layer]' <<<"$layers")
  done
  jq -nc --arg arch "$arch" --argjson diffs "$diffs" \
    '{architecture: $arch, os: "linux", config: {Env: ["PATH=/"]}, rootfs: {type: "layers", diff_ids: $diffs}}' >"$scratch/config"
  digest=$(add_blob "$layout" "$scratch/config")
  jq -nc --arg type "$MANIFEST_TYPE" --argjson config "$(descriptor "$layout" "$digest" "$CONFIG_TYPE")" --argjson layers "$layers" \
    '{schemaVersion: 2, mediaType: $type, config: $config, layers: $layers}' >"$scratch/manifest"
  add_blob "$layout" "$scratch/manifest"
  rm -rf "$scratch"
}

# make_layout LAYOUT TAG: an image layout whose TAG is an index of linux/amd64 and linux/arm64; prints the index's digest.
make_layout() {
  local layout=$1 tag=$2 arch digest manifests='[]' entry
  mkdir -p "$layout/blobs/sha256"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  for arch in amd64 arm64; do
    digest=$(add_image "$layout" "$arch")
    entry=$(descriptor "$layout" "$digest" "$MANIFEST_TYPE" "{\"architecture\":\"$arch\",\"os\":\"linux\"}")
    manifests=$(jq -c --argjson entry "$entry" '. + [$entry]' <<<"$manifests")
  done
  jq -nc --arg type "$INDEX_TYPE" --argjson manifests "$manifests" \
    '{schemaVersion: 2, mediaType: $type, manifests: $manifests}' >"$layout/index.tmp"
  digest=$(add_blob "$layout" "$layout/index.tmp")
  jq -nc --argjson index "$(descriptor "$layout" "$digest" "$INDEX_TYPE")" --arg tag "$tag" \
    '{schemaVersion: 2, manifests: [$index + {annotations: {"org.opencontainers.image.ref.name": $tag}}]}' >"$layout/index.json"
  printf '%s' "$digest"
}

# check_layout LAYOUT DIGEST: DIGEST and all that it names are in LAYOUT, each with the bytes that its digest says.
check_layout() {
  local path digest
  path=$(blob_path "$1" "$2")
  [ -f "$path" ] || die "$2 did not come back"
  [ "$(digest_of "$path")" = "$2" ] || die "$2 came back with other bytes"
  case $(jq -r 'objects | if .manifests then "index" elif .layers then "manifest" else "" end' "$path" 2>/dev/null) in
    index) for digest in $(jq -r '.manifests[].digest' "$path"); do check_layout "$1" "$digest"; done ;;
    manifest)
      for digest in $(jq -r '.config.digest, .layers[].digest' "$path"); do
        path=$(blob_path "$1" "$digest")
        [ -f "$path" ] || die "$digest did not come back"
        [ "$(digest_of "$path")" = "$digest" ] || die "$digest came back with other bytes"
      done
      ;;
  esac
}

# served_digest REPOSITORY REFERENCE: prints the digest of the manifest's bytes as served. It must equal the digest in
# the headers.
served_digest() {
  local body head said
  body=$(mktemp "$WORK/served.XXXXXX") head=$(mktemp "$WORK/served.XXXXXX")
  curl -sS --fail -D "$head" -o "$body" \
    -H "Accept: $INDEX_TYPE" -H "Accept: $MANIFEST_TYPE" \
    -H 'Accept: application/vnd.docker.distribution.manifest.list.v2+json' \
    -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
    "http://$REGISTRY/v2/$1/manifests/$2"
  said=$(tr -d '\r' <"$head" | sed -n 's/^docker-content-digest: *//Ip')
  [ "$said" = "$(digest_of "$body")" ] || die "$1 at $2: Docker-Content-Digest says $said, the bytes are $(digest_of "$body")"
  printf '%s' "$said"
}

# same WHAT EXPECTED ACTUAL
same() { [ "$2" = "$3" ] || die "$1: expected $2, got $3"; }

# has_line WHAT LINE TEXT: one line of TEXT is LINE.
has_line() { grep -qxF -- "$2" <<<"$3" || die "$1: no line '$2' in: $3"; }

# status METHOD PATH: the status code of one request to the registry.
status() { curl -sS -o /dev/null -w '%{http_code}' -X "$1" -H "Accept: $INDEX_TYPE" -H "Accept: $MANIFEST_TYPE" "http://$REGISTRY$2"; }
