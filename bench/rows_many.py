"""Measures pages of long lists, and the start of a registry with a large store.

Their stores are in memory (tmpfs) where there is room: what is read comes from the page cache in any case, and making and
removing a million small files takes longer on a disk than everything that is measured.
"""

import json

from build import say
from images import Client
from measure import guarded, median
from report import at_most, milliseconds, rate

PAGE = 1000


def fill(run, table, ours, theirs, what, repo, count, unit):
    """Fills both through the API by 16 clients, adds a row for the speed, and returns the counts."""
    made = {}
    for server in (ours, theirs):
        run.check_time()
        say(f"{server.name}: filling with {count:,} {unit}")
        made[server] = run.tool("fill", addr=server.addr, what=what, repo=repo, count=count, clients=16, limit_seconds=run.pick(60, 240))
    done = [made[server]["made"] for server in (ours, theirs)]
    table.compare(
        f"filling: {unit} pushed, 16 clients", *(made[server]["made"] / made[server]["seconds"] for server in (ours, theirs)), rate,
    )
    if min(done) < count:
        table.notes.append(f"Filling with {count:,} {unit} took too long: simple-registry has {done[0]:,} of them, distribution {done[1]:,}.")
    return min(done)


def page(run, server, path, key):
    """Makes a turn of pages, one after the other on one connection. Checks the first page, so that an empty page does not count as fast."""
    _, body = Client(server.addr).ask("GET", path)
    found = len(json.loads(body)[key])
    if found != PAGE:
        raise RuntimeError(f"{server.name}: {path} has {found} entries instead of {PAGE}")
    return lambda: run.tool("load", addr=server.addr, path=path, connections=1, seconds=run.pick(0.5, 2), min_requests=3)


def compare_pages(run, table, ours, theirs, name, path, key, reach=None):
    """A row for one page; the median time of ours in milliseconds."""
    results = run.turns({"ours": page(run, ours, path, key), "theirs": page(run, theirs, path, key)})
    table.compare(name, *(median(results[who], "requests_per_second") for who in ("ours", "theirs")), rate, reach=reach)
    table.compare("… p50", *(median(results[who], "p50_ms") for who in ("ours", "theirs")), milliseconds, less=True)
    return {who: median(results[who], "p50_ms") for who in results}


def measure_lists(run):
    table = run.table("Lists", "Pages of 1,000 entries, one connection, one request after the other.")
    ours, theirs = run.make_candidate(run.many / "lists-ours"), run.make_distribution(run.many / "lists-theirs")
    guarded(table, "tag lists", lambda: tag_lists(run, table, ours, theirs))
    guarded(table, "the catalog", lambda: catalog(run, table, ours, theirs))
    for server in (ours, theirs):
        server.stop()
        server.wipe()


def tag_lists(run, table, ours, theirs):
    ours.fresh(), theirs.fresh()
    few = compare_few(run, table, ours, theirs)
    made = fill(run, table, ours, theirs, "tags", "bench/many", run.pick(10_000, 100_000), "tags")
    base = f"/v2/bench/many/tags/list?n={PAGE}"
    first = compare_pages(run, table, ours, theirs, f"tag page, the first of {made:,}", base, "tags", reach=5)
    middle = compare_pages(run, table, ours, theirs, f"tag page, from the middle of {made:,}", f"{base}&last=t{made // 2:06}", "tags", reach=5)
    for name, many in (("first", first), ("middle", middle)):
        ratio = many["ours"] / few["ours"]
        table.compare(
            f"time of the {name} page of {made:,} over one of {PAGE:,}", ratio, many["theirs"] / few["theirs"], lambda value: f"{value:.1f}",
            less=True, goals=[at_most(ratio, 3, "at most 3")],
        )


def compare_few(run, table, ours, theirs):
    for server in (ours, theirs):
        run.tool("fill", addr=server.addr, what="tags", repo="bench/few", count=PAGE, clients=16, limit_seconds=run.pick(60, 240))
    return compare_pages(run, table, ours, theirs, f"tag page, all of {PAGE:,}", f"/v2/bench/few/tags/list?n={PAGE}", "tags")


def catalog(run, table, ours, theirs):
    ours.fresh(), theirs.fresh()
    made = fill(run, table, ours, theirs, "repos", "bench", run.pick(2_000, 20_000), "repositories")
    base = f"/v2/_catalog?n={PAGE}"
    compare_pages(run, table, ours, theirs, f"catalog page, the first of {made:,}", base, "repositories")
    # A little before the middle, so that a whole page follows in the quick run too.
    last = f"bench/r{made // 2 - 1:06}"
    compare_pages(run, table, ours, theirs, f"catalog page, from the middle of {made:,}", f"{base}&last={last}", "repositories")


def measure_start(run):
    table = run.table("Start", "From the start of the process to its first answer to `GET` of a manifest, with everything in the page cache.")
    ours, theirs = run.make_candidate(run.many / "start-ours"), run.make_distribution(run.many / "start-theirs")
    guarded(table, "start", lambda: compare_starts(run, table, ours, theirs))
    for server in (ours, theirs):
        server.stop()
        server.wipe()


def compare_starts(run, table, ours, theirs):
    for server in (ours, theirs):
        server.start()
        Client(server.addr).push_image("bench/app", "v1", [1024])
        server.health = "/v2/bench/app/manifests/v1"

    def start(server):
        return lambda: {"ms": server.restart() * 1e3}

    def row(name):
        results = run.turns({"ours": start(ours), "theirs": start(theirs)}, rounds=5)
        table.compare(name, *(median(results[who], "ms") for who in ("ours", "theirs")), milliseconds, less=True)
        return median(results["ours"], "ms")

    empty = row("one image stored")
    made = fill(run, table, ours, theirs, "blobs", "bench/blobs", run.pick(3_000, 100_000), "blobs")
    full = row(f"{made:,} blobs stored")
    # Nothing at start may depend on how much is stored; a few milliseconds are the noise of a process's start.
    table.rows[-1].goals.append(at_most(full, empty * 1.5 + 5, "as with one image"))
