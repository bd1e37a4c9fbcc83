"""Readers of a part of an object, each at a place of its own."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Seeking(io.RawIOBase):
    """Bytes ``start`` to ``stop`` of an object; 0 is where it starts. A subclass says ``_next``."""

    def __init__(self, start: int, stop: int) -> None:
        self._start = self._at = start
        self._stop = stop

    @abstractmethod
    def _next(self, most: int) -> ReadableBuffer:
        """Some bytes from ``_at`` on, at most so many, none only at the end; ``_at`` goes on."""

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may lie past the end; ``ValueError`` before the start."""
        origin = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._stop}[whence]
        if origin + offset < self._start:
            raise ValueError(f"a place before the beginning: {offset}")
        self._at = origin + offset
        return self._at - self._start

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill as much of ``buffer`` as comes at once."""
        view = memoryview(buffer).cast("B")
        chunk = memoryview(self._next(len(view)))
        view[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        """All that is left."""
        return b"".join(iter(lambda: bytes(self._next(max(1, self._stop - self._at))), b""))
