"""What is left behind: an application's columns do not go with the catalog that they point at.

What they keep has nothing else to keep it where the catalog goes, so a hold does until the
application has copied its tables and made its foreign keys anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, literal, or_, select, update

from calotype.catalog import settings
from calotype.catalog.among import among
from calotype.catalog.columns import Hosts
from calotype.catalog.listing import PAGE
from calotype.catalog.tables import asset, blob
from calotype.quantities import Instant


def pointed_at(connection: Connection, hosts: Hosts, after: str) -> list[str]:
    """The next page of digests that columns point at, directly or through an asset."""
    through = select(1).select_from(asset).where(asset.c.digest == blob.c.digest)
    keeps = or_(
        hosts.on_blob(connection),
        through.where(hosts.on_asset(connection)).correlate(blob).exists(),
    )
    statement = select(blob.c.digest).where(blob.c.digest > after, keeps)
    return list(connection.scalars(statement.order_by(blob.c.digest).limit(PAGE)))


def hold(
    connection: Connection, digests: Sequence[str], scope: str, now: Instant, until: Instant
) -> None:
    """Hold every asset of these digests until then; ``scope`` gets one of what has none."""
    connection.execute(
        update(asset)
        .where(among(asset.c.digest, digests), asset.c.kept_until < until)
        .values(kept_until=until)
    )
    bare = ~select(1).where(asset.c.digest == blob.c.digest).correlate(blob).exists()
    new = select(literal(scope), blob.c.digest, literal(until), literal(now))
    connection.execute(
        insert(asset).from_select(
            ["scope", "digest", "kept_until", "created_at"],
            new.where(among(blob.c.digest, digests), bare),
        )
    )
    for name, _, used in settings.drifts(connection):
        settings.set_used(connection, name, used)
