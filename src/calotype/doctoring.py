"""Doctor: what of a store's surroundings is unwise or broken, and what mends it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calotype.backends import Remote
from calotype.backends.local import LocalBackend
from calotype.belonging import look
from calotype.catalog import Catalog, health, schema, sqlite
from calotype.catalog.columns import Hosts
from calotype.errors import CalotypeError, RoleCascades, Unavailable
from calotype.mounting import Mount
from calotype.presence import require_there
from calotype.store import Store

Level = Literal["ok", "warn", "fail"]
LITTLE_ROOM = 256 << 20
_RESTORE = "Restore a copy, or use sqlite3's .recover."


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was looked at: how it is, and the command that mends it."""

    level: Level
    subject: str
    note: str
    cure: str = ""


def require(store: Store) -> None:
    """Raise ``NoStore`` where the store was never made."""
    catalog_of(store).require()


def catalog_of(store: Store) -> Catalog:
    """The catalog that a store works on."""
    return store._rooms.catalog


def migrate(store: Store, revision: str | None) -> Path | None:
    """Bring the catalog up, or down to ``revision``; the copy made before, where one was needed.

    Makes the tables where a database is there without them; ``NoStore`` where there is none.
    """
    catalog, found = catalog_of(store), _schema_to_leave(store, revision)
    if revision is None and (found is None or found == schema.CURRENT):
        catalog.ensure()
        return None
    return schema.to(catalog, revision or "head")


def schema_of(store: Store, revision: str | None) -> int | None:
    """The schema from which ``migrate`` would go, None for a database without tables.

    Nothing is changed, and a schema that ``migrate`` refuses is refused.
    """
    from calotype.catalog import migrations

    found = _schema_to_leave(store, revision)
    if revision is None and found == schema.CURRENT:
        catalog_of(store).require()
        return found
    with catalog_of(store).database.reading() as connection:
        migrations.require_known(connection, found or 0)
    if found is None:
        catalog_of(store).rehearse()
    return found


def _schema_to_leave(store: Store, revision: str | None) -> int | None:
    """The schema that there is; ``NoStore``, ``SchemaAhead``, and ``Corrupt`` for a lost one."""
    catalog = catalog_of(store)
    if catalog.database.identity() is None:
        catalog.require()
    with catalog.database.reading() as connection:
        found = schema.number(connection)
    if found is None and not catalog.exists() and revision is not None:
        catalog.require()
    if found is not None and found > schema.CURRENT:
        schema.require_current(found, catalog)
    return found


def script(store: Store) -> str:
    """The SQL that ``migrate`` would run on PostgreSQL; nothing is changed."""
    from calotype.catalog.migrations.script import script as spelled

    return spelled(catalog_of(store))


def hosts_of(store: Store) -> Hosts:
    """The application's columns, as the store sees them."""
    return store._rooms.hosts


def examine(store: Store) -> Iterator[Remark]:
    """Look at everything around the store; lost triggers are made again."""
    catalog = catalog_of(store)
    try:
        catalog.require()
    except Unavailable as error:
        unusable: Unavailable | None = error
    else:
        unusable = None
    yield _version(catalog)
    yield from _places(catalog)
    if unusable is not None:
        yield Remark("fail", "catalog", str(unusable), unusable.hint)
        return
    yield from _bytes(store)
    with catalog.read() as connection:
        lost = [*health.lost_tables(connection), *health.lost_indexes(connection)]
    for name in lost:
        yield Remark("fail", "catalog", f"{name} is lost", "calotype fsck --repair")
    if not lost:
        yield from _triggers(catalog)
    with catalog.read() as connection:
        for damage in health.damages(connection):
            cure = "calotype fsck --repair" if health.hurt_indexes([damage]) else _RESTORE
            yield Remark("fail", "catalog", f"the catalog is damaged: {damage}", cure)
        for note in health.broken(connection):
            yield Remark("fail", "catalog", note, _RESTORE)
        for note, cure in health.warnings(connection, hosts_of(store), own=catalog.own):
            yield Remark("warn", "settings", note, cure)
        yield _cascades(hosts_of(store), connection)


