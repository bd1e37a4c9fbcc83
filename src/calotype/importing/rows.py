"""An application's table as a source: its rows page by page, and digests written to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Table,
    Text,
    and_,
    cast,
    func,
    not_,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import NullType

from calotype.bulk import Refused
from calotype.digest import Digest
from calotype.errors import Misconfigured, NotFound, Unavailable
from calotype.importing.engines import reflected, speaking
from calotype.importing.terms import Terms, fields
from calotype.names import escaped

PAGE = 500
"""Rows at a time: read, or written in one transaction."""

PAGE_BYTES = 16 << 20
"""Bytes that are read again in one transaction, which keeps other writers out meanwhile."""

BYTES = bytes | bytearray | memoryview

Values = Mapping[str, object]
"""A row by its columns' names: its key, what the templates need, and its source unless bytes."""


class Given(NamedTuple):
    """What a row is to have; ``size`` bytes of its column are read again before."""

    row: Values
    digest: Digest
    size: int


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


S = TypeVar("S", bound=_Sized)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one table that have a source, and the columns that matter.

    Values are those of the driver: a column's declared type says nothing of what SQLite has in it.
    """

    engine: Engine
    table: Table
    source: Column[object]
    digest: Column[object] | None
    is_path: bool
    needed: tuple[str, ...]

    @classmethod
    def of(cls, engine: Engine, terms: Terms) -> Rows:
        """Look at the table; ``Misconfigured`` where it, a column or its key is missing."""
        found = reflected(engine, terms.table)
        if not found.primary_key.columns:
            raise Misconfigured(
                f"The table {terms.table!r} has no primary key, so its rows cannot be told apart.",
                hint="Give it one.",
            )
        is_path, digest = terms.path_column is not None, terms.digest_column
        named = [name for template in terms.templates for name in fields(template)]
        for name in [terms.source, *([digest] if digest is not None else []), *named]:
            if name not in found.c:
                raise Misconfigured(
                    f"The table {terms.table!r} has no column {name!r}.",
                    hint=f"There are: {', '.join(found.c.keys())}.",
                )
        column = found.c[digest] if digest is not None else None
        beside = _beside(column) if column is not None else []
        keys = [key.name for key in found.primary_key.columns]
        needed = dict.fromkeys([*keys, *named, *beside, *([terms.source] if is_path else [])])
        return cls(engine, found, found.c[terms.source], column, is_path, tuple(needed))

    @property
    def files(self) -> list[Path]:
        """The file of the database that they are in, if it is one."""
        is_file = self.engine.dialect.name == "sqlite" and self.engine.url.database
        return [Path(str(self.engine.url.database))] if is_file else []

    def is_among(self, table: str) -> bool:
        """True where these are the rows of the database's own table of that name."""
        usual = self.table.schema in (None, self.engine.dialect.default_schema_name)
        return usual and self.table.name.lower() == table.lower()

    def count(self) -> int:
        """How many rows are to be imported."""
        with speaking(self.engine), self.engine.connect() as connection:
            return self._counted(connection, self._pending(), self._has_key())

    def count_done(self) -> int:
        """How many rows ``done`` gives."""
        with speaking(self.engine), self.engine.connect() as connection:
            return self._counted(connection, self._done(), self._has_key())

    def without_key(self) -> int:
        """How many rows to import have NULL in their primary key, and so no name."""
        with speaking(self.engine), self.engine.connect() as connection:
            return self._counted(connection, self._pending(), not_(self._has_key()))

    def pending(self) -> Iterator[Values]:
        """Rows that have a source and no digest, by their key; a page is one short transaction."""
        yield from self._pages(self._pending())

    def unnamed(self) -> Iterator[Values]:
        """Rows with NULL in their primary key that have a source."""
        wanted = select(_raw(self.source)).where(self._has_source(), not_(self._has_key()))
        with speaking(self.engine), self.engine.connect() as connection:
            for row in connection.execute(wanted).mappings():
                yield dict(row)

    def done(self) -> Iterator[Values]:
        """Rows that have a source and a digest."""
        yield from self._pages(self._done())

    def given(self) -> Iterator[Values]:
        """Rows that have a source, or whose digest tells that they had one."""
        there = self._has_source()
        had = not_(_is_empty(self.digest)) if self.digest is not None else None
        yield from self._pages(there if had is None else or_(there, had))

    def _pending(self) -> ColumnElement[bool]:
        there = self._has_source()
        return there if self.digest is None else and_(there, _is_empty(self.digest))

    def _done(self) -> ColumnElement[bool]:
        assert self.digest is not None
        return and_(self._has_source(), not_(_is_empty(self.digest)))

    def _has_source(self) -> ColumnElement[bool]:
        return not_(_is_empty(self.source)) if self.is_path else self.source.is_not(None)

    def _has_key(self) -> ColumnElement[bool]:
        return and_(*(key.is_not(None) for key in self.table.primary_key.columns))

    def _pages(self, which: ColumnElement[bool]) -> Iterator[Values]:
        keys = list(self.table.primary_key.columns)
        wanted = [self.table.c[name] for name in self.needed]
        wanted += [self.digest] if self.digest is not None else []
        after: tuple[object, ...] | None = None
        while True:
            statement = select(*map(_raw, wanted)).where(which, self._has_key())
            if after is not None:
                values = map(_given, after)
                statement = statement.where(tuple_(*map(_raw, keys)) > tuple_(*values))
            with speaking(self.engine), self.engine.connect() as connection:
                found = connection.execute(statement.order_by(*keys).limit(PAGE)).mappings()
                page = [dict(row) for row in found]
            yield from page
            if len(page) < PAGE:
                return
            after = tuple(page[-1][key.name] for key in keys)

    def fetch(self, row: Values) -> object:
        """What a row has for a source: its path, or its bytes as they are now."""
        if self.is_path:
            return row[self.source.name]
        with speaking(self.engine), self.engine.connect() as connection:
            data = connection.scalar(select(_raw(self.source)).where(self._is(row)))
        if data is None:
            raise gone()
        return data

    def _fetched(self, connection: Connection, row: Values) -> object:
        return connection.scalar(select(_raw(self.source)).where(self._is(row)).with_for_update())

    def write(self, given: Sequence[Given]) -> Refused[Given]:
        """Give rows their digests; which had none to take, and why.

        A row that has the very digest by now is as good.
        """
        return self.by_pages(given, self._write)

    def by_pages(
        self, items: Sequence[S], write: Callable[[Sequence[S]], Refused[S]]
    ) -> Refused[S]:
        """What ``write`` refuses of the items, a page at a time.

        Where the table refuses one of a page, each of it goes alone.
        """
        return [refused for page in _paged(items) for refused in self._together(page, write)]

    def _together(
        self, items: Sequence[S], write: Callable[[Sequence[S]], Refused[S]]
    ) -> Refused[S]:
        try:
            return write(items)
        except IntegrityError as error:
            if len(items) == 1:
                return [(items[0], _refusal(error))]
            return [refused for item in items for refused in self._together([item], write)]

    def _write(self, given: Sequence[Given]) -> Refused[Given]:
        with self.changing() as connection:
            return [
                (each, gone()) for each in given if not self.give(connection, each.row, each.digest)
            ]

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """A transaction in which what was read stays so until it was written."""
        with speaking(self.engine), self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # else its reading begins none
            yield connection

    def are_in(self, file: Path | None) -> bool:
        """True where ``file`` is the SQLite database that the rows are in."""
        mine = self.engine.url.database
        if file is None or mine is None or self.engine.dialect.name != "sqlite":
            return False
        try:
            return file.exists() and file.samefile(mine)
        except OSError as error:
            raise Unavailable(f"Cannot look at {mine!r}: {error}.", hint="Try again.") from error

    def give(self, connection: Connection, row: Values, digest: Digest) -> bool:
        """Write a row's digest if it is as it was read, and has none or this very one."""
        with speaking(self.engine):
            return self._give(connection, row, digest)

    def _give(self, connection: Connection, row: Values, digest: Digest) -> bool:
        same = self._is(row)
        if self.is_path:
            same = and_(same, _raw(self.source) == _given(row[self.source.name]))
        elif not is_of(self._fetched(connection, row), digest):
            return False
        if self.digest is None:
            return self._counted(connection, same) == 1
        free = and_(same, _is_empty(self.digest))
        given = update(self.table).where(free).values({self.digest: _given(str(digest))})
        if connection.execute(given).rowcount:
            return True
        return self._counted(connection, same, self._digest_is(digest)) == 1

    def _digest_is(self, digest: Digest) -> ColumnElement[bool]:
        assert self.digest is not None
        return _raw(self.digest) == _given(str(digest))

    def _counted(self, connection: Connection, *which: ColumnElement[bool]) -> int:
        return connection.scalar(select(func.count()).select_from(self.table).where(*which)) or 0

    def has(self, row: Values, digest: Digest) -> bool:
        """True while a row has this digest, and the path with which it was read."""
        if self.digest is None:
            return False
        same = and_(self._is(row), self._digest_is(digest))
        if self.is_path:
            same = and_(same, _raw(self.source) == _given(row[self.source.name]))
        with speaking(self.engine), self.engine.connect() as connection:
            return self._counted(connection, same) == 1

    def clear(self, row: Values, digest: Digest) -> bool:
        """Set a row's bytes to NULL, unless they or its digest are others by now.

        ``Misconfigured`` where its table refuses.
        """
        assert self.digest is not None
        same = and_(self._is(row), self._digest_is(digest))
        try:
            with self.changing() as connection:
                if not is_of(self._fetched(connection, row), digest):
                    return False
                cleared = update(self.table).where(same).values({self.source: None})
                return bool(connection.execute(cleared).rowcount)
        except IntegrityError as error:
            raise Misconfigured(
                f"The table refused to part with the row's bytes: {error.orig}.",
                hint="They are kept in the store as well; let the column be NULL.",
            ) from error

    def _is(self, row: Values) -> ColumnElement[bool]:
        keys = self.table.primary_key.columns
        return and_(*(_raw(key) == _given(row[key.name]) for key in keys))

    def told(self, row: Values) -> tuple[str, str]:
        """A row and its source as people say them."""
        source = str(row[self.source.name]) if self.is_path else f"the bytes in {self.source.name}"
        return escaped(self.name(row)), escaped(source)

    def name(self, row: Values) -> str:
        """A row as people say it: ``images[id=5]``."""
        keys = ", ".join(f"{key.name}={row[key.name]}" for key in self.table.primary_key.columns)
        return f"{self.table.fullname}[{keys}]"


