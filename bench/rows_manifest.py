"""Manifests: GET by tag, GET by digest and HEAD by digest, at 1, 32 and 128 connections."""

from images import ACCEPT, Client, digest_of
from measure import guarded, median
from report import milliseconds, rate
from servers import Responder

REPO = "bench/app"
# Goals: relative to distribution's requests/s by (kind, connections), and to the responder's at 32 connections.
REACH = {("tag", 32): 8, ("digest", 32): 10, ("head", 32): 10, ("tag", 1): 3, ("digest", 1): 3, ("head", 1): 3}
OF_RESPONDER = {"tag": 0.5, "digest": 0.65, "head": 0.65}
NAMES = {"tag": "GET by tag", "digest": "GET by digest", "head": "HEAD by digest"}
HOP_BY_HOP = {"date", "content-length", "connection", "keep-alive", "transfer-encoding"}


def measure(run):
    table = run.table(
        "Manifests",
        "Requests per second, and the latency at p50 and p99. The limit is a bare hyper responder that sends the same headers and bytes. "
        "`GET` by wrk, `HEAD` by the bench's own tool (wrk waits for a body), two threads each.",
    )
    ours, theirs = run.make_candidate("manifest-ours"), run.make_distribution("manifest-theirs")
    ours.start(), theirs.start()
    manifest, blobs = Client(ours.addr).push_image(REPO, "v1", [4096, 4096])
    Client(theirs.addr).copy_image(Client(ours.addr), REPO, "v1", manifest, blobs)
    answer, _ = Client(ours.addr).get_manifest(REPO, "v1")
    headers = [(key, value) for key, value in answer.getheaders() if key.lower() not in HOP_BY_HOP]
    responder = Responder(run.tools, run.work / "responder", manifest, headers)
    responder.start()
    paths = {"tag": f"/v2/{REPO}/manifests/v1", "digest": f"/v2/{REPO}/manifests/{digest_of(manifest)}"}
    for connections in run.pick([1, 32], [1, 32, 128]):
        guarded(table, f"{connections} connections", lambda: compare(run, table, ours, theirs, responder, paths, connections))
    table.notes.append(f"The manifest has {len(manifest)} bytes.")
    for server in (ours, theirs, responder):
        server.stop()


def compare(run, table, ours, theirs, responder, paths, connections):
    seconds = run.pick(1, 4)
    accept = f"Accept: {ACCEPT}"

    def get(server, path):
        return lambda: run.requests(server.addr, path, connections, seconds, [accept])

    def head(server):
        return lambda: run.tool("load", addr=server.addr, path=paths["digest"], method="HEAD", connections=connections, seconds=seconds, header=accept)

    results = run.turns({
        ("ours", "tag"): get(ours, paths["tag"]),
        ("theirs", "tag"): get(theirs, paths["tag"]),
        ("ours", "digest"): get(ours, paths["digest"]),
        ("theirs", "digest"): get(theirs, paths["digest"]),
        ("limit", "get"): get(responder, paths["tag"]),
        ("ours", "head"): head(ours),
        ("theirs", "head"): head(theirs),
        ("limit", "head"): head(responder),
    })
    for kind, name in NAMES.items():
        limit = results["limit", "head" if kind == "head" else "get"]
        table.compare(
            f"{name}, {connections} connection{'s' * (connections > 1)}",
            median(results["ours", kind], "requests_per_second"),
            median(results["theirs", kind], "requests_per_second"),
            rate,
            limit=("responder", median(limit, "requests_per_second")),
            reach=REACH.get((kind, connections)),
            limit_reach=OF_RESPONDER[kind] if connections == 32 else None,
        )
        table.compare(
            "… p50", median(results["ours", kind], "p50_ms"), median(results["theirs", kind], "p50_ms"), milliseconds, less=True,
        )
        table.compare(
            "… p99", median(results["ours", kind], "p99_ms"), median(results["theirs", kind], "p99_ms"), milliseconds, less=True,
        )
