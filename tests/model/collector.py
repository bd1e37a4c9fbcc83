"""GC, over and over: look at candidates, erase keys, fence off writers that have gone silent."""

from __future__ import annotations

from collections.abc import Iterator

from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE, WRITING
from tests.model import disk, rows
from tests.model.rows import KEEPING, NO_ROW, Catalog
from tests.model.store import IDLE, At, State, Step, Terms, collector_at, commit

OUTSIDE = frozenset({"delete", "bytes"})
"""Steps that need no transaction."""


class Collector:
    """One collector's next steps; ``number`` says which one."""

    def __init__(self, terms: Terms, number: int) -> None:
        self.mutant = terms.mutant
        self.careful = not terms.lazy
        self.number = number
        self._steps = {
            "collect": self._collect,
            "doom": self._doom,
            "doom unseen": self._forget,
            "bytes": self._bytes,
            "take off": self._take_off,
            "delete": self._delete,
            "confirm": self._confirm,
            "fence": self._fence,
        }

    def steps(self, state: State) -> Iterator[Step]:
        """What it does next: one thing, or when idle, whatever there is to do."""
        doing, key = state.collectors[self.number]
        if state.attaching and doing not in OUTSIDE:
            return
        taken = self._idle(state) if doing == "idle" else [self._steps[doing](state, key)]
        for label, following in taken:
            yield f"gc {self.number} {label}", following

    def _at(self, state: State, at: At) -> State:
        return collector_at(state, self.number, at)

    def _idle(self, state: State) -> Iterator[Step]:
        catalog = state.versions[-1]
        if catalog.looks:
            yield "reads candidates", self._at(self._read(state, catalog), ("collect", 0))
        for key, held in enumerate(catalog.states):
            if held == DOOMED:
                yield self._erasing(state, catalog, key)
            elif held == ERASING:
                yield f"finds key {key} erasing", self._at(state, ("delete", key))
            elif held == ERASED and state.files[key] in disk.PRESENT:
                yield f"looks at key {key} once more", self._at(state, ("delete", key))
            elif held == WRITING and self.mutant == "fence on an old look":
                yield f"finds key {key} silent", self._at(state, ("fence", key))
            elif held == NO_ROW and self.mutant == "stray deleted without a row":
                if state.files[key] in disk.PRESENT:
                    yield f"finds key {key} astray", self._at(state, ("delete", key))

    def _read(self, state: State, catalog: Catalog) -> State:
        """Which rows were read is known to the reader alone: this is no commit."""
        seen = catalog._replace(looks=rows.read_by(catalog.looks, self.number))
        return state._replace(versions=(*state.versions[:-1], seen))

    def _collect(self, state: State, _: int) -> Step:
        """Away with released references, then with assets that nothing keeps."""
        done = commit(state, rows.collected(state.versions[-1]), durable=self.careful)
        return "collects assets", self._at(done, ("doom", 0))

    def _doom(self, state: State, key: int) -> Step:
        """Delete the blob row unless the database refuses; decide on the candidates."""
        catalog = state.versions[-1]
        if rows.garbage(catalog):
            if self.mutant == "doomed by a flag":
                return "finds garbage", self._at(state, ("doom unseen", 0))
            live = rows.live_keys(catalog)
            if self.mutant == "bytes before the blob row" and live:
                return "finds garbage", self._at(state, ("bytes", live[0]))
            return self._forget(state, key)
        if any(asset and not asset & KEEPING for asset in catalog.assets):
            left = catalog._replace(looks=rows.given_up(catalog.looks, self.number))
            back = state._replace(versions=(*state.versions[:-1], left))
            return "finds some of it pending", self._at(back, IDLE)
        return "finds it kept, or gone", self._at(state, ("take off", 0))

    def _forget(self, state: State, _: int) -> Step:
        done = commit(state, rows.forgotten(state.versions[-1]), durable=self.careful)
        return "dooms the blob", self._at(done, ("take off", 0))

    def _bytes(self, state: State, key: int) -> Step:
        deleted = state._replace(files=disk.unlinked(state.files, key))
        return f"deletes key {key}", self._at(deleted, ("doom", 0))

    def _take_off(self, state: State, _: int) -> Step:
        catalog = state.versions[-1]
        left = catalog._replace(looks=rows.taken_off(catalog.looks, self.number))
        done = commit(state, left, durable=self.careful)
        return "takes its candidates off", self._at(done, IDLE)

    def _erasing(self, state: State, catalog: Catalog, key: int) -> Step:
        """Durable before the first delete is sent."""
        if self.mutant == "erasing skipped":
            return f"goes for key {key}", self._at(state, ("delete", key))
        durable = self.mutant != "erasing not durable"
        done = commit(state, rows.erasing(catalog, key), durable=durable)
        return f"sets key {key} erasing", self._at(done, ("delete", key))

    def _delete(self, state: State, key: int) -> Step:
        deleted = state._replace(files=disk.unlinked(state.files, key))
        return f"deletes key {key}", self._at(deleted, ("confirm", key))

    def _confirm(self, state: State, key: int) -> Step:
        """Check that it is gone; a late write may have brought it back."""
        if state.files[key] in disk.PRESENT:
            return f"finds key {key} again", self._at(state, ("delete", key))
        catalog = state.versions[-1]
        if self.mutant == "erasing skipped" and catalog.states[key] == DOOMED:
            catalog = rows.erasing(catalog, key)
        done = commit(state, rows.erased(catalog, key), durable=self.careful)
        return f"sets key {key} erased", self._at(done, IDLE)

    def _fence(self, state: State, key: int) -> Step:
        done = commit(state, rows.doomed(state.versions[-1], key), durable=self.careful)
        return f"fences key {key} off", self._at(done, IDLE)


def fence(terms: Terms, state: State) -> Iterator[Step]:
    """An intent may be found too old at any time: heartbeats come late, clocks are wrong."""
    if state.attaching or terms.mutant == "fence on an old look":
        return
    catalog = state.versions[-1]
    for key, held in enumerate(catalog.states):
        if held == WRITING:
            done = commit(state, rows.doomed(catalog, key), durable=not terms.lazy)
            yield f"key {key} is fenced off", done


def adopt_strays(state: State) -> Iterator[Step]:
    """fsck gives an object without a row a ``doomed`` one."""
    if state.attaching:
        return
    catalog = state.versions[-1]
    for key, held in enumerate(catalog.states):
        if held == NO_ROW and state.files[key] in disk.PRESENT:
            done = commit(state, rows.tombstone(catalog, key), durable=True)
            yield f"fsck gives key {key} a doomed row", done
