"""Corpus M: catalogs of many rows made by SQL, with real files only where bytes are erased."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.places import cached, require_room
from calotype import Store

SIZE = 1024
"""Bytes of every synthetic blob, and of the files that are there for some of them."""

NOW = 1_700_000_000_000_000
BYTES_A_ROW = 1500


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A store's catalog of ``count`` blobs, each an asset that is kept for itself."""

    count: int

    @property
    def path(self) -> Path:
        """The catalog, made once: a single file, checkpointed."""
        path = cached(f"M-{self.count}") / "catalog.db"
        if not path.exists():
            require_room(2 * self.count * BYTES_A_ROW / (1 << 30), f"corpus M of {self.count}")
            draft = path.parent.with_name(f"{path.parent.name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            _make(draft, self.count)
            draft.rename(path.parent)
        return path

    def digests(self, step: int = 1) -> Iterator[str]:
        """Every ``step``-th digest, in no order."""
        return map(_digest, range(0, self.count, step))

    def copy(self, folder: Path) -> Path:
        """A store with this catalog in ``folder``, none of its bytes there yet."""
        shutil.copyfile(self.path, folder / "catalog.db")
        (folder / "blobs" / "sha256").mkdir(mode=0o700, parents=True)
        return folder

    def let_go(self, folder: Path, count: int) -> None:
        """End the keeping of ``count`` of a copy's assets long ago, and lay down their files."""
        chosen = list(islice(self.digests(self.count // count), count))
        random.Random(self.count).shuffle(chosen)
        with closing(_opened(folder / "catalog.db")) as connection, connection:
            connection.executemany(
                "UPDATE calotype_asset SET kept_until = ? WHERE scope = 'default' AND digest = ?",
                [(NOW + number, digest) for number, digest in enumerate(chosen)],
            )
        for digest in chosen:
            path = folder / "blobs" / _key(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"." * SIZE)


def _digest(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def _key(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest[2:4]}/{digest}.jpg"


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-500000")
    return connection


def _make(folder: Path, count: int) -> None:
    """Fill a real store's catalog: indexes and triggers away, sorted rows in, and back again."""
    with Store(folder) as store:
        store.put(b"the first")
    with closing(_opened(folder / "catalog.db")) as connection, connection:
        laid_aside = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') "
            "AND name LIKE 'calotype%' AND sql IS NOT NULL ORDER BY type"
        ).fetchall()
        for kind, name, _ in laid_aside:
            connection.execute(f"DROP {kind} {name}")
        _fill(connection, sorted(map(_digest, range(count))))
        for _, _, statement in laid_aside:
            connection.execute(statement)


def _fill(connection: sqlite3.Connection, digests: list[str]) -> None:
    connection.executemany(
        "INSERT INTO calotype_blob (digest, size, media_type, extension, width, height) "
        f"VALUES (?, {SIZE}, 'image/jpeg', 'jpg', 640, 480)",
        ((digest,) for digest in digests),
    )
    connection.executemany(
        "INSERT INTO calotype_replica (backend, key, digest, token, size, state, verified_at) "
        f"VALUES ('main', ?, ?, ?, {SIZE}, 'live', {NOW})",
        ((_key(digest), digest, digest[48:]) for digest in digests),
    )
    connection.executemany(
        "INSERT INTO calotype_asset (scope, digest, kept_until, filename, created_at) "
        f"VALUES ('default', ?, {2**63 - 1}, ?, {NOW})",
        ((digest, f"{digest[:12]}.jpg") for digest in digests),
    )
