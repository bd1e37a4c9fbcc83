"""What a catalog can tell about its own health."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    func,
    inspect,
    literal,
    or_,
    select,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from calotype.catalog import legible, settings, sqlite, triggers
from calotype.catalog.columns import Hosts
from calotype.catalog.discovery import ForeignKey, foreign_keys
from calotype.catalog.failures import DAMAGED, meaning
from calotype.catalog.schema import VERSION_TABLE
from calotype.catalog.tables import PREFIX, derivation, metadata, replica
from calotype.errors import CalotypeError, Corrupt

SMALL = 32 << 20
"""Up to so many bytes a catalog is looked over for damage where nobody asked, as by gc: 0.6 s."""

_TOLD = 20
"""How many damages of a file are told."""

_OF_ROWS = re.compile(r"CHECK constraint failed in |(NULL|NUMERIC|TEXT|non-\w+) value in ")
"""Notes on rows that break a rule of their own table's."""

_OF_INDEX = re.compile(r"\bindex (\w+)$")


def damages(connection: Connection) -> list[str]:
    """Damage of an SQLite file as a whole, and of our tables and their indexes, in its words.

    Rows of an application's tables are its own matter. The file as a whole is not looked at where
    those tables need what only its own connections have.
    """
    if connection.dialect.name != "sqlite":
        return []
    notes = []
    with _unless_an_applications(), _checking_nothing(connection):
        notes += _told(connection, f"quick_check({_TOLD})")
    notes = [note for note in notes if not _OF_ROWS.match(note)]
    if not notes:
        there = set(inspect(connection).get_table_names())
        for name in sorted(metadata.tables.keys() & there):
            notes += _told(connection, f"integrity_check({name})")
            notes += _odd_columns(connection, metadata.tables[name])
    return notes[:_TOLD]


def _told(connection: Connection, look: str) -> list[str]:
    notes = connection.exec_driver_sql(f"PRAGMA {look}").scalars()
    return [" ".join(note.split()) for note in notes if note != "ok"]


@contextmanager
def _unless_an_applications() -> Iterator[None]:
    """Pass over what SQLite says of tables of an application's, and not of the database."""
    try:
        yield
    except OperationalError as error:
        if meaning(error) is not None:
            raise


@contextmanager
def _checking_nothing(connection: Connection) -> Iterator[None]:
    """Leave CHECK constraints alone, whose functions only an application's connections may have."""
    usual = connection.exec_driver_sql("PRAGMA ignore_check_constraints").scalar_one()
    sqlite.tell(connection, "PRAGMA ignore_check_constraints=ON")
    try:
        yield
    finally:
        sqlite.tell(connection, f"PRAGMA ignore_check_constraints={usual}")


def _odd_columns(connection: Connection, table: Table) -> list[str]:
    """Columns with values of a kind that nobody of ours writes there; SQLite would take any."""
    columns = [column for column in table.columns if _kind(column) is not None]
    odd = [func.max(func.typeof(each).not_in((_kind(each), "null"))) for each in columns]
    found = connection.execute(select(*odd)).one() if odd else ()
    return [
        f"{column} holds what is no {_kind(column)}"
        for column, is_odd in zip(columns, found, strict=True)
        if is_odd
    ]


def _kind(column: Column[Any]) -> str | None:
    """What SQLite calls the values of a column."""
    kinds = {Integer: "integer", String: "text", LargeBinary: "blob"}
    return next((kind for of, kind in kinds.items() if isinstance(column.type, of)), None)


def hurt_indexes(damages: Iterable[str]) -> list[str]:
    """Those of ours among the damages that differ from their tables and can be made again."""
    return sorted({match[1] for each in damages if (match := _OF_INDEX.search(each))})


def mend_indexes(connection: Connection, names: Iterable[str]) -> None:
    """Make indexes again from their tables; one that finds rows doubled stays as it is."""
    for name in names:
        with suppress(IntegrityError), connection.begin_nested():
            connection.exec_driver_sql(f'REINDEX "{name}"')


