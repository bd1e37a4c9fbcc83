"""Inspecting: a whole store looked at: what keeps a digest, whether all is right, in figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from calotype.backing import states
from calotype.catalog import totals
from calotype.catalog.listing import PAGE, orphans
from calotype.digest import Digest
from calotype.errors import Misconfigured
from calotype.explaining import Explainer
from calotype.figures import Stats
from calotype.fsck.sides import Findings, Seen
from calotype.fsck.whole import Fsck
from calotype.model import Blob, Check, Explanation, Finding
from calotype.prefixes import resolve
from calotype.progress import Progress, Run
from calotype.quantities import Duration, duration
from calotype.rooms import Rooms

EMPTY = Stats(0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0.0, 0, 0)


class Inspects:
    """What may be asked of a whole store; a part of ``Store``."""

    _rooms: Rooms

    def explain(self, digest: str) -> Explanation:
        """What keeps a digest's bytes in the whole store, and until when."""
        rooms = self._rooms
        return Explainer(rooms.catalog, rooms.hosts, rooms.grace).explain(Digest.parse(digest))

    def fsck(
        self,
        read_data: bool = False,
        budget: Duration | None = None,
        repair: bool = False,
        recover: bool = False,
        adopt: bool = False,
        rebuild: bool = False,
        dry_run: bool = False,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Run[Finding, Check]:
        """Compare catalog and backend in both directions: a Run of Finding.

        ``read_data`` re-reads bytes, the longest unread first, within ``budget``; ``repair``
        mends what can be mended. Orphans, strays and foreign objects are information.
        ``recover`` first keeps bytes that have no row, and unlocks erasing where catalog and bytes
        are not of one age; with ``adopt`` also where another copy of the catalog has the bytes.
        ``rebuild`` makes a lost catalog from the bytes alone. A ``dry_run`` of these three changes
        nothing, and is refused with ``repair``.
        ``progress`` is told about once a second how many objects and bytes were looked at.
        """
        if dry_run and repair:
            raise Misconfigured(
                "A dry run repairs nothing.", hint="fsck without repair changes nothing."
            )
        rooms = self._rooms
        first: Callable[[Seen], Findings] | None = None
        if recover or adopt or rebuild:
            from calotype.recovering import Recovery

            work = Recovery(rooms.catalog, rooms.mounts, rooms.hosts, adopt, dry_run)
            first = work.rebuild if rebuild else work.recover
        return Fsck(rooms.catalog, rooms.mounts, rooms.hosts).run(
            read_data=read_data,
            budget=duration(budget) if budget is not None else None,
            repair=repair,
            progress=progress,
            first=first,
        )

    def orphans(self) -> Iterator[Blob]:
        """Blobs that nothing keeps now, every scope's trash included, by digest."""
        catalog, after = self._rooms.catalog, ""
        while catalog.exists():
            with catalog.read() as connection:
                page = orphans(connection, catalog.clock(), self._rooms.hosts, PAGE, after)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].digest

    def resolve_anywhere(self, prefix: str) -> Digest:
        """The digest of any scope's blob that begins with 6 characters or more.

        A whole digest is answered as it is, known or not.
        """
        hint = "Look at its spelling."
        return resolve(self._rooms.catalog, prefix, None, where="the store", hint=hint)

    def stats(self) -> Stats:
        """The whole store in numbers, and what of it lies in each backend."""
        catalog = self._rooms.catalog
        if not catalog.exists():
            return EMPTY
        self._rooms.mounts.refresh()
        with catalog.read() as connection:
            found = totals.stats(connection, catalog.clock(), self._rooms.hosts)
            blobs, size = found.blobs + found.derived_blobs, found.bytes + found.derived_bytes
            backends = states(connection, self._rooms.mounts, blobs, size)
        return replace(found, backends=tuple(backends))
