#!/usr/bin/env bash
# regctl: a multi-platform image there and back, referrers, tags listed and deleted, manifests and repositories listed.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need regctl

export REGCTL_CONFIG="$WORK/regctl.json"
regctl registry set --tls disabled --skip-check "$REGISTRY" >&2
image="$REGISTRY/$REPO"

regctl image copy "ocidir://$LAYOUT:v1" "$image:v1" >&2
same "what v1 is" "$INDEX" "$(regctl manifest head "$image:v1")"
regctl image copy "$image:v1" "ocidir://$WORK/back:v1" >&2
check_layout "$WORK/back" "$INDEX"
same "the manifest for arm64" "$(platform_digest arm64)" "$(regctl manifest head --platform linux/arm64 "$image:v1")"

echo '{"signed":true}' >"$WORK/signature"
regctl artifact put --artifact-type application/vnd.example.signature.v1 --subject "$image:v1" \
  --file "$WORK/signature" --file-media-type application/json >&2
referrer=$(regctl artifact list --format '{{json .}}' "$image:v1" |
  jq -r '.descriptors[] | select(.artifactType == "application/vnd.example.signature.v1").digest')
same "the referrer" "$referrer" "$(served_digest "$REPO" "$referrer")"
same "the attached file" "$(cat "$WORK/signature")" \
  "$(regctl artifact get --subject "$image:v1" --filter-artifact-type application/vnd.example.signature.v1)"

regctl image copy --referrers "$image:v1" "$image-copy:v2" >&2
same "the copy" "$INDEX" "$(regctl manifest head "$image-copy:v2")"
whole_image "$REPO-copy" v2
same "the copy's referrer" "$referrer" "$(regctl artifact list --format '{{json .}}' "$image-copy:v2" | jq -r '.descriptors[0].digest')"

regctl image copy "$image:v1" "$image:v2" >&2
same "tags" "v1 v2" "$(regctl tag ls "$image" | grep '^v' | sort | xargs)"
has_line "the catalog" "$REPO" "$(regctl repo ls "$REGISTRY" --limit 1000)"

regctl tag delete "$image:v2" >&2
same "tags after a delete" v1 "$(regctl tag ls "$image" | grep '^v' | xargs)"
same "the manifest, still" "$INDEX" "$(regctl manifest head "$image:v1")"
regctl manifest delete "$image-copy@$INDEX" >&2
same "status of what was deleted" 404 "$(status GET "/v2/$REPO-copy/manifests/$INDEX")"
echo "index of 2 platforms and a referrer pushed, pulled, copied together, listed; a tag alone deleted, a manifest deleted"
