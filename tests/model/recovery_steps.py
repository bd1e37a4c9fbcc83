"""A recovery, step by step: one transaction, one look or one write to the backend is a step.

Each step may be the last, for a recovery may be killed; what reads or keeps bytes may fail instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.recovery_store import (
    ABSENT,
    GONE,
    LOST,
    NO,
    NOBODY,
    NONE,
    RESTING,
    TOLD,
    TRASH,
    UNFINISHED,
    Candidate,
    Catalog,
    Marker,
    Recovery,
    State,
    Terms,
    all_doomed,
    doomed,
    doubted,
    erased_seq,
    fault,
    is_blob,
    is_own,
    live,
    made_live,
    taken_from,
    token,
    unknown_to,
    with_catalog,
    written,
)
from tests.model.rows import changed

from calotype.catalog.states import DOOMED, LIVE, WRITING

Going = Iterator[tuple[str, State, Recovery]]


class Recoverer:
    """What a recovery does next; ``--adopt`` is always given."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self._steps = {
            "idle": self._begin,
            "take": self._take,
            "blocks": self._blocks,
            "purge": self._purge,
            "notes": self._notes,
            "list": self._list,
            "sort": self._sort,
            "keep": self._keep,
            "settle": self._settle,
            "tell": self._tell,
            "hold": self._hold,
            "finish": self._finish,
        }

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """The next step of each catalog's, or its end."""
        for who, catalog in enumerate(state.catalogs):
            if catalog is None:
                continue
            run = state.recoveries[who]
            for label, after, doing in self._steps[run.doing](state, who, catalog, run):
                recoveries = changed(after.recoveries, who, doing)
                yield f"{label} by {who}", after._replace(recoveries=recoveries)
            if run != RESTING:
                resting = changed(state.recoveries, who, RESTING)
                yield f"kill recovery {who}", state._replace(recoveries=resting)

    def ended(self, state: State, who: int) -> State:
        """The state once a recovery that nothing disturbs has ended."""
        run, going = RESTING, state
        while True:
            catalog = going.catalogs[who]
            assert catalog is not None
            step = next(iter(self._steps[run.doing](going, who, catalog, run)), None)
            if step is None or step[2] == RESTING:
                return going if step is None else step[1]
            _, going, run = step

    # -- taking over

    def _begin(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Look, and begin another epoch in the catalog where need be."""
        why = fault(state, catalog)
        alone = why == UNFINISHED and self.mutant == "one that was killed is left alone"
        if not state.left.runs or not (why or state.doubt[who]) or alone:
            return
        after = state._replace(left=state.left._replace(runs=state.left.runs - 1))
        if why not in ("", UNFINISHED):
            epoch = max(catalog.epoch, state.marker.epoch) + (self.mutant != "the same epoch")
            seq = max(catalog.seq, erased_seq(state))
            generation = state.generations + 1
            another = catalog._replace(epoch=epoch, generation=generation, seq=seq, at_home=True)
            after = with_catalog(after, who, another)._replace(generations=generation)
        yield "look", after, Recovery("take", state.marker, fitted=not why)

    def _take(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Have the marker say that it is this catalog's, and not finished."""
        another = not run.fitted and state.marker != run.read
        why = fault(state, catalog)
        if another or why not in ("", UNFINISHED, LOST):
            yield "give up", state, RESTING
            return
        seq = max(catalog.seq, erased_seq(state))
        recovering = self.mutant != "unlocked at once"
        marker = Marker(catalog.epoch, catalog.generation, seq, recovering)
        if state.marker == GONE and not why and self.mutant == "no mark where there was none":
            marker = GONE
        after = with_catalog(state, who, catalog._replace(seq=seq))
        if state.owner != who:
            after = _handed_over(after, who)
        begun = changed(after.begun, who, True)
        after = after._replace(marker=marker, quiet=False, begun=begun)
        yield "take over", after, run._replace(doing="blocks" if self.terms.blocks else "notes")

    # -- what others have noted

    def _blocks(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Read the notes of blocks; which are this catalog's alone was put again, or never told."""
        noted = state.noted and self.mutant != "blocks not read"
        alone = catalog.blocked > 0 and not noted and self.mutant != "unblocked not heeded"
        doing = "purge" if noted and not catalog.blocked else "notes"
        yield "read the blocks", state, run._replace(doing=doing, unblocked=alone)

    def _purge(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Let go of what another catalog purged."""
        purges = state.purges + 1
        gone = all_doomed(catalog)._replace(blocked=purges)
        after = with_catalog(state, who, gone)._replace(purges=purges)
        yield "purge what was blocked", after, run._replace(doing="notes")

    def _notes(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Read which keys others may still delete."""
        keys = {key for _, key in state.notes} if self.mutant != "notes not read" else ()
        named = sum(1 << key for key in keys)
        noted = state.noted and self.mutant != "blocks not read"
        yield "read the notes", state, run._replace(doing="list", named=named, blocked=noted)

    # -- what is there

    def _list(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        there = sum(1 << key for key, at in enumerate(state.objects) if at != ABSENT)
        yield "list", state, run._replace(doing="sort", there=there)

    def _sort(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Hold what was put again at another key, mark what is lost, and see what is to be kept."""
        sound = [k for k in live(catalog) if run.there >> k & 1 and not run.named >> k & 1]
        again = any(run.there >> key & 1 for key in unknown_to(state, catalog))
        wanted = () if sound or run.blocked else self._candidates(catalog, run)
        if wanted:
            catalog = doubted(state, catalog)
        elif sound and again and is_blob(catalog) and not run.blocked:
            catalog = catalog._replace(held=self.mutant != "put again is not held" or catalog.held)
        doing = "keep" if wanted else self._afterwards
        yield "sort", with_catalog(state, who, catalog), run._replace(doing=doing, wanted=wanted)

    def _candidates(self, catalog: Catalog, run: Recovery) -> tuple[Candidate, ...]:
        """Those that nobody else deletes first."""
        found = []
        for key, row in enumerate(catalog.rows):
            late = bool(run.named >> key & 1) and self.mutant != "adopted where it was erased"
            if not run.there >> key & 1:
                continue
            if row == NONE:
                found.append(Candidate(key, late, forgotten=True))
            elif row == LIVE and late:
                found.append(Candidate(key, late, forgotten=False, instead=True))
            elif row != LIVE and not catalog.verified >> key & 1:
                if self.mutant != "a put under way is not kept":
                    found.append(Candidate(key, late=True, forgotten=False))
        return tuple(sorted(found, key=lambda each: each.late))

    def _keep(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Adopt the next object where it is, or copy it to a key of its own."""
        each = run.wanted[0]
        there = state.objects[each.key] != ABSENT
        fresh = token(state)
        if not there:
            yield "it is not there any more", state, self._next(run)
        elif not each.late:
            yield "adopt", *self._kept(state, who, catalog, run, each.key)
        elif fresh is not None:
            rows = changed(catalog.rows, fresh, WRITING)
            after = written(with_catalog(state, who, catalog._replace(rows=rows)), fresh)
            yield "copy", after, run._replace(doing="settle", copy=fresh)
        if state.left.faults and there:
            yield "cannot read it", _failed(state), self._next(run._replace(whole=False))

    def _settle(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Have the copy live."""
        yield "settle", *self._kept(state, who, catalog, run, run.copy)
        if state.left.faults:
            yield "no room", _failed(state), self._next(run._replace(whole=False, copy=NOBODY))

    def _kept(
        self, state: State, who: int, catalog: Catalog, run: Recovery, key: int
    ) -> tuple[State, Recovery]:
        """One transaction: live unless it is blocked, or another one is; who keeps it if unknown."""
        each = run.wanted[0]
        row = catalog.rows[key]
        if each.late and row != WRITING:
            whole = self.mutant == "fenced off and passed over"
            return state, self._next(run._replace(whole=run.whole and whole))
        if not each.late and row != NONE:
            return state, self._next(run)  # it has a row by now
        later = state.objects[each.key] >= catalog.blocked
        later = later or self.mutant == "blocks go whatever their age"
        back = each.forgotten and run.unblocked and later
        others = [other for other in live(catalog) if self._is_other(run, each, other)]
        if (catalog.blocked and not back) or others:
            without = doomed(catalog, key) if row == WRITING else catalog
            if others and each.forgotten and self.mutant != "put meanwhile, and so not held":
                without = without._replace(held=True)
            return with_catalog(state, who, without), self._next(run)
        known = is_blob(catalog)
        after = made_live(catalog, key)._replace(blocked=0)
        if each.late and not each.instead and catalog.rows[each.key] == NONE:
            after = after._replace(rows=changed(after.rows, each.key, DOOMED))
        if not known or each.forgotten:
            after = after._replace(held=True)
        done = run._replace(doing=self._afterwards, wanted=(), copy=NOBODY)
        return with_catalog(state, who, after), done

    @property
    def _afterwards(self) -> str:
        """What comes once all is kept; without blocks there is nothing to tell."""
        return "tell" if self.terms.blocks else "hold"

    def _next(self, run: Recovery) -> Recovery:
        rest = run.wanted[1:]
        doing = "keep" if rest else self._afterwards
        return run._replace(doing=doing, wanted=rest, copy=NOBODY)

    def _is_other(self, run: Recovery, each: Candidate, key: int) -> bool:
        """True for a live copy that does as well: not one that may be deleted late."""
        if self.mutant == "a late key is as good":
            return not (each.instead and key == each.key)
        return not run.named >> key & 1

    # -- the end

    def _tell(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Note what is blocked here and was not put again."""
        doing = run._replace(doing="hold")
        kept = run.whole or self.mutant == "told though not kept"
        mine = is_own(state, catalog) or self.mutant == "told by one that was outdone"
        if catalog.blocked and not state.noted and kept and mine:
            yield "tell of the block", told(state, who), doing
        else:
            yield "nothing to tell", state, doing

    def _hold(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Hold what this catalog would let go of, if its bytes are there."""
        doing = run._replace(doing="finish")
        there = any(
            row == LIVE and state.objects[key] != ABSENT for key, row in enumerate(catalog.rows)
        )
        held = catalog
        if catalog.use == TRASH and there and self.mutant != "what would be let go is not held":
            held = catalog._replace(held=True)
        yield "hold", with_catalog(state, who, held)._replace(accounted=True), doing
        if state.left.faults:
            yield "cannot hold", _failed(state), RESTING

    def _finish(self, state: State, who: int, catalog: Catalog, run: Recovery) -> Going:
        """Say that it is at an end, if the marker is still this catalog's."""
        mine = is_own(state, catalog)
        if not (run.whole or self.mutant == "ends though not whole"):
            yield "end, not whole", state, RESTING
        elif self.mutant == "finished over another" and state.marker.recovering:
            marker = Marker(catalog.epoch, catalog.generation, catalog.seq)
            yield "finish blindly", _at_an_end(state._replace(marker=marker), who), RESTING
        elif mine and state.marker.recovering:
            marker = state.marker._replace(recovering=False)
            whole = _at_an_end(state, who)
            yield "finish", whole._replace(marker=marker), RESTING
        else:
            yield "end", state, RESTING


def told(state: State, who: int) -> State:
    """A note that it is blocked."""
    banned = TOLD if who == state.owner else state.banned
    return state._replace(noted=True, banned=banned)


def _failed(state: State) -> State:
    return state._replace(left=state.left._replace(faults=state.left.faults - 1))


def _handed_over(state: State, who: int) -> State:
    """Another catalog's promises count from now on, and what the one before has promised."""
    known, by = state.catalogs[state.owner], state.catalogs[who]
    assert known is not None and by is not None
    return state._replace(
        owner=who,
        owed=taken_from(state, known, by),
        banned=state.banned if state.banned == TOLD else NO,
        doubt=changed(changed(state.doubt, state.owner, True), who, True),
        accounted=False,
    )


def _at_an_end(state: State, who: int) -> State:
    return state._replace(
        doubt=changed(state.doubt, who, False), begun=changed(state.begun, who, False)
    )
