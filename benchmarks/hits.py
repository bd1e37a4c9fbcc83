"""What is known already: dedup hits, open, and check, in a catalog of 100,000 assets."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.catalogs import Synthetic
from benchmarks.corpora import photographs
from benchmarks.places import fresh, require_room
from benchmarks.raw import Commits
from benchmarks.report import Section, Table
from benchmarks.rounds import Series, each, interleaved
from calotype import Store

T = TypeVar("T")

ASSETS = 100_000
FILES = 20
CHECKED = 1000
CHECKS = 3
ROUNDS = 40

JOINED = (
    "SELECT a.scope, a.digest, a.kept_until, a.filename, a.metadata, a.created_at, "
    "a.last_accessed, a.access_count, b.size, b.media_type, b.extension, b.width, b.height "
    "FROM calotype_asset a JOIN calotype_blob b ON b.digest = a.digest "
    "WHERE a.scope = 'default' AND a.digest IN (SELECT value FROM json_each(?))"
)
COUNTED = JOINED.replace(
    " FROM",
    ", (SELECT count(*) FROM calotype_reference r WHERE r.digest = a.digest "
    "AND r.scope = a.scope AND r.released_at IS NULL) FROM",
    1,
)


@dataclass(frozen=True, slots=True)
class Ground:
    """A store of ``ASSETS`` assets and ``FILES`` real ones, open in this process."""

    store: Store
    folder: Path
    files: list[bytes]
    digests: list[str]


def run() -> Section:
    """Time hits, opens and checks, each against its raw side."""
    require_room(0.5, "the hits row")
    folder = Synthetic(ASSETS).copy(fresh("hits"))
    with Store(folder) as store:
        files = photographs(FILES, "hits")
        digests = [str(store.put(data).digest) for data in files]
        ground = Ground(store, folder, files, digests)
        tables = [_hits(ground), _opens(ground), _checks(ground)]
    return Section("hits", f"dedup hit, open and check among {ASSETS:,} assets", tables)


def _hits(ground: Ground) -> Table:
    commits = Commits(fresh("raw") / "rows.db")
    numbers = count()
    store = ground.store
    found = interleaved(
        {
            "commit": lambda: _each(range(FILES), lambda _: commits.one(str(next(numbers)))),
            "again": lambda: _each(ground.files, store.put),
            "owner": lambda: _each(
                ground.files, lambda data: store.put(data, owner=f"scan/{next(numbers)}")
            ),
        },
        ROUNDS,
    )
    allowed = found["commit"].plus(0.0003)
    cells = [
        ["one SQLite WAL commit, synchronous=FULL", _ms(found["commit"]), "", ""],
        ["0.3 ms + one commit", _ms(allowed), "1", ""],
        [
            "`put` again, a new owner",
            _ms(found["owner"]),
            str(found["owner"].over(allowed)),
            "<= 1",
        ],
        ["`put` again", _ms(found["again"]), str(found["again"].over(allowed)), "<= 1"],
    ]
    note = (
        f"{FILES} files of 50 KB in memory a round, their median counts, {ROUNDS} rounds. A put "
        "that changes nothing commits nothing; one with a new owner adds a reference durably."
    )
    return Table(["dedup hit", "ms", "ratio", "target"], cells, note)


def _opens(ground: Ground) -> Table:
    paths = {path.name[:64]: path for path in (ground.folder / "blobs").rglob("*.jpg")}

    def raw(digest: str) -> None:
        assert hashlib.sha256(paths[digest].read_bytes()).hexdigest() == digest

    def ours(digest: str) -> None:
        with ground.store.open(digest) as file:
            file.read()

    found = interleaved(
        {
            "raw": lambda: _each(ground.digests, raw),
            "open": lambda: _each(ground.digests, ours),
            "stat": lambda: _each(ground.digests, ground.store.stat),
        },
        ROUNDS,
    )
    cells = [
        ["open, read, SHA-256 by hand", _ms(found["raw"]), str(_to(found["raw"], 0.0002)), ""],
        ["`stat`", _ms(found["stat"]), str(_to(found["stat"], 0.0002)), ""],
        ["`open` and read, verified", _ms(found["open"]), str(_to(found["open"], 0.0002)), "<= 1"],
    ]
    return Table(["open of 50 KB", "ms", "of 0.2 ms", "target"], cells)


def _checks(ground: Ground) -> Table:
    known = list(islice(Synthetic(ASSETS).digests(ASSETS // CHECKED), CHECKED))
    half = [
        hashlib.sha256(known[n].encode()).hexdigest() if n % 2 else known[n] for n in range(CHECKED)
    ]
    connection = sqlite3.connect(ground.folder / "catalog.db")
    cells = []
    for name, digests in (("all known", known), ("half known", half)):
        found = interleaved(
            {
                "joined": partial(_repeat, partial(_query, connection, JOINED, digests)),
                "counted": partial(_repeat, partial(_query, connection, COUNTED, digests)),
                "check": partial(_repeat, partial(ground.store.check, digests)),
            },
            ROUNDS,
        )
        ours = found.pop("check")
        cells.append([f"`check`, {name}", _ms(ours), "1", ""])
        cells += [
            [f"the raw query, {what}, {name}", _ms(series), str(series.over(ours)), target]
            for what, series, target in (
                ("asset and blob", found["joined"], ">= 0.5"),
                ("with live references counted", found["counted"], ">= 0.5"),
            )
        ]
    connection.close()
    note = (
        f"{CHECKED} digests, {CHECKS} times a round, their median counts, {ROUNDS} rounds. The "
        "share is check's speed as a part of the raw query's (sqlite3, tuples). check answers "
        "with Asset objects and counts live references."
    )
    return Table(["check of 1000", "ms", "share of raw speed", "target"], cells, note)


def _query(connection: sqlite3.Connection, statement: str, digests: list[str]) -> None:
    connection.execute(statement, (json.dumps(digests),)).fetchall()


def _repeat(work: Callable[[], object]) -> float:
    return _each(range(CHECKS), lambda _: work())


def _each(items: Iterable[T], work: Callable[[T], object]) -> float:
    return median(each(items, work))


def _to(series: Series, seconds: float) -> Series:
    return series.times(1 / seconds)


def _ms(series: Series) -> str:
    return str(series.times(1000))
