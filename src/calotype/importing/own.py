"""Own: files that are in use by the store itself, or hold the rows: no import's sources.

To read a database's file would be enough to harm it: SQLite's locks are POSIX's, and the first
close of any descriptor of a file lets go of all that this process has on it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from calotype.backends.markers import is_note
from calotype.catalog import Catalog
from calotype.catalog.failures import translated
from calotype.catalog.places import file_of
from calotype.errors import Misconfigured
from calotype.mounting import Mounts
from calotype.putting import Putter

# The hot path of an import; pathlib costs more than it is worth there:
# ruff: noqa: PTH116, PTH114

BESIDE = ("-wal", "-shm", "-journal", "-checkpoint", "-reserve")
"""How the names of files end that belong to a database."""

INNER = ("sha256", "tmp", "spare", "erased", "blocked")
"""Folders in which a store keeps what is its own, where its bytes are."""


def folders(putter: Putter) -> list[str]:
    """Where the store keeps bytes as files."""
    urls = [mount.url.partition(":") for mount in putter.mounts.all]
    return [folder for kind, _, folder in urls if kind == "file"]


def databases(putter: Putter) -> list[Path]:
    """Its databases' files."""
    found = (putter.catalog.path, *_of_bytes(putter.mounts))
    return [each for each in found if each is not None]


def _of_bytes(mounts: Mounts) -> list[Path | None]:
    urls = [mount.url for mount in mounts.all]
    return [file_of(url, None) for url in urls if url.startswith("sqlite:")]


def own(putter: Putter) -> set[tuple[int, int]]:
    """(device, inode) of the store's own folders of bytes and of its databases' files."""
    paths = folders(putter)
    found = set()
    with translated():
        for database in databases(putter):
            paths += [f"{database}{end}" for end in ("", *BESIDE)]
            copies = f"{glob.escape(database.name)}.schema*"  # made before an upgrade
            paths += map(str, database.parent.glob(copies))
        for path in paths:
            with suppress(FileNotFoundError):
                facts = os.stat(path)
                found.add((facts.st_dev, facts.st_ino))
    return found


class InUse:
    """Tells the files apart that rows or lists must not name; ``more`` are other databases."""

    def __init__(self, putter: Putter, more: Iterable[Path] = ()) -> None:
        files = [*databases(putter), *more]
        self._databases = {os.path.realpath(each) for each in files}
        self._files = {facts for each in files if (facts := _which(each)) is not None}
        self._folders = {os.path.realpath(each) for each in folders(putter)}

    def require_no_database(self, path: str | bytes | os.PathLike[str]) -> None:
        """``Misconfigured`` for a database that is in use, and what belongs to it."""
        real = os.path.realpath(os.fsdecode(path))
        beside = {real.removesuffix(end) for end in BESIDE if real.endswith(end)}
        if self._databases & {real, *beside} or _which(real) in self._files:
            raise _in_use(os.fsdecode(path))

    def require_source(self, path: Path) -> None:
        """``Misconfigured`` for that, and for whatever the store keeps where its bytes are."""
        self.require_no_database(path)
        real = Path(os.path.realpath(path))
        for folder in self._folders:
            if not real.is_relative_to(folder):
                continue
            inner = real.relative_to(folder)
            if (inner.parts[:1] and inner.parts[0] in INNER) or is_note(inner.as_posix()):
                raise Misconfigured(
                    f"{str(path)!r} is the store's own file; it was not removed.",
                    hint="Leave it: it is where the bytes are kept.",
                )


def require_no_database(catalog: Catalog, mounts: Mounts, source: object) -> None:
    """``Misconfigured`` for a path that leads to one of the store's own; cheap, for every put."""
    if not isinstance(source, str | os.PathLike):
        return
    path = os.fsdecode(source)
    real = os.path.realpath(path) if os.path.islink(path) else path
    end = next((each for each in BESIDE if real.endswith(each)), "")
    found = _which(real.removesuffix(end))
    if found is None:
        return
    of_bytes = [_which(each) for each in _of_bytes(mounts) if each is not None]
    if found in (catalog.database.identity(), *of_bytes):
        raise _in_use(path)


def _in_use(path: str) -> Misconfigured:
    return Misconfigured(
        f"{path!r} belongs to a database that is in use; it was not read.",
        hint="Leave it out: a copy of a database is made by its own tools.",
    )


def _which(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino
