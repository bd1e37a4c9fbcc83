"""Connections of drivers that an application holds, borrowed for a few statements."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, cast

from sqlalchemy import URL, Connection, Dialect, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from calotype.errors import Misconfigured

if TYPE_CHECKING:
    import psycopg


_IN_FAILED = "25P02"
"""What PostgreSQL calls a statement after one that failed (in_failed_sql_transaction)."""


def is_psycopg(connection: object) -> bool:
    """True for a connection of psycopg 3; whoever holds one has imported it."""
    return type(connection).__module__.startswith("psycopg") and hasattr(connection, "pgconn")


def is_awaited(connection: object) -> bool:
    """True for what asyncio's drivers and SQLAlchemy's extension for it give."""
    calls = (getattr(type(connection), name, None) for name in ("commit", "execute"))
    return any(iscoroutinefunction(call) for call in calls)


def failed(connection: Connection) -> bool:
    """True where a statement failed in the transaction, so that only a rollback can follow."""
    if connection.closed or connection.invalidated:
        return True
    raw: object = connection.connection.driver_connection
    if not is_psycopg(raw):  # asyncpg does not say, but the next statement does
        return not _answers(connection)
    raw = cast("psycopg.Connection", raw)
    return raw.closed or raw.info.transaction_status.name == "INERROR"


def _answers(connection: Connection) -> bool:
    try:
        connection.exec_driver_sql("SELECT 1")
    except DBAPIError:
        return False
    return True


@contextmanager
def left_if_busy(connection: Connection) -> Iterator[None]:
    """Give up a connection that the block left in the middle of a statement, as Ctrl-C does."""
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            raw = cast("psycopg.Connection", connection.connection.driver_connection)
            if raw.info.transaction_status.name == "ACTIVE":
                connection.invalidate()
        raise


def begun(connection: Connection) -> AbstractContextManager[object]:
    """``whole`` for SQLAlchemy's connections, also the inner side of an awaited one."""
    raw = connection.connection.driver_connection
    if not is_awaited(raw):
        return whole(cast("psycopg.Connection", raw))
    try:
        connection.exec_driver_sql("SELECT 1")  # begins, unless each statement is to commit
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _IN_FAILED:
            raise _to_roll_back() from error
        raise
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise Misconfigured(
            "The connection commits each statement by itself.",
            hint="Pass one that is in a transaction, not in AUTOCOMMIT mode.",
        )
    return nullcontext()


def whole(raw: psycopg.Connection) -> AbstractContextManager[object]:
    """A transaction of the block's own where the connection is in autocommit mode, and in none."""
    if not is_psycopg(raw):
        raise Misconfigured(
            f"The connection is one of {type(raw).__module__}.",
            hint="Use psycopg 3: postgresql+psycopg://...",
        )
    if raw.closed:
        raise Misconfigured("The connection is closed.", hint="Pass one that is open.")
    status = raw.info.transaction_status.name
    if status == "INERROR":
        raise _to_roll_back()
    return raw.transaction() if raw.autocommit and status == "IDLE" else nullcontext()


def _to_roll_back() -> Misconfigured:
    return Misconfigured(
        "A statement failed in the connection's transaction.", hint="Roll it back first."
    )


@contextmanager
def borrowed(raw: psycopg.Connection, engine: Engine) -> Iterator[Connection]:
    """The connection as SQLAlchemy's, which neither commits nor rolls it back nor closes it."""
    from psycopg import Cursor
    from psycopg.rows import tuple_row

    row_factory, raw.row_factory = raw.row_factory, tuple_row
    cursor_factory, raw.cursor_factory = raw.cursor_factory, Cursor
    try:
        with lent(raw, copy.copy(engine.dialect), engine.url) as connection:
            yield connection
    finally:
        raw.row_factory = row_factory
        raw.cursor_factory = cursor_factory


@contextmanager
def lent(raw: object, dialect: Dialect, url: URL) -> Iterator[Connection]:
    """A driver's connection as SQLAlchemy's: what begins and ends it stays the application's."""
    for call in ("do_begin", "do_commit", "do_rollback", "do_close"):
        setattr(dialect, call, _nothing)
    pool = NullPool(lambda: cast(DBAPIConnection, raw), reset_on_return=None, dialect=dialect)
    engine = Engine(pool, dialect, url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _nothing(*_: object) -> None:
    """Stand in for a driver call that belongs to the application."""
