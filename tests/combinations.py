"""Every catalog with every backend: a store of each pair, for as many processes as want it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests import seaweed, servers, supabase_server
from tests.invariants import Objects, Row, Rows, broken_among, objects_in, rows_in

from calotype import Store
from calotype.backends import Backend, Key
from calotype.opening import open_backend

CATALOGS = ("sqlite", "postgres")
PLACES = ("local", "database", "s3", "supabase")
NAMES = [f"{catalog}-{place}" for catalog in CATALOGS for place in PLACES]


@dataclass(frozen=True, slots=True)
class Combination:
    """A store that any process can open: a catalog's folder or URL, a backend's, and its keys."""

    catalog: str
    backend: str
    keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def open(self, **options: Any) -> Store:
        """The store; from here on this process has the keys of its service."""
        os.environ.update(self.keys)
        options = {"backend": self.backend, "erase_delay": 0, **options}
        if self.is_sqlite:
            return Store(self.catalog, **options)
        return Store(catalog=self.catalog, **options)

    @property
    def is_sqlite(self) -> bool:
        """True where the catalog is a file."""
        return not self.catalog.startswith("postgresql:")

    def with_catalog(self, url: str) -> Combination:
        """The same store, whose catalog is reached by another URL."""
        return replace(self, catalog=url)

    def temporary(self) -> list[str]:
        """The names of temporary files, where the bytes are in a folder."""
        kind, _, folder = self.backend.partition(":")
        return sorted(each.name for each in Path(folder, "tmp").glob("*")) if kind == "file" else []

    @contextmanager
    def rows(self) -> Iterator[Rows]:
        """One view of the catalog's rows, without the store's code."""
        if self.is_sqlite:
            with rows_in(Path(self.catalog, "catalog.db")) as rows:
                yield rows
            return
        import psycopg

        with psycopg.connect(self.catalog, row_factory=_rows) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield Rows(lambda statement: connection.execute(statement), is_sqlite=False)

    def objects(self, backend: str = "") -> Objects:
        """What lies in a backend at our keys: in the first one, or in that of the URL."""
        url = backend or self.backend
        os.environ.update(self.keys)
        if url.startswith("file:"):
            found = objects_in(Path(url.removeprefix("file:")))
        elif url == "database:":
            found = self._in_tables()
        else:
            found = _of_service(open_backend(url))
        return replace(found, sizes={n: s for n, s in found.sizes.items() if n[:7] == "sha256/"})

    def _in_tables(self) -> Objects:
        with self.rows() as rows:
            there = rows.select("SELECT name, size FROM calotype_object WHERE name IS NOT NULL")
            sizes = {row["name"]: row["size"] for row in there}
        return Objects(sizes, self._from_table)

    def _from_table(self, name: str) -> bytes:
        assert re.fullmatch(r"[0-9a-z/~.]+", name)
        with self.rows() as rows:
            chunks = rows.select(
                "SELECT c.bytes FROM calotype_chunk c JOIN calotype_object o"
                f" ON o.version = c.version WHERE o.name = '{name}' ORDER BY c.number"
            )
            return b"".join(bytes(row["bytes"]) for row in chunks)

    def broken(self, **how: Any) -> list[str]:
        """The promises that do not hold in this store; see ``broken_invariants``."""
        with self.rows() as rows:
            urls = {
                row["name"]: row["url"] for row in rows.select("SELECT * FROM calotype_backend")
            }
        places = {name: self.objects(self._seen(url)) for name, url in urls.items()}
        with self.rows() as rows:
            return broken_among(rows, places, **how)

    def _seen(self, url: str) -> str:
        """As it is seen from here, where the catalog notes a folder beside itself."""
        if url.startswith("file:") and not url.startswith("file:/"):
            return f"file:{Path(self.catalog, url.removeprefix('file:'))}"
        return url


def combination(catalog: str, place: str, folder: Path) -> Combination:
    """A store that was never used."""
    where = str(folder / "store") if catalog == "sqlite" else servers.schema()
    url, keys = another(place, folder, "blobs")
    return Combination(where, url, keys)


def another(place: str, folder: Path, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The URL of an empty place for bytes, and the keys that open it.

    In a database it is the catalog's own, of which there is one.
    """
    if place == "s3":
        return seaweed.url(), tuple(seaweed.ENVIRONMENT.items())
    if place == "supabase":
        storage = supabase_server.running()
        return storage.bucket(), (("CALOTYPE_SUPABASE_KEY", storage.key),)
    if place == "database":
        return "database:", ()
    return f"file:{folder / name}", ()


def _of_service(backend: Backend) -> Objects:
    def read(name: str) -> bytes:
        key = Key.parse(name)
        assert key is not None
        with backend.open(key) as file:
            return file.read()

    return Objects({each.name: each.size for each in backend.scan()}, read)


class _Row(dict[str, Any]):
    """As ``sqlite3.Row`` is: by name and by number."""

    def __getitem__(self, at: str | int) -> Any:
        return [*self.values()][at] if isinstance(at, int) else super().__getitem__(at)


def _rows(cursor: Any) -> Any:
    names = [column.name for column in cursor.description or ()]

    def made(values: Any) -> Row:
        return _Row(zip(names, values, strict=True))

    return made
