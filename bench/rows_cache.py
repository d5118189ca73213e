"""Measures pulls through a cache: cold beside the upstream itself, warm beside a pushed blob."""

import http.client
import time

from images import Client
from measure import guarded, median
from report import at_least, at_most, count, milliseconds, speed
from rows_bytes import MIB, named
from servers import Candidate, Distribution

REPO = "bench/blobs"
# The part of a name that leads to the upstream.
HUB = "hub"
PIECE = 1 << 20


def measure(run):
    table = run.table(
        "Pulls through a cache",
        "Each cold pull is of a blob that no cache has yet; the limit is the same pull from the upstream itself, a distribution. The upstream, the cache and the "
        "client share the cores of this machine, and the cache hashes and stores what it passes on, so the limit is out of reach where the network is not "
        "slower than the machine. distribution is its own proxy.",
    )
    upstream = Distribution(run.registry, run.work / "cache-upstream", name="upstream", logs=True)
    ours = Candidate(run.binary, run.work / "cache-ours")
    ours.tables = f'[[repository.{HUB}.upstream]]\nurl = "http://{upstream.addr}/v2"\n'
    theirs = Distribution(run.registry, run.work / "cache-theirs", cache_of=upstream.addr)
    for server in (upstream, ours, theirs):
        server.start()
    for size in run.pick([1, 100], [1, 100, 1024]):
        guarded(table, f"cold, {named(size)}", lambda: compare_cold(run, table, upstream, ours, theirs, size))
    for size in run.pick([10], [10, 1024]):
        guarded(table, f"warm, {named(size)}", lambda: compare_warm(run, table, upstream, ours, theirs, size))
    guarded(table, "what the upstream sees", lambda: compare_upstream(table, upstream, ours, theirs))
    for server in (ours, theirs, upstream):
        server.stop()
        server.wipe()


def paths(ours, theirs, path):
    """The path of a thing in both caches."""
    return {ours: f"/v2/{HUB}/{path}", theirs: f"/v2/{path}"}


def timed_pull(server, path, size):
    """Pulls once over a new connection: milliseconds to the first byte, and bytes per second of the whole."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    client.connect()
    began = time.perf_counter()
    client.request("GET", path)
    answer = client.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{server.name}: {path}: {answer.status} {answer.read()[:200]!r}")
    length = len(answer.read(1))
    first = time.perf_counter()
    while piece := answer.read(PIECE):
        length += len(piece)
    ended = time.perf_counter()
    client.close()
    if length != size:
        raise RuntimeError(f"{server.name}: {path}: {length} bytes instead of {size}")
    return {"first_ms": (first - began) * 1e3, "bytes_per_second": length / (ended - began)}


def compare_cold(run, table, upstream, ours, theirs, size):
    count_of = run.rounds * run.pick(4, 12) if size < 100 else run.rounds
    digests = run.tool("push", addr=upstream.addr, repo=REPO, size=size * MIB, mode="mono", count=count_of, seed=9_000_000 + size)["digests"]
    left = {server: list(digests) for server in (ours, theirs, upstream)}

    def turn(server):
        def pull():
            each = len(digests) // run.rounds
            taken = [left[server].pop() for _ in range(each)]
            where = [paths(ours, theirs, f"{REPO}/blobs/{digest}").get(server, f"/v2/{REPO}/blobs/{digest}") for digest in taken]
            pulls = [timed_pull(server, path, size * MIB) for path in where]
            return {key: median(pulls, key) for key in pulls[0]}
        return pull

    results = run.turns({"ours": turn(ours), "theirs": turn(theirs), "upstream": turn(upstream)})
    first = {who: median(results[who], "first_ms") for who in results}
    whole = {who: median(results[who], "bytes_per_second") for who in results}
    table.compare(
        f"cold, {named(size)}, first byte", first["ours"], first["theirs"], milliseconds, less=True, limit=("upstream", first["upstream"]),
        goals=[at_most(first["ours"], first["upstream"] * 1.1 + 5, "1.1 × upstream plus 5 ms")],
    )
    table.compare(f"cold, {named(size)}, whole", whole["ours"], whole["theirs"], speed, limit=("upstream", whole["upstream"]), limit_reach=0.95)


def compare_warm(run, table, upstream, ours, theirs, size):
    digest = run.tool("push", addr=upstream.addr, repo=REPO, size=size * MIB, mode="mono", seed=9_500_000 + size)["digests"][0]
    pushed = run.tool("push", addr=ours.addr, repo="team/blobs", size=size * MIB, mode="mono", seed=9_600_000 + size)["digests"][0]
    cached = paths(ours, theirs, f"{REPO}/blobs/{digest}")
    for server in (ours, theirs):
        timed_pull(server, cached[server], size * MIB)

    def pull(server, path):
        return lambda: run.tool("pull", addr=server.addr, path=path, size=size * MIB, clients=1, seconds=run.pick(0.5, 2.5))

    results = run.turns({
        "ours": pull(ours, cached[ours]),
        "theirs": pull(theirs, cached[theirs]),
        "pushed": pull(ours, f"/v2/team/blobs/blobs/{pushed}"),
    })
    rates = {who: median(results[who], "bytes_per_second") for who in results}
    table.compare(
        f"warm, {named(size)}, 1 client", rates["ours"], rates["theirs"], speed, limit=("pushed", rates["pushed"]),
        # two figures of one server differ by the noise of the machine
        goals=[at_least(rates["ours"] / rates["pushed"], 0.95, "pushed")],
    )


def compare_upstream(table, upstream, ours, theirs):
    manifest, blobs = Client(upstream.addr).push_image("bench/image", "v1", [3 * MIB, 5 * MIB, 100])
    size = len(manifest) + 8 * MIB + 100 + len(Client(upstream.addr).ask("GET", f"/v2/bench/image/blobs/{blobs[0]}")[1])
    seen = {}
    for server in (ours, theirs):
        name = paths(ours, theirs, "bench/image")[server].removeprefix("/v2/")
        for pull in ("cold", "warm"):
            before = len(upstream.sent())
            client = Client(server.addr)
            client.get_manifest(name, "v1")
            for digest in blobs:
                client.ask("GET", f"/v2/{name}/blobs/{digest}")
            seen[server, pull] = upstream.sent()[before:]
    requests = lambda server, pull, method: sum(1 for asked in seen[server, pull] if asked[0] == method)
    for pull, gets in (("cold", 1 + len(blobs)), ("warm", 0)):
        for method, most in (("HEAD", 1), ("GET", gets)):
            found = [requests(server, pull, method) for server in (ours, theirs)]
            table.compare(f"{method}s upstream for a {pull} pull of an image", *found, count, goals=[at_most(found[0], most, f"at most {most}")])
    share = [sum(asked[2] for asked in seen[server, "cold"] if asked[0] == "GET") / size for server in (ours, theirs)]
    table.compare("bytes upstream per byte of the image, cold", *share, "{:.2f}".format, goals=[at_most(round(share[0], 2), 1.0, "1.00")])
