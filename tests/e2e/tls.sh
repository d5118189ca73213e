#!/usr/bin/env bash
# Real clients over TLS and mTLS: push with a certificate, pull with a password, pull anonymously, be refused in the rule's
# own words; then revocation while the server runs, and what the audit record says of all of it.
#   tests/e2e/tls.sh [client...]
# The registry is at an address of this machine other than loopback: docker takes 127.0.0.0/8 for insecure and reads no
# certificates for it.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/image.sh
. "$E2E/image.sh"

(($#)) || set -- docker podman skopeo ctr crane oras helm
begin
need curl jq openssl tar gzip sha256sum
BINARY="$TARGET/release/simple-registry"
[ -x "$BINARY" ] || die "$BINARY is not there; run 'cargo build --release' first"

HOST=$(hostname -I | tr ' ' '\n' | grep -m 1 -E '^[0-9.]+$' || true)
[ -n "$HOST" ] || die "this machine has no IPv4 address but loopback, and docker takes no certificates there; give it one: ip link add e2e type dummy && ip addr add 192.0.2.1/32 dev e2e"
export NO_PROXY="$NO_PROXY,$HOST" no_proxy="$no_proxy,$HOST"

PASSWORD="correct horse $RANDOM"
MESSAGE="only CI pushes to team; open a merge request instead"

# ---- certificates, configuration, policy ----------------------------------------------------------------------------

CERTS="$WORK/certs"
certificates() { "$PROJECT/certs/make.sh" -d "$CERTS" "$@" >/dev/null; }
certificates init "$HOST"
certificates client ci/ci late/ci old/ci
certificates revoke old
# A directory as docker, podman and skopeo want it, for each client, and one that knows the authority alone.
for name in ci late old; do
  mkdir -p "$WORK/dir-$name"
  cp "$CERTS/ca.pem" "$WORK/dir-$name/ca.crt"
  cp "$CERTS/$name.pem" "$WORK/dir-$name/client.cert"
  cp "$CERTS/$name-key.pem" "$WORK/dir-$name/client.key"
done
mkdir -p "$WORK/dir-ca" "$WORK/policies"
cp "$CERTS/ca.pem" "$WORK/dir-ca/ca.crt"

cat >"$WORK/policies/team.toml" <<END
description  = "CI pushes, staff pulls, everyone pulls what is public"
kind         = "access"
repositories = ["*"]
default      = "deny"

[[rule]]
name   = "ci-does-everything"
effect = "allow"
when   = 'identity.certificate.organizations.contains("ci") || identity.groups.contains("ci")'

[[rule]]
name   = "staff-pulls"
effect = "allow"
when   = 'request.access == "pull" && identity.groups.contains("staff")'

[[rule]]
name   = "everyone-pulls-what-is-public"
effect = "allow"
when   = 'request.access == "pull" && request.namespace.startsWith("public/")'

[[rule]]
name    = "only-ci-pushes"
effect  = "deny"
when    = 'request.access == "push" && !identity.certificate.organizations.contains("ci") && !identity.groups.contains("ci")'
message = "$MESSAGE"
END

# config CLIENT_AUTH PORT AUDIT: prints a configuration.
config() {
  local hash
  hash=$(printf '%s\n' "$PASSWORD" | "$BINARY" hash-password)
  cat <<END
policy_dir = "$WORK/policies"

[server]
bind_address = "$HOST"
port = $2

[server.tls]
server_certificate_bundle = "$CERTS/server.pem"
server_private_key = "$CERTS/server-key.pem"
client_ca_bundle = "$CERTS/ca.pem"
client_auth = "$1"
client_crl = "$CERTS/crl.pem"

[storage.fs]
root_dir = "$WORK/registry-$1"

[access_policy]
default_allow = true

[identity.ana]
username = "ana"
password = '$hash'
groups = ["staff"]

# For clients that push with a password.
[identity.robot]
username = "robot"
password = '$hash'
groups = ["ci"]

[token]
signing_key = "$WORK/token-$1.key"

[audit]
file = "$3"
END
}

# tls_curl DIR ARGUMENTS...: with the certificate of that directory, if it has one.
tls_curl() {
  local dir=$1
  shift
  local certificate=()
  [ ! -f "$dir/client.cert" ] || certificate=(--cert "$dir/client.cert" --key "$dir/client.key")
  curl -sS --max-time 20 --cacert "$dir/ca.crt" "${certificate[@]}" "$@"
}

# start_tls CLIENT_AUTH: leaves host:port in $REGISTRY and the record in $AUDIT.
start_tls() {
  local port log="$WORK/registry-$1.log"
  port=$(free_port)
  REGISTRY="$HOST:$port" AUDIT="$WORK/audit-$1.jsonl"
  config "$1" "$port" "$AUDIT" >"$WORK/config-$1.toml"
  start "$log" "$BINARY" -c "$WORK/config-$1.toml" server
  wait_until simple-registry "$PID" "$log" tls_curl "$WORK/dir-ci" -f "https://$REGISTRY/v2/"
}

# ---- what each client shows -----------------------------------------------------------------------------------------

# refused WORDS COMMAND...: COMMAND fails and says WORDS.
refused() {
  local words=$1
  shift
  if "$@" >"$WORK/refused" 2>&1; then
    die "this was not refused: $*"
  fi
  grep -qiF -- "$words" "$WORK/refused" || die "no '$words' in what '$*' says: $(tail -n 5 "$WORK/refused")"
}

# served REPOSITORY TAG: the digest that the registry gives to one who may see it.
served() {
  tls_curl "$WORK/dir-ci" -f -o /dev/null -D - -H "Accept: $INDEX_TYPE" -H "Accept: $MANIFEST_TYPE" \
    -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' "https://$REGISTRY/v2/$1/manifests/$2" |
    tr -d '\r' | sed -n 's/^docker-content-digest: *//Ip'
}

tls_skopeo() {
  need skopeo
  # without the option it may take layers that it knows from another client, compressed otherwise
  local copy=(skopeo --insecure-policy copy --all --preserve-digests) team="docker://$REGISTRY/team/skopeo:v1" public="docker://$REGISTRY/public/skopeo:v1"
  for image in "$team" "$public"; do
    "${copy[@]}" --dest-cert-dir "$WORK/dir-ci" "oci:$LAYOUT:v1" "$image"
  done
  same "what was pushed" "$INDEX" "$(served team/skopeo v1)"
  "${copy[@]}" --src-cert-dir "$WORK/dir-ca" --src-creds "ana:$PASSWORD" "$team" "oci:$WORK/skopeo-password:v1"
  check_layout "$WORK/skopeo-password" "$INDEX"
  "${copy[@]}" --src-cert-dir "$WORK/dir-ca" "$public" "oci:$WORK/skopeo-anonymous:v1"
  check_layout "$WORK/skopeo-anonymous" "$INDEX"
  refused "$MESSAGE" "${copy[@]}" --dest-cert-dir "$WORK/dir-ca" --dest-creds "ana:$PASSWORD" "oci:$LAYOUT:v1" "docker://$REGISTRY/team/skopeo:mine"
  refused unauthorized "${copy[@]}" --src-cert-dir "$WORK/dir-ca" "$team" "oci:$WORK/skopeo-none:v1"
  refused "invalid username/password" skopeo login --authfile "$WORK/skopeo-auth" --cert-dir "$WORK/dir-ca" -u ana -p wrong "$REGISTRY"
  skopeo login --authfile "$WORK/skopeo-auth" --cert-dir "$WORK/dir-ca" -u ana -p "$PASSWORD" "$REGISTRY"
  skopeo inspect --authfile "$WORK/skopeo-auth" --cert-dir "$WORK/dir-ca" "$team"
}

tls_podman() {
  need podman runc
  local podman=(podman --root "$WORK/podman" --runroot "$WORK/podman.run" --tmpdir "$WORK/podman.tmp" --storage-driver vfs
    --runtime runc --cgroup-manager cgroupfs --events-backend none)
  local team="$REGISTRY/team/podman" public="$REGISTRY/public/podman" id
  id=$(cd "$WORK" && "${podman[@]}" pull --quiet --arch amd64 oci:layout:v1)
  for image in "$team" "$public"; do
    "${podman[@]}" push --cert-dir "$WORK/dir-ci" "$id" "docker://$image:v1"
  done
  "${podman[@]}" rmi --force "$id"
  "${podman[@]}" pull --cert-dir "$WORK/dir-ca" --creds "ana:$PASSWORD" "$team:v1"
  refused "$MESSAGE" "${podman[@]}" push --cert-dir "$WORK/dir-ca" --creds "ana:$PASSWORD" "$team:v1" "docker://$team:mine"
  "${podman[@]}" rmi --force "$team:v1"
  "${podman[@]}" pull --cert-dir "$WORK/dir-ca" "$public:v1"
  refused unauthorized "${podman[@]}" pull --cert-dir "$WORK/dir-ca" "$team:v1"
  refused "invalid username/password" "${podman[@]}" login --cert-dir "$WORK/dir-ca" -u ana -p wrong "$REGISTRY"
  "${podman[@]}" login --cert-dir "$WORK/dir-ca" -u ana -p "$PASSWORD" "$REGISTRY"
  "${podman[@]}" pull --cert-dir "$WORK/dir-ca" "$team:v1"
  "${podman[@]}" logout "$REGISTRY"
}

tls_ctr() {
  need containerd ctr
  local dir="$WORK/containerd" team="$REGISTRY/team/ctr" public="$REGISTRY/public/ctr"
  mkdir -p "$dir"
  printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s/sock"\n' \
    "$dir" "$dir" "$dir" >"$dir/config.toml"
  start "$dir/log" containerd --config "$dir/config.toml"
  # In this shell, which ends with the check.
  # shellcheck disable=SC2064 # this process, whatever is started later
  trap "stop_process $PID" EXIT
  wait_until containerd "$PID" "$dir/log" ctr --address "$dir/sock" version
  local images=(ctr --address "$dir/sock" images)
  local ca=(--tlscacert "$CERTS/ca.pem")
  local ci=("${ca[@]}" --tlscert "$CERTS/ci.pem" --tlskey "$CERTS/ci-key.pem")
  tar -C "$LAYOUT" -cf "$WORK/ctr.tar" oci-layout index.json blobs
  for image in "$team" "$public"; do
    "${images[@]}" import --all-platforms --no-unpack --base-name "$image" "$WORK/ctr.tar"
    "${images[@]}" push "${ci[@]}" "$image:v1"
  done
  same "what was pushed" "$INDEX" "$(served team/ctr v1)"
  "${images[@]}" push "${ca[@]}" --user "robot:$PASSWORD" "$public:v1"
  "${images[@]}" tag "$team:v1" "$team:mine"
  refused "403" "${images[@]}" push "${ca[@]}" --user "ana:$PASSWORD" "$team:mine"
  "${images[@]}" rm --sync "$team:v1" "$team:mine" "$public:v1"
  "${images[@]}" pull "${ca[@]}" --user "ana:$PASSWORD" --all-platforms --snapshotter native "$team:v1"
  "${images[@]}" pull "${ca[@]}" --all-platforms --snapshotter native "$public:v1"
  refused "401" "${images[@]}" pull "${ca[@]}" --all-platforms --snapshotter native "$team:v1"
  refused "401" "${images[@]}" pull "${ca[@]}" --user "ana:wrong" --all-platforms --snapshotter native "$team:v1"
}

# It has no option for a client certificate: a proxy beside it presents one, as for any such client in CI. Its authority comes
# from the environment.
tls_crane() {
  need crane nginx
  local port beside
  port=$(free_port) beside="$WORK/beside"
  mkdir -p "$beside"
  cat >"$beside/nginx.conf" <<END
daemon off;
pid $beside/pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path $beside/body;
  proxy_temp_path $beside/proxy;
  fastcgi_temp_path $beside/fastcgi;
  uwsgi_temp_path $beside/uwsgi;
  scgi_temp_path $beside/scgi;
  client_max_body_size 0;
  server {
    listen 127.0.0.1:$port;
    location / {
      proxy_pass https://$REGISTRY;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_set_header Host \$http_host;
      proxy_ssl_certificate $CERTS/ci.pem;
      proxy_ssl_certificate_key $CERTS/ci-key.pem;
      proxy_ssl_trusted_certificate $CERTS/ca.pem;
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
    }
  }
}
END
  start "$beside/log" nginx -c "$beside/nginx.conf" -p "$beside"
  # In this shell, which ends with the check.
  # shellcheck disable=SC2064 # this process, whatever is started later
  trap "stop_process $PID" EXIT
  wait_until nginx "$PID" "$beside/log" curl -sf -o /dev/null "http://127.0.0.1:$port/v2/"
  crane push "$LAYOUT" "127.0.0.1:$port/team/crane-certificate:v1"
  crane validate --remote "127.0.0.1:$port/team/crane-certificate:v1"
  same "what was pushed with a certificate" "$INDEX" "$(served team/crane-certificate v1)"

  local team="$REGISTRY/team/crane" public="$REGISTRY/public/crane"
  export SSL_CERT_FILE="$CERTS/ca.pem" DOCKER_CONFIG="$WORK/crane"
  mkdir -p "$DOCKER_CONFIG"
  crane auth login "$REGISTRY" -u robot -p "$PASSWORD"
  crane push "$LAYOUT" "$team:v1"
  crane push "$LAYOUT" "$public:v1"
  crane auth login "$REGISTRY" -u ana -p "$PASSWORD"
  same "what was pushed" "$INDEX" "$(crane digest "$team:v1")"
  crane validate --remote "$team:v1"
  refused "$MESSAGE" crane push "$LAYOUT" "$team:mine"
  crane auth logout "$REGISTRY"
  crane validate --remote "$public:v1"
  refused unauthorized crane digest "$team:v1"
}

tls_oras() {
  need oras
  local team="$REGISTRY/team/oras" public="$REGISTRY/public/oras"
  local ci=(--ca-file "$CERTS/ca.pem" --cert-file "$CERTS/ci.pem" --key-file "$CERTS/ci-key.pem") ca=(--ca-file "$CERTS/ca.pem")
  export DOCKER_CONFIG="$WORK/oras"
  mkdir -p "$DOCKER_CONFIG" "$WORK/oras-files"
  cd "$WORK/oras-files"
  head -c 100000 /dev/urandom >data.bin
  oras push "${ci[@]}" "$team:v1" data.bin:application/octet-stream
  oras push "${ci[@]}" "$public:v1" data.bin:application/octet-stream
  oras pull "${ca[@]}" -u ana -p "$PASSWORD" --output "$WORK/oras-password" "$team:v1"
  same "the file" "$(digest_of data.bin)" "$(digest_of "$WORK/oras-password/data.bin")"
  oras pull "${ca[@]}" --output "$WORK/oras-anonymous" "$public:v1"
  same "the file" "$(digest_of data.bin)" "$(digest_of "$WORK/oras-anonymous/data.bin")"
  refused unauthorized oras pull "${ca[@]}" --output "$WORK/oras-none" "$team:v1"
  printf '%s' "$PASSWORD" | oras login "${ca[@]}" -u ana --password-stdin "$REGISTRY"
  oras pull "${ca[@]}" --output "$WORK/oras-login" "$team:v1"
  refused "$MESSAGE" oras push "${ca[@]}" "$team:mine" data.bin:application/octet-stream
  oras logout "$REGISTRY"
}

tls_helm() {
  need helm
  export HELM_CACHE_HOME="$WORK/helm/cache" HELM_CONFIG_HOME="$WORK/helm/config" HELM_DATA_HOME="$WORK/helm/data"
  local chart="$WORK/web" ci=(--ca-file "$CERTS/ca.pem" --cert-file "$CERTS/ci.pem" --key-file "$CERTS/ci-key.pem") ca=(--ca-file "$CERTS/ca.pem")
  mkdir -p "$chart/templates" "$WORK/helm/back"
  printf 'apiVersion: v2\nname: web\nversion: 1.0.0\n' >"$chart/Chart.yaml"
  helm package --destination "$WORK" "$chart"
  helm push "${ci[@]}" "$WORK/web-1.0.0.tgz" "oci://$REGISTRY/team/charts"
  helm push "${ci[@]}" "$WORK/web-1.0.0.tgz" "oci://$REGISTRY/public/charts"
  helm pull "${ca[@]}" --destination "$WORK/helm/back" --version 1.0.0 "oci://$REGISTRY/public/charts/web"
  same "the chart" "$(digest_of "$WORK/web-1.0.0.tgz")" "$(digest_of "$WORK/helm/back/web-1.0.0.tgz")"
  refused unauthorized helm pull "${ca[@]}" --destination "$WORK/helm" --version 1.0.0 "oci://$REGISTRY/team/charts/web"
  refused unauthorized helm registry login "${ca[@]}" -u ana -p wrong "$REGISTRY"
  printf '%s' "$PASSWORD" | helm registry login "${ca[@]}" -u ana --password-stdin "$REGISTRY"
  helm pull "${ca[@]}" --destination "$WORK/helm" --version 1.0.0 "oci://$REGISTRY/team/charts/web"
  printf 'apiVersion: v2\nname: web\nversion: 2.0.0\n' >"$chart/Chart.yaml"
  helm package --destination "$WORK" "$chart"
  refused "$MESSAGE" helm push "${ca[@]}" "$WORK/web-2.0.0.tgz" "oci://$REGISTRY/team/charts"
  helm registry logout "$REGISTRY"
}

# docker_certificates DIR: what the daemon knows of this registry; it reads that anew each time.
docker_certificates() {
  rm -rf "$DOCKER_CERTS"
  mkdir -p "$DOCKER_CERTS"
  cp "$1"/* "$DOCKER_CERTS"
}

tls_docker() {
  # The client of the same package as the daemon, whatever other one the PATH has first.
  PATH="/usr/bin:/usr/sbin:$PATH"
  need docker dockerd containerd runc
  export DOCKER_CONFIG="$WORK/docker-config" DOCKER_HOST="unix://$WORK/docker.sock"
  local team="$REGISTRY/team/docker" public="$REGISTRY/public/docker"
  mkdir -p "$DOCKER_CONFIG"
  start "$WORK/dockerd.log" dockerd --data-root "$WORK/docker" --exec-root "$WORK/docker.run" --pidfile "$WORK/docker.pid" \
    --host "$DOCKER_HOST" --storage-driver "${DOCKER_STORAGE_DRIVER:-overlay2}" --iptables=false --ip6tables=false --bridge=none
  # In this shell, which ends with the client: the outer one knows nothing of it.
  trap 'stop_process "$PID"' EXIT
  wait_until dockerd "$PID" "$WORK/dockerd.log" docker version
  rootfs "$WORK/rootfs"
  tar -C "$WORK/rootfs" -c . | docker import - "$team:v1"
  docker tag "$team:v1" "$public:v1"

  docker_certificates "$WORK/dir-ci"
  docker push "$team:v1"
  docker push "$public:v1"
  docker_certificates "$WORK/dir-ca"
  docker image rm --force "$team:v1" "$public:v1"
  refused "unauthorized" docker pull "$team:v1"
  docker pull "$public:v1"
  refused "unauthorized" docker login -u ana -p wrong "$REGISTRY"
  printf '%s' "$PASSWORD" | docker login -u ana --password-stdin "$REGISTRY"
  docker pull "$team:v1"
  docker tag "$team:v1" "$team:mine"
  refused "$MESSAGE" docker push "$team:mine"
  docker logout "$REGISTRY"
  docker image rm --force "$team:v1" "$team:mine"
  refused "unauthorized" docker pull "$team:v1"
  docker image rm --force "$public:v1"
  docker pull "$public:v1"
}

# ---- what the server shows by itself --------------------------------------------------------------------------------

tls_revocation() {
  local url="https://$REGISTRY/v2/team/skopeo/tags/list"
  # in no words of ours: with TLS 1.3 a client may see the alert, or a connection that was closed while it wrote
  refused "" tls_curl "$WORK/dir-old" "$url"
  same "status before the revocation" 200 "$(tls_curl "$WORK/dir-late" -o /dev/null -w '%{http_code}' "https://$REGISTRY/v2/")"
  certificates revoke late
  local end=$((SECONDS + 30))
  while tls_curl "$WORK/dir-late" -o /dev/null "$url" 2>"$WORK/late"; do
    ((SECONDS < end)) || die "a revoked certificate is accepted 30 s after it was revoked"
    sleep 0.2
  done
  same "status of another one" 200 "$(tls_curl "$WORK/dir-ci" -o /dev/null -w '%{http_code}' "https://$REGISTRY/v2/")"
}

tls_versions() {
  local version
  for version in 1.2 1.3; do
    tls_curl "$WORK/dir-ci" -f --tlsv$version --tls-max $version -o /dev/null "https://$REGISTRY/v2/"
  done
  same "HTTP/2" 2 "$(tls_curl "$WORK/dir-ci" --http2 -o /dev/null -w '%{http_version}' "https://$REGISTRY/v2/")"
  same "HTTP/1.1" 1.1 "$(tls_curl "$WORK/dir-ci" --http1.1 -o /dev/null -w '%{http_version}' "https://$REGISTRY/v2/")"
  refused "" tls_curl "$WORK/dir-ci" --tlsv1.1 --tls-max 1.1 "https://$REGISTRY/v2/"
  if tls_curl "$WORK/dir-ca" -f -o /dev/null "http://$REGISTRY/v2/" 2>/dev/null; then die "it answers plain HTTP"; fi
}

# A certificate, a password and nobody: the answer to each, and the line of the record with identity, decision and rule
# of which text. Decisions about nobody have a file of their own.
tls_record() {
  local sum url="https://$REGISTRY/v2/team/record" ask=(-o "$WORK/answer" -w '%{http_code}')
  sum=$(sha256sum "$WORK/policies/team.toml" | cut -d' ' -f1)
  same "a push by a certificate" 202 "$(tls_curl "$WORK/dir-ci" "${ask[@]}" -X POST -H 'X-Request-Id: by-certificate' "$url/blobs/uploads/")"
  same "a push by a password" 403 "$(tls_curl "$WORK/dir-ca" "${ask[@]}" -u "ana:$PASSWORD" -X POST -H 'X-Request-Id: by-password' "$url/blobs/uploads/")"
  same "what it is told" "DENIED $MESSAGE" "$(jq -r '.errors[0] | "\(.code) \(.message)"' "$WORK/answer")"
  same "a push by nobody" 401 "$(tls_curl "$WORK/dir-ca" "${ask[@]}" -X POST -H 'X-Request-Id: by-nobody' "$url/blobs/uploads/")"
  jq -es --arg sum "$sum" '[.[] | select(.event == "decision") | {id: .request_id, decision, rule, policy_sha256, status,
      username: .identity.username, organizations: .identity.certificate.organizations, action: .request.action, namespace: .request.namespace}] as $lines
    | def line(id): $lines | map(select(.id == id)) | first;
      line("by-certificate") == {id: "by-certificate", decision: "allow", rule: "ci-does-everything", policy_sha256: $sum, status: 202,
        username: "", organizations: ["ci"], action: "start-upload", namespace: "team/record"}
      and line("by-password") == {id: "by-password", decision: "deny", rule: "only-ci-pushes", policy_sha256: $sum, status: 403,
        username: "ana", organizations: [], action: "start-upload", namespace: "team/record"}
      and line("by-nobody") == {id: "by-nobody", decision: "deny", rule: "only-ci-pushes", policy_sha256: $sum, status: 401,
        username: "", organizations: [], action: "start-upload", namespace: "team/record"}' "$AUDIT" "$AUDIT.anonymous"
  if grep -qF -- "$PASSWORD" "$AUDIT" "$AUDIT.anonymous" "$WORK"/registry-*.log; then die "the password is in the record or the log"; fi
}

tls_required() {
  start_tls required
  # In this shell, which ends with the check.
  trap 'stop_process "$PID"' EXIT
  refused "" tls_curl "$WORK/dir-ca" "https://$REGISTRY/v2/"
  refused "" tls_curl "$WORK/dir-ca" -u "ana:$PASSWORD" "https://$REGISTRY/v2/"
  same "status with a certificate" 200 "$(tls_curl "$WORK/dir-ci" -o /dev/null -w '%{http_code}' "https://$REGISTRY/v2/")"
}

# ---------------------------------------------------------------------------------------------------------------------

export HOME="$WORK/home" XDG_RUNTIME_DIR="$WORK/run"
mkdir "$HOME" && mkdir -m 700 "$XDG_RUNTIME_DIR"
LAYOUT="$WORK/layout"
INDEX=$(make_layout "$LAYOUT" v1)
start_tls optional
# The daemon reads no other place, and what is put there must go again.
DOCKER_CERTS="/etc/docker/certs.d/$REGISTRY"
trap 'status=$?; set +e; rm -rf "$DOCKER_CERTS"; rmdir /etc/docker/certs.d /etc/docker 2>/dev/null; (exit "$status"); finish' EXIT
say "clients over TLS against $REGISTRY"

checks=("$@" versions revocation record required)
passed=0 failed=0
for check in "${checks[@]}"; do
  [ "$(type -t "tls_$check")" = function ] || die "no such client: $check; there are docker, podman, skopeo, ctr, crane, oras and helm"
  began=$SECONDS
  # In a shell of its own, so that `set -e` holds and what is exported stays there.
  set +e
  (set -e; trap - EXIT; STARTED=(); "tls_$check") >"$WORK/$check.out" 2>&1 </dev/null
  status=$?
  set -e
  if ((status == 0)); then
    passed=$((passed + 1))
    echo "ok $check ($((SECONDS - began)) s)"
  else
    failed=$((failed + 1))
    echo "FAIL $check: exit code $status after $((SECONDS - began)) s; the end of what it said:"
    tail -n 30 "$WORK/$check.out" | sed 's/^/    /'
    echo "  and of what the registry logged:"
    tail -n 20 "$WORK/registry-optional.log" | sed 's/^/    /'
  fi
done
echo "$passed passed, $failed failed"
((failed == 0))
