"""Statements on the backends that a store has: their names, places and roles."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from calotype.catalog.among import among
from calotype.catalog.copies import IS_LIVE
from calotype.catalog.prepared import Prepared
from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE, WRITING
from calotype.catalog.tables import backend, blob, replica
from calotype.quantities import Instant

PRIMARY = "primary"
MIRROR = "mirror"
READ = "read"
ROLES = (PRIMARY, MIRROR, READ)
"""Where puts are acknowledged, where they are copied to at once, what is only read."""


@dataclass(frozen=True, slots=True)
class Known:
    """A backend as the catalog knows it; ``url`` without secrets, as seen from the catalog.

    ``generation`` is a random id that its marker bears; empty before one was written.
    """

    name: str
    url: str
    role: str
    epoch: int
    erase_seq: int
    generation: str


_KNOWN = Prepared(
    select(
        backend.c.name,
        backend.c.url,
        backend.c.role,
        backend.c.epoch,
        backend.c.erase_seq,
        backend.c.generation,
    )
)


def known(connection: Connection) -> tuple[Known, ...]:
    """The primary first, then mirrors, then those that are only read; by name."""
    rows = [
        Known(
            row["name"],
            row["url"],
            row["role"],
            int(row["epoch"]),
            int(row["erase_seq"]),
            row["generation"],
        )
        for row in _KNOWN(connection)
    ]
    return tuple(sorted(rows, key=lambda each: (ROLES.index(each.role), each.name)))


def add(connection: Connection, new: Known) -> None:
    """Note a backend; plain keys are used in its first epoch alone."""
    connection.execute(insert(backend).values(**asdict(new)))


def of_name(connection: Connection, name: str) -> Known | None:
    """The backend of that name."""
    return next((each for each in known(connection) if each.name == name), None)


def begin_epoch(connection: Connection, of: Known, epoch: int, erase_seq: int) -> str:
    """Have a backend begin another epoch, in which no plain key is used; its new generation."""
    generation = secrets.token_hex(8)
    connection.execute(
        update(backend)
        .where(backend.c.name == of.name)
        .values(epoch=epoch, erase_seq=erase_seq, generation=generation)
    )
    return generation


def raise_erase_seq(connection: Connection, name: str, erase_seq: int) -> None:
    """Have a backend's next batch come after that one; a higher number stays."""
    lower = (backend.c.name == name, backend.c.erase_seq < erase_seq)
    connection.execute(update(backend).where(*lower).values(erase_seq=erase_seq))


def set_role(connection: Connection, name: str, role: str) -> None:
    """Give a backend another role."""
    connection.execute(update(backend).where(backend.c.name == name).values(role=role))


def remove(connection: Connection, name: str) -> None:
    """Forget a backend whose keys are all erased, and what was remembered of them."""
    connection.execute(delete(replica).where(replica.c.backend == name, replica.c.state == ERASED))
    connection.execute(delete(backend).where(backend.c.name == name))


def forget(connection: Connection, name: str) -> None:
    """Forget the keys of a backend that were let go of and not erased."""
    gone = replica.c.state.in_((DOOMED, ERASING))
    connection.execute(delete(replica).where(replica.c.backend == name, gone))


def unfinished(connection: Connection, name: str) -> int:
    """How many keys of a backend are not erased yet, or still written."""
    states = replica.c.state.in_((WRITING, LIVE, DOOMED, ERASING))
    counted = select(func.count()).where(replica.c.backend == name, states)
    return connection.scalar(counted) or 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What lies in a backend: live copies and their bytes, how many of them are damaged.

    ``sound_bytes`` are those of the others.
    """

    copies: int = 0
    bytes: int = 0
    suspect: int = 0
    sound_bytes: int = 0


def coverage(connection: Connection) -> dict[str, Coverage]:
    """By the names of the backends that hold anything."""
    counted = (
        select(
            replica.c.backend,
            func.count(),
            func.coalesce(func.sum(replica.c.size), 0),
            func.count(replica.c.suspect_at),
            func.coalesce(func.sum(replica.c.size).filter(replica.c.suspect_at.is_(None)), 0),
        )
        .where(IS_LIVE)
        .group_by(replica.c.backend)
    )
    return {name: Coverage(*map(int, counts)) for name, *counts in connection.execute(counted)}


def _sound(name: str) -> ColumnElement[bool]:
    """Of a blob: it has a live and trusted copy in the backend."""
    return (
        select(1)
        .where(
            replica.c.backend == name,
            replica.c.digest == blob.c.digest,
            IS_LIVE,
            replica.c.suspect_at.is_(None),
        )
        .correlate(blob)
        .exists()
    )


def lacking(connection: Connection, name: str, after: str, limit: int) -> list[str]:
    """Digests of blobs, from ``after`` on, without a live and trusted copy in a backend."""
    statement = select(blob.c.digest).where(blob.c.digest > after, ~_sound(name))
    return list(connection.scalars(statement.order_by(blob.c.digest).limit(limit)))


def count_lacking(connection: Connection, name: str) -> tuple[int, int]:
    """How many blobs have no live and trusted copy in a backend, and their bytes."""
    counted = select(func.count(), func.coalesce(func.sum(blob.c.size), 0)).where(~_sound(name))
    count, size = connection.execute(counted).one()
    return int(count), int(size)


def let_go(connection: Connection, tokens: Sequence[str], now: Instant) -> int:
    """``live -> doomed`` for copies in a backend that is dropped; how many."""
    gone = connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == literal_column("'live'"))
        .values(state=DOOMED, doomed_at=now, due_at=now)
    )
    return gone.rowcount
