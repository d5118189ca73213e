#!/usr/bin/env bash
# crane: a multi-platform image there and back, catalog, tags, a copy between repositories (mounts), delete.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need crane

image="$REGISTRY/$REPO"
crane push "$LAYOUT" "$image:v1" >&2
same "what v1 is" "$INDEX" "$(crane digest "$image:v1")"
crane pull --format=oci "$image:v1" "$WORK/back" >&2
check_layout "$WORK/back" "$INDEX"
crane validate --remote "$image:v1" >&2
same "the manifest for arm64" "$(platform_digest arm64)" "$(crane digest --platform linux/arm64 "$image:v1")"

crane copy "$image:v1" "$image-copy:v2" >&2
same "the copy" "$INDEX" "$(crane digest "$image-copy:v2")"
whole_image "$REPO-copy" v2

crane tag "$image:v1" latest >&2
same "tags" "latest v1" "$(crane ls "$image" | sort | xargs)"
for repository in "$REPO" "$REPO-copy"; do
  has_line "the catalog" "$repository" "$(crane catalog "$REGISTRY")"
done

blob=$(jq -r '.layers[0].digest' "$(blob_path "$LAYOUT" "$(platform_digest amd64)")")
same "a blob" "$blob" "sha256:$(crane blob "$image@$blob" | sha256sum | cut -d' ' -f1)"

crane delete "$image@$INDEX" >&2
same "status of what was deleted" 404 "$(status GET "/v2/$REPO/manifests/$INDEX")"
crane validate --remote "$image-copy:v2" >&2
echo "index of 2 platforms pushed, pulled, validated, copied between repositories, tagged, listed, deleted"
