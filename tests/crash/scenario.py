"""One operation on a prepared store: what the crash points interrupt.

``python -m tests.crash.scenario NAME STORE`` prepares STORE unless it is there, performs the
operation, prints an acknowledgement once it has returned, and closes: for a look under strace.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from tests.crash.tracing import Call, trace

from calotype import Digest, Store
from calotype.errors import Corrupt, NotFound, Unavailable
from calotype.importing.removing import ASIDE
from calotype.quantities import SECOND, Instant, now

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360"
    "60606000000005000186a029d70000000049454e44ae426082"
)
DAY = 24 * 3600 * SECOND

Step = Callable[[Path], None]
Act = Callable[[Store], object]
Beside = Callable[[Store], list[str]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``whole`` says that nobody may ever see a part of it; ``ahead`` sets the store's clock on.

    ``damaged`` are digests whose bytes ``prepare`` spoiled; the operation ``mends`` them. One that
    ``redoes`` its failed steps by itself may be acknowledged after a failed sync, one that is
    ``lazy`` writes last what a power cut may take (usage, access counts), and one that ``holds``
    has bytes under a hold before it puts them to use. ``beside`` tells what is wrong with what lies
    outside of the store, at any moment.
    """

    name: str
    act: Act
    prepare: Step
    whole: bool = True
    ahead: int = 0
    damaged: tuple[str, ...] = ()
    mends: bool = True
    redoes: bool = False
    lazy: bool = False
    holds: bool = False
    beside: Beside = lambda _: []

    def spoiled(self, *, done: bool) -> tuple[str, ...]:
        """The digests whose bytes are not there, before the operation or when it is done."""
        return () if done and self.mends else self.damaged

    def store(self, path: Path) -> Store:
        """The store as the operation sees it."""
        return Store(path, clock=Clock(self.ahead))


class Clock:
    """This machine's clock, set on by ``ahead`` microseconds, and further at any time."""

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead

    def __call__(self) -> Instant:
        """The instant that it shows."""
        return now() + self._ahead

    def forward(self, by: int) -> None:
        """Set it on by as many microseconds."""
        self._ahead += by


def noise(name: str, size: int = 3000) -> bytes:
    """Bytes that only this name has."""
    return random.Random(name).randbytes(size)


def pieces(name: str, megabytes: int) -> Iterator[bytes]:
    """Bytes of that name, one megabyte at a time: put cannot know where they end."""
    for number in range(megabytes):
        yield noise(f"{name} {number}", 1 << 20)


def digest(data: bytes) -> str:
    """Its name."""
    return str(Digest.of(data))


LIBRARY, SHARED, TRASHED, HELD, DOUBLE, FIRST, SECOND_ONE = (
    noise(each) for each in ("library", "shared", "trashed", "held", "double", "first", "second")
)
NEW = PNG + noise("new")
MANY = [noise(f"many {number}") for number in range(5)]


def furnish(path: Path) -> None:
    """A store in which there is something of each sort that no operation may harm."""
    with Store(path) as store:
        other = store.scope("other")
        store.set_quota("other", "1 GB")
        store.put(LIBRARY, filename="library.bin")
        store.put(SHARED, owner="scan/1", role="original")
        other.put(SHARED, owner="scan/1", role="original")
        store.put(TRASHED, owner="scan/2")
        store.release("scan/2")
        store.put(HELD, hold="52w")
        other.put(DOUBLE)
        store.put(FIRST, owner="scan/3", role="original")
        store.put(SECOND_ONE, owner="scan/3", role="annotated")


def _after(*steps: Step) -> Step:
    """A furnished store on which these steps were done."""

    def prepare(path: Path) -> None:
        for step in (furnish, *steps):
            step(path)

    return prepare


def _doing(*acts: Act) -> Step:
    def step(path: Path) -> None:
        for act in acts:
            with Store(path) as store:
                act(store)

    return step


# -- what was there before ------------------------------------------------------------------


def _spoil(data: bytes, how: Callable[[Path], None]) -> Step:
    def step(path: Path) -> None:
        (found,) = path.glob(f"blobs/sha256/*/*/{digest(data)}*")
        found.chmod(0o600)
        how(found)

    return step


