"""Statements on blobs and their replicas: what bytes there are, and where each copy stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

from calotype.backends import Key
from calotype.catalog.among import among, among_given
from calotype.catalog.prepared import Found, Prepared, prepared_insert
from calotype.catalog.states import DOOMED, ERASING, WRITING
from calotype.catalog.tables import blob, blocked, replica
from calotype.digest import Digest
from calotype.errors import Corrupt
from calotype.model import Blob
from calotype.quantities import Instant


@dataclass(frozen=True, slots=True)
class Copy:
    """A replica row together with what its blob says."""

    backend: str
    key: Key
    token: str
    blob: Blob
    suspect_at: Instant | None
    verified_at: Instant | None

    @property
    def suspect(self) -> bool:
        """True when it was found damaged or missing, and not found sound since."""
        return self.suspect_at is not None


IS_LIVE = replica.c.state == literal_column("'live'")
"""Spelled out, not a parameter: only so can the index of live replicas serve it."""

_COPY = select(
    replica.c.backend,
    replica.c.key,
    replica.c.token,
    replica.c.suspect_at,
    replica.c.verified_at,
    blob.c.digest,
    blob.c.size,
    blob.c.media_type,
    blob.c.extension,
    blob.c.width,
    blob.c.height,
).join_from(replica, blob, replica.c.digest == blob.c.digest)


def to_blob(found: Found) -> Blob:
    """The blob columns of a row as a value."""
    return Blob(
        Digest.known(found["digest"]),
        int(found["size"]),
        found["media_type"],
        found["extension"],
        found["width"],
        found["height"],
    )


def parse_key(name: str) -> Key:
    """The key that a replica row spells; ``Corrupt`` for what no writer of ours wrote."""
    key = Key.parse(name)
    if key is None:
        raise Corrupt(
            f"The catalog holds a key that is none: {name!r}.",
            hint="Put back a copy of the catalog, then run 'calotype fsck --recover'.",
        )
    return key


def _of_blob(found: Found, of: Blob) -> Copy:
    return Copy(
        found["backend"],
        parse_key(found["key"]),
        found["token"],
        of,
        found["suspect_at"],
        found["verified_at"],
    )


_LIVE = Prepared(
    _COPY.where(
        among_given(replica.c.digest, "digests"),
        replica.c.backend == bindparam("backend_name"),
        IS_LIVE,
    )
)


_LIVE_ANYWHERE = Prepared(_COPY.where(among_given(replica.c.digest, "digests"), IS_LIVE))


def live(connection: Connection, digests: Sequence[str], name: str) -> list[Copy]:
    """The live replicas of ``digests`` in backend ``name``, suspect ones too."""
    rows = _LIVE(connection, digests=digests, backend_name=name)
    return [_of_blob(row, to_blob(row)) for row in rows]


def live_anywhere(connection: Connection, digests: Sequence[str]) -> list[Copy]:
    """The live replicas of ``digests`` in any backend, suspect ones too."""
    rows = _LIVE_ANYWHERE(connection, digests=digests)
    return [_of_blob(row, to_blob(row)) for row in rows]


def live_from(connection: Connection, name: str, after: str, limit: int) -> list[Copy]:
    """The live replicas in backend ``name`` by digest, from after ``after`` on."""
    here = (replica.c.backend == name, replica.c.digest > after, IS_LIVE)
    rows = connection.execute(_COPY.where(*here).order_by(replica.c.digest).limit(limit))
    return [_of_blob(row, to_blob(row)) for row in rows.mappings()]


@dataclass(frozen=True, slots=True)
class Situation:
    """What the catalog says about some digests.

    ``copies`` are live replicas in one backend, suspect ones too; ``writing`` the tokens asked
    about whose writer was not fenced off; ``ownerless`` those of live replicas whose blob row was
    deleted by hand; ``blocked`` the reasons.
    """

    blobs: dict[str, Blob]
    copies: dict[str, Copy]
    writing: frozenset[str]
    ownerless: tuple[str, ...]
    blocked: dict[str, str]


_TOKENS = Prepared(
    union_all(
        select(replica.c.token, replica.c.state).where(
            among_given(replica.c.token, "tokens"), replica.c.state == literal_column("'writing'")
        ),
        select(replica.c.token, replica.c.state).where(
            among_given(replica.c.digest, "digests"),
            replica.c.backend == bindparam("backend_name"),
            IS_LIVE,
        ),
    )
)


def situation(
    connection: Connection, digests: Sequence[str], name: str, tokens: Sequence[str]
) -> Situation:
    """What there is of ``digests`` in backend ``name``, and which of ``tokens`` still write.

    On PostgreSQL gc fences none of these off until the commit.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            select(replica.c.token)
            .where(among(replica.c.token, tokens))
            .order_by(replica.c.token)
            .with_for_update()
        )
    known = blobs(connection, digests)
    here = {str(copy.blob.digest): copy for copy in live(connection, digests, name)}
    rows = _TOKENS(connection, tokens=tokens, digests=digests, backend_name=name)
    writing = frozenset(row["token"] for row in rows if row["state"] == WRITING)
    owned = {copy.token for copy in here.values()}.union(writing)
    ownerless = tuple(row["token"] for row in rows if row["token"] not in owned)
    return Situation(known, here, writing, ownerless, blocks(connection, digests))


