"""A part of an open file, read at an offset that it shares with no other reader."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import BinaryIO

from calotype.backends import folders
from calotype.backends.folders import NO_LINKS, READ, Folder, telling
from calotype.backends.seeking import Seeking
from calotype.errors import Corrupt


def open_file(folder: Folder, name: str, path: str) -> int:
    """A descriptor to read the file ``name``; ``Corrupt`` for a symbolic link or a socket."""
    try:
        return folder.open(name, READ)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _no_file(path) from None
        raise


def window(descriptor: int, path: str, start: int, stop: int | None) -> BinaryIO:
    """Bytes ``start`` to before ``stop``, clipped to the file: buffered, seekable.

    Takes the descriptor over, and closes it also when it raises: ``Corrupt`` for anything but a
    regular file. A disk that fails later fails the read with ``Unavailable``.
    """
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _no_file(path)
    except BaseException:
        os.close(descriptor)
        raise
    size = facts.st_size
    return io.BufferedReader(
        _Window(descriptor, path, min(start, size), size if stop is None else min(stop, size))
    )


class _Window(Seeking):
    """Bytes ``start`` to ``stop`` of a file, read at an offset that no other reader shares."""

    def __init__(self, descriptor: int, path: str, start: int, stop: int) -> None:
        super().__init__(start, stop)
        self._descriptor = descriptor
        self._path = path

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _next(self, most: int) -> bytes:
        with telling("read", self._path):
            chunk = _read_at(self._descriptor, max(0, min(most, self._stop - self._at)), self._at)
        self._at += len(chunk)
        return chunk


def _no_file(path: str) -> Corrupt:
    return Corrupt(f"Not a file: {path!r}.", hint=NO_LINKS)


def _read_at(descriptor: int, most: int, offset: int) -> bytes:
    if folders.DESCRIPTORS:
        return os.pread(descriptor, most, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, most)
