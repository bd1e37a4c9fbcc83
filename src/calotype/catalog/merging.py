"""Merging: the rows of a table made those of the same table in another database.

Both are read in windows of their primary keys, which both databases sort alike (bytewise), so no
more than two windows are in memory, and what is equal costs a comparison only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Integer, Table, bindparam, delete, func, select, tuple_

from calotype.catalog.database import Database
from calotype.catalog.prepared import Prepared, PreparedInsert, prepared_insert

WINDOW = 1000
"""Rows that are read, compared and written at a time."""

Row = tuple[Any, ...]
Reader = Callable[[Row | None], Sequence[Row]]
"""The first ``WINDOW`` rows after a key, or from the beginning."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a window of a table takes to be like the other's: rows to write, keys to remove."""

    table: Table
    rows: int
    missing: Sequence[Row]
    surplus: Sequence[Row]

    @property
    def any(self) -> bool:
        """False where the window is alike."""
        return bool(self.missing or self.surplus)

    def settle(self, connection: Connection) -> None:
        """Write and remove them."""
        names = self.table.columns.keys()
        _upsert(self.table).many(
            connection, [dict(zip(names, row, strict=True)) for row in self.missing]
        )
        keys = [f"key_{each.name}" for each in self.table.primary_key]
        _removal(self.table).many(
            connection, [dict(zip(keys, key, strict=True)) for key in self.surplus]
        )


def differences(table: Table, wanted: Reader, there: Reader) -> Iterator[Difference]:
    """What makes ``there`` like ``wanted``, window by window, in the order of the keys."""
    key_of = _key_of(table)
    after: Row | None = None
    while True:
        ours, theirs = wanted(after), there(after)
        ends = [key_of(rows[-1]) for rows in (ours, theirs) if len(rows) == WINDOW]
        after = min(ends, default=None)
        if after is not None:
            ours, theirs = ([r for r in rows if key_of(r) <= after] for rows in (ours, theirs))
        yield _difference(table, ours, theirs)
        if after is None:
            return


def _difference(table: Table, ours: Sequence[Row], theirs: Sequence[Row]) -> Difference:
    key_of = _key_of(table)
    known = {key_of(row): row for row in theirs}
    missing = [row for row in ours if known.pop(key_of(row), None) != row]
    return Difference(table, len(ours), missing, list(known))


def page(connection: Connection, table: Table, after: Row | None) -> Sequence[Row]:
    """The first ``WINDOW`` rows after that key."""
    named = {f"after_{n}": each for n, each in enumerate(after or ())}
    return _page(table, after is not None).tuples(connection, **named, window=WINDOW)


Pages = Callable[[Table, Row | None], Sequence[Row]]
"""What ``page`` gives, of some database."""


def pages_on(connection: Connection) -> Pages:
    """Pages of one transaction."""
    return partial(page, connection)


def pages_of(database: Database) -> Pages:
    """Pages of a database that is in use, each read for itself."""

    def pages(table: Table, after: Row | None) -> Sequence[Row]:
        with database.reading() as connection:
            return page(connection, table, after)

    return pages


def no_pages(table: Table, after: Row | None) -> Sequence[Row]:  # noqa: ARG001 - they are Pages'
    """Where no tables are."""
    return ()


def count(connection: Connection, table: Table) -> int:
    """How many rows it has."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


@cache
def _page(table: Table, goes_on: bool) -> Prepared:
    keys = list(table.primary_key)
    statement = select(*table.columns).order_by(*keys).limit(bindparam("window", type_=Integer()))
    if goes_on:
        after = [bindparam(f"after_{n}", type_=each.type) for n, each in enumerate(keys)]
        statement = statement.where(tuple_(*keys) > tuple_(*after))
    return Prepared(statement)


@cache
def _upsert(table: Table) -> PreparedInsert:
    keys = ", ".join(f'"{each.name}"' for each in table.primary_key)
    rest = [each.name for each in table.columns if not each.primary_key]
    said = ", ".join(f'"{name}" = excluded."{name}"' for name in rest)
    names = table.columns.keys()
    return prepared_insert(table, *names, then=f"ON CONFLICT ({keys}) DO UPDATE SET {said}")


@cache
def _removal(table: Table) -> Prepared:
    keys = [each == bindparam(f"key_{each.name}", type_=each.type) for each in table.primary_key]
    return Prepared(delete(table).where(*keys))


@cache
def _key_of(table: Table) -> Callable[[Row], Row]:
    names = table.columns.keys()
    places = [names.index(each.name) for each in table.primary_key]
    if len(places) == 1:
        return lambda row: (row[places[0]],)
    return itemgetter(*places)
