"""Put, from the probe on; each putter puts again and again as long as there are keys."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import disk, rows
from tests.model.fsck import found_bad
from tests.model.rows import NO_ROW, PLAIN, Catalog, changed
from tests.model.store import IDLE, At, State, Step, Terms, commit, putter_at

from calotype.catalog.states import ERASED, LIVE, WRITING

OUTSIDE = frozenset({"idle", "publish", "sync", "unlink"})
"""Steps that need no write transaction."""


class Putter:
    """One putter's next step; ``number`` says which one, ``into`` the scope and what keeps it."""

    def __init__(self, terms: Terms, number: int) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self.number = number
        self.into = terms.putters[number]
        self.missed = self._after_a_miss()
        self._steps = {
            "idle": self._probe,
            "hit": self._hit,
            "mark": self._mark,
            "intend": self._intend,
            "publish": self._publish,
            "sync": self._sync,
            "settle": self._settle,
            "unlink": self._unlink,
        }

    def steps(self, state: State) -> Iterator[Step]:
        """The one thing it does next, unless it waits for the lock or for a key."""
        doing, key = state.putters[self.number]
        if state.attaching and doing not in OUTSIDE:
            return
        taken = self._steps[doing](state, key)
        if taken is not None:
            yield f"putter {self.number} {taken[0]}", taken[1]

    def _after_a_miss(self) -> At:
        return ("publish", PLAIN) if self.mutant == "intent after publish" else ("intend", PLAIN)

    def _at(self, state: State, at: At) -> State:
        return putter_at(state, self.number, at)

    def _probe(self, state: State, _: int) -> Step:
        """Read the live replica and look at its object, outside of any transaction."""
        key = rows.trusted(state.versions[-1])
        if key is None:
            return "probes: nothing there", self._at(state, self.missed)
        if state.files[key] in disk.WHOLE:
            return f"probes: key {key}", self._at(state, ("hit", key))
        return f"probes: key {key} is damaged", self._at(state, ("mark", key))

    def _mark(self, state: State, key: int) -> Step:
        marked = rows.suspected(state.versions[-1], key)
        done = commit(state, marked, durable=self.terms.durable("mark"))
        known = found_bad(self.terms, done, key)
        return f"marks key {key} suspect", self._at(known, self.missed)

    def _hit(self, state: State, key: int) -> Step:
        """TX1: the replica that was probed is still live, and nobody found it damaged since."""
        catalog = state.versions[-1]
        good = catalog.states[key] == LIVE and not catalog.suspect >> key & 1
        if self.mutant == "hit not read again":
            good = True
        if not (good and catalog.blob):
            return "finds its hit gone", self._at(state, IDLE)
        return f"links to key {key}", self._told_yes(state, catalog)

    def _told_yes(self, state: State, catalog: Catalog) -> State:
        scope, kind = self.into
        done = commit(
            state, rows.linked(catalog, scope, kind), durable=self.mutant != "settle not durable"
        )
        return done._replace(
            putters=changed(done.putters, self.number, IDLE),
            promised=done.promised | 1 << self.number,
            linked_badly=rows.trusted(catalog) is None,
        )

    def _intend(self, state: State, written: int) -> Step | None:
        """Miss: the row is committed before the first byte, though not durably."""
        late = self.mutant == "intent after publish"
        key = written if late else self._free_key(state)
        if key is None:
            return None
        intended = commit(state, rows.intend(state.versions[-1], key), durable=False)
        fresh = max(state.fresh, key + 1)
        following = ("settle" if late else "publish", key)
        return f"intends key {key}", self._at(intended._replace(fresh=fresh), following)

    def _free_key(self, state: State) -> int | None:
        plain = state.versions[-1].states[PLAIN]
        unused = plain == NO_ROW
        if self.mutant == "plain key used again":
            unused = plain in (NO_ROW, ERASED)
        if self.mutant == "plain key where no file is":
            unused = state.files[PLAIN] not in disk.PRESENT and plain not in (WRITING, LIVE)
        if unused:
            return PLAIN
        return state.fresh if state.fresh < self.terms.keys else None

    def _publish(self, state: State, key: int) -> Step:
        doing = "settle" if self.mutant == "settle before sync" else "sync"
        published = state._replace(files=disk.renamed(state.files, key))
        return f"renames to key {key}", self._at(published, (doing, key))

    def _sync(self, state: State, key: int) -> Step:
        following = {"settle before sync": IDLE, "intent after publish": ("intend", key)}
        synced = state._replace(files=disk.synced(state.files, key))
        return f"syncs the directory of key {key}", self._at(
            synced, following.get(self.mutant, ("settle", key))
        )

    def _settle(self, state: State, key: int) -> Step:
        """TX2: with the row still ``writing``, the blob is there from here on."""
        catalog = state.versions[-1]
        fenced = catalog.states[key] != WRITING and self.mutant != "settle not checked"
        if rows.trusted(catalog) not in (None, key):
            done = self._told_yes(state, rows.doomed(catalog, key))
            return f"gives up key {key} and uses another's", self._at(done, self._lost(key))
        if fenced:
            return f"was fenced off key {key}", self._at(state, self._lost(key))
        done = self._told_yes(state, self._live(catalog, key))
        if self.mutant == "settle before sync":
            done = self._at(done, ("sync", key))
        return f"sets key {key} live", done

    def _live(self, catalog: Catalog, key: int) -> Catalog:
        """As built: a live row that is not to be trusted, or has lost its blob, goes."""
        if self.mutant == "live rows without a blob not seen" and not catalog.blob:
            return catalog._replace(blob=True, states=changed(catalog.states, key, LIVE))
        return rows.published(catalog, key)

    def _lost(self, key: int) -> At:
        return ("unlink", key) if self.mutant == "loser deletes its bytes" else IDLE

    def _unlink(self, state: State, key: int) -> Step:
        unlinked = state._replace(files=disk.unlinked(state.files, key))
        return f"deletes key {key}", self._at(unlinked, IDLE)
