"""Temporary files on a backend's own disk: written, synced and renamed into place."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, Self

from calotype.backends import folders
from calotype.backends.folders import CREATE, READ, Folder, telling
from calotype.backends.window import window
from calotype.errors import Unavailable

FEW = 4
"""Up to so many files are synced one by one; more of them by one sync of their disk."""


class Witness:
    """A descriptor from before some writes: a sync of the disk by it hears of each that failed.

    Several files that rest may share one: it closes ``descriptor`` when the last of them is gone.
    A failure is told once by the system, and here to everyone who asks from then on.
    """

    __slots__ = ("__weakref__", "_descriptor", "_failed", "_gate", "_process", "_spent")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gate = threading.Lock()
        self._failed: OSError | None = None
        self._process = os.getpid()
        self._spent = False

    @property
    def fresh(self) -> bool:
        """True until it was asked; and not in a forked child, which shares it with its parent."""
        return not self._spent and self._process == os.getpid()

    def sync_disk(self) -> bool:
        """Make the whole disk durable; False, and nothing done, where that says less than fsync."""
        with self._gate:
            self._spent = True
            if self._failed is not None:
                raise self._failed
            try:
                return folders.sync_disk(self._descriptor)
            except OSError as error:
                self._failed = error
                raise

    def __del__(self) -> None:
        os.close(self._descriptor)


class LocalStaged:
    """A temporary file: one thread writes it, any may then read.

    It is held open until it rests or is discarded.
    """

    __slots__ = ("_discarded", "_file", "_name", "_root", "_witness", "opened")

    def __init__(self, root: str, folder: Folder) -> None:
        last = os.urandom(16).hex()
        self._root = root
        self._name = f"tmp/{last}"
        self._discarded = False
        self._witness: Witness | None = None
        self.opened = time.monotonic_ns()
        self._file: io.FileIO | None = io.FileIO(folder.open(last, CREATE), "r+")
        folders.hold(self._file.fileno())

    @classmethod
    def whole(cls, root: str, folder: Folder, witness: Witness | None, content: bytes) -> Self:
        """A file in ``folder``, the temporary one, that has its content and rests."""
        staged = cls.__new__(cls)
        last = os.urandom(16).hex()
        staged._root, staged._name, staged._discarded = root, f"tmp/{last}", False
        staged.opened, staged._file, staged._witness = time.monotonic_ns(), None, witness
        descriptor = folder.open(last, CREATE)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if folders.DESCRIPTORS:
                os.fchmod(descriptor, 0o444)
        except BaseException:
            staged.discard()
            raise
        finally:
            os.close(descriptor)
        return staged

    @property
    def published(self) -> bool:
        """True once it lies at a key."""
        return not self._name.startswith("tmp/")

    @property
    def _held(self) -> io.FileIO | None:
        """Its descriptor, while it is held open; one that rests hears of no failed write."""
        return None if self._file is None or self._file.closed else self._file

    def write(self, chunk: bytes) -> None:
        """Append; ``ValueError`` once it was published or discarded."""
        if self.published or self._file is None:
            raise ValueError("write to a published file, or to one that rests")
        rest = memoryview(chunk)
        with telling("write", self._root, self._name):
            while rest:
                rest = rest[self._file.write(rest) :]

    def rest(self, witness: Witness | None) -> None:
        """End the writing and hold nothing open of its own; ``witness`` is older than it is."""
        if (held := self._held) is not None:
            self.seal()
            self._witness = witness
            folders.hold_no_more(held.fileno())
            held.close()

    def watched(self) -> Witness | None:
        """A witness of its writes, and of what was opened since; None where there is none."""
        if (held := self._held) is None or not folders.DESCRIPTORS:
            return self._witness
        return Witness(os.dup(held.fileno()))

    def open(self) -> BinaryIO:
        """A reader of its own from the beginning; it outlives ``publish`` and ``discard``."""
        with telling("open", self._root, self._name):
            return window(self._descriptor(), f"{self._root}/{self._name}", 0, None)

    def _descriptor(self) -> int:
        """A descriptor of the file, of the caller's own."""
        if self._discarded:
            raise Unavailable(
                f"The temporary file {f'{self._root}/{self._name}'!r} was discarded.",
                hint="Put it again.",
            )
        if (held := self._held) is not None and folders.DESCRIPTORS:
            return os.dup(held.fileno())
        place, _, last = self._name.rpartition("/")
        with Folder.opened(self._root, place) as folder:
            return folder.open(last, READ)

    def seal(self) -> None:
        """Make it read-only: nothing is written any more. ``ValueError`` once it was discarded."""
        if self._discarded:
            raise ValueError("publish of a closed, discarded file")
        if (held := self._held) is not None and folders.DESCRIPTORS:
            with telling("protect", self._root, self._name):
                os.fchmod(held.fileno(), 0o444)

    def sync(self) -> None:
        """Make its bytes durable."""
        with telling("sync", self._root, self._name):
            descriptor = self._descriptor()
            try:
                folders.sync(descriptor)
            finally:
                os.close(descriptor)
        if not folders.DESCRIPTORS and self._file is not None:  # Windows renames no open file
            self._file.close()

    def sync_disk(self) -> bool:
        """Make its whole disk durable; False, and nothing done, where that says less than fsync.

        Only a descriptor that was there before a write hears of its failure.
        """
        witness = self._witness
        with telling("sync the disk of", self._root, self._name):
            if (held := self._held) is not None and folders.DESCRIPTORS:
                return folders.sync_disk(held.fileno())
            return witness is not None and witness.sync_disk()

    def rename(self, folder: Folder, name: str) -> None:
        """Move it into ``folder``, to the last part of ``name``, in place of what is there."""
        folder.take(f"{self._root}/{self._name}", name.rpartition("/")[2])
        self._name = name

    def become(self, other: LocalStaged) -> None:
        """Take over the file of ``other``, and let go of this one's."""
        if self._file is not None:
            self._file.close()
        self._file, self._name, self.opened = other._file, other._name, other.opened
        self._witness = other._witness
        self._discarded = False

    def discard(self) -> None:
        """Release the descriptor, and remove the file unless published; what fails is for sweep."""
        self._discarded = True
        with suppress(OSError):
            if self._file is not None:
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
