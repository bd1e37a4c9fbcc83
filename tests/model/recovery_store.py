"""What there is in the model ``recovery``: one digest, catalogs, one backend, and who was promised.

The keeper of the bytes is told in two words: ``use`` is what owners do with them (nothing, the
trash, used), ``held`` that a recovery keeps them for good. Time is the number of purges so far: an
object bears how many there were when it was written, a block which of them it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.model.rows import changed

from calotype.catalog.states import DOOMED, ERASING, LIVE, WRITING

NONE = "none"
NOTHING, TRASH, USED = "", "trash", "used"
EMPTY, BLOCKED = "empty", "blocked"
PLAIN, NOBODY, ABSENT = 0, -1, -1

NO, WISHED, PUT = "no", "wished", "put again"
HERE, TOLD = "here", "told"

TAKEN, OLDER, COPY, UNFINISHED = "taken", "older", "copy", "unfinished"
LOST = "lost"


class Catalog(NamedTuple):
    """Replica rows by key, who keeps the bytes, since when they are blocked; what it believes.

    ``verified`` and ``suspect`` are sets of keys as bits: which were ever live, which are marked.
    """

    rows: tuple[str, ...]
    verified: int = 0
    suspect: int = 0
    use: str = NOTHING
    held: bool = False
    blocked: int = 0
    epoch: int = 1
    generation: int = 0
    seq: int = 0
    at_home: bool = True


class Marker(NamedTuple):
    """What the backend says of itself."""

    epoch: int = 1
    generation: int = 0
    seq: int = 0
    recovering: bool = False


GONE = Marker(0)
"""There is none: it was removed by hand."""


class Gc(NamedTuple):
    """Where a catalog's gc is: at which key, and what it has found catalog and marker to be."""

    doing: str = "idle"
    key: int = NOBODY
    generation: int = 0
    epoch: int = 1
    seq: int = 0


class Candidate(NamedTuple):
    """An object that is to be kept: without a row, of a put under way, or live where it may go."""

    key: int
    late: bool
    forgotten: bool
    instead: bool = False


class Recovery(NamedTuple):
    """Where a recovery is: the marker that it read, whether it fitted, what it saw since."""

    doing: str = "idle"
    read: Marker = Marker()
    fitted: bool = False
    blocked: bool = False
    unblocked: bool = False
    named: int = 0
    there: int = 0
    wanted: tuple[Candidate, ...] = ()
    copy: int = NOBODY
    whole: bool = True


IDLE, RESTING = Gc(), Recovery()


class Left(NamedTuple):
    """How often things may still happen."""

    puts: int
    restores: int
    runs: int
    faults: int
    purges: int
    unblocks: int
    losses: int


class State(NamedTuple):
    """Catalogs with their processes, the backend, and what nobody sees but the invariants.

    ``quiet`` says that an older catalog was put back where nothing tells so. ``doubt`` are
    catalogs that lack what was done since, until a recovery has ended; ``begun`` those of which one
    has taken the marker over; ``accounted`` that one holds by now what would be let go. ``owed`` is
    a promise that nobody who knew of it has let go of, ``banned`` a purge. ``owner`` is whose
    promises count.
    """

    catalogs: tuple[Catalog | None, ...]
    gcs: tuple[Gc, ...]
    recoveries: tuple[Recovery, ...]
    putting: tuple[int, ...]
    unblocking: tuple[bool, ...]
    saved: Catalog | None
    marker: Marker
    notes: frozenset[tuple[int, int]]
    noted: bool
    objects: tuple[int, ...]
    late: int
    used: int
    purges: int
    generations: int
    left: Left
    quiet: bool
    doubt: tuple[bool, ...]
    begun: tuple[bool, ...]
    accounted: bool
    owed: str
    banned: str
    owner: int


Step = tuple[str, State]


@dataclass(frozen=True)
class Terms:
    """How large the model is, and what is wrong with it.

    ``runs`` bounds recoveries, ``faults`` what they cannot read or keep, ``losses`` of the marker. It
    begins where the digest is ``start``, when the catalog was just ``saved``, or with a ``clone`` of
    it.
    """

    keys: int = 6
    puts: int = 1
    restores: int = 1
    runs: int = 1
    faults: int = 0
    purges: int = 0
    unblocks: int = 0
    losses: int = 0
    start: str = USED
    saved: bool = False
    clone: bool = False
    mutant: str = ""

    @property
    def blocks(self) -> bool:
        """True where there may be any."""
        return self.purges > 0 or self.start == BLOCKED


