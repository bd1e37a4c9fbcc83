"""How long a command takes as a whole process: ``calotype --version`` and ``calotype stat``."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.corpora import photographs
from benchmarks.places import fresh
from benchmarks.report import Section, Table
from benchmarks.rounds import interleaved
from calotype import Store

RUNS = 20
CALOTYPE = Path(sys.executable).with_name("calotype")


def run() -> Section:
    """Run each command ``RUNS`` times, in turns with an interpreter that does nothing."""
    folder = fresh("start")
    with Store(folder) as store:
        digest = store.put(photographs(1, "start")[0]).digest
    commands = {
        "`python -c pass`": ([sys.executable, "-c", "pass"], None),
        "`import calotype`": ([sys.executable, "-c", "import calotype"], None),
        "`calotype --version`": ([str(CALOTYPE), "--version"], 0.2),
        "`calotype --store X stat DIGEST`": (
            [str(CALOTYPE), "--store", str(folder), "stat", digest],
            0.4,
        ),
    }
    found = interleaved({name: partial(_time, line) for name, (line, _) in commands.items()}, RUNS)
    bare = found["`python -c pass`"]
    cells = [
        [
            name,
            str(found[name].times(1000)),
            str(found[name].over(bare)),
            f"< {most * 1000:.0f}" if most else "",
        ]
        for name, (_, most) in commands.items()
    ]
    note = f"{RUNS} runs each, in turns, compiled modules and files in the page cache."
    columns = ["", "ms", "times a bare interpreter", "target"]
    return Section("start", "start of a command", [Table(columns, cells, note)])


def _time(command: list[str]) -> float:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    started = perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
    return perf_counter() - started
