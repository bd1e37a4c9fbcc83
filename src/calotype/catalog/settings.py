"""Statements on what is set: identity, quotas, the block-list, plans, signing keys, usage."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from zlib import crc32

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, select, text, update

from calotype.catalog.among import among
from calotype.catalog.prepared import Prepared
from calotype.catalog.tables import asset, blob, blocked, meta, plan, reference, scope, signing_key
from calotype.catalog.tables import usage as usage_table
from calotype.errors import QuotaExceeded
from calotype.model import UsageDay
from calotype.quantities import SECOND, Instant, human_size, when

HOUR = 3600 * SECOND
QUICK_TO_COUNT = 100_000


def get_meta(connection: Connection, key: str) -> str | None:
    """A fact of the store."""
    return connection.scalar(select(meta.c.value).where(meta.c.key == key))


def set_meta(connection: Connection, key: str, value: str) -> None:
    """Note a fact of the store."""
    if connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(meta).values(key=key, value=value))


def forget_meta(connection: Connection, key: str) -> None:
    """Note it no more."""
    connection.execute(delete(meta).where(meta.c.key == key))


def lock_digests(connection: Connection, digests: Iterable[str]) -> None:
    """Take the locks of these digests until the commit; SQLite's only writer has them all.

    Of very many digests some share one: a batch must not use up the server's locks.
    """
    _lock(connection, {int(digest[:8], 16) % DIGEST_LOCKS for digest in digests})


def lock(connection: Connection, what: str) -> None:
    """Be the only one, until the commit, who reads ``what`` in order to change it."""
    _lock(connection, {DIGEST_LOCKS + crc32(what.encode()) % DIGEST_LOCKS})


def share(connection: Connection, what: str) -> None:
    """Let nobody ``lock`` it until the commit; any number may share it."""
    if connection.dialect.name == "postgresql":
        connection.execute(_SHARED, {"number": DIGEST_LOCKS + crc32(what.encode()) % DIGEST_LOCKS})


def _lock(connection: Connection, numbers: Collection[int]) -> None:
    if connection.dialect.name == "postgresql" and numbers:
        connection.execute(_LOCKS, {"numbers": sorted(numbers)})


LOCKS = 0x63616C6F
"""The first half of the advisory locks' numbers: "calo"."""

DIGEST_LOCKS = 1024

_SHARED = text(f"SELECT pg_advisory_xact_lock_shared({LOCKS}, :number)")
_LOCKS = text(
    f"SELECT pg_advisory_xact_lock({LOCKS}, number) FROM (SELECT number "
    "FROM unnest(CAST(:numbers AS INTEGER[])) AS number ORDER BY number OFFSET 0) AS sorted"
)


_QUOTA = Prepared(
    select(scope.c.quota, scope.c.used).where(scope.c.scope == bindparam("scope_name"))
)


def require_room(connection: Connection, name: str, sizes: Mapping[str, int]) -> None:
    """Raise ``QuotaExceeded`` when the scope has no room for those of ``sizes`` it has not yet."""
    found = _QUOTA(connection, scope_name=name)
    if not found:
        return
    quota, used = int(found[0]["quota"]), int(found[0]["used"])
    had = connection.scalars(
        select(asset.c.digest).where(asset.c.scope == name, among(asset.c.digest, list(sizes)))
    )
    extra = sum(sizes.values()) - sum(sizes[digest] for digest in had)
    if extra and used + extra > quota:
        raise QuotaExceeded(
            f"The quota of scope {name!r} is {human_size(quota)}, {human_size(used)} are "
            f"used and {human_size(extra)} more were to be put; nothing was stored.",
            hint="Release and collect something, or raise it with 'calotype quota'.",
        )


def take_room(connection: Connection, name: str, sizes: Mapping[str, int]) -> None:
    """Count new assets to the scope's quota if it has one, in the caller's transaction."""
    if sizes:
        share(connection, "quota")
    if sizes and _QUOTA(connection, scope_name=name):
        total = sum(sizes.values())
        taken = connection.execute(
            update(scope)
            .where(scope.c.scope == name, scope.c.used + total <= scope.c.quota)
            .values(used=scope.c.used + total)
        )
        if taken.rowcount == 0:
            require_room(connection, name, sizes)


