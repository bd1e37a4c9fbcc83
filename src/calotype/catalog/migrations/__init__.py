"""Alembic's side of the schema: loaded by ``upgrade`` alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, inspect

from calotype.catalog import Catalog, health, schema, settings, tables, triggers
from calotype.catalog.schema import VERSION_TABLE
from calotype.errors import Corrupt

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


def to(catalog: Catalog, revision: str, before: Callable[[int], None] = lambda _: None) -> None:
    """Run the revisions from where the database is to ``revision``, in one transaction.

    ``before`` is told the schema that is there, once nobody else can write, where it will change.

    Triggers are dropped first, since SQLite checks them whenever a table is replaced. Afterwards
    they stand as this program wants them, and ``meta`` names the schema.
    """
    with catalog.rebuilding() as connection:
        here = schema.number(connection) or 0
        if here not in (0, _number(revision)):
            before(here)
        triggers.drop(connection)
        _run(connection, here, revision)
        _settle(connection, catalog)


def require_known(connection: Connection, here: int) -> None:
    """``Corrupt`` where the revisions could not begin from what the database says it has."""
    with _naming():
        _require_the_same(connection, here)


def spelled(here: int) -> str:
    """The SQL of the revisions after ``here``, as PostgreSQL takes it."""
    made = config(None)
    made.output_buffer = said = io.StringIO()
    command.upgrade(made, f"{here:04}:head", sql=True)
    return said.getvalue().strip()


def _number(revision: str) -> int:
    if revision == "head":
        return schema.CURRENT
    return 0 if revision == "base" else int(revision)


def _run(connection: Connection, here: int, revision: str) -> None:
    made = config(connection)
    with _naming():
        _require_the_same(connection, here)
        if revision == "head" or _number(revision) > here:
            command.upgrade(made, revision)
        else:
            command.downgrade(made, revision)


def _require_the_same(connection: Connection, here: int) -> None:
    told = health.revisions(connection)
    if here and not told:
        raise CommandError("it is empty")
    if here and told != [f"{here:04}"]:
        raise CommandError(f"it says {' and '.join(told)}, where {tables.meta.name} says {here}")


@contextmanager
def _naming() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise Corrupt(
            f"The catalog's {VERSION_TABLE} does not name its revision: {error}; "
            "nothing was changed.",
            hint="Restore the catalog from a copy. The files that it speaks of are untouched.",
        ) from error


def _settle(connection: Connection, catalog: Catalog) -> None:
    if not inspect(connection).has_table(tables.meta.name):
        return
    if settings.get_meta(connection, "schema") is None:
        schema.first_rows(connection, catalog.first_backend, catalog.clock())
    reached = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one()
    settings.set_meta(connection, "schema", str(int(reached)))
    triggers.ensure(connection)
