"""Mistakes that the models must catch, each with the invariant that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.model.backends import Backends
from tests.model.backends import Terms as PlaceTerms
from tests.model.candidates import TRIGGERS, Candidates
from tests.model.candidates import Terms as LookTerms
from tests.model.cases import SINGLE
from tests.model.columns import Columns
from tests.model.columns import Terms as ColumnTerms
from tests.model.explorer import Model, Outcome, explore
from tests.model.markers import OWN, Markers
from tests.model.markers import Terms as MarkerTerms
from tests.model.put_batch import Batches
from tests.model.put_batch import Terms as BatchTerms
from tests.model.put_gc import put_gc
from tests.model.recovery import AWAY, LOCKED, WAY_OUT, Recoveries
from tests.model.recovery_store import BLOCKED, EMPTY
from tests.model.recovery_store import Terms as RecoveryTerms
from tests.model.rows import KEPT, OWNED
from tests.model.slots import Slots
from tests.model.slots import Terms as SlotTerms
from tests.model.store import Terms as PutTerms

LOST = "I1 blob has bytes"
BROKEN_PROMISE = "I3 promises are kept"
LAST = "I8 the last bytes stay"
KNOWN = "I8 what is known stays known"
TALES = "fsck tells no tales"
OTHERS = "one refused does not keep others"
LEAK = "I17 nothing leaks"
BYTES = "I1 live copies have bytes"
WITHOUT_BLOB = "I1 live copies have a blob"
LAST_SOUND = "I15 the last sound bytes stay"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A model with one mistake. Only ``breaks`` is watched, so that the trace shows that harm."""

    family: str
    what: str
    build: Callable[[], Model[Any]]
    breaks: str

    def __str__(self) -> str:
        """As the tests name it."""
        return f"{self.family}: {self.what}"

    def run(self) -> Outcome[Any]:
        """Explore until the invariant is broken."""
        model = self.build()
        return explore(replace(model, invariants={self.breaks: model.invariants[self.breaks]}))


def mutant_row(mutant: Mutant, outcome: Outcome[Any]) -> str:
    """The line of README.md for it."""
    return f"| {mutant.family} | {mutant.what} | {mutant.breaks} | {len(outcome.trace)} |"


def _put(what: str, breaks: str, **terms: Any) -> Mutant:
    wrong = PutTerms(**{"putters": SINGLE, "mutant": what, **terms})
    return Mutant("put_gc", what, lambda: put_gc(wrong), breaks)


def _fsck(what: str, breaks: str, **terms: Any) -> Mutant:
    wrong = PutTerms(**{"putters": SINGLE, "auditor": True, "mutant": what, **terms})
    return Mutant("fsck", what, lambda: put_gc(wrong), breaks)


def _look(what: str, **terms: Any) -> Mutant:
    wrong = LookTerms(**{"scopes": 1, "mutant": what, **terms})
    return Mutant("candidates", what, Candidates(wrong).model, LEAK)


def _without(trigger: str) -> Mutant:
    wrong = LookTerms(scopes=1, without=trigger)
    return Mutant("candidates", f"no trigger on {trigger}", Candidates(wrong).model, LEAK)


def _column(what: str, breaks: str, **terms: Any) -> Mutant:
    return Mutant("columns", what, Columns(ColumnTerms(mutant=what, **terms)).model, breaks)


def _batch(what: str, breaks: str) -> Mutant:
    return Mutant("put_batch", what, Batches(BatchTerms(mutant=what)).model, breaks)


def _marker(what: str, breaks: str, **terms: Any) -> Mutant:
    wrong = MarkerTerms(mutant=what, **terms)
    return Mutant("markers", what, Markers(wrong).model, breaks)


def _recovery(what: str, breaks: str = BROKEN_PROMISE, **terms: Any) -> Mutant:
    wrong = RecoveryTerms(mutant=what, **terms)
    return Mutant("recovery", what, Recoveries(wrong).model, breaks)


def _slot(what: str, breaks: str) -> Mutant:
    return Mutant("slots", what, Slots(SlotTerms(mutant=what)).model, breaks)


def _place(what: str, breaks: str) -> Mutant:
    wrong = PlaceTerms(mutant=what, keys=(1, 1))
    return Mutant("backends", what, Backends(wrong).model, breaks)


