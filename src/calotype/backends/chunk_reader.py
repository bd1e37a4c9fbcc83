"""A part of an object whose bytes are chunks in rows, read without holding a transaction."""

from __future__ import annotations

import io
from typing import BinaryIO

from calotype.backends import chunks
from calotype.backends.chunks import CHUNK, Found
from calotype.backends.seeking import Seeking
from calotype.backends.tables import Tables
from calotype.errors import NotFound


def chunk_reader(
    tables: Tables,
    name: str,
    found: Found,
    start: int,
    stop: int,
    ahead: tuple[int, bytes],
) -> BinaryIO:
    """Bytes ``start`` to before ``stop`` of the object that ``found`` is: buffered, seekable.

    Neither is past its size. ``ahead`` is the number of the first chunk that is wanted, and what
    was read of it already. Each further chunk is read in a transaction of its own.
    """
    reader = _Chunks(tables, name, found.version, start, stop)
    reader.hold(*ahead)
    return io.BufferedReader(reader)


class _Chunks(Seeking):
    """Holds one chunk at most. A version is never used again, so a reader whose object was deleted
    or replaced finds its own chunks or none.
    """

    def __init__(self, tables: Tables, name: str, version: int, start: int, stop: int) -> None:
        super().__init__(start, stop)
        self._tables = tables
        self._name = name
        self._version = version
        self._number = -1
        self._held = b""

    def hold(self, number: int, content: bytes) -> None:
        """Take what was read of a chunk already."""
        first, last = self._part(number)
        if first < last:
            self._number, self._held = number, self._whole(number, content, last - first)

    def _next(self, most: int) -> memoryview:
        """Of the chunk that comes next, which is held or read now."""
        if self._at >= self._stop:
            return memoryview(b"")
        number = self._at // CHUNK
        first, last = self._part(number)
        if number != self._number:
            with self._tables.reading() as connection:
                content = chunks.read(
                    connection, self._version, number, first % CHUNK, last - first
                )
            self._held = self._whole(number, content, last - first)
            self._number = number
        part = memoryview(self._held)[self._at - first :][:most]
        self._at += len(part)
        return part

    def _part(self, number: int) -> tuple[int, int]:
        """From where to where this reader wants the chunk."""
        return max(self._start, number * CHUNK), min(self._stop, (number + 1) * CHUNK)

    def _whole(self, number: int, content: bytes, length: int) -> bytes:
        if len(content) == length:
            return content
        raise self._lost(number)

    def _lost(self, number: int) -> NotFound:
        with self._tables.reading() as connection:
            found = chunks.find(connection, self._name)
        if found is not None and found.version == self._version:
            return NotFound(
                f"The chunk {number} of {self._name} is missing or of another length.",
                hint="Run 'calotype fsck --read-data', then put the same file again.",
            )
        return NotFound(
            f"{self._name} was deleted or replaced while it was read.", hint="Open it again."
        )
