#!/usr/bin/env bash
# helm: a chart packaged, pushed, shown and pulled, in two versions.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need helm

export HELM_CACHE_HOME="$WORK/cache" HELM_CONFIG_HOME="$WORK/config" HELM_DATA_HOME="$WORK/data"
chart="$WORK/web"
mkdir -p "$chart/templates" "$WORK/back"
printf 'kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: web\ndata:\n  key: {{ .Values.key }}\n' >"$chart/templates/map.yaml"
printf 'key: %s\n' "$RANDOM" >"$chart/values.yaml"

# A version with build metadata has a plus sign, which a tag cannot have: helm makes it an underscore.
for version in 1.0.0 1.1.0+build.5; do
  printf 'apiVersion: v2\nname: web\nversion: %s\n' "$version" >"$chart/Chart.yaml"
  helm package --destination "$WORK" "$chart" >&2
  helm push --plain-http "$WORK/web-$version.tgz" "oci://$REGISTRY/$REPO" >"$WORK/push" 2>&1
  cat "$WORK/push" >&2
  same "the manifest of $version" "$(sed -n 's/^Digest: //p' "$WORK/push")" "$(served_digest "$REPO/web" "${version/+/_}")"
  helm pull --plain-http --version "$version" --destination "$WORK/back" "oci://$REGISTRY/$REPO/web" >&2
  same "the chart $version" "$(digest_of "$WORK/web-$version.tgz")" "$(digest_of "$WORK/back/web-$version.tgz")"
done
# Without a version helm lists the tags and takes the newest.
same "the newest" "1.1.0+build.5" "$(helm show chart --plain-http "oci://$REGISTRY/$REPO/web" 2>/dev/null | sed -n 's/^version: //p')"
same "what the chart renders to" "kind: ConfigMap" \
  "$(helm template --plain-http --version 1.0.0 web "oci://$REGISTRY/$REPO/web" 2>/dev/null | grep '^kind:')"
echo "chart in 2 versions packaged, pushed, pulled, found without a version, rendered from the registry"
