"""PostgreSQL and S3: catalog, bytes and moving them, on real servers of this run's own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from time import perf_counter

from tests import seaweed, servers

from benchmarks import corpora, sides
from benchmarks.places import ROOT, fresh, require_room, settle, warm
from benchmarks.report import Section, Table
from benchmarks.rounds import Series, interleaved
from calotype import Store

ROUNDS = 4
OBJECTS = 3000
"""Different files of corpus A that go to a server: 150 MB keep the rounds within minutes."""

OBSTORE = "obstore==0.12.1"
BOTO3 = "boto3==1.44.5"


def run() -> Section:
    """Import A by PostgreSQL's catalog; put a part of it into S3 and PostgreSQL, and move it."""
    require_room(30, "the backends row")
    os.environ.update(seaweed.ENVIRONMENT)
    return Section(
        "backends",
        "PostgreSQL and S3",
        [_catalog(), _s3(), _database(), _memory(), _move()],
    )


def _catalog() -> Table:
    tree = Path(os.path.commonpath(corpora.a()))
    warm(corpora.a())
    found = interleaved(
        {"SQLite": partial(_import, tree, ""), "PostgreSQL": partial(_import, tree, "postgres")},
        ROUNDS,
    )
    head = ["`calotype import` of A, catalog in", "s", "ratio", "target"]
    note = f"{ROUNDS} rounds, whole commands, bytes in a local folder."
    return Table(head, _over(found, "SQLite", ["", "<= 1.5"]), note)


def _over(found: Mapping[str, Series], name: str, targets: Sequence[str]) -> list[list[str]]:
    """A row each: its seconds, those over the seconds of ``name``, and its target."""
    return [
        [each, str(seconds), str(seconds.over(found[name])), target]
        for (each, seconds), target in zip(found.items(), targets, strict=True)
    ]


def _import(tree: Path, catalog: str) -> float:
    folder = fresh("catalog")
    settle()
    if not catalog:
        return sides.import_(folder, tree)
    return sides.import_into(servers.schema(), f"file:{folder}/media", tree)


def _s3() -> Table:
    files = _objects()
    found = interleaved(
        {
            "obstore, 16 in flight": partial(_peer, OBSTORE, files),
            "boto3, one after another": partial(_peer, BOTO3, files),
            "`put_many`": partial(_put_many, files, ""),
        },
        ROUNDS,
    )
    cells = _over(found, "`put_many`", [">= 0.8", ">= 3", ""])
    note = f"{ROUNDS} rounds, SeaweedFS; {OBJECTS} different files of corpus A, in the page cache."
    return Table(["to an S3 service by", "s", "of put_many's time", "target"], cells, note)


def _database() -> Table:
    files = _objects()
    found = interleaved(
        {
            "psycopg, binary, a row a file": partial(_bare_write, files),
            "`put_many`, backend `database:`": partial(_put_many, files, "database:"),
        },
        ROUNDS,
    )
    cells = _over(found, "`put_many`, backend `database:`", [">= 0.8", ""])
    note = f"{ROUNDS} rounds; {OBJECTS} different files of corpus A, in the page cache."
    return Table(["into PostgreSQL by", "s", "of put_many's time", "target"], cells, note)


def _memory() -> Table:
    runs = [_put(corpora.c(), servers.schema(), "database:") for _ in range(2)]
    peaks = Series(tuple(run["peak"] / 1e6 for run in runs))
    growth = Series(tuple((run["peak"] - run["before"]) / 1e6 for run in runs))
    cells = [["C: one file of 1 GiB", str(peaks), str(growth), "bounded: < 120 MB"]]
    return Table(["`put_many` into PostgreSQL of", "peak, MB", "growth, MB", "target"], cells)


def _move() -> Table:
    files = _objects()
    bare = servers.schema()
    _bare(bare, "write", files)
    found = interleaved(
        {
            "psycopg, binary, every row read": partial(_bare, bare, "read", []),
            "`backend copy` to S3": partial(_copied, files),
        },
        ROUNDS,
    )
    cells = _over(found, "`backend copy` to S3", [">= 0.6", ""])
    note = f"{ROUNDS} rounds; {OBJECTS} different files of corpus A; copied without reading back."
    return Table(["from PostgreSQL by", "s", "of the copy's time", "target"], cells, note)


@cache
def _objects() -> list[Path]:
    """Different files of corpus A, in the page cache."""
    found: dict[str, Path] = {}
    for path in corpora.a():
        found.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        if len(found) == OBJECTS:
            break
    return list(found.values())


def _put_many(files: Sequence[Path], backend: str) -> float:
    settle()
    if backend:
        return _put(files, servers.schema(), backend)["seconds"]
    catalog = f"sqlite:///{fresh('s3')}/catalog.db"
    return _put(files, catalog, seaweed.url())["seconds"]


def _put(files: Sequence[Path], catalog: str, backend: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", catalog, backend]
    answer: dict[str, float] = json.loads(sides.run(command, files))
    return answer


def _peer(package: str, files: Sequence[Path]) -> float:
    settle()
    name = package.partition("=")[0]
    script = str(ROOT / "benchmarks" / "peer_s3.py")
    command = [sides.python_with(package), script, name, seaweed.endpoint(), uuid.uuid4().hex]
    return float(json.loads(sides.run(command, files))["seconds"])


def _bare_write(files: Sequence[Path]) -> float:
    settle()
    return _bare(servers.schema(), "write", files)


def _bare(url: str, way: str, files: Sequence[Path]) -> float:
    command = [sys.executable, "-m", "benchmarks.bare_postgres", url, way]
    return float(json.loads(sides.run(command, files))["seconds"])


def _copied(files: Sequence[Path]) -> float:
    catalog = servers.schema()
    _put(files, catalog, "database:")
    settle()
    with Store(catalog=catalog, backend="database:") as store:
        store.backends.add("bucket", seaweed.url())
        started = perf_counter()
        done = store.backends.copy("bucket", verify=False).result()
        seconds = perf_counter() - started
    if done.copied != len(files):
        raise SystemExit(f"Copied {done.copied} of {len(files)}: {done.failures[:1]}")
    return seconds