def _flip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:10])


def _notice(store: Store) -> None:
    try:
        store.open(digest(LIBRARY))
    except Corrupt:
        return
    raise AssertionError("the damage was not noticed")


def _let_go(store: Store) -> None:
    store.release("scan/1")
    store.release("scan/3")
    store.discard(digest(LIBRARY))


def _gone_and_back(store: Store) -> None:
    """The second replica of a digest has a key with a token, beside the first one's tombstone."""
    store.release("scan/3")
    store.gc(now=True)
    store.put(SECOND_ONE, owner="scan/3", role="annotated")
    store.release("scan/3")


def _placed(call: Call) -> bool:
    return call.name == "fsync" and call.path.count("/") == 3


def _written(call: Call) -> bool:
    return call.name == "fchmod"


def _leave_unfinished(path: Path) -> None:
    """Writers that died: one with its bytes in place, one with a temporary file."""
    for data, due in ((noise("placed"), _placed), (noise("written"), _written)):
        put = _doing(lambda store, data=data: store.put(data, owner="lost/1"))
        assert trace(partial(put, path), path, fault="kill", due=due).killed


def _fill_log(path: Path) -> None:
    """Leave a write-ahead log just short of the size at which a put checkpoints it."""
    store = Store(path)
    log = path / "catalog.db-wal"
    for size in (500_000, 50_000):
        while not log.exists() or log.stat().st_size < (8 << 20) - size:
            store.update(digest(LIBRARY), metadata={"a": random.randbytes(size // 4).hex()})
    store.update(digest(LIBRARY), metadata={})
    kept = log.read_bytes()
    assert len(kept) > (7 << 20), "it was checkpointed already"
    store.close()
    log.write_bytes(kept)


# -- the operations -------------------------------------------------------------------------


def _put_new(store: Store) -> object:
    return store.put(NEW, owner="scan/9", role="original", filename="new.png").status


def _put_staged(store: Store) -> object:
    return store.put(pieces("nine", 9), owner="scan/9").status


def _put_many(store: Store) -> object:
    sources: list[bytes | Iterator[bytes]] = [*MANY, MANY[0], LIBRARY, pieces("three", 3)]
    done = store.put_many(sources, owner="batch/1").result()
    for failure in done.failures:
        raise Unavailable(failure.message, hint=failure.hint)
    return done.created


@cache
def _tree() -> Path:
    """Files to import: some new, two of them the same, some that the store has already."""
    root = Path(tempfile.mkdtemp(prefix="calotype-tree-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    files = {"a": MANY[0], "b/a": MANY[0], "b/c": MANY[1], "d": LIBRARY, "e": SECOND_ONE, "f": NEW}
    for name, data in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
        os.utime(root / name, (1e9, 1e9 + 0.5))
    return root


def _import(store: Store) -> object:
    done = store.import_tree(_tree(), owner="tree/1").result()
    for failure in done.failures:
        raise Unavailable(failure.message, hint=failure.hint)
    return done.created


def _imported_before(store: Store) -> None:
    """One file has changed since, another's bytes were let go of and erased."""
    _import(store)
    store.release("tree/1", "f")
    store.gc(now=True)
    with store._rooms.catalog.write() as connection:
        connection.exec_driver_sql("UPDATE calotype_import_seen SET size = 1 WHERE size > 3000")


def _table(path: Path) -> None:
    """An application's table in the store's folder: its rows name files of the tree."""
    (path / "app").mkdir()
    with closing(sqlite3.connect(path / "app/app.db")) as raw, raw:
        raw.execute("CREATE TABLE image (id INTEGER PRIMARY KEY, path TEXT, digest TEXT)")
        names = [(str(_tree() / name),) for name in ("a", "b/a", "b/c", "d", "f")]
        raw.executemany("INSERT INTO image (path) VALUES (?)", names)


def _import_table(store: Store) -> object:
    """What rows say is true before, after a crash too, and of all of them afterwards."""
    catalog = store._rooms.catalog.path
    assert catalog is not None
    database = catalog.parent / "app/app.db"
    _require_rows(store, database, "WHERE digest IS NOT NULL")
    done = store.import_table(
        f"sqlite:///{database}",
        "image",
        "image/{id}",
        role="original",
        path_column="path",
        digest_column="digest",
    ).result()
    for failure in done.failures:
        raise Unavailable(failure.message, hint=failure.hint)
    _require_rows(store, database, "")
    return done.created


SOURCES = (MANY[0], MANY[0], NEW)
"""The files that rows name, or the bytes that they hold, which an import removes."""


def _sources(path: Path, *, inside: bool = False) -> None:
    """An application's table in the store's folder, with files of its own."""
    (path / "app").mkdir()
    with closing(sqlite3.connect(path / "app/app.db")) as raw, raw:
        raw.execute(
            "CREATE TABLE image (id INTEGER PRIMARY KEY, path TEXT, data BLOB, digest TEXT)"
        )
        for number, data in enumerate(SOURCES, 1):
            file = path / f"app/{number}/image.bin"
            if not inside:
                file.parent.mkdir()
                file.write_bytes(data)
                os.utime(file, (1e9, 1e9 + 0.5))
            given = number, f"{number}/image.bin", data if inside else None
            raw.execute("INSERT INTO image VALUES (?, ?, ?, NULL)", given)


def _move(store: Store, **column: str) -> object:
    """Import and remove; what was left aside the owner of the files clears away."""
    folder = _app(store)
    done = store.import_table(
        f"sqlite:///{folder}/app.db",
        "image",
        "image/{id}",
        role="original",
        digest_column="digest",
        root=folder,
        remove_sources=True,
        **column,
    ).result()
    try:
        for failure in done.failures:
            if not failure.source.endswith(ASIDE):
                raise Unavailable(failure.message, hint=failure.hint)
            assert _reads(store, digest(Path(failure.source).read_bytes())), failure
            Path(failure.source).unlink()
        if any((folder / f"{number}/image.bin").exists() for number in (1, 2, 3)):
            raise Unavailable("Not every source was removed.", hint="Import again.")
    except OSError as error:
        raise Unavailable(f"{error}", hint="It is the application's own.") from error
    return done.created


def _app(store: Store) -> Path:
    catalog = store._rooms.catalog.path
    assert catalog is not None
    return catalog.parent / "app"


def _nowhere(store: Store) -> list[str]:
    """Rows whose bytes are neither at their path or beside it, nor in them, nor in the store."""
    folder = _app(store)
    with closing(sqlite3.connect(folder / "app.db")) as raw:
        rows = raw.execute("SELECT * FROM image ORDER BY id").fetchall()
    assert len(rows) == len(SOURCES)
    aside = [each.read_bytes() for each in folder.glob(f"*/.*{ASIDE}")]
    return [
        f"the bytes of row {number} are nowhere; its digest is {found}"
        for (number, name, inside, found), data in zip(rows, SOURCES, strict=True)
        if data not in (inside, *aside)
        and not ((folder / name).exists() and (folder / name).read_bytes() == data)
        and not (found == digest(data) and _reads(store, found))
    ]


def _reads(store: Store, found: str) -> bool:
    try:
        with store.open(found) as file:
            return digest(file.read()) == found
    except (Corrupt, NotFound):
        return False


def _require_rows(store: Store, database: Path, which: str) -> None:
    try:
        with closing(sqlite3.connect(database)) as raw:
            rows = raw.execute(f"SELECT * FROM image {which}").fetchall()
    except sqlite3.Error as error:
        raise Unavailable(f"{error}", hint="It is the application's own.") from error
    for number, name, found in rows:
        assert found == digest(Path(name).read_bytes()), number
        has = [(each.role, each.digest) for each in store.references(owner=f"image/{number}")]
        assert has == [("original", found)], number


def _gc(store: Store) -> object:
    report = store.gc(now=True)
    if report.failed:
        raise Unavailable(f"{report.failed} keys could not be erased.", hint="Run gc again.")
    return report.erased


def _check(store: Store) -> object:
    return store.fsck(read_data=True, repair=True).result().problems


def _scenarios() -> Iterator[Scenario]:
    library = (digest(LIBRARY),)
    heal = partial(Store.put, source=LIBRARY)
    yield Scenario("put-new", _put_new, furnish)
    yield Scenario("put-first", _put_new, lambda _: None, lazy=True)
    yield Scenario("put-staged", _put_staged, furnish)
    yield Scenario("put-duplicate", lambda s: s.put(LIBRARY, owner="scan/9").status, furnish)
    yield Scenario(
        "put-other-scope", lambda s: s.scope("other").put(LIBRARY, owner="scan/8").status, furnish
    )
    yield Scenario("put-restored", lambda s: s.put(TRASHED).status, furnish)
    yield Scenario("put-slot", lambda s: s.put(NEW, "scan/3", "original").status, furnish)
    yield Scenario(
        "put-back", lambda s: s.put(FIRST, owner="scan/9").status, _after(_doing(_gone_and_back))
    )
    yield Scenario("put-checkpoint", _put_new, _after(_fill_log))
    spoiled = _after(_spoil(LIBRARY, _flip), _doing(_notice))
    yield Scenario("heal-suspect", lambda s: heal(s).status, spoiled, damaged=library)
    short = _after(_spoil(LIBRARY, _truncate))
    yield Scenario("heal-short", lambda s: heal(s).status, short, damaged=library)
    lost = _after(_spoil(LIBRARY, Path.unlink))
    yield Scenario("heal-missing", lambda s: heal(s).status, lost, damaged=library)
    yield Scenario("put-many", _put_many, furnish, whole=False, redoes=True)
    yield Scenario("import", _import, furnish, whole=False, redoes=True, lazy=True)
    again = _after(_doing(_imported_before))
    yield Scenario("import-again", _import, again, whole=False, redoes=True, lazy=True)
    yield Scenario(
        "import-table",
        _import_table,
        _after(_table),
        whole=False,
        redoes=True,
        lazy=True,
        holds=True,
    )
    for name, column, prepare in (
        ("import-table-remove", {"path_column": "path"}, _sources),
        ("import-bytes-remove", {"bytes_column": "data"}, partial(_sources, inside=True)),
    ):
        yield Scenario(
            name,
            partial(_move, **column),
            _after(prepare),
            whole=False,
            redoes=True,
            lazy=True,
            holds=True,
            beside=_nowhere,
        )
    yield Scenario("attach", lambda s: s.attach(digest(LIBRARY), "scan/9", "original"), furnish)
    yield Scenario(
        "attach-slot", lambda s: s.attach(digest(LIBRARY), "scan/3", "original"), furnish
    )
    yield Scenario("release", lambda s: s.release("scan/3").references, furnish)
    yield Scenario(
        "restore-owner",
        lambda s: s.restore(owner="scan/3").digests,
        _after(_doing(lambda s: s.release("scan/3"))),
    )
    yield Scenario("restore-asset", lambda s: s.restore(digest(TRASHED)).digests, furnish)
    yield Scenario("discard", lambda s: s.discard(digest(LIBRARY)).digest, furnish)
    yield Scenario("gc", _gc, _after(_doing(_gone_and_back, _let_go)), whole=False, lazy=True)
    doomed = _after(_doing(_let_go, lambda s: s.gc(grace=0, erase_delay="1h")))
    yield Scenario("gc-erase", _gc, doomed, whole=False, lazy=True)
    unfinished = _after(_doing(_gone_and_back, _gc), _leave_unfinished)
    yield Scenario("gc-late", _gc, unfinished, whole=False, ahead=DAY + DAY // 24, lazy=True)
    yield Scenario("purge", lambda s: s.purge(digest(SHARED)).assets, furnish, lazy=True)
    yield Scenario("fsck", _check, lost, damaged=library, mends=False, lazy=True)


SCENARIOS = {scenario.name: scenario for scenario in _scenarios()}


def main(name: str, store: str) -> None:
    """Perform the scenario ``name`` on the store at that path."""
    path = Path(store)
    if not path.exists():
        SCENARIOS[name].prepare(path)
    with SCENARIOS[name].store(path) as opened:
        print("acked", SCENARIOS[name].act(opened), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