def initial(terms: Terms) -> State:
    """A store that has the digest, and somebody uses it; or that has not, or may not have it."""
    there, purges = terms.start == USED, int(terms.start == BLOCKED)
    first = Catalog((NONE,) * terms.keys, blocked=purges)
    if there:
        first = made_live(first, PLAIN)._replace(use=USED)
    return State(
        (first, first._replace(at_home=False) if terms.clone else None),
        (IDLE, IDLE),
        (RESTING, RESTING),
        (NOBODY, NOBODY),
        (False, False),
        first if terms.saved and not terms.clone else None,
        Marker(),
        frozenset(),
        bool(purges),
        changed((ABSENT,) * terms.keys, PLAIN, 0 if there else ABSENT),
        0,
        int(there) << PLAIN,
        purges,
        0,
        Left(
            terms.puts,
            terms.restores,
            terms.runs,
            terms.faults,
            terms.purges,
            terms.unblocks,
            terms.losses,
        ),
        False,
        (False, terms.clone),
        (False, False),
        False,
        WISHED if there else NO,
        TOLD if purges else NO,
        0,
    )


# -- rows


def live(catalog: Catalog) -> list[int]:
    """Keys of live replicas that are trusted."""
    return [
        key
        for key, row in enumerate(catalog.rows)
        if row == LIVE and not catalog.suspect >> key & 1
    ]


def is_blob(catalog: Catalog) -> bool:
    """True while somebody keeps it, or it is in the trash."""
    return catalog.held or catalog.use != NOTHING


def doomed(catalog: Catalog, *keys: int) -> Catalog:
    """``writing`` and ``live`` to ``doomed``; rows in other states are left alone."""
    rows, suspect = catalog.rows, catalog.suspect
    for key in keys:
        if rows[key] in (WRITING, LIVE):
            rows, suspect = changed(rows, key, DOOMED), suspect & ~(1 << key)
    return catalog._replace(rows=rows, suspect=suspect)


def all_doomed(catalog: Catalog) -> Catalog:
    """Nobody keeps it, and its blob is gone."""
    without = doomed(catalog, *range(len(catalog.rows)))
    return without._replace(use=NOTHING, held=False)


def made_live(catalog: Catalog, key: int) -> Catalog:
    """That key is live; any other live one is doomed."""
    others = [other for other, row in enumerate(catalog.rows) if row == LIVE]
    after = doomed(catalog, *others)
    return after._replace(rows=changed(after.rows, key, LIVE), verified=after.verified | 1 << key)


def doubted(state: State, catalog: Catalog) -> Catalog:
    """Live replicas whose bytes are not there are marked."""
    lost = sum(
        1 << key
        for key, row in enumerate(catalog.rows)
        if row == LIVE and state.objects[key] == ABSENT
    )
    return catalog._replace(suspect=catalog.suspect | lost)


# -- who belongs to whom


def erased_seq(state: State) -> int:
    """How many batches were erased, as far as the backend knows."""
    return max([state.marker.seq, *[seq for seq, _ in state.notes]])


def fault(state: State, catalog: Catalog) -> str:
    """Why nothing may be erased, or nothing."""
    marker = state.marker
    if not catalog.at_home:
        return COPY
    if marker == GONE:
        return LOST if catalog.seq or erased_seq(state) else ""
    if marker.epoch > catalog.epoch:
        return TAKEN
    if marker.epoch < catalog.epoch:
        return UNFINISHED
    if marker.generation != catalog.generation:
        return TAKEN
    if marker.recovering:
        return UNFINISHED
    return OLDER if erased_seq(state) > catalog.seq else ""


def is_own(state: State, catalog: Catalog) -> bool:
    """True where the marker names this catalog, finished or not."""
    marker = state.marker
    return (marker.epoch, marker.generation) == (catalog.epoch, catalog.generation)


def with_catalog(state: State, who: int, catalog: Catalog) -> State:
    """Another catalog in place of one."""
    return state._replace(catalogs=changed(state.catalogs, who, catalog))


def free_key(state: State, catalog: Catalog) -> int | None:
    """The plain key where nothing speaks against it, else a token that nobody had."""
    plain = catalog.rows[PLAIN] == NONE and catalog.epoch == 1
    return PLAIN if plain and not fault(state, catalog) else token(state)


def token(state: State) -> int | None:
    """A key that nobody had; None where the model has no more."""
    fresh = (key for key in range(1, len(state.objects)) if not state.used >> key & 1)
    return next(fresh, None)


def written(state: State, key: int) -> State:
    """Bytes at a key, as of now."""
    objects = changed(state.objects, key, state.purges)
    return state._replace(objects=objects, used=state.used | 1 << key)


def unknown_to(state: State, catalog: Catalog) -> list[int]:
    """Keys of objects that it has no row of."""
    return [
        key for key, row in enumerate(catalog.rows) if row == NONE and state.objects[key] != ABSENT
    ]


def taken_from(state: State, known: Catalog, by: Catalog) -> str:
    """What is owed when a catalog that knows more gives way to one that knows less.

    Nothing, where that one has let go of the very bytes itself.
    """
    found = {by.rows[key] for key, row in enumerate(known.rows) if row == LIVE}
    if state.owed == NO or not found - {DOOMED, ERASING}:
        return NO
    return PUT if NONE in found else WISHED
