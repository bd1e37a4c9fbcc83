"""Markers: two catalogs that may both be taken for the one of a backend, and none erases wrongly.

One digest, a plain key and some with tokens. A catalog is saved and put back later, or cloned; its
gc goes on meanwhile, step by step, and each delete that it sends may land at any later time, also
twice. Puts and dooming are one step here: how they go on is the model ``put_gc``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.explorer import Invariant, Model
from tests.model.rows import changed

from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE

NONE, SUSPECT = "none", "suspect"
PLAIN = 0
NOBODY = -1

OWN = "I16 who may erase has its bytes"
KEPT = "I3 promises are kept"


class Catalog(NamedTuple):
    """Replica rows by key; what it believes of the backend; where it was at home.

    ``kept`` is the key of bytes that it promised since it was put back or cloned.
    """

    keys: tuple[str, ...]
    epoch: int = 1
    generation: int = 0
    seq: int = 0
    at_home: bool = True
    kept: int = NOBODY


class Marker(NamedTuple):
    """What the backend says of itself."""

    epoch: int = 1
    generation: int = 0
    seq: int = 0
    recovering: bool = False


class Gc(NamedTuple):
    """Where a catalog's gc is: at which key, in which generation, with which number."""

    doing: str = "idle"
    key: int = NOBODY
    generation: int = 0
    epoch: int = 1
    seq: int = 0


class Recovery(NamedTuple):
    """Where a recovery is: the marker that it read, the keys that were named, what it saw there."""

    doing: str = "idle"
    read: Marker = Marker()
    named: frozenset[int] = frozenset()
    there: tuple[bool, ...] = ()


IDLE, RESTING = Gc(), Recovery()


class State(NamedTuple):
    """Catalogs with their processes, the backend, deletes that may still land, and what is left."""

    catalogs: tuple[Catalog | None, ...]
    gcs: tuple[Gc, ...]
    recoveries: tuple[Recovery, ...]
    saved: Catalog | None
    marker: Marker
    notes: frozenset[tuple[int, int]]
    objects: tuple[bool, ...]
    late: frozenset[int]
    used: int
    generations: int
    puts: int
    restores: int
    runs: int


Step = tuple[str, State]


@dataclass(frozen=True)
class Terms:
    """How large the model is, and what is wrong with it.

    ``runs`` bounds recoveries; ``clone`` lets the saved catalog be started beside the first.
    """

    keys: int = 3
    puts: int = 2
    restores: int = 1
    clone: bool = False
    runs: int = 1
    mutant: str = ""