def require_sound(connection: Connection) -> None:
    """Raise ``Corrupt`` where a small catalog is damaged: what is kept may seem to be garbage."""
    if _is_small(connection):
        damaged = damages(connection)
        if notes := damaged or dangling(connection) or _odd_rows(connection):
            hint = "'calotype fsck --repair' makes the index again."
            raise Corrupt(
                f"The catalog is damaged: {notes[0]}; nothing was let go of.",
                hint=hint if hurt_indexes(damaged) else DAMAGED,
            )


def _odd_rows(connection: Connection) -> list[str]:
    odd = [f"{key!r} is no key of {digest}" for digest, key in odd_keys(connection, 1)]
    return odd or legible.no_digests(connection, 1)


def blame(connection: Connection, error: Exception) -> None:
    """Raise ``Corrupt`` in place of ``error``, unless it is one of ours and the catalog sound.

    What no error of ours foresees comes of rows and names that nobody of ours wrote.
    """
    if _is_small(connection) and (notes := damages(connection)):
        raise Corrupt(f"The catalog is damaged: {notes[0]}.", hint=DAMAGED) from error
    if not isinstance(error, CalotypeError):
        raise Corrupt(
            f"The catalog holds what cannot be read: {type(error).__name__}: {error}.",
            hint=f"If 'calotype fsck' finds nothing, it may be a bug: report it. {DAMAGED}",
        ) from error


def _is_small(connection: Connection) -> bool:
    """True for an SQLite file that takes no time to look over."""
    if connection.dialect.name != "sqlite":
        return False
    pages, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "page_size")
    )
    return bool(pages * size <= SMALL)


def dangling(connection: Connection) -> list[str]:
    """Rows of ours whose foreign keys lead to no row: then nobody knows what is kept."""
    if connection.dialect.name != "sqlite":
        return []
    there = metadata.tables.keys() & set(inspect(connection).get_table_names())
    return [note for table in sorted(there) for note, _ in _pointing_at_nothing(connection, table)]


def broken(connection: Connection) -> list[str]:
    """Rows of an application's that point at nothing of ours; a version table without revision."""
    if connection.dialect.name != "sqlite":
        return []
    notes = []
    for table in sorted({key.table for key in foreign_keys(connection)}):
        with _unless_an_applications():
            found = _pointing_at_nothing(connection, table)
            notes += [note for note, parent in found if parent.lower().startswith(PREFIX)]
    if not revisions(connection):
        notes.append(f"{VERSION_TABLE} does not say which revision the tables have")
    return notes


def _pointing_at_nothing(connection: Connection, table: str) -> list[tuple[str, str]]:
    """Rows of one table, and the table that they point at."""
    quoted = table.replace("'", "''")
    rows = connection.exec_driver_sql(f"PRAGMA foreign_key_check('{quoted}')").all()
    which = ["a row" if rowid is None else f"row {rowid}" for _, rowid, _, _ in rows]
    return [
        (f"{row} of {table} points at nothing in {parent}", f"{parent}")
        for row, (_, _, parent, _) in zip(which, rows, strict=True)
    ]


