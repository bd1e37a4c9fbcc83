"""Waiting: how a transaction becomes the writer, and whom it blames when it cannot."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from calotype.catalog import sqlite
from calotype.catalog.failures import meaning
from calotype.errors import Locked

OWN_PATIENCE = 2.0
"""Seconds to wait for another connection of this very process, which may wait for us."""


def begin(
    connection: Connection, name: str, path: Path | None, patience: float, *, ours: bool
) -> None:
    """Begin a transaction that may write; on SQLite as the writer from the start.

    Raises ``Locked``, which says who is in the way, after ``patience`` seconds. ``ours`` when the
    engine is Calotype's own; another's has the time-out it had, once the transaction has begun.
    """
    if connection.dialect.name != "sqlite":
        connection.begin()
        return
    started = time.monotonic()
    while True:
        try:
            kept = nullcontext() if ours else _its_time_out_kept(connection)
            with kept, sqlite.in_steps(connection, patience):
                connection.begin()
                take_write_lock(connection)
            return
        except Exception as error:
            if not isinstance(meaning(error), Locked):
                raise
            connection.rollback()
            waited = time.monotonic() - started
            if refusal := _refusal(name, path, waited, patience):
                raise refusal from error


@contextmanager
def blaming(name: str, path: Path | None) -> Iterator[None]:
    """Say who keeps others from reading: whoever writes alone, in a file without WAL.

    What is locked out is the first statement, so the block began when the waiting did.
    """
    started = time.monotonic()
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        if "database is locked" not in str(error):
            raise
        raise _blamed(name, _writers(path), time.monotonic() - started) from error


@contextmanager
def _its_time_out_kept(connection: Connection) -> Iterator[None]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    usual = int(driver.execute("PRAGMA busy_timeout").fetchone()[0])
    try:
        yield
    finally:
        sqlite.tell(connection, f"PRAGMA busy_timeout={usual}")


def take_write_lock(connection: Connection) -> None:
    """Make the SQLite transaction of ``connection`` the writer, now or never."""
    if not sqlite.in_transaction(connection):
        sqlite.tell(connection, "BEGIN IMMEDIATE")
        return
    try:
        sqlite.tell(connection, "DELETE FROM calotype_meta WHERE 0")
    except sqlite3.OperationalError as error:  # where the tables are about to be made
        if "no such table" not in str(error):
            raise


def _refusal(name: str, path: Path | None, waited: float, patience: float) -> Locked | None:
    """Whom to blame, once it is time to; None while it is worth waiting."""
    if waited <= min(OWN_PATIENCE, patience):
        return None
    writers = _writers(path)
    ours = waited > OWN_PATIENCE and os.getpid() in writers
    return _blamed(name, writers, waited) if ours or waited > patience else None


def _blamed(name: str, writers: set[int], waited: float) -> Locked:
    if os.getpid() in writers:
        return Locked.out(
            f"The catalog {name} is locked by another connection of this process.",
            hint="Put before the transaction's first statement, then attach(connection=) "
            "inside it. release and restore take connection= too; all else waits for its end.",
        )
    who = ", ".join(f"process {pid}" for pid in sorted(writers)) or "another process"
    return Locked.out(
        f"The catalog {name} has been locked by {who} for {waited:.0f} s.",
        hint="Wait for it to end, or end it.",
    )


def _writers(path: Path | None) -> set[int]:
    return sqlite.writers(path) if path is not None else set()
