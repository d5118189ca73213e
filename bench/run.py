#!/usr/bin/env python3
"""Compares simple-registry with CNCF distribution, nginx, a bare hyper responder and the disk: see bench/README.md."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

import build
import report
import rows_access
import rows_bytes
import rows_cache
import rows_manifest
import rows_many
import rows_memory
import rows_s3
import rows_scrub
import servers
from build import say
from measure import FAILURES, OutOfTime, Run

GROUPS = {
    "manifest": rows_manifest.measure,
    "blob": rows_bytes.measure_pulls,
    "push": rows_bytes.measure_pushes,
    "cache": rows_cache.measure,
    "access": rows_access.measure,
    "lists": rows_many.measure_lists,
    "start": rows_many.measure_start,
    "memory": rows_memory.measure,
    "s3": rows_s3.measure,
    "scrub": rows_scrub.measure,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and short turns: about three minutes, for a first look")
    parser.add_argument("--rows", default=",".join(GROUPS), help=f"which groups to measure, of {','.join(GROUPS)}")
    parser.add_argument("--out", type=Path, help="where the Markdown goes as well (standard output has it in any case)")
    parser.add_argument("--work", type=Path, help="where the stores go: a folder on the disk to be measured (default: a temporary one)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument("--minutes", type=float, help="after which nothing more is begun (default 40, quick 8)")
    parser.add_argument("--binary", help="a simple-registry to measure (default: a release build of this tree)")
    parser.add_argument("--many-on-disk", action="store_true", help="the stores of lists and start on the disk too (default: in /dev/shm where 8 GiB are free)")
    parser.add_argument("--self-check", action="store_true", help="distribution takes simple-registry's place too: every ratio should be 1")
    given = parser.parse_args()
    given.rows = given.rows.split(",")
    unknown = [name for name in given.rows if name not in GROUPS]
    if unknown:
        parser.error(f"--rows: no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    if given.self_check:
        # Distribution has no place in it.
        given.rows = [name for name in given.rows if name not in ("access", "cache", "scrub")]
    return given


def room_for_many(given, work):
    """Where the stores of very many small files go: see rows_many."""
    memory = Path("/dev/shm")
    if given.many_on_disk or not memory.is_dir() or shutil.disk_usage(memory).free < 8 * 2**30:
        return work
    return Path(tempfile.mkdtemp(prefix="bench-", dir=memory))


def prepare(given, work, many):
    """Builds the programs of the chosen groups, and returns the settings and the names of the contestants."""
    registry = build.go_tool("registry")
    minio = build.go_tool("minio") if "s3" in given.rows else None
    binary = None if given.self_check else build.candidate(given.binary)

    def distribution(folder, s3=None):
        return servers.Distribution(registry, work / folder, s3)

    def candidate(folder, s3=None):
        return distribution(folder, s3) if given.self_check else servers.Candidate(binary, work / folder, s3)

    run = Run(
        quick=given.quick,
        rounds=given.rounds,
        minutes=given.minutes or (8 if given.quick else 40),
        work=work,
        many=many,
        tools=build.load_tools(),
        wrk=build.need("wrk"),
        nginx=build.need("nginx"),
        binary=binary,
        make_distribution=distribution,
        registry=registry,
        make_candidate=candidate,
        minio=lambda: minio,
    )
    ours = "distribution in simple-registry's place" if given.self_check else version([binary, "--version"])
    nginx = subprocess.run([run.nginx, "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    return run, f"{ours}; distribution v3.1.2; nginx {nginx}"


def command_of(given):
    """Returns the command that makes this report again, without paths."""
    words = ["python3 bench/run.py"]
    words += ["--quick"] if given.quick else []
    words += ["--rows " + ",".join(given.rows)] if given.rows != list(GROUPS) else []
    words += [f"--rounds {given.rounds}"] if given.rounds != 3 else []
    words += ["--self-check"] if given.self_check else []
    return " ".join(words)


def version(command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or command[0]


def main():
    given = arguments()
    servers.stop_at_exit()
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=given.work))
    many = room_for_many(given, work)
    left = list(given.rows)
    try:
        run, versions = prepare(given, work, many)
        load = os.getloadavg()[0]
        run.started = time.monotonic()
        for name in given.rows:
            say(f"{name} ({time.monotonic() - run.started:.0f} s)")
            run.check_time()
            try:
                GROUPS[name](run)
            except FAILURES as error:
                say(f"{name}: {error}")
                (run.tables or [run.table(name, "")])[-1].failed(name, error)
            left.remove(name)
            servers.stop_all()
        took = time.monotonic() - run.started
    except OutOfTime as over:
        say(str(over))
        took = time.monotonic() - run.started
    finally:
        where = report.machine(work) + (", lists and start on tmpfs" if many != work else "")
        servers.stop_all()
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(many, ignore_errors=True)
    text = report.document(command_of(given), where, versions, run, load, took, run.tables, left)
    if given.out:
        given.out.write_text(text)
    print(text)
    say(f"done in {took:.0f} s")
    if left or any(table.failures for table in run.tables):
        raise SystemExit("bench: some rows could not be measured")


if __name__ == "__main__":
    main()
