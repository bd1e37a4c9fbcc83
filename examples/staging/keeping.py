"""Keeping bytes for rows: put first, then the rows and their references in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, update

from calotype import Digest, Store
from calotype.catalog.tables import asset
from calotype.errors import NotFound
from calotype.model import Asset, Put
from calotype.quantities import at

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

    A hold keeps the bytes until the commit, which ends it: then the rows keep them. A deletion may
    take bytes whose hold somebody ended at this moment. ``attach`` answers NotFound, nothing was
    written, and we put again. ``now`` is an instant before the put.
    """
    digest = Digest.of(source)
    for tried in range(TRIES):
        before = _held_until(store.check([digest])[digest])
        put = store.put(source, hold=HOLD, filename=filename, images_only=True, expect=digest)
        try:
            with engine.begin() as connection:
                written = write(connection, put)
                _end_hold(connection, put, max(now, before))
                return written
        except NotFound:
            if tried + 1 < TRIES:
                continue
            raise
    raise AssertionError("the last try returns or raises")


def _held_until(known: Asset | None) -> int:
    """Until when others hold it, as far as that is not for good."""
    return at(known.kept) if known is not None and isinstance(known.kept, datetime) else 0


def _end_hold(connection: Connection, put: Put, end: int) -> None:
    """End our hold at ``end``; where somebody holds longer, or for good, it was none.

    ``store.discard`` would end that too. The store's triggers tell gc, whoever writes it.
    """
    ours = asset.c.kept_until == _held_until(put.asset)
    mine = asset.c.scope == put.asset.scope, asset.c.digest == put.digest
    connection.execute(update(asset).where(*mine, ours).values(kept_until=end))
