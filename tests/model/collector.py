"""GC, over and over: look at candidates, erase keys, fence off writers that have gone silent."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import disk, rows
from tests.model.rows import FRESH, KEEPING, NO_ROW, PLAIN, Catalog
from tests.model.store import IDLE, At, State, Step, Terms, collector_at, commit

from calotype.catalog.states import DOOMED, ERASED, ERASING, WRITING

OUTSIDE = frozenset({"delete", "check", "bytes"})
"""Steps that need no transaction."""


class Collector:
    """One collector's next steps; ``number`` says which one."""

    def __init__(self, terms: Terms, number: int) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self.number = number
        self._steps = {
            "look": self._look,
            "collect": self._collect,
            "doom": self._doom,
            "doom unseen": self._forget,
            "bytes": self._bytes,
            "take off": self._take_off,
            "delete": self._delete,
            "check": self._check,
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

    def _committed(self, state: State, catalog: Catalog, what: str, at: At) -> State:
        done = commit(state, catalog, durable=self.terms.durable(what))
        return collector_at(done, self.number, at)

    def _idle(self, state: State) -> Iterator[Step]:
        catalog = state.versions[-1]
        if catalog.looks:
            doing = "collect" if self.terms.split else "look"
            yield "reads candidates", self._at(self._read(state, catalog), (doing, 0))
        for key, held in enumerate(catalog.states):
            yield from self._erase(state, catalog, key, held)

    def _erase(self, state: State, catalog: Catalog, key: int, held: str) -> Iterator[Step]:
        present = state.files[key] in disk.PRESENT
        if held == DOOMED:
            if self.mutant == "stray taken for spare" or not rows.may_be_the_last(catalog, key):
                yield self._erasing(state, catalog, key)
        elif held == ERASING:
            yield f"finds key {key} erasing", self._at(state, ("delete", key))
        elif held == ERASED:
            yield from self._once_more(state, catalog, key, present)
        elif held == WRITING and self.mutant == "fence on an old look":
            yield f"finds key {key} silent", self._at(state, ("fence", key))
        elif held == NO_ROW and present and self.mutant == "stray deleted without a row":
            yield f"finds key {key} astray", self._at(state, ("delete", key))

    def _once_more(self, state: State, catalog: Catalog, key: int, present: bool) -> Iterator[Step]:
        """The second delete, and after it a token key's tombstone is forgotten, a plain one not."""
        if present:
            yield f"looks at key {key} once more", self._at(state, ("delete", key))
        if self.terms.prune and (key != PLAIN or self.mutant == "plain tombstone forgotten"):
            after = rows.pruned(catalog, key)
            yield f"forgets key {key}", self._committed(state, after, "prune", IDLE)

    def _read(self, state: State, catalog: Catalog) -> State:
        """Which rows were read is known to the reader alone: this is no commit."""
        seen = catalog._replace(looks=rows.read_by(catalog.looks, self.number))
        return state._replace(versions=(*state.versions[:-1], seen))

    def _look(self, state: State, _: int) -> Step:
        """As built: collect, doom and settle in one transaction."""
        after = rows.collected(state.versions[-1])
        if rows.garbage(after):
            gone = rows.forgotten(after)._replace(looks=0)
            return "dooms the blob", self._committed(state, gone, "doom", IDLE)
        settled = self._settled(after)
        return "looks at the digest", self._committed(state, settled, "collect", IDLE)

    def _settled(self, catalog: Catalog) -> Catalog:
        """Only the ids that were read are deleted; what is still pending gets a new one."""
        pending = any(asset and not asset & KEEPING for asset in catalog.assets)
        left = rows.taken_off(catalog.looks, self.number)
        return catalog._replace(looks=left | FRESH if pending else left)

    def _collect(self, state: State, _: int) -> Step:
        """Away with released references, then with assets that nothing keeps."""
        after = rows.collected(state.versions[-1])
        return "collects assets", self._committed(state, after, "collect", ("doom", 0))

    def _doom(self, state: State, key: int) -> Step:
        """Delete the blob row unless the database refuses."""
        catalog = state.versions[-1]
        if not rows.garbage(catalog):
            return "finds nothing to doom", self._at(state, ("take off", 0))
        if self.mutant == "doomed by a flag":
            return "finds garbage", self._at(state, ("doom unseen", 0))
        live = rows.live_keys(catalog)
        if self.mutant == "bytes before the blob row" and live:
            return "finds garbage", self._at(state, ("bytes", live[0]))
        return self._forget(state, key)

    def _forget(self, state: State, _: int) -> Step:
        after = rows.forgotten(state.versions[-1])
        return "dooms the blob", self._committed(state, after, "doom", ("take off", 0))

    def _bytes(self, state: State, key: int) -> Step:
        deleted = state._replace(files=disk.unlinked(state.files, key))
        return f"deletes key {key}", self._at(deleted, ("doom", 0))

    def _take_off(self, state: State, _: int) -> Step:
        after = self._settled(state.versions[-1])
        return "takes its candidates off", self._committed(state, after, "take off", IDLE)

    def _erasing(self, state: State, catalog: Catalog, key: int) -> Step:
        """Durable before the first delete is sent."""
        if self.mutant == "erasing skipped":
            return f"goes for key {key}", self._at(state, ("delete", key))
        durable = self.mutant != "erasing not durable"
        done = commit(state, rows.erasing(catalog, key), durable=durable)
        return f"sets key {key} erasing", self._at(done, ("delete", key))

    def _delete(self, state: State, key: int) -> Step:
        deleted = state._replace(files=disk.unlinked(state.files, key))
        return f"deletes key {key}", self._at(deleted, ("check", key))

    def _check(self, state: State, key: int) -> Step:
        """A late write may have brought it back: then it stays ``erasing`` for the next run."""
        if state.files[key] in disk.PRESENT:
            return f"finds key {key} again", self._at(state, IDLE)
        return f"finds key {key} gone", self._at(state, ("confirm", key))

    def _confirm(self, state: State, key: int) -> Step:
        """What is written from now on is for the second delete."""
        catalog = state.versions[-1]
        if self.mutant == "erasing skipped" and catalog.states[key] == DOOMED:
            catalog = rows.erasing(catalog, key)
        after = rows.erased(catalog, key)
        return f"sets key {key} erased", self._committed(state, after, "erased", IDLE)

    def _fence(self, state: State, key: int) -> Step:
        after = rows.doomed(state.versions[-1], key)
        return f"fences key {key} off", self._committed(state, after, "abort", IDLE)


def fence(terms: Terms, state: State) -> Iterator[Step]:
    """An intent may be found too old at any time, or be withdrawn by its writer."""
    if state.attaching or terms.mutant == "fence on an old look":
        return
    catalog = state.versions[-1]
    for key, held in enumerate(catalog.states):
        if held == WRITING:
            done = commit(state, rows.doomed(catalog, key), durable=terms.durable("abort"))
            yield f"key {key} is fenced off", done
