"""Statements on uploads: bytes that somebody was admitted to send, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from calotype.backends import Key
from calotype.catalog.copies import parse_key
from calotype.catalog.states import WRITING
from calotype.catalog.tables import replica, upload
from calotype.digest import Digest
from calotype.quantities import SECOND, Instant

DIRECT = "direct"
"""The mode of an upload whose bytes go to the backend's service, past this process."""

MISMATCH = "mismatch"
"""The outcome of an upload whose bytes were others than those announced."""

REMEMBERED = 24 * 3600 * SECOND
"""How long an upload's outcome is told to who asks again, after its end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of an upload are to lie; ``open`` until its writer is fenced off."""

    backend: str
    key: Key
    token: str
    open: bool


@dataclass(frozen=True, slots=True)
class Row:
    """An upload as the catalog has it.

    ``token`` is its replica's, or None where no bytes are to come: then, and when that row is
    gone, there is no ``place``. ``outcome`` is None until it is completed.
    """

    id: str
    digest: Digest
    size: int
    token: str | None
    ends_at: Instant
    outcome: str | None = None
    place: Place | None = None


def add(connection: Connection, scope: str, row: Row) -> None:
    """Note an upload that was asked for."""
    connection.execute(
        insert(upload).values(
            id=row.id,
            scope=scope,
            mode=DIRECT,
            digest=row.digest,
            size=row.size,
            token=row.token,
            ends_at=row.ends_at,
        )
    )


def find(connection: Connection, scope: str, ident: str) -> Row | None:
    """The scope's upload of that id."""
    found = connection.execute(
        select(upload, replica.c.backend, replica.c.key, replica.c.state)
        .outerjoin(replica, replica.c.token == upload.c.token)
        .where(upload.c.id == ident, upload.c.scope == scope, upload.c.mode == DIRECT)
    ).one_or_none()
    if found is None:
        return None
    place = None
    if found.key is not None:
        place = Place(found.backend, parse_key(found.key), found.token, found.state == WRITING)
    return Row(
        found.id,
        Digest.known(found.digest),
        found.size,
        found.token,
        found.ends_at,
        found.outcome,
        place,
    )


def complete(connection: Connection, ident: str, outcome: str) -> bool:
    """Say what became of an upload; False where that was said before, or it is forgotten."""
    told = connection.execute(
        update(upload)
        .where(upload.c.id == ident, upload.c.outcome.is_(None))
        .values(outcome=outcome)
    )
    return told.rowcount == 1


def forget(connection: Connection, now: Instant) -> None:
    """Drop uploads that ended a day ago."""
    connection.execute(delete(upload).where(upload.c.ends_at < now - REMEMBERED))
