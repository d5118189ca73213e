#!/usr/bin/env bash
# podman: a list of two platforms made, pushed, pulled for each platform; an image built from a file and run through once more.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need podman runc

# A store of its own (vfs asks nothing of the kernel), and no systemd or journal needed.
podman_at() {
  local store=$1
  shift
  podman --root "$WORK/$store" --runroot "$WORK/$store.run" --tmpdir "$WORK/$store.tmp" --storage-driver vfs \
    --runtime runc --cgroup-manager cgroupfs --events-backend none "$@"
}
image="$REGISTRY/$REPO"

# A relative path, since podman makes a name of it, and a name is lowercase.
cd "$WORK"
podman_at one manifest create app >&2
for arch in amd64 arm64; do
  id=$(podman_at one pull --quiet --arch "$arch" oci:layout:v1)
  podman_at one tag "$id" "localhost/app:$arch"
  podman_at one manifest add --arch "$arch" --os linux app "containers-storage:localhost/app:$arch" >&2
done
podman_at one manifest push --all --tls-verify=false --digestfile "$WORK/digest" app "docker://$image:v1" >&2
same "the list" "$(cat "$WORK/digest")" "$(served_digest "$REPO" v1)"
whole_image "$REPO" v1

# A second store knows nothing of what the first one pushed.
for arch in amd64 arm64; do
  id=$(podman_at two pull --quiet --tls-verify=false --arch "$arch" "$image:v1")
  same "architecture" "$arch" "$(podman_at two image inspect --format '{{.Architecture}}' "$id")"
  has_line "digests of the image for $arch" "$image@$(cat "$WORK/digest")" \
    "$(podman_at two image inspect --format '{{join .RepoDigests "\n"}}' "$id")"
  same "layers of $arch" "$(podman_at one image inspect --format '{{.RootFS.Layers}}' "localhost/app:$arch")" \
    "$(podman_at two image inspect --format '{{.RootFS.Layers}}' "$id")"
done

podman_at two tag "$id" "$image-copy:v2"
podman_at two push --tls-verify=false --digestfile "$WORK/digest" "$image-copy:v2" >&2
same "an image alone" "$(cat "$WORK/digest")" "$(served_digest "$REPO-copy" v2)"
podman_at one pull --quiet --tls-verify=false --arch arm64 "$image-copy@$(cat "$WORK/digest")" >&2
has_line "tags" v1 "$(podman_at two search --tls-verify=false --list-tags --format json "$image" | jq -r '.[].Tags[]')"
echo "list of 2 platforms pushed, pulled for each into another store with its digest; an image alone by digest; tags listed"
