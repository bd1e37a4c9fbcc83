"""The tables of a database backend: whether they are there, and transactions on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection

from calotype.backends import INSIDE, chunks
from calotype.catalog import sqlite
from calotype.catalog.database import Database
from calotype.catalog.failures import translated
from calotype.catalog.reserve import PLENTY, ROW, Freeing, has_less_than
from calotype.errors import CalotypeError, Locked, by_code

FOR_REUSE = 12 << 20
"""Bytes of an SQLite file's disk that it does not grow into."""


class Tables:
    """Short transactions on the tables in ``database``, which ``url`` names to people.

    Errors are ours, and say which database failed where it is not the catalog's.
    """

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.url = url
        self._ready_for: object = None

    def are_there(self) -> bool:
        """True where they are; looked at once for each database that is found at its place."""
        with self._telling():
            seen = self.database.identity()
            if seen is None:
                return False
            if seen == self._ready_for:
                return True
            with self.database.reading() as connection:
                there = chunks.are_there(connection)
        if there:
            self._ready_for = seen
        return there

    def make(self) -> None:
        """Make them unless they are there; a file that is made for them is for this user alone."""
        path = self.database.path
        with self._telling(), translated():
            if path is not None and not path.exists() and not self.database.own:
                _make_file(path)
            self.database.create(chunks.make)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view, for a moment."""
        with self._telling(), self.database.reading() as connection:
            yield connection

    @contextmanager
    def writing(self, size: int, *, durable: bool) -> Iterator[Connection]:
        """A transaction that adds ``size`` bytes."""
        with self._telling():
            rows = self._room(size) // ROW + 1
            with self.database.writing(
                durable=durable, freeing=Freeing.NOTHING, rows=rows, patience=None
            ) as connection:
                yield connection

    def _room(self, size: int) -> int:
        """How much the disk needs for that: in the log, and in the file what is not free there.

        A file that has to grow leaves room for the log of those who come when gc has freed some.
        """
        path = self.database.path
        if path is None or not has_less_than(path, PLENTY + 2 * size):
            return 2 * size
        with self.database.reading() as connection:
            more = max(0, size - chunks.free(connection))
        return size + more + (FOR_REUSE if more else 0)

    @contextmanager
    def noting(self) -> Iterator[Connection]:
        """A durable transaction that writes next to nothing, so that bytes can be let go of."""
        with (
            self._telling(),
            self.database.writing(
                durable=True, freeing=Freeing.BYTES, rows=0, patience=None
            ) as connection,
        ):
            yield connection

    @contextmanager
    def clearing(self) -> Iterator[Connection]:
        """A transaction that lets go of bytes; one that a power cut takes back is gc's again.

        On SQLite what is let go of is not overwritten: a full disk has no room for so many zeros.
        """
        with (
            self._telling(),
            self.database.writing(
                durable=False, freeing=Freeing.BYTES, rows=0, patience=None
            ) as connection,
            sqlite.overwriting_nothing(connection),
        ):
            yield connection

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except CalotypeError as error:
            if self.url == INSIDE or error.__cause__ is None:
                raise
            raise _told(error, self.url) from error.__cause__


def _make_file(path: Path) -> None:
    """An empty file for this user alone, unless one is there.

    It gets its name once it is closed: to close a file takes SQLite's locks on it from the process.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _told(error: CalotypeError, url: str) -> CalotypeError:
    """The same error of a database in which there is no catalog."""
    message, hint = (text.replace("he catalog", "he database") for text in (str(error), error.hint))
    told = by_code(error.code, f"{url}: {message}", hint)
    if isinstance(told, Locked) and isinstance(error, Locked):
        told.gave_way, told.whole = error.gave_way, error.whole
    return told
