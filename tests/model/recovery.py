"""Recovery: what was promised or purged since a catalog was saved outlives that it is put back.

One digest in one backend. A catalog is saved, and put back or started beside the first; puts have
two steps (bytes at a key that has a row; then all that they promise), gc and recovery those of the
code, so that each may be overtaken, fail or be killed between two of them. Attach, release, restore
and purge are one transaction each, and so one step. A delete that was sent may land at any later
time, also twice. Where nothing tells that an older catalog was put back, nobody runs gc before the
recovery, and a gc that has announced nothing is stopped; nobody puts a catalog back while it is
being recovered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.model.explorer import Invariant, Model
from tests.model.recovery_gc import Collector
from tests.model.recovery_steps import Recoverer
from tests.model.recovery_store import (
    ABSENT,
    GONE,
    HERE,
    IDLE,
    NO,
    NOBODY,
    NOTHING,
    PUT,
    RESTING,
    TOLD,
    TRASH,
    USED,
    WISHED,
    Catalog,
    Left,
    State,
    Step,
    Terms,
    all_doomed,
    doomed,
    doubted,
    fault,
    free_key,
    initial,
    is_blob,
    live,
    made_live,
    taken_from,
    unknown_to,
    with_catalog,
    written,
)
from tests.model.rows import changed

from calotype.catalog.states import WRITING

KEPT = "I3 promises are kept"
LOCKED = "nothing is erased before recovery has ended"
ONE = "I16 one may erase"
AWAY = "what was purged stays away"
WAY_OUT = "recovery keeps all and unlocks"


class Recoveries:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self.recoverer = Recoverer(terms)
        self._mended: dict[State, bool] = {}

    def model(self) -> Model[State]:
        """The model to explore."""
        return Model(
            f"recovery, {self.mutant}" if self.mutant else "recovery",
            initial(self.terms),
            (
                self.world,
                self.application,
                self.administrator,
                Collector(self.terms).steps,
                self.recoverer.steps,
            ),
            self.invariants(),
        )

    # -- the world

    def world(self, state: State) -> Iterator[Step]:
        """Save, put back; the marker is lost; a delete lands late."""
        first = state.catalogs[0]
        assert first is not None
        if state.left.restores and not self.terms.clone:
            if state.saved is None:
                yield "save the catalog", state._replace(saved=first)
            elif state.recoveries[0] == RESTING:
                yield "put it back", self._put_back(state, first, state.saved)
        if state.left.losses and not any(state.begun):
            left = state.left._replace(losses=state.left.losses - 1)
            yield "the marker is lost", state._replace(marker=GONE, left=left)
        for key, at in enumerate(state.objects):
            if at != ABSENT and state.late >> key & 1:
                objects = changed(state.objects, key, ABSENT)
                yield f"a delete lands at {key}", state._replace(objects=objects)

    def _put_back(self, state: State, first: Catalog, older: Catalog) -> State:
        quiet = not fault(state, older)
        left = state.left._replace(restores=state.left.restores - 1)
        gc = state.gcs[0]
        return with_catalog(state, 0, older)._replace(
            gcs=changed(state.gcs, 0, IDLE if quiet and gc.doing in ("let go", "erase") else gc),
            saved=None,
            left=left,
            quiet=quiet,
            doubt=(True, False),
            accounted=False,
            owed=taken_from(state, first, older),
            banned=state.banned if state.banned == TOLD else NO,
        )

    # -- the application

    def application(self, state: State) -> Iterator[Step]:
        """Put, attach, restore, release, and let go of what a recovery keeps."""
        for who, catalog in enumerate(state.catalogs):
            if catalog is not None:
                for label, after in self._applied(state, who, catalog):
                    yield f"{label} in {who}", after

    def _applied(self, state: State, who: int, catalog: Catalog) -> Iterator[Step]:
        sound = [key for key in live(catalog) if state.objects[key] != ABSENT]
        known = state.owner == who and (not state.doubt[who] or state.accounted)
        if state.putting[who] != NOBODY:
            yield from self._putting(state, who, catalog, state.putting[who])
        elif state.left.puts and not sound and not catalog.blocked:
            key = free_key(state, catalog)
            if key is not None:
                yield f"write at {key}", self._written(state, who, catalog, key)
        if is_blob(catalog) and (catalog.use != USED or state.owed == NO) and live(catalog):
            after = with_catalog(state, who, catalog._replace(use=USED))
            yield "attach or restore", self._promised(after, who)
        if catalog.use == USED:
            after = with_catalog(state, who, catalog._replace(use=TRASH))
            owed = NO if state.owed == WISHED and known else state.owed
            yield "release", after._replace(owed=owed)
        if catalog.held and known:
            use = catalog.use if catalog.use != NOTHING else TRASH
            after = with_catalog(state, who, catalog._replace(held=False, use=use))
            owed = WISHED if catalog.use == USED and state.owed != NO else NO
            yield "let go of what was held", after._replace(owed=owed)

    def _written(self, state: State, who: int, catalog: Catalog, key: int) -> State:
        catalog = doubted(state, catalog)
        after = with_catalog(state, who, catalog._replace(rows=changed(catalog.rows, key, WRITING)))
        return written(after, key)._replace(
            putting=changed(state.putting, who, key),
            left=state.left._replace(puts=state.left.puts - 1),
        )

    def _putting(self, state: State, who: int, catalog: Catalog, key: int) -> Iterator[Step]:
        """All that was promised in one transaction, unless the writer was fenced off."""
        idle = state._replace(putting=changed(state.putting, who, NOBODY))
        if catalog.rows[key] != WRITING:
            yield "go round again", idle
            return
        if catalog.blocked:
            yield "refused", with_catalog(idle, who, doomed(catalog, key))
            return
        after = doomed(catalog, key) if live(catalog) else made_live(catalog, key)
        yield (
            f"settle {key}",
            self._promised(with_catalog(idle, who, after._replace(use=USED)), who),
        )

    def _promised(self, state: State, who: int) -> State:
        """It counts where the bytes are the catalog's, nobody is to delete them, or purged them."""
        catalog = state.catalogs[who]
        assert catalog is not None
        there = any(
            state.objects[key] != ABSENT and not self._is_named(state, key) for key in live(catalog)
        )
        purged = state.banned == TOLD and state.doubt[who]
        if who != state.owner or not there or purged:
            return state
        again = state.owed == PUT and unknown_to(state, catalog)
        return state._replace(owed=PUT if again else WISHED)

    def _is_named(self, state: State, key: int) -> bool:
        return any(key == named for _, named in state.notes)

    # -- the administrator

    def administrator(self, state: State) -> Iterator[Step]:
        """Purge with a block, and take the block off again."""
        who = state.owner
        catalog = state.catalogs[who]
        assert catalog is not None
        if state.left.purges and is_blob(catalog):
            purges = state.purges + 1
            after = with_catalog(state, who, all_doomed(catalog)._replace(blocked=purges))
            yield (
                f"purge in {who}",
                after._replace(
                    purges=purges,
                    owed=NO,
                    banned=HERE,
                    left=state.left._replace(purges=state.left.purges - 1),
                ),
            )
        idle = state._replace(unblocking=changed(state.unblocking, who, False))
        fits = not fault(state, catalog)
        if state.unblocking[who]:
            if fits or self.mutant == "unblocked though the note stays":
                after = with_catalog(idle, who, catalog._replace(blocked=0))
                yield f"unblock in {who}", after._replace(noted=state.noted and not fits, banned=NO)
            else:
                yield f"the block stays in {who}", idle
        elif state.left.unblocks and catalog.blocked and fits:
            yield (
                f"take the note back in {who}",
                state._replace(
                    noted=False,
                    banned=HERE,
                    unblocking=changed(state.unblocking, who, True),
                    left=state.left._replace(unblocks=state.left.unblocks - 1),
                ),
            )

    # -- what must hold

    def invariants(self) -> Mapping[str, Invariant[State]]:
        """By name."""
        return {
            KEPT: kept,
            LOCKED: locked,
            ONE: one,
            AWAY: gone,
            WAY_OUT: self._has_a_way_out,
        }

    def _has_a_way_out(self, state: State) -> bool:
        """If everybody were killed now, and a recovery ran to its end."""
        calm = state._replace(
            gcs=(IDLE, IDLE),
            recoveries=(RESTING, RESTING),
            putting=(NOBODY, NOBODY),
            unblocking=(False, False),
            saved=None,
            left=Left(0, 0, 1, 0, 0, 0, 0),
            quiet=False,
            accounted=False,
            doubt=changed(state.doubt, state.owner, True),
        )
        known = self._mended.get(calm)
        if known is None:
            ended = self.recoverer.ended(calm, state.owner)
            catalog = ended.catalogs[state.owner]
            assert catalog is not None
            unlocked = not fault(ended, catalog) and not ended.doubt[state.owner]
            known = unlocked and kept(ended) and gone(ended)
            self._mended[calm] = known
        return known


