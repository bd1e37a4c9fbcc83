"""Receiving bytes: any source, hashed and counted once, held in memory or in one staged file."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from calotype import giving_up, media
from calotype.backends import Backend, Staged, Stages
from calotype.digest import CHUNK, Digest
from calotype.errors import (
    DecompressionBomb,
    Denied,
    Misconfigured,
    NotAnImage,
    NotFound,
    TooLarge,
    Unavailable,
)
from calotype.held import Gone, Held, InMemory, Spooled
from calotype.model import Facts
from calotype.stamp import Stamp

SMALL = 8 << 20
"""Contents up to this many bytes stay in memory until it is known that they are new."""

Located = str | os.PathLike[str] | os.PathLike[bytes]
Source: TypeAlias = (
    "Located | BinaryIO | Iterable[bytes] | bytes | bytearray | memoryview | Content"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a store accepts: bytes of one file, pixels of an image that may ever be decoded."""

    file_size: int | None = None
    pixels: int = media.PIXEL_LIMIT


@dataclass(eq=False)
class Content:
    """Received bytes: their digest and size, and where they wait to be kept or dropped.

    ``again`` receives them once more, from a source that has them still; ``stamp`` is that of a
    file when it was opened. ``home`` is the backend beside which they are staged.
    """

    digest: Digest
    size: int
    held: Held
    pixel_limit: int = media.PIXEL_LIMIT
    again: Callable[[], Content] | None = None
    stamp: Stamp | None = None
    home: Stages | None = field(default=None, repr=False)
    _published: bool = field(default=False, repr=False)

    @cached_property
    def facts(self) -> Facts:
        """What the bytes say about themselves; read when first asked for."""
        if isinstance(self.held, InMemory):
            return media.read(self.held.data, self.size, pixel_limit=self.pixel_limit)
        with self.held.open() as file:
            return media.read(file, self.size, pixel_limit=self.pixel_limit)

    @property
    def in_memory(self) -> int:
        """How many bytes wait in memory."""
        return self.size if isinstance(self.held, InMemory) else 0

    @property
    def is_gone(self) -> bool:
        """True for bytes that were let go."""
        return isinstance(self.held, Gone)

    @property
    def on_disk(self) -> int:
        """How many bytes wait on disk."""
        return 0 if isinstance(self.held, InMemory | Gone) else self.size

    def let_go(self) -> None:
        """Hold no bytes, where they can be had again should they be wanted after all."""
        if self.again is not None:
            self.held.discard()
            self.held = Gone()

    def recall(self) -> None:
        """Have the bytes again that were let go; ``Unavailable`` where others are there now."""
        if self.again is None or not self.is_gone:
            return
        fresh = self.again()
        if fresh.digest != self.digest:
            fresh.discard()
            raise Unavailable("The file changed while it was put.", hint="Put it again.")
        self.held, self.home = fresh.held, fresh.home
        self._published = False

    def lay_down(self, backend: Backend) -> None:
        """Move the bytes from memory to a staged file of the backend, if it stages."""
        staging = staging_of(backend)
        if staging is not None and isinstance(self.held, InMemory):
            _ = self.facts
            self.held, self.home = self._copied(staging), staging

    def staged(self, backend: Stages) -> Staged:
        """The bytes as a staged file of ``backend``; a second time it is a new one.

        So it is where they are staged beside another one, which was the primary before.
        """
        if self._published and self.again is not None:
            self.let_go()
            self.recall()
        if self.home is backend and not self._published:
            self._published = True
            return cast(Staged, self.held)
        return self._copied(backend)

    def _copied(self, backend: Stages) -> Staged:
        fresh = backend.stage()
        try:
            with self.held.open() as file:
                while chunk := file.read(CHUNK):
                    fresh.write(chunk)
        except BaseException:
            fresh.discard()
            raise
        return fresh

    def require_image(self) -> None:
        """Raise ``DecompressionBomb`` or ``NotAnImage`` unless these are the bytes of an image."""
        if self.facts.bomb:
            raise DecompressionBomb(
                f"The image has more than {self.pixel_limit} pixels; nothing was stored.",
                hint="Make it smaller, raise the limit of pixels, or put it as any file.",
            )
        if not self.facts.is_image:
            raise NotAnImage(
                f"These bytes are {self.facts.media_type}, not a readable image; "
                "nothing was stored.",
                hint="Check the file, or put it as any file, not as an image.",
            )

    def discard(self) -> None:
        """Let go of memory and temporary files."""
        self.held.discard()


def receive(source: Source, backend: Backend, limits: Limits, *, in_memory: int = SMALL) -> Content:
    """Read ``source`` to its end and hash it.

    Nothing touches the disk for contents up to ``in_memory`` bytes. Raises ``TooLarge`` at the
    limit, ``NotFound``, ``Denied`` or ``Misconfigured`` for a path that is no readable file, and
    lets an error of the source itself pass; nothing is left behind then.
    """
    if isinstance(source, Content):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        check_size(len(data), limits)
        return Content(Digest.of(data), len(data), InMemory(data), limits.pixels)
    if isinstance(source, str | os.PathLike):
        content = _from_file(source, backend, limits, in_memory)
        content.again = partial(receive, source, backend, limits, in_memory=in_memory)
        return content
    return _gather(_chunks(source), backend, limits, in_memory)


