#!/usr/bin/env bash
# Pushes and pulls with the clients that people use, and compares digests.
#   tests/e2e/clients.sh [directory|s3] [client...]
# Without $REGISTRY (host:port) it starts target/release/simple-registry itself. Without clients it takes all of clients/.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

CLIENT_SECONDS=${CLIENT_SECONDS:-300}

backend=directory
case ${1:-} in
  directory | s3) backend=$1; shift ;;
esac
if (($# == 0)); then
  set -- skopeo podman buildah docker ctr crane oras regctl helm
fi
for client; do
  [ -f "$E2E/clients/$client.sh" ] || die "no such client: $client; there are: $(cd "$E2E/clients" && echo *.sh)"
done

begin
start_registry "$backend"
say "clients against $BACKEND at $REGISTRY"
passed=0 failed=0
for client; do
  began=$SECONDS
  log="$WORK/$client.log"
  logged=$(registry_log_lines)
  if TMPDIR=$WORK timeout --kill-after=20 "$CLIENT_SECONDS" bash "$E2E/clients/$client.sh" >"$WORK/$client.out" 2>"$log" </dev/null; then
    passed=$((passed + 1))
    echo "ok $client: $(tail -n 1 "$WORK/$client.out") ($((SECONDS - began)) s)"
  else
    status=$?
    failed=$((failed + 1))
    echo "FAIL $client: exit code $status after $((SECONDS - began)) s; the end of its log:"
    tail -n 30 "$WORK/$client.out" "$log" | sed 's/^/    /'
    echo "  and of what the registry logged meanwhile:"
    registry_log_since "$logged" | sed 's/^/    /'
  fi
done
echo "$passed passed, $failed failed"
((failed == 0))