def _owner(state: State) -> Catalog:
    catalog = state.catalogs[state.owner]
    assert catalog is not None
    return catalog


def kept(state: State) -> bool:
    """What is owed has bytes, and a keeper once recovery has ended.

    Held for good is what somebody has put at a key that the catalog knew nothing of.
    """
    if state.owed == NO:
        return True
    if all(at == ABSENT for at in state.objects):
        return False
    if state.doubt[state.owner]:
        return True
    catalog = _owner(state)
    there = any(state.objects[key] != ABSENT for key in live(catalog))
    return there and (catalog.held or (catalog.use == USED and state.owed != PUT))


def locked(state: State) -> bool:
    """Who has begun a recovery and not ended it may not erase."""
    return all(
        bool(fault(state, catalog))
        for who, catalog in enumerate(state.catalogs)
        if catalog is not None and state.begun[who]
    )


def one(state: State) -> bool:
    """At most one catalog may erase."""
    return sum(c is not None and not fault(state, c) for c in state.catalogs) <= 1


def gone(state: State) -> bool:
    """What was purged is kept by nobody once recovery has ended, and refused."""
    if state.banned == NO or state.doubt[state.owner]:
        return True
    catalog = _owner(state)
    return catalog.blocked > 0 and not is_blob(catalog)
