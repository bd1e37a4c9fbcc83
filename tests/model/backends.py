"""Two backends of one digest: put, mirror, heal, repair, copy, switch, drop, while gc collects.

Keys are numbers, as many for the first backend as for the second; each is handed out once. A
process that was fenced off takes its next step much later, and a delete may be sent at any time
once its key is ``erasing``. Damage comes by itself, and nobody knows of it before a copy was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.explorer import Model
from tests.model.rows import NO_ROW, changed

from calotype.catalog.backends import MIRROR, PRIMARY, READ
from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE, WRITING

GONE = "gone"
NOTHING, WHOLE, ROTTEN = "nothing", "whole", "rotten"

Work = tuple[str, int, int]
"""What a process does next, at which key, and the other key that it read for it."""

IDLE: Work = ("idle", 0, 0)
BOTH = (0, 1)


class State(NamedTuple):
    """Rows and objects by key, roles by backend, and what each process does next.

    ``suspect`` is a set of keys as bits. No code sees ``rotted``, the keys that were damaged, and
    ``excused``: no sound copy may be left, for the last one was damaged unseen.
    """

    blob: bool
    owned: bool
    rows: tuple[str, ...]
    suspect: int
    files: tuple[str, ...]
    roles: tuple[str, str]
    putter: Work
    copiers: tuple[Work, Work]
    dropper: Work
    rotted: int
    excused: bool


Step = tuple[str, State]


@dataclass(frozen=True)
class Terms:
    """How large the model is, and what is wrong with it.

    ``keys`` of each backend, ``rot`` copies that may be damaged, backends that are ``copied`` to,
    roles that ``switch``.
    """

    keys: tuple[int, int] = (2, 2)
    rot: int = 1
    copied: tuple[int, ...] = BOTH
    switch: bool = True
    mutant: str = ""


class Backends:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.mutant = terms.mutant
        self.places = tuple(b for b in BOTH for _ in range(terms.keys[b]))
        self.keys = range(len(self.places))
        self.of = tuple([key for key in self.keys if self.places[key] == b] for b in BOTH)

    def model(self) -> Model[State]:
        """The model to explore."""
        initial = State(
            blob=False,
            owned=False,
            rows=(NO_ROW,) * len(self.places),
            suspect=0,
            files=(NOTHING,) * len(self.places),
            roles=(PRIMARY, MIRROR),
            putter=IDLE,
            copiers=(IDLE, IDLE),
            dropper=IDLE,
            rotted=0,
            excused=False,
        )
        return Model(
            f"backends, {self.mutant}" if self.mutant else "backends",
            initial,
            (self.put, self.copy, self.drop, self.collect, self.damage, self.roles),
            {
                "I1 live copies have bytes": self.have_bytes,
                "I1 live copies have a blob": lambda state: state.blob or not self.live(state),
                "I3 promises are kept": lambda state: state.blob or not state.owned,
                "I15 the last sound bytes stay": self.sound_bytes_stay,
                "one live copy in a backend": self.one_each,
                "copies are where a backend is": self.are_somewhere,
                "there is a primary": lambda state: PRIMARY in state.roles,
            },
        )

    # -- what there is

    def live(self, state: State) -> list[int]:
        """Keys of live replicas."""
        return [key for key in self.keys if state.rows[key] == LIVE]

    def trusted(self, state: State, backend: int) -> int | None:
        """The live and unsuspected key in a backend."""
        for key in self.of[backend]:
            if state.rows[key] == LIVE and not state.suspect >> key & 1:
                return key
        return None

    def free(self, state: State, backend: int) -> int | None:
        """A key that was never used, where bytes may be written."""
        if state.roles[backend] not in (PRIMARY, MIRROR):
            return None
        return next((key for key in self.of[backend] if state.rows[key] == NO_ROW), None)

    def sound(self, state: State, *, but: int = -1) -> bool:
        """Some live copy is whole."""
        return any(state.files[key] == WHOLE for key in self.live(state) if key != but)

    # -- put, from the probe on; the same bytes are put again and again

    def put(self, state: State) -> Iterator[Step]:
        """A putter's next step, and the release of what was put."""
        doing, key, _ = state.putter
        if state.owned:
            yield "release", state._replace(owned=False)
        if doing == "idle":
            yield from self._probe(state)
        elif doing == "hit":
            good = state.rows[key] == LIVE and not state.suspect >> key & 1 and state.blob
            label, owned = (f"links to key {key}", True) if good else ("hit is gone", state.owned)
            yield label, state._replace(owned=owned, putter=IDLE)
        elif doing == "publish":
            files = changed(state.files, key, WHOLE)
            yield f"puts key {key}", state._replace(files=files, putter=("settle", key, 0))
        elif doing == "settle":
            yield self._settle_put(state, key)

    def _probe(self, state: State) -> Iterator[Step]:
        """A hit in either backend; what is found damaged is marked, and mended in the primary."""
        first = state.roles.index(PRIMARY)
        for backend in (first, 1 - first):
            key = self.trusted(state, backend) if state.blob else None
            if key is not None and state.files[key] == WHOLE:
                yield f"probes: key {key}", state._replace(putter=("hit", key, 0))
                return
        key = self.free(state, first)
        if key is not None:
            intended = state._replace(rows=changed(state.rows, key, WRITING))
            yield f"intends key {key}", intended._replace(putter=("publish", key, 0))

    def _settle_put(self, state: State, key: int) -> Step:
        other = self.trusted(state, self.places[key]) if state.blob else None
        done = state._replace(putter=IDLE)
        if other is not None:
            doomed = self._doomed(done, [key])
            return f"gives up key {key} for key {other}", doomed._replace(owned=True)
        if state.rows[key] != WRITING:
            return f"was fenced off key {key}", done
        return f"sets key {key} live", self._set_live(done, key)._replace(blob=True, owned=True)

    def _set_live(self, state: State, key: int) -> State:
        """A live copy of the same backend that is not trusted goes."""
        mine = [each for each in self.of[self.places[key]] if state.rows[each] == LIVE]
        state = self._doomed(state, mine)
        return state._replace(rows=changed(state.rows, key, LIVE), excused=False)

    def _doomed(self, state: State, keys: list[int]) -> State:
        rows = state.rows
        for key in keys:
            if rows[key] in (WRITING, LIVE):
                rows = changed(rows, key, DOOMED)
        return state._replace(rows=rows)

    # -- copies: to a mirror at once, by ``backend copy``, and of a good copy over a damaged one

    def copy(self, state: State) -> Iterator[Step]:
        """The next step of whoever copies into each backend."""
        for backend in self.terms.copied:
            doing, key, source = state.copiers[backend]
            if doing == "idle":
                yield from self._intend_copy(state, backend)
            elif doing == "read":
                yield self._read_source(state, backend, key, source)
            elif doing in (WHOLE, ROTTEN):
                sent = state._replace(files=changed(state.files, key, doing))
                yield f"copies to key {key}", self._copier(sent, backend, ("settle", key, source))
            elif doing == "settle":
                yield self._settle_copy(state, backend, key)

    def _copier(self, state: State, backend: int, work: Work) -> State:
        return state._replace(copiers=changed(state.copiers, backend, work))

    def _intend_copy(self, state: State, backend: int) -> Iterator[Step]:
        source, key = self.trusted(state, 1 - backend), self.free(state, backend)
        if not state.blob or source is None or key is None:
            return
        if self.trusted(state, backend) is None:
            intended = state._replace(rows=changed(state.rows, key, WRITING))
            work = ("read", key, source)
            yield f"intends a copy at key {key}", self._copier(intended, backend, work)

    def _read_source(self, state: State, backend: int, key: int, source: int) -> Step:
        """Hashed as it flows: only whole bytes come to their end; damage is marked."""
        found = state.files[source]
        if found == WHOLE or (found == ROTTEN and self.mutant == "copied without hashing"):
            return f"reads key {source}", self._copier(state, backend, (found, key, source))
        marked = self._marked(self._doomed(state, [key]), source)
        return f"finds key {source} damaged", self._copier(marked, backend, IDLE)

    def _marked(self, state: State, key: int) -> State:
        """Once damage is known, it is no excuse for letting go of a sound copy."""
        if state.rows[key] != LIVE:
            return state
        excused = state.excused and not self.sound(state)
        return state._replace(suspect=state.suspect | 1 << key, excused=excused)

    def _settle_copy(self, state: State, backend: int, key: int) -> Step:
        """Under the digest's lock: live, if the blob is there and nobody fenced the copier off."""
        done = self._copier(state, backend, IDLE)
        wanted = state.blob or self.mutant == "settled without a look at the blob"
        fenced = state.rows[key] != WRITING and self.mutant != "settled though fenced off"
        if not wanted or fenced or self.trusted(state, backend) is not None:
            return f"gives the copy at key {key} up", self._doomed(done, [key])
        return f"sets the copy at key {key} live", self._set_live(done, key)

    # -- drop

    def drop(self, state: State) -> Iterator[Step]:
        """Only read from now on; each copy goes once another was read whole; then the backend."""
        doing, key, witness = state.dropper
        if doing == "doom":
            yield self._let_go(state, key, witness)
            return
        if doing == "remove":
            yield self._gone(state._replace(dropper=IDLE), key)
            return
        for backend in BOTH:
            role = state.roles[backend]
            if role == MIRROR:
                roles = changed(state.roles, backend, READ)
                yield f"drops backend {backend}", state._replace(roles=roles)
            elif role == READ:
                yield from self._witnessed(state, backend)
                yield from self._removed(state, backend)

    def _witnessed(self, state: State, backend: int) -> Iterator[Step]:
        witness = self.trusted(state, 1 - backend)
        for key in self.of[backend]:
            if state.rows[key] == LIVE and witness is not None:
                if state.files[witness] == WHOLE or self.mutant == "a row is witness enough":
                    work = ("doom", key, witness)
                    yield f"reads key {witness} for key {key}", state._replace(dropper=work)

    def _let_go(self, state: State, key: int, witness: int) -> Step:
        """Under the lock, with the witness still live and trusted."""
        done = state._replace(dropper=IDLE)
        still = state.rows[witness] == LIVE and not state.suspect >> witness & 1
        backend = self.places[key]
        if state.roles[backend] == READ and (still or self.mutant == "witness not looked at again"):
            return f"lets go of key {key}", self._doomed(done, [key])
        return f"leaves key {key}", done

    def _removed(self, state: State, backend: int) -> Iterator[Step]:
        over = (NO_ROW, ERASED)
        if self.mutant == "removed while it is written to":
            over = (NO_ROW, ERASED, WRITING)
        if not all(state.rows[key] in over for key in self.of[backend]):
            return
        if self.mutant == "role not looked at again":
            work = ("remove", backend, 0)
            yield f"finds backend {backend} empty", state._replace(dropper=work)
        else:
            yield self._gone(state, backend)

    def _gone(self, state: State, backend: int) -> Step:
        gone = changed(state.roles, backend, GONE)
        return f"backend {backend} is gone", state._replace(roles=gone)

    # -- gc, and whoever reads

    def collect(self, state: State) -> Iterator[Step]:
        """The blob goes with all its copies; silent writers are fenced off; bytes are erased."""
        if state.blob and not state.owned:
            gone = self.live(state)
            if self.mutant == "only the primary's copies doomed":
                gone = [key for key in gone if state.roles[self.places[key]] == PRIMARY]
            yield "dooms the blob", self._doomed(state._replace(blob=False), gone)
        for key in self.keys:
            row, file = state.rows[key], state.files[key]
            if row == WRITING:
                yield f"fences key {key} off", self._doomed(state, [key])
            elif row == DOOMED:
                rows = changed(state.rows, key, ERASING)
                yield f"sets key {key} erasing", state._replace(rows=rows)
            elif row == ERASING and file == NOTHING:
                rows = changed(state.rows, key, ERASED)
                yield f"sets key {key} erased", state._replace(rows=rows)
            elif row in (ERASING, ERASED) and file != NOTHING:
                yield (
                    f"deletes key {key}",
                    state._replace(files=changed(state.files, key, NOTHING)),
                )

    def damage(self, state: State) -> Iterator[Step]:
        """A live copy is damaged, and nobody knows; or somebody reads it, and marks it."""
        for key in self.live(state):
            if state.files[key] == WHOLE and state.rotted.bit_count() < self.terms.rot:
                relied = state.dropper[0] == "doom" and state.dropper[2] == key
                yield (
                    f"key {key} is damaged",
                    state._replace(
                        files=changed(state.files, key, ROTTEN),
                        rotted=state.rotted | 1 << key,
                        excused=state.excused or relied or not self.sound(state, but=key),
                    ),
                )
            elif state.files[key] != WHOLE and not state.suspect >> key & 1:
                yield f"a reader marks key {key}", self._marked(state, key)

    def roles(self, state: State) -> Iterator[Step]:
        """Another backend is made the primary; the one before becomes a mirror."""
        second = 1 - state.roles.index(PRIMARY) if PRIMARY in state.roles else 0
        if self.terms.switch and state.roles[second] in (MIRROR, READ):
            roles = (PRIMARY, MIRROR) if second == 0 else (MIRROR, PRIMARY)
            yield f"backend {second} becomes the primary", state._replace(roles=roles)

    # -- what must always be true

    def have_bytes(self, state: State) -> bool:
        """I1: at each live key are the right bytes, unless they were damaged there."""
        return all(state.files[key] == WHOLE or state.rotted >> key & 1 for key in self.live(state))

    def sound_bytes_stay(self, state: State) -> bool:
        """I15: a blob has a sound copy, as long as it was not damaged unseen."""
        return not state.blob or state.excused or self.sound(state)

    def one_each(self, state: State) -> bool:
        """I6: no backend has two live copies."""
        return all(sum(state.rows[key] == LIVE for key in self.of[b]) < 2 for b in BOTH)

    def are_somewhere(self, state: State) -> bool:
        """What is live is in a backend that the store has."""
        return all(state.roles[self.places[key]] != GONE for key in self.live(state))
