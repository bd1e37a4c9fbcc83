"""Temporary files on a backend's own disk: written, synced and renamed into place."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

from calotype.backends import folders
from calotype.backends.folders import CREATE, READ, Folder, telling
from calotype.backends.window import window
from calotype.errors import Unavailable

# pathlib knows no directory descriptors:
# ruff: noqa: PTH118


FEW = 4
"""So many files or directories are synced one by one; more of them by one sync of the disk."""


class LocalStaged:
    """A temporary file: one thread writes it, any may then read; holds it open until discarded."""

    __slots__ = ("_file", "_name", "_root", "opened")

    def __init__(self, root: str) -> None:
        self._root = root
        self._name = os.urandom(16).hex()
        self.opened = time.monotonic_ns()
        with Folder.opened(root, "tmp") as folder:
            descriptor = folder.open(self._name, CREATE)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    @property
    def published(self) -> bool:
        """True once it lies at a key."""
        return "/" in self._name

    @property
    def path(self) -> str:
        """Where it lies."""
        places = self._name.split("/") if self.published else ("tmp", self._name)
        return os.path.join(self._root, *places)

    def write(self, chunk: bytes) -> None:
        """Append; ``ValueError`` once it was published or discarded."""
        if self.published:
            raise ValueError("write to a published file")
        rest = memoryview(chunk)
        with telling("write", self.path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def open(self) -> BinaryIO:
        """A reader of its own from the beginning; it outlives ``publish`` and ``discard``."""
        with telling("open", self.path):
            again = os.dup(self._file.fileno()) if folders.DESCRIPTORS else os.open(self.path, READ)
            return window(again, self.path, 0, None)

    def seal(self) -> None:
        """Make it read-only: nothing is written any more."""
        if folders.DESCRIPTORS:
            with telling("protect", self.path):
                os.fchmod(self._file.fileno(), 0o444)

    def sync(self) -> None:
        """Make its bytes durable."""
        with telling("sync", self.path):
            folders.sync(self._file.fileno())
        if not folders.DESCRIPTORS:  # Windows renames no open file
            self._file.close()

    def sync_disk(self) -> bool:
        """Make its whole disk durable; False, and nothing done, where that says less than fsync."""
        with telling("sync the disk of", self.path):
            return folders.DESCRIPTORS and folders.sync_disk(self._file.fileno())

    def rename(self, name: str) -> None:
        """Move it to ``name`` below the root, in place of what is there."""
        place, _, last = name.rpartition("/")
        with Folder.opened(self._root, "tmp") as tmp, Folder.opened(self._root, place) as folder:
            os.replace(
                tmp.at(self._name),
                folder.at(last),
                src_dir_fd=tmp.descriptor,
                dst_dir_fd=folder.descriptor,
            )
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
                folder.unlink(self._name)


def sync_files(staged: Sequence[LocalStaged], oldest: LocalStaged) -> None:
    """Make all of them durable or discard them all: a second sync after a failure proves nothing.

    ``oldest`` was opened before any other was written, so it hears of every failed write.
    """
    try:
        if len(staged) <= FEW or not oldest.sync_disk():
            for each in staged:
                each.sync()
    except Unavailable:
        for each in staged:
            each.discard()
        raise
