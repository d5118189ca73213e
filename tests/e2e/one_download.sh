#!/usr/bin/env bash
# Thirty clients ask three servers over one store for a blob that none of them has: it is downloaded once. Then again, and the
# server that downloads is killed in the middle: its clients ask another server, and nobody gets a wrong byte.
#   tests/e2e/one_download.sh [directory|s3]     # `directory` without an argument
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

STORE=${1:-directory}
MIB=${ONE_DOWNLOAD_MIB:-1024}
SERVERS=3 CLIENTS=30
BINARY="$TARGET/release/simple-registry"
[ -x "$BINARY" ] || die "$BINARY is not there; run 'cargo build --release' first"
begin
need curl crane registry openssl sha256sum awk

# ---- upstream -------------------------------------------------------------------------------------------------------

# random_mebibytes COUNT: bytes that no compression makes smaller, faster than the kernel's.
random_mebibytes() { head -c "$(($1 << 20))" /dev/zero | openssl enc -aes-128-ctr -pass "pass:$RANDOM$RANDOM" -nosalt -pbkdf2; }

port=$(free_port) HUB="127.0.0.1:$port"
printf 'version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n' \
  "$WORK/hub" "$HUB" >"$WORK/hub.yml"
start "$WORK/hub.log" registry serve "$WORK/hub.yml"
wait_until distribution "$PID" "$WORK/hub.log" curl -s -o /dev/null "http://$HUB/v2/"

# push: pushes a blob of its own bytes; leaves its digest in $DIGEST.
push() {
  local location
  random_mebibytes "$MIB" >"$WORK/blob"
  DIGEST="sha256:$(sha256sum "$WORK/blob" | cut -d' ' -f1)"
  location=$(curl -sf -D - -o /dev/null -X POST "http://$HUB/v2/library/big/blobs/uploads/" | tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
  curl -sf -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' -T "$WORK/blob" "$location&digest=$DIGEST"
  rm "$WORK/blob"
}

# sent DIGEST: the bytes of the blob that the upstream has sent, by its log.
sent() {
  awk -v path="/v2/library/big/blobs/$1" '$6 == "\"GET" && $7 == path { sum += $10 } END { printf "%d", sum }' "$WORK/hub.log"
}

# ---- servers --------------------------------------------------------------------------------------------------------

case $STORE in
  directory) printf '[storage.fs]\nroot_dir = "%s"\n' "$WORK/store" >"$WORK/storage" ;;
  s3)
    start_minio
    make_bucket registry
    printf '[storage.s3]\naccess_key_id = "%s"\nsecret_key = "%s"\nendpoint = "%s"\nbucket = "registry"\nregion = "%s"\n' \
      "$S3_KEY" "$S3_SECRET" "$S3" "$S3_REGION" >"$WORK/storage"
    ;;
  *) die "no such store: $STORE; it is 'directory' or 's3'" ;;
esac

ADDRESSES=() PIDS=()
for ((i = 0; i < SERVERS; i++)); do
  port=$(free_port)
  {
    printf '[server]\nport = %s\n\n' "$port"
    cat "$WORK/storage"
    printf '\n[access_policy]\ndefault_allow = true\n\n[repository."*".access_policy]\ndefault_allow = true\n'
    printf '\n[[repository.hub.upstream]]\nurl = "http://%s/v2"\n' "$HUB"
  } >"$WORK/$i.toml"
  chmod 600 "$WORK/$i.toml"
  start "$WORK/$i.log" "$BINARY" -c "$WORK/$i.toml" server
  wait_until simple-registry "$PID" "$WORK/$i.log" curl -sf "http://127.0.0.1:$port/healthz"
  ADDRESSES+=("127.0.0.1:$port") PIDS+=("$PID")
done

# received SERVER: the bytes that a server has received from the upstream since its start.
received() {
  curl -sf "http://${ADDRESSES[$1]}/metrics" 2>/dev/null |
    awk '/^simple_registry_upstream_received_bytes_total/ { sum += $NF } END { printf "%d", sum }' || true
}

# ---- clients --------------------------------------------------------------------------------------------------------

# client NUMBER DIGEST: pulls the blob, from the next server after a transfer that broke off; prints the number of its attempts.
client() {
  local attempt got
  for attempt in 1 2 3 4; do
    # a whole answer with wrong bytes is what must never be
    if got=$(set -o pipefail; curl -sS --fail "http://${ADDRESSES[($1 + attempt) % SERVERS]}/v2/hub/library/big/blobs/$2" | sha256sum); then
      [ "sha256:${got%% *}" = "$2" ] || { echo "client $1 got other bytes in attempt $attempt: ${got%% *}"; return 1; }
      echo "$attempt"
      return
    fi
  done
  echo "client $1 has no blob after $attempt attempts"
  return 1
}

# ask DIGEST: begins all clients.
ask() {
  local i
  JOBS=()
  for ((i = 0; i < CLIENTS; i++)); do
    client "$i" "$1" >"$WORK/client.$i" 2>"$WORK/client.$i.err" &
    JOBS+=("$!")
  done
}

# await_clients: waits for all; leaves the number of those that asked again in $RETRIED.
await_clients() {
  local i failed=0
  RETRIED=0
  for ((i = 0; i < CLIENTS; i++)); do
    wait "${JOBS[i]}" || { failed=$((failed + 1)); cat "$WORK/client.$i" "$WORK/client.$i.err" >&2; }
    [ "$(cat "$WORK/client.$i")" = 1 ] || RETRIED=$((RETRIED + 1))
  done
  ((failed == 0)) || die "$failed of $CLIENTS clients failed"
}

# upstream_sent DIGEST MOST: checks the bytes that the upstream has sent, once its log has the last request.
upstream_sent() {
  local bytes=$((MIB << 20)) end=$((SECONDS + 20))
  until (($(sent "$1") >= bytes)); do
    ((SECONDS < end)) || die "the upstream has sent $(sent "$1") bytes of $bytes"
    sleep 0.1
  done
  (($(sent "$1") <= $2)) || { grep -F "$1" "$WORK/hub.log" >&2; die "the upstream has sent $(sent "$1") bytes of a blob of $bytes"; }
}

# ---------------------------------------------------------------------------------------------------------------------

bytes=$((MIB << 20))
push
ask "$DIGEST"
await_clients
same=$RETRIED
((same == 0)) || die "$same clients asked twice although nobody was killed"
upstream_sent "$DIGEST" "$bytes"
echo "ok $CLIENTS clients at $SERVERS servers: one download of $MIB MiB"

for ((i = 0; i < SERVERS; i++)); do before[i]=$(received "$i"); done
push
ask "$DIGEST"
leader=
while [ -z "$leader" ]; do
  for ((i = 0; i < SERVERS; i++)); do
    now=$(received "$i")
    if ((now - before[i] > bytes / 4)); then leader=$i; fi
  done
done
kill -KILL "${PIDS[leader]}"
say "killed server $leader, which had received a quarter"
await_clients
for ((i = 0; i < SERVERS; i++)); do
  if ((i == leader)); then continue; fi
  if (($(received "$i") > before[i])); then taker=$i; fi
done
[ -n "${taker:-}" ] || die "no other server went on with the download: it was over before the kill"
((RETRIED > 0)) || die "no client of the killed server noticed"
((RETRIED <= CLIENTS / SERVERS)) || die "$RETRIED clients asked again; $((CLIENTS / SERVERS)) had asked the killed server"
# what was received and not stored, and what was on its way, comes again
upstream_sent "$DIGEST" "$((bytes + (64 << 20)))"
echo "ok kill -9 of the server that downloads: server $taker went on, $RETRIED clients asked again"
