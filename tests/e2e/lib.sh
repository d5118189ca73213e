# Shared code of the end-to-end scripts; sourced, never run. It sets the shell's strict mode, and finds the project and
# the tools. It keeps a temporary folder ($WORK) and a list of started processes; both are gone when the script ends.
# shellcheck shell=bash
set -euo pipefail

# Not from `git rev-parse`: a copy of the tree without its repository must do, too.
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
E2E="$PROJECT/tests/e2e"
export PROJECT E2E
TARGET=${CARGO_TARGET_DIR:-$PROJECT/target}
E2E_TOOLS=${E2E_TOOLS:-$TARGET/e2e-tools}
# The daemons live in sbin, which is not on everyone's PATH.
export PATH="$E2E_TOOLS/bin:$PATH:/usr/sbin:/sbin"

# A proxy that the machine has for the outside would be asked for 127.0.0.1, too.
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost

S3_KEY=minioadmin
S3_SECRET=minioadmin
S3_REGION=us-east-1

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# need TOOL...: ends the script unless every TOOL can be run.
need() {
  local tool
  for tool; do
    command -v "$tool" >/dev/null || die "$tool is not there; run tests/e2e/install.sh first"
  done
}

# ---- temporary folder, processes, end -------------------------------------------------------------------------------

STARTED=()

# begin: makes $WORK and sees to it that nothing is left behind, however the script ends.
# The name is short since sockets and podman's run root may not have long ones.
begin() {
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/sr-e2e.XXXXXX")
  export WORK
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# The last started goes first: a server before the storage under it.
finish() {
  local status=$? i
  trap - EXIT INT TERM
  for ((i = ${#STARTED[@]} - 1; i >= 0; i--)); do
    stop_process "${STARTED[i]}"
  done
  unmount_below "$WORK"
  if [ -n "${E2E_KEEP:-}" ]; then
    say "kept, as E2E_KEEP asks: $WORK"
  else
    rm -rf "$WORK"
  fi
  exit "$status"
}

# stop_process PID: asks, waits up to 10 s, then insists.
stop_process() {
  local pid=$1 i
  kill -TERM "$pid" 2>/dev/null || return 0
  for ((i = 0; i < 100; i++)); do
    kill -0 "$pid" 2>/dev/null || { wait "$pid" 2>/dev/null || true; return 0; }
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

# unmount_below DIR: container engines that were killed may leave mounts, and `rm -rf` must not walk into one.
unmount_below() {
  local mount
  awk -v dir="$1/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
    umount -l "$mount" 2>/dev/null || true
  done
}

# start LOG COMMAND...: runs COMMAND in the background with its output in LOG; leaves its process id in $PID.
start() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null &
  PID=$!
  STARTED+=("$PID")
}

# wait_until WHAT PID LOG COMMAND...: until COMMAND succeeds; fails after 60 s, or at once when process PID is gone.
wait_until() {
  local what=$1 pid=$2 log=$3 end=$((SECONDS + 60))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 40 "$log" >&2
      die "$what ended before it was ready; the last lines of its log are above"
    fi
    if ((SECONDS >= end)); then
      tail -n 40 "$log" >&2
      die "$what was not ready within 60 s; the last lines of its log are above"
    fi
    sleep 0.1
  done
}

# free_port: prints a TCP port of 127.0.0.1 that nothing listens on, below the range that outgoing connections take.
free_port() {
  local port
  while :; do
    port=$((10000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# ---- an S3 server ---------------------------------------------------------------------------------------------------

# start_minio: a MinIO with an empty store of its own; leaves its address in $S3.
start_minio() {
  need minio curl
  local port log="$WORK/minio.log"
  port=$(free_port)
  S3="http://127.0.0.1:$port"
  mkdir -p "$WORK/minio"
  MINIO_ROOT_USER=$S3_KEY MINIO_ROOT_PASSWORD=$S3_SECRET MINIO_BROWSER=off MINIO_UPDATE=off \
    start "$log" minio server --quiet --address "127.0.0.1:$port" "$WORK/minio"
  # MinIO calls itself ready before it answers the S3 API, so the API is asked.
  wait_until minio "$PID" "$log" curl -sf --user "$S3_KEY:$S3_SECRET" --aws-sigv4 "aws:amz:$S3_REGION:s3" "$S3/"
}

# make_bucket NAME: by a signed PUT, as the S3 API has it.
make_bucket() {
  curl -sS --fail-with-body -X PUT --user "$S3_KEY:$S3_SECRET" --aws-sigv4 "aws:amz:$S3_REGION:s3" "$S3/$1" >&2
}

# ---- the registry ---------------------------------------------------------------------------------------------------

# start_registry directory|s3: leaves host:port in $REGISTRY. Where $REGISTRY is set already, that one is used as it is.
start_registry() {
  local backend=$1
  export REGISTRY BACKEND
  if [ -n "${REGISTRY:-}" ]; then
    BACKEND="$backend, as served by $REGISTRY"
    return
  fi
  BACKEND=$backend
  local binary="$TARGET/release/simple-registry" config="$WORK/config.toml" log="$WORK/registry.log" port
  [ -x "$binary" ] || die "$binary is not there; run 'cargo build --release' first"
  need curl
  port=$(free_port)
  case $backend in
    directory) ;;
    s3) start_minio; make_bucket registry ;;
    *) die "no such backend: $backend; it is 'directory' or 's3'" ;;
  esac
  registry_config "$backend" "$port" >"$config"
  start "$log" "$binary" -c "$config" server
  REGISTRY="127.0.0.1:$port"
  wait_until simple-registry "$PID" "$log" curl -sf "http://$REGISTRY/healthz"
}

# registry_config directory|s3 PORT: prints a configuration that is open to everyone.
registry_config() {
  printf '[server]\nport = %s\n\n' "$2"
  case $1 in
    directory) printf '[storage.fs]\nroot_dir = "%s"\n\n' "$WORK/registry" ;;
    s3)
      printf '[storage.s3]\naccess_key_id = "%s"\nsecret_key = "%s"\n' "$S3_KEY" "$S3_SECRET"
      printf 'endpoint = "%s"\nbucket = "registry"\nregion = "%s"\nkey_prefix = "e2e"\n\n' "$S3" "$S3_REGION"
      ;;
  esac
  printf '[access_policy]\ndefault_allow = true\n\n[repository."*".access_policy]\ndefault_allow = true\n'
}

# registry_log_lines: how many lines the server has logged so far, where it is ours.
registry_log_lines() { if [ -f "$WORK/registry.log" ]; then wc -l <"$WORK/registry.log"; else echo 0; fi; }

# registry_log_since LINES: the end of what it has logged after its first LINES lines.
registry_log_since() {
  [ ! -f "$WORK/registry.log" ] || tail -n "+$(($1 + 1))" "$WORK/registry.log" | tail -n 30
}
