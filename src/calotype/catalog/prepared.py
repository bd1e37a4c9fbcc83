"""Statements compiled once: on the paths that every put, open and check goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, RowMapping, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

TOGETHER = 100
"""Rows that one statement of SQLite inserts: more of them are not faster."""

Found = Mapping[str, Any] | RowMapping
"""A row by its columns' names."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement's text for one dialect: its constants, and the order of its parameters."""

    sql: str
    constants: Mapping[str, object]
    order: tuple[str, ...] | None
    lists_as_json: bool

    def fill(self, given: Mapping[str, object]) -> Any:
        """The parameters as the driver takes them."""
        filled = {**self.constants, **given}
        for name, value in given.items():
            if isinstance(value, list | tuple):
                filled[name] = _json(value) if self.lists_as_json else list(value)
        return filled if self.order is None else tuple([filled[name] for name in self.order])

    def fill_all(self, rows: Sequence[Mapping[str, object]]) -> list[Any]:
        """``fill`` for many rows of the same names; rows without lists cost next to nothing."""
        first = rows[0]
        plain = not any(isinstance(value, list | tuple) for value in first.values())
        if (
            self.order is None
            or len(self.order) < 2
            or not plain
            or not first.keys() >= {*self.order}
        ):
            return [self.fill(row) for row in rows]
        return list(map(itemgetter(*self.order), rows))


def _json(values: Sequence[str]) -> str:
    """A list of text as json.dumps() writes it, in a fraction of the time."""
    return f"[{','.join(map(encode_basestring_ascii, values))}]"


class Prepared:
    """A Core statement whose text is made once for each dialect, and run by the driver itself.

    Building a key, a context and a result costs SQLAlchemy several times what SQLite takes to
    answer. The connection must be in a transaction already. Errors are SQLAlchemy's. ``binary`` has
    PostgreSQL answer so: bytes as text are twice as many.
    """

    def __init__(self, statement: ClauseElement, *, binary: bool = False) -> None:
        self._statement = statement
        self._binary = binary
        self._texts: dict[tuple[str, str], _Text] = {}

    def __call__(self, connection: Connection, **parameters: object) -> list[Found]:
        """Its rows; lists of text among the parameters are values for ``among_given``."""
        names, rows = self._run(connection, parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def tuples(self, connection: Connection, **parameters: object) -> Sequence[tuple[Any, ...]]:
        """The same rows without names, for where there are thousands."""
        return self._run(connection, parameters)[1]

    def _run(
        self, connection: Connection, parameters: Mapping[str, object]
    ) -> tuple[list[str], Sequence[tuple[Any, ...]]]:
        text = self._text(connection.dialect)
        binary = {"binary": True} if self._binary and _is_postgres(connection) else {}
        cursor = connection.connection.cursor(**binary)
        try:
            _checked(connection, text.sql, cursor.execute, text.fill(parameters))
            return [column[0] for column in cursor.description], cursor.fetchall()
        finally:
            cursor.close()

    def tell(self, connection: Connection, parameters: Mapping[str, object]) -> None:
        """Run one that has no rows to give."""
        text = self._text(connection.dialect)
        with closing(connection.connection.cursor()) as cursor:
            _checked(connection, text.sql, cursor.execute, text.fill(parameters))

    def many(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it once for each row of parameters; nothing happens for none."""
        if not rows:
            return
        text = self._text(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            filled = text.fill_all(rows)
            _checked(connection, text.sql, cursor.executemany, filled)
        finally:
            cursor.close()

    def _text(self, dialect: Dialect) -> _Text:
        kind = (dialect.name, dialect.paramstyle)
        found = self._texts.get(kind)
        if found is None:
            found = self._texts[kind] = _compiled(self._statement, dialect)
        return found


class PreparedInsert(Prepared):
    """An INSERT of rows that give ``columns``, and what ``then`` says of those that are there.

    On PostgreSQL all rows travel as one array a column: one statement, and one firing of triggers.
    On SQLite a statement takes ``TOGETHER`` of them: one by one costs half as much again, and each
    lets another thread in, which has to be waited for.
    """

    def __init__(self, table: Table, columns: Sequence[str], then: str) -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join(f":{name}" for name in columns)
        super().__init__(text(f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {then}"))
        self._columns = columns
        self._values = itemgetter(*columns)
        places = ", ".join([f"({', '.join('?' * len(columns))})"] * TOGETHER)
        self._together = f"INSERT INTO {table.name} ({names}) VALUES {places} {then}"
        arrays = ", ".join(f"CAST(:{name} AS {_array(table, name)})" for name in columns)
        at_once = f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) {then}"
        self._at_once = Prepared(text(at_once))

    def many(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert them; nothing happens for none."""
        if rows and _is_postgres(connection):
            arrays = {name: [row[name] for row in rows] for name in self._columns}
            self._at_once.tell(connection, arrays)
            return
        whole = len(rows) - len(rows) % TOGETHER
        if whole:
            self._many_together(connection, rows[:whole])
        super().many(connection, rows[whole:])

    def _many_together(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        with closing(connection.connection.cursor()) as cursor:
            for start in range(0, len(rows), TOGETHER):
                some = rows[start : start + TOGETHER]
                values = list(chain.from_iterable(map(self._values, some)))
                _checked(connection, self._together, cursor.execute, values)


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _array(table: Table, column: str) -> str:
    kind = table.c[column].type.python_type
    return {int: "BIGINT[]", bytes: "BYTEA[]"}.get(kind, "TEXT[]")


def prepared_insert(table: Table, *columns: str, then: str = "") -> PreparedInsert:
    """An INSERT of rows that give these columns; for ``many``."""
    return PreparedInsert(table, columns, then)


def _checked(connection: Connection, sql: str, run: Any, parameters: Any) -> None:
    driver = connection.dialect.loaded_dbapi.Error
    try:
        run(sql, parameters)
    except driver as error:
        if getattr(connection.connection.driver_connection, "closed", False):
            connection.invalidate(error)  # or its pool would give out what the server ended
        raise DBAPIError.instance(sql, parameters, error, driver) from error


def _compiled(statement: ClauseElement, dialect: Dialect) -> _Text:
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    order = tuple(compiled.positiontup) if compiled.positiontup is not None else None
    return _Text(str(compiled), dict(compiled.params), order, dialect.name == "sqlite")
