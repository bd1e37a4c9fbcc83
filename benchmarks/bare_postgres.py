"""The bare side of bytes in PostgreSQL: ``write`` or ``read`` by psycopg, binary, and no more."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import psycopg

TOGETHER = 8 << 20
"""Bytes of one transaction."""


def main(url: str, way: str) -> None:
    """Put every file named on standard input into a row of its own, or read all that are there."""
    paths = [Path(line) for line in sys.stdin.read().splitlines()]
    with psycopg.connect(url) as connection:
        started = perf_counter()
        write(connection, paths) if way == "write" else read(connection)
        print(json.dumps({"seconds": perf_counter() - started}))


def write(connection: psycopg.Connection, paths: list[Path]) -> None:
    """Rows of a name and its bytes, as they are, some of them a transaction."""
    connection.execute("CREATE TABLE bare (name TEXT PRIMARY KEY, bytes BYTEA NOT NULL)")
    connection.execute("ALTER TABLE bare ALTER COLUMN bytes SET STORAGE EXTERNAL")
    held: list[tuple[str, bytes]] = []
    size = 0
    for number, path in enumerate(paths, 1):
        held.append((path.name, path.read_bytes()))
        size += len(held[-1][1])
        if size >= TOGETHER or number == len(paths):
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO bare VALUES (%s, %b)", held)
            connection.commit()
            held, size = [], 0


def read(connection: psycopg.Connection) -> None:
    """Every row's bytes, one query each."""
    names = connection.execute("SELECT name FROM bare").fetchall()
    for name in names:
        connection.execute("SELECT bytes FROM bare WHERE name = %s", name, binary=True).fetchone()


if __name__ == "__main__":
    main(*sys.argv[1:])
