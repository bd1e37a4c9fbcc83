"""Statements on assets: what a scope has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    or_,
    select,
    update,
)

from calotype.catalog.among import among_given
from calotype.catalog.columns import Hosts, on_asset
from calotype.catalog.copies import to_blob
from calotype.catalog.discovery import ForeignKey
from calotype.catalog.hints import unindexed
from calotype.catalog.prepared import Found, Prepared, prepared_insert
from calotype.catalog.tables import asset, blob, reference
from calotype.errors import Corrupt
from calotype.model import Asset
from calotype.quantities import FOREVER, Instant, when
from calotype.wishes import Wish

LIVE_REFERENCES = (
    select(func.count())
    .select_from(reference)
    .where(
        reference.c.digest == asset.c.digest,
        unindexed(reference.c.scope) == asset.c.scope,
        reference.c.released_at.is_(None),
    )
    .correlate(asset)
    .scalar_subquery()
)

ASSET: Select[tuple[object, ...]] = select(
    asset.c.scope,
    asset.c.kept_until,
    asset.c.filename,
    asset.c.metadata,
    asset.c.created_at,
    asset.c.last_accessed,
    asset.c.access_count,
    blob.c.digest,
    blob.c.size,
    blob.c.media_type,
    blob.c.extension,
    blob.c.width,
    blob.c.height,
    LIVE_REFERENCES.label("live"),
).join_from(asset, blob, asset.c.digest == blob.c.digest)
"""Everything that ``to_asset`` needs."""


def referenced() -> ColumnElement[bool]:
    """True for assets with a live reference."""
    return (
        select(1)
        .where(
            reference.c.digest == asset.c.digest,
            unindexed(reference.c.scope) == asset.c.scope,
            reference.c.released_at.is_(None),
        )
        .correlate(asset)
        .exists()
    )


def visible(now: Instant, applied: ColumnElement[bool]) -> ColumnElement[bool]:
    """True for assets that something keeps: themselves, a hold, a reference, ``applied``."""
    return or_(asset.c.kept_until > now, referenced(), applied)


def to_asset(found: Found, now: Instant) -> Asset:
    """An ``ASSET`` row as a value; ``held`` in the row says that an application keeps it.

    ``Corrupt`` where a hand or a disk wrote it.
    """
    accessed = found["last_accessed"]
    try:
        return Asset(
            scope=found["scope"],
            blob=to_blob(found),
            filename=found["filename"],
            metadata=metadata_of(found),
            kept=kept(int(found["kept_until"]), now),
            trashed=trashed(found, now),
            references=int(found["live"]),
            created_at=when(int(found["created_at"])),
            last_accessed=when(int(accessed)) if accessed is not None else None,
            access_count=int(found["access_count"]),
        )
    except (ValueError, TypeError) as error:
        raise Corrupt(
            f"The row of {found['digest']} in scope {found['scope']!r} cannot be read: {error}.",
            hint="Mend it by hand in calotype_asset, or restore a copy of the catalog.",
        ) from error


def trashed(found: Found, now: Instant) -> bool:
    """True for the ``ASSET`` row of an asset that nothing keeps any more."""
    over = int(found["kept_until"]) <= now
    return over and not found["live"] and not found.get("held")


def metadata_of(found: Found) -> dict[str, object]:
    """An asset row's metadata; most have none."""
    return {} if found["metadata"] == "{}" else dict(json.loads(found["metadata"]))


def kept(kept_until: Instant, now: Instant) -> Literal["library"] | datetime | None:
    """How an asset's own ``kept_until`` reads: ``"library"``, an instant, or None when over."""
    if kept_until == FOREVER:
        return "library"
    return when(kept_until) if kept_until > now else None


def assets(
    connection: Connection,
    scope: str,
    digests: Iterable[str],
    hosts: Hosts,
    *,
    to_change: bool = False,
) -> dict[str, Found]:
    """The asset rows of ``digests`` in one scope; ``held`` where the application keeps one.

    ``to_change`` locks them, so that of two who change a row at once none is lost.
    """
    statement = _assets_statement(hosts.columns(connection), hosts.column_scope, to_change)
    rows = statement(connection, scope_name=scope, digests=list(digests))
    return {row["digest"]: row for row in rows}


