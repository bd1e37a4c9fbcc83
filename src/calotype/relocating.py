"""Relocating: the catalog copied to another database, row by row, while the bytes stay.

Most rows are copied while the store is in use. Then it is held still: every row of every table is
compared once more. In the same moment the old catalog is closed, before the new one is opened up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from calotype.backends import INSIDE
from calotype.belonging import claim_all
from calotype.catalog import Catalog, backends, bare, homes, left_behind, moving, schema
from calotype.catalog.columns import Hosts
from calotype.catalog.failures import translated
from calotype.catalog.merging import (
    Difference,
    Pages,
    Row,
    count,
    differences,
    no_pages,
    pages_of,
    pages_on,
)
from calotype.catalog.moving import Copying, Moved
from calotype.catalog.places import MEMORY, beside, database_of, from_beside
from calotype.catalog.repeating import repeated
from calotype.catalog.reserve import Freeing
from calotype.catalog.tables import backend, chunk, meta, metadata, stored
from calotype.errors import Misconfigured, StillReferenced
from calotype.mounting import Mounts
from calotype.progress import Progress, time_left
from calotype.quantities import SECOND, when

HELD = 30 * 24 * 3600 * SECOND
"""How long files are held that only an application's column kept."""


COPIED = [table for table in metadata.sorted_tables if table not in (stored, chunk)]
"""All tables but those of bytes: a catalog with bytes of its own stays where they are."""

_ITS_OWN = moving.MARKS | {homes.HOME}
"""What ``meta`` says of the catalog itself, and not of the store."""

_A_URL = re.compile(r"[A-Za-z][\w+]+:")


@dataclass(frozen=True, slots=True)
class Relocated:
    """What a copy of the catalog came to.

    ``rows`` is how many it has; ``written`` were missing or different in ``to``, ``removed`` were
    there alone. ``held`` are digests that a column of the application keeps, which has stayed
    behind. ``moved`` is False where nothing was changed: in a dry run.
    """

    to: str
    rows: int = 0
    written: int = 0
    removed: int = 0
    held: int = 0
    moved: bool = True

    def with_(self, difference: Difference) -> Relocated:
        """And a window more."""
        return replace(
            self,
            rows=self.rows + difference.rows,
            written=self.written + len(difference.missing),
            removed=self.removed + len(difference.surplus),
        )

    def after(self, first: Relocated) -> Relocated:
        """What both passes wrote; the last one saw every row."""
        return replace(
            self, written=self.written + first.written, removed=self.removed + first.removed
        )


def target_of(where: str, schema: str | None, source: Catalog) -> Catalog:
    """The catalog to be: of an URL, or of a store's folder; its bytes are where they are."""
    noted = from_beside(source.path, source.backend_url)
    if not _A_URL.match(where):
        file = Path(where).absolute() / "catalog.db"
        database = database_of(file, None, None, schema, memory=False)
        return Catalog(database, backend_url=noted, clock=source.clock)
    if where in MEMORY:
        raise Misconfigured(
            f"A copy in memory would end with this process: {where!r}.",
            hint="Give postgresql://..., sqlite:///FILE or a folder.",
        )
    database = database_of(None, where, None, schema, memory=False)
    return Catalog(database, backend_url=noted, clock=source.clock)


