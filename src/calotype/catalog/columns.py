"""The application's own columns that point at our tables: they keep what they point at.

A foreign key to ``calotype_blob(digest)`` keeps the blob, and its asset in the column scope; one
to ``calotype_asset(scope, digest)`` keeps that asset. They are read from the database's own list
of foreign keys, so there is nothing to register.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Engine,
    Table,
    TableClause,
    and_,
    false,
    or_,
    select,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table

from calotype.catalog import sqlite
from calotype.catalog.discovery import ForeignKey, foreign_keys
from calotype.catalog.tables import asset, blob
from calotype.errors import RoleCascades

OURS = "calotype_ours"
"""The execution option of connections whose transactions are the catalog's own."""

_CHANGING = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


class Hosts:
    """The application's columns, looked up again when the database's schema has changed.

    What a transaction of the application's shows is not remembered: its tables may be rolled back.
    """

    def __init__(self, column_scope: str) -> None:
        self.column_scope = column_scope
        self._seen: tuple[Engine | None, object, tuple[ForeignKey, ...]] = (None, None, ())

    def columns(self, connection: Connection) -> tuple[ForeignKey, ...]:
        """Every foreign key of other tables to ours."""
        version = _version(connection)
        if version is None or not connection.get_execution_options().get(OURS):
            return tuple(foreign_keys(connection))
        engine, seen, known = self._seen
        if engine is connection.engine and seen == version:
            return known
        found = tuple(foreign_keys(connection))
        self._seen = (connection.engine, version, found)
        return found

    def on_asset(self, connection: Connection) -> ColumnElement[bool]:
        """True for assets that a column keeps."""
        return on_asset(self.columns(connection), self.column_scope)

    def on_blob(self, connection: Connection) -> ColumnElement[bool]:
        """True for blobs that a column keeps directly."""
        found = self.columns(connection)
        return or_(false(), *[_points_at(host, blob) for host in found if host.target == blob.name])

    def refuse_cascades(self, connection: Connection) -> None:
        """Raise ``RoleCascades`` where letting go would change the application's rows."""
        for host in self.columns(connection):
            if host.on_delete in _CHANGING:
                raise RoleCascades(
                    f"The foreign key {host.name} on {host} says ON DELETE {host.on_delete}, so "
                    "letting go would change the application's rows; nothing was changed.",
                    hint="Declare it ON DELETE RESTRICT (or leave ON DELETE out).",
                )

    def keeping_asset(self, connection: Connection, scope: str, digest: str) -> list[ForeignKey]:
        """The columns that keep the asset of this scope."""
        keeping = []
        for host in self.columns(connection):
            if host.target == asset.name:
                there = _points_at(host, asset)
            elif host.target == blob.name and scope == self.column_scope:
                there = _by_digest(host)
            else:
                continue
            mine = and_(asset.c.scope == scope, asset.c.digest == digest, there)
            if connection.scalar(select(1).select_from(asset).where(mine)):
                keeping.append(host)
        return keeping

    def keeping_blob(self, connection: Connection, digest: str) -> list[ForeignKey]:
        """The columns that point at the blob itself."""
        return [
            host
            for host in self.columns(connection)
            if host.target == blob.name
            and connection.scalar(
                select(1).select_from(blob).where(blob.c.digest == digest, _points_at(host, blob))
            )
        ]

    def pointing_anywhere(self, connection: Connection, digest: str) -> list[ForeignKey]:
        """The columns that point at the digest's blob or at an asset of it in any scope."""
        at_assets = [
            host
            for host in self.columns(connection)
            if host.target == asset.name
            and connection.scalar(
                select(1)
                .select_from(asset)
                .where(asset.c.digest == digest, _points_at(host, asset))
                .limit(1)
            )
        ]
        return [*self.keeping_blob(connection, digest), *at_assets]


def on_asset(columns: Sequence[ForeignKey], column_scope: str) -> ColumnElement[bool]:
    """True for assets that one of ``columns`` keeps."""
    whole = [_points_at(host, asset) for host in columns if host.target == asset.name]
    digests = [_by_digest(host) for host in columns if host.target == blob.name]
    mine = asset.c.scope == column_scope
    return or_(false(), *whole, *[and_(mine, there) for there in digests])


def _points_at(host: ForeignKey, target: Table) -> ColumnElement[bool]:
    """True for rows of ``target`` that the column points at."""
    table = _table(host)
    return (
        select(1)
        .select_from(table)
        .where(and_(*[table.c[ours] == target.c[theirs] for ours, theirs in host.pairs]))
        .correlate(target)
        .exists()
    )


def _by_digest(host: ForeignKey) -> ColumnElement[bool]:
    ours, _ = host.pairs[0]
    table = _table(host)
    statement = select(1).select_from(table).where(table.c[ours] == asset.c.digest)
    return statement.correlate(asset).exists()


def _table(host: ForeignKey) -> TableClause:
    names = [ours for ours, _ in host.pairs]
    return sql_table(host.table, *map(_column, names), schema=host.schema)


def _column(name: str) -> ColumnClause[str]:
    return sql_column(name)


def _version(connection: Connection) -> object:
    if connection.dialect.name != "sqlite":
        return None
    return sqlite.schema_version(connection)
