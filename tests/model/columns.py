"""The application's own columns: a foreign key of theirs keeps a blob, and gc changes no row of it.

Two digests in one batch, a table that the application makes and drops while gc runs, and a row
that only the database knows of (a trigger of the application's own that refuses, say). One
collector will do: its transactions look at everything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.explorer import Invariant, Model
from tests.model.rows import changed

NONE, KEPT, LET_GO = "none", "kept", "let go"
"""The asset in the column's scope."""

RESTRICT, CASCADE = "restrict", "cascade"
"""What the table's foreign key says ON DELETE."""

WITH_HIDDEN = 0


class Digest(NamedTuple):
    """Rows of one digest; whether the column points at it, and something that gc cannot see."""

    blob: bool = False
    asset: str = NONE
    look: bool = False
    column: bool = False
    hidden: bool = False


class Gc(NamedTuple):
    """Where gc is, the digests that are its to do, those that were garbage ever since it began,
    the table that it found then, the garbage that it asked for, how much it let go of, and how much counts for its limit.
    """

    doing: str = "idle"
    batch: tuple[int, ...] = ()
    due: frozenset[int] = frozenset()
    seen: str = NONE
    found: tuple[int, ...] = ()
    gone: int = 0
    counted: int = 0


IDLE = Gc()


class State(NamedTuple):
    """The rows, the application's table, gc; and for the invariants what gc has done wrong."""

    digests: tuple[Digest, ...]
    table: str
    gc: Gc
    row_lost: bool
    asset_lost: bool


Step = tuple[str, State]


class Refused(Exception):
    """The database refuses to delete a blob row, and the transaction is rolled back."""


@dataclass(frozen=True)
class Terms:
    """How large the model is, and what is wrong with it.

    ``cascades`` lets the application make a table whose key says CASCADE; ``split`` lets it in
    between gc's question and its DELETE, as PostgreSQL does and SQLite does not. A run lets go of
    ``limit`` blobs at most.
    """

    digests: int = 2
    cascades: bool = True
    split: bool = False
    limit: int = 99
    mutant: str = ""


