"""The triggers of PostgreSQL: the same candidates and guards, once for each statement.

A look trigger reads the rows that a statement touched (its transition tables) and only inserts, so
no release waits for another. Foreign keys and constraints need no help here; what TRUNCATE takes
away has no rows to look at, so gc looks at everything afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from calotype.catalog.states import AT_WORK
from calotype.quantities import FOREVER

_NOW = "CAST(extract(epoch FROM clock_timestamp()) AS BIGINT) * 1000000"
_IN_FLIGHT = "('planned', 'sending', 'unknown')"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger and its function, which has the same name."""

    table: str
    when: str
    body: str

    @property
    def transitions(self) -> str:
        """The names of the rows before and after, as the event has them."""
        said = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}
        event = self.when.split()[1]
        if not self.when.startswith("AFTER") or event not in said:
            return ""
        return "REFERENCING " + " ".join(f"{each} TABLE AS {each.lower()}s" for each in said[event])

    @property
    def each(self) -> str:
        """How often it fires."""
        return "ROW" if self.when.startswith("BEFORE") else "STATEMENT"


def _look(rows: str) -> str:
    return f"INSERT INTO calotype_candidate (digest, look_at) SELECT DISTINCT {rows}; RETURN NULL;"


def _refuse(message: str) -> str:
    return f"RAISE EXCEPTION 'calotype: {message}' USING ERRCODE = 'check_violation';"


_ENDED_REFERENCES = (
    f"o.digest, coalesce(n.released_at, {_NOW}) FROM olds o LEFT JOIN news n ON n.id = o.id "
    "WHERE n.id IS NULL OR n.released_at IS DISTINCT FROM o.released_at "
    "OR n.scope <> o.scope OR n.digest <> o.digest"
)
_SAME_DERIVATION = " AND ".join(
    f"n.{name} = o.{name}"
    for name in ("audience", "input_digest", "recipe", "version", "params_hash")
)
_FULL_LOOK = "UPDATE calotype_meta SET value = '1' WHERE key = 'full_look'; RETURN NULL;"

TRIGGERS: dict[str, Trigger] = {
    "calotype_asset_look_insert": Trigger(
        "calotype_asset",
        "AFTER INSERT",
        _look(f"digest, kept_until FROM news WHERE kept_until < {FOREVER}"),
    ),
    "calotype_asset_look_update": Trigger(
        "calotype_asset",
        "AFTER UPDATE",
        _look(
            "n.digest, n.kept_until FROM news n LEFT JOIN olds o "
            "ON o.scope = n.scope AND o.digest = n.digest "
            f"WHERE n.kept_until < {FOREVER} AND n.kept_until IS DISTINCT FROM o.kept_until"
        ),
    ),
    "calotype_asset_look_delete": Trigger(
        "calotype_asset", "AFTER DELETE", _look("digest, 0 FROM olds")
    ),
    "calotype_reference_look_update": Trigger(
        "calotype_reference", "AFTER UPDATE", _look(_ENDED_REFERENCES)
    ),
    "calotype_reference_look_delete": Trigger(
        "calotype_reference",
        "AFTER DELETE",
        _look(f"digest, {_NOW} FROM olds WHERE released_at IS NULL"),
    ),
    "calotype_derivation_look_update": Trigger(
        "calotype_derivation",
        "AFTER UPDATE",
        _look(
            f"o.output_digest, 0 FROM olds o LEFT JOIN news n ON {_SAME_DERIVATION} "
            "WHERE o.output_digest IS NOT NULL "
            "AND n.output_digest IS DISTINCT FROM o.output_digest"
        ),
    ),
    "calotype_derivation_look_delete": Trigger(
        "calotype_derivation",
        "AFTER DELETE",
        _look("output_digest, 0 FROM olds WHERE output_digest IS NOT NULL"),
    ),
    "calotype_provider_upload_look_update": Trigger(
        "calotype_provider_upload",
        "AFTER UPDATE",
        _look(f"digest, {_NOW} FROM news WHERE state NOT IN {_IN_FLIGHT}"),
    ),
    "calotype_provider_upload_look_delete": Trigger(
        "calotype_provider_upload", "AFTER DELETE", _look(f"digest, {_NOW} FROM olds")
    ),
    "calotype_blob_doom_delete": Trigger(
        "calotype_blob",
        "AFTER DELETE",
        f"UPDATE calotype_replica SET state = 'doomed', doomed_at = {_NOW}, due_at = {_NOW} "
        "WHERE digest IN (SELECT digest FROM olds) AND (state = 'live' "
        f"OR (state = 'writing' AND due_at <= {_NOW} + {AT_WORK})); RETURN NULL;",
    ),
    "calotype_blob_guard_update": Trigger(
        "calotype_blob", "BEFORE UPDATE", _refuse("a blob is immutable")
    ),
    "calotype_asset_guard_update": Trigger(
        "calotype_asset",
        "BEFORE UPDATE",
        "IF NEW.scope <> OLD.scope OR NEW.digest <> OLD.digest THEN "
        f"{_refuse('an asset keeps its scope and digest')} END IF; RETURN NEW;",
    ),
    **{
        f"calotype_{name}_look_truncate": Trigger(f"calotype_{name}", "AFTER TRUNCATE", _FULL_LOOK)
        for name in ("asset", "reference", "derivation", "provider_upload", "candidate")
    },
}
"""Name -> what it is on, when it fires, and what it does."""


def ensure(connection: Connection) -> list[str]:
    """Create the triggers that are missing or differ; their names."""
    mended = missing(connection)
    for name in mended:
        for statement in creating(name):
            connection.exec_driver_sql(statement)
    return mended


def creating(name: str) -> tuple[str, str, str]:
    """The statements that make one of ``TRIGGERS``, in place of any that is there."""
    made = TRIGGERS[name]
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path FROM CURRENT AS $calotype$BEGIN {made.body} END$calotype$",
        f"DROP TRIGGER IF EXISTS {name} ON {made.table}",
        f"CREATE TRIGGER {name} {made.when} ON {made.table} {made.transitions} "
        f"FOR EACH {made.each} EXECUTE FUNCTION {name}()",
    )


def dropping(name: str) -> str:
    """The statement that takes one away, with its function."""
    return f"DROP FUNCTION IF EXISTS {name}() CASCADE"


def drop(connection: Connection) -> None:
    """Drop every trigger of ours with its function."""
    for name in TRIGGERS:
        connection.exec_driver_sql(dropping(name))


_THERE = """
SELECT t.tgname, p.prosrc, c.relname, t.tgenabled <> 'D' FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
AND NOT t.tgisinternal
"""


def missing(connection: Connection) -> list[str]:
    """The names of triggers that are lost, switched off, or not as they should be."""
    there = {str(row[0]): tuple(row[1:]) for row in connection.exec_driver_sql(_THERE)}
    return [
        name
        for name, made in TRIGGERS.items()
        if there.get(name) != (f"BEGIN {made.body} END", made.table, True)
    ]
