"""Statements that count: the store as a whole, and one scope's share."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, exists, false, func, not_, select

from calotype.catalog.columns import Hosts
from calotype.catalog.holdings import LIVE_REFERENCES, visible
from calotype.catalog.tables import asset, blob, derivation, reference
from calotype.figures import Stats
from calotype.model import Usage
from calotype.quantities import Instant


def count_blobs(connection: Connection) -> int:
    """How many blobs there are."""
    return connection.scalar(select(func.count()).select_from(blob)) or 0


def weigh_blobs(connection: Connection) -> tuple[int, int]:
    """How many blobs there are, derived ones too, and their bytes."""
    sums = select(func.count(), func.coalesce(func.sum(blob.c.size), 0)).select_from(blob)
    count, size = connection.execute(sums).one()
    return int(count), int(size)


def _derived_only() -> ColumnElement[bool]:
    return and_(
        exists(select(1).where(derivation.c.output_digest == blob.c.digest).correlate(blob)),
        not_(exists(select(1).where(asset.c.digest == blob.c.digest).correlate(blob))),
    )


def stats(connection: Connection, now: Instant, hosts: Hosts) -> Stats:
    """The whole store in numbers, as ``Stats`` defines them."""
    derived = _derived_only()
    sums = select(func.count(), func.coalesce(func.sum(blob.c.size), 0))
    derived_blobs, derived_bytes = connection.execute(sums.where(derived)).one()
    blobs, size = connection.execute(sums.where(not_(derived))).one()
    held = visible(now, hosts.on_asset(connection))
    kept = exists(select(1).where(asset.c.digest == blob.c.digest, held).correlate(blob))
    orphan = and_(not_(derived), not_(kept), not_(hosts.on_blob(connection)))
    orphaned, orphaned_bytes = connection.execute(sums.where(orphan)).one()
    assets, alone_bytes = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(blob.c.size).filter(asset.c.kept_until > now), 0),
        ).join_from(asset, blob, asset.c.digest == blob.c.digest)
    ).one()
    references, referenced_bytes = connection.execute(
        select(func.count(), func.coalesce(func.sum(blob.c.size), 0))
        .join_from(reference, blob, reference.c.digest == blob.c.digest)
        .where(reference.c.released_at.is_(None))
    ).one()
    columns_bytes = 0
    if hosts.columns(connection):
        used = exists(select(1).where(asset.c.digest == blob.c.digest, visible(now, false())))
        unused = and_(not_(derived), not_(used.correlate(blob)))
        columns_bytes = connection.execute(sums.where(unused)).one()[1] - orphaned_bytes
    logical = int(alone_bytes) + int(referenced_bytes) + int(columns_bytes)
    saved = logical - (int(size) - int(orphaned_bytes))
    return Stats(
        blobs=blobs,
        bytes=int(size),
        assets=assets,
        references=references,
        orphaned=orphaned,
        orphaned_bytes=int(orphaned_bytes),
        average_references=references / blobs if blobs else 0.0,
        logical_bytes=logical,
        saved_bytes=saved,
        saved_percent=100 * saved / logical if logical else 0.0,
        derived_blobs=derived_blobs,
        derived_bytes=int(derived_bytes),
    )


def usage(
    connection: Connection, scope: str, now: Instant, hosts: Hosts, quota: int | None
) -> Usage:
    """One scope's part, its trash apart."""
    shown = visible(now, hosts.on_asset(connection))
    row = connection.execute(
        select(
            func.count().filter(shown),
            func.coalesce(func.sum(blob.c.size).filter(shown), 0),
            func.count().filter(not_(shown)),
            func.coalesce(func.sum(blob.c.size).filter(not_(shown)), 0),
            func.coalesce(func.sum(LIVE_REFERENCES), 0),
        )
        .join_from(asset, blob, asset.c.digest == blob.c.digest)
        .where(asset.c.scope == scope)
    ).one()
    assets, size, trashed, trashed_size, references = (int(value) for value in row)
    return Usage(scope, assets, size, trashed, trashed_size, references, quota)
