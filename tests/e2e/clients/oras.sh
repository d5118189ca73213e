#!/usr/bin/env bash
# oras: an artifact with an attached referrer, discovered; a multi-platform image copied with what refers to it.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need oras

image="$REGISTRY/$REPO"
mkdir "$WORK/files" && cd "$WORK/files"
head -c 100000 /dev/urandom >data.bin
echo '{"packages":[]}' >sbom.json

oras push --plain-http --artifact-type application/vnd.example.data.v1 "$image:data" data.bin:application/octet-stream >&2
artifact=$(served_digest "$REPO" data)
oras pull --plain-http --output "$WORK/pulled" "$image:data" >&2
same "the file that came back" "$(digest_of data.bin)" "$(digest_of "$WORK/pulled/data.bin")"

oras attach --plain-http --artifact-type application/vnd.example.sbom.v1 "$image:data" sbom.json:application/json >&2
oras attach --plain-http --artifact-type application/vnd.example.signature.v1 "$image:data" data.bin:application/octet-stream >&2
# discover TYPE: the artifact types that oras finds attached
discover() { oras discover --plain-http --format json "$@" | jq -r '[.manifests[].artifactType] | sort | join(" ")'; }
same "referrers" "application/vnd.example.sbom.v1 application/vnd.example.signature.v1" "$(discover "$image:data")"
same "referrers of one type" application/vnd.example.sbom.v1 \
  "$(discover --artifact-type application/vnd.example.sbom.v1 "$image@$artifact")"

sbom=$(oras discover --plain-http --format json "$image:data" |
  jq -r '.manifests[] | select(.artifactType == "application/vnd.example.sbom.v1").digest')
oras pull --plain-http --output "$WORK/sbom" "$image@$sbom" >&2
same "the attached file" "$(digest_of sbom.json)" "$(digest_of "$WORK/sbom/sbom.json")"

# With -r, oras also copies the artifacts that refer to this one.
oras cp -r --from-plain-http --to-plain-http "$image:data" "$image-copy:data" >&2
same "the copy" "$artifact" "$(served_digest "$REPO-copy" data)"
same "the copy's referrers" "application/vnd.example.sbom.v1 application/vnd.example.signature.v1" "$(discover "$image-copy:data")"

oras cp --from-oci-layout --to-plain-http "$LAYOUT:v1" "$image:v1" >&2
same "the image" "$INDEX" "$(served_digest "$REPO" v1)"
oras cp --from-plain-http --to-oci-layout "$image:v1" "$WORK/back:v1" >&2
check_layout "$WORK/back" "$INDEX"
has_line "tags" data "$(oras repo tags --plain-http "$image")"

oras manifest delete --plain-http --force "$image@$sbom" >&2
same "referrers after a delete" application/vnd.example.signature.v1 "$(discover "$image:data")"
# Where a registry has no referrers API, oras keeps a list of them under a tag of its own.
same "tags, at the end" "data v1" "$(oras repo tags --plain-http "$image" | sort | xargs)"
echo "artifact with 2 referrers pushed, discovered, pulled, copied with them; index of 2 platforms there and back; referrer deleted"