def _version(catalog: Catalog) -> Remark:
    if not catalog.is_sqlite:
        known = getattr(catalog.engine.dialect, "server_version_info", None) or ()
        return Remark("ok", "postgres", f"PostgreSQL {'.'.join(map(str, known))}".strip())
    version = sqlite3.sqlite_version
    if sqlite.wal_reset_bug():
        return Remark("ok", "sqlite", f"SQLite {version}; one checkpointer at a time is needed")
    return Remark("ok", "sqlite", f"SQLite {version}")


def _may_be_read_by_all(path: Path) -> bool:
    """True where not even its folder keeps others out."""
    try:
        return bool(path.stat().st_mode & 0o004 and path.parent.stat().st_mode & 0o001)
    except OSError:
        return False


def _places(catalog: Catalog) -> Iterator[Remark]:
    if catalog.path is None:
        return
    try:
        free = shutil.disk_usage(catalog.path.parent).free
    except OSError:  # what is the matter with it is told of the catalog
        return
    kind = sqlite.file_system(catalog.path)
    if kind in sqlite.NETWORK:
        cure = "Move the catalog to a local disk."
        yield Remark("fail", "disk", f"the catalog lies on {kind}", cure)
    for place in (catalog.path, catalog.path.parent):
        if os.access(place, os.F_OK) and not os.access(place, os.W_OK):
            yield Remark("fail", "rights", f"{place} may not be written", "chmod, or another user")
    if catalog.own and _may_be_read_by_all(catalog.path):
        note = f"{catalog.path} may be read by all, and holds the keys of signed URLs"
        yield Remark("warn", "rights", note, f"chmod 600 {catalog.path}")
    if free < LITTLE_ROOM:
        yield Remark("warn", "disk", f"only {free >> 20} MiB are free", "Free some space.")
    else:
        yield Remark("ok", "disk", f"{free >> 20} MiB free on {kind or 'this disk'}")


def _bytes(store: Store) -> Iterator[Remark]:
    rooms = store._rooms
    for mount in rooms.mounts.all:
        try:
            require_there(rooms.catalog, mount)
            if isinstance(mount.backend, Remote):
                mount.backend.reach()
        except CalotypeError as error:
            yield Remark("fail", "bytes", str(error), error.hint)
        else:
            yield Remark("ok", "bytes", f"in {mount.url}")
            yield from _rights(mount)
            yield _erasing(rooms.catalog, mount)
    for name in not_yet_added(store):
        note = f"the backend {name!r} is configured, and the store does not have it"
        yield Remark("warn", "bytes", note, f"calotype backend add {name}")


def _rights(mount: Mount) -> Iterator[Remark]:
    if isinstance(mount.backend, LocalBackend):
        for place in mount.backend.shut():
            cure = f"chown {place}, or run as its owner"
            yield Remark("fail", "rights", f"{place} may not be written", cure)


def _erasing(catalog: Catalog, mount: Mount) -> Remark:
    """Whether gc may erase there."""
    try:
        found = look(catalog, mount)
    except CalotypeError as error:
        return Remark("fail", "erasing", str(error), error.hint)
    if found.fault is None:
        return Remark("ok", "erasing", f"the bytes in {mount.name} are this catalog's")
    note = f"locked in the backend {mount.name!r}: {found.why}"
    return Remark("fail", "erasing", note, found.mends)


def not_yet_added(store: Store) -> list[str]:
    """Names of backends that are configured, and that the store does not have."""
    return store._rooms.mounts.unknown


def _triggers(catalog: Catalog) -> Iterator[Remark]:
    with catalog.read() as connection:
        lost = health.lost_triggers(connection)
    if not lost:
        yield Remark("ok", "triggers", "all there")
        return
    try:
        with catalog.write() as connection:
            health.mend_triggers(connection)
    except CalotypeError as error:
        yield Remark("fail", "triggers", f"{len(lost)} are lost: {error}", error.hint)
        return
    yield Remark("warn", "triggers", f"{len(lost)} were lost and are made again", "calotype fsck")


def _cascades(hosts: Hosts, connection: object) -> Remark:
    try:
        hosts.refuse_cascades(connection)  # type: ignore[arg-type]
    except RoleCascades as error:
        return Remark("fail", "columns", str(error), error.hint)
    return Remark("ok", "columns", "no foreign key of the application cascades")
