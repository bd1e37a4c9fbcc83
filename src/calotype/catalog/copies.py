"""Statements on blobs and their replicas: what bytes there are, and where each copy stands."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, func, insert, select, update

from calotype.backends import Key
from calotype.catalog.among import among
from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE, WRITING
from calotype.catalog.tables import backend, blob, blocked, replica
from calotype.digest import Digest
from calotype.model import Blob
from calotype.quantities import SECOND, Instant

INTENT_AGE = 15 * 60 * SECOND
"""How long a ``writing`` replica may go without a heartbeat before gc fences its writer off."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A replica row together with what its blob says."""

    backend: str
    key: Key
    token: str
    blob: Blob
    suspect: bool
    verified_at: Instant | None


@dataclass(frozen=True, slots=True)
class Intent:
    """A ``writing`` replica of ours: the key to write to, fenced by its token."""

    digest: Digest
    key: Key
    token: str


@dataclass(frozen=True, slots=True)
class Home:
    """A row of the ``backend`` table."""

    name: str
    url: str
    role: str
    epoch: int


def homes(connection: Connection) -> list[Home]:
    """The backends that the catalog knows."""
    columns = (backend.c.name, backend.c.url, backend.c.role, backend.c.epoch)
    return [Home(*row) for row in connection.execute(select(*columns).order_by(backend.c.name))]


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


def to_blob(found: RowMapping) -> Blob:
    """The blob columns of a row as a value."""
    return Blob(
        Digest(found["digest"]),
        int(found["size"]),
        found["media_type"],
        found["extension"],
        found["width"],
        found["height"],
    )


def parse_key(name: str) -> Key:
    """The key that a replica row spells."""
    key = Key.parse(name)
    assert key is not None, f"the catalog holds a key that is none: {name!r}"
    return key


def _to_copy(found: RowMapping) -> Copy:
    return Copy(
        found["backend"],
        parse_key(found["key"]),
        found["token"],
        to_blob(found),
        found["suspect_at"] is not None,
        found["verified_at"],
    )


def live(connection: Connection, digests: Iterable[str], name: str | None = None) -> list[Copy]:
    """The live replicas of ``digests``, suspect ones too, in backend ``name`` or in all."""
    statement = _COPY.where(among(replica.c.digest, digests), replica.c.state == LIVE)
    if name is not None:
        statement = statement.where(replica.c.backend == name)
    return [_to_copy(row) for row in connection.execute(statement).mappings()]


