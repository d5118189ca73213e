#!/usr/bin/env bash
# Real clients pull through a cache from real upstreams: through an empty cache, and again with the upstreams stopped.
#   tests/e2e/pull_through.sh [client...]
# The upstreams are CNCF distribution (open, and with Basic) and this registry (with tokens, and with client certificates).
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/image.sh
. "$E2E/image.sh"

CLIENTS=(skopeo podman docker ctr crane oras regctl helm cosign)
# Those whose pulls are all of `library/<client>` of the open upstream.
ONE_REPOSITORY=(skopeo podman docker ctr crane oras regctl)
(($#)) || set -- "${CLIENTS[@]}"
begin
need crane oras registry curl htpasswd jq openssl tar gzip sha256sum
BINARY="$TARGET/release/simple-registry"
[ -x "$BINARY" ] || die "$BINARY is not there; run 'cargo build --release' first"
PASSWORD="correct horse $RANDOM"

# ---- upstreams ------------------------------------------------------------------------------------------------------

CERTS="$WORK/certs"
"$PROJECT/certs/make.sh" -d "$CERTS" init >/dev/null
"$PROJECT/certs/make.sh" -d "$CERTS" client ci/ci >/dev/null
UPSTREAMS=()

# start_distribution NAME [FURTHER-LINES]: leaves its port in $PORT. Its log has a line for each request.
start_distribution() {
  local log="$WORK/$1.log"
  PORT=$(free_port)
  printf 'version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: 127.0.0.1:%s\n%s\n' \
    "$WORK/$1" "$PORT" "${2:-}" >"$WORK/$1.yml"
  start "$log" registry serve "$WORK/$1.yml"
  UPSTREAMS+=("$PID")
  wait_until distribution "$PID" "$log" curl -s -o /dev/null "http://127.0.0.1:$PORT/v2/"
}

# start_ours NAME CLIENT_AUTH LINES: a registry of this project over TLS; leaves its port in $PORT.
start_ours() {
  local log="$WORK/$1.log"
  PORT=$(free_port)
  cat >"$WORK/$1.toml" <<END
[server]
port = $PORT

[server.tls]
server_certificate_bundle = "$CERTS/server.pem"
server_private_key = "$CERTS/server-key.pem"
client_ca_bundle = "$CERTS/ca.pem"
client_auth = "$2"

[storage.fs]
root_dir = "$WORK/$1"

[token]
signing_key = "$WORK/$1.key"

$3
END
  start "$log" "$BINARY" -c "$WORK/$1.toml" server
  UPSTREAMS+=("$PID")
  wait_until simple-registry "$PID" "$log" curl -s -o /dev/null --cacert "$CERTS/ca.pem" --cert "$CERTS/ci.pem" \
    --key "$CERTS/ci-key.pem" "https://127.0.0.1:$PORT/v2/"
}

# ---- caches ---------------------------------------------------------------------------------------------------------

# start_cache NAME LINES: a cache of the open upstream, with further lines of configuration; leaves its address in $REGISTRY.
start_cache() {
  local log="$WORK/$1.log" port
  port=$(free_port)
  cat >"$WORK/$1.toml" <<END
$2

[server]
port = $port

[storage.fs]
root_dir = "$WORK/$1"

[access_policy]
default_allow = true

[repository."*".access_policy]
default_allow = true

[[repository.hub.upstream]]
url = "http://127.0.0.1:$HUB/v2"
END
  chmod 600 "$WORK/$1.toml"
  start "$log" "$BINARY" -c "$WORK/$1.toml" server
  REGISTRY="127.0.0.1:$port"
  wait_until simple-registry "$PID" "$log" curl -sf "http://$REGISTRY/healthz"
}

# hub_log: the requests to the open upstream since it was filled.
hub_log() { tail -n "+$((FILLED + 1))" "$WORK/hub.log"; }

# hub_asked TEXT: the number of those with TEXT: method and path, or the beginning of them.
hub_asked() { hub_log | grep -cF -- "$1" || true; }

# once REPOSITORY: the open upstream has sent no manifest by a tag of ours, and each manifest and blob once.
once() {
  # the upstream has no API of referrers, so their list is a tag
  hub_log | grep -oE "\"GET /v2/$1/(manifests|blobs)/[^ ]+ HTTP/1.1\" 20[06]" | grep -v /sha256- | sort >"$WORK/fetched" || true
  [ -s "$WORK/fetched" ] || die "the upstream has sent nothing of $1"
  same "what was fetched twice" "" "$(uniq -d "$WORK/fetched")"
  same "what was fetched by tag" "" "$(grep -v /sha256: "$WORK/fetched" || true)"
}

# ---- what each client shows; $ROUND is `first` or `again` -----------------------------------------------------------

through_skopeo() {
  need skopeo
  # as in /etc/containers/registries.conf: the mirror of another registry
  printf '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "%s/hub"\ninsecure = true\n' "$REGISTRY" >"$OUT/registries.conf"
  skopeo --insecure-policy --registries-conf "$OUT/registries.conf" copy --all --preserve-digests \
    docker://docker.io/library/skopeo:v1 "oci:$OUT/back:v1"
  check_layout "$OUT/back" "$INDEX"
}

through_podman() {
  need podman runc
  local podman=(podman --root "$OUT/podman" --runroot "$OUT/podman.run" --tmpdir "$OUT/podman.tmp" --storage-driver vfs
    --runtime runc --cgroup-manager cgroupfs --events-backend none)
  # as in /etc/containers/registries.conf: another place for a prefix
  printf '[[registry]]\nprefix = "docker.io"\nlocation = "%s/hub"\ninsecure = true\n' "$REGISTRY" >"$OUT/registries.conf"
  export CONTAINERS_REGISTRIES_CONF="$OUT/registries.conf"
  for arch in amd64 arm64; do
    "${podman[@]}" pull --quiet --arch "$arch" docker.io/library/podman:v1
    has_line "digests of the image for $arch" "docker.io/library/podman@$INDEX" \
      "$("${podman[@]}" image inspect --format '{{join .RepoDigests "\n"}}' docker.io/library/podman:v1)"
  done
}

through_docker() {
  # The client of the same package as the daemon, whatever other one the PATH has first.
  PATH="/usr/bin:/usr/sbin:$PATH"
  need docker dockerd containerd runc
  export DOCKER_CONFIG="$OUT/docker-config" DOCKER_HOST="unix://$OUT/docker.sock"
  mkdir -p "$DOCKER_CONFIG"
  start "$OUT/dockerd.log" dockerd --data-root "$OUT/docker" --exec-root "$OUT/docker.run" --pidfile "$OUT/docker.pid" \
    --host "$DOCKER_HOST" --storage-driver "${DOCKER_STORAGE_DRIVER:-overlay2}" --iptables=false --ip6tables=false --bridge=none \
    --registry-mirror "http://$MIRROR"
  # In this shell, which ends with the check.
  # shellcheck disable=SC2064 # this process, whatever is started later
  trap "stop_process $PID" EXIT
  wait_until dockerd "$PID" "$OUT/dockerd.log" docker version
  for arch in amd64 arm64; do
    docker pull --platform "linux/$arch" library/docker:v1
    same "the digest for $arch" "docker@$INDEX" "$(docker image inspect --format '{{index .RepoDigests 0}}' library/docker:v1)"
    docker image rm --force library/docker:v1
  done
}

through_ctr() {
  need containerd ctr
  local manifest blob ctr=(ctr --address "$OUT/sock")
  printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s/sock"\n' \
    "$OUT" "$OUT" "$OUT" >"$OUT/config.toml"
  mkdir -p "$OUT/certs.d/docker.io"
  printf 'server = "https://registry-1.docker.io"\n[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$REGISTRY" \
    >"$OUT/certs.d/docker.io/hosts.toml"
  start "$OUT/log" containerd --config "$OUT/config.toml"
  # In this shell, which ends with the check.
  # shellcheck disable=SC2064 # this process, whatever is started later
  trap "stop_process $PID" EXIT
  wait_until containerd "$PID" "$OUT/log" "${ctr[@]}" version
  "${ctr[@]}" images pull --hosts-dir "$OUT/certs.d" --all-platforms --snapshotter native docker.io/library/ctr:v1
  same "what was pulled" "$INDEX" "$("${ctr[@]}" images ls name==docker.io/library/ctr:v1 | awk 'NR == 2 { print $3 }')"
  "${ctr[@]}" content fetch --hosts-dir "$OUT/certs.d" --all-platforms docker.io/library/ctr:nested
  for manifest in $(jq -r '.manifests[].digest' "$(blob_path "$LAYOUT" "$INDEX")"); do
    for blob in $(jq -r '.config.digest, .layers[].digest' "$(blob_path "$LAYOUT" "$manifest")"); do
      same "a blob" "$blob" "sha256:$("${ctr[@]}" content get "$blob" | sha256sum | cut -d' ' -f1)"
    done
  done
}

through_crane() {
  local from
  for from in hub basic bearer; do
    crane pull --format oci "$REGISTRY/$from/library/crane:v1" "$OUT/$from"
    check_layout "$OUT/$from" "$INDEX"
    crane pull --format oci "$REGISTRY/$from/library/crane:nested" "$OUT/$from-nested"
    check_layout "$OUT/$from-nested" "$NESTED"
  done
  has_line "tags" nested "$(crane ls "$REGISTRY/hub/library/crane")"
}

# An artifact and what refers to it, from an upstream with the API of referrers and from one without.
through_oras() {
  local from
  for from in hub basic bearer mtls; do
    oras cp -r --from-plain-http --to-oci-layout "$REGISTRY/$from/library/oras:v1" "$OUT/$from:v1"
    check_layout "$OUT/$from" "$INDEX"
    oras pull --plain-http --output "$OUT/$from-data" "$REGISTRY/$from/library/oras:data"
    same "the file of $from" "$(digest_of "$WORK/files/data.bin")" "$(digest_of "$OUT/$from-data/data.bin")"
    same "the referrers of $from" "application/vnd.example.sbom.v1 application/vnd.example.signature.v1" \
      "$(oras discover --plain-http --format json "$REGISTRY/$from/library/oras:data" | jq -r '[.manifests[].artifactType] | sort | join(" ")')"
    oras cp -r --from-plain-http --to-oci-layout "$REGISTRY/$from/library/oras:data" "$OUT/$from-referrers:data"
    same "the SBOM of $from" 1 "$(grep -lrF '{"packages":[]}' "$OUT/$from-referrers/blobs" | wc -l)"
  done
}

through_regctl() {
  need regctl
  export REGCTL_CONFIG="$OUT/regctl.json"
  regctl registry set --tls disabled "$REGISTRY"
  regctl image copy --referrers "$REGISTRY/hub/library/regctl:nested" "ocidir://$OUT/back:nested"
  check_layout "$OUT/back" "$NESTED"
}

through_helm() {
  need helm
  export HELM_CACHE_HOME="$OUT/cache" HELM_CONFIG_HOME="$OUT/config" HELM_DATA_HOME="$OUT/data"
  helm pull --plain-http --destination "$OUT" --version 1.0.0 "oci://$REGISTRY/hub/charts/web"
  same "the chart" "$(digest_of "$WORK/web-1.0.0.tgz")" "$(digest_of "$OUT/web-1.0.0.tgz")"
}

# A signature in a tag, as cosign wrote it first, and one in a referrer.
through_cosign() {
  need cosign
  # without the log of signatures, which is on the network
  local kind verify=(cosign verify --key "$WORK/cosign.pub" --insecure-ignore-tlog --allow-http-registry)
  for kind in tag referrer; do
    "${verify[@]}" "$REGISTRY/hub/library/$kind@$INDEX"
  done
  if "${verify[@]}" "$REGISTRY/hub/library/unsigned@$INDEX" >"$OUT/unsigned" 2>&1; then
    die "an image without a signature was verified"
  fi
  # without an upstream, nobody knows whether there is one
  [ "$ROUND" = again ] || grep -qF "no signatures found" "$OUT/unsigned" || die "cosign says: $(tail -n 3 "$OUT/unsigned")"
}

# ---- what the cache shows by itself ---------------------------------------------------------------------------------

# A pull by tag is one HEAD upstream, and nothing else once the image is here.
through_count() {
  local image=/v2/library/count pull
  if [ "$ROUND" = again ]; then return; fi
  for pull in 1 2 3; do
    same "the tag" "$INDEX" "$(served_digest hub/library/count v1)"
    same "HEADs of the tag after pull $pull" "$pull" "$(hub_asked "HEAD $image/manifests/v1 ")"
    same "all requests after pull $pull" $((pull + 1)) "$(hub_asked " $image/")"
  done
  same "GETs of the index" 1 "$(hub_asked "GET $image/manifests/$INDEX ")"
}

# A push beside the caches, a push into one, and what nobody has.
through_push() {
  local image nothing
  # where docker's names lead to the cache, those with a dot in their first part do not
  for image in "$REGISTRY/team/app:$ROUND" "$MIRROR/team.example/app:$ROUND"; do
    crane push "$LAYOUT" "$image"
    crane validate --remote "$image"
    same "what was pushed" "$INDEX" "$(crane digest "$image")"
  done
  same "status of a push into a cache" 405 "$(status POST /v2/hub/library/crane/blobs/uploads/)"
  nothing=$(status GET "/v2/hub/library/nothing-$ROUND/manifests/v1")
  case $ROUND:$nothing in
    first:404 | again:502) ;;
    *) die "status of what was never pulled, $ROUND: $nothing" ;;
  esac
}

