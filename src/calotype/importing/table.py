"""Importing a table: the file that each row names, or its bytes, kept under an owner of its own."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from calotype import staging
from calotype.bulk import Bulk
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured
from calotype.importing.rows import Rows, Values, filled, open_database
from calotype.intake import IN_MEMORY
from calotype.model import Imported, PutFailure, PutMany
from calotype.progress import Progress
from calotype.putting import Putter
from calotype.reading import Reader
from calotype.references import Referrer
from calotype.staging import Content, Limits
from calotype.wishes import Wish, wish

HOLD = "24h"
"""How long bytes are held until the row points at them by a foreign key."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What becomes of the rows: templates of owner and role, and where relative paths begin."""

    owner: str | None = None
    role: str | None = None
    root: Path = Path()
    is_path: bool = True
    remove_sources: bool = False


class TableImport:
    """One import of the rows that have a source and, where a column is for it, no digest yet."""

    def __init__(
        self,
        putter: Putter,
        referrer: Referrer,
        limits: Limits,
        rows: Rows,
        terms: Terms,
    ) -> None:
        self._putter = putter
        self._referrer = referrer
        self._limits = limits
        self._rows = rows
        self._terms = terms
        self._failures: list[PutFailure] = []
        self._removed = 0

    def steps(self) -> Generator[Progress, None, Imported]:
        """Import every row; one that fails is noted and never stops the others.

        What a Progress counts is durable, and its digest is written, when it appears.
        """
        bulk = Bulk(self._putter, self._receive, self._wish, self._kept, name=self._rows.name)
        done = yield from bulk.steps(self._rows.pending(), self._rows.count())
        if self._terms.remove_sources:
            self._remove()
        return self._outcome(done)

    def _receive(self, row: Values) -> Content:
        source = row[self._rows.source.name]
        given = self._path(source) if self._terms.is_path else _bytes(source)
        return staging.receive(given, self._putter.backend, self._limits, in_memory=IN_MEMORY)

    def _path(self, source: object) -> Path:
        """Where a row's file lies: absolute, below the root, or as a ``file:`` URL."""
        text = os.fsdecode(source) if isinstance(source, bytes) else str(source)
        parts = urlsplit(text)
        if parts.scheme == "file":
            text = unquote(parts.path)
        elif parts.scheme and parts.netloc:
            raise Misconfigured(
                f"{text!r} is a URL, not a file of this machine.",
                hint="Fetch it, and put it with its owner.",
            )
        return self._terms.root / text

    def _wish(self, row: Values, content: Content) -> Wish:
        return self._wish_of(row, content.digest)

    def _wish_of(self, row: Values, digest: Digest) -> Wish:
        terms = self._terms
        held = terms.owner is None and self._rows.points_at_us
        name = row[self._rows.source.name]
        return wish(
            digest,
            self._putter.catalog.clock(),
            owner=filled(terms.owner, row) if terms.owner is not None else None,
            role=filled(terms.role, row) if terms.role is not None else None,
            filename=self._path(name).name if terms.is_path else None,
            hold=HOLD if held else None,
        )

    def _kept(self, kept: Sequence[tuple[Values, Content]]) -> None:
        """Write the digests; what was kept for a row that is gone is let go of again.

        Not where another row may have the same owner and role.
        """
        pairs = [(row, content.digest) for row, content in kept]
        alone = self._terms.owner is not None and self._rows.are_told_apart_by(
            f"{self._terms.owner}{self._terms.role or ''}"
        )
        for row, digest in self._rows.write(pairs):
            if alone:
                asked = self._wish_of(row, digest)
                if asked.owner is not None:
                    self._referrer.release(asked.owner, asked.role or digest, None)
            self._failures.append(
                PutFailure(
                    self._rows.name(row),
                    "not-found",
                    "The row was deleted or changed while it was imported.",
                    "Import again, if it is still there.",
                )
            )

    def _remove(self) -> None:
        """Remove each source whose bytes are in the store, read from there once more."""
        for row in self._rows.done():
            assert self._rows.digest is not None
            try:
                digest = Digest(str(row[self._rows.digest.name]))
                if self._is_redundant(row, digest):
                    self._removed += 1
            except CalotypeError as error:
                self._failures.append(
                    PutFailure(self._rows.name(row), error.code, str(error), error.hint)
                )

    def _is_redundant(self, row: Values, digest: Digest) -> bool:
        """Verify and remove one source; False where it is gone, or some row still needs it."""
        source = row[self._rows.source.name]
        if self._terms.is_path:
            path = self._path(source)
            if not path.exists() or self._rows.wanting(source):
                return False
            self._verify(digest, Digest.of(path))
            path.unlink()
        else:
            self._verify(digest, Digest.of(_bytes(source)))
            self._rows.clear(row)
        return True

    def _verify(self, digest: Digest, found: Digest) -> None:
        self._referrer.asset(digest)
        if found != digest:
            raise Misconfigured(
                f"The source hashes to {found}, the row says {digest}; it was not removed.",
                hint="It changed since: set the row's digest to NULL, and import again.",
            )
        putter = self._putter
        with Reader(putter.catalog, putter.backend, putter.name).open(digest) as file:
            while file.read(1 << 20):
                continue

    def _outcome(self, done: PutMany) -> Imported:
        return Imported(
            created=done.created,
            duplicate=done.duplicate,
            restored=done.restored,
            healed=done.healed,
            bytes=done.bytes,
            removed=self._removed,
            failures=(*done.failures, *self._failures),
        )


def table_import(
    putter: Putter,
    referrer: Referrer,
    limits: Limits,
    url: str,
    table: str,
    terms: Terms,
    columns: tuple[str | None, str | None, str | None],
) -> TableImport:
    """The import that these arguments of ``Scope.import_table`` describe.

    ``columns`` are those of paths, of bytes and of digests.
    """
    path, data, digest = columns
    if (path is None) == (data is None):
        raise Misconfigured(
            "Where are the files: in one column of paths, or in one of bytes?",
            hint="Give one of path_column and bytes_column.",
        )
    if terms.remove_sources and digest is None:
        raise Misconfigured(
            "Without digest_column nobody knows which sources are in the store.",
            hint="Add a column for digests, or keep the sources.",
        )
    if terms.role is not None and terms.owner is None:
        raise Misconfigured("A role belongs to an owner.", hint="Give owner= as well.")
    rows = Rows.of(open_database(url), table, path or data or "", digest)
    for what, template in (("owner", terms.owner), ("role", terms.role)):
        if template is not None:
            rows.require(template, what)
    terms = replace(terms, is_path=path is not None)
    return TableImport(putter, referrer, limits, rows, terms)


def _bytes(source: object) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    raise Misconfigured(
        f"The column holds {type(source).__name__}, not bytes.",
        hint="Name a path column, if it holds paths.",
    )
