"""SQLite: how its files are made, opened, written, checkpointed and understood when they fail.

A file of our own runs in WAL mode with ``synchronous=FULL`` (with NORMAL, power cuts bring rows
back without their bytes). SQLite before 3.51.3 can corrupt a WAL that is reset while another
connection checkpoints, so nobody checkpoints by accident: ``wal_autocheckpoint`` is 0, and one
checkpointer at a time, outside any transaction and under a file lock, works once the WAL has
passed 8 MiB. A file that holds an application's tables keeps the journal mode it has.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool, SingletonThreadPool, StaticPool

from calotype.catalog import at_rest, wal_index
from calotype.catalog.locks import only_one, waiting_for
from calotype.errors import Misconfigured, Unavailable
from calotype.quantities import Instant

OLDEST = (3, 35, 0)
WAL_RESET_FIXED = (3, 51, 3)
BUSY_MS = 10_000
"""How long SQLite waits for a lock that others hold for a moment, to read or to commit."""

STEP_MS = 250
"""How long it waits to become the writer before the catalog looks who is in the way."""

FULL = 2
"""The number of synchronous=FULL."""

HASTY = ("PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL")
"""How to commit without a sync, and how to go back to what is usual."""

UNBOUND = ("PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON")
"""How to replace tables that others point at, and how to go back."""

AT_HAND = ("PRAGMA temp_store=MEMORY", "PRAGMA temp_store=DEFAULT")
"""How to hold in memory what undoes the statement at work, and how to go back.

It is a file else, once it has more than a few pages; an insert with triggers writes it anew for
each row. It has the pages that one statement changes: few, unless that changes rows everywhere.
"""

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})


def engine(path: Path, *, own: bool) -> Engine:
    """An engine for the file at ``path``; ``own`` when no application shares it."""
    made = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=-1,
        connect_args={"isolation_level": None, "check_same_thread": False},
    )
    at_rest.watch(made, path)
    event.listen(made, "connect", _settings(own, real(path)))
    return made


def real(path: Path) -> Path:
    """The file that a link leads to: beside it SQLite has its log, and so have we what is ours."""
    return Path(os.path.realpath(path))


def memory_engine() -> Engine:
    """An engine whose only connection is a database in memory."""
    made = create_engine(
        "sqlite+pysqlite://",
        poolclass=StaticPool,
        connect_args={"isolation_level": None, "check_same_thread": False},
    )
    event.listen(made, "connect", _settings(True))
    return made


def _settings(
    own: bool, path: Path | None = None
) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    """What every connection of ours begins with, to the file at ``path`` or to memory."""

    def set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)
        try:
            settle(connection)
        except BaseException:
            connection.close()
            raise

    def settle(connection: sqlite3.Connection) -> None:
        if path is not None:
            wal_index.settle(connection, path)
        connection.create_function("lower", 1, _lower, deterministic=True)
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=FULL")
        if sys.platform == "darwin":
            cursor.execute("PRAGMA fullfsync=ON")
            cursor.execute("PRAGMA checkpoint_fullfsync=ON")
        if own:
            cursor.execute("PRAGMA wal_autocheckpoint=0")
            cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    return set_up


def _lower(text: str | None) -> str | None:
    """SQLite's own lower() knows ASCII alone."""
    return text.lower() if isinstance(text, str) else text


