"""Alembic's side of the schema: loaded by ``upgrade`` alone."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, inspect

from calotype.catalog import schema, settings, tables, triggers
from calotype.catalog.schema import VERSION_TABLE
from calotype.quantities import Instant

HERE = Path(__file__).parent


def config(connection: Connection | None) -> Config:
    """Alembic's configuration, on this connection; it needs no file of its own."""
    made = Config()
    made.set_main_option("script_location", str(HERE))
    made.attributes["connection"] = connection
    made.attributes["target_metadata"] = target()
    made.attributes["version_table"] = VERSION_TABLE
    return made


def target() -> MetaData:
    """The tables as they should be."""
    return tables.metadata


def to(engine: Engine, revision: str, backend_url: str, now: Instant) -> None:
    """Run the revisions from where the database is to ``revision``, in one transaction.

    Afterwards the triggers stand as this program wants them, and ``meta`` names the schema.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.rollback()
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            _run(connection, revision)
            _settle(connection, backend_url, now)
            connection.commit()
        finally:
            connection.rollback()
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _run(connection: Connection, revision: str) -> None:
    made = config(connection)
    if revision == "base":
        triggers.drop(connection)
        command.downgrade(made, revision)
    elif revision == "head" or int(revision) > (schema.number(connection) or 0):
        command.upgrade(made, revision)
    else:
        triggers.drop(connection)
        command.downgrade(made, revision)


def _settle(connection: Connection, backend_url: str, now: Instant) -> None:
    if not inspect(connection).has_table(tables.meta.name):
        return
    if schema.number(connection) is None:
        schema.first_rows(connection, backend_url, now)
    reached = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one()
    settings.set_meta(connection, "schema", str(int(reached)))
    triggers.ensure(connection)
