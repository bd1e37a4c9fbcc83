"""Fsck and readers: damage is marked, objects without a row get one, marks are taken off again."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import disk, rows
from tests.model.rows import NO_ROW, Catalog, changed
from tests.model.store import IDLE, At, State, Step, Terms, commit

from calotype.catalog.states import LIVE

OUTSIDE = frozenset({"idle", "rows", "look"})
"""Steps that need no write transaction."""


class Auditor:
    """Fsck beside everything else: list, read the rows, look, and only then write.

    Of all that it notices it follows up one thing; the others are noticed by the next run. A
    reader of a file does the same from the look on.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant

    def steps(self, state: State) -> Iterator[Step]:
        """What it does next; when idle, it begins anywhere."""
        doing, value = state.auditor
        if state.attaching and doing not in OUTSIDE:
            return
        for label, following in getattr(self, "_" + doing)(state, value):
            yield f"fsck {label}", following

    def _at(self, state: State, at: At) -> State:
        return state._replace(auditor=at)

    def _idle(self, state: State, _: int) -> Iterator[Step]:
        catalog = state.versions[-1]
        listed = sum(1 << key for key, file in enumerate(state.files) if file in disk.PRESENT)
        yield "lists the objects", self._at(state, ("rows", listed))
        for key in rows.live_keys(catalog):
            yield f"or a reader wants key {key}", self._at(state, ("look", key))
            if not catalog.blob:
                yield f"finds key {key} without a blob", self._at(state, ("ownerless", key))

    def _rows(self, state: State, listed: int) -> Iterator[Step]:
        """List first, then the rows: what is listed had its row before.

        Strays come last: by then what is not there is marked.
        """
        catalog = state.versions[-1]
        unmarked = [key for key in rows.live_keys(catalog) if not catalog.suspect >> key & 1]
        marked = all(listed >> key & 1 for key in unmarked) or self.mutant == "strays first"
        yield "finds nothing", self._at(state, IDLE)
        for key, held in enumerate(catalog.states):
            here = listed >> key & 1
            if here and held == NO_ROW and marked:
                yield f"finds key {key} astray", self._at(state, ("adopt", key))
            elif held == LIVE and (not here or catalog.suspect >> key & 1):
                by_list = self.mutant == "missing by the list alone"
                doing = "mark" if by_list else "look"
                yield f"does not find key {key} whole", self._at(state, (doing, key))

    def _look(self, state: State, key: int) -> Iterator[Step]:
        """Only what is not whole when it is looked at is damaged."""
        if state.files[key] in disk.WHOLE:
            yield f"sees that key {key} is whole", self._at(state, IDLE)
        else:
            yield f"sees that key {key} is damaged", self._at(state, ("mark", key))

    def _mark(self, state: State, key: int) -> Iterator[Step]:
        """Mark it, if it is still live: else it was let go, and nothing is wrong."""
        catalog, done = state.versions[-1], self._at(state, IDLE)
        if catalog.states[key] != LIVE and self.mutant != "told though let go":
            yield f"finds key {key} let go", done
            return
        unharmed = (state.rot, state.moves) == (self.terms.rot, self.terms.moves)
        false = catalog.states[key] != LIVE or unharmed
        marked = self._marked(catalog, key)
        following = commit(done, marked, durable=self.terms.durable("mark"))
        yield (
            f"tells that key {key} is damaged",
            found_bad(self.terms, following._replace(alarm=state.alarm or false), key),
        )

    def _marked(self, catalog: Catalog, key: int) -> Catalog:
        if self.mutant == "damaged copies doomed":
            return rows.doomed(catalog, key)
        return rows.suspected(catalog, key)

    def _adopt(self, state: State, key: int) -> Iterator[Step]:
        """A stray gets a ``doomed`` row, unless by now it has one."""
        catalog, done = state.versions[-1], self._at(state, IDLE)
        if catalog.states[key] != NO_ROW and self.mutant != "a row over a row":
            yield f"finds a row for key {key}", done
        else:
            after = rows.tombstone(catalog, key)
            yield f"gives key {key} a doomed row", commit(done, after, durable=True)

    def _ownerless(self, state: State, key: int) -> Iterator[Step]:
        """A live row whose blob was deleted by hand goes, unless the blob is back."""
        catalog, done = state.versions[-1], self._at(state, IDLE)
        if catalog.blob and self.mutant != "ownerless not looked at again":
            yield "finds the blob again", done
        else:
            after = rows.doomed(catalog, *range(len(catalog.states)))
            yield "dooms what has no blob", commit(done, after, durable=True)


