"""Files to and from a store without blocking the event loop: async sources, and async reading."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from inspect import iscoroutinefunction
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from calotype.aio.threads import Threads
from calotype.digest import CHUNK
from calotype.errors import Misconfigured
from calotype.staging import Content, Gathering, as_bytes

PIECE = 1 << 20
"""So many bytes of a source are taken in one go, or more where it gives more."""


class AsyncReadable(Protocol):
    """A file whose reading is awaited, as web frameworks give it for a form's."""

    async def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


def pieces_of(source: object) -> AsyncIterator[bytes] | None:
    """What an async iterable or a file whose reading is awaited gives; None for anything else."""
    if isinstance(source, AsyncIterable):
        return aiter(source)
    if iscoroutinefunction(getattr(source, "read", None)):
        return _read(cast(AsyncReadable, source))
    return None


async def _read(file: AsyncReadable) -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE):
        yield piece


async def received(
    source: AsyncIterator[bytes], begin: Callable[[], Gathering], threads: Threads
) -> Content:
    """Everything that ``source`` gives, hashed; no thread waits while it gives nothing.

    Memory stays bounded: what is large goes to disk. Nothing is left where it fails, and a
    generator is closed.
    """
    gathering = await threads.run(begin)
    pending = bytearray()
    try:
        async for piece in source:
            pending += as_bytes(piece)
            if len(pending) >= PIECE:
                await threads.run(gathering.take, bytes(pending))
                pending.clear()
        await threads.run(gathering.take, bytes(pending))
        return await threads.run(gathering.content)
    except BaseException:
        try:
            await threads.surely(gathering.discard)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        raise


class AsyncFile:
    """The bytes of an asset: ``async with store.open(digest) as file``.

    Read it, or iterate it for chunks. A full read is verified, as that of ``Store.open`` is.
    """

    def __init__(self, opening: Callable[[], BinaryIO], threads: Threads) -> None:
        self._opening = opening
        self._threads = threads
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        """Open it; ``NotFound`` where the scope has no visible asset."""
        self._file = await self._threads.run(self._opening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes from where it stands, in chunks of 1 MiB at most."""
        while chunk := await self.read(CHUNK):
            yield chunk

    async def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, or all that are left; none at the end."""
        return await self._threads.run(self._opened().read, size)

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there; where that is, from the beginning."""
        return await self._threads.run(self._opened().seek, offset, whence)

    async def close(self) -> None:
        """Let go of it. Harmless to repeat."""
        file, self._file = self._file, None
        if file is not None:
            await self._threads.surely(file.close)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise Misconfigured(
                "The file is not open.", hint="Write: async with store.open(digest) as file."
            )
        return self._file
