"""Statements that move replicas from state to state: always forward, never back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    literal_column,
    not_,
    or_,
    select,
    update,
)

from calotype.backends import Key
from calotype.catalog.among import among, among_given
from calotype.catalog.copies import parse_key
from calotype.catalog.prepared import Found, Prepared, prepared_insert
from calotype.catalog.states import AT_WORK, DOOMED, ERASED, ERASING, LIVE, WRITING
from calotype.catalog.tables import backend, blob, replica
from calotype.digest import Digest
from calotype.quantities import SECOND, Instant

STRAY_DELAY = 30 * 24 * 3600 * SECOND
"""How long a stray is left alone before gc may erase it."""


INSERT = prepared_insert(
    replica, "backend", "key", "digest", "token", "size", "state", "doomed_at", "due_at"
)
_SET_LIVE = Prepared(
    update(replica)
    .where(replica.c.token == bindparam("its_token"), replica.c.state == WRITING)
    .values(state=LIVE, due_at=None, verified_at=bindparam("now"))
)
# Row by row: a statement that changes many rows has SQLite journal whatever follows it to disk.
_SET_ALL_LIVE = Prepared(
    update(replica)
    .where(among_given(replica.c.token, "tokens"), replica.c.state == WRITING)
    .values(state=LIVE, due_at=None, verified_at=bindparam("now"))
)

_FORGOTTEN = and_(replica.c.state.in_((WRITING, DOOMED, ERASING)), replica.c.due_at.is_(None))


def set_live(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """``writing -> live`` for the rows of ``tokens``, whose bytes were hashed as they came in."""
    if connection.dialect.name == "postgresql":
        _SET_ALL_LIVE.many(connection, [{"tokens": list(tokens), "now": now}])
        return
    _SET_LIVE.many(connection, [{"its_token": token, "now": now} for token in tokens])


def doom(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """``writing`` or ``live`` ``-> doomed`` for the rows of ``tokens``; others are left alone."""
    if tokens:
        connection.execute(
            update(replica)
            .where(among(replica.c.token, tokens), replica.c.state.in_((WRITING, LIVE)))
            .values(state=DOOMED, doomed_at=now, due_at=now)
        )


def doom_all(
    connection: Connection, digests: Sequence[str], now: Instant, *, admitted: bool
) -> None:
    """Doom every replica of ``digests`` that is not on its way out already.

    Those that somebody was admitted to write for longer only if ``admitted`` says so.
    """
    at_work = replica.c.state == WRITING
    if not admitted:
        at_work = and_(at_work, replica.c.due_at <= now + AT_WORK)
    connection.execute(
        update(replica)
        .where(among(replica.c.digest, digests), or_(replica.c.state == LIVE, at_work))
        .values(state=DOOMED, doomed_at=now, due_at=now)
    )


def forgotten(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """(digest, key) of copies on their way, of which gc has no date to look at (I6)."""
    rows = connection.execute(
        select(replica.c.digest, replica.c.key).where(_FORGOTTEN).limit(limit)
    )
    return [(row.digest, row.key) for row in rows]


def remember(connection: Connection, now: Instant) -> None:
    """Have gc look at those that are ``forgotten``."""
    connection.execute(update(replica).where(_FORGOTTEN).values(due_at=now))


def hasten(connection: Connection, digests: Sequence[str], now: Instant) -> None:
    """Erase at once what was purged: also what could not be erased before, and strays.

    Without a ``doomed_at`` it was not let go of, but purged: no recovery keeps it again.
    """
    going = and_(among(replica.c.digest, digests), replica.c.state.in_((DOOMED, ERASING)))
    connection.execute(update(replica).where(going).values(doomed_at=None, due_at=now))


def suspect(connection: Connection, token: str, now: Instant) -> None:
    """Mark a live replica as not to be trusted until it is mended; a mark there is made anew.

    Every mark is later than the one before, so that who read the bytes before it does not clear it.
    """
    later = case((replica.c.suspect_at >= now, replica.c.suspect_at + 1), else_=now)
    connection.execute(
        update(replica)
        .where(replica.c.token == token, replica.c.state == LIVE)
        .values(suspect_at=later)
    )


def verified(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """Note that live replicas were read whole and hash to their names; marks stay."""
    connection.execute(
        update(replica)
        .where(
            among(replica.c.token, tokens), replica.c.state == LIVE, replica.c.suspect_at.is_(None)
        )
        .values(verified_at=now)
    )


def doubt_the_future(connection: Connection, now: Instant) -> None:
    """Take for unread what a clock that ran ahead says was read after ``now``."""
    connection.execute(
        update(replica)
        .where(replica.c.state == LIVE, replica.c.verified_at > now)
        .values(verified_at=None)
    )


def clear(connection: Connection, token: str, mark: Instant, now: Instant) -> bool:
    """Trust a live replica again that was read whole since ``mark``; False if marked anew."""
    cleared = connection.execute(
        update(replica)
        .where(replica.c.token == token, replica.c.state == LIVE, replica.c.suspect_at == mark)
        .values(verified_at=now, suspect_at=None)
    )
    return cleared.rowcount == 1


@dataclass(frozen=True, slots=True)
class Due:
    """A replica that gc has to do something about."""

    backend: str
    key: Key
    digest: Digest
    token: str
    size: int
    state: str
    attempts: int
    plain: bool
    stray: bool


def _may_be_the_last() -> ColumnElement[bool]:
    """True for a stray of a blob that has no copy which is live and trusted."""
    other = replica.alias()
    sound = select(1).where(
        other.c.digest == blob.c.digest,
        other.c.state == literal_column("'live'"),
        other.c.suspect_at.is_(None),
    )
    wanting = select(1).where(
        blob.c.digest == replica.c.digest, not_(sound.correlate(blob).exists())
    )
    was_stray = and_(
        replica.c.doomed_at.is_not(None), replica.c.due_at - replica.c.doomed_at >= STRAY_DELAY
    )
    return and_(replica.c.state == DOOMED, was_stray, wanting.correlate(replica).exists())


_IS_KEPT_BACK = _may_be_the_last()


def due(
    connection: Connection,
    states: Sequence[str],
    cutoff: Instant,
    *,
    backend: str,
    digests: Sequence[str] | None,
    after: tuple[Instant, str],
    limit: int,
) -> list[tuple[Instant, Due]]:
    """Replicas in ``states`` that were due at ``cutoff``, the longest due first.

    Left out is a stray that may be the last of a blob whose own copy is missing or damaged.
    """
    statement = select(replica).where(
        replica.c.backend == backend,
        replica.c.due_at.between(after[0], cutoff),
        replica.c.state.in_(states),
        not_(_IS_KEPT_BACK),
        (replica.c.due_at > after[0])
        | and_(replica.c.due_at == after[0], replica.c.key > after[1]),
    )
    if digests is not None:
        statement = statement.where(among(replica.c.digest, digests))
    rows = connection.execute(statement.order_by(replica.c.due_at, replica.c.key).limit(limit))
    return [(int(row["due_at"]), _to_due(row)) for row in rows.mappings()]


def _to_due(found: Found) -> Due:
    key = parse_key(found["key"])
    return Due(
        found["backend"],
        key,
        key.digest,
        found["token"],
        found["size"],
        found["state"],
        found["attempts"],
        not key.token,
        found["doomed_at"] is not None and found["due_at"] - found["doomed_at"] >= STRAY_DELAY,
    )


_BY_KEY = and_(replica.c.backend == bindparam("b_backend"), replica.c.key == bindparam("b_key"))


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys that may be deleted, and the number of their batch in the backend's ``generation``."""

    keys: set[Key]
    seq: int
    generation: str


