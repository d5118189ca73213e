#!/usr/bin/env bash
# Shows what each client prints when a rule refuses, as rows of the table in docs/how-to/use-with-clients.md, and fails if a
# client hides the rule's message, or if the page has another row.
#   tests/e2e/refusals.sh [server]        # target/release/simple-registry without an argument
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "${1:-$root/target/release/simple-registry}")
work=$(mktemp -d)
cd "$work"
printf 'server.port = 0\ntoken.signing_key = "key"\n[storage.fs]\nroot_dir = "data"\n[access_policy]\ndefault_allow = true\n' >config.toml
printf '[repository.open.access_policy]\ndefault_allow = true\n[identity.ana]\nusername = "ana"\npassword = "%s"\n' "$(printf pw | "$binary" hash-password)" >>config.toml
mkdir policies
printf 'repositories = ["frozen"]\ndefault = "deny"\n[[rule]]\nname = "freeze"\neffect = "deny"\nwhen = "true"\nmessage = "frozen until Monday"\n' >policies/frozen.toml
: >log
"$binary" server 2>>log &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$work"' EXIT
registry=
until [ -n "$registry" ]; do
  kill -0 $server
  registry=$(sed -n 's/.*"address":"\([0-9.:]*\)".*/\1/p' log)
done
export HOME=$work DOCKER_CONFIG=$work REGISTRY_AUTH_FILE=$work/config.json
printf '{"auths":{"%s":{"auth":"%s"}}}' "$registry" "$(printf ana:pw | base64)" >config.json
echo hello >hello.txt
oras push --plain-http "$registry/open/app:v1" hello.txt >/dev/null 2>&1
skopeo copy --src-tls-verify=false "docker://$registry/open/app:v1" oci:layout:v1 >/dev/null 2>&1
regctl registry set --tls disabled "$registry" >/dev/null 2>&1
helm create web >/dev/null && helm package web >/dev/null
page=$root/docs/how-to/use-with-clients.md
wrong=0
try() {
  local said shown
  if said=$("$@" 2>&1); then echo "not refused: $*"; wrong=1; return; fi
  # the last line with the message; digests, addresses and times differ from run to run
  shown=$(grep -F 'frozen until Monday' <<<"$said" | tail -n 1 | sed -E "s/$registry/REGISTRY/g; s/sha256:[0-9a-f]{64}/DIGEST/g; s/time=\"?[0-9T:.Z-]+\"? //; s#^[0-9/]+ [0-9:]+ ##; s/\\|/\\\\|/g")
  if [ -z "$shown" ]; then echo "hides the message: $*"; tail -n 2 <<<"$said"; wrong=1; return; fi
  local row="| \`${*//$registry/REGISTRY}\` | \`$shown\` |"
  echo "$row"
  grep -qF -- "$row" "$page" || { echo "not in $page"; wrong=1; }
}
try podman pull --tls-verify=false "$registry/frozen/app:v1"
try skopeo inspect --tls-verify=false "docker://$registry/frozen/app:v1"
try skopeo copy --dest-tls-verify=false oci:layout:v1 "docker://$registry/frozen/app:v1"
try crane manifest "$registry/frozen/app:v1"
try crane push layout "$registry/frozen/app:v1"
try oras pull --plain-http "$registry/frozen/app:v1"
try oras push --plain-http "$registry/frozen/app:v1" hello.txt
try regctl manifest head "$registry/frozen/app:v1"
try regctl image copy "$registry/open/app:v1" "$registry/frozen/app:v1"
try helm pull --plain-http --registry-config config.json --version 0.1.0 "oci://$registry/frozen/web"
try helm push --plain-http --registry-config config.json web-0.1.0.tgz "oci://$registry/frozen"
exit $wrong
