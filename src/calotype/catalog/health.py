"""What a catalog can tell about its own health."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, inspect, literal, or_, select
from sqlalchemy.exc import IntegrityError

from calotype.catalog import settings, sqlite, triggers
from calotype.catalog.columns import Hosts
from calotype.catalog.discovery import ForeignKey
from calotype.catalog.schema import VERSION_TABLE
from calotype.catalog.tables import PREFIX, derivation, metadata, replica


def damages(connection: Connection) -> list[str]:
    """Damage of the database file, and rows that break a foreign key of ours."""
    if connection.dialect.name != "sqlite":
        return []
    notes = [
        f"the catalog is damaged: {note}"
        for note in connection.exec_driver_sql("PRAGMA quick_check(20)").scalars()
        if note != "ok"
    ]
    for table, rowid, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        if f"{table}".lower().startswith(PREFIX) or f"{parent}".lower().startswith(PREFIX):
            row = f"row {rowid}" if rowid is not None else "a row"
            notes.append(f"{row} of {table} points at nothing in {parent}")
    if not revisions(connection):
        notes.append(f"{VERSION_TABLE} does not say which revision the tables have")
    return notes


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
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    lost = []
    for table in metadata.tables.values():
        if table.name in there:
            known = {index["name"] for index in inspector.get_indexes(table.name)}
            lost += [str(each.name) for each in table.indexes if each.name not in known]
    return sorted(lost)


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
