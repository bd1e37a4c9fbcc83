"""Rows that SQLite keeps and nobody can read: text that is no UTF-8, digests that are none."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from sqlalchemy import Column, Connection, String, Table, func, inspect, or_, select

from calotype.catalog.tables import asset, metadata


def unreadable(connection: Connection, limit: int) -> list[str]:
    """Which values of which rows cannot be read, ``limit`` at most; listing them fails."""
    if connection.dialect.name != "sqlite":
        return []
    return list(islice(_unreadable(connection), limit))


def no_digests(connection: Connection, limit: int) -> list[str]:
    """Which digests are no SHA-256, ``limit`` at most: what belongs to them cannot be found."""
    if connection.dialect.name != "sqlite":
        return []
    found: list[str] = []
    there = set(inspect(connection).get_table_names())
    for name in sorted(metadata.tables.keys() & there):
        for column in metadata.tables[name].columns:
            if column.name.endswith("digest"):
                odd = or_(func.length(column) != 64, func.ltrim(column, "0123456789abcdef") != "")
                with _whatever_it_is(connection):
                    rows = connection.scalars(select(column).where(odd).limit(limit)).all()
                found += [f"{column} {_shown([value])!r} is no digest" for value in rows]
    return found[:limit]


def _unreadable(connection: Connection) -> Iterator[str]:
    there = set(inspect(connection).get_table_names())
    for name in sorted(metadata.tables.keys() & there):
        yield from _no_text(connection, metadata.tables[name])
    if asset.name in there:
        yield from _no_object(connection)


def _no_object(connection: Connection) -> Iterator[str]:
    kept = asset.c.metadata
    odd = func.iif(func.json_valid(kept), func.json_type(kept), "") != "object"
    with _whatever_it_is(connection):
        rows = connection.execute(select(*asset.primary_key.columns).where(odd)).all()
    for row in rows:
        yield f"{kept} of {_shown(row)} is no JSON object"


def _no_text(connection: Connection, table: Table) -> Iterator[str]:
    """The driver tells at once that there is such text in a table; in which rows, takes longer."""
    texts = [column for column in table.columns if isinstance(column.type, String)]
    driver = _driver(connection)
    try:
        deque(driver.execute(_query(table, texts)), maxlen=0)
        return
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    keys = list(table.primary_key.columns)
    with _whatever_it_is(connection):
        for row in driver.execute(_query(table, [*keys, *texts])).fetchall():
            for column, value in zip(texts, row[len(keys) :], strict=True):
                if isinstance(value, str) and not _is_text(value):
                    yield f"{column} of {_shown(row[: len(keys)])} is no text"


def _query(table: Table, columns: Sequence[Column[object]]) -> str:
    return f"SELECT {', '.join(column.name for column in columns) or 1} FROM {table.name}"


@contextmanager
def _whatever_it_is(connection: Connection) -> Iterator[None]:
    """Bytes that are no UTF-8 come as surrogates for the length of the block."""
    driver = _driver(connection)
    usual, driver.text_factory = driver.text_factory, _text
    try:
        yield
    finally:
        driver.text_factory = usual


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(key: Sequence[object]) -> str:
    return "/".join(str(part).encode(errors="replace").decode() for part in key)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
