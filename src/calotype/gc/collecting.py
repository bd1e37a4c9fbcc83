"""Look and doom: from candidates to blobs that nothing keeps.

Each batch is one transaction: released references and passed holds go, then assets that nothing
keeps, then blob rows; the database refuses a row that something still points at, and a refused
batch is replayed one digest at a time, so that one of them never stops a run. These commits need
no sync: what a power cut takes back is simply garbage again, and no byte is deleted before the
eraser's durable commit, which carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from calotype.belonging import locked
from calotype.catalog import Catalog, backends, candidates, garbage, replicas, reserve
from calotype.catalog.backends import Known
from calotype.catalog.candidates import Look
from calotype.catalog.columns import Hosts
from calotype.catalog.failures import disk_full
from calotype.catalog.garbage import Garbage
from calotype.catalog.repeating import repeated
from calotype.catalog.reserve import Freeing
from calotype.digest import Digest
from calotype.errors import Unavailable
from calotype.gc.announcing import CHANGED
from calotype.gc.safety import Safety
from calotype.gc.terms import Allowance, Terms
from calotype.model import PlanItem
from calotype.quantities import FOREVER, Instant, when

BATCH = 500

SLICE = 1024
"""So many references of one digest go together on a full disk, or fewer."""


@dataclass(slots=True)
class Tally:
    """What a run has done so far.

    ``crowded`` are digests that found no room on a full disk, and so were ``refused``; ``no_room``
    is why.
    """

    assets: int = 0
    references: int = 0
    doomed: int = 0
    doomed_bytes: int = 0
    refused: int = 0
    stopped: str = ""
    no_room: Unavailable | None = None
    crowded: set[str] = field(default_factory=set)
    items: list[PlanItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Collector:
    """Looks at candidates and dooms blobs.

    ``known`` are the backends as the catalog had them when they were found to be its own:
    ``EraseLocked`` where an older one was put in its place meanwhile. ``sound`` is asked before
    a batch, and raises where what is kept may seem to be garbage.
    """

    catalog: Catalog
    hosts: Hosts
    terms: Terms
    safety: Safety
    known: Sequence[Known] = ()
    sound: Callable[[], None] = lambda: None

    def look(self) -> Iterator[list[Garbage]]:
        """What is garbage now, batch by batch, without changing anything."""
        seen: set[str] = set()
        allowance = Allowance(self.terms)
        for looks in self._batches():
            digests = [each.digest for each in looks if each.digest not in seen]
            seen.update(digests)
            with self.catalog.read() as connection:
                found = garbage.garbage(connection, digests, self.terms.cutoff, self.hosts)
            yield [item for item in found if allowance.take(item.size)]
            if allowance.spent:
                return

    def collect(self, tally: Tally, stop: Callable[[], bool]) -> Iterator[None]:
        """Doom what is garbage, batch by batch, until nothing is due or ``stop()`` says so.

        What a batch deletes may make more candidates (derived outputs); they are taken up in
        the same run.
        """
        allowance = Allowance(self.terms)
        before = -1
        while before != tally.assets + tally.doomed:
            before = tally.assets + tally.doomed
            for looks in self._batches():
                self.sound()
                self._batch(looks, tally, allowance)
                yield
                if stop() or allowance.spent:
                    tally.stopped = allowance.stopped
                    return

    def _batches(self) -> Iterator[list[Look]]:
        if self.terms.digests is not None:
            chosen = sorted(self.terms.digests)
            for first in range(0, len(chosen), BATCH):
                yield from self._due(chosen[first : first + BATCH], named=True)
        elif self.terms.full:
            yield from self._everything()
        else:
            yield from self._due(None)

    def _due(self, digests: Sequence[str] | None, *, named: bool = False) -> Iterator[list[Look]]:
        with self.catalog.read() as connection:
            upto = candidates.newest(connection)
        place: tuple[Instant, int] | None = (0, 0)
        while place is not None:
            with self.catalog.read() as connection:
                looks, place = candidates.due(
                    connection,
                    self.terms.cutoff,
                    digests=digests,
                    after=place,
                    upto=upto,
                    limit=BATCH,
                )
            if looks:
                yield looks
        if named and digests:
            yield [Look(digest, (), 0) for digest in digests]

    def _everything(self) -> Iterator[list[Look]]:
        after = ""
        while True:
            with self.catalog.read() as connection:
                digests = candidates.every_digest(connection, after, BATCH)
            if not digests:
                break
            yield [Look(digest, (), 0) for digest in digests]
            after = digests[-1]
        yield from self._due(None)

    def _batch(self, looks: Sequence[Look], tally: Tally, allowance: Allowance) -> None:
        reserve.in_parts(
            looks,
            lambda part: self._part(part, tally, allowance),
            lambda look: self._alone(look, tally, allowance),
        )

    def _part(self, looks: Sequence[Look], tally: Tally, allowance: Allowance) -> None:
        try:
            self._transaction(looks, tally, allowance)
        except IntegrityError:
            for look in looks:
                try:
                    self._transaction([look], tally, allowance)
                except IntegrityError:
                    tally.refused += 1
                    self._push([look])

    def _alone(self, look: Look, tally: Tally, allowance: Allowance) -> None:
        """A digest of which there is too much for a full disk: some of it at a time.

        One that does not fit even so stops nobody; the next run has the room of the others.
        """
        if look.digest in tally.crowded:
            return
        try:
            self._thin(look, tally)
            self._part([look], tally, allowance)
        except Unavailable as error:
            if not disk_full(error):
                raise
            tally.crowded.add(look.digest)
            tally.refused += 1
            tally.no_room = error

    def _thin(self, look: Look, tally: Tally) -> None:
        """Let the released references of a digest go, and candidates but for one."""
        most = SLICE
        while True:
            try:
                with self.catalog.write(durable=False, freeing=Freeing.BYTES) as connection:
                    self._require_same(connection)
                    references = garbage.collect_references(
                        connection, [look.digest], self.terms.cutoff, most
                    )
                    looks = candidates.thin(connection, look.digest, most)
            except Unavailable as error:
                if most == 1 or not disk_full(error):
                    raise
                most = max(1, most // 4)
            else:
                tally.references += references
                if not references + looks:
                    return

    @repeated
    def _transaction(self, looks: Sequence[Look], tally: Tally, allowance: Allowance) -> None:
        with (
            allowance.given_back_if_refused(),
            self.catalog.write(durable=False, freeing=Freeing.BYTES) as connection,
        ):
            self._require_same(connection)
            free = garbage.claim(connection, [look.digest for look in looks])
            looks = [look for look in looks if look.digest in free]
            digests = [look.digest for look in looks]
            found = garbage.garbage(connection, digests, self.terms.cutoff, self.hosts)
            taken = [item for item in found if allowance.take(item.size)]
            self.safety.check(connection, tally.doomed, len(taken))
            left = {item.digest for item in found}.difference(item.digest for item in taken)
            references, assets = garbage.collect_assets(
                connection,
                [digest for digest in digests if digest not in left],
                self.terms.cutoff,
                self.hosts,
            )
            self._doom(connection, taken)
            self._settle(connection, [look for look in looks if look.digest not in left])
        tally.references += references
        tally.assets += len(assets)
        tally.doomed += len(taken)
        tally.doomed_bytes += sum(item.size for item in taken)
        tally.items += [describe(item) for item in taken]

    def _require_same(self, connection: Connection) -> None:
        """Raise where the catalog was put back: what it lets go of may be wanted since."""
        now = {each.name: each for each in backends.known(connection)} if self.known else {}
        for each in self.known:
            found = now.get(each.name, each)
            other = each.generation and found.generation != each.generation
            if other or found.erase_seq < each.erase_seq:
                raise locked(each.name, CHANGED, "Run gc again.")

    def _doom(self, connection: Connection, taken: Sequence[Garbage]) -> None:
        digests = [item.digest for item in taken]
        if digests:
            replicas.doom_all(connection, digests, self.catalog.clock(), admitted=False)
            garbage.let_go(connection, digests)
            candidates.settle(connection, digests)

    def _settle(self, connection: Connection, looks: Sequence[Look]) -> None:
        """Take off what is settled; look again later at what only waits for its time."""
        later = garbage.pending(connection, [look.digest for look in looks], self.hosts)
        again = []
        for look in looks:
            wait = later.get(look.digest)
            if wait is None:
                continue
            push = candidates.next_push(look.pushed) if wait.by_column else 0
            pushed_to = self.catalog.clock() + push if wait.by_column else FOREVER
            again.append((look.digest, min(pushed_to, wait.ends_at or FOREVER), push))
        candidates.append(connection, again)
        candidates.take_off(connection, [ident for look in looks for ident in look.ids])

    @repeated
    def _push(self, looks: Sequence[Look]) -> None:
        with self.catalog.write(freeing=Freeing.BYTES) as connection:
            now = self.catalog.clock()
            for look in looks:
                push = candidates.next_push(look.pushed)
                candidates.append(connection, [(look.digest, now + push, push)])
                candidates.take_off(connection, look.ids)


def describe(item: Garbage) -> PlanItem:
    """What would be doomed, and why, for people."""
    reason = (
        f"nothing keeps it since {when(item.since):%Y-%m-%d %H:%M:%S}Z"
        if item.since
        else ("nothing keeps it")
    )
    return PlanItem("doom", Digest(item.digest), item.size, reason)