def tell(connection: Connection, command: str) -> None:
    """Run a command that has no parameters and no rows, at the driver's own price."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute(command).close()
    else:  # that of an application's aiosqlite, which is awaited
        connection.exec_driver_sql(command)


def in_use(made: Engine) -> bool:
    """True when a connection of the engine is lent out at this moment, or about to be.

    It waits for nobody: in a forked child no thread is there to give back the pool's lock.
    """
    pool = made.pool
    if not isinstance(pool, QueuePool):
        return False
    lock = vars(pool._pool)["mutex"]
    if not lock.acquire(blocking=False):
        return True
    try:
        return pool.checkedout() > 0
    finally:
        lock.release()


@contextmanager
def strictly(connection: Connection) -> Iterator[None]:
    """Durable commits and foreign keys for one transaction on an application's own engine."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    synchronous = int(driver.execute("PRAGMA synchronous").fetchone()[0])
    keys = int(driver.execute("PRAGMA foreign_keys").fetchone()[0])
    driver.execute(f"PRAGMA synchronous={max(synchronous, FULL)}").close()
    driver.execute("PRAGMA foreign_keys=ON").close()
    try:
        yield
    finally:
        if driver.in_transaction:  # its commit failed; the settings hold until it is over
            driver.rollback()
        driver.execute(f"PRAGMA synchronous={synchronous}").close()
        driver.execute(f"PRAGMA foreign_keys={keys}").close()


@contextmanager
def overwriting_nothing(connection: Connection) -> Iterator[None]:
    """On SQLite: pages that are let go of keep their old bytes; zeros need room in the log."""
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = int(connection.exec_driver_sql("PRAGMA secure_delete").scalar_one())
    tell(connection, "PRAGMA secure_delete=FAST")
    try:
        yield
    finally:
        tell(connection, f"PRAGMA secure_delete={('OFF', 'ON', 'FAST')[usual]}")


@contextmanager
def in_steps(connection: Connection, patience: float) -> Iterator[None]:
    """Wait ``STEP_MS`` (or ``patience`` seconds) at most for a lock; for engines of our own."""
    tell(connection, f"PRAGMA busy_timeout={min(STEP_MS, round(patience * 1000))}")
    try:
        yield
    finally:
        tell(connection, f"PRAGMA busy_timeout={BUSY_MS}")


def schema_version(connection: Connection) -> int:
    """The number that SQLite raises whenever a table, index or trigger changes."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return int(driver.execute("PRAGMA schema_version").fetchone()[0])


def in_transaction(connection: Connection) -> bool:
    """True when SQLite has a transaction open on this connection."""
    return bool(getattr(connection.connection.driver_connection, "in_transaction", False))


def file_behind(engine: Engine) -> Path | None:
    """The file of an application's engine whose URL names none: a URI's, or a creator's.

    SQLite is asked, by a connection that no pool has, so that no child of a fork inherits it. None
    for a database in memory, and where all have one connection, which is not to be touched.
    """
    if isinstance(engine.pool, StaticPool | SingletonThreadPool):
        return None
    asked, other = engine.pool.recreate().connect(), engine.pool.recreate().connect()
    shared = asked.driver_connection is other.driver_connection  # the creator's, and not ours
    try:
        [(_, _, name), *_] = asked.cursor().execute("PRAGMA database_list").fetchall()
    finally:
        for each in (asked, other):
            each.detach()
            if not shared:
                each.close()
    file = Path(os.fsdecode(name)) if name else None
    return file if file is not None and file.exists() else None


def require_version() -> None:
    """Refuse an SQLite that lacks RETURNING and the fixes that came with it."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise Misconfigured(
            f"SQLite {sqlite3.sqlite_version} is too old.",
            hint="Calotype needs SQLite 3.35 or newer: use a newer Python build.",
        )


