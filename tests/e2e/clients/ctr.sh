#!/usr/bin/env bash
# containerd's ctr: a multi-platform image imported, pushed, fetched and unpacked by a containerd that never saw it.
# shellcheck source=tests/e2e/client.sh
. "$(dirname "${BASH_SOURCE[0]}")/../client.sh"
need containerd ctr

# start_containerd NAME: one with a store of its own, reached by `ctr_at NAME`. No plugin for Kubernetes.
start_containerd() {
  local dir="$WORK/$1"
  mkdir -p "$dir"
  printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s/sock"\n' \
    "$dir" "$dir" "$dir" >"$dir/config.toml"
  start "$dir/log" containerd --config "$dir/config.toml"
  wait_until containerd "$PID" "$dir/log" ctr --address "$dir/sock" version
}
ctr_at() { local name=$1; shift; ctr --address "$WORK/$name/sock" "$@"; }
image="$REGISTRY/$REPO"

start_containerd one
start_containerd two
tar -C "$LAYOUT" -cf "$WORK/layout.tar" oci-layout index.json blobs
ctr_at one images import --all-platforms --no-unpack --base-name "$image" "$WORK/layout.tar" >&2
ctr_at one images push --plain-http "$image:v1" >&2
same "what v1 is" "$INDEX" "$(served_digest "$REPO" v1)"
whole_image "$REPO" v1

ctr_at two images pull --plain-http --all-platforms --snapshotter native "$image:v1" >&2
same "what was pulled" "$INDEX" "$(ctr_at two images ls "name==$image:v1" | awk 'NR == 2 { print $3 }')"
for arch in amd64 arm64; do
  manifest=$(platform_digest "$arch")
  ctr_at two content get "$manifest" >"$WORK/manifest"
  same "the manifest for $arch" "$manifest" "$(digest_of "$WORK/manifest")"
  for blob in $(jq -r '.config.digest, .layers[].digest' "$WORK/manifest"); do
    same "a blob of $arch" "$blob" "sha256:$(ctr_at two content get "$blob" | sha256sum | cut -d' ' -f1)"
  done
done

ctr_at two images tag "$image:v1" "$image-copy:v2" >&2
ctr_at two images push --plain-http "$image-copy:v2" >&2
same "the copy" "$INDEX" "$(served_digest "$REPO-copy" v2)"
whole_image "$REPO-copy" v2
ctr_at one content fetch --plain-http --all-platforms "$image-copy@$INDEX" >&2
echo "index of 2 platforms imported, pushed, pulled and unpacked by another containerd, pushed to a second repository, fetched by digest"