def found_bad(terms: Terms, state: State, key: int) -> State:
    """Somebody found a live key damaged and marked it; a mark that is there becomes a new one."""
    if state.versions[-1].states[key] != LIVE:
        return state
    if state.files[key] not in disk.WHOLE:
        state = state._replace(known_bad=state.known_bad | 1 << key)
    renewed = state.verifier == ("clear", key) and terms.mutant not in CLEARING
    return state._replace(verifier=IDLE) if renewed else state


CLEARING = ("verified clears a later mark", "found again, not marked again")


def verify(terms: Terms, state: State) -> Iterator[Step]:
    """Read a live object; what is whole loses the very mark that it had before it was read."""
    doing, key = state.verifier
    catalog = state.versions[-1]
    if doing == "clear":
        if not state.attaching:
            done = commit(
                state, rows.cleared(catalog, key), durable=terms.durable("verified")
            )._replace(verifier=IDLE)
            yield f"fsck notes that key {key} is whole", done
        return
    for key in rows.live_keys(catalog) if terms.verifier else ():
        marked = catalog.suspect >> key & 1 or terms.mutant == "verified clears a later mark"
        if state.files[key] in disk.WHOLE and marked:
            yield f"fsck reads key {key}", state._replace(verifier=("clear", key))


def adopt_strays(state: State) -> Iterator[Step]:
    """Where fsck is not what is looked at, one step of it: strays get a ``doomed`` row."""
    if state.attaching:
        return
    catalog = state.versions[-1]
    for key, held in enumerate(catalog.states):
        if held == NO_ROW and state.files[key] in disk.PRESENT:
            done = commit(state, rows.tombstone(catalog, key), durable=True)
            yield f"fsck gives key {key} a doomed row", done


def damage(terms: Terms, state: State) -> Iterator[Step]:
    """The world damages a live object, or mends it again: a disk may err for a while."""
    for key in rows.live_keys(state.versions[-1]):
        if state.rot and state.files[key] == disk.DURABLE:
            files = disk.damaged(state.files, key)
            yield f"key {key} is damaged", state._replace(files=files, rot=state.rot - 1)
        elif terms.verifier and state.files[key] == disk.ROTTEN:
            mended = state._replace(
                files=changed(state.files, key, disk.DURABLE),
                known_bad=state.known_bad & ~(1 << key),
            )
            yield f"key {key} reads well again", mended


def move(state: State) -> Iterator[Step]:
    """Somebody moves a live object to another key, as when an older catalog is put back."""
    for key in rows.live_keys(state.versions[-1]) if state.moves else ():
        if state.files[key] == disk.DURABLE and state.fresh < len(state.files):
            files = disk.moved(state.files, key, state.fresh)
            done = state._replace(files=files, fresh=state.fresh + 1, moves=state.moves - 1)
            yield f"key {key} is moved to key {state.fresh}", done._replace(moved=state.fresh)


def by_hand(state: State) -> Iterator[Step]:
    """Somebody deletes all rows but the replicas by hand, where our triggers are lost."""
    catalog = state.versions[-1]
    if state.by_hand and catalog.blob and not state.attaching:
        bare = catalog._replace(blob=False, assets=(0,) * len(catalog.assets))
        done = commit(state, bare, durable=True)
        yield "somebody deletes the rows", done._replace(by_hand=state.by_hand - 1, promised=0)
