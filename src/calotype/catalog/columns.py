"""The application's own columns that point at our tables: they keep what they point at.

A foreign key to ``calotype_blob(digest)`` keeps the blob, and its asset in the column scope; one
to ``calotype_asset(scope, digest)`` keeps that asset. They are read from the database's own list
of foreign keys, so there is nothing to register.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, and_, false, inspect, or_, select
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table

from calotype.catalog import sqlite
from calotype.catalog.tables import PREFIX, asset, blob
from calotype.errors import RoleCascades

_CHANGING = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


@dataclass(frozen=True, slots=True)
class HostColumn:
    """A foreign key of the application: ``pairs`` are (its column, our column)."""

    table: str
    target: str
    pairs: tuple[tuple[str, str], ...]
    name: str
    on_delete: str
    indexed: bool

    def __str__(self) -> str:
        """``search_results.image_hash``."""
        return f"{self.table}.{'+'.join(ours for ours, _ in self.pairs)}"

    def points_at(self, target: Table) -> ColumnElement[bool]:
        """True for rows of ``target`` that this column points at."""
        host = sql_table(self.table, *[sql_column(ours) for ours, _ in self.pairs])
        return (
            select(1)
            .select_from(host)
            .where(and_(*[host.c[ours] == target.c[theirs] for ours, theirs in self.pairs]))
            .correlate(target)
            .exists()
        )


class Hosts:
    """The application's columns, looked up again when the database's schema has changed."""

    def __init__(self, column_scope: str) -> None:
        self.column_scope = column_scope
        self._lock = threading.Lock()
        self._seen: tuple[object, tuple[HostColumn, ...]] = (None, ())

    def columns(self, connection: Connection) -> tuple[HostColumn, ...]:
        """Every foreign key of other tables to ours."""
        version = _version(connection)
        with self._lock:
            if version is not None and self._seen[0] == version:
                return self._seen[1]
        found = tuple(_discover(connection))
        with self._lock:
            self._seen = (version, found)
        return found

    def on_asset(self, connection: Connection) -> ColumnElement[bool]:
        """True for assets that a column keeps."""
        return on_asset(self.columns(connection), self.column_scope)

    def on_blob(self, connection: Connection) -> ColumnElement[bool]:
        """True for blobs that a column keeps directly."""
        found = self.columns(connection)
        return or_(false(), *[host.points_at(blob) for host in found if host.target == blob.name])

    def refuse_cascades(self, connection: Connection) -> None:
        """Raise ``RoleCascades`` where letting go would change the application's rows."""
        for host in self.columns(connection):
            if host.on_delete in _CHANGING:
                raise RoleCascades(
                    f"The foreign key {host.name} on {host} says ON DELETE {host.on_delete}, so "
                    "gc would change the application's rows; nothing was changed.",
                    hint="Declare it ON DELETE RESTRICT (or leave ON DELETE out).",
                )

    def keeping_asset(self, connection: Connection, scope: str, digest: str) -> list[HostColumn]:
        """The columns that keep the asset of this scope."""
        keeping = []
        for host in self.columns(connection):
            if host.target == asset.name:
                there = host.points_at(asset)
            elif host.target == blob.name and scope == self.column_scope:
                there = _by_digest(host)
            else:
                continue
            mine = and_(asset.c.scope == scope, asset.c.digest == digest, there)
            if connection.scalar(select(1).select_from(asset).where(mine)):
                keeping.append(host)
        return keeping

    def keeping_blob(self, connection: Connection, digest: str) -> list[HostColumn]:
        """The columns that point at the blob itself."""
        return [
            host
            for host in self.columns(connection)
            if host.target == blob.name
            and connection.scalar(
                select(1).select_from(blob).where(blob.c.digest == digest, host.points_at(blob))
            )
        ]

    def pointing_anywhere(self, connection: Connection, digest: str) -> list[HostColumn]:
        """The columns that point at the digest's blob or at an asset of it in any scope."""
        at_assets = [
            host
            for host in self.columns(connection)
            if host.target == asset.name
            and connection.scalar(
                select(1)
                .select_from(asset)
                .where(asset.c.digest == digest, host.points_at(asset))
                .limit(1)
            )
        ]
        return [*self.keeping_blob(connection, digest), *at_assets]


def on_asset(columns: Sequence[HostColumn], column_scope: str) -> ColumnElement[bool]:
    """True for assets that one of ``columns`` keeps."""
    whole = [host.points_at(asset) for host in columns if host.target == asset.name]
    digests = [_by_digest(host) for host in columns if host.target == blob.name]
    mine = asset.c.scope == column_scope
    return or_(false(), *whole, *[and_(mine, there) for there in digests])


def _by_digest(host: HostColumn) -> ColumnElement[bool]:
    ours, _ = host.pairs[0]
    table = sql_table(host.table, sql_column(ours))
    statement = select(1).select_from(table).where(table.c[ours] == asset.c.digest)
    return statement.correlate(asset).exists()


def _version(connection: Connection) -> object:
    if connection.dialect.name != "sqlite":
        return None
    return sqlite.schema_version(connection)


def _discover(connection: Connection) -> Sequence[HostColumn]:
    inspector = inspect(connection)
    found = []
    for table in _tables_pointing_here(connection, inspector.get_table_names()):
        indexes = [
            [name for name in index["column_names"] if name]
            for index in inspector.get_indexes(table)
        ]
        indexes.append(inspector.get_pk_constraint(table)["constrained_columns"])
        indexes += [each["column_names"] for each in inspector.get_unique_constraints(table)]
        for key in inspector.get_foreign_keys(table):
            if not key["referred_table"].startswith(PREFIX):
                continue
            columns = list(key["constrained_columns"])
            found.append(
                HostColumn(
                    table,
                    key["referred_table"],
                    tuple(zip(columns, key["referred_columns"], strict=True)),
                    key.get("name") or f"(unnamed, on {table})",
                    str(key.get("options", {}).get("ondelete", "NO ACTION")).upper(),
                    any(set(index[: len(columns)]) == set(columns) for index in indexes),
                )
            )
    return found


def _tables_pointing_here(connection: Connection, names: Sequence[str]) -> Sequence[str]:
    others = [name for name in names if not name.startswith(PREFIX)]
    if connection.dialect.name != "sqlite":
        return others
    pointing = connection.exec_driver_sql(
        "SELECT DISTINCT m.name FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f "
        "WHERE m.type = 'table' AND f.\"table\" LIKE 'calotype\\_%' ESCAPE '\\'"
    )
    return sorted(set(others) & set(pointing.scalars()))
