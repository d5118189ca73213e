"""Sets up the group `access`: certificates, one identity, policies, and servers with them."""

import base64
import http.client
import json
import ssl
import subprocess
from pathlib import Path
from urllib.parse import quote

from servers import Candidate

USERNAME, PASSWORD = "ana", "correct horse battery staple"
BASIC = "Authorization: Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()

# Few rules, as a registry has them: who pushes, who pulls, who deletes.
FEW_RULES = """
description  = "CI and staff push, everyone pulls, releases stay"
kind         = "access"
repositories = ["bench"]
default      = "deny"

[[rule]]
name   = "releases-stay"
effect = "deny"
when   = 'request.access == "delete" && request.reference.startsWith("v")'

[[rule]]
name   = "ci-pushes"
effect = "allow"
when   = 'request.access == "push" && identity.certificate.organizations.contains("ci")'

[[rule]]
name   = "staff-pushes"
effect = "allow"
when   = 'request.access == "push" && identity.groups.contains("staff")'

[[rule]]
name   = "everyone-pulls"
effect = "allow"
when   = 'request.access == "pull"'
"""

# Rules of the kinds that people write, none of which is true of the bench's requests; `#` becomes the rule's number.
UNDECIDED = [
    'identity.certificate.organizations.contains("team-#")',
    'identity.username == "robot-#" || identity.username == "deploy-#"',
    'identity.groups.exists(group, group == "team-#" || group == "leads-#")',
    'request.namespace.startsWith("bench/team-#/") || identity.groups.contains("team-#")',
    'request.access == "pull" && request.reference.matches("^rc-#[.][0-9]+$")',
    'request.action in ["delete-manifest", "delete-blob"] || request.reference == "v#.0"',
]


def many_rules(count):
    """A policy of `count` rules, the last of which decides, half of the others to deny and half to allow; 0: its default decides."""
    text = f'kind = "access"\nrepositories = ["bench"]\ndefault = "{"deny" if count else "allow"}"\n'
    for number in range(1, count):
        when = UNDECIDED[number % len(UNDECIDED)].replace("#", str(number))
        text += f"\n[[rule]]\nname = \"rule-{number}\"\neffect = \"{'deny' if number % 2 else 'allow'}\"\nwhen = '{when}'\n"
    if count:
        text += "\n[[rule]]\nname = \"everyone-pulls\"\neffect = \"allow\"\nwhen = 'request.access == \"pull\"'\n"
    return text


class Certificates:
    """An authority, a server's certificate for 127.0.0.1 and a client's, made by openssl in a folder; ECDSA on P-256."""

    def __init__(self, openssl, folder):
        self.openssl, self.dir = openssl, Path(folder)
        self.dir.mkdir(parents=True)
        self.ca = self.dir / "ca.pem"
        request = [*self.new_key("ca"), "-x509", "-days", "2", "-subj", "/CN=bench authority", "-out", self.ca]
        self.run("req", *request)
        self.cert, self.key = self.issue("server", "/CN=bench server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        self.client_cert, self.client_key = self.issue("client", "/O=ci/OU=builders/CN=builder-1", "extendedKeyUsage=clientAuth\n")
        self.context = ssl.create_default_context(cafile=str(self.ca))

    def new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.dir / f"{name}.key"]

    def issue(self, name, subject, extensions):
        """A certificate of the authority; the paths of it and of its key."""
        request, certificate, extra = (self.dir / f"{name}.{end}" for end in ("csr", "pem", "ext"))
        extra.write_text("basicConstraints=CA:FALSE\n" + extensions)
        self.run("req", *self.new_key(name), "-subj", subject, "-out", request)
        authority = ["-CA", self.ca, "-CAkey", self.dir / "ca.key", "-CAcreateserial"]
        self.run("x509", "-req", "-in", request, *authority, "-days", "2", "-extfile", extra, "-out", certificate)
        return certificate, self.dir / f"{name}.key"

    def run(self, *words):
        done = subprocess.run([self.openssl, *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {words[0]}: {done.stderr.strip()[-300:]}")

    def trust(self, client=False):
        """The load tools' options for this authority, and for the client's certificate."""
        own = {"cert": self.client_cert, "key": self.client_key} if client else {}
        return {"tls": self.ca, **own}


class Guarded(Candidate):
    """simple-registry with one identity and one policy file; over TLS, with the client authority, where there are certificates.

    All of a run's have one store, which was filled before.
    """

    def __init__(self, run, folder, store, password_hash, policy=FEW_RULES, certificates=None, extra=""):
        super().__init__(run.binary, run.work / folder)
        self.store = store
        self.context = certificates.context if certificates else None
        self.policy = policy
        tls = certificates and (
            f'[server.tls]\nserver_certificate_bundle = "{certificates.cert}"\nserver_private_key = "{certificates.key}"\n'
            f'client_ca_bundle = "{certificates.ca}"\n\n'
        )
        self.access = (
            f'policy_dir = "{self.dir}/policies"\n\n{tls or ""}'
            f"[identity.ana]\nusername = \"{USERNAME}\"\npassword = '{password_hash}'\ngroups = [\"staff\"]\n\n"
            f'[token]\nsigning_key = "{self.dir}/token.key"\n\n{extra.format(dir=self.dir)}'
        )

    def command(self):
        policies = self.dir / "policies"
        policies.mkdir(exist_ok=True)
        (policies / "bench.toml").write_text(self.policy)
        return super().command()

    def token(self, repo):
        """A bearer token for pulls of a repository, as docker asks for one."""
        name, value = BASIC.split(": ")
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.request("GET", f"/token?service=bench&scope={quote(f'repository:{repo}:pull')}", headers={name: value})
        answer = client.getresponse()
        body = answer.read()
        client.close()
        if answer.status != 200:
            raise RuntimeError(f"/token: {answer.status} {body[:300]!r}")
        return json.loads(body)["token"]


def hash_password(binary):
    """The hash of the bench's password, made by the registry itself with its own parameters."""
    done = subprocess.run([binary, "hash-password"], input=PASSWORD + "\n", capture_output=True, text=True, timeout=60)
    if done.returncode != 0 or not done.stdout.startswith("$"):
        raise RuntimeError(f"hash-password: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout.strip()
