"""Statements on what nothing keeps: gc's decisions, the same for looking and for doing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    not_,
    or_,
    select,
    text,
    update,
)

from calotype.catalog.among import among
from calotype.catalog.columns import Hosts
from calotype.catalog.hints import unindexed
from calotype.catalog.prepared import Prepared
from calotype.catalog.settings import share
from calotype.catalog.tables import (
    asset,
    blob,
    candidate,
    derivation,
    provider_upload,
    reference,
    scope,
)
from calotype.quantities import FOREVER, Instant

IN_FLIGHT = ("planned", "sending", "unknown")


@dataclass(frozen=True, slots=True)
class Garbage:
    """A blob that nothing keeps, and since when (0 where it never was anyone's)."""

    digest: str
    size: int
    since: Instant


@dataclass(frozen=True, slots=True)
class Gone:
    """An asset row that was removed."""

    scope: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Pending:
    """How a digest's remaining assets are kept: the earliest end, or pushed by a column."""

    ends_at: Instant | None
    by_column: bool


def claim(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of ``digests`` that no other transaction is about to use; nobody can until the commit.

    The first of a transaction that lets go. SQLite's only writer has them all; on PostgreSQL what
    others have locked is passed over, and an application's deferred keys are asked at once.
    """
    if connection.dialect.name == "sqlite":
        return set(digests)
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    busy = {row[-1] for table in (blob, asset) for row in _locked(connection, table, digests)}
    return set(digests) - busy


def _locked(
    connection: Connection, table: Table, digests: Sequence[str]
) -> set[tuple[object, ...]]:
    """The keys of rows that others have locked; we have locked the rest."""
    rows = select(*table.primary_key.columns).where(among(table.c.digest, digests))
    there = {tuple(row) for row in connection.execute(rows)}
    ours = connection.execute(rows.order_by(table.c.digest).with_for_update(skip_locked=True))
    return there - {tuple(row) for row in ours}


def _uses() -> ColumnElement[bool]:
    return and_(reference.c.digest == asset.c.digest, unindexed(reference.c.scope) == asset.c.scope)


def _in_flight() -> ColumnElement[bool]:
    return (
        select(1)
        .where(
            provider_upload.c.digest == asset.c.digest,
            provider_upload.c.scope == asset.c.scope,
            provider_upload.c.state.in_(IN_FLIGHT),
        )
        .correlate(asset)
        .exists()
    )


def _collectable(cutoff: Instant, held: ColumnElement[bool]) -> ColumnElement[bool]:
    """True for assets whose last keeper ended at ``cutoff`` or before."""
    used = (
        select(1)
        .where(_uses(), or_(reference.c.released_at.is_(None), reference.c.released_at > cutoff))
        .correlate(asset)
        .exists()
    )
    return and_(asset.c.kept_until <= cutoff, not_(used), not_(held), not_(_in_flight()))


_SLOT = (
    reference.c.scope,
    reference.c.owner_kind,
    reference.c.owner_id,
    reference.c.role,
)
_OLDER = ("b_scope", "b_kind", "b_id", "b_role", "b_at")
_IS_OLDER = and_(
    *(column == bindparam(name) for column, name in zip(_SLOT, _OLDER, strict=False)),
    reference.c.released_at <= bindparam("b_at"),
)
_THEIR_END = (
    select(func.max(reference.c.released_at))
    .where(_IS_OLDER, reference.c.digest == asset.c.digest)
    .correlate(asset)
    .scalar_subquery()
)
_KEEP_THEIR_ENDS = Prepared(
    update(asset)
    .where(
        asset.c.scope == bindparam("b_scope"),
        asset.c.digest.in_(select(reference.c.digest).where(_IS_OLDER)),
        asset.c.kept_until < _THEIR_END,
    )
    .values(kept_until=_THEIR_END)
)
_DELETE_OLDER = Prepared(delete(reference).where(_IS_OLDER))


def collect_references(
    connection: Connection, digests: Sequence[str], cutoff: Instant, most: int | None = None
) -> int:
    """Delete released references whose time is over, ``most`` of them; how many.

    With a reference go the older ones of its slot, whatever they pointed at: restoring must not
    bring back what had been replaced. Their assets take over the ends, so that no grace is cut.
    """
    due = and_(among(reference.c.digest, digests), reference.c.released_at <= cutoff)
    if most is not None:
        due = reference.c.id.in_(select(reference.c.id).where(due).limit(most))
    gone = connection.execute(
        delete(reference).where(due).returning(*_SLOT, reference.c.released_at)
    ).all()
    slots = [dict(zip(_OLDER, row, strict=True)) for row in gone]
    _KEEP_THEIR_ENDS.many(connection, slots)
    _DELETE_OLDER.many(connection, slots)
    return len(gone)


def collect_assets(
    connection: Connection, digests: Sequence[str], cutoff: Instant, hosts: Hosts
) -> tuple[int, list[Gone]]:
    """Delete released references and then assets whose time is over; references, assets."""
    share(connection, "quota")
    references = collect_references(connection, digests, cutoff)
    gone = connection.execute(
        delete(asset)
        .where(among(asset.c.digest, digests), _collectable(cutoff, hosts.on_asset(connection)))
        .returning(asset.c.scope, asset.c.digest)
    ).all()
    sized = select(blob.c.digest, blob.c.size).where(
        among(blob.c.digest, [row.digest for row in gone])
    )
    sizes = {row.digest: int(row.size) for row in connection.execute(sized)}
    collected = [Gone(row.scope, row.digest, sizes.get(row.digest, 0)) for row in gone]
    give_back(connection, collected)
    return references, collected


def give_back(connection: Connection, gone: Sequence[Gone]) -> None:
    """Take the sizes of removed assets off their scopes' quotas."""
    freed: dict[str, int] = {}
    for item in gone:
        freed[item.scope] = freed.get(item.scope, 0) + item.size
    for name, size in sorted(freed.items()):
        connection.execute(
            scope.update().where(scope.c.scope == name).values(used=scope.c.used - size)
        )


def garbage(
    connection: Connection, digests: Sequence[str], cutoff: Instant, hosts: Hosts
) -> list[Garbage]:
    """Those of ``digests`` whose blob nothing keeps, nor any ancestor through derivations."""
    up = (
        select(blob.c.digest.label("root"), blob.c.digest.label("digest"))
        .where(among(blob.c.digest, digests))
        .cte("up", recursive=True)
    )
    up = up.union(
        select(up.c.root, derivation.c.input_digest).join_from(
            up, derivation, derivation.c.output_digest == up.c.digest
        )
    )
    survives = (
        select(1)
        .select_from(asset)
        .where(
            asset.c.digest == up.c.digest,
            not_(_collectable(cutoff, hosts.on_asset(connection))),
        )
        .correlate(up)
        .exists()
    )
    pointed = (
        select(1)
        .select_from(blob)
        .where(blob.c.digest == up.c.digest, hosts.on_blob(connection))
        .correlate(up)
        .exists()
    )
    kept = set(connection.scalars(select(up.c.root).where(or_(survives, pointed)).distinct()))
    rest = [digest for digest in digests if digest not in kept]
    sizes = connection.execute(
        select(blob.c.digest, blob.c.size).where(among(blob.c.digest, rest))
    ).all()
    since = _since(connection, rest)
    return [Garbage(row.digest, row.size, since.get(row.digest, 0)) for row in sizes]


def _since(connection: Connection, digests: Sequence[str]) -> dict[str, Instant]:
    kept = select(asset.c.digest, asset.c.kept_until.label("at")).where(
        among(asset.c.digest, digests)
    )
    used = select(reference.c.digest, reference.c.released_at.label("at")).where(
        among(reference.c.digest, digests), reference.c.released_at.is_not(None)
    )
    ends = kept.union_all(used).subquery()
    rows = connection.execute(select(ends.c.digest, func.max(ends.c.at)).group_by(ends.c.digest))
    return {digest: int(at) for digest, at in rows}


def let_go(connection: Connection, digests: Sequence[str]) -> None:
    """Delete blob rows with what was derived from them; the database refuses if one is used."""
    connection.execute(
        delete(derivation).where(
            or_(
                among(derivation.c.input_digest, digests),
                among(derivation.c.output_digest, digests),
            )
        )
    )
    connection.execute(delete(blob).where(among(blob.c.digest, digests)))


def pending(connection: Connection, digests: Sequence[str], hosts: Hosts) -> dict[str, Pending]:
    """For each digest that is not kept for good: when to look again, and whether a column keeps."""
    newest = (
        select(func.max(reference.c.released_at)).where(_uses()).correlate(asset).scalar_subquery()
    )
    live = select(1).where(_uses(), reference.c.released_at.is_(None)).correlate(asset).exists()
    rows = connection.execute(
        select(
            asset.c.digest,
            asset.c.kept_until,
            newest.label("released_at"),
            or_(hosts.on_asset(connection), _in_flight()).label("held"),
        ).where(among(asset.c.digest, digests), asset.c.kept_until < FOREVER, not_(live))
    )
    found: dict[str, Pending] = {}
    for row in rows:
        ends = max(int(row.kept_until), int(row.released_at or 0))
        before = found.get(row.digest, Pending(None, False))
        if row.held:
            found[row.digest] = Pending(before.ends_at, True)
        else:
            earliest = ends if before.ends_at is None else min(ends, before.ends_at)
            found[row.digest] = Pending(earliest, before.by_column)
    bare = select(blob.c.digest).where(
        among(blob.c.digest, [d for d in digests if d not in found]), hosts.on_blob(connection)
    )
    without = bare.where(~select(1).where(asset.c.digest == blob.c.digest).correlate(blob).exists())
    found.update({digest: Pending(None, True) for digest in connection.scalars(without)})
    return found


def in_flight(connection: Connection, name: str, digest: str) -> list[str]:
    """Providers to which an upload of this asset is under way."""
    return list(
        connection.scalars(
            select(provider_upload.c.provider).where(
                provider_upload.c.scope == name,
                provider_upload.c.digest == digest,
                provider_upload.c.state.in_(IN_FLIGHT),
            )
        )
    )


def ended(connection: Connection, name: str, digest: str) -> Instant:
    """When the last thing that kept this scope's asset ended."""
    newest = (
        select(func.max(reference.c.released_at)).where(_uses()).correlate(asset).scalar_subquery()
    )
    row = connection.execute(
        select(asset.c.kept_until, newest).where(asset.c.scope == name, asset.c.digest == digest)
    ).one()
    return max(int(row[0]), int(row[1] or 0))


def derived_from(connection: Connection, digest: str) -> list[tuple[str, str]]:
    """(input digest, recipe@version) of the derivations whose output this is."""
    rows = connection.execute(
        select(derivation.c.input_digest, derivation.c.recipe, derivation.c.version).where(
            derivation.c.output_digest == digest
        )
    )
    return [(row.input_digest, f"{row.recipe}@{row.version}") for row in rows]


def unwatched(
    connection: Connection, hosts: Hosts, now: Instant, after: str, limit: int
) -> list[str]:
    """Digests of blobs that are not kept for good and that no candidate looks at in time (I17).

    In time is now, or when the first of their assets ends. A candidate that was pushed back, since
    an application's column or an upload kept the asset longer, looks within the longest push.
    """
    live = select(1).where(_uses(), reference.c.released_at.is_(None)).correlate(asset).exists()
    good = (
        select(1)
        .where(asset.c.digest == blob.c.digest, or_(asset.c.kept_until == FOREVER, live))
        .correlate(blob)
        .exists()
    )
    unsettled = (
        select(1)
        .where(asset.c.digest == blob.c.digest, asset.c.kept_until < FOREVER, not_(live))
        .correlate(blob)
        .exists()
    )
    output = select(1).where(derivation.c.output_digest == blob.c.digest).correlate(blob).exists()
    newest = (
        select(func.max(reference.c.released_at)).where(_uses()).correlate(asset).scalar_subquery()
    )
    end = case((newest > asset.c.kept_until, newest), else_=asset.c.kept_until)
    first_end = (
        select(func.min(end))
        .where(asset.c.digest == blob.c.digest, asset.c.kept_until < FOREVER, not_(live))
        .correlate(blob)
        .scalar_subquery()
    )
    in_time = or_(
        candidate.c.pushed > 0,
        candidate.c.look_at <= now,
        candidate.c.look_at <= func.coalesce(first_end, FOREVER),
    )
    watched = select(1).where(candidate.c.digest == blob.c.digest, in_time).correlate(blob).exists()
    settled = and_(or_(good, output, hosts.on_blob(connection)), not_(unsettled))
    rows = connection.scalars(
        select(blob.c.digest)
        .where(blob.c.digest > after, not_(watched), not_(settled))
        .order_by(blob.c.digest)
        .limit(limit)
    )
    return list(rows)


def uproot(connection: Connection, digest: str) -> int:
    """Delete every row of every scope that leads to the digest, and the blob; how many assets."""
    share(connection, "quota")
    connection.execute(select(blob.c.digest).where(blob.c.digest == digest).with_for_update())
    gone = [
        Gone(row.scope, digest, row.size)
        for row in connection.execute(
            select(asset.c.scope, blob.c.size)
            .join_from(asset, blob, asset.c.digest == blob.c.digest)
            .where(asset.c.digest == digest)
            .with_for_update()
        )
    ]
    for table in (reference, provider_upload, asset):
        connection.execute(delete(table).where(table.c.digest == digest))
    give_back(connection, gone)
    let_go(connection, [digest])
    return len(gone)
