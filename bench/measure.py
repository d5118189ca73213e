"""Holds the settings of a run, the load generators, and the turns of the contestants."""

import http.client
import json
import os
import re
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from build import say
from report import Table

SPEEDS = ("requests_per_second", "bytes_per_second", "ms")
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class OutOfTime(Exception):
    """Ends the run at its time limit. The report has the measured rows and names the others."""


@dataclass
class Run:
    """Holds settings, paths and the clock for every group of rows. `binary` is None where distribution takes both places."""

    quick: bool
    rounds: int
    minutes: float
    work: Path
    many: Path
    tools: str
    wrk: str
    nginx: str
    binary: str | None
    registry: str
    make_distribution: object
    make_candidate: object
    minio: object
    started: float = field(default_factory=time.monotonic)
    spreads: list = field(default_factory=list)
    tables: list = field(default_factory=list)

    def table(self, title, about):
        """Begins a table of the report. The table stays with its rows if a later row fails."""
        self.tables.append(Table(title, about))
        return self.tables[-1]

    def pick(self, quick, full):
        """One of two settings, by the kind of run."""
        return quick if self.quick else full

    def check_time(self):
        if time.monotonic() - self.started > self.minutes * 60:
            raise OutOfTime(f"the run's {self.minutes:g} minutes are over")

    def turns(self, contestants, rounds=None):
        """Lets each contestant take its turn in every round; name -> its results.

        The order rotates from round to round, so that nobody always comes after the same one. What is dirty is written
        out before each turn, so that nobody pays for the writes of the one before.
        """
        names = list(contestants)
        results = {name: [] for name in names}
        for number in range(rounds or self.rounds):
            for name in names[number % len(names):] + names[:number % len(names)]:
                self.check_time()
                os.sync()
                results[name].append(contestants[name]())
        self.spreads += [spread(found, key) for found in results.values() for key in SPEEDS if key in found[0]]
        return results

    def tool(self, command, limit=900, **options):
        """Runs a load tool to its end, and returns its measurements."""
        words = [self.tools, command]
        for key, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                words += ["--" + key.replace("_", "-"), str(one)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-600:])
        return json.loads(done.stdout)

    def requests(self, addr, path, connections, seconds, headers=()):
        """`GET` by wrk: requests per second and latencies in milliseconds."""
        command = [self.wrk, f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
        for header in headers:
            command += ["-H", header]
        done = subprocess.run(command + [f"http://{addr}{path}"], capture_output=True, text=True, timeout=seconds + 60)
        return parse_wrk(done.stdout)


def parse_wrk(text):
    """Returns the numbers that wrk printed. An answer that is not 2xx, or a broken connection, is an error."""
    if "Non-2xx" in text or "Socket errors" in text or "Requests/sec" not in text:
        raise RuntimeError(f"wrk: {text.strip()[-400:]}")

    def latency(percent):
        number, unit = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)", text, re.M).groups()
        return float(number) * UNITS[unit]

    return {
        "requests_per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
        "p50_ms": latency(50),
        "p99_ms": latency(99),
    }


def median(results, key):
    """The median of one number over a contestant's turns."""
    return statistics.median(result[key] for result in results)


def spread(results, key):
    """How far the turns lie apart: the largest over the smallest."""
    values = [result[key] for result in results]
    return max(values) / min(values) if min(values) else float("inf")


# Errors of a contestant or a tool. Any other error is a mistake of the bench and ends the run.
FAILURES = (RuntimeError, OSError, subprocess.SubprocessError, http.client.HTTPException, ValueError)


def guarded(table, name, measure):
    """Runs one measurement; its failure becomes a line of the table instead of the end of the run."""
    try:
        measure()
    except FAILURES as error:
        say(f"{name}: {error}")
        table.failed(name, error)
