"""Erase: the only place where bytes are deleted, and only at keys that are ``erasing``.

``doomed -> erasing`` is durable before the first delete is sent; then delete, look whether it is
gone, and ``erased``. Every step may be repeated. Erased keys get a second delete a day later, for
writers that were fenced off and wrote late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import Connection

from calotype.backends import Deletes, Key, Remote, Sweeps
from calotype.belonging import claim
from calotype.blocking import make_up
from calotype.catalog import Catalog, copies, intents, replicas, reserve
from calotype.catalog.copies import Copy
from calotype.catalog.intents import INTENT_AGE
from calotype.catalog.repeating import repeated
from calotype.catalog.replicas import Due
from calotype.catalog.reserve import Freeing
from calotype.catalog.states import DOOMED, ERASED, ERASING, WRITING
from calotype.digest import Digest
from calotype.errors import CalotypeError, Corrupt, EraseLocked, NotFound
from calotype.gc.announcing import Announcer
from calotype.gc.terms import Allowance, Terms
from calotype.model import PlanItem
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.quantities import SECOND, Instant

BATCH = 500
THREADS = 8
SLICE = 16
SECOND_DELETE = 24 * 3600 * SECOND
TOMBSTONES = 30 * SECOND_DELETE
REMOTE_DELAY = SECOND_DELETE
LONGEST_BACKOFF = SECOND_DELETE


@dataclass(slots=True)
class Tally:
    """What a run has erased so far; ``locked`` says where it may not, and why."""

    erased: int = 0
    erased_bytes: int = 0
    intents: int = 0
    temporary: int = 0
    failed: int = 0
    waiting: int = 0
    stopped: str = ""
    locked: EraseLocked | None = None
    items: list[PlanItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases what is doomed, in one backend."""

    catalog: Catalog
    mounts: Mounts
    mount: Mount
    terms: Terms
    allowance: Allowance

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.mount.name

    @property
    def delay(self) -> int:
        """How long doomed bytes stay, in microseconds."""
        if self.terms.erase_delay is not None:
            return self.terms.erase_delay
        return REMOTE_DELAY if isinstance(self.mount.backend, Remote) else 0

    def due(self) -> Iterator[Due]:
        """What would be erased now; fenced-off writers' intents too."""
        now = self.catalog.clock()
        yield from self._rows((WRITING,), now)
        yield from self._rows((DOOMED,), now - self.delay)
        yield from self._rows((ERASING,), now)

    def oldest(self) -> Instant:
        """Since when its longest waiting key is due; now where none is."""
        now = self.catalog.clock()
        waiting = (self._first((DOOMED,), now), self._first((ERASING,), now))
        return min(waiting)

    def left(self) -> int:
        """How many keys are due, of a backend in which nothing can be erased now."""
        now = self.catalog.clock()
        states = (((DOOMED,), now - self.delay), ((ERASING,), now))
        return sum(1 for each, cutoff in states for _ in self._rows(each, cutoff))

    def erase(self, tally: Tally, stop: Callable[[], bool]) -> Iterator[None]:
        """Abort stale intents, erase what is due, and sweep what was erased a day ago.

        ``EraseLocked`` where the bytes may be another catalog's.
        """
        require_there(self.catalog, self.mount)
        standing = claim(self.catalog, self.mounts, self.mount)
        standing.require()
        if self.terms.digests is None:
            make_up(self.catalog, self.mount)
        self._abort_stale(tally)  # of an older catalog they may have been kept long since
        announcer = Announcer(self.catalog, self.mount, standing)
        yield from self._erase_due(tally, stop, announcer)
        announcer.prune(self.catalog.clock())
        backend = self.mount.backend
        if self.terms.digests is None and isinstance(backend, Sweeps) and not stop():
            tally.temporary += backend.sweep(self.catalog.clock() - INTENT_AGE)

    def _erase_due(
        self, tally: Tally, stop: Callable[[], bool], announcer: Announcer
    ) -> Iterator[None]:
        allowance = self.allowance
        now = self.catalog.clock()
        for states, cutoff in (((DOOMED,), now - self.delay), ((ERASING,), now)):
            for batch in _batches(self._rows(states, cutoff)):
                chosen = [item for item in batch if allowance.take(item.size)]
                if chosen:
                    reserve.in_parts(chosen, lambda part: self._erase(part, tally, announcer))
                yield
                if stop() or len(chosen) < len(batch):
                    tally.stopped = allowance.stopped or tally.stopped
                    return
        for batch in _batches(self._rows((ERASED,), now)):
            reserve.in_parts(batch, lambda part: self._sweep(part, tally, announcer))
            yield

    def _first(self, states: Sequence[str], cutoff: Instant) -> Instant:
        rows = self._page(states, cutoff, (0, ""), 1)
        return rows[0][0] if rows else cutoff

    def _rows(self, states: Sequence[str], cutoff: Instant) -> Iterator[Due]:
        place = (0, "")
        while True:
            rows = self._page(states, cutoff, place, BATCH)
            yield from (item for _, item in rows)
            if len(rows) < BATCH:
                return
            place = (rows[-1][0], str(rows[-1][1].key))

    def _page(
        self, states: Sequence[str], cutoff: Instant, after: tuple[Instant, str], limit: int
    ) -> list[tuple[Instant, Due]]:
        with self.catalog.read() as connection:
            return replicas.due(
                connection,
                states,
                cutoff,
                backend=self.name,
                digests=self.terms.digests,
                after=after,
                limit=limit,
            )

    def _abort_stale(self, tally: Tally) -> None:
        now = self.catalog.clock()
        for batch in _batches(self._rows((WRITING,), now)):
            reserve.in_parts(batch, lambda part: self._abort(part, tally))

    @repeated
    def _abort(self, items: Sequence[Due], tally: Tally) -> None:
        tokens = [item.token for item in items]
        with self.catalog.write(freeing=Freeing.BYTES) as connection:
            aborted = intents.abort(connection, tokens, self.catalog.clock())
        tally.intents += aborted

    @repeated
    def _erase(self, due: Sequence[Due], tally: Tally, announcer: Announcer) -> None:
        unread = self._look_at_live(due)
        items = [item for item in due if not (item.stray and item.digest in unread)]
        keys = [item.key for item in items]
        with self.catalog.write(freeing=Freeing.BYTES) as connection:
            batch = replicas.erasing(connection, self.name, keys)
            announcer.require_same(batch)
        announcer.announce(batch)
        deleted, failed = self._delete([item for item in items if item.key in batch.keys])
        failed += [item for item in due if item.stray and item.digest in unread]
        now = self.catalog.clock()
        with self.catalog.write(durable=False, freeing=Freeing.BYTES) as connection:
            moved = replicas.erased(
                connection,
                self.name,
                [item.key for item in deleted],
                again_at=now + SECOND_DELETE,
            )
            self._back_off(connection, failed, now)
        gone = [item for item in deleted if item.key in moved]
        tally.erased += len(gone)
        tally.erased_bytes += sum(item.size for item in gone)
        tally.failed += len(failed)
        tally.items += [PlanItem("erase", item.digest, item.size, "let go") for item in gone]

    def _look_at_live(self, items: Sequence[Due]) -> set[Digest]:
        """Read the live copies of each stray's blob; a damaged one is marked, and keeps the stray.

        Returns those that cannot be read for now: nothing is known of them, so strays wait.
        """
        unread: set[Digest] = set()
        strays = sorted({item.digest for item in items if item.stray})
        if not strays:
            return unread
        with self.catalog.read() as connection:
            live = copies.live_anywhere(connection, strays)
        keys = {item.key for item in items if item.stray}
        for copy in live:
            whole = copy.suspect or self._is_whole(copy, keys)
            if whole is None:
                unread.add(copy.blob.digest)
            elif not whole:
                with self.catalog.write(freeing=Freeing.BYTES) as connection:
                    replicas.suspect(connection, copy.token, self.catalog.clock())
        return unread

    def _is_whole(self, copy: Copy, strays: Set[Key]) -> bool | None:
        """None where that cannot be told now: only what is surely gone is missing.

        Nor is it told by a stray itself, which lies in another backend's place as well.
        """
        mount = next((each for each in self.mounts.all if each.name == copy.backend), None)
        if mount is None:
            return None
        try:
            if mount.name != self.name and copy.key in strays and mount.is_place_of(self.mount):
                return None
            with mount.backend.open(copy.key) as file:
                return Digest.of(file) == copy.blob.digest
        except (Corrupt, NotFound):
            require_there(self.catalog, mount)
            return False
        except (CalotypeError, OSError):
            return None

    def _delete(self, items: Sequence[Due]) -> tuple[list[Due], list[Due]]:
        """Delete and look whether it is gone; deletes wait for the disk, so several at once."""
        slices = [items[first : first + SLICE] for first in range(0, len(items), SLICE)]
        with ThreadPoolExecutor(THREADS) as pool:
            gone = [away for done in pool.map(self._delete_slice, slices) for away in done]
        deleted = [item for item, away in zip(items, gone, strict=True) if away]
        failed = [item for item, away in zip(items, gone, strict=True) if not away]
        return deleted, failed

    def _delete_slice(self, items: Sequence[Due]) -> list[bool]:
        backend = self.mount.backend
        if not isinstance(backend, Deletes):
            return [self._is_deleted(item, one_by_one=True) for item in items]
        with suppress(CalotypeError):  # what is left is seen
            backend.delete_all([item.key for item in items])
        return [self._is_deleted(item, one_by_one=False) for item in items]

    def _is_deleted(self, item: Due, *, one_by_one: bool) -> bool:
        try:
            if one_by_one:
                self.mount.backend.delete(item.key)
            return self.mount.backend.size(item.key) is None
        except CalotypeError:
            return False

    def _back_off(self, connection: Connection, failed: Sequence[Due], now: Instant) -> None:
        for item in failed:
            wait = min(60 * SECOND << min(item.attempts, 20), LONGEST_BACKOFF)
            replicas.put_off(connection, [item], now + wait)

    @repeated
    def _sweep(self, items: Sequence[Due], tally: Tally, announcer: Announcer) -> None:
        """The second delete; after it a token key's tombstone is forgotten, a plain one stays."""
        first = [item for item in items if not item.attempts]
        if first:
            announcer.confirm()
        deleted, failed = self._delete(first)
        now = self.catalog.clock()
        with self.catalog.write(freeing=Freeing.BYTES) as connection:
            replicas.put_off(connection, [i for i in deleted if not i.plain], now + TOMBSTONES)
            replicas.put_off(connection, [item for item in deleted if item.plain], None)
            replicas.prune(connection, [item for item in items if item.attempts])
        tally.failed += len(failed)


def _batches(rows: Iterator[Due]) -> Iterator[list[Due]]:
    batch: list[Due] = []
    for item in rows:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
