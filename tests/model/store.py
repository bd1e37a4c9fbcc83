"""One digest in one store: catalog, objects, and where every process has got to.

A commit that is not durable leaves the versions before it in ``versions``: a power cut goes back
to one of them, whichever, and a durable commit drops them all, for they are durable with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.model import disk, rows
from tests.model.disk import Files
from tests.model.rows import KEPT, OWNED, PLAIN, Catalog, changed

At = tuple[str, int]
"""What a process does next, and at which key."""

IDLE: At = ("idle", 0)

AS_BUILT = frozenset({"collect", "doom", "take off", "erased", "verified"})
ALL = AS_BUILT | {"abort", "attach", "mark", "release"}
"""Commits that are not durable. The intent never is; erasing and what is told yes always are."""


class State(NamedTuple):
    """The catalog as it is (last) and may be after a power cut, the objects, and who is where.

    ``attaching`` is the application's open transaction, which holds the writer's lock.
    ``promised`` has a bit for each putter, and one more for the attacher, that was told yes and
    did not ask for a release since. ``known_bad`` (keys, as bits), ``linked_badly``, ``alarm``
    (fsck told of damage where there was none) and ``moved`` (the key that live bytes were moved
    to) are for the invariants only.
    """

    versions: tuple[Catalog, ...]
    files: Files
    putters: tuple[At, ...]
    collectors: tuple[At, ...]
    auditor: At
    verifier: At
    attaching: bool
    promised: int
    fresh: int
    cuts: int
    rot: int
    by_hand: int
    moves: int
    known_bad: int
    linked_badly: bool
    alarm: bool
    moved: int


Step = tuple[str, State]


@dataclass(frozen=True)
class Terms:
    """How large the model is, and what is wrong with it.

    ``putters`` says of each into which scope it puts and what keeps it there. ``split`` gives
    every step of a look at candidates a transaction of its own, where the code has one for all.
    ``auditor`` lets fsck run step by step, ``verifier`` re-read objects, ``prune`` lets gc forget
    tombstones, ``rot``, ``by_hand`` and ``moves`` say how often the world damages an object,
    somebody deletes a blob row where our triggers are lost, and somebody moves live bytes to a key
    that has no row.
    """

    keys: int = 2
    putters: tuple[tuple[int, int], ...] = ((0, OWNED), (1, KEPT))
    collectors: int = 1
    attacher: bool = False
    auditor: bool = False
    verifier: bool = False
    prune: bool = False
    cuts: int = 1
    rot: int = 0
    by_hand: int = 0
    moves: int = 0
    split: bool = False
    lazy: frozenset[str] = AS_BUILT
    mutant: str = ""

    @property
    def attached(self) -> int:
        """The attacher's bit in ``promised``."""
        return 1 << len(self.putters)

    def durable(self, what: str) -> bool:
        """Whether commits of this kind are."""
        return what not in self.lazy


def initial(terms: Terms) -> State:
    """Nothing is there and nobody has begun."""
    scopes = 1 + max(scope for scope, _ in terms.putters)
    return State(
        versions=(rows.empty(terms.keys, scopes),),
        files=disk.empty(terms.keys),
        putters=(IDLE,) * len(terms.putters),
        collectors=(IDLE,) * terms.collectors,
        auditor=IDLE,
        verifier=IDLE,
        attaching=False,
        promised=0,
        fresh=PLAIN + 1,
        cuts=terms.cuts,
        rot=terms.rot,
        by_hand=terms.by_hand,
        moves=terms.moves,
        known_bad=0,
        linked_badly=False,
        alarm=False,
        moved=PLAIN,
    )


def commit(state: State, catalog: Catalog, *, durable: bool) -> State:
    """The transaction is over; what is not durable is as good while no power cut may come."""
    if durable or not state.cuts:
        return state._replace(versions=(catalog,))
    before = state.versions[-1]
    if catalog == before:
        return state
    older = {*state.versions[:-1], before._replace(looks=rows.unread(before.looks))}
    return state._replace(versions=(*sorted(older - {catalog}), catalog))


def putter_at(state: State, putter: int, at: At) -> State:
    """Where a putter is next."""
    return state._replace(putters=changed(state.putters, putter, at))


def collector_at(state: State, collector: int, at: At) -> State:
    """Where a collector is next."""
    return state._replace(collectors=changed(state.collectors, collector, at))
