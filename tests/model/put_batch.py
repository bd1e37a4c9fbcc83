"""Batches: several digests through one put, two puts at a time, with gc and power cuts between.

All hits of a batch share one TX1, all misses one intent transaction, one publish and one TX2;
renames come one by one. Hits that went meanwhile and items that were fenced off go round again
together, from the probe on, with new keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from tests.model import disk, promises, rows
from tests.model.disk import Files
from tests.model.explorer import Invariant, Model
from tests.model.rows import KEPT, NO_ROW, OWNED, PLAIN, Catalog, changed

from calotype.catalog.states import DOOMED, ERASING, WRITING

Item = tuple[int, int]
"""A digest, by number, and the key that is used for it."""


class Process(NamedTuple):
    """What a process does next, the items it does that with, those that wait, and the digests
    that go round again.
    """

    doing: str
    items: tuple[Item, ...] = ()
    rest: tuple[Item, ...] = ()
    again: tuple[int, ...] = ()


IDLE = Process("idle")
OVER = Process("over")

Catalogs = tuple[Catalog, ...]


class State(NamedTuple):
    """Rows and objects of each digest. ``promised`` are, for each digest, the puts told yes."""

    versions: tuple[Catalogs, ...]
    files: tuple[Files, ...]
    putters: tuple[Process, ...]
    collector: Process
    promised: tuple[int, ...]
    fresh: tuple[int, ...]
    cuts: int


Step = tuple[str, State]


@dataclass(frozen=True)
class Terms:
    """How large the model is: ``batches`` are the digests that each putter puts, over and over
    or, with ``once``, until it is told yes; ``keys`` says how many keys each digest has.
    """

    batches: tuple[tuple[int, ...], ...] = ((0, 1), (0, 1))
    once: bool = True
    keys: tuple[int, ...] = (2, 2)
    cuts: int = 1
    mutant: str = ""


KINDS = (OWNED, KEPT)
"""What keeps the asset for each putter."""


def commit(state: State, catalogs: Catalogs, *, durable: bool = True) -> State:
    """The transaction is over; one that is not durable may be lost to a power cut."""
    if durable or not state.cuts:
        return state._replace(versions=(catalogs,))
    older = set(state.versions) - {catalogs}
    return state._replace(versions=(*sorted(older), catalogs))


class Batches:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self.done = OVER if terms.once else IDLE

    def model(self) -> Model[State]:
        """The model to explore."""
        keys, putters = self.terms.keys, len(self.terms.batches)
        initial = State(
            versions=(tuple(rows.empty(count, 1) for count in keys),),
            files=tuple(map(disk.empty, keys)),
            putters=(IDLE,) * putters,
            collector=IDLE,
            promised=(0,) * len(keys),
            fresh=(PLAIN + 1,) * len(keys),
            cuts=self.terms.cuts,
        )
        return Model(
            f"put_batch, {self.mutant}" if self.mutant else "put_batch",
            initial,
            (self.put, self.release, self.collect, self.fence, self.power_cut),
            self.invariants(),
        )

    # -- put

    def put(self, state: State) -> Iterator[Step]:
        """Each putter puts its batch again and again, as long as there are keys."""
        for number, process in enumerate(state.putters):
            if process.doing == "over":
                continue
            if process.doing == "idle":
                taken = self._probe(state, number, self.terms.batches[number])
            else:
                taken = getattr(self, "_" + process.doing)(state, number, process)
            yield f"putter {number} {taken[0]}", taken[1]

    def _at(self, state: State, number: int, process: Process) -> State:
        return state._replace(putters=changed(state.putters, number, process))

    def _probe(self, state: State, number: int, digests: tuple[int, ...]) -> Step:
        found = {digest: rows.trusted(state.versions[-1][digest]) for digest in digests}
        hits = tuple((digest, key) for digest, key in found.items() if key is not None)
        misses = tuple((digest, PLAIN) for digest, key in found.items() if key is None)
        process = Process("hit", hits, misses) if hits else Process("intend", misses)
        return f"probes {names(digests)}: {names(hits)} there", self._at(state, number, process)

    def _hit(self, state: State, number: int, process: Process) -> Step:
        """TX1 for all that were there; what is gone meanwhile goes round again."""
        catalogs, done, gone = state.versions[-1], [], []
        for digest, key in process.items:
            if rows.trusted(catalogs[digest]) == key:
                catalogs = self._link(catalogs, digest, number)
                done.append(digest)
            else:
                gone.append(digest)
        after = self._told_yes(commit(state, catalogs) if done else state, number, done)
        following = Process("intend", process.rest, again=tuple(gone))
        following = following if process.rest else self._next_round(gone)
        return f"links {names(done)}", self._at(after, number, following)

    def _next_round(self, digests: list[int]) -> Process:
        if not digests:
            return self.done
        return Process("redo", again=tuple(sorted(digests)))

    def _link(self, catalogs: Catalogs, digest: int, number: int) -> Catalogs:
        return changed(catalogs, digest, rows.linked(catalogs[digest], 0, KINDS[number]))

    def _told_yes(self, state: State, number: int, digests: list[int]) -> State:
        promised = tuple(
            bits | 1 << number if digest in digests else bits
            for digest, bits in enumerate(state.promised)
        )
        return state._replace(promised=promised)

    def _intend(self, state: State, number: int, process: Process) -> Step:
        """One transaction for all misses; an item without a key left is given up."""
        catalogs, fresh, items = state.versions[-1], state.fresh, []
        for digest, _ in process.items:
            key = free_key(catalogs[digest], fresh[digest])
            if key is not None:
                intended = rows.intend(catalogs[digest], key)
                catalogs = changed(catalogs, digest, intended)
                fresh = changed(fresh, digest, max(fresh[digest], key + 1))
                items.append((digest, key))
        after = commit(state._replace(fresh=fresh), catalogs, durable=False) if items else state
        publish = Process("publish", tuple(items), tuple(items), process.again)
        following = publish if items else self._next_round(list(process.again))
        return f"intends {names(items)}", self._at(after, number, following)

    def _publish(self, state: State, number: int, process: Process) -> Step:
        """Rename one, each digest being in a directory of its own; after the last, sync."""
        (digest, key), *rest = process.rest
        files = changed(state.files, digest, disk.renamed(state.files[digest], key))
        doing = "publish" if rest else "sync"
        return f"renames {names([(digest, key)])}", self._at(
            state._replace(files=files), number, process._replace(doing=doing, rest=tuple(rest))
        )

    def _sync(self, state: State, number: int, process: Process) -> Step:
        """Each directory in turn; that some are before others adds nothing to a power cut."""
        items = process.items[:1] if self.mutant == "one directory synced" else process.items
        files = state.files
        for digest, key in items:
            files = changed(files, digest, disk.synced(files[digest], key))
        return f"syncs {names(items)}", self._at(
            state._replace(files=files), number, process._replace(doing="settle")
        )

    def _settle(self, state: State, number: int, process: Process) -> Step:
        """TX2 for all; who was fenced off goes round again."""
        catalogs, done, fenced = state.versions[-1], [], []
        for digest, key in process.items:
            after = self._own(catalogs[digest], key)
            if after is None:
                fenced.append((digest, key))
            else:
                catalogs = self._link(changed(catalogs, digest, after), digest, number)
                done.append(digest)
        told = [digest for digest, _ in process.items]
        told = told if self.mutant == "whole batch told yes" else done
        after = self._told_yes(commit(state, catalogs) if done else state, number, told)
        return f"settles {names(done)}, not {names(fenced)}", self._at(
            after, number, self._after_settle(tuple(fenced), process.again)
        )

    def _own(self, catalog: Catalog, key: int) -> Catalog | None:
        """The catalog with a live replica, another's or else mine; None where I was fenced off."""
        if rows.trusted(catalog) not in (None, key):
            return rows.doomed(catalog, key)
        fenced = catalog.states[key] != WRITING and self.mutant != "fenced item settles"
        return None if fenced else rows.published(catalog, key)

    def _after_settle(self, fenced: tuple[Item, ...], again: tuple[int, ...]) -> Process:
        if self.mutant == "whole batch told yes":
            return self._next_round(list(again))
        if fenced and self.mutant == "redone at the old key":
            return Process("insist", fenced, again=again)
        return self._next_round([*again, *(digest for digest, _ in fenced)])

    def _redo(self, state: State, number: int, process: Process) -> Step:
        """Back to the probe with the same files."""
        return self._probe(state, number, process.again)

    def _insist(self, state: State, number: int, process: Process) -> Step:
        catalogs = state.versions[-1]
        for digest, key in process.items:
            catalogs = changed(catalogs, digest, rows.intend(catalogs[digest], key))
        following = Process("publish", process.items, process.items, process.again)
        return f"intends {names(process.items)}", self._at(
            commit(state, catalogs, durable=False), number, following
        )

    # -- the others

    def release(self, state: State) -> Iterator[Step]:
        """Whatever keeps an asset may be let go."""
        for digest, catalog in enumerate(state.versions[-1]):
            for number in range(len(self.terms.batches)):
                if catalog.assets[0] & KINDS[number]:
                    let_go = rows.let_go(catalog, 0, KINDS[number])
                    after = commit(state, changed(state.versions[-1], digest, let_go))
                    bits = state.promised[digest] & ~(1 << number)
                    yield (
                        f"what putter {number} has of {digest} is let go",
                        after._replace(promised=changed(state.promised, digest, bits)),
                    )

    def fence(self, state: State) -> Iterator[Step]:
        """An intent may be found too old at any time."""
        catalogs = state.versions[-1]
        for digest, catalog in enumerate(catalogs):
            for key, held in enumerate(catalog.states):
                if held == WRITING:
                    doomed = changed(catalogs, digest, rows.doomed(catalog, key))
                    yield f"key {key} of {digest} is fenced off", commit(state, doomed)

    def collect(self, state: State) -> Iterator[Step]:
        """One collector: dooms all garbage in one transaction, erases all doomed keys in one."""
        doing, items, rest, _ = state.collector
        catalogs = state.versions[-1]
        if doing == "idle":
            yield from self._begin(state)
        elif doing == "delete":
            (digest, key), *left = rest  # and a look whether it is gone, before any late write
            files = changed(state.files, digest, disk.unlinked(state.files[digest], key))
            following = Process("delete" if left else "erased", items, tuple(left))
            yield (
                f"gc deletes {names([(digest, key)])}",
                state._replace(files=files, collector=following),
            )
        else:
            for digest, key in items:
                catalogs = changed(catalogs, digest, rows.erased(catalogs[digest], key))
            yield (
                f"gc sets {names(items)} erased",
                commit(state, catalogs, durable=False)._replace(collector=IDLE),
            )

    def _begin(self, state: State) -> Iterator[Step]:
        catalogs = state.versions[-1]
        looked = tuple(look(catalog) if catalog.looks else catalog for catalog in catalogs)
        if looked != catalogs:
            yield "gc collects and dooms", commit(state, looked, durable=False)
        going = tuple(
            (digest, key)
            for digest, catalog in enumerate(catalogs)
            for key, held in enumerate(catalog.states)
            if held in (DOOMED, ERASING)
        )
        if going:
            for digest, key in going:
                catalogs = changed(catalogs, digest, rows.erasing(catalogs[digest], key))
            following = Process("delete", going, going)
            yield (
                f"gc sets {names(going)} erasing",
                commit(state, catalogs)._replace(collector=following),
            )

    def power_cut(self, state: State) -> Iterator[Step]:
        """Back to a version that the log still holds; entries not synced are there or not."""
        if not state.cuts:
            return
        left = state._replace(
            putters=tuple(OVER if process == OVER else IDLE for process in state.putters),
            collector=IDLE,
            cuts=state.cuts - 1,
        )
        for version in state.versions:
            for files in product(*map(disk.after_a_cut, state.files)):
                yield "power cut", left._replace(versions=(version,), files=files)

    # -- invariants

    def invariants(self) -> Mapping[str, Invariant[State]]:
        """Those of one digest, for each."""
        wanted = [(0, kind) for kind in KINDS]

        def each(holds) -> Invariant[State]:
            return lambda state: all(map(holds, state.versions[-1]))

        return {
            "I1 blob has bytes": lambda state: all(
                map(promises.has_bytes, state.versions[-1], state.files)
            ),
            "I1 one live replica": each(promises.one_live_replica),
            "I2 rows point at rows": each(promises.rows_point_at_rows),
            "I3 promises are kept": lambda state: all(
                promises.promises_are_kept(catalog, files, promised, wanted)
                for catalog, files, promised in zip(
                    state.versions[-1], state.files, state.promised, strict=True
                )
            ),
            "I5 deletes are announced": announced,
            "I6 doomed keys stay doomed": each(promises.doomed_keys_stay_doomed),
            "I7 objects have rows": lambda state: (
                state.cuts < self.terms.cuts
                or all(map(promises.objects_have_rows, state.versions[-1], state.files))
            ),
            "I17 nothing leaks": each(promises.nothing_leaks),
        }


def free_key(catalog: Catalog, fresh: int) -> int | None:
    """The plain key if no row ever had it, else a token key, while there are any."""
    if catalog.states[PLAIN] == NO_ROW:
        return PLAIN
    return fresh if fresh < len(catalog.states) else None


def look(catalog: Catalog) -> Catalog:
    """Collect assets and doom the blob, in one transaction."""
    after = rows.collected(catalog._replace(looks=0))
    return rows.forgotten(after) if rows.garbage(after) else after


def announced(state: State) -> bool:
    """I5: what is about to be deleted is durably ``erasing``."""
    if state.collector.doing != "delete":
        return True
    return all(
        catalogs[digest].states[key] in promises.GONE
        for digest, key in state.collector.rest
        for catalogs in state.versions
    )


def names(items) -> str:
    """For labels: digests as letters, with their keys."""
    return (
        "+".join(
            f"{'ab'[item[0]]}{item[1]}" if isinstance(item, tuple) else "ab"[item] for item in items
        )
        or "none"
    )
