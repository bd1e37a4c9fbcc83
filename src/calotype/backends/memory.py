"""Bytes in this process's memory: for tests, and the plainest reading of the port."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import BinaryIO

from calotype.backends import Key, Listed
from calotype.digest import CHUNK
from calotype.errors import NotFound, Unavailable
from calotype.quantities import Instant, now


def exactly(source: BinaryIO, size: int) -> Iterator[bytes]:
    """What ``source`` still holds, 1 MiB at a time; ``Unavailable`` unless it is ``size`` bytes.

    The source is read forward, past its last byte, so that one which verifies at its end has
    spoken before this is through. Its own errors come out untouched.
    """
    left = size
    while left > 0:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise Unavailable(
                f"The source ended early: {size - left} of {size} bytes; nothing was stored.",
                hint="It was cut off or changed while it was read; send it again.",
            )
        left -= len(chunk)
        yield chunk
    if left < 0 or source.read(1):
        raise Unavailable(
            f"The source went on after the {size} bytes announced; nothing was stored.",
            hint="It changed while it was read; send it again.",
        )


class MemoryBackend:
    """Objects in a dictionary: gone with the process, private to it, safe across its threads."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, Instant]] = {}
        self._notes: dict[str, tuple[bytes, Instant]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """``memory:``."""
        return "memory:"

    def put(self, key: Key, source: BinaryIO, size: int) -> None:
        """Store exactly ``size`` bytes; ``Unavailable`` where the source has fewer or more."""
        content = b"".join(exactly(source, size))
        with self._lock:
            self._objects[str(key)] = content, now()

    def open(self, key: Key, start: int = 0, stop: int | None = None) -> BinaryIO:
        """The bytes from ``start`` to before ``stop``; ``NotFound`` where there is no object."""
        with self._lock:
            content, _ = self._objects.get(str(key), (None, 0))
        if content is None:
            raise NotFound(f"No object {key} in memory.")
        return io.BytesIO(content[start:stop])

    def size(self, key: Key) -> int | None:
        """The object's size in bytes, or None."""
        with self._lock:
            content, _ = self._objects.get(str(key), (None, 0))
        return None if content is None else len(content)

    def delete(self, key: Key) -> None:
        """Forget the object; nothing happens where there is none."""
        with self._lock:
            self._objects.pop(str(key), None)

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """The objects of this moment whose names begin with ``prefix``, sorted by name."""
        with self._lock:
            everything = {**self._objects, **self._notes}
        for name in sorted(name for name in everything if name.startswith(prefix)):
            with self._lock:
                held = self._notes if name in self._notes else self._objects
                content, modified = held.get(name, (None, 0))
            if content is not None:
                yield Listed(name, len(content), modified)

    def write_note(self, name: str, content: bytes, *, instead_of: bytes | None = None) -> bool:
        """Write the note, if what is there is ``instead_of``; False, and nothing written, else."""
        with self._lock:
            there, _ = self._notes.get(name, (None, 0))
            if there not in (instead_of, content):
                return False
            self._notes[name] = content, now()
            return True

    def read_note(self, name: str) -> bytes | None:
        """The note, or None."""
        with self._lock:
            return self._notes.get(name, (None, 0))[0]

    def delete_note(self, name: str) -> None:
        """Forget the note; nothing happens where there is none."""
        with self._lock:
            self._notes.pop(name, None)
