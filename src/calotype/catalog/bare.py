"""Bare tables: without the keys, indexes and triggers that rows must not meet on their way in.

What is copied while its source is in use passes through states that never were: a reference before
its asset, two of one slot. Candidates are copied, not made. When all is there, the tables become
whole again, and the database itself proves what the keys say.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, ForeignKeyConstraint, Index

from calotype.catalog import moving, schema, triggers
from calotype.catalog.tables import PREFIX, metadata
from calotype.errors import Corrupt


def strip(connection: Connection) -> None:
    """Make the tables that are missing, and take from all of them what would be in the way."""
    metadata.create_all(connection)
    connection.exec_driver_sql(schema.VERSION_DDL)
    triggers.drop(connection)
    moving.reopen(connection)
    for index in _indexes():
        if index.unique:
            index.drop(connection, checkfirst=True)
    if connection.dialect.name != "sqlite":
        for key in _keys():
            name = key.table.name
            connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {key.name}")


def complete(connection: Connection) -> None:
    """Make them whole: every index, key and trigger, the sequences past the highest id.

    ``Corrupt`` where a row points at nothing: then it does so in what was copied as well.
    """
    for index in _indexes():
        index.create(connection, checkfirst=True)
    if connection.dialect.name == "sqlite":
        _require_sound(connection)
    else:
        said = connection.dialect.ddl_compiler(connection.dialect, None)  # type: ignore[arg-type]
        for key in _keys():
            connection.exec_driver_sql(f"ALTER TABLE {key.table.name} ADD {said.process(key)}")
        _advance(connection)
    triggers.ensure(connection)
    connection.exec_driver_sql(f"DELETE FROM {schema.VERSION_TABLE}")
    connection.exec_driver_sql(schema.VERSION_ROW)
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"ANALYZE {', '.join(metadata.tables)}")


def _indexes() -> Iterator[Index]:
    for table in metadata.sorted_tables:
        yield from sorted(table.indexes, key=lambda each: str(each.name))


def _keys() -> Iterator[ForeignKeyConstraint]:
    for table in metadata.sorted_tables:
        yield from sorted(table.foreign_key_constraints, key=lambda each: str(each.name))


def _require_sound(connection: Connection) -> None:
    """SQLite checks no rows that are there when its foreign keys are switched on."""
    for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        if PREFIX in f"{table} {parent}":
            raise Corrupt(
                f"A row of {table} points at nothing in {parent}; the copy is not finished.",
                hint="Mend or delete that row, and copy again.",
            )


def _advance(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        for column in table.primary_key:
            if column.autoincrement is True:
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "
                    f"coalesce(max({column.name}), 1), max({column.name}) IS NOT NULL) "
                    f"FROM {table.name}"
                )