def present(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of ``digests`` that have a blob row, which is locked against removal."""
    statement = select(blob.c.digest).where(among(blob.c.digest, digests))
    return set(connection.scalars(statement.with_for_update(key_share=True, read=True)))


def blobs(connection: Connection, digests: Iterable[str]) -> dict[str, Blob]:
    """The blob rows of ``digests``."""
    rows = connection.execute(select(blob).where(among(blob.c.digest, digests)))
    return {row["digest"]: to_blob(row) for row in rows.mappings()}


def blocks(connection: Connection, digests: Sequence[str]) -> dict[str, str]:
    """Those of ``digests`` that are blocked, and the reasons."""
    rows = connection.execute(
        select(blocked.c.digest, blocked.c.reason).where(among(blocked.c.digest, digests))
    )
    return {row.digest: row.reason for row in rows}


def intend(
    connection: Connection, name: str, wanted: Sequence[tuple[Digest, str, int]], now: Instant
) -> list[Intent]:
    """Insert a ``writing`` replica for each (digest, extension, size), with a fresh token.

    The plain key goes to the first writer ever, in the backend's first epoch; after that every
    writer has a key of its own.
    """
    plain = _free_plain_keys(connection, name, wanted)
    intents = []
    for digest, extension, _ in wanted:
        token = secrets.token_hex(8)
        bare = Key(digest, "", extension)
        key = bare if str(bare) in plain else Key(digest, token, extension)
        plain.discard(str(bare))
        intents.append(Intent(digest, key, token))
    connection.execute(
        insert(replica),
        [
            {
                "backend": name,
                "key": str(intent.key),
                "digest": intent.digest,
                "token": intent.token,
                "size": size,
                "state": WRITING,
                "due_at": now + INTENT_AGE,
            }
            for intent, (_, _, size) in zip(intents, wanted, strict=True)
        ],
    )
    return intents


def _free_plain_keys(
    connection: Connection, name: str, wanted: Sequence[tuple[Digest, str, int]]
) -> set[str]:
    epoch = connection.scalar(select(backend.c.epoch).where(backend.c.name == name))
    if epoch != 1:
        return set()
    keys = {str(Key(digest, "", extension)) for digest, extension, _ in wanted}
    used = connection.scalars(
        select(replica.c.key).where(replica.c.backend == name, among(replica.c.key, list(keys)))
    )
    return keys.difference(used)


def still_writing(connection: Connection, tokens: Sequence[str]) -> set[str]:
    """Those of ``tokens`` whose writer was not fenced off; their rows are locked."""
    statement = select(replica.c.token).where(
        among(replica.c.token, tokens), replica.c.state == WRITING
    )
    return set(connection.scalars(statement.with_for_update()))


def insert_blobs(connection: Connection, new: Sequence[Blob]) -> None:
    """Insert blob rows that are not there yet."""
    if new:
        connection.execute(
            insert(blob),
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


def set_live(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """``writing -> live`` for the rows of ``tokens``, whose bytes were hashed as they came in."""
    connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == WRITING)
        .values(state=LIVE, due_at=None, verified_at=now)
    )


def doom(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """``writing`` or ``live`` ``-> doomed`` for the rows of ``tokens``; others are left alone."""
    if tokens:
        connection.execute(
            update(replica)
            .where(among(replica.c.token, tokens), replica.c.state.in_((WRITING, LIVE)))
            .values(state=DOOMED, doomed_at=now, due_at=now)
        )


def doom_all(connection: Connection, digests: Sequence[str], now: Instant) -> None:
    """Doom every replica of ``digests`` that is not on its way out already."""
    connection.execute(
        update(replica)
        .where(among(replica.c.digest, digests), replica.c.state.in_((WRITING, LIVE)))
        .values(state=DOOMED, doomed_at=now, due_at=now)
    )


def suspect(connection: Connection, token: str, now: Instant) -> None:
    """Mark a live replica as not to be trusted until it is mended."""
    connection.execute(
        update(replica)
        .where(replica.c.token == token, replica.c.state == LIVE, replica.c.suspect_at.is_(None))
        .values(suspect_at=now)
    )


def verified(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """Note that the live replicas of ``tokens`` were read whole and hash to their names."""
    connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == LIVE)
        .values(verified_at=now, suspect_at=None)
    )


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
    """Replicas in ``states`` that were due at ``cutoff``, the longest due first."""
    statement = select(replica).where(
        replica.c.backend == backend,
        replica.c.due_at.between(after[0], cutoff),
        replica.c.state.in_(states),
        (replica.c.due_at > after[0])
        | and_(replica.c.due_at == after[0], replica.c.key > after[1]),
    )
    if digests is not None:
        statement = statement.where(among(replica.c.digest, digests))
    rows = connection.execute(statement.order_by(replica.c.due_at, replica.c.key).limit(limit))
    return [(int(row["due_at"]), _to_due(row)) for row in rows.mappings()]


def _to_due(found: RowMapping) -> Due:
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
    )


_BY_KEY = and_(replica.c.backend == bindparam("b_backend"), replica.c.key == bindparam("b_key"))


def erasing(connection: Connection, name: str, keys: Sequence[Key]) -> set[Key]:
    """``doomed -> erasing``; the keys that may be deleted once this is committed durably."""
    here = and_(replica.c.backend == name, among(replica.c.key, [str(key) for key in keys]))
    connection.execute(update(replica).where(here, replica.c.state == DOOMED).values(state=ERASING))
    connection.execute(
        update(backend).where(backend.c.name == name).values(erase_seq=backend.c.erase_seq + 1)
    )
    allowed = select(replica.c.key).where(here, replica.c.state.in_((ERASING, ERASED)))
    return {parse_key(key) for key in connection.scalars(allowed)}


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


def abort(connection: Connection, tokens: Sequence[str], now: Instant) -> int:
    """``writing -> doomed`` for writers without a heartbeat; how many. They are fenced off."""
    stale = connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == WRITING, replica.c.due_at <= now)
        .values(state=DOOMED, doomed_at=now, due_at=now)
    )
    return stale.rowcount


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
    due_at: Instant,
) -> int:
    """Give strays a ``doomed`` row each, due at ``due_at``; those that have a row are left."""
    used = set(
        connection.scalars(
            select(replica.c.key).where(
                replica.c.backend == name, among(replica.c.key, [str(key) for key, _ in keys])
            )
        )
    )
    rows = [
        {
            "backend": name,
            "key": str(key),
            "digest": key.digest,
            "token": secrets.token_hex(8),
            "size": size,
            "state": DOOMED,
            "doomed_at": now,
            "due_at": due_at,
        }
        for key, size in keys
        if str(key) not in used
    ]
    if rows:
        connection.execute(insert(replica), rows)
    return len(rows)


@dataclass(frozen=True, slots=True)
class Past:
    """A replica row in any state."""

    backend: str
    key: Key
    digest: Digest
    token: str
    size: int
    state: str
    suspect: bool
    verified_at: Instant | None


def _to_past(found: RowMapping) -> Past:
    return Past(
        found["backend"],
        parse_key(found["key"]),
        Digest(found["digest"]),
        found["token"],
        found["size"],
        found["state"],
        found["suspect_at"] is not None,
        found["verified_at"],
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


def bare(connection: Connection, name: str, after: str, limit: int) -> list[str]:
    """Digests of blobs without any live replica in the backend."""
    there = (
        select(1)
        .where(
            replica.c.backend == name, replica.c.digest == blob.c.digest, replica.c.state == LIVE
        )
        .correlate(blob)
        .exists()
    )
    statement = select(blob.c.digest).where(blob.c.digest > after, ~there)
    return list(connection.scalars(statement.order_by(blob.c.digest).limit(limit)))


def longest_unverified(
    connection: Connection, name: str, before: Instant, limit: int
) -> list[Past]:
    """Live replicas not read whole since ``before``, the longest unread first."""
    rows = connection.execute(
        select(replica)
        .where(
            replica.c.backend == name,
            replica.c.state == LIVE,
            func.coalesce(replica.c.verified_at, 0) < before,
        )
        .order_by(func.coalesce(replica.c.verified_at, 0), replica.c.key)
        .limit(limit)
    )
    return [_to_past(row) for row in rows.mappings()]
