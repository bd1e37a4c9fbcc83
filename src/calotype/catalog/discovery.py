"""Which tables point at ours: read from the database's own list of foreign keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, inspect, text

from calotype.catalog.tables import metadata

OURS = frozenset(metadata.tables)

_NAME = r'(?:"([^"]+)"|\[([^\]]+)\]|`([^`]+)`|(\w+))'
_OF_TABLE = re.compile(
    rf"CONSTRAINT\s+{_NAME}\s+FOREIGN\s+KEY\s*\(([^)]*)\)\s*REFERENCES", re.IGNORECASE
)
_OF_COLUMN = re.compile(rf"[,(]\s*{_NAME}\s[^,]*?CONSTRAINT\s+{_NAME}\s+REFERENCES", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of another table: ``pairs`` are (its column, our column).

    ``schema`` is None where the table is beside ours.
    """

    table: str
    target: str
    pairs: tuple[tuple[str, str], ...]
    name: str
    on_delete: str
    indexed: bool
    schema: str | None = None

    def __str__(self) -> str:
        """``search_results.image_hash``."""
        where = f"{self.schema}." if self.schema is not None else ""
        return f"{where}{self.table}.{'+'.join(ours for ours, _ in self.pairs)}"


def foreign_keys(connection: Connection) -> list[ForeignKey]:
    """Every foreign key of tables that are not ours to tables that are."""
    if connection.dialect.name == "sqlite":
        return _of_sqlite(connection)
    return _of_postgres(connection)


def _of_sqlite(connection: Connection) -> list[ForeignKey]:
    """SQLAlchemy's inspector loses ON DELETE of keys that are declared with their column."""
    rows = connection.exec_driver_sql(
        'SELECT m.name, f.id, lower(f."table"), f."from", f."to", f.on_delete, m.sql, f.seq '
        "FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table' "
        "AND f.\"table\" LIKE 'calotype\\_%' ESCAPE '\\' ORDER BY m.name, f.id, f.seq"
    ).all()
    rows = [row for row in rows if row[2] in OURS and str(row[0]).lower() not in OURS]
    found = []
    for (table, _), group in groupby(rows, key=lambda row: (str(row[0]), int(row[1]))):
        columns = list(group)
        target, on_delete, sql = str(columns[0][2]), str(columns[0][5]), str(columns[0][6])
        ours = [str(row[3]) for row in columns]
        pairs = tuple(
            (str(row[3]), str(row[4]).lower() if row[4] else _primary(target)[row[7]])
            for row in columns
        )
        name = _names(sql).get(tuple(column.lower() for column in ours), f"(unnamed, on {table})")
        indexed = _indexed(connection, table, ours)
        found.append(ForeignKey(table, target, pairs, name, on_delete.upper(), indexed))
    return found


def _primary(target: str) -> list[str]:
    return [column.name for column in metadata.tables[target].primary_key.columns]


def _names(sql: str) -> dict[tuple[str, ...], str]:
    """Columns -> the name of their constraint, from the text of CREATE TABLE."""
    names: dict[tuple[str, ...], str] = {}
    for match in _OF_TABLE.finditer(sql):
        columns = [part.strip().strip('"`[]').lower() for part in match[5].split(",")]
        names[tuple(columns)] = next(part for part in match.groups()[:4] if part)
    for match in _OF_COLUMN.finditer(sql):
        column = next(part for part in match.groups()[:4] if part)
        names[(column.lower(),)] = next(part for part in match.groups()[4:] if part)
    return names


_OF_POSTGRES = text("""
SELECT CASE WHEN c.relnamespace <> t.relnamespace THEN n.nspname END,
    c.relname, t.relname, k.conname, k.confdeltype,
    ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS o (number, place)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.number ORDER BY place),
    ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY AS o (number, place)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = o.number ORDER BY place),
    EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indpred IS NULL
        AND i.indisvalid
        AND k.conkey <@ (CAST(i.indkey AS SMALLINT[]))[0:cardinality(k.conkey) - 1])
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
    AND t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND t.relname = ANY (:ours)
    AND NOT (c.relnamespace = t.relnamespace AND c.relname = ANY (:ours))
ORDER BY n.nspname, c.relname, k.conname
""")
_RULES = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def _of_postgres(connection: Connection) -> list[ForeignKey]:
    """Of every schema: a key that is not seen would not keep what it points at."""
    return [
        ForeignKey(
            table,
            target,
            tuple(zip(ours, theirs, strict=True)),
            name,
            _RULES[rule],
            indexed,
            schema,
        )
        for schema, table, target, name, rule, ours, theirs, indexed in connection.execute(
            _OF_POSTGRES, {"ours": sorted(OURS)}
        )
    ]


def _indexed(connection: Connection, table: str, columns: Sequence[str]) -> bool:
    """True when an index of all rows, a constraint or the primary key begins with these columns."""
    inspector = inspect(connection)
    indexes = [
        [name for name in index["column_names"] if name]
        for index in inspector.get_indexes(table)
        if f"{connection.dialect.name}_where" not in index.get("dialect_options", {})
    ]
    indexes.append(list(inspector.get_pk_constraint(table)["constrained_columns"]))
    indexes += [list(each["column_names"]) for each in inspector.get_unique_constraints(table)]
    return any(set(index[: len(columns)]) == set(columns) for index in indexes)