MUTANTS = (
    _put("plain key used again", LOST, collectors=2),
    _put("plain key where no file is", LOST, collectors=2),
    _put("erasing skipped", LOST),
    _put("erasing not durable", LOST),
    _put("bytes before the blob row", LOST, split=True),
    _put("doomed by a flag", BROKEN_PROMISE, split=True),
    _put("settle not checked", LOST),
    _put("settle before sync", BROKEN_PROMISE),
    _put("settle not durable", BROKEN_PROMISE),
    _put("intent after publish", "I7 objects have rows"),
    _put("loser deletes its bytes", "I5 deletes are announced"),
    _put("fence on an old look", LOST),
    _put("stray deleted without a row", LOST),
    _put("hit not read again", "I8 links are sound", putters=((0, OWNED), (1, KEPT)), rot=1),
    _fsck("verified clears a later mark", KNOWN, rot=1, verifier=True),
    _fsck("found again, not marked again", KNOWN, rot=2, verifier=True),
    _fsck("missing by the list alone", TALES),
    _fsck("told though let go", TALES),
    _fsck("damaged copies doomed", LOST, rot=1),
    _fsck("a row over a row", LOST),
    _fsck("plain tombstone forgotten", LOST, prune=True, collectors=2),
    _fsck("live rows without a blob not seen", "I1 one live replica", by_hand=1),
    _fsck("ownerless not looked at again", LOST, by_hand=1, keys=3),
    _fsck("stray taken for spare", LAST, keys=3, moves=1),
    _fsck("strays first", LAST, keys=3, moves=1),
    _look("one row a digest"),
    _look("by digest"),
    _look("decided before reading"),
    _look("one scope alone", scopes=2, every_id=True),
    _look("column forgotten"),
    _look("bare blob without a column forgotten"),
    *(_without(trigger) for trigger in sorted(TRIGGERS)),
    _column("columns looked up once a run", "the application's rows are its own"),
    _column("only the blob is asked about", "what a column shows stays"),
    _column("foreign keys off", "I2 columns point at blobs"),
    _column("refused and taken off", LEAK),
    _column("what a column keeps is taken off", LEAK),
    _column("a refused batch ends the run", OTHERS),
    _column("what is refused counts", OTHERS, limit=1),
    _batch("fenced item settles", LOST),
    _batch("whole batch told yes", BROKEN_PROMISE),
    _batch("one directory synced", BROKEN_PROMISE),
    _batch("redone at the old key", LOST),
    _slot("restore over a live row", "one live row"),
    _slot("restore decided earlier", "the newest counts"),
    _slot("restore of the oldest", "the newest counts"),
    _slot("attach in place", "trash is kept"),
    _slot("attach without looking", "I2 rows point at rows"),
    _slot("collected by digest", "the newest counts"),
    _marker("home not looked at", BROKEN_PROMISE, clone=True),
    _marker("no note", OWN),
    _marker("told afterwards", OWN),
    _marker("not looked at again", OWN, clone=True),
    _marker("written over", OWN, clone=True),
    _marker("catalog not looked at again", BROKEN_PROMISE),
    _marker("goes on in an older catalog", OWN),
    _marker("plain key in an older catalog", BROKEN_PROMISE),
    _marker("notes not read", OWN),
    _marker("unlocked at once", OWN),
    _marker("the same epoch", OWN),
    _marker("live where it was erased", OWN),
    _marker("adopted where it was erased", OWN),
    _recovery("what would be let go is not held"),
    _recovery("put again is not held"),
    _recovery("put meanwhile, and so not held", start=EMPTY, puts=2),
    _recovery("a late key is as good"),
    _recovery("a put under way is not kept", start=EMPTY),
    _recovery("adopted where it was erased"),
    _recovery("notes not read"),
    _recovery("let go though the catalog is behind"),
    _recovery("let go in another catalog"),
    _recovery("blocks not read", AWAY, purges=1),
    _recovery("blocks go whatever their age", AWAY, purges=1),
    _recovery("unblocked not heeded", start=BLOCKED, unblocks=1),
    _recovery("unblocked though the note stays", start=BLOCKED, unblocks=1),
    _recovery("told though not kept", WAY_OUT, start=BLOCKED, unblocks=1, faults=1),
    _recovery("told by another catalog", WAY_OUT, start=BLOCKED, unblocks=1, puts=2),
    _recovery(
        "told by one that was outdone", WAY_OUT, start=BLOCKED, unblocks=1, clone=True, runs=2
    ),
    _recovery("ends though not whole", faults=1),
    _recovery("no mark where there was none", saved=True, losses=1, faults=1, puts=0),
    _recovery("fenced off and passed over"),
    _recovery("one that was killed is left alone", WAY_OUT),
    _recovery("finished over another", clone=True, runs=2, puts=0),
    _recovery("the mark is written over", LOCKED),
    _recovery("unlocked at once", LOCKED),
    _recovery("the same epoch", WAY_OUT),
    _place("copied without hashing", BYTES),
    _place("settled without a look at the blob", WITHOUT_BLOB),
    _place("settled though fenced off", BYTES),
    _place("a row is witness enough", LAST_SOUND),
    _place("witness not looked at again", LAST_SOUND),
    _place("role not looked at again", "there is a primary"),
    _place("removed while it is written to", "copies are where a backend is"),
    _place("only the primary's copies doomed", WITHOUT_BLOB),
)
