"""Joining a transaction that the application holds: Session, Connection, or a raw DBAPI one."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable

from sqlalchemy import Connection, make_url
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import PendingRollbackError, ResourceClosedError
from sqlalchemy.pool import PoolProxiedConnection

from calotype.catalog import Catalog, borrowing, moving, savepoints, schema, sqlite
from calotype.catalog.failures import meaning, translated
from calotype.catalog.waiting import take_write_lock
from calotype.errors import Misconfigured

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.orm import Session


@runtime_checkable
class DBAPIConnection(Protocol):
    """A PEP 249 connection, as far as it is needed to recognise one."""

    def cursor(self) -> object:
        """A new cursor."""
        ...

    def commit(self) -> None:
        """Commit the transaction."""
        ...

    def rollback(self) -> None:
        """Roll the transaction back."""
        ...


LEGACY = -1
"""What ``autocommit`` is where ``isolation_level`` decides."""

Joinable: TypeAlias = "Session | Connection | DBAPIConnection"


@contextmanager
def joined(catalog: Catalog, connection: Joinable, *, needs_keys: bool) -> Iterator[Connection]:
    """The application's transaction as a Connection; never committed or rolled back here.

    ``needs_keys`` refuses an SQLite connection with ``foreign_keys`` off. A raw SQLite
    connection in autocommit mode outside a transaction gets one for the length of the block.
    Raises ``Locked`` where the transaction cannot become SQLite's writer any more, and
    ``Misconfigured`` for a connection that is closed, waits to be rolled back, or would commit with
    a savepoint.
    """
    catalog.require()
    with translated(), _usable():
        if isinstance(connection, PoolProxiedConnection):
            if not connection.is_valid:
                raise ResourceClosedError("This Connection is closed")
            connection = cast(DBAPIConnection, connection.driver_connection)
        if borrowing.is_awaited(connection):
            raise Misconfigured(
                f"A {_kind(connection)} has to be awaited, and Store cannot.",
                hint="Await the same verb of calotype.aio.AsyncStore, with an AsyncSession or "
                "AsyncConnection of SQLAlchemy.",
            )
        if _is_session(connection):
            connection = connection.connection()
        if isinstance(connection, Connection):
            with _begun(connection), _checked(catalog, connection, needs_keys) as ready:
                yield ready
        elif isinstance(connection, sqlite3.Connection):
            with (
                _whole(connection, connection.execute),
                _borrowed(connection) as borrowed,
                _checked(catalog, borrowed, needs_keys) as ready,
            ):
                yield ready
        elif borrowing.is_psycopg(connection) and not catalog.is_sqlite:
            raw = cast("psycopg.Connection", connection)
            with (
                borrowing.whole(raw),
                borrowing.borrowed(raw, catalog.engine) as borrowed,
                _checked(catalog, borrowed, needs_keys) as ready,
            ):
                yield ready
        else:
            raise Misconfigured(
                f"Cannot join a {_kind(connection)}.",
                hint="Pass an SQLAlchemy Session or Connection, or the database driver's own.",
            )


def _kind(connection: object) -> str:
    return f"{type(connection).__module__}.{type(connection).__qualname__}"


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except (ResourceClosedError, PendingRollbackError) as error:
        raise Misconfigured(
            f"The connection cannot be used: {error.args[0]}",
            hint="Pass one that is open, and roll back first what failed in it.",
        ) from error


def _is_session(connection: Joinable) -> TypeGuard[Session]:
    """Whoever holds a Session has imported the ORM, which takes a fifth of a command's start."""
    orm = sys.modules.get("sqlalchemy.orm")
    return orm is not None and isinstance(connection, orm.Session | orm.scoped_session)


@contextmanager
def _begun(connection: Connection) -> Iterator[None]:
    """Let SQLAlchemy begin as the application wants; in AUTOCOMMIT mode nobody would commit."""
    if connection.dialect.name != "sqlite":
        with borrowing.begun(connection):
            yield
        return
    connection.exec_driver_sql("PRAGMA foreign_keys")
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    if savepoints.commits(connection):
        raise Misconfigured(
            "The transaction begins with a savepoint, and Python's sqlite3 commits it when the "
            "savepoint ends, even if the transaction is rolled back later; nothing was changed.",
            hint="Have your engine begin each transaction itself: connect_args="
            "{'isolation_level': None}, and on its event 'begin' run BEGIN.",
        )
    with _whole(driver, partial(sqlite.tell, connection)):
        yield


@contextmanager
def _checked(catalog: Catalog, connection: Connection, needs_keys: bool) -> Iterator[Connection]:
    if connection.dialect.name != catalog.engine.dialect.name:
        raise Misconfigured(
            f"The connection leads to another kind of database: {connection.dialect.name}.",
            hint=f"Pass a connection to {catalog.name}.",
        )
    if connection.dialect.name == "sqlite":
        keys = connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
        if needs_keys and not keys:
            raise Misconfigured(
                "The connection has foreign_keys off, so SQLite would not hold the reference.",
                hint="Run PRAGMA foreign_keys=ON on every new connection of the application.",
            )
        take_write_lock(connection)
    with catalog.database.joining(connection):
        moving.require_here(connection)
        if connection.scalar(schema.STORE_ID) != catalog.store_id:
            raise Misconfigured(
                "The connection leads to another store's database.",
                hint=f"Pass a connection to {catalog.name}.",
            )
        yield connection


@contextmanager
def _whole(raw: sqlite3.Connection, tell: Callable[[str], object]) -> Iterator[None]:
    ours = not raw.in_transaction and _autocommits(raw)
    if ours:
        tell("BEGIN IMMEDIATE")
    try:
        yield
        if ours:
            _commit(tell)
    except BaseException:
        if ours and raw.in_transaction:
            tell("ROLLBACK")
        raise


def _commit(tell: Callable[[str], object]) -> None:
    try:
        tell("COMMIT")
    except sqlite3.OperationalError as error:
        raise meaning(error, committing=True) or error from error


def _autocommits(raw: sqlite3.Connection) -> bool:
    """True where the driver begins no transaction by itself; Python 3.12 has two ways to say so."""
    mode: object = getattr(raw, "autocommit", LEGACY)
    return raw.isolation_level is None if mode == LEGACY else mode is True


@contextmanager
def _borrowed(raw: sqlite3.Connection) -> Iterator[Connection]:
    row_factory, raw.row_factory = raw.row_factory, None
    text_factory, raw.text_factory = raw.text_factory, str
    # Not create_engine(): it puts SQL functions of its own in place of the application's.
    dialect = SQLiteDialect_pysqlite(dbapi=sqlite3)
    dialect.server_version_info = sqlite3.sqlite_version_info
    try:
        with borrowing.lent(raw, dialect, make_url("sqlite+pysqlite://")) as connection:
            yield connection
    finally:
        raw.row_factory = row_factory
        raw.text_factory = text_factory