# ---------------------------------------------------------------------------------------------------------------------

export HOME="$WORK/home" XDG_RUNTIME_DIR="$WORK/run" DOCKER_CONFIG="$WORK/docker-config" SSL_CERT_FILE="$CERTS/ca.pem"
mkdir "$HOME" "$DOCKER_CONFIG" && mkdir -m 700 "$XDG_RUNTIME_DIR"

say "starting the upstreams"
start_distribution hub
HUB=$PORT
htpasswd -Bbn ana "$PASSWORD" >"$WORK/htpasswd"
start_distribution basic "auth: {htpasswd: {realm: basic, path: $WORK/htpasswd}}"
BASIC=$PORT
start_ours bearer optional "[identity.ana]
username = \"ana\"
password = '$(printf '%s\n' "$PASSWORD" | "$BINARY" hash-password)'

[repository.\"*\".access_policy]
default_allow = false
rules = [\"identity.username == 'ana'\"]"
BEARER=$PORT
start_ours mtls required "[repository.\"*\".access_policy]
default_allow = false
rules = [\"identity.certificate.organizations.contains('ci')\"]"
MTLS=$PORT

# Every client has a repository of its own, so that its cache is empty.
LAYOUT="$WORK/layout" NESTED_LAYOUT="$WORK/nested"
INDEX=$(make_layout "$LAYOUT" v1)
mkdir -p "$NESTED_LAYOUT" "$WORK/files" "$WORK/web/templates"
cp -r "$LAYOUT/." "$NESTED_LAYOUT"
jq -nc --arg type "$INDEX_TYPE" --argjson child "$(descriptor "$LAYOUT" "$INDEX" "$INDEX_TYPE")" \
  '{schemaVersion: 2, mediaType: $type, manifests: [$child]}' >"$WORK/nested.json"
NESTED=$(add_blob "$NESTED_LAYOUT" "$WORK/nested.json")
jq -nc --argjson index "$(descriptor "$NESTED_LAYOUT" "$NESTED" "$INDEX_TYPE")" '{schemaVersion: 2, manifests: [$index]}' >"$NESTED_LAYOUT/index.json"
head -c 100000 /dev/urandom >"$WORK/files/data.bin"
echo '{"packages":[]}' >"$WORK/files/sbom.json"

# push_artifact REPOSITORY OPTION...: an artifact and two referrers, by oras.
push_artifact() {
  local repository=$1
  shift
  (
    cd "$WORK/files"
    oras push "$@" --artifact-type application/vnd.example.data.v1 "$repository:data" data.bin:application/octet-stream
    oras attach "$@" --artifact-type application/vnd.example.sbom.v1 "$repository:data" sbom.json:application/json
    oras attach "$@" --artifact-type application/vnd.example.signature.v1 "$repository:data" data.bin:application/octet-stream
  )
}

# fill: pushes what the clients pull.
fill() {
  local client repository certificate sign
  crane auth login "127.0.0.1:$BASIC" -u ana -p "$PASSWORD"
  crane auth login "127.0.0.1:$BEARER" -u ana -p "$PASSWORD"
  for client in skopeo podman docker ctr crane count tag referrer unsigned; do
    crane push "$LAYOUT" "127.0.0.1:$HUB/library/$client:v1"
  done
  for repository in "$HUB/library/ctr" "$HUB/library/regctl" "$HUB/library/crane" "$BASIC/library/crane" "$BEARER/library/crane"; do
    crane push "$NESTED_LAYOUT" "127.0.0.1:$repository:nested"
    crane push "$LAYOUT" "127.0.0.1:$repository:v1"
  done
  certificate=(--ca-file "$CERTS/ca.pem" --cert-file "$CERTS/ci.pem" --key-file "$CERTS/ci-key.pem")
  oras cp --from-oci-layout --to-plain-http "$LAYOUT:v1" "127.0.0.1:$HUB/library/oras:v1"
  oras cp --from-oci-layout --to-plain-http "$LAYOUT:v1" "127.0.0.1:$BASIC/library/oras:v1"
  oras cp --from-oci-layout "$LAYOUT:v1" "127.0.0.1:$BEARER/library/oras:v1"
  oras cp --from-oci-layout --to-ca-file "$CERTS/ca.pem" --to-cert-file "$CERTS/ci.pem" --to-key-file "$CERTS/ci-key.pem" \
    "$LAYOUT:v1" "127.0.0.1:$MTLS/library/oras:v1"
  push_artifact "127.0.0.1:$HUB/library/oras" --plain-http
  push_artifact "127.0.0.1:$BASIC/library/oras" --plain-http
  push_artifact "127.0.0.1:$BEARER/library/oras"
  push_artifact "127.0.0.1:$MTLS/library/oras" "${certificate[@]}"
  if type -P helm; then
    printf 'apiVersion: v2\nname: web\nversion: 1.0.0\n' >"$WORK/web/Chart.yaml"
    helm package --destination "$WORK" "$WORK/web"
    helm push --plain-http "$WORK/web-1.0.0.tgz" "oci://127.0.0.1:$HUB/charts"
  fi
  if type -P cosign; then
    # offline: neither a log nor an authority of the network
    sign=(cosign sign --yes --key "$WORK/cosign.key" --tlog-upload=false --use-signing-config=false --allow-http-registry)
    export COSIGN_PASSWORD=
    (cd "$WORK" && cosign generate-key-pair)
    "${sign[@]}" --new-bundle-format=false "127.0.0.1:$HUB/library/tag@$INDEX"
    "${sign[@]}" --new-bundle-format=true "127.0.0.1:$HUB/library/referrer@$INDEX"
  fi
}

say "pushing to the upstreams"
# In a shell of its own and not as a condition, so that `set -e` holds in it.
set +e
(set -e; trap - EXIT; fill) >"$WORK/fill.out" 2>&1 </dev/null
status=$?
set -e
((status == 0)) || { tail -n 30 "$WORK/fill.out" >&2; die "the upstreams were not filled"; }
FILLED=$(wc -l <"$WORK/hub.log")

start_cache mirror 'mirror_of = "hub"'
MIRROR=$REGISTRY
start_cache cache "[repository.hub]
serves = [\"docker.io\"]

[[repository.basic.upstream]]
url = \"http://127.0.0.1:$BASIC/v2\"
username = \"ana\"
password = \"$PASSWORD\"

[[repository.bearer.upstream]]
url = \"https://127.0.0.1:$BEARER/v2\"
server_ca_bundle = \"$CERTS/ca.pem\"
username = \"ana\"
password = \"$PASSWORD\"

[[repository.mtls.upstream]]
url = \"https://127.0.0.1:$MTLS/v2\"
server_ca_bundle = \"$CERTS/ca.pem\"
client_certificate = \"$CERTS/ci.pem\"
client_private_key = \"$CERTS/ci-key.pem\""

passed=0 failed=0
# check NAME: one check of this round, in a shell of its own.
check() {
  local began=$SECONDS status
  OUT="$WORK/$1-$ROUND"
  mkdir -p "$OUT"
  set +e
  (
    set -e
    trap - EXIT
    STARTED=()
    "through_$1"
    if [ "$ROUND" = first ] && [[ " ${ONE_REPOSITORY[*]} " = *" $1 "* ]]; then once "library/$1"; fi
  ) >"$OUT.out" 2>&1 </dev/null
  status=$?
  set -e
  if ((status == 0)); then
    passed=$((passed + 1))
    echo "ok $1, $ROUND ($((SECONDS - began)) s)"
  else
    failed=$((failed + 1))
    echo "FAIL $1, $ROUND: exit code $status after $((SECONDS - began)) s; the end of what it said:"
    tail -n 30 "$OUT.out" | sed 's/^/    /'
    echo "  and of what the cache logged:"
    grep -v '"status":20' "$WORK/cache.log" | tail -n 12 | cut -c 1-400 | sed 's/^/    /'
  fi
}

checks=("$@" count push)
for name in "${checks[@]}"; do
  [ "$(type -t "through_$name")" = function ] || die "no such client: $name; there are ${CLIENTS[*]}"
done
ROUND=first
say "through an empty cache"
for name in "${checks[@]}"; do check "$name"; done
ROUND=again
say "again, with the upstreams stopped"
for process in "${UPSTREAMS[@]}"; do stop_process "$process"; done
for name in "${checks[@]}"; do check "$name"; done
echo "$passed passed, $failed failed"
((failed == 0))
