"""Ingest of whole corpora by ``calotype import``: cold, again, and touched; the floor and peers."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import corpora, sides
from benchmarks.places import fresh, require_room, settle, warm
from benchmarks.report import Section, Table
from benchmarks.rounds import Series, interleaved

ROUNDS = 4
TOUCHED = 10
"""Every how many files is touched: it has another date, and the same bytes."""

Side = Callable[[Path], float]
Times = dict[str, list[float]]


def run() -> Section:
    """Ingest corpus A, then corpus B: each side into a new folder, again, and touched."""
    require_room(40, "the ingest row")
    tables = [
        _corpus(
            "A: 20,000 images, mean 49 KB, half duplicates",
            corpora.a(),
            ["<= 1.7 of the floor; >= 2 x hashfs, 1.5 x borg", ">= 3 x hashfs and dvc; < borg"],
        ),
        _corpus(
            f"B: {corpora.LARGE} photographs of 12 megapixels, mean 4.5 MB",
            corpora.b(),
            [">= 1.5 x hashfs; >= 1 x borg", ""],
        ),
    ]
    return Section("ingest", "`calotype import` of whole corpora", tables)


def _corpus(name: str, files: Sequence[Path], targets: Sequence[str]) -> Table:
    tree = Path(os.path.commonpath(files))
    peers: dict[str, Side] = {
        "`calotype import`, durable": partial(sides.import_, tree=tree),
        "`put_many`, durable": lambda folder: sides.calotype(folder, files)["seconds"],
        "hashfs, no rows, no sync": partial(sides.hashfs, files=files),
        "borg": partial(sides.borg, tree=tree),
        "restic": partial(sides.restic, tree=tree),
        "dvc add": partial(sides.dvc, tree=tree),
        "rsync -a, no hash": partial(sides.rsync, tree=tree),
    }
    again: Times = {each: [] for each in peers}
    touched: Times = {each: [] for each in peers}
    works: dict[str, Callable[[], float]] = {
        "the floor, 2 threads, no rows, no sync": partial(_floor, files, durable=False),
        "the floor and one syncfs": partial(_floor, files, durable=True),
        **{
            each: partial(_thrice, side, files, again[each], touched[each])
            for each, side in peers.items()
        },
    }
    cold = interleaved(works, ROUNDS)
    ours = "`calotype import`, durable"
    floor = cold["the floor, 2 threads, no rows, no sync"]
    cells = [
        [
            side,
            str(seconds),
            str(seconds.over(floor)),
            str(seconds.over(cold[ours])),
            *(
                [str(Series(tuple(times[side]))) for times in (again, touched)]
                if side in peers
                else ["", ""]
            ),
        ]
        for side, seconds in cold.items()
    ]
    cells.append(["target", targets[0], "", "", targets[1], ""])
    columns = [name, "cold, s", "of the floor", "of import's time", "again, s", "touched, s"]
    note = (
        f"{ROUNDS} rounds, corpus in the page cache, new folders every time; whole processes, but "
        "for put_many and hashfs, which are timed from the first file to the last. Touched: every "
        f"{TOUCHED}th file has a new date and the same bytes. hashfs and put_many remember no "
        "files: again they read all. dvc adds a copy inside its own folder."
    )
    return Table(columns, cells, note)


def _floor(files: Sequence[Path], *, durable: bool) -> float:
    _settle(files)
    return sides.floor(fresh("floor"), files, durable=durable)


def _thrice(side: Side, files: Sequence[Path], again: list[float], touched: list[float]) -> float:
    folder = fresh("ingest")
    _settle(files)
    cold = side(folder)
    _settle(files)
    again.append(side(folder))
    _touch(files)
    _settle(files)
    touched.append(side(folder))
    return cold


def _settle(files: Sequence[Path]) -> None:
    """A quiet disk, and the corpus in the page cache: of what others wrote it may have left it."""
    settle()
    warm(files)


def _touch(files: Sequence[Path]) -> None:
    """Give some files another date, a while ago."""
    date = time.time() - random.Random(len(files)).uniform(100, 200) - time.monotonic() % 50
    for path in files[::TOUCHED]:
        os.utime(path, (date, date))
