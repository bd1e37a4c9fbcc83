"""Looking into a store, and harming it, behind its back."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from calotype import Store
from calotype.backends import Backend, Key
from calotype.backends.markers import is_note
from calotype.catalog import postgres_triggers
from calotype.model import Finding


def backend_of(store: Store) -> Backend:
    return store._rooms.mounts._all[0].backend  # also where the catalog cannot be used


def rows(store: Store, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What the catalog answers."""
    with store._rooms.catalog.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(said(store, sql), parameters)]


def change(store: Store, sql: str, *parameters: Any) -> int:
    """Run a statement in a transaction of its own; how many rows it touched."""
    with store._rooms.catalog.write() as connection:
        return connection.exec_driver_sql(said(store, sql), parameters).rowcount


def said(store: Store, sql: str) -> str:
    """With the parameters' marks as the database's driver has them."""
    return sql if store._rooms.catalog.is_sqlite else sql.replace("%", "%%").replace("?", "%s")


def drop_trigger(store: Store, name: str) -> None:
    """Take a trigger of ours away."""
    on = "" if store._rooms.catalog.is_sqlite else f" ON {postgres_triggers.TRIGGERS[name].table}"
    change(store, f"DROP TRIGGER {name}{on}")


def change_trigger(store: Store, name: str) -> None:
    """Have a trigger of ours do nothing."""
    if store._rooms.catalog.is_sqlite:
        drop_trigger(store, name)
        change(store, f"CREATE TRIGGER {name} AFTER DELETE ON calotype_asset BEGIN SELECT 1; END")
    else:
        body = "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        change(store, f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger {body}")


def hold_back(store: Store, digest: str) -> None:
    """As an application's trigger could: no blob of this digest is deleted."""
    if store._rooms.catalog.is_sqlite:
        change(
            store,
            f"CREATE TRIGGER mine BEFORE DELETE ON calotype_blob WHEN OLD.digest = '{digest}' "
            "BEGIN SELECT RAISE(ABORT, 'mine'); END",
        )
        return
    change(
        store,
        "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        "RAISE EXCEPTION 'mine' USING ERRCODE = 'restrict_violation'; END$$",
    )
    change(
        store,
        "CREATE TRIGGER mine BEFORE DELETE ON calotype_blob FOR EACH ROW "
        f"WHEN (OLD.digest = '{digest}') EXECUTE FUNCTION mine()",
    )


def hold_back_no_more(store: Store) -> None:
    """The end of ``hold_back``."""
    change(
        store, "DROP TRIGGER mine" + ("" if store._rooms.catalog.is_sqlite else " ON calotype_blob")
    )


def harm_page(database: Path) -> None:
    """As a disk could, in a catalog at rest: one page of SQLite's counts its free bytes wrong."""
    with closing(sqlite3.connect(database)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = raw.execute("PRAGMA page_size").fetchone()
        (page,) = raw.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'calotype_blocked'"
        ).fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size + 7)
        file.write(b"\x09")


def states(store: Store, digest: str) -> list[str]:
    """The states of a digest's replicas, sorted."""
    return sorted(replica.state for replica in store.explain(digest).replicas)


def keys(store: Store, digest: str, state: str = "live") -> list[Key]:
    """The keys of a digest's replicas in ``state``."""
    found = [Key.parse(r.key) for r in store.explain(digest).replicas if r.state == state]
    return [key for key in found if key is not None]


def key_of(store: Store, digest: str) -> Key:
    """The key of the live replica."""
    [key] = keys(store, digest)
    return key


def objects(store: Store) -> dict[str, int]:
    """Every object of the backend and its size; notes of the store's own are left out."""
    everything = backend_of(store).scan()
    return {thing.name: thing.size for thing in everything if not is_note(thing.name)}


def write(store: Store, key: Key, content: bytes) -> None:
    """Put bytes at a key without asking the store."""
    backend_of(store).put(key, io.BytesIO(content), len(content))


def spoil(store: Store, digest: str) -> None:
    """Other bytes of the same size in place of the right ones."""
    key = key_of(store, digest)
    with backend_of(store).open(key) as file:
        content = bytearray(file.read())
    content[len(content) // 2] ^= 0xFF
    write(store, key, bytes(content))


def truncate(store: Store, digest: str) -> None:
    """Half of the bytes."""
    key = key_of(store, digest)
    with backend_of(store).open(key) as file:
        content = file.read()
    write(store, key, content[: len(content) // 2])


def lose(store: Store, digest: str) -> None:
    """No bytes at all."""
    backend_of(store).delete(key_of(store, digest))


def findings(store: Store, **options: Any) -> list[Finding]:
    """What fsck yields, a moment later: it re-reads what was not verified just now."""
    store._rooms.catalog.clock.advance(seconds=1)
    return list(store.fsck(**options))


def problems(store: Store) -> list[Finding]:
    """What a full fsck calls a problem; a sound store has none."""
    return [finding for finding in findings(store, read_data=True) if finding.is_problem]


def content(store: Any, digest: str) -> bytes:
    """What the store hands out."""
    with store.open(digest) as file:
        return file.read()
