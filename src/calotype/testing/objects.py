"""Objects for tests of backends: keys, bytes, and sources that behave badly."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import BinaryIO, cast

import pytest

from calotype.backends import Backend, Key
from calotype.digest import Digest
from calotype.errors import NotFound


class Broken(OSError):
    """What a source breaks with: no backend may take it for an error of its own disk or network."""


class Source:
    """Bytes to read forward only, in short reads, without seek, tell or readinto.

    ``breaks_at`` is the offset at which reading raises ``Broken``: the length for a source that
    verifies what it gave and refuses at its end. ``before`` is called before every read.
    """

    def __init__(
        self,
        content: bytes,
        *,
        breaks_at: int | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._rest = io.BytesIO(content)
        self._breaks_at = breaks_at
        self._before = before

    def read(self, size: int = -1) -> bytes:
        """A third of what was asked for at most, but something until the end."""
        self._before()
        if self._breaks_at is not None:
            if self._rest.tell() == self._breaks_at:
                raise Broken("the source broke")
            size = min(size % 2**62, self._breaks_at - self._rest.tell())
        return self._rest.read(max(1, size // 3) if size > 0 else size)


def source(content: bytes, **how: object) -> BinaryIO:
    """A ``Source`` as the file that a backend takes it for."""
    return cast(BinaryIO, Source(content, **how))  # type: ignore[arg-type]


def key(name: str, token: str = "", extension: str = "") -> Key:
    """A key that belongs to ``name``; backends do not look whether the bytes fit it."""
    return Key(Digest.of(name.encode()), token, extension)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress and differ for each seed."""
    return Random(seed).randbytes(size)


def put(backend: Backend, at: Key, content: bytes) -> None:
    """Put ``content`` whole."""
    backend.put(at, io.BytesIO(content), len(content))


def read(backend: Backend, at: Key, start: int = 0, stop: int | None = None) -> bytes:
    """What the backend holds at the key."""
    with backend.open(at, start, stop) as file:
        return file.read()


def names(backend: Backend, prefix: str = "") -> list[str]:
    """The names that a scan lists, in its order."""
    return [found.name for found in backend.scan(prefix)]


def absent(backend: Backend, at: Key) -> bool:
    """True where every way of asking says that there is no such object."""
    with pytest.raises(NotFound):
        backend.open(at)
    return backend.size(at) is None and str(at) not in names(backend)


def together(*calls: Callable[[], object]) -> None:
    """Run all of them at once, each on a thread; the first error comes out."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        gate.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in pool.map(run, calls):
            pass
