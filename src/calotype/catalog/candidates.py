"""Statements on candidates: digests worth a look by gc."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select

from calotype.catalog.among import among
from calotype.catalog.tables import blob, candidate
from calotype.quantities import SECOND, Instant

LONGEST_PUSH = 7 * 24 * 3600 * SECOND
FIRST_PUSH = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Look:
    """Candidate rows of one digest: their ids, and how far they were pushed back last."""

    digest: str
    ids: tuple[int, ...]
    pushed: int


def due(
    connection: Connection,
    cutoff: Instant,
    *,
    digests: Sequence[str] | None,
    after: tuple[Instant, int],
    upto: int,
    limit: int,
) -> tuple[list[Look], tuple[Instant, int] | None]:
    """Up to ``limit`` candidate rows due at ``cutoff``, grouped by digest; and where to go on.

    Only ids up to ``upto`` are read, so a run ends although it appends candidates itself. Ids
    are never used twice, so whoever deletes just these ids deletes no later candidate.
    """
    statement = select(candidate).where(
        candidate.c.look_at.between(after[0], cutoff),
        candidate.c.id <= upto,
        or_(candidate.c.look_at > after[0], candidate.c.id > after[1]),
    )
    if digests is not None:
        statement = statement.where(among(candidate.c.digest, digests))
    ordered = statement.order_by(candidate.c.look_at, candidate.c.id).limit(limit)
    rows = connection.execute(ordered).all()
    grouped: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        grouped.setdefault(row.digest, []).append((row.id, row.pushed))
    looks = [
        Look(digest, tuple(ident for ident, _ in pairs), max(pushed for _, pushed in pairs))
        for digest, pairs in sorted(grouped.items())
    ]
    return looks, (rows[-1].look_at, rows[-1].id) if len(rows) == limit else None


def next_look(connection: Connection, digest: str) -> Instant | None:
    """When gc is to look at a digest next; None for never, unless it looks at everything."""
    statement = select(func.min(candidate.c.look_at)).where(candidate.c.digest == digest)
    found: Instant | None = connection.scalar(statement)
    return found


def newest(connection: Connection) -> int:
    """The highest id there is, 0 when there is none."""
    return connection.scalar(select(func.max(candidate.c.id))) or 0


def take_off(connection: Connection, ids: Iterable[int]) -> None:
    """Delete just these rows."""
    wanted = [{"b_id": ident} for ident in ids]
    if wanted:
        connection.execute(delete(candidate).where(candidate.c.id == bindparam("b_id")), wanted)


def thin(connection: Connection, digest: str, most: int) -> int:
    """Take off ``most`` candidates of a digest, but never the earliest; how many there were."""
    mine = candidate.c.digest == digest
    first = select(candidate.c.id).where(mine).order_by(candidate.c.look_at, candidate.c.id)
    rest = select(candidate.c.id).where(mine, candidate.c.id != first.limit(1).scalar_subquery())
    return connection.execute(
        delete(candidate).where(candidate.c.id.in_(rest.limit(most)))
    ).rowcount


def settle(connection: Connection, digests: Sequence[str]) -> None:
    """Take off every candidate of blobs deleted in this transaction.

    Safe although these are not only ids that were read: whoever puts such a digest again must
    insert its blob row anew, and cannot commit before this transaction has.
    """
    if digests:
        connection.execute(delete(candidate).where(among(candidate.c.digest, digests)))


def append(connection: Connection, looks: Sequence[tuple[str, Instant, int]]) -> None:
    """Append (digest, look_at, pushed)."""
    if looks:
        connection.execute(
            insert(candidate),
            [{"digest": d, "look_at": at, "pushed": pushed} for d, at, pushed in looks],
        )


def next_push(pushed: int) -> int:
    """How far to push a digest back that only an application's column keeps: doubling."""
    return min(max(2 * pushed, FIRST_PUSH), LONGEST_PUSH)


def every_digest(connection: Connection, after: str, limit: int) -> list[str]:
    """Blob digests in order, for a look at everything."""
    statement = select(blob.c.digest).where(blob.c.digest > after)
    return list(connection.scalars(statement.order_by(blob.c.digest).limit(limit)))