class Columns:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant

    def model(self) -> Model[State]:
        """The model to explore."""
        digests = (Digest(),) * self.terms.digests
        return Model(
            f"columns, {self.mutant}" if self.mutant else "columns",
            State(digests, NONE, IDLE, False, False),
            (self.application, self.tables, self.collect),
            {**INVARIANTS, "one refused does not keep others": self.others_go},
        )

    # -- the application

    def application(self, state: State) -> Iterator[Step]:
        """Put, let go, and point the column somewhere else."""
        for number, digest in enumerate(state.digests):
            for label, after in self._verbs(state, number, digest):
                due = state.gc.due - {number}
                yield (
                    f"{label} {number}",
                    state._replace(
                        digests=changed(state.digests, number, after),
                        gc=state.gc._replace(due=due),
                    ),
                )

    def _verbs(self, state: State, number: int, digest: Digest) -> Iterator[tuple[str, Digest]]:
        if digest.asset != KEPT:
            yield "put", digest._replace(blob=True, asset=KEPT)
        else:
            yield "let go", digest._replace(asset=LET_GO, look=True)
        if digest.column:
            yield "the column leaves", digest._replace(column=False)
        elif digest.blob and state.table != NONE:
            yield "the column points at", digest._replace(column=True)
        if number == WITH_HIDDEN and (digest.blob or digest.hidden):
            hidden = not digest.hidden
            yield (
                f"{'something' if hidden else 'nothing'} unseen keeps",
                digest._replace(hidden=hidden),
            )

    def tables(self, state: State) -> Iterator[Step]:
        """The application makes its table or drops it, even in the middle of a run."""
        if state.table == NONE:
            yield "a table is made", state._replace(table=RESTRICT)
            if self.terms.cascades:
                yield "a table with CASCADE is made", state._replace(table=CASCADE)
        else:
            digests = tuple(digest._replace(column=False) for digest in state.digests)
            yield "the table is dropped", state._replace(table=NONE, digests=digests)

    # -- gc

    def collect(self, state: State) -> Iterator[Step]:
        """One transaction for the batch; where it is refused, one for each digest."""
        if state.gc.doing == "idle":
            yield from self._begin(state)
        elif self.terms.split and not state.gc.found:
            yield from self._ask(state)
        else:
            yield self._transaction(state, state.gc.found or self._garbage(state, self._now(state)))

    def _begin(self, state: State) -> Iterator[Step]:
        batch = tuple(number for number, digest in enumerate(state.digests) if digest.look)
        if not batch or state.table == CASCADE:
            return
        begun = state._replace(gc=Gc("batch", batch, seen=state.table))
        free = [number for number in batch if not state.digests[number].hidden]
        due = frozenset(free).intersection(self._garbage(begun, batch))
        yield "gc reads candidates", begun._replace(gc=begun.gc._replace(due=due))

    def _now(self, state: State) -> tuple[int, ...]:
        """What the next transaction is about."""
        return state.gc.batch if state.gc.doing == "batch" else state.gc.batch[:1]

    def _points(self, state: State, digest: Digest) -> bool:
        """As gc's own query sees it, which looks up the columns in the same transaction."""
        once = self.mutant == "columns looked up once a run"
        return digest.column and (not once or state.gc.seen != NONE)

    def _garbage(self, state: State, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Blobs that nothing keeps, as far as gc can see."""
        return tuple(
            number
            for number in numbers
            if state.digests[number].blob
            and state.digests[number].asset != KEPT
            and not self._points(state, state.digests[number])
        )

    def _ask(self, state: State) -> Iterator[Step]:
        """Under PostgreSQL others may commit after this statement."""
        found = self._garbage(state, self._now(state))
        if found:
            yield "gc asks what is garbage", state._replace(gc=state.gc._replace(found=found))
        else:
            yield self._transaction(state, ())

    def _transaction(self, state: State, found: tuple[int, ...]) -> Step:
        taken = found[: self.terms.limit - state.gc.counted]
        left = found[len(taken) :]
        numbers = tuple(number for number in self._now(state) if number not in left)
        try:
            after = self._let_go(state, numbers, taken)
        except Refused:
            return f"the database refuses {taken}", self._refused(state, len(taken))
        return f"gc lets go of {taken}", self._after(_counted(after, len(taken), len(taken)))

    def _let_go(self, state: State, numbers: tuple[int, ...], found: tuple[int, ...]) -> State:
        """Assets, then blob rows, then candidates: all or nothing."""
        for number in numbers:
            digest = state.digests[number]
            held = self._points(state, digest) and self.mutant != "only the blob is asked about"
            if digest.asset == LET_GO and not held:
                state = state._replace(asset_lost=state.asset_lost or digest.column)
                digest = digest._replace(asset=NONE)
            if number in found:
                state, digest = self._deleted(state, digest)
            pending = digest.blob and digest.asset != KEPT
            if self.mutant == "what a column keeps is taken off":
                pending = pending and not digest.column
            digest = digest._replace(look=pending)
            state = state._replace(digests=changed(state.digests, number, digest))
        return state

    def _deleted(self, state: State, digest: Digest) -> tuple[State, Digest]:
        """The blob row, unless the database refuses; CASCADE takes the application's row along."""
        kept = digest.asset != NONE or digest.hidden or (digest.column and state.table == RESTRICT)
        if kept and self.mutant != "foreign keys off":
            raise Refused
        if digest.column and state.table == CASCADE:
            state, digest = state._replace(row_lost=True), digest._replace(column=False)
        return state, digest._replace(blob=False)

    def _after(self, state: State) -> State:
        """On with the next digest, or done; what is left for the invariant is left."""
        rest = state.gc.batch[1:] if state.gc.doing == "replay" else ()
        if rest:
            return state._replace(gc=state.gc._replace(batch=rest, found=()))
        return state._replace(gc=Gc(due=state.gc.due, gone=state.gc.gone))

    def _refused(self, state: State, count: int) -> State:
        """The batch is replayed one by one; what is refused alone is looked at again later."""
        if self.mutant == "what is refused counts":
            state = _counted(state, 0, count)
        if state.gc.doing == "batch":
            ends = self.mutant == "a refused batch ends the run"
            replay = state._replace(gc=state.gc._replace(doing="replay", found=()))
            return self._after(state) if ends else replay
        number = state.gc.batch[0]
        look = self.mutant != "refused and taken off"
        pushed = state.digests[number]._replace(look=look)
        return self._after(state._replace(digests=changed(state.digests, number, pushed)))

    def others_go(self, state: State) -> bool:
        """After a run below its limit, what was garbage all the time is gone, whatever else was
        refused.
        """
        gc = state.gc
        ended = gc.doing == "idle" and gc.gone < self.terms.limit
        return not ended or not any(state.digests[number].blob for number in gc.due)


def _counted(state: State, gone: int, counted: int) -> State:
    gc = state.gc
    return state._replace(gc=gc._replace(gone=gc.gone + gone, counted=gc.counted + counted))


def columns_point_at_blobs(state: State) -> bool:
    """I2, for the application's rows."""
    return all(d.blob or not (d.column or d.hidden) for d in state.digests)


def nothing_leaks(state: State) -> bool:
    """I17: nothing tells us when a column leaves, so what only a column keeps has a candidate."""
    return all(d.look or not d.blob or d.asset == KEPT for d in state.digests)


INVARIANTS: Mapping[str, Invariant[State]] = {
    "I2 columns point at blobs": columns_point_at_blobs,
    "I17 nothing leaks": nothing_leaks,
    "the application's rows are its own": lambda state: not state.row_lost,
    "what a column shows stays": lambda state: not state.asset_lost,
}
