"""What is explored, and how large."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.model import backends, candidates, columns, markers, put_batch, recovery, slots
from tests.model.explorer import Model, Outcome, explore
from tests.model.put_gc import put_gc
from tests.model.recovery_store import BLOCKED, EMPTY
from tests.model.recovery_store import Terms as RecoveryTerms
from tests.model.rows import KEPT, OWNED
from tests.model.store import ALL, Terms

FAMILIES = (
    "put_gc",
    "fsck",
    "candidates",
    "columns",
    "put_batch",
    "slots",
    "markers",
    "recovery",
    "backends",
)

SINGLE = ((0, OWNED),)
TWO = ((0, OWNED), (1, KEPT))
SAME_SCOPE = ((0, OWNED), (0, OWNED))


@dataclass(frozen=True, slots=True)
class Case:
    """A sound model: all of it must be explored without a fault, as many states as README.md says."""

    family: str
    what: str
    build: Callable[[], Model[Any]]

    def __str__(self) -> str:
        """As the tests name it."""
        return f"{self.family}: {self.what}"

    def run(self) -> Outcome[Any]:
        """Explore it to its end."""
        return explore(self.build())


def case_row(case: Case, outcome: Outcome[Any]) -> str:
    """The line of README.md for it."""
    numbers = f"{outcome.states:,} | {outcome.steps:,} | {outcome.depth}"
    return f"| {case.family} | {case.what} | {numbers} |"


def _put(what: str, **terms: Any) -> Case:
    return Case("put_gc", what, lambda: put_gc(Terms(**terms)))


def _fsck(what: str, **terms: Any) -> Case:
    wanted = Terms(**{"putters": SINGLE, "auditor": True, **terms})
    return Case("fsck", what, lambda: put_gc(wanted))


def _look(what: str, **terms: Any) -> Case:
    made = candidates.Candidates(candidates.Terms(**terms))
    return Case("candidates", what, made.model)


def _column(what: str, **terms: Any) -> Case:
    return Case("columns", what, columns.Columns(columns.Terms(**terms)).model)


def _batch(what: str, **terms: Any) -> Case:
    return Case("put_batch", what, put_batch.Batches(put_batch.Terms(**terms)).model)


def _marker(what: str, **terms: Any) -> Case:
    made = markers.Markers(markers.Terms(**terms))
    return Case("markers", what, made.model)


def _recovery(what: str, **terms: Any) -> Case:
    return Case("recovery", what, recovery.Recoveries(RecoveryTerms(**terms)).model)


def _slot(what: str, **terms: Any) -> Case:
    return Case("slots", what, slots.Slots(slots.Terms(**terms)).model)


def _places(what: str, **terms: Any) -> Case:
    return Case("backends", what, backends.Backends(backends.Terms(**terms)).model)


QUICK = (
    _put("two scopes, attach, power cut", attacher=True),
    _put("two collectors, power cut", putters=SINGLE, collectors=2),
    _put("damage, power cut", rot=1),
    _put("each step a commit of its own", split=True, attacher=True, cuts=0),
    _put("every commit that may be is not durable", lazy=ALL),
    _put("one scope, three keys, two power cuts", putters=SINGLE, keys=3, cuts=2),
    _fsck("power cut"),
    _fsck("damage, re-reading", rot=1, verifier=True, cuts=0),
    _fsck("tombstones forgotten, three keys", keys=3, prune=True, cuts=0),
    _fsck("a blob deleted by hand, three keys", keys=3, by_hand=1, cuts=0),
    _fsck("live bytes moved to another key, three keys", keys=3, moves=1, cuts=0),
    _look("as built", split=False, until=1),
    _look("two collectors, as built", split=False, scopes=1, collectors=2, users=2),
    _look("two scopes", until=1),
    _look("grace, two users", scopes=1, grace=1, users=2),
    _look("every id is read", scopes=1, every_id=True),
    _column("as built"),
    _column("one blob a run", limit=1),
    _column("others commit between question and DELETE", split=True, cascades=False),
    _batch("two batches, one digest without a spare key", keys=(2, 1), cuts=0),
    _batch("two batches, power cut", keys=(1, 1)),
    _batch("one batch over and over, power cut", batches=((0, 1),), once=False, keys=(2, 1)),
    _slot("two roles"),
    _slot("three digests", roles=1, digests=3, history=4),
    _marker("an older catalog is put back"),
    _marker("two clones", clone=True),
    _recovery("an older catalog is put back, something cannot be kept", faults=1),
    _recovery("a put was under way when it was saved", start=EMPTY),
    _recovery(
        "it was blocked when it was saved",
        start=BLOCKED,
        purges=1,
        unblocks=1,
        faults=1,
        keys=8,
    ),
    _recovery("purged and unblocked since", saved=True, purges=1, unblocks=1, keys=8),
    _recovery("its marker is lost", saved=True, losses=1, faults=1, puts=0),
    _recovery("two clones, one takes over", clone=True),
    _recovery("two clones, each takes over", clone=True, runs=2, puts=0),
    _places("one key each, damage", keys=(1, 1)),
    _places("two keys and one, damage", keys=(2, 1)),
    _places("two keys each, damage, a mirror", switch=False, copied=(1,)),
)
"""In every run of the tests."""

FULL = (
    _put("two scopes, two collectors, power cut", collectors=2),
    _put("two scopes, two collectors, attach", collectors=2, attacher=True, cuts=0),
    _put("three keys, two collectors", putters=SINGLE, keys=3, collectors=2),
    _put("three keys, two putters", keys=3, putters=SAME_SCOPE, cuts=0),
    _put("three keys, damage twice", putters=SINGLE, keys=3, rot=2),
    _put("steps apart, power cut", split=True, attacher=True),
    _put("nothing durable, attach", putters=SINGLE, lazy=ALL, attacher=True),
    _fsck("two scopes", putters=TWO),
    _fsck("damage twice, re-reading, power cut", rot=2, verifier=True),
    _fsck("tombstones forgotten, power cut", keys=3, prune=True),
    _fsck("a blob deleted by hand, power cut", keys=3, by_hand=1),
    _fsck("live bytes moved to another key, power cut", keys=3, moves=1),
    _look("two collectors, two scopes", split=False, collectors=2, until=1),
    _look("two collectors, steps apart", scopes=1, collectors=2, until=1),
    _look("two scopes, until later", split=False),
    _column("three digests", digests=3),
    _column("three digests, others commit between", digests=3, split=True, cascades=False),
    _batch("two batches, power cut, a spare key", keys=(2, 1)),
    _batch("a batch beside a put", batches=((0, 1), (0,))),
    _slot("two roles, three digests", digests=3),
    _marker("an older catalog, two recoveries", runs=2),
    _recovery("a second recovery after the first", saved=True, runs=2, faults=1, keys=8),
    _recovery("two puts from the beginning", start=EMPTY, puts=2, keys=7),
    _recovery("it was blocked, two puts", start=BLOCKED, unblocks=1, puts=2, faults=1, keys=7),
    _recovery(
        "two clones of a block, each takes over",
        start=BLOCKED,
        unblocks=1,
        clone=True,
        runs=2,
        keys=7,
    ),
    _places("one key and two, damage twice", keys=(1, 2), rot=2),
    _places("two keys each", rot=0),
    _places("two keys each, damage"),
)
"""With CALOTYPE_MODEL=full."""


def chosen() -> tuple[Case, ...]:
    """QUICK, and with CALOTYPE_MODEL=full FULL as well."""
    return (*QUICK, *FULL) if os.environ.get("CALOTYPE_MODEL") == "full" else QUICK
