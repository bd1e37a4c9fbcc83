"""Plan, then execute: what gc would do, shown; then done, with every row checked again."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from calotype.belonging import Fault, behind
from calotype.catalog import Catalog, copies, health, settings, uploads
from calotype.catalog.backends import PRIMARY
from calotype.catalog.columns import Hosts
from calotype.catalog.failures import disk_failed, disk_full
from calotype.catalog.intents import INTENT_AGE
from calotype.catalog.repeating import repeated
from calotype.catalog.replicas import Due
from calotype.catalog.reserve import Freeing
from calotype.errors import CalotypeError, EraseLocked, NotFound, Unavailable
from calotype.gc.collecting import Collector, describe
from calotype.gc.collecting import Tally as Collected
from calotype.gc.erasing import LONGEST_BACKOFF, Eraser
from calotype.gc.erasing import Tally as Erased
from calotype.gc.safety import Safety
from calotype.gc.terms import Allowance, Terms
from calotype.model import PlanItem, Report
from calotype.mounting import Mounts
from calotype.presence import require_there
from calotype.progress import Progress, Run
from calotype.quantities import SECOND, Instant, when

logger = logging.getLogger("calotype.gc")

SHOWN = 10_000
"""How many items a plan and a report list one by one; the totals count all."""

REMEMBERED = 30 * 24 * 3600 * SECOND
"""How long a plan can be executed."""

NOWHERE = "none"
"""The id of a plan that was not kept."""


@dataclass(frozen=True, slots=True)
class Gc:
    """What gc needs: rows, bytes, and the application's columns."""

    catalog: Catalog
    mounts: Mounts
    hosts: Hosts

    def plan(self, terms: Terms) -> Plan:
        """Look at what ``terms`` come to and keep them under an id; nothing is removed.

        The id is ``none`` where they could not be kept.
        """
        if not self.catalog.exists():
            return Plan(NOWHERE, when(self.catalog.clock()), terms, (), 0, 0, 0, 0, self)
        now = self.catalog.clock()
        ident = f"gc-{secrets.token_hex(4)}"
        with self.catalog.read() as connection:
            self.hosts.refuse_cascades(connection)
        made = self._looked(ident, now, terms)
        return made if self._keep(ident, now, terms) else replace(made, id=NOWHERE)

    def erasers(self, terms: Terms) -> list[Eraser]:
        """One for each backend; where time is short, the one that waited longest comes first."""
        self.mounts.refresh()
        found = [
            Eraser(self.catalog, self.mounts, mount, terms, Allowance(terms))
            for mount in self.mounts.all
        ]
        return found if terms.budget is None else sorted(found, key=Eraser.oldest)

    def due(self, terms: Terms) -> Iterator[Due]:
        """What would be erased, within the limits.

        Of a backend that cannot be opened nothing is known.
        """
        for eraser in self.erasers(terms):
            try:
                for due in eraser.due():
                    if not eraser.allowance.take(due.size):
                        break
                    yield due
            except CalotypeError:
                if eraser.mount.role == PRIMARY:
                    raise

    def erase(self, terms: Terms, tally: Erased, stop: Callable[[], bool]) -> Iterator[None]:
        """Erase in every backend; one that is locked, or only copied to or read, stops no run."""
        for eraser in self.erasers(terms):
            if stop():
                return
            try:
                yield from eraser.erase(tally, stop)
            except EraseLocked as error:
                tally.locked = tally.locked or error
            except CalotypeError as error:
                if eraser.mount.role == PRIMARY:
                    raise
                with suppress(CalotypeError):
                    tally.waiting += eraser.left()
                logger.warning("gc leaves backend %s for later: %s", eraser.name, error)

    def _keep(self, ident: str, now: Instant, terms: Terms) -> bool:
        """False on a disk that cannot be written, where a plan can still be looked at."""
        try:
            with self.catalog.write(durable=False, freeing=Freeing.BYTES) as connection:
                settings.forget_plans(connection, now - REMEMBERED)
                uploads.forget(connection, now)
                settings.save_plan(connection, ident, now, terms.to_json())
        except Unavailable as error:
            if disk_failed(error):
                raise
            return False
        return True

    def load(self, ident: str) -> Plan:
        """The plan of that id, looked at anew; ``NotFound`` for none, or one too old."""
        with self.catalog.read() as connection:
            found = settings.load_plan(connection, ident)
        if found is None or found[0] < self.catalog.clock() - REMEMBERED:
            raise NotFound(f"No gc plan {ident!r}.", hint="Make one with 'calotype gc --dry-run'.")
        return self._looked(ident, found[0], Terms.from_json(found[1]))

    def _looked(self, ident: str, now: Instant, terms: Terms) -> Plan:
        items: list[PlanItem] = []
        doomed = doomed_bytes = erased = erased_bytes = 0
        for batch in Collector(self.catalog, self.hosts, terms, Safety(ident)).look():
            doomed += len(batch)
            doomed_bytes += sum(item.size for item in batch)
            items += [describe(item) for item in batch[: SHOWN - len(items)]]
        for due in self.due(terms):
            erased += 1
            erased_bytes += due.size
            if len(items) < SHOWN:
                why = "its writer is gone" if due.state == "writing" else "let go before"
                items.append(PlanItem("erase", due.digest, due.size, why))
        if doomed + erased:
            _require_sound(self.catalog, terms)
        return Plan(
            ident, when(now), terms, tuple(items), doomed, doomed_bytes, erased, erased_bytes, self
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do: ``doomed`` blobs let go, ``erased`` keys of blobs let go before."""

    id: str
    created_at: datetime
    terms: Terms
    items: tuple[PlanItem, ...]
    doomed: int
    doomed_bytes: int
    erased: int
    erased_bytes: int
    _gc: Gc

    def is_safe(self) -> bool:
        """False where ``execute`` asks for ``force``."""
        if not self._gc.catalog.exists():
            return True
        with self._gc.catalog.read() as connection:
            return Safety(self.id).allows(connection, 0, self.doomed)

    def locked(self) -> EraseLocked | None:
        """The error in which ``execute`` would end by now, with what mends that.

        None where nothing locks it, or that cannot be asked.
        """
        if not self._gc.catalog.exists():
            return None
        with suppress(CalotypeError):
            found = behind(self._gc.catalog, self._gc.mounts, frozenset(Fault))
            return found.error if found is not None else None
        return None

    def execute(self, force: bool = False) -> Report:
        """Do it; every row is checked again, and what is kept by now stays.

        Unless ``force``, ``GcLimit`` where more would go than max(20 %, 1000 blobs): before
        anything is removed, or when it turns out on the way that more is garbage by now.
        ``EraseLocked``, once all else is done, where a backend's bytes may be another catalog's;
        nothing is let go of where this one may be older than they are.
        """
        return self.run(force=force).result()

    def run(self, force: bool = False) -> Run[Progress, Report]:
        """``execute`` as a Run of Progress; stopping it loses nothing, the next run goes on."""
        return Run(lambda: self._steps(force), name="gc")

    def _steps(self, force: bool) -> Generator[Progress, None, Report]:
        catalog = self._gc.catalog
        if not catalog.exists():
            return Report(self.id)
        require_there(catalog, self._gc.mounts.primary)
        safety = Safety(self.id, force)
        with catalog.read() as connection:
            safety.check(connection, 0, self.doomed)
            self._gc.hosts.refuse_cascades(connection)
        sound = cache(lambda: _require_sound(catalog, self.terms))
        collected, erased = Collected(), Erased()
        stop = _Budget(self.terms.budget)
        total = 2 * self.doomed + self.erased
        known = catalog.look_at_backends()  # before their markers, which may only be ahead of it
        ahead = behind(catalog, self._gc.mounts)
        collector = Collector(catalog, self._gc.hosts, self.terms, safety, known, sound)
        if ahead is None:
            for _ in collector.collect(collected, stop):
                done = collected.doomed
                yield Progress(max(total, done), done, computed=done, note="letting go")
        waiting = self._waiting()
        if any(True for _ in self._gc.due(self.terms)):
            sound()
        for _ in self._erased(erased, stop):
            done = collected.doomed + erased.erased
            at_least = max(total, done)
            yield Progress(at_least, done, computed=done, failed=erased.failed, note="erasing")
        stopped = "budget" if stop() else collected.stopped or erased.stopped
        if collected.no_room is not None and not collected.doomed + erased.erased:
            raise collected.no_room
        if self.terms.everything and not (stopped or collected.no_room or ahead):
            with catalog.write(durable=False, freeing=Freeing.BYTES) as connection:
                settings.set_meta(connection, "full_look", "0")
        self._record_usage()
        if erased.locked is not None:
            raise erased.locked
        if ahead is not None:
            ahead.require()
        return self._report(collected, erased, waiting, stopped)

    def _erased(self, tally: Erased, stop: Callable[[], bool]) -> Iterator[None]:
        """Erase what is due, then sweep what killed makers of the catalog left."""
        yield from self._gc.erase(self.terms, tally, stop)
        if not stop() and self.terms.digests is None:
            catalog = self._gc.catalog
            tally.temporary += catalog.sweep(catalog.clock() - INTENT_AGE)

    @repeated
    def _record_usage(self) -> None:
        """The day's row of each scope, if it is due; a full disk does without for now."""
        catalog = self._gc.catalog
        try:
            with catalog.write(durable=False, freeing=Freeing.BYTES) as connection:
                if settings.usage_due(connection, catalog.clock()):
                    settings.record_usage(connection, catalog.clock())
        except Unavailable as error:
            if not disk_full(error):
                raise

    def _waiting(self) -> int:
        catalog, now = self._gc.catalog, self._gc.catalog.clock()
        with catalog.read() as connection:
            return copies.waiting(connection, self.terms.digests, now, now + LONGEST_BACKOFF)

    def _report(self, collected: Collected, erased: Erased, waiting: int, stopped: str) -> Report:
        return Report(
            plan=self.id,
            assets=collected.assets,
            references=collected.references,
            doomed=collected.doomed,
            doomed_bytes=collected.doomed_bytes,
            erased=erased.erased,
            erased_bytes=erased.erased_bytes,
            intents=erased.intents,
            temporary=erased.temporary,
            failed=erased.failed,
            waiting=waiting + erased.waiting,
            refused=collected.refused,
            items=tuple([*collected.items, *erased.items][:SHOWN]),
            stopped=stopped,
        )


def _require_sound(catalog: Catalog, terms: Terms) -> None:
    """Raise ``Corrupt`` in a damaged catalog; letting go of single files is not slowed down."""
    if terms.digests is None:
        with catalog.read() as connection:
            health.require_sound(connection)


class _Budget:
    """True once the time is used up."""

    def __init__(self, budget: int | None) -> None:
        self._end = None if budget is None else time.monotonic() + budget / SECOND

    def __call__(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end
