"""Statements on intents: rows for bytes that are to come, and the fence around their writers."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, bindparam, or_, select, union_all, update

from calotype.backends import Key
from calotype.catalog import settings
from calotype.catalog.among import among, among_given
from calotype.catalog.backends import PRIMARY
from calotype.catalog.prepared import Prepared
from calotype.catalog.replicas import INSERT
from calotype.catalog.states import AT_WORK, DOOMED, WRITING
from calotype.catalog.tables import backend, replica
from calotype.digest import Digest
from calotype.quantities import SECOND, Instant

INTENT_AGE = AT_WORK - SECOND
"""How long a ``writing`` replica may go without a heartbeat before gc fences its writer off."""


class NotWritten(Exception):
    """The backend is not one that puts or copies go to, by now."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A ``writing`` replica of ours: the key to write to, fenced by its token."""

    digest: Digest
    key: Key
    token: str


def intend(
    connection: Connection,
    name: str,
    wanted: Sequence[tuple[Digest, str, int]],
    now: Instant,
    roles: Collection[str] = (PRIMARY,),
    *,
    marked: int | None = None,
) -> list[Intent]:
    """Insert a ``writing`` replica for each (digest, extension, size), with a fresh token.

    The plain key goes to the first writer ever, in the backend's first epoch, where the marker is
    known to be at ``marked`` and the catalog has come as far; after that every writer has a key
    of its own. ``NotWritten`` where the backend has none of ``roles`` any more;
    none is dropped before the commit.
    """
    settings.share(connection, "backends")
    plain = _free_plain_keys(connection, name, wanted, roles, marked)
    intents = []
    for digest, extension, _ in wanted:
        token = secrets.token_hex(8)
        bare = Key(digest, "", extension)
        key = bare if str(bare) in plain else Key(digest, token, extension)
        plain.discard(str(bare))
        intents.append(Intent(digest, key, token))
    INSERT.many(
        connection,
        [
            _row(name, intent, size, now + INTENT_AGE)
            for intent, (_, _, size) in zip(intents, wanted, strict=True)
        ],
    )
    return intents


def admit(connection: Connection, name: str, intent: Intent, size: int, ends_at: Instant) -> None:
    """Insert a ``writing`` replica for bytes that may come, without a heartbeat, until then.

    Gc leaves it alone for as long as nobody could say that its writer is late. ``NotWritten``
    where the backend is not the primary any more.
    """
    settings.share(connection, "backends")
    if connection.scalar(select(backend.c.role).where(backend.c.name == name)) != PRIMARY:
        raise NotWritten(name)
    INSERT.many(connection, [_row(name, intent, size, ends_at + 2 * INTENT_AGE)])


def _row(name: str, intent: Intent, size: int, due_at: Instant) -> dict[str, object]:
    return {
        "backend": name,
        "key": str(intent.key),
        "digest": intent.digest,
        "token": intent.token,
        "size": size,
        "state": WRITING,
        "doomed_at": None,
        "due_at": due_at,
    }


_USED_KEYS = select(replica.c.key).where(
    replica.c.backend == bindparam("backend_name"), among_given(replica.c.key, "keys")
)
_HERE = backend.c.name == bindparam("backend_name")
_LATER_EPOCH = select(backend.c.name).where(
    _HERE, or_(backend.c.epoch > 1, backend.c.erase_seq < bindparam("marked", type_=BigInteger))
)
_ROLE = select(backend.c.role).where(_HERE)


def _free_plain_keys(
    connection: Connection,
    name: str,
    wanted: Sequence[tuple[Digest, str, int]],
    roles: Collection[str],
    marked: int | None,
) -> set[str]:
    keys = {str(Key(digest, "", extension)) for digest, extension, _ in wanted}
    taken = _PLAIN_KEYS_TAKEN(connection, backend_name=name, keys=list(keys), marked=marked or 0)
    used = {str(row["key"]) for row in taken}
    if used.isdisjoint(roles):
        raise NotWritten(name)
    return set() if marked is None or name in used else keys - used


_PLAIN_KEYS_TAKEN = Prepared(union_all(_USED_KEYS, _LATER_EPOCH, _ROLE))


def beat(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """Tell gc that the writers of ``tokens`` live; who has longer keeps that."""
    due = now + INTENT_AGE
    connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == WRITING, replica.c.due_at < due)
        .values(due_at=due)
    )


def withdraw(connection: Connection, tokens: Sequence[str], now: Instant) -> None:
    """``writing -> doomed`` for intents that their own writer gives up."""
    connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == WRITING)
        .values(state=DOOMED, doomed_at=now, due_at=now)
    )


def abort(connection: Connection, tokens: Sequence[str], now: Instant) -> int:
    """``writing -> doomed`` for writers without a heartbeat; how many. They are fenced off."""
    stale = connection.execute(
        update(replica)
        .where(among(replica.c.token, tokens), replica.c.state == WRITING, replica.c.due_at <= now)
        .values(state=DOOMED, doomed_at=now, due_at=now)
    )
    return stale.rowcount
