"""Keeping bytes for rows: put first, then the rows and their references in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from calotype import CalotypeError, Store
from calotype.errors import NotFound
from calotype.model import Put

HOLD = "1h"
"""How long bytes wait for their rows; after a rollback or a crash they end by themselves."""

TRIES = 10

T = TypeVar("T")


def keep(
    store: Store,
    engine: Engine,
    source: Path | bytes,
    write: Callable[[Connection, Put], T],
    filename: str | None = None,
) -> T:
    """Put ``source``, and let ``write`` insert rows and attach them to what was put.

    A hold keeps the bytes until the commit and ends after it. Holds are of the file, not of the
    caller: whoever uploads the same picture at this moment ends ours with theirs, and a deletion
    may then take the bytes. ``attach`` answers NotFound, nothing was written, and we put again.
    """
    for tried in range(TRIES):
        put = store.put(source, hold=HOLD, filename=filename, images_only=True)
        try:
            with engine.begin() as connection:
                written = write(connection, put)
        except NotFound:
            if tried + 1 < TRIES:
                continue
            raise
        with suppress(CalotypeError):  # or else it ends in an hour
            store.discard(put.digest)
        return written
    raise AssertionError("the last try returns or raises")
