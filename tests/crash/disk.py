"""What of a folder has reached the disk, followed call by call, and what a power cut may leave.

The disk of nightmares that POSIX allows: bytes and names that were not synced are lost or kept one
by one, in any order, files are torn at sectors, and syncing a file does not sync its name. Only a
rename stays one thing. SQLite's shared memory counts for nothing after a cut, and is left empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash.tracing import Call

SECTOR = 512
_EMPTY = "-shm"
_SYNCS = frozenset(("fsync", "fdatasync"))

Image = Mapping[str, bytes | None]
"""What lies below the folder, by path; None for a folder."""


@dataclass(slots=True)
class _File:
    durable: bytes
    current: bytes


@dataclass(slots=True)
class _Folder:
    durable: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)


class Disk:
    """The disk below ``root``, of which ``top`` alone counts; at first everything is durable."""

    def __init__(self, root: Path, top: str) -> None:
        self._root = root
        self._top = top
        self._at = root.stat().st_ino
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {}
        self._look()
        self._settle()

    def take(self, call: Call) -> bool:
        """Follow a call that has succeeded; True where a cut may leave something else now."""
        if call.name == "syncfs":
            self._settle()
        elif call.name in _SYNCS:
            self._synced(self._root / call.path)
        elif call.kind == "change":
            self._look()
            self._read(self._root / call.path)
            self._read(self._root / call.to)
        return call.kind in ("change", "sync") and not call.path.endswith(_EMPTY)

    def left(self, dice: Random | None) -> Image:
        """What a cut leaves now: nothing that was not synced, or what the dice say of it."""
        kept = _Chance(dice)
        return dict(self._below(self._at, "", kept))

    def _look(self) -> None:
        """See every name there is now."""
        seen = self._list(self._root, self._at, only=self._top)
        while seen:
            path, inode = seen.pop()
            if path.is_dir():
                seen += self._list(path, inode)
            elif inode not in self._files:
                self._files[inode] = _File(b"", path.read_bytes())

    def _list(self, path: Path, inode: int, only: str = "") -> list[tuple[Path, int]]:
        found = [each for each in os.scandir(path) if only in ("", each.name)]
        folder = self._folders.setdefault(inode, _Folder())
        folder.current = {each.name: each.inode() for each in found}
        return [(path / each.name, each.inode()) for each in found]

    def _read(self, path: Path) -> None:
        if path.is_file() and (file := self._files.get(path.stat().st_ino)):
            file.current = path.read_bytes()

    def _synced(self, path: Path) -> None:
        if path.is_dir():
            folder = self._folders[path.stat().st_ino]
            folder.durable = folder.current
        elif path.exists():
            self._read(path)
            file = self._files[path.stat().st_ino]
            file.durable = file.current

    def _settle(self) -> None:
        for folder in self._folders.values():
            folder.durable = folder.current
        for file in self._files.values():
            file.durable = file.current

    def _below(self, inode: int, prefix: str, kept: _Chance) -> Iterator[tuple[str, bytes | None]]:
        folder = self._folders[inode]
        for name in sorted(folder.durable.keys() | folder.current.keys()):
            before, after = folder.durable.get(name), folder.current.get(name)
            found = after if before != after and kept.name(after or before) else before
            if found in self._folders:
                yield f"{prefix}{name}", None
                yield from self._below(found, f"{prefix}{name}/", kept)
            elif found is not None:
                file = self._files[found]
                yield f"{prefix}{name}", b"" if name.endswith(_EMPTY) else kept.bytes(found, file)


class _Chance:
    """One throw for each file: two names of it are moved together, and hold the same bytes."""

    def __init__(self, dice: Random | None) -> None:
        self._dice = dice
        self._names: dict[int | None, bool] = {}
        self._bytes: dict[int, bytes] = {}

    def name(self, inode: int | None) -> bool:
        """Whether its new name, or the loss of its old one, has reached the disk."""
        if inode not in self._names:
            self._names[inode] = self._dice is not None and self._dice.random() < 0.5
        return self._names[inode]

    def bytes(self, inode: int, file: _File) -> bytes:
        """What of its bytes has."""
        if inode not in self._bytes:
            self._bytes[inode] = self._torn(file)
        return self._bytes[inode]

    def _torn(self, file: _File) -> bytes:
        if self._dice is None or file.durable == file.current:
            return file.durable
        how = self._dice.choice(("none", "all", "torn"))
        if how != "torn":
            return file.durable if how == "none" else file.current
        size = self._dice.choice((len(file.durable), len(file.current)))
        sources = [source.ljust(size, b"\0") for source in (file.durable, file.current)]
        torn = (self._dice.choice(sources)[at : at + SECTOR] for at in range(0, size, SECTOR))
        return b"".join(torn)[:size]


def place(image: Image, root: Path) -> None:
    """Make what lies below ``root`` what the image says; there must be nothing of it yet."""
    for path, content in image.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)