def erasing(connection: Connection, name: str, keys: Sequence[Key]) -> Batch:
    """``doomed -> erasing``; the keys that may be deleted once this is committed durably.

    Left alone is a stray that may be the last of a blob whose own copy is missing or damaged.
    """
    here = and_(replica.c.backend == name, among(replica.c.key, [str(key) for key in keys]))
    connection.execute(
        update(replica)
        .where(here, replica.c.state == DOOMED, not_(_IS_KEPT_BACK))
        .values(state=ERASING)
    )
    raised = connection.execute(
        update(backend)
        .where(backend.c.name == name)
        .values(erase_seq=backend.c.erase_seq + 1)
        .returning(backend.c.erase_seq, backend.c.generation)
    ).one()
    allowed = select(replica.c.key).where(here, replica.c.state.in_((ERASING, ERASED)))
    found = {parse_key(key) for key in connection.scalars(allowed)}
    return Batch(found, int(raised.erase_seq), raised.generation)


def erased(
    connection: Connection, name: str, keys: Sequence[Key], *, again_at: Instant
) -> set[Key]:
    """``erasing -> erased``, to be deleted once more at ``again_at``; the keys that moved."""
    moved = connection.execute(
        update(replica)
        .where(
            replica.c.backend == name,
            among(replica.c.key, [str(key) for key in keys]),
            replica.c.state == ERASING,
        )
        .values(state=ERASED, due_at=again_at, attempts=0)
        .returning(replica.c.key)
    )
    return {parse_key(key) for key in moved.scalars()}


