#!/usr/bin/env bash
# Makes certificates for a trial of TLS, by openssl: an authority, a server, clients, a revocation list. They are for
# development: the keys are not encrypted, and the authority's key lies beside the others.
set -euo pipefail

usage() {
  cat <<'END'
usage: certs/make.sh [-d DIR] [COMMAND]

  init [NAME...]       the authority, its empty revocation list, and a server certificate for localhost, 127.0.0.1, ::1
                       and NAMEs (host names or addresses); the default, and what the other commands begin with
  client NAME[/ORG[/UNIT]]...
                       client certificates: common name, organization, organizational unit, and the URI
                       spiffe://registry.test/NAME
  revoke NAME...       puts clients' certificates on the revocation list
  list                 renews the revocation list, which is valid for 30 days

DIR is certs/dev beside this script, unless -d names another. Existing files stay as they are, so any command can be
repeated. To make a certificate anew, delete its .pem file first. The script itself makes a certificate anew if it has
expired, if another authority signed it, or if it lacks a given server NAME. A server certificate that is made anew
without NAMEs keeps the names that it had.
END
}

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

DAYS_AUTHORITY=3650
DAYS=825
DAYS_LIST=30

dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/dev
while getopts d:h option; do
  case $option in
    d) dir=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
command=${1:-init}
(($# == 0)) || shift
command -v openssl >/dev/null || die "openssl is not there; install it, or make certificates with another authority"
openssl version | grep -q '^OpenSSL [3-9]' || die "OpenSSL 3 or newer is needed; this is $(openssl version)"

# From their creation on, only their owner can read keys.
umask 077
mkdir -p "$dir"
cd "$dir"
dir=$PWD

# run COMMAND...: silent, unless it fails.
run() {
  local said
  said=$("$@" 2>&1) || die "$* failed: $said"
}

# The authority's book has its signed certificates and their revocations.
book() {
  mkdir -p authority/certs
  [ -f authority/index.txt ] || : >authority/index.txt
  [ -f authority/serial ] || openssl rand -hex 15 | sed 's/^/01/' >authority/serial
  [ -f authority/crlnumber ] || echo 01 >authority/crlnumber
  cat >authority/openssl.cnf <<END
[ca]
default_ca = book
[book]
dir = authority
database = authority/index.txt
serial = authority/serial
crlnumber = authority/crlnumber
new_certs_dir = authority/certs
certificate = ca.pem
private_key = ca-key.pem
default_md = sha256
default_days = $DAYS
default_crl_days = $DAYS_LIST
unique_subject = no
policy = any
# Organizations may be in any language.
string_mask = utf8only
utf8 = yes
[any]
organizationName = optional
organizationalUnitName = optional
commonName = supplied
[req]
distinguished_name = empty
string_mask = utf8only
utf8 = yes
prompt = no
[empty]
END
}

authority() {
  book
  if [ ! -f ca.pem ]; then
    run openssl req -x509 -config authority/openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
      -keyout ca-key.pem -out ca.pem.new -days "$DAYS_AUTHORITY" -subj "/CN=Development authority $(openssl rand -hex 4)" \
      -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
      -addext "subjectKeyIdentifier=hash"
    mv ca.pem.new ca.pem
    # Certificates of an earlier authority do not count for this one.
    : >authority/index.txt
    rm -f crl.pem
  fi
  [ -f crl.pem ] || renew_list
}

# Writes under another name first, so that a watcher of the file never reads half of it.
renew_list() {
  run openssl ca -config authority/openssl.cnf -gencrl -out crl.pem.new
  mv crl.pem.new crl.pem
}

# sign NAME SUBJECT EXTENSIONS: NAME.pem and NAME-key.pem.
sign() {
  run openssl req -config authority/openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -utf8 \
    -keyout "$1-key.pem.new" -out "$1.csr" -subj "$2"
  run openssl ca -config authority/openssl.cnf -batch -notext -in "$1.csr" -out "$1.pem.new" \
    -extfile <(printf '%s\n' "basicConstraints=critical,CA:FALSE" "authorityKeyIdentifier=keyid" "subjectKeyIdentifier=hash" "$3")
  mv "$1-key.pem.new" "$1-key.pem"
  mv "$1.pem.new" "$1.pem"
  rm -f "$1.csr"
}

# good NAME: checks that NAME.pem exists, that this authority signed it, and that it has not expired.
good() { [ -f "$1.pem" ] && openssl verify -CAfile ca.pem "$1.pem" >/dev/null 2>&1; }

# server NAME...: adds the names that every development server has.
server() {
  local name alternatives="" known=""
  if [ -f server.pem ]; then known=$(openssl x509 -in server.pem -noout -ext subjectAltName 2>/dev/null || true); fi
  if ! good server; then
    # Without names, the certificate that is made anew keeps the names that it had.
    if (($# == 0)) && [ -n "$known" ]; then
      while read -r name; do set -- "$@" "$name"; done < <(
        tail -n +2 <<<"$known" | tr ',' '\n' | sed -E 's/^ *(DNS|IP Address)://' |
          grep -vxE 'localhost|127\.0\.0\.1|(0:){7}1'
      )
    fi
    known=""
  fi
  for name in localhost 127.0.0.1 ::1 "$@"; do
    [[ $name =~ ^[A-Za-z0-9.:*-]+$ ]] || die "'$name' is neither a host name nor an address"
    if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then
      alternatives+=",IP:$name"
    else
      alternatives+=",DNS:$name"
    fi
  done
  if [ -n "$known" ]; then
    local missing=0
    for name; do
      # openssl writes addresses of version 6 in a form of its own; such a name makes the certificate anew.
      grep -qE "(DNS|IP Address):${name//[.*]/\\&}(,|\$)" <<<"$known" || missing=1
    done
    ((missing)) || return 0
  fi
  # A common name has 64 characters at most.
  name=${1:-localhost}
  ((${#name} <= 64)) || name=localhost
  sign server "/CN=$name" \
    "$(printf '%s\n' "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth" "subjectAltName=${alternatives#,}")"
}

# client NAME[/ORG[/UNIT]]
client() {
  local name org unit subject
  IFS=/ read -r name org unit <<<"$1"
  [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || die "'$name' cannot be the name of a client: letters, digits, '.', '_', '-'"
  case $name in ca | server | crl | *-key) die "'$name' is taken by a file of this directory; name the client otherwise" ;; esac
  if good "$name"; then return; fi
  subject="/CN=$name${org:+/O=$org}${unit:+/OU=$unit}"
  sign "$name" "$subject" \
    "$(printf '%s\n' "keyUsage=critical,digitalSignature" "extendedKeyUsage=clientAuth" "subjectAltName=URI:spiffe://registry.test/$name")"
}

revoke() {
  [ -f "$1.pem" ] || die "there is no certificate of $1 in $dir"
  local serial
  serial=$(openssl x509 -in "$1.pem" -noout -serial | cut -d= -f2)
  # Of the book's columns the first is the state and the fourth the number.
  case $(awk -F'\t' -v serial="$serial" '$4 == serial { print $1 }' authority/index.txt) in
    R) ;;
    '') die "$1.pem was signed by another authority" ;;
    *) run openssl ca -config authority/openssl.cnf -revoke "$1.pem" ;;
  esac
}

summary() {
  local file
  echo "in $dir:"
  for file in *.pem; do
    case $file in
      *-key.pem) ;;
      crl.pem)
        printf '  %-20s %s revoked, next update %s\n' "$file" \
          "$(grep -c '^R' authority/index.txt || true)" "$(openssl crl -in "$file" -noout -nextupdate | cut -d= -f2)"
        ;;
      *)
        printf '  %-20s %s, until %s\n' "$file" "$(openssl x509 -in "$file" -noout -subject -nameopt utf8,sep_comma_plus_space | cut -d= -f2-)" \
          "$(openssl x509 -in "$file" -noout -enddate | cut -d= -f2)"
        ;;
    esac
  done
  cat <<END

for config.toml:

[server.tls]
server_certificate_bundle = "$dir/server.pem"
server_private_key = "$dir/server-key.pem"
client_ca_bundle = "$dir/ca.pem"
client_auth = "optional"
client_crl = "$dir/crl.pem"
END
}

case $command in
  init) authority; server "$@" ;;
  client)
    (($#)) || die "name at least one client: certs/make.sh client ci/ci"
    authority
    server
    for one; do client "$one"; done
    ;;
  revoke)
    (($#)) || die "name at least one client: certs/make.sh revoke ci"
    authority
    for one; do revoke "$one"; done
    renew_list
    ;;
  list) authority; renew_list ;;
  *) usage >&2; exit 2 ;;
esac
summary
