#!/usr/bin/env bash
# Runs the official conformance suite against the registry, on a directory and on S3, for the draft and for 1.1.
#   OCI_CONFORMANCE=<its binary> tests/e2e/conformance.sh [directory|s3]...
# The binary is built by hand from opencontainers/distribution-spec, folder conformance/: `go build -o <its binary> .`
# Reports are kept in target/conformance/<backend>-<version>/.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -z "${OCI_CONFORMANCE:-}" ]; then
  echo "OCI_CONFORMANCE is not set: the official suite was not run (it names that suite's binary; tests/e2e/README.md says how to build it)"
  exit 0
fi
[ -x "$OCI_CONFORMANCE" ] || die "OCI_CONFORMANCE names $OCI_CONFORMANCE, which cannot be run"

# run_suite BACKEND VERSION: runs the suite with the version's own settings. `dev` has everything on except sparse
# content. 1.1 leaves out later parts, which then count as disabled. Prints a line about the suite's JUnit report, since
# the suite exits with 0 even if it could not reach the registry.
run_suite() {
  local results="$TARGET/conformance/$1-$2" report name
  rm -rf "$results"
  mkdir -p "$results"
  env OCI_VERSION="$2" OCI_REGISTRY="$REGISTRY" OCI_TLS=disabled OCI_RESULTS_DIR="$results" \
    OCI_REPO1="conformance/$RANDOM-one" OCI_REPO2="conformance/$RANDOM-two" \
    "$OCI_CONFORMANCE" >"$results/output" 2>&1 || true
  report="$results/junit.xml"
  if [ ! -f "$report" ]; then
    tail -n 20 "$results/output" >&2
    echo "FAIL $1, $2: no report"
    return 1
  fi
  local -A count=([tests]=0 [failures]=0 [errors]=0 [skipped]=0 [disabled]=0)
  local root
  root=$(grep -o -m 1 '<testsuites [^>]*>' "$report" || true)
  for name in "${!count[@]}"; do
    # An attribute that is nought is left out.
    [[ ! $root =~ [[:space:]]$name=\"([0-9]+)\" ]] || count[$name]=${BASH_REMATCH[1]}
  done
  local line="$1, $2: ${count[tests]} tests, ${count[failures]} failures, ${count[errors]} errors, ${count[skipped]} skipped, ${count[disabled]} disabled"
  local amiss=$((count[failures] + count[errors] + count[skipped]))
  [ "$2" != dev ] || amiss=$((amiss + count[disabled]))
  if ((count[tests] > 0 && amiss == 0)); then
    echo "ok $line"
  else
    echo "FAIL $line; see $results/report.html"
    grep -o '<testcase name="[^"]*" classname="[^"]*"[^>]* status="\(failure\|error\|skipped\)"' "$report" | sed 's/^<testcase /    /' | head -n 40
    return 1
  fi
}

(($#)) || set -- directory s3
given=${REGISTRY:-}
passed=0 failed=0
for backend; do
  for version in dev 1.1; do
    # In a shell of its own, so that each run has an empty server; not as a condition, where `set -e` would not hold.
    set +e
    (set -e; REGISTRY=$given; begin; start_registry "$backend"; run_suite "$backend" "$version")
    status=$?
    set -e
    if ((status == 0)); then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  done
done
echo "$passed passed, $failed failed"
((failed == 0))
