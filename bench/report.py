"""Tables of rows, and their Markdown."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

DASH = "–"
# A load average per core above which others are at work and the figures are theirs too.
BUSY = 0.3


def rate(value):
    """Requests per second."""
    return f"{value:,.0f}/s" if value >= 100 else f"{value:.1f}/s"


def speed(value):
    """Bytes per second."""
    return f"{value / 1e6:,.0f} MB/s"


def size(value):
    """Bytes of memory."""
    return f"{value / 2**20:,.1f} MiB"


def milliseconds(value):
    return f"{value:,.2f} ms" if value < 100 else f"{value:,.0f} ms"


def count(value):
    return f"{value:,.1f}".removesuffix(".0")


def times(value):
    return f"{value:.2f}"


@dataclass
class Goal:
    """Holds a goal in words, and whether the run met it."""

    text: str
    met: bool


def at_least(value, reach, of):
    """A goal: `value`, a ratio to `of`, is `reach` or more (as printed, two digits)."""
    return Goal(f"{reach:g} × {of}", round(value, 2) >= reach)


def at_most(value, reach, text):
    """A goal: `value` is `reach` or less; `text` says it."""
    return Goal(text, value <= reach)


@dataclass
class Row:
    """Holds a row: figures as text, the ratio to distribution (more is better), the limit and the goals."""

    name: str
    ours: str
    theirs: str = DASH
    ratio: float | None = None
    limit: str = DASH
    goals: list = field(default_factory=list)


@dataclass
class Table:
    """The rows of one group."""

    title: str
    about: str
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    failures: int = 0

    def compare(self, name, ours, theirs, show, less=False, limit=None, reach=None, limit_reach=None, goals=()):
        """Adds a row of two figures.

        `less`: less is better, so the ratio is theirs over ours. `limit`: a name and a figure of what bounds both.
        `reach`, `limit_reach`: the ratios to be reached to distribution and to the limit.
        """
        ratio = (theirs / ours if less else ours / theirs) if ours and theirs else None
        all_goals = list(goals)
        if reach is not None and ratio is not None:
            all_goals.insert(0, at_least(ratio, reach, "distribution"))
        text = DASH
        if limit:
            label, figure = limit
            share = figure / ours if less else ours / figure
            text = f"{label} {show(figure)}, {times(share)} of it"
            if limit_reach is not None:
                all_goals.append(at_least(share, limit_reach, label))
        self.rows.append(Row(name, show(ours), show(theirs) if theirs is not None else DASH, ratio, text, all_goals))

    def failed(self, name, error):
        """Adds a row for a failed measurement."""
        self.failures += 1
        self.rows.append(Row(name, "not measured"))
        self.notes.append(f"{name}: not measured: {' '.join(str(error).split())[:300]}")

    def markdown(self):
        lines = [f"## {self.title}", "", self.about, ""]
        lines += ["| | simple-registry | distribution | times better | limit | reach | met |", "| --- | ---: | ---: | ---: | --- | --- | --- |"]
        for row in self.rows:
            goals = "; ".join(goal.text for goal in row.goals) or DASH
            met = ", ".join("yes" if goal.met else "**no**" for goal in row.goals) or DASH
            ratio = times(row.ratio) if row.ratio is not None else DASH
            lines.append(f"| {row.name} | {row.ours} | {row.theirs} | {ratio} | {row.limit} | {goals} | {met} |")
        lines += [""] + [f"- {note}" for note in self.notes] + ([""] if self.notes else [])
        return "\n".join(lines)


def machine(work):
    """Describes the machine in a line or two."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown processor")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = subprocess.run(["stat", "-f", "-c", "%T", str(work)], capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, Linux {platform.release()}, {system}"


def document(command, where, versions, run, load, took, tables, unmeasured):
    """Returns the whole report."""
    goals = [goal for table in tables for row in table.rows for goal in row.goals]
    met = sum(goal.met for goal in goals)
    head = [
        "# Benchmark",
        "",
        f"Made by `{command}` in {took / 60:.0f} minutes, on {where}.",
        f"Contestants: {versions}. {run.rounds} rounds, turn by turn; each figure is the median of its rounds.",
        "*Times better* is the ratio to distribution's figure in the same run, turned so that more is better.",
        f"**{met} of {len(goals)} goals met.**",
        "",
    ]
    if run.spreads:
        spreads = sorted(run.spreads)
        head += [f"The fastest turn of a contestant was {spreads[len(spreads) // 2]:.2f} times its slowest (median over all rows; at worst {spreads[-1]:.1f} times).", ""]
    if load > BUSY * os.cpu_count():
        head += [f"**The machine was busy before the run began (load average {load:.1f}): do not rely on these figures.**", ""]
    if unmeasured:
        head += [f"Not measured, since the time was over: {', '.join(unmeasured)}.", ""]
    return "\n".join(head) + "\n" + "\n".join(table.markdown() for table in tables)
