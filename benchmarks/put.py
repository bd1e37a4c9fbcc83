"""One new 50 KB put, durable, against the same durability done by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import mean

from benchmarks.corpora import photographs
from benchmarks.places import fresh, require_room, settle
from benchmarks.raw import Commits, sync_folder
from benchmarks.report import Section, Table
from benchmarks.rounds import Series, each, interleaved
from calotype import Store
from calotype.digest import Digest

PUTS = 200
ROUNDS = 8
TARGET = "<= 1.5"

_seeds = map("put{}".format, count())


def run() -> Section:
    """Time ``PUTS`` puts a round: by hand, into a new store, into one that has its folders."""
    require_room(0.5, "the put row")
    found = interleaved(
        {"raw": _raw, "new": partial(_put, []), "folders": partial(_put, ["made"])}, ROUNDS
    )
    ours = {"a new store": found["new"], "a store that has its folders": found["folders"]}
    cells = [["by hand", _ms(found["raw"]), "1", ""]]
    cells += [
        [f"`put` into {name}", _ms(series), str(series.over(found["raw"])), TARGET]
        for name, series in ours.items()
    ]
    note = (
        f"{PUTS} puts a round, {ROUNDS} rounds. By hand: write a temporary file, fsync, rename, "
        "fsync the directory, one SQLite WAL commit of a small row with synchronous=FULL. A put "
        "into a new store also makes and syncs up to two folders of its layout."
    )
    return Section(
        "put", "one new 50 KB file, durable", [Table(["", "ms", "ratio", "target"], cells, note)]
    )


def _ms(series: Series) -> str:
    return str(series.times(1000))


def _files() -> list[bytes]:
    return photographs(PUTS + 1, next(_seeds))


def _raw() -> float:
    folder = fresh("raw")
    commits = Commits(folder / "rows.db")
    (folder / "blobs").mkdir()

    def put(data: bytes, name: str) -> None:
        _write(folder / "blobs", data, name)
        commits.one(name)

    files = _files()
    put(files[0], "first")
    return _mean([partial(put, data, str(number)) for number, data in enumerate(files[1:])])


def _write(folder: Path, data: bytes, name: str) -> None:
    handle = os.open(folder / "tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(handle, data)
    os.fsync(handle)
    os.close(handle)
    (folder / "tmp").rename(folder / name)
    sync_folder(folder)


def _put(made: Sequence[str]) -> float:
    folder = fresh("put")
    files = _files()
    if made:
        for data in files:
            digest = Digest.of(data)
            shard = folder / "blobs" / "sha256" / digest[:2] / digest[2:4]
            shard.mkdir(parents=True, exist_ok=True)
    with Store(folder) as store:
        store.put(files[0])
        return _mean([partial(store.put, data) for data in files[1:]])


def _mean(works: Sequence[Callable[[], object]]) -> float:
    settle()
    return mean(each(works, lambda work: work()))
