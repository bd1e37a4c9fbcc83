"""What has to reach the disk before what: read off the calls of an operation that was traced.

Knows the layout of a store: its write-ahead log, its temporary files, and its objects. A power cut
takes what was not synced; SQLite's own order between its log and its file is SQLite's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tests.crash.tracing import Call

_LOG = "catalog.db-wal"
_WRITES = frozenset(("write", "pwrite64", "writev", "pwritev", "copy_file_range"))
_MOVES = frozenset(("rename", "renameat", "renameat2"))
_LINKS = frozenset(("link", "linkat"))
_FOLDERS = frozenset(("mkdir", "mkdirat"))
_UNLINKS = frozenset(("unlink", "unlinkat"))
_SPARE = re.compile(r"/blobs/spare(/|$)")
"""Room that a folder keeps back, of which nothing is promised."""

_SYNCS = frozenset(("fsync", "fdatasync"))


def unsafe(calls: Sequence[Call], word: str, *, lazy: bool) -> list[str]:
    """What a power cut would have lost right after ``word`` was said, or broken before.

    Only calls that did something count. A sync that failed has synced nothing, and may have let
    go of what it failed on: no later sync of the file says that it is there. The last rows of an
    operation that is ``lazy`` may be lost.
    """
    disk = _Disk()
    for call in calls:
        if word in call.heard:
            break
        if call.failed:
            disk.doubt(call)
        else:
            disk.take(call)
    lost = [path for path in disk.unsynced() if not (lazy and path.endswith(_LOG))]
    lost = [path for path in lost if not _SPARE.search(path)]
    return [*disk.broken, *(f"not on disk when it said {word}: {path}" for path in lost)]


class _Disk:
    """Which bytes and which names are in the cache alone."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self._bytes: set[str] = set()
        self._names: set[str] = set()
        self._doubted: set[str] = set()

    def doubt(self, call: Call) -> None:
        """Follow a call that failed."""
        if call.name in _SYNCS and call.path in self._bytes:
            self._doubted.add(call.path)

    def take(self, call: Call) -> None:
        """Follow one call."""
        name, path = call.name, call.path
        if name in _WRITES:
            self._bytes.add(path)
        elif name in _SYNCS:
            self._believe(path)
            self._names = {each for each in self._names if _folder(each) != path}
        elif name == "ftruncate" and path.endswith(_LOG):
            self._doubted.discard(path)  # SQLite empties its log, and no other way
        elif name == "syncfs":
            self._bytes &= self._doubted
            self._names.clear()
        elif name in _FOLDERS:
            self._names.add(path)
        elif name in _MOVES | _LINKS:
            self._place(call)
        elif name in _UNLINKS:
            self._remove(path)

    def _believe(self, path: str) -> None:
        """A sync; what was in a log is as good in its file."""
        if path not in self._doubted:
            self._bytes.discard(path)
        if (log := f"{path}-wal") in self._doubted:
            self._doubted.discard(log)
            self._bytes.discard(log)

    def _place(self, call: Call) -> None:
        if call.path in self._bytes:
            self.broken.append(f"it has a name before its bytes are synced: {call.to}")
            self._bytes.add(call.to)
        if call.name in _MOVES:
            self._bytes.discard(call.path)
            self._names.discard(call.path)
        self._names.add(call.to)

    def _remove(self, path: str) -> None:
        self._bytes.discard(path)
        self._doubted.discard(path)
        self._names.discard(path)
        if "/sha256/" in path and any(each.endswith(_LOG) for each in self._bytes):
            self.broken.append(f"deleted before the log that allows it is synced: {path}")

    def unsynced(self) -> list[str]:
        """Bytes and names that matter and are not safe."""
        return sorted(filter(_matters, self._bytes | self._names))


def _folder(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _matters(path: str) -> bool:
    name = PurePosixPath(path).name
    if "/tmp/" in path or name == "tmp" or name.startswith(".catalog.db."):
        return False
    return name not in ("catalog.db", "catalog.db-shm", "catalog.db-checkpoint")