class Relocation:
    """One copy of ``source`` into ``target``, begun or gone on with; its bytes are in ``mounts``.

    ``force`` goes on where an application's columns point at the catalog, and from one that was
    moved elsewhere before.
    """

    def __init__(
        self, source: Catalog, target: Catalog, mounts: Mounts, hosts: Hosts, *, force: bool
    ) -> None:
        self._source = source
        self._target = target
        self._mounts = mounts
        self._hosts = hosts
        self._force = force

    def steps(self) -> Generator[Progress, None, Relocated]:
        """Copy, compare, move; what was copied stays where that is left early."""
        try:
            moved = self._require_movable()
            begun = self._begun(moved)
            if begun is None:
                return Relocated(self._target.name, 0, 0, 0)
            if moved is None:  # what came along with its bytes is at home before it leaves
                claim_all(self._source, self._mounts)
            if moved is not None and moved.copy != begun.copy:
                moved = self._redirected(begun)
            first = yield from self._filled(begun)
            yield Progress(first.rows, first.rows, computed=first.written, note="held still")
            last = self._settled(begun, moved)
            self._source.close()
            return last.after(first)
        finally:
            self._target.close()

    def plan(self) -> Generator[Progress, None, Relocated]:
        """The same without changing anything: what there is to write and to remove."""
        try:
            finished = self._looked_at(self._require_movable())
            tally = Relocated(self._target.name, moved=False)
            if not finished:
                there = pages_of(self._target.database) if self._is_begun() else no_pages
                for difference in self._differences(there):
                    tally = tally.with_(difference)
                    yield _progress(tally, None, difference)
            return tally
        finally:
            self._target.close()

    # -- whether it may be ------------------------------------------------------------------

    def _require_movable(self) -> Moved | None:
        """Where the source was moved already; raises where there is none, or it may not leave."""
        if self._source.database.identity() is None:
            self._source.require()
        with self._source.database.reading() as here:
            found = moving.standing(here) if moving.is_there(here) else None
        if not isinstance(found, Moved):
            self._source.require()
            found = None
        with self._source.database.reading() as here:
            self._require_no_columns(here)
            _require_bytes_elsewhere(here)
        return found

    def _require_no_columns(self, here: Connection) -> None:
        columns = self._hosts.columns(here)
        if columns and not self._force:
            raise Misconfigured(
                f"Foreign keys of the application's point at the catalog and cannot go with it: "
                f"{', '.join(map(str, columns))}; nothing was changed.",
                hint="With force it goes without them, and what they keep is held for 30 days: "
                "copy those tables meanwhile, and make their foreign keys there.",
            )

    def _looked_at(self, moved: Moved | None) -> bool:
        """True where the target is whole already; raises where it is not to be filled."""
        if self._target.database.identity() is None:
            return self._judged(None, moved)
        with self._target.database.reading() as there:
            return self._judged(there, moved)

    def _is_begun(self) -> bool:
        if self._target.database.identity() is None:
            return False
        with self._target.database.reading() as there:
            return moving.is_there(there)

    def _begun(self, moved: Moved | None) -> Copying | None:
        """Make the target ready to be filled; None where it is whole already."""
        begun: list[Copying] = []

        def fill(there: Connection) -> None:
            if not self._judged(there, moved):
                bare.strip(there)
                begun.append(moving.begin(there, self._store(), schema.CURRENT))

        self._looked_at(moved)  # before a folder or a schema is made for it
        with translated():
            self._target.database.create(fill)
        return begun[-1] if begun else None

    def _store(self) -> str:
        with self._source.database.reading() as here:
            return moving.store_of(here) or ""

    def _judged(self, there: Connection | None, moved: Moved | None) -> bool:
        """True where the target is whole, and the source was moved there; raises by what it is."""
        name = self._target.name
        found = None
        if there is not None and moving.is_there(there):
            found = moving.standing(there)
            if moving.store_of(there) != self._store():
                raise Misconfigured(
                    f"{name} holds another store's catalog; nothing was changed.",
                    hint="Give another database or schema.",
                )
            if found is None and moved is not None and moved.to == name:
                return True
            if found is None:
                raise Misconfigured(
                    f"{name} holds this store's catalog, which is in use; nothing was changed.",
                    hint="It is the same one or a clone: give another database or schema.",
                )
        going_on = isinstance(found, Copying) and moved is not None and found.copy == moved.copy
        if moved is not None and not going_on and not self._force:
            raise moving.moved_away(moved.to, f" at {moved.at}")
        self._require_schema(*[each for each in (moved, found) if each is not None])
        return False

    def _require_schema(self, *found: Moved | Copying) -> None:
        """Tables of another program's are not filled, nor read."""
        for each in found:
            if each.schema != schema.CURRENT:
                raise Misconfigured(
                    f"A copy was begun or made with schema {each.schema}, and this program has "
                    f"{schema.CURRENT}; nothing was changed.",
                    hint="Go on with the program that began it, or give another database.",
                )

    # -- rows -------------------------------------------------------------------------------

    def _filled(self, begun: Copying) -> Generator[Progress, None, Relocated]:
        """Copy while the store is in use; what changes meanwhile is left to the end."""
        with self._source.database.reading() as here:
            total = sum(count(here, table) for table in COPIED)
        tally, started = Relocated(self._target.name), time.monotonic()
        for difference in self._differences(pages_of(self._target.database)):
            if difference.any:
                self._write(begun, difference)
            tally = tally.with_(difference)
            yield _progress(tally, total, difference, started)
        return tally

    @repeated
    def _write(self, begun: Copying, difference: Difference) -> None:
        with self._target.database.rebuilding() as there:
            moving.require_mine(there, begun)
            difference.settle(there)

    @repeated
    def _settled(self, begun: Copying, moved: Moved | None) -> Relocated:
        """Compare and mend every row while nobody writes; then close the one, open the other.

        The old catalog's end is committed before the new one's beginning.
        """
        tally = Relocated(self._target.name)
        old, new = self._source.database.stand(), self._target.database.stand()
        with self._target.database.rebuilding() as there, _sound(self._target.name):
            moving.require_mine(there, begun)
            with self._held_still(moved) as here:
                for difference in self._differences(pages_on(there), pages_on(here)):
                    difference.settle(there)
                    tally = tally.with_(difference)
                bare.complete(there)
                tally = replace(tally, held=self._hold(here, there))
                homes.hand_on(here, old, there, new)
                if moved is None:
                    moving.close(here, self._forward(begun))
            moving.open_up(there, schema.CURRENT)
        return tally

    def _forward(self, begun: Copying) -> Moved:
        at = when(self._source.clock()).isoformat(timespec="seconds")
        return Moved(self._target.name, at, begun.copy, schema.CURRENT)

    def _redirected(self, begun: Copying) -> Moved:
        """A source that was moved elsewhere names this place now: no other copy can be finished.

        The one there may be in use, and has the bytes: this one may not erase any.
        """
        forward = self._forward(begun)
        with self._source.database.rebuilding() as here:
            found = moving.standing(here)
            moving.reopen(here)
            homes.leave(here, found.to if isinstance(found, Moved) else "")
            moving.close(here, forward)
        return forward

    @contextmanager
    def _held_still(self, moved: Moved | None) -> Iterator[Connection]:
        """The source, which nobody writes to meanwhile; once moved it stands still by itself."""
        if moved is not None:
            with self._source.database.reading() as here:
                yield here
            return
        with self._source.database.writing(
            durable=True, freeing=Freeing.BYTES, rows=1, patience=None
        ) as here:
            moving.hold_still(here)
            moving.require_here(here)
            self._require_no_columns(here)
            yield here

    def _hold(self, here: Connection, there: Connection) -> int:
        """Hold what columns keep, which have stayed behind; how many digests."""
        held, after, now = 0, "", self._source.clock()
        scope = self._hosts.column_scope
        while self._hosts.columns(here):
            digests = left_behind.pointed_at(here, self._hosts, after)
            if not digests:
                break
            left_behind.hold(there, digests, scope, now, now + HELD)
            held, after = held + len(digests), digests[-1]
        return held

    def _differences(self, there: Pages, here: Pages | None = None) -> Iterator[Difference]:
        here = here or pages_of(self._source.database)
        for table in COPIED:
            yield from differences(
                table,
                partial(self._wanted, here, table),
                partial(_without_marks, there, table),
            )

    def _wanted(self, pages: Pages, table: Table, after: Row | None) -> Sequence[Row]:
        """The source's rows as they are to be: a folder's URL is as seen from the catalog."""
        rows = _without_marks(pages, table, after)
        if table is not backend:
            return rows
        place = backend.columns.keys().index(backend.c.url.name)
        seen = [self._seen_from_there(str(row[place])) for row in rows]
        return [(*row[:place], url, *row[place + 1 :]) for row, url in zip(rows, seen, strict=True)]

    def _seen_from_there(self, url: str) -> str:
        return beside(self._target.path, from_beside(self._source.path, url))


