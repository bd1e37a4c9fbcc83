"""Stores that are dumped, cloned, put back and lost: every catalog beside every kind of backend."""

from __future__ import annotations

import io
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests import seaweed, servers, supabase_server
from tests.store.places import Clock

from calotype import Store
from calotype.backends import Key
from calotype.backends.markers import MARKER, Marker, is_note
from calotype.digest import Digest
from calotype.errors import Corrupt

CATALOGS = ("sqlite", "postgresql")
BACKENDS = ("folder", "database", "s3", "supabase")


@dataclass
class World:
    """One place for bytes, and catalogs that may all be taken for its own."""

    catalog: str
    kind: str
    root: Path
    clock: Clock
    bytes_at: str = ""
    opened: list[Store] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bytes_at = {
            "folder": lambda: f"file:{self.root}/bytes",
            "database": lambda: self._database("bytes"),
            "s3": seaweed.url,
            "supabase": lambda: supabase_server.running().bucket(),
        }[self.kind]()
        self.production = self._database("production")

    def open(self, catalog: str = "") -> Store:
        """A store with the catalog at that URL; production's unless told otherwise."""
        made = Store(catalog=catalog or self.production, backend=self.bytes_at, clock=self.clock)
        self.opened.append(made)
        return made

    def close(self) -> None:
        for store in self.opened:
            store.close()
        self.opened.clear()

    def dump(self, catalog: str = "") -> Path:
        """A copy of a catalog as it is now: production's, unless told otherwise."""
        self.close()
        catalog = catalog or self.production
        target = self.root / f"dump-{uuid.uuid4().hex[:8]}"
        if self.catalog == "sqlite":
            with closing(sqlite3.connect(_file(catalog))) as raw:
                raw.execute(f"VACUUM INTO '{target}'")
        else:
            dumped = _run("pg_dump", "--clean", "--if-exists", catalog)
            target.write_bytes(dumped)
        return target

    def load(self, dump: Path, catalog: str = "") -> None:
        """Put a dump in place of what is there: in production, unless told otherwise."""
        self.close()
        catalog = catalog or self.production
        if self.catalog == "sqlite":
            self.lose(catalog)
            shutil.copy(dump, _file(catalog))
        else:
            _run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump), catalog)

    def staging(self, dump: Path, name: str = "staging") -> str:
        """The URL of a catalog of its own that was made from a dump."""
        catalog = self._database(name)
        self.load(dump, catalog)
        return catalog

    def lose(self, catalog: str = "") -> None:
        """No catalog at all: production's, unless told otherwise."""
        self.close()
        catalog = catalog or self.production
        if self.catalog == "sqlite":
            for end in ("", "-wal", "-shm", "-checkpoint", "-reserve"):
                Path(f"{_file(catalog)}{end}").unlink(missing_ok=True)
        else:
            _tell(catalog, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def _database(self, name: str) -> str:
        if self.catalog == "sqlite":
            (self.root / name).mkdir()
            return f"sqlite:///{self.root}/{name}/app.db"
        made = f"{name}_{uuid.uuid4().hex[:12]}"
        _tell(servers.postgres(), f"CREATE DATABASE {made}")
        return urlunsplit(urlsplit(servers.postgres())._replace(path=f"/{made}"))


def names(store: Store) -> list[str]:
    """The objects that lie there."""
    return [found.name for found in bytes_of(store).scan("sha256/")]


def marker(store: Store) -> Marker:
    """What the backend says of itself."""
    content = bytes_of(store).read_note(MARKER)
    assert content is not None
    return Marker.of(content)


def bytes_of(store: Store) -> Any:
    """The primary, also where the catalog is lost."""
    mounts = store._rooms.mounts
    with suppress(Corrupt):
        return mounts.primary.backend
    return mounts.opened_with.backend


def put_at(store: Store, digest: str, content: bytes) -> Key:
    """Bytes at the plain key of a digest, without asking the store."""
    key = Key(Digest(digest))
    bytes_of(store).put(key, io.BytesIO(content), len(content))
    return key


def notes(store: Store, prefix: str = "") -> list[str]:
    """The names of what the backend notes."""
    return [each.name for each in bytes_of(store).scan(prefix) if is_note(each.name)]


def erases(store: Store, owner: str = "page/0") -> int:
    """How many files go with this owner."""
    store.release(owner)
    return store.gc(now=True).erased


def save(shop: Store, root: Path) -> None:
    """Close the store in a folder, and keep a copy of its catalog."""
    shop.close()
    shutil.copy(root / "shop/catalog.db", root / "older.db")


def put_back(root: Path) -> None:
    """The copy of the catalog in place of it."""
    for end in ("-wal", "-shm"):
        (root / f"shop/catalog.db{end}").unlink(missing_ok=True)
    shutil.copy(root / "older.db", root / "shop/catalog.db")


def gone_back(shop: Store, root: Path, clock: Clock, since: Callable[[Store], None]) -> Store:
    """The store with the catalog that it had before ``since(store)``."""
    save(shop, root)
    with Store(root / "shop", clock=clock) as store:
        since(store)
    put_back(root)
    return Store(root / "shop", clock=clock)


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _tell(url: str, sql: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)


def _run(program: str, *arguments: str) -> bytes:
    found = servers.programs() / program
    return subprocess.run([found, *arguments], check=True, capture_output=True, timeout=60).stdout