def _beside(digest: Column[object]) -> list[str]:
    """The other columns of foreign keys that the digest is a part of."""
    constraints = [key.constraint for key in digest.foreign_keys]
    names = [name for each in constraints if each is not None for name in each.column_keys]
    return [name for name in names if name != digest.name]


def _paged(items: Sequence[S]) -> Iterator[Sequence[S]]:
    page: list[S] = []
    size = 0
    for item in items:
        if page and (len(page) >= PAGE or size + item.size > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(item)
        size += item.size
    if page:
        yield page


def _refusal(error: IntegrityError) -> Misconfigured:
    """What a table says that refuses a digest."""
    hint = "Importing again does not help: change the row, or what its table demands."
    if "foreign key" in str(error.orig).lower():
        hint = "Import again: what was kept for the row may have gone meanwhile. If the key points "
        hint += "at another table than the store's, let there be what it points at first."
    return Misconfigured(f"The table refused the row's digest: {error.orig}.", hint=hint)


def gone() -> NotFound:
    """A row is not what it was."""
    return NotFound(
        "The row was deleted or changed while it was imported.",
        hint="Import again, if it is still there.",
    )


def _is_empty(column: ColumnElement[object]) -> ColumnElement[bool]:
    """True for NULL, and for the empty text that NOT NULL columns have instead."""
    return or_(column.is_(None), _raw(column) == _given(""))


def _raw(column: ColumnElement[object]) -> ColumnElement[object]:
    """The column as the driver gives it."""
    coerced: ColumnElement[object] = type_coerce(column, NullType())
    return coerced.label(column.name) if isinstance(column, Column) else coerced


def _given(value: object) -> ColumnElement[object]:
    """A value that the driver gave, for comparing: also text that is not UTF-8."""
    if isinstance(value, str) and value != escaped(value):
        return cast(type_coerce(value.encode(errors="surrogateescape"), LargeBinary()), Text)
    coerced: ColumnElement[object] = type_coerce(value, NullType())
    return coerced


def is_of(data: object, digest: Digest) -> bool:
    """True for bytes that hash to the digest."""
    return isinstance(data, BYTES) and Digest.of(bytes(data)) == digest


def as_bytes(data: object) -> bytes:
    """A column's bytes; ``Misconfigured`` for what is none."""
    if isinstance(data, BYTES):
        return bytes(data)
    raise Misconfigured(
        f"The column holds {type(data).__name__}, not bytes.",
        hint="Name a path column, if it holds paths.",
    )
