#!/usr/bin/env bash
# buildah: an image of two platforms built from nothing, pushed, pulled for each platform.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need buildah

export BUILDAH_ISOLATION=chroot
buildah_at() {
  local store=$1
  shift
  buildah --root "$WORK/$store" --runroot "$WORK/$store.run" --storage-driver vfs "$@"
}
image="$REGISTRY/$REPO"

rootfs "$WORK/context/files"
printf 'FROM scratch\nCOPY files /\nLABEL built=here\n' >"$WORK/context/Containerfile"
buildah_at one bud --isolation chroot --platform linux/amd64,linux/arm64 --manifest app "$WORK/context" >&2
buildah_at one manifest push --all --tls-verify=false --digestfile "$WORK/digest" app "docker://$image:v1" >&2
same "the list" "$(cat "$WORK/digest")" "$(served_digest "$REPO" v1)"
whole_image "$REPO" v1

for arch in amd64 arm64; do
  id=$(buildah_at two pull --quiet --tls-verify=false --arch "$arch" "docker://$image@$(cat "$WORK/digest")")
  same "architecture" "$arch" "$(buildah_at two inspect --type image --format '{{.OCIv1.Architecture}}' "$id")"
  container=$(buildah_at two from --pull-never "$id")
  same "a file of $arch" "$(digest_of "$WORK/context/files/data/large")" \
    "$(digest_of "$(buildah_at two mount "$container")/data/large")"
  buildah_at two umount "$container" >&2
done

buildah_at two push --tls-verify=false --format v2s2 --digestfile "$WORK/digest" "$id" "docker://$image-copy:docker" >&2
same "an image of Docker's type" "$(cat "$WORK/digest")" "$(served_digest "$REPO-copy" docker)"
echo "2 platforms built, pushed, pulled by digest for each with the same files; pushed again as Docker's type"
