"""Importing a table: the file that each row names, or its bytes, kept under an owner of its own."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import islice

from calotype import staging
from calotype.bulk import Bulk, Done, Refused
from calotype.catalog import seen
from calotype.catalog.tables import asset, blob
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured, NotFound
from calotype.importing.engines import open_database
from calotype.importing.giving import Asked, Giver, Went
from calotype.importing.own import InUse
from calotype.importing.removing import Remover
from calotype.importing.rows import Given, Rows, Values, as_bytes
from calotype.importing.slots import tell_apart
from calotype.importing.still import read_still
from calotype.importing.terms import PLANNED, Terms, filled
from calotype.model import Imported, PutFailure, PutMany, Removal
from calotype.progress import Progress
from calotype.putting import Arrival, Putter
from calotype.references import Referrer
from calotype.staging import Content, Limits
from calotype.wishes import Wish, wish

HOLD = "24h"
"""How long bytes are held until the row has them by its foreign key."""

TRIES = 10
"""How often bytes are put that gc takes before their row has them."""


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
        self._giver = Giver(rows, referrer)
        self._pointers: list[dict[str, str]] = []
        self._failures: list[PutFailure] = []

    def steps(self) -> Generator[Progress, None, Imported]:
        """Import every row; one that fails is noted and never stops the others.

        What a Progress counts is durable, and its digest is written, when it appears.
        ``Misconfigured``, before anything is done, where two rows would have one slot.
        """
        try:
            for _ in tell_apart(self._rows, self._terms):
                yield Progress(None, 0, note="comparing rows")
            self._in_use = InUse(self._putter, self._rows.files)
            if self._terms.dry_run:
                return (yield from self._looked())
            self._putter.catalog.ensure()
            self._pointers = self._found_pointers()
            bulk = Bulk(
                self._putter,
                self._receive,
                lambda row, content: self._first(self._wish_of(row, content.digest)),
                self._kept,
                name=self._rows.name,
            )
            done = yield from bulk.steps(self._rows.pending(), self._rows.count())
            self._note_without_key()
            removed = (yield from self._removed()) if self._terms.remove_sources else 0
            return self._outcome(done, removed)
        finally:
            self._rows.engine.dispose()

    def _looked(self) -> Generator[Progress, None, Imported]:
        """What a removal would come to; nothing is changed."""
        pending = (Removal("later", *self._rows.told(row)) for row in self._rows.pending())
        planned = list(islice(pending, PLANNED))
        remover = self._remover(dry=True)
        if self._putter.catalog.exists():
            self._pointers = self._found_pointers()
            yield from remover.remove()
        self._note_without_key()
        failures = (*remover.failures, *self._failures)
        return Imported(planned=(*remover.planned, *planned)[:PLANNED], failures=failures)

    def _removed(self) -> Generator[Progress, None, int]:
        """Remove sources; none at all where rows came meanwhile that share a slot with others."""
        remover = self._remover()
        try:
            for _ in tell_apart(self._rows, self._terms):
                yield Progress(None, 0, note="comparing rows")
        except Misconfigured as error:
            self._failures.append(PutFailure.of(self._rows.table.fullname, error))
            return 0
        yield from remover.remove()
        self._failures += remover.failures
        return remover.removed

    def _remover(self, *, dry: bool = False) -> Remover:
        return Remover(
            self._rows, self._terms.path, self._require_kept, self._putter, self._in_use, dry
        )

    def _found_pointers(self) -> list[dict[str, str]]:
        """The foreign keys by which a row can keep an asset of this scope: our columns to its own.

        Those that the store's own database lists, for gc goes by them.
        """
        putter = self._putter
        with putter.catalog.read() as connection:
            hosts = putter.hosts.columns(connection)
        targets = {asset.name}
        if putter.scope == putter.hosts.column_scope:
            targets.add(blob.name)
        return [
            {theirs: ours.lower() for ours, theirs in host.pairs}
            for host in hosts
            if host.target in targets and self._rows.is_among(host.table)
        ]

    def _keeps(self, row: Values) -> bool:
        """True where the row itself keeps what its digest names, in this very scope."""
        if self._rows.digest is None:
            return False
        digest = self._rows.digest.name.lower()
        values = {name.lower(): value for name, value in row.items()}
        return any(
            pointer["digest"] == digest
            and ("scope" not in pointer or values.get(pointer["scope"]) == self._putter.scope)
            for pointer in self._pointers
        )

    def _receive(self, row: Values) -> Content:
        source = self._rows.fetch(row)
        backend = self._putter.backend
        if not self._rows.is_path:
            return staging.receive(as_bytes(source), backend, self._limits)
        path = self._terms.path(source)
        self._in_use.require_no_database(path)
        content, _ = read_still(path, backend, self._limits)
        return content

    def _wish_of(self, row: Values, digest: Digest) -> Wish:
        terms = self._terms
        held = terms.owner is None and self._keeps(row)
        path = terms.path(row[self._rows.source.name]) if self._rows.is_path else None
        return wish(
            digest,
            self._putter.catalog.clock(),
            owner=filled(terms.owner, row) if terms.owner is not None else None,
            role=filled(terms.role, row) if terms.role is not None else None,
            filename=path.name if path is not None else None,
            hold=HOLD if held else None,
        )

    def _first(self, asked: Wish) -> Wish:
        """What is wanted of the bytes until the row has them: with an owner no more than that.

        The trash keeps them for the little while; should gc take them, they are put again.
        """
        if asked.owner is None:
            return asked
        return replace(asked, owner=None, role=None, kept_until=self._putter.catalog.clock())

    def _kept(self, kept: Sequence[Done[Values]]) -> Refused[Values]:
        """Let the rows have what was kept; which have not, and why."""
        if self._terms.owner is None:
            given = [Given(row, each.digest, self._read_again(each)) for row, each in kept]
            return [(each.row, why) for each, why in self._rows.write(given)]
        contents = {id(row): content for row, content in kept}
        asked = [
            Asked(row, self._wish_of(row, each.digest), self._read_again(each))
            for row, each in kept
        ]
        failed: list[tuple[Values, CalotypeError]] = []
        for again in range(TRIES):
            refused = self._giver.give(asked)
            asked = [each for each, why in refused if isinstance(why, Went) and again + 1 < TRIES]
            went = {id(each.row) for each in asked}
            failed += [(each.row, why) for each, why in refused if id(each.row) not in went]
            if not asked:
                break
            try:
                self._putter.put(
                    [Arrival(contents[id(row)], self._first(wish)) for row, wish, _ in asked]
                )
            except CalotypeError as error:
                return failed + [(each.row, error) for each in asked]
        return failed

    def _read_again(self, content: Content) -> int:
        return 0 if self._rows.is_path else content.size

    def _require_kept(self, row: Values, digest: Digest) -> None:
        """Raise ``NotFound`` unless the row's own slot, the row or the scope keeps the digest."""
        asked = self._wish_of(row, digest)
        if asked.owner is not None:
            self._require_slot(asked.owner.kind, asked.owner.id, asked.role or digest, digest)
        elif not (self._referrer.is_visible(digest) if self._keeps(row) else self._is_kept(digest)):
            raise NotFound(
                "The row has a digest that nothing keeps for it; its source was not removed.",
                hint="Set the digest to NULL and import again.",
            )

    def _is_kept(self, digest: Digest) -> bool:
        putter = self._putter
        with putter.catalog.read() as connection:
            return bool(seen.kept(connection, putter.scope, [digest]))

    def _require_slot(self, kind: str, ident: str, role: str, digest: Digest) -> None:
        putter = self._putter
        with putter.catalog.read() as connection:
            found = seen.referred(connection, putter.scope, (kind, ident), [role])
        if role not in found:
            raise NotFound(
                f"{kind}/{ident} has nothing in {role!r}, or it is damaged; the row's source was "
                "not removed.",
                hint="Set the digest to NULL and import again.",
            )
        if found[role] != digest:
            raise NotFound(
                f"{kind}/{ident} has another file in {role!r} than the row says; the row's source "
                "was not removed.",
                hint="See who gave it: if it was another row, give them owners of their own.",
            )

    def _note_without_key(self) -> None:
        if count := self._rows.without_key():
            error = Misconfigured(
                f"{count} rows have NULL in their primary key and were passed over.",
                hint="Give them a key.",
            )
            self._failures.append(PutFailure.of(self._rows.table.fullname, error))

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


def table_import(putter: Putter, referrer: Referrer, limits: Limits, terms: Terms) -> TableImport:
    """The import that these terms, the arguments of ``Scope.import_table``, describe."""
    terms.require_sense()
    engine = open_database(terms.url)
    try:
        return TableImport(putter, referrer, limits, Rows.of(engine, terms), terms)
    except CalotypeError:
        engine.dispose()
        raise
