"""Overhearing the statements that a store runs: as SQLite gets them, and as SQLAlchemy has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.sql.elements import ClauseElement

from calotype import Store
from calotype.catalog.prepared import Prepared

SCAN = re.compile(r"\bSCAN (?:TABLE )?(calotype_\w+|search_results|links)")


def _engine(store: Store) -> Engine:
    return store._rooms.catalog.engine


@contextmanager
def overheard(store: Store) -> Iterator[list[str]]:
    """Every statement that SQLite runs for a store in memory, its parameters filled in.

    Statements of triggers are left out: they are part of the plan of what fires them.
    """
    heard: list[str] = []
    with _engine(store).connect() as connection:
        driver = connection.connection.driver_connection
        driver.set_trace_callback(lambda sql: None if sql.startswith("--") else heard.append(sql))
        try:
            yield heard
        finally:
            driver.set_trace_callback(None)


def scans(store: Store, statements: list[str]) -> set[tuple[str, str]]:
    """(table, statement) of each table of ours or the test's that a statement reads whole.

    That of the backends is left out: it has a few rows, and every process looks at it now and then.
    """
    found = set()
    with _engine(store).connect() as connection:
        driver = connection.connection.driver_connection
        for sql in dict.fromkeys(statements):
            if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
                plan = driver.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
                found |= {(t, sql) for *_, line in plan for t in SCAN.findall(line)}
    return {(table, sql) for table, sql in found if table != "calotype_backend"}


@contextmanager
def collected(store: Store) -> Iterator[list[ClauseElement]]:
    """Every statement object that is executed, whether by SQLAlchemy or prepared."""
    statements: list[ClauseElement] = []

    def before(_, statement, *__):
        if isinstance(statement, ClauseElement):
            statements.append(statement)

    real = Prepared._text

    def text(self, dialect):
        statements.append(self._statement)
        return real(self, dialect)

    event.listen(_engine(store), "before_execute", before)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Prepared, "_text", text)
        yield statements
    event.remove(_engine(store), "before_execute", before)
