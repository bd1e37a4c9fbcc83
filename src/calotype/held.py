"""Where received bytes wait: in memory, in a temporary file, or nowhere any more."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from calotype.errors import Unavailable


class Held(Protocol):
    """Bytes that can be read from the start, any number of times."""

    def open(self) -> BinaryIO:
        """The bytes from the start."""
        ...

    def discard(self) -> None:
        """Let go of them."""
        ...


@dataclass(slots=True)
class InMemory:
    """Bytes that wait in memory."""

    data: bytes

    def open(self) -> BinaryIO:
        """The bytes from the start."""
        return io.BytesIO(self.data)

    def discard(self) -> None:
        """Let go of them."""
        self.data = b""


class Gone:
    """Bytes that were let go."""

    def open(self) -> BinaryIO:
        """``Unavailable``: they would have to be had again."""
        raise Unavailable("These bytes were let go.", hint="Put the file again.")

    def discard(self) -> None:
        """Nothing is left to let go of."""


class Spooled:
    """A temporary file of this machine's, for backends that have no file system of their own."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives until discard

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._file.write(chunk)

    def open(self) -> BinaryIO:
        """The bytes from the start."""
        self._file.flush()
        copy = os.fdopen(os.dup(self._file.fileno()), "rb")
        copy.seek(0)
        return copy

    def discard(self) -> None:
        """Let go of them."""
        self._file.close()
