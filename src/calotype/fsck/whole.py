"""The whole of fsck: the catalog's own promises, and each backend beside its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from calotype.catalog import (
    Catalog,
    candidates,
    copies,
    garbage,
    health,
    holdings,
    legible,
    listing,
    replicas,
    settings,
)
from calotype.catalog.backends import PRIMARY
from calotype.catalog.columns import Hosts
from calotype.digest import Digest
from calotype.errors import CalotypeError
from calotype.fsck.sides import PAGE, Findings, Seen, Side, finding, pages
from calotype.model import Check, Finding
from calotype.mounting import Mounts
from calotype.presence import require_there
from calotype.progress import Progress, Run
from calotype.quantities import SECOND

HELD = 30 * 24 * 3600 * SECOND
"""How long what nobody has stays after an index was made again: time to look, and to mend rows."""

SHOWN = 100
"""How many rows of a kind are told that only a hand from outside can have made."""


@dataclass(frozen=True, slots=True)
class Fsck:
    """What fsck needs: rows, bytes, the application's columns."""

    catalog: Catalog
    mounts: Mounts
    hosts: Hosts

    def run(
        self,
        *,
        read_data: bool = False,
        budget: int | None = None,
        repair: bool = False,
        progress: Callable[[Progress], None] | None = None,
        first: Callable[[Seen], Findings] | None = None,
    ) -> Run[Finding, Check]:
        """Look at everything and yield what is noticed; safe beside any other work.

        Damage is always marked, so that the next put of the file mends it. ``repair`` also
        mends what can be: lost triggers, leaks and drift, and what another backend has sound;
        strays get a date to be erased.
        ``read_data`` re-reads bytes, the longest unread first, for ``budget`` microseconds at
        most; the next run goes on from there. What ``first`` finds comes before all else.
        """
        seen = Seen(progress=progress)
        return Run(lambda: self._steps(seen, read_data, budget, repair, first), name="fsck")

    def _steps(
        self,
        seen: Seen,
        read_data: bool,
        budget: int | None,
        repair: bool,
        first: Callable[[Seen], Findings] | None,
    ) -> Generator[Finding, None, Check]:
        if first is not None:
            yield from _noted(first(seen), seen)
        if not seen.over and self.catalog.exists():
            require_there(self.catalog, self.mounts.primary)
            sides = [Side(self.catalog, self.mounts, each, repair) for each in self.mounts.all]
            parts: list[Callable[[], Findings]] = [
                lambda: self._database(seen, repair),
                lambda: self._rows(seen),
                lambda: _of_each(sides, seen, lambda side: side.belongs(seen)),
                lambda: _of_each(sides, seen, lambda side: side.objects(seen)),
                lambda: self._bare(),
                lambda: _of_each(sides, seen, lambda side: side.ownerless()),
                lambda: self._leaks(seen, repair),
                lambda: self._drift(repair),
                lambda: self._orphans(),
            ]
            if read_data:
                parts.append(lambda: _data(sides, seen, budget))
            for part in parts:
                yield from _noted(part(), seen)
                if seen.unreadable:  # then the rest cannot be looked at
                    break
        return Check(
            seen.blobs,
            seen.objects,
            seen.read_bytes,
            dict(seen.found),
            seen.problems,
            seen.complete,
            seen.stopped,
        )

    def _finding(self, kind: str, note: str, **more: object) -> Finding:
        return finding(self.mounts.primary.name, kind, note, **more)

    def _database(self, seen: Seen, repair: bool) -> Findings:
        """Damage of the file, broken foreign keys (I2), lost triggers, indexes and tables."""
        damages, left = self._damages(repair)
        for damage in damages:
            action = "" if damage in left else "mended"
            yield self._finding("broken", f"the catalog is damaged: {damage}", action=action)
        if left:  # what is kept may not be found
            seen.unreadable, seen.complete = True, False
            return
        with self.catalog.read() as connection:
            dangling = health.dangling(connection)
            notes = health.broken(connection)
            tables = health.lost_tables(connection)
            lost = [f"the index {name}" for name in health.lost_indexes(connection)]
            lost += [f"the trigger {name}" for name in health.lost_triggers(connection)]
        gone = [name for name in tables if not health.is_made_anew(name)]
        lost += [f"the table {name}" for name in tables if name not in gone]
        seen.unreadable = bool(dangling or gone or (tables and not repair))
        seen.complete = seen.complete and not seen.unreadable
        for note in [*dangling, *notes]:
            yield self._finding("broken", note)
        doubled: list[str] = []
        if lost and repair and not gone:
            with self.catalog.write() as connection:
                doubled = health.mend_tables(connection)
                health.mend_triggers(connection)
        for what in lost:
            stays = gone or what.removeprefix("the index ") in doubled
            action = "mended" if repair and not stays else ""
            note = f"{what} is lost"
            note += ", and cannot be made: rows are there twice" if stays and not gone else ""
            yield self._finding("broken", note, action=action)
        for name in gone:
            note = f"the table {name} is lost, and what is kept with it: put back a copy"
            yield self._finding("broken", note)

    def _damages(self, repair: bool) -> tuple[list[str], list[str]]:
        """Damage of the file that was there, and what is left of it now.

        A look tells of the first ones only: each mends the indexes that it tells of. It may be the
        rows that are wrong, and nobody has what they kept: that is held for a while.
        """
        left = self._looked_over()
        found, mended = list(left), set[str]()
        while repair and (hurt := set(health.hurt_indexes(left)) - mended):
            with self.catalog.write() as connection:
                health.mend_indexes(connection, sorted(hurt))
                holdings.hold_what_nobody_has(connection, self.catalog.clock() + HELD)
            mended |= hurt
            left = self._looked_over()
            found += [damage for damage in left if damage not in found]
        return found, left

    def _looked_over(self) -> list[str]:
        with self.catalog.read() as connection:
            return health.damages(connection)

    def _rows(self, seen: Seen) -> Findings:
        """Rows that no writer of ours writes: unreadable, odd keys (I10), without result (I13)."""
        with self.catalog.read() as connection:
            unreadable = legible.unreadable(connection, SHOWN + 1)
            no_digests = legible.no_digests(connection, SHOWN)
            odd = health.odd_keys(connection, SHOWN + 1)
            empty = health.without_output(connection, SHOWN + 1)
        seen.unreadable = bool(odd or no_digests)
        seen.complete = (
            seen.complete and not seen.unreadable and max(len(unreadable), len(empty)) <= SHOWN
        )
        for what in [*no_digests, *unreadable[:SHOWN]]:
            yield self._finding("broken", f"{what}: mend it by hand, or put back a copy")
        for digest, key in odd[:SHOWN]:
            note = f"the catalog holds {key!r}, which is no key of it: put back a copy"
            yield self._finding("broken", note, digest=None if no_digests else Digest(digest))
        for digest, recipe in empty[:SHOWN]:
            note = f"{recipe} of it is ready, and has not one output: compute it again"
            yield self._finding("broken", note, digest=Digest(digest))
        if max(len(unreadable), len(odd), len(empty)) > SHOWN:
            yield self._finding("broken", f"there are more than {SHOWN} such rows")

    def _bare(self) -> Findings:
        for digest in pages(self.catalog, lambda c, after: copies.bare(c, after, PAGE)):
            yield self._finding(
                "missing", "no copy at all", digest=Digest(digest), action="wanted: put it again"
            )

    def _leaks(self, seen: Seen, repair: bool) -> Findings:
        """I17: what is not kept for good has a candidate, no later than its end; I6: or a date."""
        now = self.catalog.clock()
        with self.catalog.read() as connection:
            forgotten = replicas.forgotten(connection, SHOWN + 1)
        if forgotten and repair:
            with self.catalog.write() as connection:
                replicas.remember(connection, now)
        action = "mended" if repair else ""
        for digest, key in forgotten[:SHOWN]:
            note = "gc would never erase it"
            yield self._finding("leak", note, digest=Digest(digest), key=key, action=action)
        if len(forgotten) > SHOWN:
            seen.complete = seen.complete and repair
            yield self._finding("leak", f"there are more than {SHOWN} such copies", action=action)
        for digest in pages(
            self.catalog, lambda c, after: garbage.unwatched(c, self.hosts, now, after, PAGE)
        ):
            if repair:
                with self.catalog.write() as connection:
                    candidates.append(connection, [(digest, 0, 0)])
            action = "mended" if repair else ""
            note = "gc would never look at it"
            yield self._finding("leak", note, digest=Digest(digest), action=action)

    def _drift(self, repair: bool) -> Findings:
        """I12: what a quota counts is what there is."""
        with self.catalog.read() as connection:
            drifts = settings.drifts(connection)
        for scope, counted, _ in drifts:
            if repair:
                with self.catalog.write() as connection:
                    settings.lock(connection, "quota")
                    settings.set_used(connection, scope, settings.used_bytes(connection, scope))
            note = f"scope {scope!r} counts {counted} bytes wrongly"
            yield self._finding("drift", note, action="mended" if repair else "")

    def _orphans(self) -> Findings:
        now = self.catalog.clock()
        for digest in pages(
            self.catalog,
            lambda c, after: [b.digest for b in listing.orphans(c, now, self.hosts, PAGE, after)],
        ):
            yield self._finding("orphan", "nothing keeps it", digest=Digest(digest))


def _noted(findings: Findings, seen: Seen) -> Findings:
    """The same, counted."""
    for found in findings:
        seen.found[found.kind] += 1
        seen.problems += found.is_problem
        yield found


def _data(sides: list[Side], seen: Seen, budget: int | None) -> Findings:
    """Bytes of all backends, for as long as the budget lets."""
    end = None if budget is None else time.monotonic() + budget / SECOND
    return _of_each(sides, seen, lambda side: side.data(seen, end))


def _of_each(sides: list[Side], seen: Seen, look: Callable[[Side], Findings]) -> Findings:
    """What is found in each backend; one that is only copied to or read may be out of reach.

    It is told once, and taken off ``sides``.
    """
    for side in list(sides):
        try:
            require_there(side.catalog, side.mount)
            yield from look(side)
        except CalotypeError as error:
            if side.mount.role == PRIMARY:
                raise
            seen.complete = False
            sides.remove(side)
            yield finding(side.name, "unreachable", str(error), action="look again later")