@lru_cache(maxsize=32)
def _assets_statement(
    columns: tuple[ForeignKey, ...], column_scope: str, to_change: bool
) -> Prepared:
    """Built once for each set of application columns: building costs more than running it."""
    held = on_asset(columns, column_scope).label("held")
    statement = ASSET.add_columns(held).where(
        asset.c.scope == bindparam("scope_name"), among_given(asset.c.digest, "digests")
    )
    if to_change:
        statement = statement.order_by(asset.c.digest).with_for_update(of=asset)
    return Prepared(statement)


def lock(connection: Connection, scope: str, digest: str) -> bool:
    """Lock the asset row against removal; False where there is none."""
    statement = (
        select(asset.c.digest)
        .where(asset.c.scope == scope, asset.c.digest == digest)
        .with_for_update(key_share=True, read=True)
    )
    return connection.scalar(statement) is not None


_INSERT_ASSET = prepared_insert(
    asset, "scope", "digest", "kept_until", "filename", "metadata", "created_at"
)


def insert_assets(connection: Connection, scope: str, wishes: Sequence[Wish], now: Instant) -> None:
    """Insert one asset row for each wish."""
    _INSERT_ASSET.many(
        connection,
        [
            {
                "scope": scope,
                "digest": wish.digest,
                "kept_until": now if wish.kept_until is None else wish.kept_until,
                "filename": wish.filename,
                "metadata": json.dumps(dict(wish.metadata)) if wish.metadata else "{}",
                "created_at": now,
            }
            for wish in wishes
        ],
    )


def update_assets(
    connection: Connection, scope: str, changed: Mapping[str, Mapping[str, object]]
) -> None:
    """Write ``kept_until``, ``filename`` and ``metadata`` of assets that are there."""
    if changed:
        connection.execute(
            update(asset)
            .where(asset.c.scope == scope, asset.c.digest == bindparam("b_digest"))
            .values(
                kept_until=bindparam("b_kept_until"),
                filename=bindparam("b_filename"),
                metadata=bindparam("b_metadata"),
            ),
            [
                {"b_digest": digest, **{f"b_{name}": value for name, value in row.items()}}
                for digest, row in changed.items()
            ],
        )


def hold_what_nobody_has(connection: Connection, until: Instant) -> None:
    """Hold every asset without a live reference, in any scope, until then at least."""
    connection.execute(
        update(asset)
        .where(asset.c.kept_until < until, LIVE_REFERENCES == 0)
        .values(kept_until=until)
    )


def set_kept_until(connection: Connection, scope: str, digest: str, instant: Instant) -> bool:
    """Set until when an asset is kept for itself; False where there is no such asset."""
    changed = connection.execute(
        update(asset)
        .where(asset.c.scope == scope, asset.c.digest == digest)
        .values(kept_until=instant)
    )
    return changed.rowcount == 1


def touch(connection: Connection, accesses: Mapping[tuple[str, str], tuple[int, Instant]]) -> None:
    """Add gathered accesses: (scope, digest) -> (how many, the last one's instant)."""
    connection.execute(
        update(asset)
        .where(asset.c.scope == bindparam("b_scope"), asset.c.digest == bindparam("b_digest"))
        .values(
            access_count=asset.c.access_count + bindparam("b_count"),
            last_accessed=bindparam("b_last"),
        ),
        [
            {"b_scope": scope, "b_digest": digest, "b_count": count, "b_last": last}
            for (scope, digest), (count, last) in accesses.items()
        ],
    )


def describe(
    connection: Connection,
    scope: str,
    digest: str,
    filename: str | None,
    metadata: Mapping[str, object] | None,
) -> None:
    """Set what is not None."""
    values = {
        "filename": filename,
        "metadata": json.dumps(dict(metadata)) if metadata is not None else None,
    }
    given = {name: value for name, value in values.items() if value is not None}
    if given:
        connection.execute(
            update(asset).where(asset.c.scope == scope, asset.c.digest == digest).values(**given)
        )


def by_prefix(connection: Connection, scope: str | None, prefix: str, limit: int) -> list[str]:
    """Digests of a scope's assets (or of all blobs) that begin with ``prefix``."""
    column = blob.c.digest if scope is None else asset.c.digest
    statement = select(column).where(column >= prefix, column <= prefix + "g")
    if scope is not None:
        statement = statement.where(asset.c.scope == scope)
    return list(connection.scalars(statement.order_by(column).limit(limit)))


def scopes_of(connection: Connection, digest: str) -> list[str]:
    """The scopes that have an asset of this digest."""
    statement = select(asset.c.scope).where(asset.c.digest == digest).order_by(asset.c.scope)
    return list(connection.scalars(statement))
