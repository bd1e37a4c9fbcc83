"""A bounded view of content, in memory or in a file."""

from __future__ import annotations

from typing import BinaryIO

LIMIT = 1 << 16
"""Bytes handed out at a time, at most."""

_BLOCK = 1 << 12


class Broken(Exception):
    """The content is not what its own header says, or ends too early; never leaves this room."""


class Window:
    """Random access to the first ``size`` bytes of ``source``, at most ``LIMIT`` at a time.

    Not safe to share between threads.
    """

    __slots__ = ("_block", "_file", "_start", "size")

    def __init__(self, source: bytes | BinaryIO, size: int) -> None:
        self._start = 0
        if isinstance(source, bytes):
            self._file = None
            self._block = source
            self.size = min(size, len(source))
        else:
            self._file = source
            self._block = b""
            self.size = size

    def at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer at the end or over the limit."""
        stop = min(offset + min(count, LIMIT), self.size)
        if stop <= offset:
            return b""
        if self._file is not None and not self._holds(offset, stop):
            self._block = _read(self._file, offset, max(stop - offset, _BLOCK))
            self._start = offset
        return self._block[offset - self._start : stop - self._start]

    def take(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes from ``offset``; ``Broken`` where there are fewer."""
        piece = self.at(offset, count)
        if len(piece) < count:
            raise Broken
        return piece

    def _holds(self, offset: int, stop: int) -> bool:
        return self._start <= offset and stop <= self._start + len(self._block)


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    block = file.read(count)
    while len(block) < count and (more := file.read(count - len(block))):
        block += more
    return block
