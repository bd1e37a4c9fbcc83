"""The database of an application, from which rows are imported: opened, looked at, understood."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, MetaData, Table, create_engine, event, inspect
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchTableError,
    SQLAlchemyError,
)

from calotype.catalog import postgres
from calotype.errors import CalotypeError, Locked, Misconfigured, NotFound, Unavailable
from calotype.masking import masked

_TIMEOUT = 30.0
"""Seconds to wait for another writer of an SQLite file."""


def open_database(url: str) -> Engine:
    """An engine on the application's database.

    ``Misconfigured`` or ``NotFound`` for none, ``Unavailable`` where its file cannot be looked at.
    """
    try:
        parsed = postgres.parsed(url)
        file = Path(parsed.database or "")
        if parsed.get_backend_name() == "sqlite":
            if not file.name:
                raise Misconfigured(f"{url} names no file.", hint="Write sqlite:///app.db.")
            if not file.is_file():
                raise NotFound(f"No database {str(file)!r}.", hint="Check the URL.")
            parsed = parsed.set(database=str(file.absolute()))
        if parsed.drivername == postgres.DIALECT:
            parsed = parsed.set(drivername=f"{postgres.DIALECT}+{postgres.DRIVER}")
        waits = {"timeout": _TIMEOUT} if parsed.get_backend_name() == "sqlite" else {}
        engine = create_engine(parsed, connect_args=waits)
    except (ArgumentError, ImportError, ValueError) as error:
        if isinstance(error, ImportError) and parsed.get_driver_name() == postgres.DRIVER:
            raise postgres.missing("Reading rows from PostgreSQL") from error
        raise Misconfigured(
            f"Not a database that can be opened: {error}.",
            hint="Write sqlite:///app.db, and install the driver of any other database.",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"No look at the database is possible: {error}.",
            hint="Check the path, its permissions, and the disk.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _settle)
    return engine


def _settle(raw: sqlite3.Connection, _: object) -> None:
    """Foreign keys count; text that is not UTF-8 is read as Python reads such file names."""
    raw.execute("PRAGMA foreign_keys=ON")
    raw.text_factory = lambda data: data.decode(errors="surrogateescape")


def reflected(engine: Engine, table: str) -> Table:
    """The table of that whole name, or else of that name in a schema."""
    schema, dot, name = table.rpartition(".")
    for where, what in [(None, table), *([(schema, name)] if dot else [])]:
        try:
            with speaking(engine):
                return Table(
                    _spelt(engine, what, where),
                    MetaData(),
                    autoload_with=engine,
                    schema=where,
                    resolve_fks=False,
                )
        except Misconfigured:
            continue
        except Unavailable:  # SQLite says so of a schema that it does not know
            if where is None:
                raise
    with speaking(engine):
        names = ", ".join(inspect(engine).get_table_names()) or "none"
    raise Misconfigured(f"No table {table!r}.", hint=f"There are: {names}.")


def _spelt(engine: Engine, table: str, schema: str | None) -> str:
    """A table's name as SQLite has it, which finds it in any case, but not its key."""
    if engine.dialect.name != "sqlite":
        return table
    names = inspect(engine).get_table_names(schema)
    same = [name for name in names if name.lower() == table.lower()]
    return same[0] if same else table


@contextmanager
def speaking(engine: Engine) -> Iterator[None]:
    """Raise what the application's database says as errors of ours, a refused row as it is."""
    try:
        yield
    except (CalotypeError, IntegrityError):
        raise
    except NoSuchTableError as error:
        raise Misconfigured(f"No table {error}.", hint="Check its name.") from error
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        where = masked(engine.url.render_as_string())
        if "locked" in str(cause):
            raise Locked(
                f"The database {where} is locked by another connection.",
                hint="What was imported is kept; import again.",
            ) from error
        raise Unavailable(
            f"The database {where} failed: {cause}.",
            hint="What was imported is kept; look after it and import again.",
        ) from error
