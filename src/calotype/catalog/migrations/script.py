"""The script of an upgrade: what `calotype upgrade` would run on PostgreSQL, for an SQL editor."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import create_mock_engine, insert, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ClauseElement

from calotype.catalog import Catalog, migrations, postgres_triggers, schema, tables
from calotype.catalog.postgres import MAKING, Postgres
from calotype.errors import Misconfigured

_PLAIN = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
"""Of those that are made for drivers some write every % twice."""

_WHERE = text("SELECT current_schema()")
_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
_RANDOM = "replace(CAST(gen_random_uuid() AS TEXT), '-', '')"

IDENTITY = f"""\
INSERT INTO {tables.meta.name} (key, value) VALUES
    ('schema', '{schema.CURRENT}'),
    ('store_id', CAST(gen_random_uuid() AS TEXT)),
    ('generation', left({_RANDOM}, 16)),
    ('created_at', CAST({_NOW} AS TEXT)),
    ('full_look', '0');
INSERT INTO {tables.signing_key.name} (id, secret, created_at)
    VALUES (left({_RANDOM}, 8), {_RANDOM} || {_RANDOM}, {_NOW});"""
"""What is drawn by the server: the same script run twice makes two stores, and holds no secret."""


def script(catalog: Catalog) -> str:
    """The SQL that brings the catalog to this program's schema, in one transaction.

    It only reads. ``Misconfigured`` on SQLite, ``SchemaAhead`` for a catalog of a newer program.
    """
    database = catalog.database
    if not isinstance(database, Postgres):
        raise Misconfigured(
            f"The catalog {catalog.name} is in SQLite, which upgrades itself when it is opened.",
            hint="Leave --sql away: 'calotype upgrade' does it now.",
        )
    with database.reading() as connection:
        found = schema.number(connection)
        where = database.schema or connection.scalar(_WHERE)
    if found is not None and found >= schema.CURRENT:
        schema.require_current(found, catalog)
        return f"-- The catalog has schema {found}: there is nothing to do.\n"
    lines = ["BEGIN;", f"SELECT pg_advisory_xact_lock({MAKING});"]
    if where is not None:
        quoted = _PLAIN.identifier_preparer.quote_identifier(where)
        lines += [f"CREATE SCHEMA IF NOT EXISTS {quoted};"] if found is None else []
        lines += [f"SET LOCAL search_path = {quoted};"]
    lines += _first(catalog) if found is None else _next(found)
    for name in postgres_triggers.TRIGGERS:
        lines += [f"{statement};" for statement in postgres_triggers.creating(name)]
    return "\n".join([*lines, "COMMIT;", ""])


def _first(catalog: Catalog) -> Iterator[str]:
    """Every table, index and first row."""
    said: list[str] = []

    def say(statement: ClauseElement, *_: object, **__: object) -> None:
        said.append(f"{str(statement.compile(dialect=_PLAIN)).strip()};")

    tables.metadata.create_all(create_mock_engine("postgresql://", say), checkfirst=False)
    yield from said
    yield f"{schema.VERSION_DDL};"
    yield f"{schema.VERSION_ROW};"
    yield IDENTITY
    first = insert(tables.backend).values(schema.first_backend(*catalog.first_backend))
    literal = {"literal_binds": True}
    yield f"{first.compile(dialect=_PLAIN, compile_kwargs=literal)};"


def _next(found: int) -> Iterator[str]:
    """The revisions from there, unless the catalog has another schema by now."""
    number = f"SELECT value FROM {tables.meta.name} WHERE key = 'schema'"
    yield (
        f"DO $calotype$BEGIN IF ({number}) IS DISTINCT FROM '{found}' THEN RAISE EXCEPTION "
        "'calotype: the catalog has another schema by now; print the SQL anew'; "
        "END IF; END$calotype$;"
    )
    for name in postgres_triggers.TRIGGERS:
        yield f"{postgres_triggers.dropping(name)};"
    yield migrations.spelled(found)
    yield f"UPDATE {tables.meta.name} SET value = '{schema.CURRENT}' WHERE key = 'schema';"
