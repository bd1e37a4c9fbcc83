"""Alembic's side of the schema: loaded by ``upgrade`` alone."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, inspect

from calotype.catalog import tables, take_write_lock, triggers
from calotype.catalog.schema import VERSION_TABLE

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


def to(engine: Engine, revision: str) -> None:
    """Run the revisions from where the database is to ``revision``, in one transaction."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.commit()
            take_write_lock(connection)
        try:
            _run(connection, revision)
            if inspect(connection).has_table(tables.meta.name):
                triggers.ensure(connection)
            connection.commit()
        finally:
            connection.rollback()
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _run(connection: Connection, revision: str) -> None:
    made = config(connection)
    if revision == "head" or revision.startswith("+"):
        command.upgrade(made, revision)
    else:
        command.downgrade(made, revision)