class Markers:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant

    def model(self) -> Model[State]:
        """The model to explore."""
        terms = self.terms
        first = Catalog((NONE,) * terms.keys)
        initial = State(
            (first, None),
            (IDLE, IDLE),
            (RESTING, RESTING),
            None,
            Marker(),
            frozenset(),
            (False,) * terms.keys,
            frozenset(),
            0,
            0,
            terms.puts,
            terms.restores,
            terms.runs,
        )
        return Model(
            f"markers, {self.mutant}" if self.mutant else "markers",
            initial,
            (self.world, self.application, self.collect, self.recover),
            self.invariants(),
        )

    # -- who belongs to whom

    def fits(self, state: State, catalog: Catalog) -> bool:
        """What gc looks at: home, epoch, generation, and that nobody erased more."""
        marker = state.marker
        named = max((seq for seq, _ in state.notes), default=0)
        return (
            (catalog.at_home or self.mutant == "home not looked at")
            and (marker.epoch, marker.generation) == (catalog.epoch, catalog.generation)
            and not marker.recovering
            and max(marker.seq, named) <= catalog.seq
        )

    # -- the world

    def world(self, state: State) -> Iterator[Step]:
        """Save, put back, clone; a delete lands late; a recovery is killed."""
        first, second = state.catalogs
        assert first is not None
        if state.saved is None and state.restores:
            yield "save the catalog", state._replace(saved=first)
        if state.saved is not None and state.restores:
            older = state.saved._replace(kept=NOBODY)
            if self.terms.clone and second is None:
                clone = older._replace(at_home=False)
                after = state._replace(restores=state.restores - 1)
                yield "start a clone", after._replace(catalogs=(first, clone))
            if not self.terms.clone:
                after = state._replace(restores=state.restores - 1)
                yield "put it back", after._replace(catalogs=(older, second))
        for key in sorted(state.late):
            gone = changed(state.objects, key, False)
            yield f"a delete lands at {key}", state._replace(objects=gone)
            yield (
                f"the last delete lands at {key}",
                state._replace(objects=gone, late=state.late - {key}),
            )
        for who in (0, 1):
            if state.recoveries[who] != RESTING:
                idle = changed(state.recoveries, who, RESTING)
                yield f"kill recovery {who}", state._replace(recoveries=idle)

    # -- the application

    def application(self, state: State) -> Iterator[Step]:
        """Put the bytes where they are not, and let go of them."""
        for who, catalog in enumerate(state.catalogs):
            if catalog is None:
                continue
            if LIVE in catalog.keys:
                keys = tuple(DOOMED if row == LIVE else row for row in catalog.keys)
                after = catalog._replace(keys=keys, kept=NOBODY)
                yield f"let go in {who}", self._with(state, who, after)
            elif state.puts and (key := self._free(state, catalog)) is not None:
                rows = tuple(DOOMED if row == SUSPECT else row for row in catalog.keys)
                after = catalog._replace(keys=changed(rows, key, LIVE), kept=key)
                yield (
                    f"put at {key} in {who}",
                    self._with(state, who, after)._replace(
                        objects=changed(state.objects, key, True),
                        used=state.used | 1 << key,
                        puts=state.puts - 1,
                    ),
                )

    def _free(self, state: State, catalog: Catalog) -> int | None:
        """The plain key where nothing speaks against it, else a token that nobody had."""
        plain = catalog.keys[PLAIN] == NONE and catalog.epoch == 1
        if plain and (self.fits(state, catalog) or self.mutant == "plain key in an older catalog"):
            return PLAIN
        return self._token(state)

    def _token(self, state: State) -> int | None:
        fresh = (key for key in range(1, self.terms.keys) if not state.used >> key & 1)
        return next(fresh, None)

    # -- gc

    def collect(self, state: State) -> Iterator[Step]:
        """Look, announce, look twice again, delete: each step by itself."""
        for who, catalog in enumerate(state.catalogs):
            if catalog is not None:
                for label, after, doing in self._gc(state, who, catalog):
                    yield f"{label} by {who}", after._replace(gcs=changed(after.gcs, who, doing))

    def _gc(self, state: State, who: int, catalog: Catalog) -> Iterator[tuple[str, State, Gc]]:
        gc = state.gcs[who]
        steps = {"idle": self._look, "commit": self._commit, "confirm": self._confirm}
        if gc.doing in steps:
            yield from steps[gc.doing](state, who, catalog, gc)
        elif gc.doing == "note":
            notes = state.notes
            if self.mutant != "no note":
                notes |= {(gc.seq, gc.key)}
            yield "note", state._replace(notes=notes), gc._replace(doing="raise")
        elif gc.doing == "raise":
            yield from self._raise(state, gc)
        elif gc.doing == "delete":
            after = state._replace(late=state.late | {gc.key})
            yield "send a delete", after, gc._replace(doing="look whether")
        elif gc.doing == "look whether" and not state.objects[gc.key]:
            keys = catalog.keys
            if keys[gc.key] == ERASING:
                keys = changed(keys, gc.key, ERASED)
            yield "erased", self._with(state, who, catalog._replace(keys=keys)), IDLE

    def _look(
        self, state: State, who: int, catalog: Catalog, gc: Gc
    ) -> Iterator[tuple[str, State, Gc]]:
        busy = any(row in (DOOMED, ERASING) for row in catalog.keys)
        if busy and self.fits(state, catalog):
            looked = Gc("commit", NOBODY, catalog.generation, catalog.epoch, catalog.seq)
            yield "look", state, looked

    def _commit(
        self, state: State, who: int, catalog: Catalog, gc: Gc
    ) -> Iterator[tuple[str, State, Gc]]:
        older = catalog.seq < gc.seq and self.mutant != "goes on in an older catalog"
        if older or catalog.generation != gc.generation:
            yield "the catalog was put back", state, IDLE
            return
        for key, row in enumerate(catalog.keys):
            if row in (DOOMED, ERASING):
                after = catalog._replace(
                    keys=changed(catalog.keys, key, ERASING), seq=catalog.seq + 1
                )
                doing = "delete" if self.mutant == "told afterwards" else "note"
                going_on = gc._replace(doing=doing, key=key, seq=catalog.seq + 1)
                yield f"set {key} erasing", self._with(state, who, after), going_on

    def _confirm(
        self, state: State, who: int, catalog: Catalog, gc: Gc
    ) -> Iterator[tuple[str, State, Gc]]:
        same = catalog.generation == gc.generation and catalog.seq >= gc.seq
        if same or self.mutant == "catalog not looked at again":
            yield "still so", state, gc._replace(doing="delete")
        else:
            yield "the catalog was put back", state, IDLE

    def _raise(self, state: State, gc: Gc) -> Iterator[tuple[str, State, Gc]]:
        marker = state.marker
        own = (marker.epoch, marker.generation) == (gc.epoch, gc.generation)
        mine = own and not marker.recovering
        ahead = gc._replace(doing="confirm")
        if self.mutant == "not looked at again":
            yield "go on", state, ahead
        elif self.mutant == "written over":
            raised = Marker(gc.epoch, gc.generation, max(marker.seq, gc.seq))
            yield "raise blindly", state._replace(marker=raised), ahead
        elif mine:
            raised = marker._replace(seq=max(marker.seq, gc.seq))
            yield "raise", state._replace(marker=raised), ahead
        else:
            yield "stop", state, IDLE

    # -- recovery

    def recover(self, state: State) -> Iterator[Step]:
        """Take over, read the notes, keep what is there, unlock; others go on between."""
        for who, catalog in enumerate(state.catalogs):
            if catalog is not None:
                for label, after, doing in self._recovery(state, who, catalog):
                    recoveries = changed(after.recoveries, who, doing)
                    yield f"{label} by {who}", after._replace(recoveries=recoveries)

    def _recovery(
        self, state: State, who: int, catalog: Catalog
    ) -> Iterator[tuple[str, State, Recovery]]:
        run, marker = state.recoveries[who], state.marker
        if run.doing == "idle" and state.runs and not self.fits(state, catalog):
            unfinished = marker.epoch < catalog.epoch or (
                marker.recovering and marker.generation == catalog.generation
            )
            after = state if unfinished else self._begun(state, who, catalog)
            after = after._replace(runs=state.runs - 1)
            yield "begin an epoch", after, Recovery("take", marker)
        elif run.doing == "take":
            if marker != run.read:
                yield "give up", state, RESTING
                return
            seq = max(marker.seq, catalog.seq, *[seq for seq, _ in state.notes], 0)
            recovering = self.mutant != "unlocked at once"
            taken = Marker(catalog.epoch, catalog.generation, seq, recovering)
            after = self._with(state, who, catalog._replace(seq=seq))._replace(marker=taken)
            yield "take over", after, run._replace(doing="read")
        elif run.doing == "read":
            named = frozenset(key for _, key in state.notes)
            if self.mutant == "notes not read":
                named = frozenset[int]()
            yield "read the notes", state, run._replace(doing="list", named=named)
        elif run.doing == "list":
            yield "list", state, run._replace(doing="keep", there=state.objects)
        elif run.doing == "keep":
            yield "keep", *self._kept(state, who, catalog, run)
        elif run.doing == "end":
            ours = (marker.epoch, marker.generation) == (catalog.epoch, catalog.generation)
            after = state._replace(marker=marker._replace(recovering=False)) if ours else state
            yield "unlock", after, RESTING

    def _begun(self, state: State, who: int, catalog: Catalog) -> State:
        """Another epoch in the catalog; a clone is at home from now on."""
        epoch = max(catalog.epoch, state.marker.epoch) + (self.mutant != "the same epoch")
        after = catalog._replace(
            epoch=epoch, generation=state.generations + 1, at_home=True, kept=NOBODY
        )
        return self._with(state, who, after)._replace(generations=state.generations + 1)

    def _kept(
        self, state: State, who: int, catalog: Catalog, run: Recovery
    ) -> tuple[State, Recovery]:
        """Rows for what has none; copies of what a late delete may hit; marks for what is not there."""
        keys, objects, used = catalog.keys, state.objects, state.used
        for key, row in enumerate(keys):
            late = key in run.named
            sound = any(
                other == LIVE and run.there[at] and at not in run.named
                for at, other in enumerate(keys)
            )
            fresh = self._token(state._replace(used=used))
            if row == LIVE and not run.there[key]:
                keys = changed(keys, key, SUSPECT)
            elif row == LIVE and late and self.mutant != "live where it was erased":
                if objects[key] and fresh is not None:
                    keys = changed(changed(keys, key, DOOMED), fresh, LIVE)
                    objects, used = changed(objects, fresh, True), used | 1 << fresh
                else:
                    keys = changed(keys, key, SUSPECT)
            elif row == NONE and run.there[key] and not sound and LIVE not in keys:
                if not late or self.mutant == "adopted where it was erased":
                    keys = changed(keys, key, LIVE)
                elif objects[key] and fresh is not None:
                    keys = changed(keys, fresh, LIVE)
                    objects, used = changed(objects, fresh, True), used | 1 << fresh
        after = self._with(state, who, catalog._replace(keys=keys))
        return after._replace(objects=objects, used=used), run._replace(doing="end")

    # -- what must hold

    def _with(self, state: State, who: int, catalog: Catalog) -> State:
        return state._replace(catalogs=changed(state.catalogs, who, catalog))

    def invariants(self) -> Mapping[str, Invariant[State]]:
        """By name."""

        def own(state: State) -> bool:
            return all(
                state.objects[key]
                for catalog in state.catalogs
                if catalog is not None and self.fits(state, catalog)
                for key, row in enumerate(catalog.keys)
                if row == LIVE
            )

        def kept(state: State) -> bool:
            """Of a catalog that nobody has taken the bytes from, locked or not."""
            marker = state.marker
            return all(
                state.objects[catalog.kept]
                for catalog in state.catalogs
                if catalog is not None
                and catalog.kept != NOBODY
                and catalog.keys[catalog.kept] == LIVE
                and catalog.at_home
                and (marker.epoch, marker.generation) == (catalog.epoch, catalog.generation)
            )

        return {OWN: own, KEPT: kept}