def set_quota(connection: Connection, name: str, quota: int | None) -> None:
    """Give the scope a quota and count what it has, or take the quota away."""
    lock(connection, "quota")
    connection.execute(delete(scope).where(scope.c.scope == name))
    if quota is not None:
        used = used_bytes(connection, name)
        connection.execute(insert(scope).values(scope=name, quota=quota, used=used))


def used_bytes(connection: Connection, name: str) -> int:
    """The sizes of all of a scope's assets, trash included."""
    statement = (
        select(func.coalesce(func.sum(blob.c.size), 0))
        .join_from(asset, blob, asset.c.digest == blob.c.digest)
        .where(asset.c.scope == name)
    )
    return int(connection.scalar(statement) or 0)


def quota(connection: Connection, name: str) -> int | None:
    """The scope's quota in bytes, or None."""
    return connection.scalar(select(scope.c.quota).where(scope.c.scope == name))


def drifts(connection: Connection) -> list[tuple[str, int, int]]:
    """Scopes whose count of used bytes is off: (scope, counted, real)."""
    rows = connection.execute(select(scope.c.scope, scope.c.used)).all()
    real = [(name, used, used_bytes(connection, name)) for name, used in rows]
    return [each for each in real if each[1] != each[2]]


def set_used(connection: Connection, name: str, used: int) -> None:
    """Correct the count of used bytes."""
    connection.execute(update(scope).where(scope.c.scope == name).values(used=used))


def count_again(connection: Connection, name: str) -> None:
    """Count what a scope has, if it has a quota, whatever that is."""
    if quota(connection, name) is not None:
        lock(connection, "quota")
        set_used(connection, name, used_bytes(connection, name))


def block(connection: Connection, digest: str, now: Instant, reason: str) -> None:
    """Refuse the digest from now on."""
    lock_digests(connection, [digest])
    connection.execute(delete(blocked).where(blocked.c.digest == digest))
    connection.execute(insert(blocked).values(digest=digest, at=now, reason=reason))


def unblock(connection: Connection, digest: str) -> tuple[str, Instant] | None:
    """Accept the digest again; why it was blocked, and since when, or None."""
    gone = delete(blocked).where(blocked.c.digest == digest)
    row = connection.execute(gone.returning(blocked.c.reason, blocked.c.at)).one_or_none()
    return None if row is None else (row.reason, row.at)


def blocked_ones(connection: Connection, after: str, limit: int) -> list[tuple[str, str, Instant]]:
    """(digest, reason, since when) of the block-list, from ``after`` on."""
    rows = connection.execute(
        select(blocked.c.digest, blocked.c.reason, blocked.c.at)
        .where(blocked.c.digest > after)
        .order_by(blocked.c.digest)
        .limit(limit)
    )
    return [(digest, reason, at) for digest, reason, at in rows]


def save_plan(
    connection: Connection, ident: str, now: Instant, terms: Mapping[str, object]
) -> None:
    """Keep the terms of a gc plan."""
    connection.execute(insert(plan).values(id=ident, created_at=now, terms=json.dumps(dict(terms))))


def load_plan(connection: Connection, ident: str) -> tuple[Instant, dict[str, object]] | None:
    """When a plan was made and its terms, or None."""
    row = connection.execute(
        select(plan.c.created_at, plan.c.terms).where(plan.c.id == ident)
    ).one_or_none()
    return (row.created_at, json.loads(row.terms)) if row is not None else None


def forget_plans(connection: Connection, before: Instant) -> None:
    """Drop plans made before that instant."""
    connection.execute(delete(plan).where(plan.c.created_at < before))


def signing_keys(connection: Connection) -> list[tuple[str, bytes]]:
    """(id, secret) of the keys that sign URLs, the newest first."""
    rows = connection.execute(
        select(signing_key.c.id, signing_key.c.secret).order_by(
            signing_key.c.created_at.desc(), signing_key.c.id
        )
    )
    return [(ident, bytes.fromhex(secret)) for ident, secret in rows]