def odd_keys(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """(digest, key) of replicas whose key is not made of their digest (I10)."""
    digest = replica.c.digest
    shard = func.substr(digest, 1, 2).concat("/").concat(func.substr(digest, 3, 2)).concat("/")
    begins = literal("sha256/").concat(shard).concat(digest)
    odd = func.substr(replica.c.key, 1, func.length(begins)) != begins
    rows = connection.execute(select(digest, replica.c.key).where(odd).limit(limit))
    return [(row.digest, row.key) for row in rows]


def without_output(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """(digest, recipe) of derivations that are ready and have not one output (I13)."""
    inline, output = derivation.c.output_inline, derivation.c.output_digest
    neither = and_(inline.is_(None), output.is_(None))
    both = and_(inline.is_not(None), output.is_not(None))
    rows = connection.execute(
        select(derivation.c.input_digest, derivation.c.recipe)
        .where(derivation.c.state == "ready", or_(neither, both))
        .limit(limit)
    )
    return [(row.input_digest, row.recipe) for row in rows]


def revisions(connection: Connection) -> list[str]:
    """What the version table holds: one revision in a sound catalog."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return []
    return list(connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalars())


_MADE_ANEW = frozenset(
    PREFIX + name for name in ("candidate", "import_seen", "plan", "upload", "usage")
)
"""Tables that may begin empty again; without the others nobody knows what is kept."""


def lost_tables(connection: Connection) -> list[str]:
    """Tables of ours that are missing."""
    there = set(inspect(connection).get_table_names())
    return sorted(name for name in metadata.tables if name not in there)


def lost_indexes(connection: Connection) -> list[str]:
    """Indexes of ours that are missing from tables that are there."""
    there = set(inspect(connection).get_table_names())
    lost = []
    for table in metadata.tables.values():
        if table.name in there:
            known = _indexes_of(connection, table.name)
            lost += [str(each.name) for each in table.indexes if each.name not in known]
    return sorted(lost)


def _indexes_of(connection: Connection, table: str) -> set[str | None]:
    """By name. On SQLite not by the inspector, which stumbles over a damaged schema."""
    if connection.dialect.name != "sqlite":
        return {index["name"] for index in inspect(connection).get_indexes(table)}
    return set(
        connection.exec_driver_sql(f"SELECT name FROM pragma_index_list('{table}')").scalars()
    )


def is_made_anew(table: str) -> bool:
    """True where a lost table may begin empty again, so that no promise is broken by it."""
    return table in _MADE_ANEW


def mend_tables(connection: Connection) -> list[str]:
    """Make lost tables again that may begin empty, and lost indexes; gc then looks at all.

    Returns the indexes that cannot be made, since rows are there twice that may be there once.
    """
    lost = [name for name in lost_tables(connection) if is_made_anew(name)]
    metadata.create_all(connection, tables=[metadata.tables[name] for name in lost])
    if lost:
        settings.set_meta(connection, "full_look", "1")
    tables = metadata.tables.values()
    indexes = {str(index.name): index for table in tables for index in table.indexes}
    doubled = []
    for name in lost_indexes(connection):
        try:
            with connection.begin_nested():
                indexes[name].create(connection)
        except IntegrityError:
            doubled.append(name)
    return doubled


def lost_triggers(connection: Connection) -> list[str]:
    """Triggers of ours that are missing or not as they should be."""
    return triggers.missing(connection)


def mend_triggers(connection: Connection) -> list[str]:
    """Create lost triggers again; their names."""
    return triggers.ensure(connection)


def warnings(connection: Connection, hosts: Hosts, *, own: bool) -> list[tuple[str, str]]:
    """(what is unwise, what mends it): settings that work but could be better."""
    found = [
        (
            f"The column {host} points at {host.target} and has no index, so gc reads the whole "
            "table for every batch.",
            _index(connection, host),
        )
        for host in hosts.columns(connection)
        if not host.indexed
    ]
    if connection.dialect.name == "sqlite" and not own:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        if mode == "wal" and sqlite.wal_reset_bug():
            found.append(
                (
                    "The catalog shares a file in WAL mode with an application, and this SQLite "
                    "can corrupt a WAL that two connections checkpoint at once.",
                    "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=EXTRA; or SQLite 3.51.3",
                )
            )
    return found


def _index(connection: Connection, host: ForeignKey) -> str:
    """The statement that makes the index which the column should have."""
    quote = connection.dialect.identifier_preparer.quote
    columns = [ours for ours, _ in host.pairs]
    name = quote("_".join((host.table, *columns, "ix")))
    table = ".".join(quote(each) for each in (host.schema, host.table) if each is not None)
    return f"CREATE INDEX {name} ON {table} ({', '.join(map(quote, columns))})"