def _require_bytes_elsewhere(here: Connection) -> None:
    """Refuse a catalog in whose own database bytes are: they would not go with it."""
    for known in backends.known(here):
        if known.url == INSIDE:
            raise Misconfigured(
                f"The bytes of the backend {known.name!r} are in the catalog's own database; "
                "nothing was changed.",
                hint="Move them out first: calotype backend add, copy, primary and drop.",
            )


def _without_marks(pages: Pages, table: Table, after: Row | None) -> Sequence[Row]:
    rows = pages(table, after)
    return rows if table is not meta else [row for row in rows if row[0] not in _ITS_OWN]


@contextmanager
def _sound(name: str) -> Iterator[None]:
    """What breaks a constraint there is named; nobody is moved there."""
    try:
        yield
    except IntegrityError as error:
        raise StillReferenced(
            f"{name} refused what was copied: {error.orig}; the copy is not finished.",
            hint="Mend or delete that row, and copy again.",
        ) from error


def _progress(
    tally: Relocated, total: int | None, latest: Difference, started: float | None = None
) -> Progress:
    return Progress(
        None if total is None else max(total, tally.rows),
        tally.rows,
        skipped=max(0, tally.rows - tally.written),
        computed=tally.written,
        eta=None if started is None else time_left(started, tally.rows, total),
        note=latest.table.name,
    )
