#!/usr/bin/env bash
# docker: images loaded, pushed for two platforms, joined by `docker manifest`, pulled by tag and by digest.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
# The client of the same package as the daemon, whatever other one the PATH has first.
PATH="/usr/bin:/usr/sbin:$PATH"
need docker dockerd containerd runc

export DOCKER_CONFIG="$WORK/docker-config" DOCKER_HOST="unix://$WORK/docker.sock" DOCKER_CLI_EXPERIMENTAL=enabled
mkdir -p "$DOCKER_CONFIG"
# Everything of the daemon's own, and no network of containers: only images are pushed and pulled.
start "$WORK/dockerd.log" dockerd --data-root "$WORK/docker" --exec-root "$WORK/docker.run" --pidfile "$WORK/docker.pid" \
  --host "$DOCKER_HOST" --storage-driver "${DOCKER_STORAGE_DRIVER:-overlay2}" --iptables=false --ip6tables=false --bridge=none
wait_until dockerd "$PID" "$WORK/dockerd.log" docker version
image="$REGISTRY/$REPO"

# load_image ARCHITECTURE: hands the image of the layout to the daemon as `docker save` would have written it; `docker
# import --platform` of this age notes the daemon's own architecture.
load_image() {
  local dir="$WORK/save-$1" manifest layer layers='[]'
  mkdir -p "$dir"
  manifest=$(blob_path "$LAYOUT" "$(platform_digest "$1")")
  cp "$(blob_path "$LAYOUT" "$(jq -r .config.digest "$manifest")")" "$dir/config.json"
  for layer in $(jq -r '.layers[].digest' "$manifest"); do
    gzip -dc "$(blob_path "$LAYOUT" "$layer")" >"$dir/${layer#*:}.tar"
    layers=$(jq -c --arg layer "${layer#*:}.tar" '. + [$layer]' <<<"$layers")
  done
  jq -nc --arg tag "$image:$1" --argjson layers "$layers" '[{Config: "config.json", RepoTags: [$tag], Layers: $layers}]' >"$dir/manifest.json"
  tar -C "$dir" -c . | docker load >&2
}

for arch in amd64 arm64; do
  load_image "$arch"
  docker push "$image:$arch" >"$WORK/push"
  cat "$WORK/push" >&2
  digest=$(sed -n 's/^.*digest: \(sha256:[0-9a-f]*\) .*/\1/p' "$WORK/push")
  same "the image for $arch" "$digest" "$(served_digest "$REPO" "$arch")"
done

docker manifest create --insecure "$image:v1" "$image:amd64" "$image:arm64" >&2
list=$(docker manifest push --insecure "$image:v1" | tail -n 1)
same "the list" "$list" "$(served_digest "$REPO" v1)"
whole_image "$REPO" v1

for arch in amd64 arm64; do
  pushed=$(docker image inspect --format '{{.Id}}' "$image:$arch")
  for reference in "$image:v1" "$image@$list"; do
    docker image rm --force "$pushed" >&2
    if docker image inspect "$pushed" >/dev/null 2>&1; then die "the image for $arch is still there; pulling it would show nothing"; fi
    docker pull --platform "linux/$arch" "$reference" >&2
    same "$reference for $arch" "$pushed" "$(docker image inspect --format '{{.Id}}' "$reference")"
    same "its digest" "$image@$list" "$(docker image inspect --format '{{index .RepoDigests 0}}' "$reference")"
  done
  # Docker keeps one image a digest, and both platforms are of one list.
  docker image rm --force "$pushed" >&2
done
echo "2 platforms loaded, pushed, joined to a list, pulled by tag and by digest with the same ids"
