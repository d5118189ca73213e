#!/usr/bin/env bash
# Runs a command with an S3 server of its own, which is gone afterwards.
#   tests/e2e/minio.sh COMMAND...
# COMMAND finds its address in $SIMPLE_REGISTRY_TEST_S3 (http://127.0.0.1:PORT), the key and its secret in
# $SIMPLE_REGISTRY_TEST_S3_KEY and $SIMPLE_REGISTRY_TEST_S3_SECRET. There is no bucket yet.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($#)) || die "usage: tests/e2e/minio.sh COMMAND..."
begin
start_minio
export SIMPLE_REGISTRY_TEST_S3=$S3 SIMPLE_REGISTRY_TEST_S3_KEY=$S3_KEY SIMPLE_REGISTRY_TEST_S3_SECRET=$S3_SECRET
"$@"
