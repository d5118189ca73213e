"""Bytes: blob pulls beside nginx, pushes beside the disk's own speed."""

import os
import shutil

from measure import guarded, median
from report import speed
from servers import Nginx

MIB = 1 << 20
REPO = "bench/blobs"


def named(size):
    return f"{size // 1024} GiB" if size >= 1024 else f"{size} MiB"


def sizes(run):
    """Blob sizes in MiB."""
    return run.pick([1, 10, 100], [1, 10, 100, 1024])


def measure_pulls(run):
    table = run.table(
        "Blob pulls",
        "Bytes per second of whole-blob `GET`s over kept connections, read and thrown away. The limit is nginx, with sendfile, on the very file that distribution keeps.",
    )
    ours, theirs = run.make_candidate("pull-ours"), run.make_distribution("pull-theirs")
    ours.start(), theirs.start()
    nginx = Nginx(run.nginx, run.work / "nginx", theirs.dir)
    nginx.start()
    for size in sizes(run):
        guarded(table, named(size), lambda: compare_pulls(run, table, ours, theirs, nginx, size))
    for server in (ours, theirs, nginx):
        server.stop()
        server.wipe()


def compare_pulls(run, table, ours, theirs, nginx, size):
    digests = [
        run.tool("push", addr=server.addr, repo=REPO, size=size * MIB, mode="mono", seed=7_000_000 + size)["digests"][0]
        for server in (ours, theirs)
    ]
    assert digests[0] == digests[1], "the same seed gives the same bytes"
    path = f"/v2/{REPO}/blobs/{digests[0]}"
    seconds = run.pick(0.5, 2.5)
    for clients in (1, 4):
        def pull(server, target):
            return lambda: run.tool("pull", addr=server.addr, path=target, size=size * MIB, clients=clients, seconds=seconds)

        results = run.turns({
            "ours": pull(ours, path),
            "theirs": pull(theirs, path),
            "nginx": pull(nginx, "/" + theirs.blob_file(digests[0])),
        })
        table.compare(
            f"{named(size)}, {clients} client{'s' * (clients > 1)}",
            *(median(results[name], "bytes_per_second") for name in ("ours", "theirs")),
            speed,
            limit=("nginx", median(results["nginx"], "bytes_per_second")),
            reach=1.5,
            limit_reach=1.0,
        )


def pushes(run):
    """(MiB, clients, blobs per client) of each row; each moves enough bytes to be more than a blink."""
    full = [(1, 1, 100), (1, 4, 64), (10, 1, 20), (10, 4, 10), (100, 1, 4), (100, 4, 2), (1024, 1, 1)]
    return run.pick([(1, 1, 32), (1, 4, 16), (10, 1, 6), (100, 1, 1)], full)


def measure_pushes(run):
    table = run.table(
        "Blob pushes",
        "Bytes per second until the `201` of the last blob. *Monolithic*: `POST`, then a `PUT` with the bytes. *Streamed*: `POST`, one `PATCH` with a chunked body, "
        "an empty `PUT`. The limit is the disk's own speed: the same bytes written to plain files, each synced with its directory before the next.",
    )
    ours, theirs = run.make_candidate("push-ours"), run.make_distribution("push-theirs")
    for mode in ("mono", "stream"):
        for size, clients, count in pushes(run):
            name = f"{'monolithic' if mode == 'mono' else 'streamed'}, {named(size)}, {clients} client{'s' * (clients > 1)}"
            guarded(table, name, lambda: compare_pushes(run, table, ours, theirs, name, mode, size * MIB, clients, count))


def compare_pushes(run, table, ours, theirs, name, mode, size, clients, count):
    try:
        ours.fresh(), theirs.fresh()
        plain = run.work / "plain"

        def push(server):
            return lambda: run.tool("push", addr=server.addr, repo=REPO, size=size, mode=mode, clients=clients, count=count)

        results = run.turns({
            "ours": push(ours),
            "theirs": push(theirs),
            "disk": lambda: run.tool("disk", dir=plain, size=size, clients=clients, count=count),
        })
    finally:
        for server in (ours, theirs):
            server.stop()
            server.wipe()
        shutil.rmtree(run.work / "plain", ignore_errors=True)
        os.sync()
    table.compare(
        name,
        *(median(results[who], "bytes_per_second") for who in ("ours", "theirs")),
        speed,
        limit=("disk", median(results["disk"], "bytes_per_second")),
        reach=1.0,
        limit_reach=1.0,
    )