_STILL_SOUND = Prepared(
    select(replica.c.token).where(
        among_given(replica.c.token, "tokens"), IS_LIVE, replica.c.suspect_at.is_(None)
    )
)


def still_sound(connection: Connection, tokens: Sequence[str]) -> set[str]:
    """Those of ``tokens`` whose replica is live and trusted."""
    return {row["token"] for row in _STILL_SOUND(connection, tokens=tokens)}


def lock_blobs(connection: Connection, digests: Sequence[str]) -> None:
    """Lock blob rows against removal; SQLite's only writer has them all."""
    if connection.dialect.name == "postgresql":
        statement = select(blob.c.digest).where(among(blob.c.digest, digests))
        connection.execute(statement.with_for_update(key_share=True, read=True))


_BLOBS = Prepared(select(blob).where(among_given(blob.c.digest, "digests")))
_BLOCKED = Prepared(
    select(blocked.c.digest, blocked.c.reason).where(among_given(blocked.c.digest, "digests"))
)


def blobs(connection: Connection, digests: Sequence[str]) -> dict[str, Blob]:
    """The blob rows of ``digests``."""
    return {row["digest"]: to_blob(row) for row in _BLOBS(connection, digests=digests)}


def blocks(connection: Connection, digests: Sequence[str]) -> dict[str, str]:
    """Those of ``digests`` that are blocked, and the reasons."""
    return {row["digest"]: row["reason"] for row in _BLOCKED(connection, digests=digests)}


_INSERT_BLOB = prepared_insert(blob, "digest", "size", "media_type", "extension", "width", "height")


def insert_blobs(connection: Connection, new: Sequence[Blob]) -> None:
    """Insert blob rows that are not there yet."""
    _INSERT_BLOB.many(
        connection,
        [
            {
                "digest": item.digest,
                "size": item.size,
                "media_type": item.media_type,
                "extension": item.extension,
                "width": item.width,
                "height": item.height,
            }
            for item in new
        ],
    )


@dataclass(frozen=True, slots=True)
class Past:
    """A replica row in any state."""

    backend: str
    key: Key
    digest: Digest
    token: str
    size: int
    state: str
    suspect_at: Instant | None
    verified_at: Instant | None
    doomed_at: Instant | None


def _to_past(found: Found) -> Past:
    return Past(
        found["backend"],
        parse_key(found["key"]),
        Digest(found["digest"]),
        found["token"],
        found["size"],
        found["state"],
        found["suspect_at"],
        found["verified_at"],
        found["doomed_at"],
    )


