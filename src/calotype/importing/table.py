"""Importing a table: the file that each row names, or its bytes, kept under an owner of its own."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from calotype import staging
from calotype.bulk import Bulk
from calotype.catalog import seen
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured
from calotype.importing.removing import Remover
from calotype.importing.rows import Rows, Values, as_bytes, fields, filled, open_database
from calotype.intake import IN_MEMORY
from calotype.model import Imported, PutFailure, PutMany
from calotype.names import Owner
from calotype.progress import Progress
from calotype.putting import Putter
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
    remove_sources: bool = False

    @property
    def templates(self) -> list[str]:
        """Those that are given."""
        return [each for each in (self.owner, self.role) if each is not None]

    def require_sense(self) -> None:
        """Refuse templates that can name no slot; ``Misconfigured``."""
        if self.role is not None and self.owner is None:
            raise Misconfigured("A role belongs to an owner.", hint="Give owner= as well.")
        for template in self.templates:
            plain = template
            for name in fields(template):
                plain = plain.replace(f"{{{name}}}", "x")
            if "{" in plain or "}" in plain or "}{" in template:
                raise Misconfigured(
                    f"Not a template: {template!r}.",
                    hint="Columns stand in braces, apart from each other: image/{id}.",
                )
            if template == self.owner:
                Owner.parse(plain)

    def path(self, source: object) -> Path:
        """Where a row's file lies: absolute, below the root, or as a ``file:`` URL."""
        text = os.fsdecode(source) if isinstance(source, bytes) else str(source)
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise Misconfigured(f"Not a path: {text!r}: {error}.", hint="Correct it.") from error
        if parts.scheme == "file":
            text = unquote(parts.path)
        elif parts.scheme and parts.netloc:
            raise Misconfigured(
                f"{text!r} is a URL, not a file of this machine.",
                hint="Fetch it, and put it with its owner.",
            )
        if "\x00" in text:
            raise Misconfigured(f"Not a path: {text!r}.", hint="Correct it.")
        return self.root / text


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

    def steps(self) -> Generator[Progress, None, Imported]:
        """Import every row; one that fails is noted and never stops the others.

        What a Progress counts is durable, and its digest is written, when it appears.
        """
        try:
            bulk = Bulk(self._putter, self._receive, self._wish, self._kept, name=self._rows.name)
            done = yield from bulk.steps(self._rows.pending(), self._rows.count())
            self._note_without_key()
            removed = 0
            if self._terms.remove_sources:
                remover = Remover(self._rows, self._terms.path, self._has, self._putter)
                for _ in remover.remove():
                    yield Progress(None, remover.removed, note="removing sources")
                removed = remover.removed
                self._failures += remover.failures
            return self._outcome(done, removed)
        finally:
            self._rows.engine.dispose()

    def _receive(self, row: Values) -> Content:
        source = self._rows.fetch(row)
        given = self._terms.path(source) if self._rows.is_path else as_bytes(source)
        return staging.receive(given, self._putter.backend, self._limits, in_memory=IN_MEMORY)

    def _wish(self, row: Values, content: Content) -> Wish:
        return self._wish_of(row, content.digest)

    def _wish_of(self, row: Values, digest: Digest) -> Wish:
        terms = self._terms
        held = terms.owner is None and self._rows.points_at_us
        path = terms.path(row[self._rows.source.name]) if self._rows.is_path else None
        return wish(
            digest,
            self._putter.catalog.clock(),
            owner=filled(terms.owner, row) if terms.owner is not None else None,
            role=filled(terms.role, row) if terms.role is not None else None,
            filename=path.name if path is not None else None,
            hold=HOLD if held else None,
        )

    def _kept(self, kept: Sequence[tuple[Values, Content]]) -> None:
        """Write the digests; what was kept for a row that took none is let go of again.

        Only where the row's whole key is the one thing that its owner is named by: then no other
        row can have the slot. And only while the slot has these very bytes.
        """
        for row, digest, why in self._rows.write([(row, each.digest) for row, each in kept]):
            asked = self._wish_of(row, digest)
            if asked.owner is not None and self._is_alone():
                self._referrer.let_go(asked.owner, asked.role or digest, digest)
            self._fail(row, why, "Import again, if it is still there.")

    def _is_alone(self) -> bool:
        named = [name for template in self._terms.templates for name in fields(template)]
        return named == [key.name for key in self._rows.table.primary_key]

    def _has(self, row: Values, digest: Digest) -> bool:
        """True where the row's own owner has the digest, or the row or the scope keeps it."""
        asked = self._wish_of(row, digest)
        putter = self._putter
        with putter.catalog.read() as connection:
            if asked.owner is None:
                if self._rows.points_at_us:
                    return True
                return bool(seen.kept(connection, putter.scope, putter.name, [digest]))
            slot = asked.role or str(digest)
            whose = (asked.owner.kind, asked.owner.id)
            found = seen.referred(connection, putter.scope, putter.name, whose, [slot])
            return found.get(slot) == digest

    def _note_without_key(self) -> None:
        if count := self._rows.without_key():
            self._failures.append(
                PutFailure(
                    self._rows.table.fullname,
                    "misconfigured",
                    f"{count} rows have NULL in their primary key and were passed over.",
                    "Give them a key.",
                )
            )

    def _fail(self, row: Values, why: str, hint: str) -> None:
        self._failures.append(PutFailure(self._rows.name(row), "not-found", why, hint))

    def _outcome(self, done: PutMany, removed: int) -> Imported:
        return Imported(
            created=done.created,
            duplicate=done.duplicate,
            restored=done.restored,
            healed=done.healed,
            bytes=done.bytes,
            removed=removed,
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
    source = path if path is not None else data
    assert source is not None
    if source == digest:
        raise Misconfigured("One column for sources and digests.", hint="Name another one.")
    if terms.remove_sources and digest is None:
        raise Misconfigured(
            "Without digest_column nobody knows which sources are in the store.",
            hint="Add a column for digests, or keep the sources.",
        )
    terms.require_sense()
    engine = open_database(url)
    try:
        rows = Rows.of(
            engine,
            table,
            source,
            digest,
            is_path=path is not None,
            templates=terms.templates,
        )
        if terms.role is not None:
            rows.require_slots([name for each in terms.templates for name in fields(each)])
    except CalotypeError:
        engine.dispose()
        raise
    return TableImport(putter, referrer, limits, rows, terms)
