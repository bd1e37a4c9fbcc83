"""A catalog at rest where nobody may write: SQLite reads it as a file that never changes.

A file in WAL mode needs its ``-shm`` beside it, which cannot be made there. ``immutable=1`` does
without, and without locks: it is right only while no other way in is used to write. So each
connection decides anew, none is kept, and what was read while the file changed is not believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from calotype.errors import Unavailable

_SEEN = "calotype_at_rest"

Opener = Callable[
    [Dialect, ConnectionPoolEntry, list[object], dict[str, object]], DBAPIConnection | None
]


def watch(engine: Engine, path: Path) -> None:
    """Let every connection of ``engine`` find out whether the file at ``path`` is at rest."""
    event.listen(engine, "do_connect", _opener(path))
    event.listen(engine, "checkin", _forget)


def require_unchanged(connection: Connection) -> None:
    """Raise ``Unavailable`` if the file at rest that ``connection`` read was changed meanwhile."""
    seen = connection.info.get(_SEEN)
    if seen is not None and seen != _state(Path(seen[0])):
        raise Unavailable(
            "The catalog was written to while it was read.",
            hint="Try again; it is read another way while somebody writes.",
        )


def _opener(path: Path) -> Opener:
    def connect(
        dialect: Dialect,
        entry: ConnectionPoolEntry,
        _: list[object],
        settings: dict[str, object],
    ) -> DBAPIConnection | None:
        if not path.exists() or _may_write(path.parent) or _wal(path).exists():
            return None
        entry.info[_SEEN] = _state(path)
        return dialect.connect(f"file:{quote(str(path))}?immutable=1", uri=True, **settings)

    return connect


def _forget(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    if _SEEN in entry.info:
        entry.invalidate()


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _state(path: Path) -> tuple[str, int, int, int]:
    facts = path.stat()
    return str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns


def _wal(path: Path) -> Path:
    return Path(f"{path}-wal")
