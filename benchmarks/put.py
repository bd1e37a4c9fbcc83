"""One new 50 KB put, durable, against the same durability done by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

from benchmarks.corpora import photographs
from benchmarks.places import fresh, require_room, settle
from benchmarks.raw import Commits, sync_folder
from benchmarks.report import Section, Table
from benchmarks.rounds import Series, each, interleaved
from calotype import Store
from calotype.digest import Digest

PUTS = 25
ROUNDS = 24
TARGET = "<= 1.5"

Put = Callable[[bytes], object]


def run() -> Section:
    """Time ``PUTS`` puts a round: by hand, into a new store, into one that has its folders."""
    require_room(0.5, "the put row")
    old = fresh("folders")
    with Store(fresh("new")) as new, Store(old) as folders:
        sides: dict[str, tuple[Put, list[bytes]]] = {
            "raw": (_by_hand(fresh("raw")), _files("raw")),
            "new": (new.put, _files("new")),
            "folders": (folders.put, _files("folders")),
        }
        for put, files in sides.values():
            put(files.pop())
        _make_folders(old, sides["folders"][1])
        settle()
        works = {name: partial(_turn, put, iter(files)) for name, (put, files) in sides.items()}
        return Section("put", "one new 50 KB file, durable", [_table(interleaved(works, ROUNDS))])


def _table(found: dict[str, Series]) -> Table:
    ours = {"a new store": found["new"], "a store that has its folders": found["folders"]}
    cells = [["by hand", _ms(found["raw"]), "1", ""]]
    cells += [
        [f"`put` into {name}", _ms(series), str(series.over(found["raw"])), TARGET]
        for name, series in ours.items()
    ]
    note = (
        f"The mean of {PUTS} puts a round, {ROUNDS} rounds. By hand: write a temporary file, fsync "
        "it, rename it, fsync the directory, one SQLite WAL commit of a small row with "
        "synchronous=FULL. A put into a new store also makes and syncs up to two folders of its "
        "layout; into one that has them it syncs those it meets for the first time. A busy disk "
        "flatters the ratio: by hand should take about 1 ms; far more, and syncs hide our own work."
    )
    return Table(["", "ms", "ratio", "target"], cells, note)


def _ms(series: Series) -> str:
    return str(series.times(1000))


def _files(seed: str) -> list[bytes]:
    return photographs(PUTS * ROUNDS + 1, f"put {seed}")


def _turn(put: Put, files: Iterator[bytes]) -> float:
    return mean(each([next(files) for _ in range(PUTS)], put))


def _by_hand(folder: Path) -> Put:
    commits = Commits(folder / "rows.db")
    (folder / "blobs").mkdir()

    def put(data: bytes) -> None:
        name = Digest.of(data)
        _write(folder / "blobs", data, name)
        commits.one(name)

    return put


def _write(folder: Path, data: bytes, name: str) -> None:
    handle = os.open(folder / "tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(handle, data)
    os.fsync(handle)
    os.close(handle)
    (folder / "tmp").rename(folder / name)
    sync_folder(folder)


def _make_folders(store: Path, files: Sequence[bytes]) -> None:
    """What a store of a hundred thousand files has: every folder that these will go to."""
    for data in files:
        digest = Digest.of(data)
        shard = store / "blobs" / "sha256" / digest[:2] / digest[2:4]
        shard.mkdir(mode=0o700, parents=True, exist_ok=True)
