"""Open: bytes out, never wrong ones without an error."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import Connection

from calotype.catalog import Catalog, copies, replicas
from calotype.catalog.copies import Copy
from calotype.digest import CHUNK, Digest
from calotype.errors import CalotypeError, Corrupt, Misconfigured, NotFound, Unavailable
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.staging import SMALL

MENDS = "Put the same file again: that mends it."


def _permit_all(_: Connection, __: Digest) -> None:
    """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What reading needs: the rows, the places of the bytes, and who may have them.

    ``permit`` raises what refuses a digest, in the same view of the catalog in which its copy is
    looked up.
    """

    catalog: Catalog
    mounts: Mounts
    permit: Callable[[Connection, Digest], object] = _permit_all

    def open(self, digest: Digest, start: int | None = None, stop: int | None = None) -> BinaryIO:
        """The bytes of ``digest``, or those from ``start`` to before ``stop``.

        A full read is verified: up to 8 MiB before the first byte, above that while it flows,
        and then the last chunk is held back until the whole hashes to its name. ``Corrupt``
        where it does not, and the copy is marked so that the next put of the file mends it; a
        full read that is sound takes such a mark off. A range rests on the size alone.

        A copy that is missing, damaged or cannot be reached gives way to one in another backend.
        """
        errors: dict[str, CalotypeError] = {}
        while True:
            copy = self._copy(digest, errors)
            try:
                return self._open(copy, start, stop)
            except CalotypeError as error:
                errors[copy.token] = error

    def _open(self, copy: Copy, start: int | None, stop: int | None) -> BinaryIO:
        size = copy.blob.size
        first, last = _clip(start, stop, size)
        if (first, last) == (0, size) and size <= SMALL:
            return self._whole(copy)
        backend = self._mount(copy).backend
        if backend.size(copy.key) != size:
            raise self._damaged(copy, "its bytes are missing or of another length")
        if (first, last) != (0, size):
            if copy.suspect:
                raise self._damaged(copy, "its bytes were found damaged before", anew=False)
            return backend.open(copy.key, first, last)
        file = backend.open(copy.key)
        return io.BufferedReader(_Verifying(file, copy, self._read_whole, self._damaged), CHUNK)

    def _read_whole(self, copy: Copy, digest: str) -> None:
        """A copy was read from start to end, and hashes to ``digest``."""
        if digest != copy.blob.digest:
            raise self._damaged(copy, "its bytes do not hash to its name")
        self._sound(copy)

    def _copy(self, digest: Digest, failed: Mapping[str, CalotypeError]) -> Copy:
        """The copy to read next: a trusted one of the primary best; none that ``failed``."""
        with self.catalog.read() as connection:
            self.permit(connection, digest)
            found = copies.live_anywhere(connection, [digest])
        left = [copy for copy in found if copy.token not in failed]
        if left:
            return self.mounts.best_first(left)[0]
        if any(copy.token in failed for copy in found):
            raise _told(failed.values())
        raise NotFound(f"No bytes of {digest}.", hint="Put the file again.")

    def _mount(self, copy: Copy) -> Mount:
        return self.mounts.named(copy.backend)

    def _whole(self, copy: Copy) -> BinaryIO:
        try:
            with self._mount(copy).backend.open(copy.key) as file:
                data = file.read()
        except NotFound:
            raise self._damaged(copy, "its bytes are missing") from None
        if Digest.of(data) != copy.blob.digest:
            raise self._damaged(copy, "its bytes do not hash to its name")
        self._sound(copy)
        return io.BytesIO(data)

    def _sound(self, copy: Copy) -> None:
        """Trust a copy again that was marked before and read whole since."""
        if copy.suspect_at is not None:
            with suppress(CalotypeError), self.catalog.write(patience=0) as connection:
                replicas.clear(connection, copy.token, copy.suspect_at, self.catalog.clock())

    def _damaged(self, copy: Copy, what: str, *, anew: bool = True) -> CalotypeError:
        """Mark the copy suspect, unless it was let go meanwhile; the error to raise.

        A mark that cannot be written is left to the next one who finds the damage.
        """
        require_there(self.catalog, self._mount(copy))
        with self.catalog.read() as connection:
            now = copies.live_anywhere(connection, [copy.blob.digest])
        if copy.token not in {each.token for each in now}:
            return NotFound(f"{copy.blob.digest} was let go meanwhile.", hint="Put it again.")
        if anew:
            with suppress(CalotypeError), self.catalog.write() as connection:
                replicas.suspect(connection, copy.token, self.catalog.clock())
        others = any(each.token != copy.token and not each.suspect for each in now)
        mends = "Read it again: another backend has it too." if others else MENDS
        return Corrupt(
            f"{copy.blob.digest} is damaged: {what}.",
            hint=f"{mends} 'calotype fsck' lists the others.",
        )


def _told(errors: Iterable[CalotypeError]) -> CalotypeError:
    """Of the errors of all copies the one to raise: what may pass by itself before damage."""
    found = list(errors)
    return next((each for each in found if isinstance(each, Unavailable)), found[0])


def _clip(start: int | None, stop: int | None, size: int) -> tuple[int, int]:
    first = 0 if start is None else start
    last = max(size, first) if stop is None else stop
    if first < 0 or last < first:
        raise Misconfigured(
            f"Not a range: {start}..{stop}.", hint="Give 0 <= start <= stop, in bytes."
        )
    return min(first, size), min(last, size)


class _Verifying(io.RawIOBase):
    """Hashes what is read from start to end, and holds the end back until it is right.

    Seeking is allowed; bytes read out of order are not verified until the stream has been read
    from its start to its end in one go.
    """

    def __init__(
        self,
        file: BinaryIO,
        copy: Copy,
        read_whole: Callable[[Copy, str], None],
        broken: Callable[[Copy, str], CalotypeError],
    ) -> None:
        self._broken = broken
        self._file = file
        self._copy = copy
        self._size = copy.blob.size
        self._read_whole = read_whole
        self._position = 0
        self._hashed = 0
        self._sha = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if whence not in bases:
            raise ValueError(f"Not a place to seek from: {whence}.")
        self._position = self._file.seek(max(bases[whence] + offset, 0))
        if self._position == 0:
            self._hashed, self._sha = 0, hashlib.sha256()
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._file.read(len(buffer))
        except (Corrupt, NotFound):
            raise self._broken(self._copy, "its bytes went missing while it was read") from None
        if self._position == self._hashed:
            self._sha.update(data)
            self._hashed += len(data)
            short = not data and self._position < self._size
            if short or (data and self._hashed == self._size):
                self._read_whole(self._copy, self._sha.hexdigest())
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
