"""Savepoints with which an SQLite transaction begins, so that their end commits it.

Python's sqlite3 by itself begins a transaction before INSERT, UPDATE and DELETE alone. A savepoint
before the first of them is the outermost one to SQLite, and its release is a commit: what was done
in it stays, whatever SQLAlchemy's transaction around it comes to. SQLite does not tell afterwards
what began a transaction, so each savepoint that SQLAlchemy makes is looked at beforehand.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, RootTransaction, event

from calotype.catalog import sqlite

_MARK = "calotype_first_savepoint"


@dataclass(slots=True)
class _Begun:
    """How many savepoints are open, one in the other, since one of them began the transaction."""

    root: weakref.ref[RootTransaction]
    open: int = 1


def commits(connection: Connection) -> bool:
    """True inside a savepoint whose release commits."""
    return _begun(connection) is not None


def _begun(connection: Connection) -> _Begun | None:
    """None where no open savepoint began the transaction that is open now."""
    found = connection.info.get(_MARK)
    if not isinstance(found, _Begun) or found.root() is not connection.get_transaction():
        return None
    return found


def _opens(connection: Connection, _: str | None) -> None:
    root = connection.get_transaction()
    if connection.dialect.name != "sqlite" or not isinstance(root, RootTransaction):
        return
    if not sqlite.in_transaction(connection):
        connection.info[_MARK] = _Begun(weakref.ref(root))
    elif (begun := _begun(connection)) is not None:
        begun.open += 1


def _ends(connection: Connection, *_: object) -> None:
    if (begun := _begun(connection)) is not None:
        begun.open -= 1
        if not begun.open:
            del connection.info[_MARK]


event.listen(Engine, "savepoint", _opens)
event.listen(Engine, "release_savepoint", _ends)
event.listen(Engine, "rollback_savepoint", _ends)