def put_off(connection: Connection, items: Sequence[Due], until: Instant | None) -> None:
    """Leave the rows alone until then (None: for good), and count the attempt."""
    if items:
        connection.execute(
            update(replica).where(_BY_KEY).values(due_at=until, attempts=replica.c.attempts + 1),
            [{"b_backend": item.backend, "b_key": str(item.key)} for item in items],
        )


def prune(connection: Connection, items: Sequence[Due]) -> None:
    """Forget tombstones of token keys; a plain key's tombstone stays for ever."""
    parameters = [{"b_backend": i.backend, "b_key": str(i.key)} for i in items if not i.plain]
    if parameters:
        connection.execute(delete(replica).where(_BY_KEY, replica.c.state == ERASED), parameters)


def tombstone(
    connection: Connection,
    name: str,
    keys: Sequence[tuple[Key, int]],
    now: Instant,
) -> int:
    """Give strays a ``doomed`` row each, due in 30 days; those that have a row are left.

    A token that another row has, as copies of one object may, is not used a second time.
    """
    named = [str(key) for key, _ in keys]
    tokens = [key.token for key, _ in keys if key.token]
    used = set(
        connection.scalars(
            select(replica.c.key).where(replica.c.backend == name, among(replica.c.key, named))
        )
    )
    taken = set(connection.scalars(select(replica.c.token).where(among(replica.c.token, tokens))))
    free = {key.token: str(key) for key, _ in keys if key.token and key.token not in taken}
    rows = [
        {
            "backend": name,
            "key": str(key),
            "digest": key.digest,
            "token": key.token if free.get(key.token) == str(key) else secrets.token_hex(8),
            "size": size,
            "state": DOOMED,
            "doomed_at": now,
            "due_at": now + STRAY_DELAY,
        }
        for key, size in keys
        if str(key) not in used
    ]
    INSERT.many(connection, rows)
    return len(rows)


def announce(connection: Connection, name: str, key: Key, size: int) -> str:
    """A ``writing`` row for bytes that lie there, to be set live at once; its token.

    That of the key, unless another row has it.
    """
    taken = select(replica.c.key).where(replica.c.token == key.token)
    free = key.token and connection.scalar(taken) is None
    token = key.token if free else secrets.token_hex(8)
    row = {"backend": name, "key": str(key), "digest": key.digest, "token": token, "size": size}
    INSERT.many(connection, [{**row, "state": WRITING, "doomed_at": None, "due_at": None}])
    return token


def sweep_again(connection: Connection, name: str, keys: Sequence[Key], now: Instant) -> None:
    """Have gc delete erased keys once more, under which bytes turned up late."""
    connection.execute(
        update(replica)
        .where(
            replica.c.backend == name,
            among(replica.c.key, [str(key) for key in keys]),
            replica.c.state == ERASED,
        )
        .values(due_at=now, attempts=0)
    )
