#!/usr/bin/env bash
# Runs a command with an S3 server of its own, which is gone afterwards.
#   tests/e2e/minio.sh COMMAND...
# COMMAND finds its address in $SIMPLE_REGISTRY_TEST_S3 (http://127.0.0.1:PORT); the access key and its secret are
# `minioadmin` both. There is no bucket yet.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($#)) || die "usage: tests/e2e/minio.sh COMMAND..."
begin
start_minio
export SIMPLE_REGISTRY_TEST_S3=$S3
"$@"
