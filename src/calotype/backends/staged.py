"""Temporary files on a backend's own disk: written, synced and renamed into place."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

from calotype.backends import folders
from calotype.backends.folders import CREATE, READ, Folder, telling
from calotype.backends.window import window
from calotype.errors import Unavailable

FEW = 4
"""Up to so many files are synced one by one; more of them by one sync of their disk."""


class LocalStaged:
    """A temporary file: one thread writes it, any may then read; holds it open until discarded."""

    __slots__ = ("_file", "_name", "_root", "opened")

    def __init__(self, root: str) -> None:
        last = os.urandom(16).hex()
        self._root = root
        self._name = f"tmp/{last}"
        self.opened = time.monotonic_ns()
        with Folder.opened(root, "tmp") as folder:
            self._file = io.FileIO(folder.open(last, CREATE), "r+")

    @property
    def published(self) -> bool:
        """True once it lies at a key."""
        return not self._name.startswith("tmp/")

    def write(self, chunk: bytes) -> None:
        """Append; ``ValueError`` once it was published or discarded."""
        if self.published:
            raise ValueError("write to a published file")
        rest = memoryview(chunk)
        with telling("write", self._root, self._name):
            while rest:
                rest = rest[self._file.write(rest) :]

    def open(self) -> BinaryIO:
        """A reader of its own from the beginning; it outlives ``publish`` and ``discard``."""
        path = f"{self._root}/{self._name}"
        if self._file.closed and folders.DESCRIPTORS:
            raise Unavailable(f"The temporary file {path!r} was discarded.", hint="Put it again.")
        with telling("open", path):
            again = os.dup(self._file.fileno()) if folders.DESCRIPTORS else os.open(path, READ)
            return window(again, path, 0, None)

    def seal(self) -> None:
        """Make it read-only: nothing is written any more."""
        if folders.DESCRIPTORS:
            with telling("protect", self._root, self._name):
                os.fchmod(self._file.fileno(), 0o444)

    def sync(self) -> None:
        """Make its bytes durable."""
        with telling("sync", self._root, self._name):
            folders.sync(self._file.fileno())
        if not folders.DESCRIPTORS:  # Windows renames no open file
            self._file.close()

    def sync_disk(self) -> bool:
        """Make its whole disk durable; False, and nothing done, where that says less than fsync."""
        with telling("sync the disk of", self._root, self._name):
            return folders.DESCRIPTORS and folders.sync_disk(self._file.fileno())

    def rename(self, folder: Folder, name: str) -> None:
        """Move it into ``folder``, to the last part of ``name``, in place of what is there."""
        folder.take(f"{self._root}/{self._name}", name.rpartition("/")[2])
        self._name = name

    def become(self, other: LocalStaged) -> None:
        """Take over the file of ``other``, and let go of this one's."""
        self._file.close()
        self._file, self._name, self.opened = other._file, other._name, other.opened

    def discard(self) -> None:
        """Release the descriptor, and remove the file unless published; what fails is for sweep."""
        with suppress(OSError):
            self._file.close()
        if not self.published:
            with suppress(OSError), Folder.opened(self._root, "tmp") as folder:
                folder.unlink(self._name.removeprefix("tmp/"))


def sync_files(staged: Sequence[LocalStaged]) -> LocalStaged | None:
    """Make all of them durable, or discard them all: a second sync after a failure proves nothing.

    Returns None where each was synced by itself. Where their whole disk was, returns the one that
    was opened first: its descriptor hears of every write that failed since.
    """
    try:
        if len(staged) > FEW:
            oldest = min(staged, key=lambda each: each.opened)
            if oldest.sync_disk():
                return oldest
        for each in staged:
            each.sync()
    except Unavailable:
        for each in staged:
            each.discard()
        raise
    return None