def history(connection: Connection, digest: str) -> list[Past]:
    """Every replica of a digest that is still remembered, in any state."""
    rows = connection.execute(
        select(replica).where(replica.c.digest == digest).order_by(replica.c.backend, replica.c.key)
    )
    return [_to_past(row) for row in rows.mappings()]


def between(connection: Connection, name: str, first: str, last: str) -> list[Past]:
    """Every replica of a backend whose key lies in [first, last)."""
    rows = connection.execute(
        select(replica)
        .where(replica.c.backend == name, replica.c.key >= first, replica.c.key < last)
        .order_by(replica.c.key)
    )
    return [_to_past(row) for row in rows.mappings()]


def next_key(connection: Connection, name: str, first: str) -> Key | None:
    """The first key of a backend's replicas from ``first`` on."""
    there = select(replica.c.key).where(replica.c.backend == name, replica.c.key >= first)
    found = connection.scalar(there.order_by(replica.c.key).limit(1))
    return Key.parse(found) if found is not None else None


def bare(connection: Connection, after: str, limit: int) -> list[str]:
    """Digests of blobs without any live replica."""
    there = select(1).where(replica.c.digest == blob.c.digest, IS_LIVE).correlate(blob).exists()
    statement = select(blob.c.digest).where(blob.c.digest > after, ~there)
    return list(connection.scalars(statement.order_by(blob.c.digest).limit(limit)))


def ownerless(connection: Connection, name: str, after: str, limit: int) -> list[str]:
    """Digests of live replicas in the backend whose blob row is gone."""
    owner = select(1).where(blob.c.digest == replica.c.digest).correlate(replica).exists()
    statement = select(replica.c.digest).where(
        replica.c.backend == name, replica.c.digest > after, IS_LIVE, ~owner
    )
    return list(connection.scalars(statement.order_by(replica.c.digest).limit(limit)))


def any_expected(connection: Connection, name: str) -> bool:
    """True when bytes of the catalog lie in backend ``name``: live, or let go of and not erased."""
    here = replica.c.backend == name
    going = and_(replica.c.state.in_((DOOMED, ERASING)), replica.c.verified_at.is_not(None))
    return any(
        connection.scalar(select(1).where(here, state).limit(1)) is not None
        for state in (IS_LIVE, going)
    )


def left(connection: Connection, digest: str) -> int:
    """How many keys of a digest are let go of and not erased."""
    statement = (
        select(func.count())
        .select_from(replica)
        .where(replica.c.digest == digest, replica.c.state.in_((DOOMED, ERASING)))
    )
    return connection.scalar(statement) or 0


def waiting(
    connection: Connection,
    digests: Sequence[str] | None,
    after: Instant,
    until: Instant,
) -> int:
    """How many keys could not be erased before, and are tried again within that time."""
    put_off = and_(replica.c.state.in_((DOOMED, ERASING)), replica.c.attempts > 0)
    within = and_(replica.c.due_at > after, replica.c.due_at <= until)
    statement = select(func.count()).where(within, put_off)
    if digests is not None:
        statement = statement.where(among(replica.c.digest, digests))
    return connection.scalar(statement) or 0


def longest_unverified(
    connection: Connection, name: str, before: Instant, after: tuple[Instant, str], limit: int
) -> list[Past]:
    """Live, trusted replicas not read whole since ``before``, the longest unread first.

    ``after`` is the (verified_at or 0, key) of the last one that was looked at.
    """
    read_at = func.coalesce(replica.c.verified_at, 0)
    rows = connection.execute(
        select(replica)
        .where(
            replica.c.backend == name,
            IS_LIVE,
            replica.c.suspect_at.is_(None),
            read_at < before,
            or_(read_at > after[0], and_(read_at == after[0], replica.c.key > after[1])),
        )
        .order_by(read_at, replica.c.key)
        .limit(limit)
    )
    return [_to_past(row) for row in rows.mappings()]
