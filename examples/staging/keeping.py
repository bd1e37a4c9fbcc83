"""Keeping bytes for rows: put first, then the rows and their references in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, update

from calotype import Store
from calotype.catalog.tables import asset
from calotype.errors import NotFound
from calotype.model import Put
from calotype.quantities import duration

HOLD = "1h"
"""How long bytes wait for their rows; after a rollback or a crash they end by themselves."""

TRIES = 10

T = TypeVar("T")


def keep(
    store: Store,
    engine: Engine,
    now: int,
    source: Path | bytes,
    write: Callable[[Connection, Put], T],
    filename: str | None = None,
) -> T:
    """Put ``source``, and let ``write`` insert rows and attach them to what was put.

    A hold keeps the bytes until the commit and ends with it. Holds are of the file, not of the
    caller: whoever uploads the same picture at this moment ends ours with theirs, and a deletion
    may then take the bytes. ``attach`` answers NotFound, nothing was written, and we put again.
    ``now`` is an instant before the put.
    """
    for tried in range(TRIES):
        put = store.put(source, hold=HOLD, filename=filename, images_only=True)
        try:
            with engine.begin() as connection:
                written = write(connection, put)
                _end_hold(connection, put.digest, now)
                return written
        except NotFound:
            if tried + 1 < TRIES:
                continue
            raise
    raise AssertionError("the last try returns or raises")


def _end_hold(connection: Connection, digest: str, now: int) -> None:
    """End a hold as short as ours; what somebody keeps longer, or for good, stays kept.

    ``store.discard`` would end that too. The store's triggers tell gc, whoever writes it.
    """
    ours = asset.c.kept_until.between(now, now + 2 * duration(HOLD))
    mine = asset.c.scope == "default", asset.c.digest == digest
    connection.execute(update(asset).where(*mine, ours).values(kept_until=now))
