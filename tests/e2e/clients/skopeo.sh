#!/usr/bin/env bash
# skopeo: a multi-platform image there and back, a copy between repositories, Docker's media types, tags, delete.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need skopeo

registry="docker://$REGISTRY"
# skopeo copy, of all platforms, to and from a registry without TLS
copy() { skopeo --insecure-policy copy --all --src-tls-verify=false --dest-tls-verify=false "$@" >&2; }

copy "oci:$LAYOUT:v1" "$registry/$REPO:v1"
same "what v1 is" "$INDEX" "$(served_digest "$REPO" v1)"
whole_image "$REPO" v1

copy "$registry/$REPO:v1" "oci:$WORK/back:v1"
check_layout "$WORK/back" "$INDEX"

copy "$registry/$REPO:v1" "$registry/$REPO-copy:v2"
same "the copy" "$INDEX" "sha256:$(skopeo inspect --tls-verify=false --raw "$registry/$REPO-copy:v2" | sha256sum | cut -d' ' -f1)"
whole_image "$REPO-copy" v2

# Docker's own media types: a manifest list of schema 2 manifests.
copy --format v2s2 "oci:$LAYOUT:v1" "$registry/$REPO:docker"
skopeo inspect --tls-verify=false --raw "$registry/$REPO:docker" >"$WORK/list"
same "media type" application/vnd.docker.distribution.manifest.list.v2+json "$(jq -r .mediaType "$WORK/list")"
same "the Docker list" "$(digest_of "$WORK/list")" "$(served_digest "$REPO" docker)"
copy "$registry/$REPO:docker" "dir:$WORK/docker"
same "the Docker list that came back" "$(digest_of "$WORK/list")" "$(digest_of "$WORK/docker/manifest.json")"
whole_image "$REPO" docker

same "tags" "docker v1" "$(skopeo list-tags --tls-verify=false "$registry/$REPO" | jq -r '.Tags | sort | join(" ")')"

skopeo delete --tls-verify=false "$registry/$REPO:v1" >&2
same "status of what was deleted" 404 "$(status GET "/v2/$REPO/manifests/$INDEX")"
same "status of its tag" 404 "$(status GET "/v2/$REPO/manifests/v1")"
same "the copy in the other repository" "$INDEX" "$(served_digest "$REPO-copy" v2)"
echo "index of 2 platforms pushed, pulled, copied between repositories, converted to Docker's types, listed, deleted"
