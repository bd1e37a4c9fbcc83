"""The triggers that watch the catalog, whoever writes to it: candidates for gc, and row guards.

Three kinds. *Look* triggers append a candidate when something that kept an asset or blob may have
ended; they only ever insert, so no writer waits for another, and gc's work follows the garbage.
*Guard* triggers hold the foreign keys on connections that did not switch them on, keep blobs
immutable, and notice INSERT OR REPLACE, which removes rows without firing delete triggers. One
*doom* trigger lets go of the bytes of a blob that somebody deleted by hand.

None of them names a table of the application: a trigger that did would break the application's
own ALTER TABLE (SQLite checks every trigger's body when a table is renamed).
"""

from __future__ import annotations

from sqlalchemy import Connection

from calotype.catalog import postgres_triggers
from calotype.catalog.states import AT_WORK
from calotype.quantities import FOREVER

_SECOND_NOW = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
_LOOK = "INSERT INTO calotype_candidate (digest, look_at) "
_ASSET_OF_NEW = "SELECT 1 FROM calotype_asset WHERE scope = NEW.scope AND digest = NEW.digest"
_BLOB_OF_NEW = "SELECT 1 FROM calotype_blob WHERE digest = NEW.digest"
_REFERENCES_OF_OLD = (
    "SELECT 1 FROM calotype_reference WHERE digest = OLD.digest AND scope = OLD.scope"
)
_IN_FLIGHT = "('planned', 'sending', 'unknown')"


def _abort(message: str) -> str:
    return f"SELECT RAISE(ABORT, 'calotype: {message}');"


