"""Measures the cost of passwords, tokens, certificates, rules and the record of decisions, and of TLS beside nginx.

Everything is simple-registry against itself, or against nginx: each figure's limit is the same without what is measured.
"""

import os
import subprocess
import threading
import time

from access import BASIC, USERNAME, Certificates, Guarded, hash_password, many_rules
from build import need
from images import ACCEPT, Client
from measure import guarded, median
from report import at_most, milliseconds, rate, speed
from servers import Candidate, Nginx

MIB = 1 << 20
REPO = "bench/app"
MANIFEST = f"/v2/{REPO}/manifests/v1"
CONNECTIONS = 32
FLOOD_CLIENTS = 16
RULES = 20
# Goals: relative to anonymous requests, to requests without wrong passwords, and to nginx; and times.
OF_ANONYMOUS, OF_CALM, OF_NGINX, HEALTH_MS, DECISION_US = 0.9, 0.7, 0.9, 10, 20


def measure(run):
    table = run.table(
        "Access",
        f"`GET` of a manifest by tag over {CONNECTIONS} kept connections by the bench's own tool, unless a row says otherwise. All rows have the same identity, "
        "client authority and policy file of four rules. Each row is compared with the same requests over the same transport, without the feature of the row. "
        "TLS is 1.3 with AES-256-GCM and a certificate on P-256.",
    )
    bench = Bench(run, table)
    for name, part in (
        ("logged in", bench.logged_in),
        ("wrong passwords", bench.wrong_passwords),
        ("rules", bench.rules),
        ("the record of decisions", bench.record),
        ("pulls over TLS", bench.pulls),
        ("handshakes", bench.handshakes),
    ):
        guarded(table, name, part)
        bench.stop()


