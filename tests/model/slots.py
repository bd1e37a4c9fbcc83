"""Slots: attach, replace, release and restore in the roles of one owner, while gc collects.

A slot's history are its rows in the order of their ids, which is the order of their releases too,
for only the last can be live. Time passing ends the grace of all that was released; collectors
need no steps of their own, for each of their transactions looks at everything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.explorer import Invariant, Model
from tests.model.rows import changed

LIVE, GRACE, OVER = "live", "in grace", "grace is over"
"""How a row stands; and, for the last one a slot was given, how it must stand."""

NOTHING = -1


class Row(NamedTuple):
    """A reference row of a slot."""

    digest: int
    held: str


class Asset(NamedTuple):
    """Rows of one digest: its blob, its asset, and whether a hold keeps that."""

    blob: bool
    there: bool
    held: bool


Slot = tuple[Row, ...]


class State(NamedTuple):
    """The rows; a restore that has read but not written; and what users may count on.

    ``restoring`` is used by a mutant only: the digest that was found for each role. ``last`` is
    what each role was given last and how that stands, ``trash`` the digests let go in grace.
    """

    slots: tuple[Slot, ...]
    assets: tuple[Asset, ...]
    restoring: tuple[int, ...]
    last: tuple[Row, ...]
    trash: frozenset[int]


Step = tuple[str, State]


@dataclass(frozen=True)
class Terms:
    """How large the model is, and what is wrong with it."""

    roles: int = 2
    digests: int = 2
    history: int = 3
    mutant: str = ""


class Slots:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self.roles = range(terms.roles)
        self.digests = range(terms.digests)

    def model(self) -> Model[State]:
        """The model to explore."""
        terms = self.terms
        initial = State(
            slots=((),) * terms.roles,
            assets=(Asset(False, False, False),) * terms.digests,
            restoring=(),
            last=(Row(NOTHING, OVER),) * terms.roles,
            trash=frozenset(),
        )
        return Model(
            f"slots, {self.mutant}" if self.mutant else "slots",
            initial,
            (self.put, self.attach, self.release, self.restore, self.collect, self.time),
            INVARIANTS,
        )

    # -- the application

    def put(self, state: State) -> Iterator[Step]:
        """Put with a hold, before the transaction that attaches."""
        for digest in self.digests:
            held = Asset(True, True, True)
            if state.assets[digest] != held:
                assets = changed(state.assets, digest, held)
                yield f"put {digest} with a hold", state._replace(assets=assets)

    def attach(self, state: State) -> Iterator[Step]:
        """The same digest there: nothing changes. Another one is released first."""
        for role in self.roles:
            slot = state.slots[role]
            for digest in self.digests:
                there = state.assets[digest].there or self.mutant == "attach without looking"
                if there and (not slot or slot[-1] != Row(digest, LIVE)):
                    after = self._attached(state, role, digest)
                    if len(after.slots[role]) <= self.terms.history:
                        yield f"attach {digest} as role {role}", after

    def _attached(self, state: State, role: int, digest: int) -> State:
        slot, trash = state.slots[role], state.trash
        if slot and slot[-1].held == LIVE:
            trash = trash | {slot[-1].digest}
            if self.mutant == "attach in place":
                slot = slot[:-1]
        return state._replace(
            slots=changed(state.slots, role, (*released(slot), Row(digest, LIVE))),
            last=changed(state.last, role, Row(digest, LIVE)),
            trash=trash,
        )

    def release(self, state: State) -> Iterator[Step]:
        """One role, or all that the owner has."""
        live = [role for role in self.roles if state.last[role].held == LIVE]
        for roles in [[role] for role in live] + [live] * (len(live) > 1):
            after = state
            for role in roles:
                given = state.last[role].digest
                after = after._replace(
                    slots=changed(after.slots, role, released(after.slots[role])),
                    last=changed(after.last, role, Row(given, GRACE)),
                    trash=after.trash | {given},
                )
            yield f"release roles {roles}", after

    def restore(self, state: State) -> Iterator[Step]:
        """The newest released row of each role that has no live one, all in one transaction."""
        if self.mutant == "restore decided earlier":
            yield from self._restored_later(state)
            return
        found = tuple(self._restorable(slot) for slot in state.slots)
        if any(digest != NOTHING for digest in found):
            yield "restore", self._restored(state, found)

    def _restored_later(self, state: State) -> Iterator[Step]:
        if state.restoring:
            free = tuple(
                digest if not slot or slot[-1].held != LIVE else NOTHING
                for digest, slot in zip(state.restoring, state.slots, strict=True)
            )
            yield "restore writes", self._restored(state._replace(restoring=()), free)
        else:
            found = tuple(self._restorable(slot) for slot in state.slots)
            yield "restore reads", state._replace(restoring=found)

    def _restorable(self, slot: Slot) -> int:
        if len(slot) >= self.terms.history:
            return NOTHING
        if not slot or (slot[-1].held == LIVE and self.mutant != "restore over a live row"):
            return NOTHING
        found = [row.digest for row in slot if row.held != LIVE]
        if not found:
            return NOTHING
        return found[0] if self.mutant == "restore of the oldest" else found[-1]

    def _restored(self, state: State, found: tuple[int, ...]) -> State:
        for role, digest in enumerate(found):
            if digest != NOTHING and state.assets[digest].there:
                slot = (*state.slots[role], Row(digest, LIVE))
                given = state.last[role]
                state = state._replace(
                    slots=changed(state.slots, role, slot),
                    last=changed(state.last, role, given._replace(held=LIVE)),
                )
        return state

    # -- gc and the clock

    def collect(self, state: State) -> Iterator[Step]:
        """Released rows whose grace is over, then assets nothing keeps, then blobs."""
        batches = [list(self.digests)]
        if self.mutant == "collected by digest":
            batches = [[digest] for digest in self.digests]
        for batch in batches:
            after = self._without_released(state, batch)
            if after != state:
                yield f"gc collects {batch}", after
        for digest, asset in enumerate(state.assets):
            if asset.blob and not asset.there:
                assets = changed(state.assets, digest, Asset(False, False, False))
                yield f"gc dooms blob {digest}", state._replace(assets=assets)

    def _without_released(self, state: State, batch: list[int]) -> State:
        slots = tuple(
            tuple(row for row in slot if row.held != OVER or row.digest not in batch)
            for slot in state.slots
        )
        used = {row.digest for slot in slots for row in slot}
        assets = tuple(
            asset
            if asset.held or digest in used or digest not in batch
            else asset._replace(there=False)
            for digest, asset in enumerate(state.assets)
        )
        return state._replace(slots=slots, assets=assets)

    def time(self, state: State) -> Iterator[Step]:
        """Grace ends, or a hold does."""
        slots = tuple(tuple(map(over, slot)) for slot in state.slots)
        if slots != state.slots or state.trash:
            last = tuple(map(over, state.last))
            yield (
                "grace ends",
                state._replace(slots=slots, last=last, trash=frozenset()),
            )
        for digest, asset in enumerate(state.assets):
            if asset.held:
                ended = changed(state.assets, digest, asset._replace(held=False))
                yield f"the hold of {digest} ends", state._replace(assets=ended)


def released(slot: Slot) -> Slot:
    """The slot with its live row released."""
    return tuple(row._replace(held=GRACE) if row.held == LIVE else row for row in slot)


def over(row: Row) -> Row:
    """The row after its grace."""
    return row._replace(held=OVER) if row.held == GRACE else row


def one_live_row(state: State) -> bool:
    """A slot has one live row at most, and it is the last."""
    return all(row.held != LIVE for slot in state.slots for row in slot[:-1])


def rows_point_at_rows(state: State) -> bool:
    """I2, I4."""
    assets = state.assets
    return all(asset.blob or not asset.there for asset in assets) and all(
        assets[row.digest].there for slot in state.slots for row in slot
    )


def the_newest_counts(state: State) -> bool:
    """A slot shows what it was given last; once released, that is what restore would find.

    When its grace is over it may be gone, but then so is everything older.
    """
    return all(
        (slot and slot[-1] == last) or (last.held == OVER and not slot)
        for slot, last in zip(state.slots, state.last, strict=True)
    )


def trash_is_kept(state: State) -> bool:
    """Whatever was let go, by release or by another digest in its place, stays for its grace."""
    return all(state.assets[digest].there for digest in state.trash)


INVARIANTS: Mapping[str, Invariant[State]] = {
    "one live row": one_live_row,
    "I2 rows point at rows": rows_point_at_rows,
    "the newest counts": the_newest_counts,
    "trash is kept": trash_is_kept,
}
