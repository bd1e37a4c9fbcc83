"""Moving: what a catalog says of itself while it is copied elsewhere, and once it has gone there.

``meta`` names the schema of a catalog that may be used. One that is being filled from another says
whose copy it is instead, and one that was moved away says where to; so at no time are there two to
be used, which would erase each other's files.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, bindparam, delete, inspect, select, text

from calotype.catalog.among import among_given
from calotype.catalog.prepared import Prepared
from calotype.catalog.settings import get_meta, set_meta
from calotype.catalog.tables import PREFIX, meta, metadata
from calotype.errors import Locked, Misconfigured

SCHEMA = "schema"
COPYING = "copying"
MOVED = "moved"
MARKS = frozenset({SCHEMA, COPYING, MOVED})
"""The keys of ``meta`` that say what a catalog is; all others are the store's, and go with it."""

_MARKS = Prepared(select(meta).where(among_given(meta.c.key, "keys")))
_IN_USE = Prepared(select(meta.c.value).where(meta.c.key == bindparam("key")))

STILL_HERE = f"DELETE FROM {meta.name} WHERE false"
"""A statement that PostgreSQL refuses once ``close`` was here; it changes nothing."""

_FUNCTION = PREFIX + "moved"
_EVENTS = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class Copying:
    """A database that is being filled: with which store's catalog, in which copy, by whom."""

    store: str
    copy: str
    schema: int
    by: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A catalog that was moved away: where to, when (ISO 8601), and by which copy."""

    to: str
    at: str
    copy: str
    schema: int


def marks(connection: Connection) -> dict[str, str]:
    """The marks that are there; ``meta`` must be."""
    return dict(_MARKS.tuples(connection, keys=sorted(MARKS)))


def standing(connection: Connection) -> Copying | Moved | None:
    """What a catalog that may not be used is; None for one that may."""
    found = marks(connection)
    if MOVED in found:
        return Moved(**json.loads(found[MOVED]))
    if COPYING in found:
        return Copying(**json.loads(found[COPYING]))
    return None


def is_there(connection: Connection) -> bool:
    """True where there are tables of ours, whatever they are."""
    return inspect(connection).has_table(meta.name)


def store_of(connection: Connection) -> str | None:
    """The store that a catalog is, or was, or is to be the catalog of."""
    found = standing(connection)
    return found.store if isinstance(found, Copying) else get_meta(connection, "store_id")


def require_here(connection: Connection) -> None:
    """Raise ``Misconfigured`` where the catalog was moved away since it was opened."""
    if not _IN_USE.tuples(connection, key=SCHEMA):
        refuse(connection)


def refuse(connection: Connection) -> None:
    """Raise ``Misconfigured`` for a catalog that is being filled, or was moved away."""
    found = standing(connection)
    if isinstance(found, Moved):
        raise moved_away(found.to, f" at {found.at}")
    if isinstance(found, Copying):
        raise Misconfigured(
            "A copy of another catalog into this one was begun and is not finished; nothing was "
            "changed.",
            hint="Run the same 'calotype catalog copy' again: it goes on. To give it up, drop the "
            f"{PREFIX} tables here.",
        )


def moved_away(to: str, at: str = "") -> Misconfigured:
    """The error for whoever still uses a catalog that was moved."""
    return Misconfigured(
        f"This catalog was moved to {to}{at}; nothing was changed.",
        hint="Point catalog (and schema) at that one.",
    )


def begin(connection: Connection, store: str, schema: int) -> Copying:
    """Mark a database as being filled from now on by the caller; it is not to be used till then."""
    found = standing(connection)
    copy = found.copy if isinstance(found, Copying) else secrets.token_hex(8)
    begun = Copying(store, copy, schema, secrets.token_hex(8))
    _forget_marks(connection)
    set_meta(connection, COPYING, json.dumps(asdict(begun)))
    return begun


def require_mine(connection: Connection, begun: Copying) -> None:
    """Raise ``Locked`` where somebody else has begun to fill it meanwhile, or it is whole."""
    if standing(connection) != begun:
        raise Locked(
            "Another copy into the same database has taken over; what this one wrote is there.",
            hint="Let that one end; copying again goes on from there.",
        )


def open_up(connection: Connection, schema: int) -> None:
    """Let a catalog be used that has become whole."""
    _forget_marks(connection)
    set_meta(connection, SCHEMA, str(schema))


def close(connection: Connection, moved: Moved) -> None:
    """Let nobody use a catalog any more: it says where it went, and the database refuses writes.

    So does it in other processes, and in transactions of an application's: from the commit on.
    """
    _forget_marks(connection)
    set_meta(connection, MOVED, json.dumps(asdict(moved)))
    for statement in _refusing(connection.dialect.name, moved.to):
        connection.exec_driver_sql(statement)


def reopen(connection: Connection) -> None:
    """Take away what ``close`` made, so that rows can be written; the marks stay."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_FUNCTION}() CASCADE")
        return
    for table in metadata.tables:
        for event in _EVENTS:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_trigger(table, event)}")


def _forget_marks(connection: Connection) -> None:
    connection.execute(delete(meta).where(meta.c.key.in_(sorted(MARKS))))


def _trigger(table: str, event: str) -> str:
    return f"{_FUNCTION}_{table.removeprefix(PREFIX)}_{event.lower()}"


def _refusing(dialect: str, to: str) -> Iterator[str]:
    """The statements after which the database refuses whatever would change a table.

    SQLite's RAISE would seem to be a broken constraint, which verbs take for a file that went
    meanwhile; a path that JSON does not know is an error of no other meaning.
    """
    said = "'" + f"{SIGN}<{to}>".replace("'", "''") + "'"
    if dialect == "sqlite":
        for table in metadata.tables:
            for event in _EVENTS:
                yield (
                    f"CREATE TRIGGER {_trigger(table, event)} BEFORE {event} ON {table} "
                    f"BEGIN SELECT json_extract('{{}}', {said}); END"
                )
        return
    said = said.replace("%", "%%")
    yield (
        f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$calotype$BEGIN RAISE EXCEPTION USING MESSAGE = {said}, ERRCODE = '55000'; "
        "END$calotype$"
    )
    for table in metadata.tables:
        yield (
            f"CREATE TRIGGER {_FUNCTION} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE "
            f"ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()"
        )


SIGN = "calotype: moved to "
"""How the database's own refusal begins; the place follows in angle brackets."""

_HOLD_STILL = text(f"LOCK TABLE {', '.join(sorted(metadata.tables))} IN SHARE ROW EXCLUSIVE MODE")


def hold_still(connection: Connection) -> None:
    """Let nobody write until the end of the transaction, who may be read beside it meanwhile.

    SQLite's only writer does so by being that.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(_HOLD_STILL)
