"""Removing the sources of a table, each once what is kept of it was read back."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from calotype.backends import Locates
from calotype.catalog import copies
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured, NotFound, Unavailable
from calotype.importing.rows import Rows, Values, as_bytes
from calotype.model import PutFailure
from calotype.putting import Putter
from calotype.reading import Reader

File = tuple[int, int]
"""Device and inode."""


@dataclass
class Remover:
    """Removes what rows with a digest came from.

    ``path`` says where a row's file lies, ``has`` whether the row's own owner has a digest.
    """

    rows: Rows
    path: Callable[[object], Path]
    has: Callable[[Values, Digest], bool]
    putter: Putter
    removed: int = 0
    failures: list[PutFailure] = field(default_factory=list)
    _wanted: set[File] = field(default_factory=set)

    def remove(self) -> Iterator[None]:
        """Remove source by source; one that fails is noted and never stops the others."""
        self._wanted.update(self._named())
        for row in self.rows.done():
            try:
                digest = self._digest(row)
                take = self._file if self.rows.is_path else self._bytes
                self.removed += take(row, digest)
            except (CalotypeError, OSError, ValueError) as error:
                self._fail(row, error)
            yield

    def _named(self) -> Iterator[File]:
        """The files that rows without a digest name."""
        for row in self.rows.pending() if self.rows.is_path else ():
            try:
                facts = self.path(row[self.rows.source.name]).stat()
            except (CalotypeError, OSError, ValueError):
                continue
            yield facts.st_dev, facts.st_ino

    def _digest(self, row: Values) -> Digest:
        assert self.rows.digest is not None
        digest = Digest(str(row[self.rows.digest.name]))
        if not self.has(row, digest):
            raise NotFound(
                "The row has a digest that nothing keeps for it; its source was not removed.",
                hint="Set the digest to NULL and import again.",
            )
        return digest

    def _file(self, row: Values, digest: Digest) -> bool:
        """False where the file is gone, or some row still needs it."""
        path = self.path(row[self.rows.source.name])
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        with file:
            before = os.fstat(file.fileno())
            here = (before.st_dev, before.st_ino)
            if not stat.S_ISREG(before.st_mode) or here in self._wanted:
                return False
            self._verify(digest, Digest.of(file), here)
            now = os.lstat(path)
            if (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != (
                *here,
                before.st_size,
                before.st_mtime_ns,
            ):
                raise Unavailable("It changed while it was removed.", hint="Import again.")
            path.unlink()
        return True

    def _bytes(self, row: Values, digest: Digest) -> bool:
        self._verify(digest, Digest.of(as_bytes(self.rows.fetch(row))), None)
        return self.rows.clear(row, digest)

    def _verify(self, digest: Digest, found: Digest, file: File | None) -> None:
        """Read the store's own copy, which must be another file than the source."""
        if found != digest:
            raise Misconfigured(
                f"The source hashes to {found}, the row says {digest}; it was not removed.",
                hint="It changed since: set the row's digest to NULL, and import again.",
            )
        if file is not None and file in self._copies(digest):
            raise Misconfigured(
                "The row names the store's own file; it was not removed.",
                hint="Leave it: it is where the bytes are kept.",
            )
        putter = self.putter
        with Reader(putter.catalog, putter.backend, putter.name).open(digest) as copy:
            while copy.read(1 << 20):
                continue

    def _copies(self, digest: Digest) -> Iterator[File]:
        backend = self.putter.backend
        if isinstance(backend, Locates):
            with self.putter.catalog.read() as connection:
                live = copies.live(connection, [digest], self.putter.name)
            for copy in live:
                facts = Path(backend.path(copy.key)).stat()
                yield facts.st_dev, facts.st_ino

    def _fail(self, row: Values, error: CalotypeError | OSError | ValueError) -> None:
        ours = isinstance(error, CalotypeError)
        self.failures.append(
            PutFailure(
                self.rows.name(row),
                error.code if isinstance(error, CalotypeError) else Unavailable.code,
                str(error) if ours else f"The source cannot be removed: {error}.",
                error.hint if isinstance(error, CalotypeError) else "Look at the file.",
            )
        )
