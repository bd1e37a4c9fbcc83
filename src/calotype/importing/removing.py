"""Removing the sources of a table, each once what is kept of it was read back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Literal, NamedTuple

from calotype.backends import Locates
from calotype.catalog import copies
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured, NotFound, Unavailable
from calotype.importing.own import InUse
from calotype.importing.rows import Rows, Values, as_bytes
from calotype.importing.still import let_time_pass
from calotype.importing.terms import PLANNED
from calotype.model import PutFailure, Removal
from calotype.progress import Progress, time_left
from calotype.putting import Putter
from calotype.reading import Reader
from calotype.staging import open_regular

TOGETHER = 500
"""How many files are removed after one look at the rows that still need theirs."""

SECONDS = 2.0
"""How long such a look waits for the verifying of more."""

ASIDE = ".calotype-removes"
"""How the name of a file ends that is on its way out."""

File = tuple[int, int]
"""Device and inode."""

Stamp = tuple[File, int, int]
"""A file as it was: which, its size, its last change."""


class Verified(NamedTuple):
    """A file that may go as long as it is as it was: device and inode, bytes, last change."""

    row: Values
    path: Path
    stamp: Stamp


@dataclass
class Remover:
    """Removes what rows with a digest came from.

    ``path`` says where a row's file lies; ``require_kept`` raises unless the row's digest is kept
    for that very row. A ``dry`` one only tells what it would remove.
    """

    rows: Rows
    path: Callable[[object], Path]
    require_kept: Callable[[Values, Digest], None]
    putter: Putter
    in_use: InUse
    dry: bool = False
    planned: list[Removal] = field(default_factory=list)
    removed: int = 0
    failures: list[PutFailure] = field(default_factory=list)
    _lost: set[File] = field(default_factory=set)
    _told: set[File] = field(default_factory=set)
    _folders: set[Path] = field(default_factory=set)

    def remove(self) -> Iterator[Progress]:
        """Remove source by source; one that fails is noted and never stops the others."""
        total = self.rows.count_done()
        for row in self.rows.done() if self.rows.is_path else ():
            self._note_folder(row)
            self._lost.update(self._files([row]) if self._is_lost(row) else ())
            yield Progress(total, 0, note="looking at sources")
        began = time.monotonic()
        for number in self._looked_at():
            each = (time.monotonic() - began) / number
            yield Progress(
                max(total, number),
                number,
                computed=self.removed,
                failed=len(self.failures),
                seconds_per_item=each,
                eta=time_left(began, number, total),
                note="looking at sources" if self.dry else "removing sources",
            )
        self._note_left_aside()

    def _looked_at(self) -> Iterator[int]:
        """How many rows were looked at; files go some at a time."""
        due: list[Verified] = []
        since = time.monotonic()
        number = 0
        for number, row in enumerate(self.rows.done(), 1):
            with self._noting(row):
                due += self._ready(row)
            if len(due) >= TOGETHER or time.monotonic() - since >= SECONDS:
                self._unlink(due)
                due, since = [], time.monotonic()
            yield number
        self._unlink(due)
        if due:
            yield number

    def _ready(self, row: Values) -> list[Verified]:
        """The row's file if it may go; bytes are gone by then."""
        digest = self._digest(row)
        self.require_kept(row, digest)
        if self.rows.is_path:
            return [*self._file(row, digest)]
        self._verify(digest, Digest.of(as_bytes(self.rows.fetch(row))), None)
        self._require_agreement(row)
        if self.dry:
            self._plan(row)
        else:
            self.removed += self.rows.clear(row, digest)
        return []

    def _plan(self, row: Values, when: Literal["now", "later"] = "now") -> None:
        if len(self.planned) < PLANNED:
            self.planned.append(Removal(when, *self.rows.told(row)))

    def _plan_file(self, row: Values, path: Path, stamp: Stamp, needed: set[File]) -> None:
        """A file goes once, and not before every row that needs it is imported."""
        _require_same(path, stamp)
        self._require_agreement(row)
        if stamp[0] not in self._told:
            self._told.add(stamp[0])
            self._plan(row, "later" if stamp[0] in needed else "now")

    def _require_agreement(self, row: Values) -> None:
        """Raise unless, at this moment, the row has its digest and its slot has it as well."""
        digest = self._digest(row)
        self.require_kept(row, digest)
        if not self.rows.has(row, digest):
            raise Unavailable(
                "The row was deleted or changed; its source was not removed.",
                hint="Import again, if it is still there.",
            )

    def _digest(self, row: Values) -> Digest:
        assert self.rows.digest is not None
        return Digest(str(row[self.rows.digest.name]))

    def _is_lost(self, row: Values) -> bool:
        """True where nothing keeps the digest for the row: it needs its file still."""
        try:
            self.require_kept(row, self._digest(row))
        except (CalotypeError, ValueError):
            return True
        return False

    def _note_left_aside(self) -> None:
        """Tell what a removal that was killed left; whose bytes they are nobody knows any more."""
        found: list[Path] = []
        for row in self._waiting() if self.rows.is_path else ():
            self._note_folder(row)
        for folder in sorted(self._folders):
            with suppress(OSError):  # the next run tells it
                found += folder.glob(f".*{ASIDE}")
        for aside in filter(os.path.lexists, found):  # not one that somebody is removing now
            error = Unavailable(
                "A removal was interrupted and left this file, which lay beside it.",
                hint="Remove it if the store has its bytes; else give it its name back.",
            )
            self.failures.append(PutFailure.of(str(aside), error))

    def _note_folder(self, row: Values) -> None:
        with suppress(CalotypeError, ValueError):  # of a path that leads nowhere
            self._folders.add(self.path(row[self.rows.source.name]).parent)

    def _waiting(self) -> Iterator[Values]:
        """Rows that are not imported yet."""
        return chain(self.rows.pending(), self.rows.unnamed())

    def _files(self, rows: Iterable[Values]) -> Iterator[File]:
        """The files that these rows name, by whatever path."""
        for row in rows:
            with suppress(CalotypeError, OSError, ValueError):
                facts = self.path(row[self.rows.source.name]).stat()
                yield facts.st_dev, facts.st_ino

    def _file(self, row: Values, digest: Digest) -> Iterator[Verified]:
        """Nothing where the file is gone."""
        path = self.path(row[self.rows.source.name])
        if path.is_symlink():
            raise Misconfigured(
                f"{str(path)!r} is a link, which is never removed.",
                hint="Give the row the file's own path, or remove both yourself.",
            )
        self.in_use.require_source(path)
        let_time_pass(path)
        try:
            handle, facts = open_regular(path)
        except NotFound:
            return
        with os.fdopen(handle, "rb") as file:
            stamp = _stamp(facts)
            self._verify(digest, Digest.of(file), stamp[0])
        yield Verified(row, path, stamp)

    def _unlink(self, due: Sequence[Verified]) -> None:
        """Remove files, but for those that a row still needs; looks at the rows again."""
        waiting = self._waiting() if due else ()
        needed = self._lost | set(self._files(waiting))
        for row, path, stamp in due:
            with self._noting(row), suppress(FileNotFoundError):  # of two rows with one file
                if self.dry:
                    self._plan_file(row, path, stamp, needed)
                    continue
                if stamp[0] in needed:
                    continue
                _require_same(path, stamp)
                self._require_agreement(row)
                _remove(path, stamp)
                self.removed += 1

    def _verify(self, digest: Digest, found: Digest, file: File | None) -> None:
        """Read the store's own copy, which must be another file than the source."""
        if found != digest:
            self._lost.update([file] if file is not None else ())
            raise Misconfigured(
                f"The source hashes to {found}, the row says {digest}; it was not removed.",
                hint="It changed since: release what the row's owner has, set the row's digest to "
                "NULL, and import again.",
            )
        if file is not None and file in self._copies(digest):
            raise Misconfigured(
                "The row names the store's own file; it was not removed.",
                hint="Leave it: it is where the bytes are kept.",
            )
        putter = self.putter
        with Reader(putter.catalog, putter.mounts).open(digest) as copy:
            while copy.read(1 << 20):
                continue

    def _copies(self, digest: Digest) -> Iterator[File]:
        with self.putter.catalog.read() as connection:
            live = copies.live_anywhere(connection, [digest])
        for copy in live:
            backend = self.putter.mounts.named(copy.backend).backend
            if isinstance(backend, Locates):
                with suppress(OSError):  # a copy that is missing is no source
                    facts = Path(backend.path(copy.key)).stat()
                    yield facts.st_dev, facts.st_ino

    @contextmanager
    def _noting(self, row: Values) -> Iterator[None]:
        """Note an error as that row's."""
        try:
            yield
        except (CalotypeError, OSError, ValueError) as error:
            if not isinstance(error, CalotypeError):
                error = Unavailable(
                    f"The source cannot be removed: {error}.", hint="Look at the file."
                )
            self.failures.append(PutFailure.of(self.rows.name(row), error))


def _remove(path: Path, stamp: Stamp) -> None:
    """Remove the file if it is as it was; one that came in its place meanwhile stays.

    It is moved aside before the last look at it, for nothing can replace it there.
    """
    aside = path.with_name(f".{token_hex(8)}{ASIDE}")
    path.rename(aside)
    try:
        _require_same(aside, stamp)
    except Unavailable:
        _go_back(aside, path)
        raise
    aside.unlink()


def _go_back(aside: Path, path: Path) -> None:
    """Put back what came in the file's place; where that was replaced once more, it goes.

    A folder, or another user's file, cannot be linked back without a glance at the place.
    """
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:
        if os.path.lexists(path):
            raise Unavailable(
                f"It was replaced twice while it was removed; what came first is {str(aside)!r}.",
                hint="Look at both.",
            ) from None
        aside.rename(path)
        return
    aside.unlink()


def _require_same(path: Path, stamp: Stamp) -> None:
    if _stamp(path.lstat()) != stamp:
        raise Unavailable("It changed while it was removed.", hint="Import again.")


def _stamp(facts: os.stat_result) -> Stamp:
    return (facts.st_dev, facts.st_ino), facts.st_size, facts.st_mtime_ns