def wal_reset_bug() -> bool:
    """True when the linked SQLite has the WAL-reset bug."""
    return sqlite3.sqlite_version_info < WAL_RESET_FIXED


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, or "" where it cannot be told."""
    try:
        mounts = MOUNTS.read_text(errors="replace").splitlines()
        device = _existing(path).stat().st_dev
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(mounts):
        fields = line.split()
        if len(fields) > 2 and fields[2] == wanted and "-" in fields:
            return fields[fields.index("-") + 1]
    return ""


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def refuse_network(path: Path) -> None:
    """WAL shares memory between processes, which no network file system offers."""
    if (kind := file_system(path)) in NETWORK:
        raise Misconfigured(
            f"The catalog {path} would lie on {kind}, where SQLite cannot be shared safely.",
            hint="Keep the catalog on a local disk, or use catalog='postgresql://...'.",
        )


def create(path: Path, fill: Callable[[Engine], None]) -> None:
    """Make the catalog file at ``path`` whole or not at all; harmless when another is faster.

    The file is built under another name and linked into place when it is complete and on disk.
    """
    refuse_network(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _drafted(path.parent, path.name, fill) as draft:
        with waiting_for(Path(f"{path}-checkpoint")):
            if path.exists():
                return
            for old in ("-wal", "-shm"):  # of a catalog that was removed: they would be replayed
                Path(f"{path}{old}").unlink(missing_ok=True)
            os.link(draft, path)
        sync(path.parent)


def rehearse(path: Path, fill: Callable[[Engine], None]) -> None:
    """Raise what ``create`` would raise. The file lies in the nearest folder that is there."""
    refuse_network(path)
    folder = next(each for each in path.parents if each.exists())
    with _drafted(folder, path.name, fill):
        pass


@contextmanager
def _drafted(folder: Path, name: str, fill: Callable[[Engine], None]) -> Iterator[Path]:
    """A catalog's file under another name, for the length of the block."""
    draft = folder / f".{name}.{os.urandom(6).hex()}"
    try:
        _build(draft, fill)
        yield draft
    finally:
        for leftover in folder.glob(f"{draft.name}*"):
            leftover.unlink(missing_ok=True)


def _build(draft: Path, fill: Callable[[Engine], None]) -> None:
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # it holds signing keys
    made = engine(draft, own=True)
    try:
        use_wal(made, draft)
        fill(made)
        move_wal_into_file(made, draft)
    finally:
        made.dispose()
    sync(draft)


def use_wal(made: Engine, path: Path) -> None:
    """Put a file of our own into WAL mode, for good."""
    with made.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
    if mode != "wal":
        raise Unavailable(
            f"SQLite cannot keep {path.parent} in WAL mode.", hint="Use another disk."
        )


def have_wal(made: Engine, path: Path) -> None:
    """The same for one that was put back by other tools, which make it without.

    What may not be written is left for the writing itself to say.
    """
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return
    with made.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    if mode != "wal" and file_system(path) not in NETWORK:
        use_wal(made, path)


def move_wal_into_file(made: Engine, path: Path) -> None:
    """Move all of the WAL into the file, or raise ``Unavailable``.

    Closing would do it too, but keep quiet when the disk is full.
    """
    with only_one(Path(f"{path}-checkpoint")) as mine, made.connect() as connection:
        busy = not mine or connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
    if busy:
        raise Unavailable("The catalog's log could not be written to its file.", hint="Try again.")


def sweep_drafts(path: Path, older_than: Instant) -> int:
    """Remove what killed makers of the catalog left beside it; how many files."""
    swept = 0
    for leftover in path.parent.glob(f".{path.name}.*"):
        with suppress(FileNotFoundError):
            if leftover.stat().st_mtime_ns // 1000 < older_than:
                leftover.unlink()
                swept += 1
    return swept


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk; Windows does so with names by itself."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writers(path: Path) -> set[int]:
    """The processes that hold the write lock of the file (Linux; else none).

    In WAL mode that is byte 120 of the -shm file, otherwise RESERVED, byte 0x40000001.
    """
    wanted = {}
    for name, byte in ((f"{path}-shm", 120), (str(path), 0x40000001)):
        try:
            wanted[Path(name).stat().st_ino] = byte
        except OSError:
            continue
    try:
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    return {int(line.split()[4]) for line in locks if _is_held(line.split(), wanted)}


def _is_held(fields: list[str], wanted: dict[int, int]) -> bool:
    if len(fields) < 8 or fields[3] != "WRITE" or not fields[4].isdecimal():
        return False
    byte = wanted.get(int(fields[5].rsplit(":", 1)[1]))
    return byte is not None and int(fields[6]) <= byte <= int(fields[7].replace("EOF", str(2**63)))
