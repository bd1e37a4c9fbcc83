"""Looking into a store, and harming it, behind its back."""

from __future__ import annotations

import io
from typing import Any

from calotype import Store
from calotype.backends import Backend, Key
from calotype.model import Finding


def backend_of(store: Store) -> Backend:
    return store._rooms.backend


def rows(store: Store, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What the catalog answers."""
    with store._rooms.catalog.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql, parameters)]


def change(store: Store, sql: str, *parameters: Any) -> int:
    """Run a statement in a transaction of its own; how many rows it touched."""
    with store._rooms.catalog.write() as connection:
        return connection.exec_driver_sql(sql, parameters).rowcount


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
    """Every object of the backend and its size."""
    return {thing.name: thing.size for thing in backend_of(store).scan()}


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