def add_signing_key(connection: Connection, now: Instant, *, keep: int) -> None:
    """Sign with a new key from now on; the ``keep`` keys before it still verify."""
    lock(connection, "signing_key")
    newest = connection.scalar(select(func.max(signing_key.c.created_at)))
    at = now if newest is None else max(now, int(newest) + 1)
    connection.execute(
        insert(signing_key).values(
            id=secrets.token_hex(4), secret=secrets.token_hex(32), created_at=at
        )
    )
    for ident, _ in signing_keys(connection)[keep + 1 :]:
        connection.execute(delete(signing_key).where(signing_key.c.id == ident))


def record_usage(connection: Connection, now: Instant, scopes: Sequence[str] | None = None) -> None:
    """Write today's row of usage for every scope, or for those named."""
    lock(connection, "usage")
    day = f"{when(now):%Y-%m-%d}"
    sums = (
        select(asset.c.scope, func.count(), func.sum(blob.c.size))
        .join_from(asset, blob, asset.c.digest == blob.c.digest)
        .group_by(asset.c.scope)
    )
    live = (
        select(reference.c.scope, func.count())
        .where(reference.c.released_at.is_(None))
        .group_by(reference.c.scope)
    )
    if scopes is not None:
        sums = sums.where(among(asset.c.scope, scopes))
        live = live.where(among(reference.c.scope, scopes))
    references = {name: int(count) for name, count in connection.execute(live)}
    rows = [
        {
            "scope": name,
            "day": day,
            "assets": count,
            "bytes": int(size),
            "references": references.get(name, 0),
            "recorded_at": now,
        }
        for name, count, size in connection.execute(sums)
    ]
    counted = {row["scope"] for row in rows}
    last = select(usage_table.c.scope, func.max(usage_table.c.day).label("day"))
    newest = last.where(usage_table.c.day <= day).group_by(usage_table.c.scope).subquery()
    before = select(usage_table.c.scope).where(
        usage_table.c.scope == newest.c.scope,
        usage_table.c.day == newest.c.day,
        usage_table.c.assets > 0,
    )
    if scopes is not None:
        before = before.where(among(usage_table.c.scope, scopes))
    rows += [
        {
            "scope": name,
            "day": day,
            "assets": 0,
            "bytes": 0,
            "references": 0,
            "recorded_at": now,
        }
        for name in connection.scalars(before)
        if name not in counted
    ]
    if rows:
        connection.execute(
            delete(usage_table).where(
                usage_table.c.day == day,
                among(usage_table.c.scope, [str(row["scope"]) for row in rows]),
            )
        )
        connection.execute(insert(usage_table), rows)


def usage_days(connection: Connection, name: str, since: str, until: str) -> list[UsageDay]:
    """A scope's recorded days from ``since`` to ``until`` (YYYY-MM-DD)."""
    columns = (
        usage_table.c.scope,
        usage_table.c.day,
        usage_table.c.assets,
        usage_table.c.bytes,
        usage_table.c.references,
    )
    rows = connection.execute(
        select(*columns)
        .where(usage_table.c.scope == name, usage_table.c.day >= since, usage_table.c.day <= until)
        .order_by(usage_table.c.day)
    )
    return [UsageDay(*row) for row in rows]


def usage_due(
    connection: Connection, now: Instant, name: str | None = None, age: Instant = HOUR
) -> bool:
    """True when usage (of one scope, or of all) should be counted again.

    Counting reads every asset: after ``age`` for up to 100,000 of them, else after a day. What a
    clock that ran ahead has written does not count.
    """
    newest = (
        select(
            usage_table.c.scope,
            func.max(usage_table.c.recorded_at).label("at"),
            func.max(usage_table.c.assets).label("most"),
        )
        .where(usage_table.c.recorded_at <= now)
        .group_by(usage_table.c.scope)
    )
    if name is not None:
        newest = newest.where(usage_table.c.scope == name)
    each = newest.subquery()
    of_each = and_(usage_table.c.scope == each.c.scope, usage_table.c.recorded_at == each.c.at)
    in_use = case((usage_table.c.assets > 0, each.c.at))  # an empty scope's row is written once
    counted = select(func.min(in_use), func.max(each.c.at), func.max(each.c.most))
    oldest, latest, most = connection.execute(counted.join_from(each, usage_table, of_each)).one()
    if latest is None:
        return True
    at = int(latest if oldest is None else oldest)
    return now - at >= (age if int(most) <= QUICK_TO_COUNT else 24 * HOUR)