class Bench:
    """Holds the group's certificates, its store with an image and a blob, and the servers of the running part."""

    def __init__(self, run, table):
        self.run, self.table = run, table
        self.certificates = Certificates(need("openssl"), run.work / "certificates")
        self.hash = hash_password(run.binary)
        self.seconds = run.pick(1, 3)
        self.running = []
        filler = Candidate(run.binary, run.work / "access-store")
        filler.start()
        Client(filler.addr).push_image(REPO, "v1", [4096, 4096])
        self.blob_mib = run.pick(100, 1024)
        self.blob = run.tool("push", addr=filler.addr, repo=REPO, size=self.blob_mib * MIB, mode="mono")["digests"][0]
        self.store = filler.store
        filler.stop()

    def server(self, folder, **options):
        """A started server with the group's identity; see `Guarded` for the options."""
        server = Guarded(self.run, folder, self.store, self.hash, **options)
        self.running.append(server)
        server.start()
        return server

    def nginx(self):
        server = Nginx(self.run.nginx, self.run.work / "access-nginx", self.store, self.certificates)
        self.running.append(server)
        server.start()
        return server

    def stop(self):
        for server in self.running:
            server.stop()
        self.running = []

    def load(self, server, headers=(), path=MANIFEST, **options):
        """Makes requests on kept connections, and returns the server's processor time per request."""
        settings = {"connections": CONNECTIONS, "seconds": self.seconds, **options}
        before = server.processor_seconds()
        result = self.run.tool("load", addr=server.addr, path=path, header=[f"Accept: {ACCEPT}", *headers], **settings)
        return {**result, "cpu_us": (server.processor_seconds() - before) / result["requests"] * 1e6}

    def callers(self, server):
        """Turns of plain HTTP: anonymous, with a password, with a token. A token is asked for before each turn, since it expires."""
        return {
            "anonymous": lambda **options: self.load(server, **options),
            "with a password": lambda **options: self.load(server, [BASIC], **options),
            "with a token": lambda **options: self.load(server, [f"Authorization: Bearer {server.token(REPO)}"], **options),
        }

    def row(self, name, results, one, label, other, reach=None, processor=True):
        """Requests per second of one contestant beside another's, its p99, and the server's own time per request."""
        def both(key):
            return [median(results[who], key) for who in (one, other)]

        figures, times = both("requests_per_second"), both("p99_ms")
        self.table.compare(name, figures[0], None, rate, limit=(label, figures[1]), limit_reach=reach)
        self.table.compare("… p99", times[0], None, milliseconds, less=True, limit=(label, times[1]))
        if processor:
            used = both("cpu_us")
            self.table.compare("… processor time of the server per request", used[0], None, microseconds, less=True, limit=(label, used[1]))

    def logged_in(self):
        plain, secure = self.server("access-plain"), self.server("access-tls", certificates=self.certificates)
        trust, own = self.certificates.trust(), self.certificates.trust(client=True)
        results = self.run.turns({
            **self.callers(plain),
            "anonymous over TLS": lambda: self.load(secure, **trust),
            "with a client certificate": lambda: self.load(secure, **own),
        })
        for who in ("with a password", "with a token"):
            self.row(f"{who}, HTTP", results, who, "anonymous", "anonymous", OF_ANONYMOUS)
        self.row("with a client certificate, TLS", results, "with a client certificate", "anonymous", "anonymous over TLS", OF_ANONYMOUS)
        self.row("anonymous, TLS", results, "anonymous over TLS", "anonymous over HTTP", "anonymous")

    def wrong_passwords(self):
        server = self.server("access-flood")
        callers = self.callers(server)
        results = self.run.turns({
            **callers,
            **{("flood", who): lambda turn=turn: self.flooded(server, turn) for who, turn in callers.items()},
            "health": lambda: self.flooded(server, lambda: time.sleep(self.seconds) or {}),
        })
        for who in callers:
            name = f"{who}, HTTP, while {FLOOD_CLIENTS} clients try wrong passwords"
            self.row(name, results, ("flood", who), "without them", who, OF_CALM, processor=False)
        health = [
            ("meanwhile", median([turn for who in callers for turn in results["flood", who]], "health_ms")),
            ("while only they are there", median(results["health"], "health_ms")),
        ]
        for when, worst in health:
            goal = at_most(worst, HEALTH_MS, f"under {HEALTH_MS} ms")
            self.table.compare(f"`/healthz` {when}, p99", worst, None, milliseconds, less=True, goals=[goal])
        tried = [median(results["health"], f"{what}_per_second") for what in ("looked_at", "turned_away")]
        self.table.notes.append(f"Wrong passwords verified, and wrong passwords turned away unverified, while nothing else went on: {rate(tried[0])}, {rate(tried[1])}.")

    def flooded(self, server, turn):
        """A turn while others try passwords, as fast as they are answered, and `/healthz` is asked every few milliseconds."""
        self.load(server, [BASIC], connections=1, seconds=0)  # the right password is known by now, as in a registry at work
        seconds = self.seconds + 1
        flood = Aside(lambda: self.run.tool("guess", addr=server.addr, path=MANIFEST, username=USERNAME, clients=FLOOD_CLIENTS, seconds=seconds))
        time.sleep(0.5)
        health = Aside(lambda: self.load(server, path="/healthz", connections=1, pause_ms=3))
        result = turn()
        tried = flood.result()
        return {**result, "health_ms": health.result()["p99_ms"], **{key: tried[key] for key in tried if key.endswith("_per_second")}}

    def rules(self):
        without, with_rules = (self.server(f"access-{count}-rules", policy=many_rules(count)) for count in (0, RULES))
        contestants = {
            (who, count): turn
            for count, server in ((0, without), (RULES, with_rules))
            for who, turn in self.callers(server).items()
            if who != "with a token"
        }
        results = self.run.turns(contestants)
        for who in ("anonymous", "with a password"):
            name = f"{who}, HTTP, {RULES} rules of which the last decides"
            self.row(name, results, (who, RULES), "no rules", (who, 0))
            seconds = [1 / median(results[who, count], "requests_per_second") for count in (RULES, 0)]
            decision = (seconds[0] - seconds[1]) * os.cpu_count() * 1e6
            used = [median(results[who, count], "cpu_us") for count in (RULES, 0)]
            # The first has the noise of the whole machine in it, the second misses what the server makes others do: both must hold.
            for name, figure in (("… a decision", decision), ("… a decision, by the server's own processor time", used[0] - used[1])):
                goal = at_most(figure, DECISION_US, f"under {DECISION_US} µs")
                self.table.compare(name, figure, None, microseconds, goals=[goal])
        self.table.notes.append("A decision: the difference in time per request, times the number of cores.")

    def record(self):
        off = self.server("access-record-off")
        on = self.server("access-record-on", extra='[audit]\nfile = "{dir}/decisions.jsonl"\n\n')
        results = self.run.turns({"off": lambda: self.load(off), "on": lambda: self.load(on)})
        self.row("anonymous, HTTP, decisions recorded in a file", results, "on", "off", "off")

    def pulls(self):
        secure, nginx = self.server("access-tls", certificates=self.certificates), self.nginx()
        path, file = f"/v2/{REPO}/blobs/{self.blob}", self.blob_file()
        trust, size = self.certificates.trust(), self.blob_mib * MIB
        seconds = self.run.pick(0.5, 2.5)
        for clients in (1, 4):
            def pull(server, target):
                return lambda: self.run.tool("pull", addr=server.addr, path=target, size=size, clients=clients, seconds=seconds, **trust)

            results = self.run.turns({"ours": pull(secure, path), "nginx": pull(nginx, file)})
            figures = [median(results[who], "bytes_per_second") for who in ("ours", "nginx")]
            name = f"pull of {self.blob_mib} MiB, TLS, {clients} client{'s' * (clients > 1)}"
            self.table.compare(name, figures[0], None, speed, limit=("nginx", figures[1]), limit_reach=OF_NGINX)

    def blob_file(self):
        """Returns the path, below the store, of the file with the blob's bytes. nginx serves that file."""
        for folder, _, files in os.walk(self.store):
            for file in files:
                path = os.path.join(folder, file)
                if os.path.getsize(path) == self.blob_mib * MIB:
                    return "/" + os.path.relpath(path, self.store)
        raise RuntimeError("no file of the store has the blob's size")

    def handshakes(self):
        secure, nginx = self.server("access-tls", certificates=self.certificates), self.nginx()
        trust, own = self.certificates.trust(), self.certificates.trust(client=True)
        kinds = {
            "in full": {"reconnect": "full", **trust},
            "in full, with a client certificate": {"reconnect": "full", **own},
            "resumed": {"reconnect": "resumed", **trust},
        }

        def connect(server, options):
            settings = {"connections": 8, "seconds": min(self.seconds, 2), **options}
            return lambda: self.run.tool("load", addr=server.addr, path=server.health, **settings)

        results = self.run.turns({
            (who, kind): connect(server, options) for who, server in (("ours", secure), ("nginx", nginx)) for kind, options in kinds.items()
        })
        for kind in kinds:
            self.row(f"connections with one small `GET` each, handshake {kind}, 8 at once", results, ("ours", kind), "nginx", ("nginx", kind), processor=False)


class Aside:
    """Runs something beside a turn. Its failure fails the turn."""

    def __init__(self, work):
        self.work, self.outcome, self.error = work, None, None
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self):
        try:
            self.outcome = self.work()
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            self.error = error

    def result(self):
        self.thread.join()
        if self.error:
            raise self.error
        return self.outcome


def microseconds(value):
    return f"{value:.1f} µs"
