"""Measures scrub: growth of time and memory with the store, speed of reading back, and loss of pulls beside it."""

import hashlib
import os
import shutil
import subprocess
import threading
import time

import stores
from images import ACCEPT, Client
from measure import guarded, median
from report import at_least, at_most, milliseconds, rate, size, speed

MIB = 1 << 20
REPO = "bench/app"
# Goals: time per blob of the largest store over the smallest, memory, and ratios to plain hashing and to pulls alone.
GROWTH, MEMORY, OF_HASHING, OF_ALONE = 1.5, 256 * MIB, 0.8, 1.5


def measure(run):
    table = run.table(
        "Scrub",
        "`simple-registry scrub` as a process of its own. Each image has ten small blobs and a tag; each repository has 100 images. "
        "The time of a run is that of the process, with everything in the page cache.",
    )
    guarded(table, "growth", lambda: growth(run, table))
    guarded(table, "reading back", lambda: content(run, table))
    guarded(table, "pulls beside it", lambda: pulls(run, table))


def scrub(run, store, *options):
    """One run of it: seconds, and the peak of its memory in bytes."""
    command = [run.binary, "scrub", "--data-dir", str(store), *options]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: exit code {process.returncode}: {errors.decode(errors='replace')[-400:]}")
    return {"s": took, "peak": used.ru_maxrss * 1024}


def place_for(run, blobs):
    """In memory, where so many small files and directories fit."""
    free = os.statvfs(run.many)
    return run.many if free.f_favail == 0 or free.f_favail > 9 * blobs and free.f_bavail > 3 * blobs else run.work


def growth(run, table):
    per_blob = []
    for blobs in run.pick([1_000, 10_000], [10_000, 100_000, 1_000_000]):
        run.check_time()
        folder = place_for(run, blobs) / f"scrub-{blobs}"
        made = stores.make(folder, blobs)
        try:
            rounds = 5 if made <= 10_000 else 3 if made <= 100_000 else 1
            results = [scrub(run, folder, "--dry-run") for _ in range(rounds)]
        finally:
            shutil.rmtree(folder)
        took, peak = median(results, "s"), max(result["peak"] for result in results)
        per_blob.append(took / made)
        table.compare(f"dry run, {made:,} blobs", took * 1e3, None, milliseconds)
        table.compare("… time per blob", per_blob[-1] * 1e3, None, lambda ms: f"{ms * 1e3:.1f} µs")
        table.compare("… peak memory", peak, None, size)
    table.rows[-2].goals.append(at_most(per_blob[-1] / per_blob[0], GROWTH, f"under {GROWTH} × that of the smallest"))
    table.rows[-1].goals.append(at_most(peak, MEMORY, "under 256 MiB"))


def content(run, table):
    """Measures reading back beside a process that reads and hashes the same files one after the other."""
    server = run.make_candidate(run.many / "scrub-content")
    server.start()
    count, each = run.pick((4, 64), (16, 128))
    run.tool("push", addr=server.addr, repo=REPO, size=each * MIB, mode="mono", count=count)
    server.stop()
    files = sorted(path for path in (server.store / "data").rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files)

    def plain():
        begun = time.perf_counter()
        for path in files:
            hasher = hashlib.sha256()
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(MIB):
                    hasher.update(piece)
        return {"bytes_per_second": total / (time.perf_counter() - begun)}

    def ours():
        return {"bytes_per_second": total / scrub(run, server.store, "--only", "content")["s"]}

    try:
        results = run.turns({"ours": ours, "plain": plain})
        table.compare(
            f"content, {count} × {each} MiB", median(results["ours"], "bytes_per_second"), None, speed,
            limit=("read and hash in one thread", median(results["plain"], "bytes_per_second")), limit_reach=OF_HASHING,
        )
    finally:
        server.wipe()


def pulls(run, table):
    """Pulls of a manifest and of a blob of 1 MiB, alone and while runs of scrub follow one another, content and all."""
    server = run.make_candidate(run.work / "scrub-pulls")
    server.start()
    Client(server.addr).push_image(REPO, "v1", [4096, 4096])
    blob = run.tool("push", addr=server.addr, repo=REPO, size=MIB, mode="mono")["digests"][0]
    run.tool("push", addr=server.addr, repo=REPO, size=run.pick(32, 256) * MIB, mode="mono", count=8)
    seconds = run.pick(2, 5)
    for name, path, connections in (("manifests", f"/v2/{REPO}/manifests/v1", 4), ("blobs of 1 MiB", f"/v2/{REPO}/blobs/{blob}", 4)):
        def alone(path=path, connections=connections):
            return run.tool("load", addr=server.addr, path=path, header=[f"Accept: {ACCEPT}"], connections=connections, seconds=seconds)

        def beside(alone=alone):
            over, runs, failed = threading.Event(), [], []

            def again():
                try:
                    while not over.is_set():
                        runs.append(scrub(run, server.store, "--verify-content"))
                except RuntimeError as error:
                    failed.append(error)

            thread = threading.Thread(target=again)
            thread.start()
            try:
                return alone()
            finally:
                over.set()
                thread.join()
                if failed or not runs:
                    raise RuntimeError(f"no scrub ran beside the pulls: {failed}")

        results = run.turns({"beside": beside, "alone": alone})
        p99, calm = (median(results[who], "p99_ms") for who in ("beside", "alone"))
        table.compare(
            f"{name}, {connections} connections, p99 while scrub runs", p99, None, milliseconds, less=True, limit=("alone", calm),
            goals=[at_most(p99 / calm, OF_ALONE, f"at most {OF_ALONE} × alone")],
        )
        rates = [median(results[who], "requests_per_second") for who in ("beside", "alone")]
        table.compare("… requests", rates[0], None, rate, limit=("alone", rates[1]))
    server.stop()
    server.wipe()
