"""Heartbeats: while bytes flow, gc is told that their writer lives."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from calotype.catalog import Catalog
from calotype.catalog.intents import Intent, beat
from calotype.errors import CalotypeError

BEAT = 60.0
"""Seconds between two beats; a writer without any is fenced off after 15 minutes."""


class Heart:
    """The beat of whoever writes the bytes of some intents. Safe across threads."""

    def __init__(self, catalog: Catalog, intents: Sequence[Intent]) -> None:
        self._catalog = catalog
        self._tokens = [intent.token for intent in intents]
        self._gate = threading.Lock()
        self._last = time.monotonic()

    def beat(self) -> None:
        """Tell gc, if that is a while ago; who cannot be told takes the writer for dead."""
        with self._gate:
            now = time.monotonic()
            if now - self._last < BEAT:
                return
            self._last = now
        with suppress(CalotypeError), self._catalog.write(durable=False) as connection:
            beat(connection, self._tokens, self._catalog.clock())


class _Beating(io.BufferedIOBase):
    """A file that calls ``beat`` whenever something is read of it."""

    def __init__(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        self._file = file
        self._beat = beat

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        self._beat()
        return self._file.read(-1 if size is None else size)

    def close(self) -> None:
        self._file.close()
        super().close()

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)


def beating(file: BinaryIO, beat: Callable[[], None]) -> BinaryIO:
    """``file``, read forward, with a beat at every read; its errors come out untouched."""
    return cast(BinaryIO, _Beating(file, beat))