SQLITE: dict[str, str] = {
    "calotype_asset_look_insert": (
        f"AFTER INSERT ON calotype_asset WHEN NEW.kept_until < {FOREVER} "
        f"BEGIN {_LOOK} VALUES (NEW.digest, NEW.kept_until); END"
    ),
    "calotype_asset_look_update": (
        "AFTER UPDATE OF kept_until, scope, digest ON calotype_asset "
        "WHEN NEW.kept_until <> OLD.kept_until OR NEW.scope <> OLD.scope "
        "OR NEW.digest <> OLD.digest "
        f"BEGIN {_LOOK} SELECT NEW.digest, NEW.kept_until WHERE NEW.kept_until < {FOREVER}; "
        f"{_LOOK} SELECT OLD.digest, 0 WHERE OLD.digest <> NEW.digest; END"
    ),
    "calotype_asset_look_delete": (
        f"AFTER DELETE ON calotype_asset BEGIN {_LOOK} VALUES (OLD.digest, 0); END"
    ),
    "calotype_reference_look_update": (
        "AFTER UPDATE OF released_at, scope, digest ON calotype_reference "
        "WHEN NEW.released_at IS NOT OLD.released_at OR NEW.scope <> OLD.scope "
        "OR NEW.digest <> OLD.digest "
        f"BEGIN {_LOOK} VALUES (OLD.digest, coalesce(NEW.released_at, {_SECOND_NOW})); END"
    ),
    "calotype_reference_look_delete": (
        "AFTER DELETE ON calotype_reference WHEN OLD.released_at IS NULL "
        f"BEGIN {_LOOK} VALUES (OLD.digest, {_SECOND_NOW}); END"
    ),
    "calotype_derivation_look_update": (
        "AFTER UPDATE OF output_digest ON calotype_derivation "
        "WHEN OLD.output_digest IS NOT NULL AND NEW.output_digest IS NOT OLD.output_digest "
        f"BEGIN {_LOOK} VALUES (OLD.output_digest, 0); END"
    ),
    "calotype_derivation_look_delete": (
        "AFTER DELETE ON calotype_derivation WHEN OLD.output_digest IS NOT NULL "
        f"BEGIN {_LOOK} VALUES (OLD.output_digest, 0); END"
    ),
    "calotype_provider_upload_look_update": (
        "AFTER UPDATE OF state ON calotype_provider_upload "
        f"WHEN NEW.state NOT IN {_IN_FLIGHT} "
        f"BEGIN {_LOOK} VALUES (OLD.digest, {_SECOND_NOW}); END"
    ),
    "calotype_provider_upload_look_delete": (
        "AFTER DELETE ON calotype_provider_upload "
        f"BEGIN {_LOOK} VALUES (OLD.digest, {_SECOND_NOW}); END"
    ),
    "calotype_asset_look_replace": (
        f"BEFORE INSERT ON calotype_asset WHEN EXISTS ({_ASSET_OF_NEW}) "
        f"BEGIN {_LOOK} VALUES (NEW.digest, {_SECOND_NOW}); END"
    ),
    "calotype_reference_look_replace": (
        "BEFORE INSERT ON calotype_reference "
        f"BEGIN {_LOOK} SELECT digest, {_SECOND_NOW} FROM calotype_reference WHERE id = NEW.id "
        f"UNION ALL SELECT digest, {_SECOND_NOW} FROM calotype_reference "
        "WHERE scope = NEW.scope AND owner_kind = NEW.owner_kind AND owner_id = NEW.owner_id "
        "AND role = NEW.role AND released_at IS NULL AND NEW.released_at IS NULL; END"
    ),
    "calotype_reference_look_update_or_replace": (
        "BEFORE UPDATE OF id, scope, owner_kind, owner_id, role, released_at "
        f"ON calotype_reference BEGIN {_LOOK} SELECT digest, {_SECOND_NOW} "
        "FROM calotype_reference WHERE id = NEW.id AND id <> OLD.id "
        f"UNION ALL SELECT digest, {_SECOND_NOW} FROM calotype_reference "
        "WHERE scope = NEW.scope AND owner_kind = NEW.owner_kind AND owner_id = NEW.owner_id "
        "AND role = NEW.role AND released_at IS NULL AND NEW.released_at IS NULL "
        "AND id <> OLD.id; END"
    ),
    "calotype_derivation_look_replace": (
        "BEFORE INSERT ON calotype_derivation "
        f"BEGIN {_LOOK} SELECT output_digest, 0 FROM calotype_derivation "
        "WHERE audience = NEW.audience AND input_digest = NEW.input_digest "
        "AND recipe = NEW.recipe AND version = NEW.version "
        "AND params_hash = NEW.params_hash AND output_digest IS NOT NULL; END"
    ),
    "calotype_blob_guard_insert": (
        "BEFORE INSERT ON calotype_blob WHEN EXISTS (SELECT 1 FROM calotype_blob "
        "WHERE digest = NEW.digest AND (size <> NEW.size OR media_type <> NEW.media_type "
        "OR extension <> NEW.extension OR width IS NOT NEW.width OR height IS NOT NEW.height)) "
        f"BEGIN {_abort('a blob is immutable')} END"
    ),
    "calotype_blob_guard_update": (
        f"BEFORE UPDATE ON calotype_blob BEGIN {_abort('a blob is immutable')} END"
    ),
    "calotype_blob_guard_delete": (
        "BEFORE DELETE ON calotype_blob "
        "WHEN EXISTS (SELECT 1 FROM calotype_asset WHERE digest = OLD.digest) "
        "OR EXISTS (SELECT 1 FROM calotype_derivation WHERE output_digest = OLD.digest "
        "AND input_digest <> OLD.digest) "
        f"BEGIN {_abort('the blob is still referenced')} END"
    ),
    "calotype_blob_doom_delete": (
        "AFTER DELETE ON calotype_blob BEGIN UPDATE calotype_replica "
        f"SET state = 'doomed', doomed_at = {_SECOND_NOW}, due_at = {_SECOND_NOW} "
        "WHERE digest = OLD.digest AND (state = 'live' "
        f"OR (state = 'writing' AND due_at <= {_SECOND_NOW} + {AT_WORK})); END"
    ),
    "calotype_asset_guard_insert": (
        f"BEFORE INSERT ON calotype_asset WHEN NOT EXISTS ({_BLOB_OF_NEW}) "
        f"BEGIN {_abort('no such blob')} END"
    ),
    "calotype_asset_guard_update": (
        "BEFORE UPDATE OF scope, digest ON calotype_asset "
        "WHEN NEW.scope <> OLD.scope OR NEW.digest <> OLD.digest "
        f"BEGIN {_abort('an asset keeps its scope and digest')} END"
    ),
    "calotype_asset_guard_delete": (
        f"BEFORE DELETE ON calotype_asset WHEN EXISTS ({_REFERENCES_OF_OLD}) "
        f"BEGIN {_abort('the asset is still referenced')} END"
    ),
    "calotype_reference_guard_insert": (
        f"BEFORE INSERT ON calotype_reference WHEN NOT EXISTS ({_ASSET_OF_NEW}) "
        f"BEGIN {_abort('no such asset')} END"
    ),
    "calotype_reference_guard_update": (
        "BEFORE UPDATE OF scope, digest ON calotype_reference "
        f"WHEN NOT EXISTS ({_ASSET_OF_NEW}) "
        f"BEGIN {_abort('no such asset')} END"
    ),
}
"""SQLite's triggers: name -> what follows ``CREATE TRIGGER name``."""


def ensure(connection: Connection) -> list[str]:
    """Create the triggers that are missing or differ; their names. Runs in the transaction."""
    if connection.dialect.name != "sqlite":
        return postgres_triggers.ensure(connection)
    mended = missing(connection)
    for name in mended:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {SQLITE[name]}")
    return mended


def drop(connection: Connection) -> None:
    """Drop every trigger of ours, as tables are about to change."""
    if connection.dialect.name != "sqlite":
        postgres_triggers.drop(connection)
        return
    for name in SQLITE:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")


def missing(connection: Connection) -> list[str]:
    """The names of triggers that are lost or not as they should be."""
    if connection.dialect.name != "sqlite":
        return postgres_triggers.missing(connection)
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'calotype\\_%' "
        "ESCAPE '\\'"
    )
    present = {str(name): str(sql) for name, sql in rows}
    return [
        name
        for name, body in SQLITE.items()
        if present.get(name) != f"CREATE TRIGGER {name} {body}"
    ]