def known(digest: Digest, size: int, again: Callable[[], Content], limits: Limits) -> Content:
    """Bytes known from an earlier look; ``again`` reads them, should they be wanted after all."""
    return Content(digest, size, Gone(), limits.pixels, again)


def _from_file(path: Located, backend: Backend, limits: Limits, in_memory: int) -> Content:
    """The file at ``path``; a small one in one read, for calls are most of what it costs."""
    handle, found = open_regular(path)
    try:
        check_size(found.st_size, limits)
        content = _read_whole(handle, found.st_size, backend, limits, in_memory)
    except OSError as error:
        raise Unavailable(
            f"Reading {os.fsdecode(path)!r} failed: {error.strerror}.", hint="Try again."
        ) from error
    finally:
        os.close(handle)
    content.stamp = Stamp.of(found)
    return content


def _read_whole(
    handle: int, size: int, backend: Backend, limits: Limits, in_memory: int
) -> Content:
    if size > in_memory:
        return _gather(_pieces_of(handle), backend, limits, in_memory)
    if len(data := os.read(handle, size + 1)) == size:
        return Content(Digest.of(data), size, InMemory(data), limits.pixels)
    pieces = chain([data], _pieces_of(handle))  # being written, or without a size as in /proc
    return _gather(pieces, backend, limits, in_memory)


class Gathering:
    """Bytes that come piece by piece: hashed, counted, and held in memory or staged."""

    def __init__(self, backend: Backend, limits: Limits, in_memory: int = SMALL) -> None:
        self._staging = staging_of(backend)
        self._limits = limits
        self._in_memory = in_memory
        self._sha = hashlib.sha256()
        self._start = io.BytesIO()
        self._size = 0
        self._spill: Staged | Spooled | None = None

    def take(self, chunk: bytes) -> None:
        """The next piece; ``TooLarge`` at the limit."""
        giving_up.check()
        self._size += len(chunk)
        check_size(self._size, self._limits)
        self._sha.update(chunk)
        if self._spill is None and self._size <= self._in_memory:
            self._start.write(chunk)
            return
        if self._spill is None:
            self._spill = self._staging.stage() if self._staging is not None else Spooled()
            self._spill.write(self._start.getvalue())
            self._start = io.BytesIO()
        self._spill.write(chunk)

    def content(self) -> Content:
        """What has come, as a whole."""
        home = self._staging if self._spill is not None else None
        held = self._spill or InMemory(self._start.getvalue())
        found = Digest.known(self._sha.hexdigest())
        return Content(found, self._size, held, self._limits.pixels, home=home)

    def discard(self) -> None:
        """Let go of what has come."""
        if self._spill is not None:
            self._spill.discard()


def _gather(chunks: Iterator[bytes], backend: Backend, limits: Limits, in_memory: int) -> Content:
    gathering = Gathering(backend, limits, in_memory)
    try:
        for chunk in chunks:
            gathering.take(chunk)
    except BaseException:
        gathering.discard()
        raise
    return gathering.content()


def check_size(size: int, limits: Limits) -> None:
    """Raise ``TooLarge`` for more bytes than are accepted."""
    if limits.file_size is not None and size > limits.file_size:
        raise TooLarge(
            f"The file has more than {limits.file_size} bytes; nothing was stored.",
            hint="Raise [limits] file_size, or put a smaller file.",
        )


def _chunks(source: object) -> Iterator[bytes]:
    if hasattr(source, "read"):
        return _read(cast(BinaryIO, source))
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise Misconfigured(
            f"Cannot put a {type(source).__qualname__}.",
            hint="Give a path, bytes, a binary file or an iterator of bytes.",
        )
    return map(as_bytes, source)


def as_bytes(piece: object) -> bytes:
    """What an iterator gave; ``Misconfigured`` unless it is bytes."""
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise Misconfigured(
            f"An iterator gave {type(piece).__qualname__} where bytes were expected.",
            hint="Put each file on its own, or use put_many for a list of paths.",
        )
    return bytes(piece)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while True:
        chunk: object = file.read(CHUNK)
        if chunk is None:
            raise Unavailable(
                "The source has nothing to read for now; nothing was stored.",
                hint="Make it blocking: a put reads to the end.",
            )
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise Misconfigured("The file was opened in text mode.", hint="Open it with mode 'rb'.")
        if not chunk:
            return
        yield bytes(chunk)


def open_regular(path: Located) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file and its stat; never waits on a fifo, never reads a device."""
    try:
        handle = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError):
        shown = os.fsdecode(path)
        dangling = Path(shown).is_symlink()
        raise NotFound(
            f"{'A broken symlink' if dangling else 'No such file'}: {shown!r}.",
            hint="Check the path.",
        ) from None
    except PermissionError:
        raise Denied(
            f"The file {os.fsdecode(path)!r} may not be read.", hint="Check its permissions."
        ) from None
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"Cannot open {os.fsdecode(path)!r}: {error}.", hint="Check the path."
        ) from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise Misconfigured(
            f"Not a regular file: {os.fsdecode(path)!r}.",
            hint="Give files: a folder's one by one, a pipe's content as a stream.",
        )
    return handle, found


_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _pieces_of(handle: int) -> Iterator[bytes]:
    while chunk := os.read(handle, CHUNK):
        yield chunk


@cache
def _can_stage(kind: type) -> bool:
    return issubclass(kind, Stages)


def staging_of(backend: Backend) -> Stages | None:
    """The backend, if it stages."""
    return cast(Stages, backend) if _can_stage(type(backend)) else None
