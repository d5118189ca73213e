#!/usr/bin/env bash
# Installs the tools of the end-to-end suites: Debian's packages (as root), and Go programs into
# ${E2E_TOOLS:-target/e2e-tools}.
#   tests/e2e/install.sh [packages|tools|cargo-deny]...
# Without arguments, packages and tools; cargo-deny is for the check of licences and sources in .ci/run.
# It leaves installed tools as they are, so a second run takes a moment.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# nginx-light, wrk and apache2-utils are what bench/ measures with.
PACKAGES=(docker.io containerd podman runc buildah skopeo openssl nginx-light wrk apache2-utils jq curl ca-certificates)

# One a line: the name of the program, its module's path and version.
GO_TOOLS=(
  "crane github.com/google/go-containerregistry/cmd/crane v0.22.1"
  "regctl github.com/regclient/regclient/cmd/regctl v0.11.7"
  "helm helm.sh/helm/v3/cmd/helm v3.22.0"
  "oras oras.land/oras/cmd/oras v1.2.3"
  "registry github.com/distribution/distribution/v3/cmd/registry v3.1.2"
  "cosign github.com/sigstore/cosign/v3/cmd/cosign v3.1.3"
  "minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c"
)

# took STARTED WHAT: says how long it was.
took() { say "  $2: $((SECONDS - $1)) s"; }

packages() {
  local missing=() package began=$SECONDS
  for package in "${PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if ((${#missing[@]})); then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >&2
    # No daemon of these packages is to run: the tests start their own.
    apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
  fi
  took "$began" "packages"
}

# install_go NAME PATH VERSION: builds the program unless that version is there. It writes a stamp last, so it repeats a
# build that was cut off.
install_go() {
  local name=$1 path=$2 version=$3 stamp="$E2E_TOOLS/stamps/$1" began=$SECONDS
  if [ -x "$E2E_TOOLS/bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$path@$version" ]; then
    return
  fi
  rm -f "$stamp"
  if [ "$name" = oras ]; then
    # By `go build` in a module that requires it, since its list of versions is not to be had.
    local module="$E2E_TOOLS/oras-module"
    mkdir -p "$module"
    printf 'module tools\n\ngo 1.24\n\nrequire oras.land/oras %s\n' "$version" >"$module/go.mod"
    (cd "$module" && GOFLAGS="$GOFLAGS -mod=mod" go build -ldflags='-s -w' -o "$GOBIN/oras" "$path")
  else
    go install -ldflags='-s -w' "$path@$version"
  fi
  echo "$path@$version" >"$stamp"
  took "$began" "$name $version"
}

tools() {
  local tool
  need go
  # Static and without debugging information: quicker to build, and nothing of the machine in them.
  export CGO_ENABLED=0 GOFLAGS=-trimpath GOBIN="$E2E_TOOLS/bin" GOTOOLCHAIN=local
  mkdir -p "$GOBIN" "$E2E_TOOLS/stamps"
  # One after another: each build takes all the cores by itself.
  for tool in "${GO_TOOLS[@]}"; do
    # shellcheck disable=SC2086 # three words
    install_go $tool
  done
}

cargo-deny() {
  local began=$SECONDS
  # not `command -v`, which would find this function
  if type -P cargo-deny >/dev/null; then return; fi
  # Unoptimised and without debugging information: its optimised build takes many times as long, and this one is quick enough.
  CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-deny --version 0.20.2 --locked --debug \
    --root "$E2E_TOOLS" --target-dir "$TARGET/cargo-deny" >&2
  rm -rf "$TARGET/cargo-deny"
  took "$began" "cargo-deny"
}

(($#)) || set -- packages tools
for part; do
  case $part in
    packages | tools | cargo-deny) "$part" ;;
    *) die "no such part: $part; they are 'packages', 'tools' and 'cargo-deny'" ;;
  esac
done
