"""An application's table as a source: its rows page by page, and digests written to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Table,
    and_,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchTableError, SQLAlchemyError

from calotype.catalog.tables import PREFIX
from calotype.digest import Digest
from calotype.errors import CalotypeError, Locked, Misconfigured, NotFound, Unavailable

PAGE = 500

_TIMEOUT = 30.0
"""Seconds to wait for another writer of an SQLite file."""

_FIELD = re.compile(r"\{(\w+)\}")

Values = Mapping[str, object]
"""A row by its columns' names."""


def open_database(url: str) -> Engine:
    """An engine on the application's database; ``Misconfigured`` or ``NotFound`` for none."""
    try:
        parsed = make_url(url)
        file = Path(parsed.database or "")
        if parsed.get_backend_name() == "sqlite" and not file.is_file():
            raise NotFound(f"No database {str(file)!r}.", hint="Check the URL.")
        waits = {"timeout": _TIMEOUT} if parsed.get_backend_name() == "sqlite" else {}
        engine = create_engine(parsed, connect_args=waits)
    except (ArgumentError, ImportError) as error:
        raise Misconfigured(
            f"Not a database that can be opened: {error}.",
            hint="Write sqlite:///app.db, and install the driver of any other database.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    return engine


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one table that have a source, and the columns that matter."""

    engine: Engine
    table: Table
    source: Column[object]
    digest: Column[object] | None

    @classmethod
    def of(cls, engine: Engine, table: str, source: str, digest: str | None) -> Rows:
        """Look at the table; ``Misconfigured`` where it, a column or its key is missing."""
        schema, _, name = table.rpartition(".")
        with _speaking(engine):
            try:
                found = Table(
                    name, MetaData(), autoload_with=engine, schema=schema or None, resolve_fks=False
                )
            except NoSuchTableError:
                names = ", ".join(inspect(engine).get_table_names()) or "none"
                raise Misconfigured(f"No table {table!r}.", hint=f"There are: {names}.") from None
        if not found.primary_key.columns:
            raise Misconfigured(
                f"The table {table!r} has no primary key, so its rows cannot be told apart.",
                hint="Give it one.",
            )
        for column in filter(None, (source, digest)):
            if column not in found.c:
                raise Misconfigured(
                    f"The table {table!r} has no column {column!r}.",
                    hint=f"There are: {', '.join(found.c.keys())}.",
                )
        return cls(engine, found, found.c[source], found.c[digest] if digest else None)

    @property
    def points_at_us(self) -> bool:
        """True where the digest column is a foreign key to a table of Calotype's."""
        keys = self.digest.foreign_keys if self.digest is not None else ()
        return any(key.target_fullname.rpartition(".")[0].startswith(PREFIX) for key in keys)

    def require(self, template: str, what: str) -> None:
        """Refuse ``{columns}`` in a template that the table does not have."""
        unknown = [name for name in _FIELD.findall(template) if name not in self.table.c]
        if unknown:
            raise Misconfigured(
                f"The {what} {template!r} names a column that is not there: {unknown[0]}.",
                hint=f"There are: {', '.join(self.table.c.keys())}.",
            )

    def count(self) -> int:
        """How many rows are to be imported."""
        with _speaking(self.engine), self.engine.connect() as connection:
            return self._counted(connection, self._pending())

    def pending(self) -> Iterator[Values]:
        """Rows that have a source and no digest, by their key; a page is one short transaction."""
        yield from self._pages(self._pending())

    def done(self) -> Iterator[Values]:
        """Rows that have a source and a digest."""
        assert self.digest is not None
        yield from self._pages(and_(self.source.is_not(None), self.digest.is_not(None)))

    def _pending(self) -> ColumnElement[bool]:
        there = self.source.is_not(None)
        return there if self.digest is None else and_(there, self.digest.is_(None))

    def _pages(self, which: ColumnElement[bool]) -> Iterator[Values]:
        keys = list(self.table.primary_key.columns)
        after: tuple[object, ...] | None = None
        while True:
            statement = select(self.table).where(which).order_by(*keys).limit(PAGE)
            if after is not None:
                statement = statement.where(tuple_(*keys) > tuple_(*after))
            with _speaking(self.engine), self.engine.connect() as connection:
                page = [dict(row) for row in connection.execute(statement).mappings()]
            yield from page
            if len(page) < PAGE:
                return
            after = tuple(page[-1][key.name] for key in keys)

    def are_told_apart_by(self, template: str) -> bool:
        """True where no two rows fill the template alike: it has the whole key."""
        return {key.name for key in self.table.primary_key} <= set(_FIELD.findall(template))

    def write(self, digests: Sequence[tuple[Values, Digest]]) -> list[tuple[Values, Digest]]:
        """Give rows their digests in one transaction; those that are gone or changed meanwhile.

        A row that has the very digest by now is as good.
        """
        with _speaking(self.engine), self.engine.begin() as connection:
            return [each for each in digests if not self._give(connection, *each)]

    def _give(self, connection: Connection, row: Values, digest: Digest) -> bool:
        same = and_(self._is(row), self.source == row[self.source.name])
        if self.digest is None:
            return self._counted(connection, same) == 1
        free = and_(same, self.digest.is_(None))
        if connection.execute(
            update(self.table).where(free).values({self.digest: digest})
        ).rowcount:
            return True
        return self._counted(connection, same, self.digest == digest) == 1

    def _counted(self, connection: Connection, *which: ColumnElement[bool]) -> int:
        return connection.scalar(select(func.count()).select_from(self.table).where(*which)) or 0

    def wanting(self, path: object) -> bool:
        """True where some row with this source has no digest yet."""
        with _speaking(self.engine), self.engine.connect() as connection:
            return self._counted(connection, self._pending(), self.source == path) > 0

    def clear(self, row: Values) -> None:
        """Set a row's source to NULL, unless it is another one by now."""
        same = and_(self._is(row), self.source == row[self.source.name])
        with _speaking(self.engine), self.engine.begin() as connection:
            connection.execute(update(self.table).where(same).values({self.source: None}))

    def _is(self, row: Values) -> ColumnElement[bool]:
        return and_(*(key == row[key.name] for key in self.table.primary_key.columns))

    def name(self, row: Values) -> str:
        """A row as people say it: ``images[id=5]``."""
        keys = ", ".join(f"{key.name}={row[key.name]}" for key in self.table.primary_key.columns)
        return f"{self.table.fullname}[{keys}]"


def filled(template: str, row: Values) -> str:
    """The template with each ``{column}`` as the row has it; ``Misconfigured`` for a NULL."""

    def value(found: re.Match[str]) -> str:
        if row[found[1]] is None:
            raise Misconfigured(
                f"The column {found[1]} is NULL, and {template!r} needs it.", hint="Fill it in."
            )
        return str(row[found[1]])

    return _FIELD.sub(value, template)


@contextmanager
def _speaking(engine: Engine) -> Iterator[None]:
    """Raise what the application's database says as errors of ours."""
    try:
        yield
    except CalotypeError:
        raise
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        where = engine.url.render_as_string()
        if "locked" in str(cause):
            raise Locked(
                f"The database {where} is locked by another writer.",
                hint="What was imported is kept; import again.",
            ) from error
        raise Unavailable(
            f"The database {where} failed: {cause}.",
            hint="What was imported is kept; look after it and import again.",
        ) from error
