"""Peak memory of putting corpora A, B and C, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import corpora, sides
from benchmarks.places import fresh, require_room
from benchmarks.report import Section, Table
from benchmarks.rounds import Series

ROUNDS = 3
TARGET = "< 120 MB"
CORPORA: dict[str, Callable[[], list[Path]]] = {
    "A: 20,000 images, mean 49 KB": corpora.a,
    f"B: {corpora.LARGE} photographs, mean 4.5 MB": corpora.b,
    "C: one file of 1 GiB": corpora.c,
}


def run() -> Section:
    """Put each corpus into a new store, ``ROUNDS`` times."""
    require_room(ROUNDS * 2.5, "the memory row")
    cells = [_corpus(name, files()) for name, files in CORPORA.items()]
    note = (
        f"VmHWM of a fresh process at its end; {ROUNDS} runs. The second column is the process "
        "before its first put: interpreter, imports, the list of paths."
    )
    columns = ["`put_many` of", "before, MB", "peak, MB", "growth, MB", "target"]
    return Section("memory", "peak of resident memory", [Table(columns, cells, note)])


def _corpus(name: str, files: list[Path]) -> list[str]:
    runs = [sides.calotype(fresh("memory"), files) for _ in range(ROUNDS)]
    peaks = Series(tuple(run["peak"] / 1e6 for run in runs))
    growth = Series(tuple((run["peak"] - run["before"]) / 1e6 for run in runs))
    before = median(run["before"] / 1e6 for run in runs)
    return [name, f"{before:.0f}", str(peaks), str(growth), TARGET]
