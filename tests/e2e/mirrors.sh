#!/usr/bin/env bash
# Clients pull an image of two platforms through a cache that they take for Docker Hub: docker by `registry-mirrors`, containerd
# by `hosts.toml`, podman and skopeo by `registries.conf`, crane by the cache's own name. The cache wants a login. A push to
# it is refused with the reason, and a push beside it is taken. In the end the upstream is gone, and clients with empty
# stores pull again.
#   tests/e2e/mirrors.sh [server]        # target/release/simple-registry without an argument
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/image.sh
. "$E2E/image.sh"

BINARY=$(realpath "${1:-$TARGET/release/simple-registry}")
# The client of the same package as the daemon, whatever other one the PATH has first.
PATH="/usr/bin:/usr/sbin:$PATH"
begin
need curl jq tar gzip sha256sum docker dockerd containerd ctr podman skopeo crane runc
export HOME="$WORK/home" XDG_RUNTIME_DIR="$WORK/run"
mkdir -p "$HOME" && mkdir -m 700 "$XDG_RUNTIME_DIR"
LAYOUT="$WORK/layout"
INDEX=$(make_layout "$LAYOUT" v1)
# A name that Docker Hub does not have, in case that a client asks there.
NAME="e2e-$RANDOM$RANDOM"
REFUSED="is a cache of 127.0.0.1 and takes no pushes; push to a repository outside of docker.io"

# server NAME PORT: starts a server on $WORK/NAME.toml.
server() {
  start "$WORK/$1.log" "$BINARY" -c "$WORK/$1.toml" server
  wait_until "$1" "$PID" "$WORK/$1.log" curl -sf "http://127.0.0.1:$2/healthz"
}

port=$(free_port) UPSTREAM="127.0.0.1:$port"
cat >"$WORK/upstream.toml" <<END
server.port = $port
storage.fs.root_dir = "$WORK/upstream"
access_policy.default_allow = true
repository."*".access_policy.default_allow = true
END
server upstream "$port"
UPSTREAM_PID=$PID
skopeo copy --quiet --all --dest-tls-verify=false "oci:$LAYOUT:v1" "docker://$UPSTREAM/library/$NAME:v1"

port=$(free_port) CACHE="127.0.0.1:$port"
cat >"$WORK/cache.toml" <<END
mirror_of = "docker.io"
server.port = $port
storage.fs.root_dir = "$WORK/cache"
token.signing_key = "$WORK/token.key"
access_policy.rules = ["identity.username == 'ana'"]
[identity.ana]
username = "ana"
password = '$(printf pw | "$BINARY" hash-password)'
[[repository."docker.io".upstream]]
url = "http://$UPSTREAM/v2"
[repository."team.example"]
END
chmod 600 "$WORK/cache.toml"
server cache "$port"
# docker sends a mirror the login of Docker Hub.
auth=$(printf ana:pw | base64)
export DOCKER_CONFIG="$WORK/docker-config" REGISTRY_AUTH_FILE="$WORK/docker-config/config.json"
mkdir "$DOCKER_CONFIG"
jq -n --arg auth "$auth" --arg cache "$CACHE" \
  '{auths: {"https://index.docker.io/v1/": {auth: $auth}, ($cache): {auth: $auth}}}' >"$REGISTRY_AUTH_FILE"

# refused COMMAND...: the command fails, and shows the cache's reason.
refused() {
  local said
  ! said=$("$@" 2>&1) || die "not refused: $*"
  grep -qF "$REFUSED" <<<"$said" || die "hides the reason: $*: $said"
}

with_docker() {
  export DOCKER_HOST="unix://$WORK/docker.sock"
  start "$WORK/dockerd.log" dockerd --data-root "$WORK/docker" --exec-root "$WORK/docker.run" --pidfile "$WORK/docker.pid" \
    --host "$DOCKER_HOST" --storage-driver "${DOCKER_STORAGE_DRIVER:-overlay2}" --iptables=false --ip6tables=false --bridge=none \
    --registry-mirror "http://$CACHE"
  wait_until dockerd "$PID" "$WORK/dockerd.log" docker version
  docker pull --quiet "$NAME:v1" >&2
  same "what docker pulled" "$NAME@$INDEX" "$(docker image inspect --format '{{index .RepoDigests 0}}' "$NAME:v1")"
  docker tag "$NAME:v1" "$CACHE/docker.io/library/$NAME:v2"
  refused docker push "$CACHE/docker.io/library/$NAME:v2"
  docker tag "$NAME:v1" "$CACHE/team.example/app:v1"
  docker push --quiet "$CACHE/team.example/app:v1" >&2
  docker pull --quiet "$CACHE/team.example/app:v1" >&2
}

# with_containerd NAME: a containerd with an empty store, and no plugin for Kubernetes.
with_containerd() {
  local dir="$WORK/$1"
  mkdir -p "$dir" "$WORK/hosts/docker.io"
  printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s/sock"\n' \
    "$dir" "$dir" "$dir" >"$dir/config.toml"
  printf 'server = "https://registry-1.docker.io"\n[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$CACHE" \
    >"$WORK/hosts/docker.io/hosts.toml"
  start "$dir/log" containerd --config "$dir/config.toml"
  wait_until containerd "$PID" "$dir/log" ctr --address "$dir/sock" version
  ctr --address "$dir/sock" images pull --hosts-dir "$WORK/hosts" --user ana:pw --all-platforms --snapshotter native \
    "docker.io/library/$NAME:v1" >&2
  same "what ctr pulled" "$INDEX" "$(ctr --address "$dir/sock" images ls "name==docker.io/library/$NAME:v1" | awk 'NR == 2 { print $3 }')"
}

# with_registries_conf NAME: podman and skopeo, whose configuration leads to the cache.
with_registries_conf() {
  export CONTAINERS_REGISTRIES_CONF="$WORK/registries.conf"
  printf '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "%s/docker.io"\ninsecure = true\n' \
    "$CACHE" >"$CONTAINERS_REGISTRIES_CONF"
  podman --root "$WORK/$1" --runroot "$WORK/$1.run" --tmpdir "$WORK/$1.tmp" --storage-driver vfs --runtime runc \
    --cgroup-manager cgroupfs --events-backend none pull --quiet "docker.io/library/$NAME:v1" >&2
  skopeo --registries-conf "$CONTAINERS_REGISTRIES_CONF" copy --quiet --all "docker://docker.io/library/$NAME:v1" "oci:$WORK/$1.copy:v1"
  same "what skopeo copied" "$INDEX" "$(jq -r '.manifests[0].digest' "$WORK/$1.copy/index.json")"
}

with_crane() {
  same "what crane finds" "$INDEX" "$(crane digest "$CACHE/docker.io/library/$NAME:v1")"
  refused crane push "$LAYOUT" "$CACHE/docker.io/library/$NAME:v2"
  crane push "$LAYOUT" "$CACHE/team.example/crane:v1" >&2
  same "what crane pushed" "$INDEX" "$(crane digest "$CACHE/team.example/crane:v1")"
}

with_docker
with_containerd one
with_registries_conf podman-one
with_crane
kill "$UPSTREAM_PID"
wait "$UPSTREAM_PID" 2>/dev/null || true
with_containerd two
with_registries_conf podman-two
echo "docker, ctr, podman, skopeo and crane pulled through the cache, were refused a push to it, and pulled again without the upstream"
