"""One process of the great race: threads that do everything to the same few files, and tell.

Every operation is a line in the log of its process, written when it is over; what was promised is
written after the promise, and what is about to be given up before it is. A kill so leaves a log
that may only claim too little. Whoever takes the place of a killed process inherits what it had.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.combinations import Combination

from calotype import Digest, Store
from calotype.backends import Backend, Stages
from calotype.errors import Locked, NotFound
from calotype.scope import Scope

CONTENTS = [random.Random(f"race {n}").randbytes(700 * 3 ** (n % 5)) for n in range(40)]
"""700 bytes to 57 kB; so many that each is let go, erased and put again all the time."""

LARGE = random.Random("race large").randbytes(2_500_000)
"""Waits in a staged file where put_many takes it."""

DIGESTS = [str(Digest.of(data)) for data in (*CONTENTS, LARGE)]
AT_ONCE = 2
"""How many owners of its own a thread keeps; with more of them nothing would ever be garbage."""

FASHIONS = 5
"""How many contents a second become the one that all put."""

SCOPES = ("default", "ana", "ben")
SHARED = tuple(f"shared/{number}" for number in range(2))


class Log:
    """Appended to line by line; one ``write`` each, so that threads and kills leave whole lines."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, kind: str, **facts: object) -> None:
        """Write one line."""
        os.write(self._handle, json.dumps({"kind": kind, **facts}).encode() + b"\n")


class Racer:
    """One thread: what it owns under names that nobody else uses must stay readable."""

    def __init__(self, store: Store, log: Log, name: str) -> None:
        self._store = store
        self._log = log
        self._name = name
        self._dice = random.Random(name)
        self._own: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._next = 0

    def inherit(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take over what a killed process was promised; let go of what it was not sure of."""
        told = {
            kind: {line["owner"]: line for line in lines if line["kind"] == kind}
            for kind in ("began", "promised", "released", "gone")
        }
        for owner, began in told["began"].items():
            if owner in told["promised"] and owner not in told["released"]:
                promise = told["promised"][owner]
                self._own[owner] = (promise["scope"], tuple(promise["digests"]))
                self._log.tell("began", owner=owner, scope=promise["scope"])
                self._promised(owner, self._store.scope(promise["scope"]), promise["digests"])
            elif owner not in told["gone"]:
                self._log.tell("released", owner=owner)
                self._store.scope(began["scope"]).release(owner)
                self._log.tell("gone", owner=owner)

    def race(self, until: float) -> None:
        """One operation after the other."""
        moves = [
            (20, self.put_own),
            (6, self.put_own_many),
            (12, self.attach_own),
            (18, self.release_own),
            (15, self.open_own),
            (8, self.put_shared),
            (1, self.put_library),
            (3, self.put_held),
            (8, self.attach_shared),
            (15, self.release_shared),
            (3, self.restore_shared),
            (1, self.restore_digest),
            (25, self.discard),
            (6, self.open_any),
            (4, self.check),
            (2, self.update),
        ]
        weights = [weight for weight, _ in moves]
        while time.monotonic() < until:
            ((_, move),) = self._dice.choices(moves, weights)
            self._attempt(move if len(self._own) < AT_ONCE else self.release_own)

    def collect(self, until: float) -> None:
        """gc without any grace, again and again."""
        while time.monotonic() < until:
            self._attempt(self.gc)
            time.sleep(self._dice.random() / 50)

    def look(self, until: float) -> None:
        """fsck, again and again: it may never see damage where there is none."""
        while time.monotonic() < until:
            self._attempt(self.fsck)
            time.sleep(0.5)

    def _attempt(self, move: Callable[[], str | None]) -> None:
        name = move.__name__
        try:
            outcome = move() or "ok"
        except NotFound:
            if name.endswith(("own", "many", "library", "held", "gc", "fsck")):
                self._log.tell("bad", op=name, why=traceback.format_exc())
            self._log.tell("op", op=name, outcome="not-found")
        except Locked as error:
            self._log.tell("op", op=name, outcome=f"locked: {error}")
        except Exception:
            self._log.tell("bad", op=name, why=traceback.format_exc())
        else:
            self._log.tell("op", op=name, outcome=outcome)

    # -- under names of its own -------------------------------------------------------------

    def put_own(self) -> None:
        owner, scope = self._new_owner()
        data = self._content()
        done = scope.put(data, owner=owner)
        self._promised(owner, scope, [done.digest])

    def put_own_many(self) -> None:
        owner, scope = self._new_owner()
        chosen: list[bytes] = self._dice.sample(CONTENTS, 3)
        sources: list[object] = [*chosen, chosen[0]]
        if self._dice.random() < 0.1:
            sources.append(LARGE[at : at + 500_000] for at in range(0, len(LARGE), 500_000))
            chosen = [*chosen, LARGE]
        done = scope.put_many(sources, owner=owner).result()  # type: ignore[arg-type]
        if done.failures:
            raise AssertionError(f"put_many failed: {done.failures}")
        self._promised(owner, scope, [str(Digest.of(data)) for data in chosen])

    def attach_own(self) -> None:
        owner, scope = self._new_owner()
        digest = self._dice.choice(DIGESTS)
        try:
            scope.attach(digest, owner, role="attached")
        except NotFound:
            return
        self._promised(owner, scope, [digest])

    def release_own(self) -> None:
        if not self._own:
            return
        owner = self._dice.choice(list(self._own))
        scope, digests = self._own.pop(owner)
        self._log.tell("released", owner=owner)
        released = self._store.scope(scope).release(owner)
        self._log.tell("gone", owner=owner)
        if released.references != len(digests):
            raise AssertionError(f"{owner} had {digests}, released {released}")

    def open_own(self) -> None:
        if self._own:
            owner = self._dice.choice(list(self._own))
            self._read_all(owner)

    def _promised(self, owner: str, scope: Scope, digests: list[str]) -> None:
        self._own[owner] = (scope.name, tuple(digests))
        self._log.tell("promised", owner=owner, scope=scope.name, digests=digests)
        if self._dice.random() < 0.3:
            self._read_all(owner)

    def _read_all(self, owner: str) -> None:
        scope, digests = self._own[owner]
        for digest in digests:
            with self._store.scope(scope).open(digest) as file:
                if str(Digest.of(file.read())) != digest:
                    raise AssertionError(f"other bytes than {digest}")

    def _new_owner(self) -> tuple[str, Scope]:
        self._next += 1
        owner, scope = f"own/{self._name}-{self._next}", self._scope()
        self._log.tell("began", owner=owner, scope=scope.name)
        return owner, scope

    def _content(self) -> bytes:
        """Mostly the one that everybody puts at this moment, and nobody a moment later."""
        if self._dice.random() < 0.3:
            return self._dice.choice(CONTENTS)
        return CONTENTS[int(time.monotonic() * FASHIONS) % len(CONTENTS)]

    def _scope(self) -> Scope:
        return self._store.scope(self._dice.choice(SCOPES))

    # -- under names that all use -----------------------------------------------------------

    def put_shared(self) -> None:
        self._scope().put(self._content(), owner=self._dice.choice(SHARED), role="slot")

    def put_library(self) -> None:
        self._scope().put(self._content(), filename="race.bin")

    def put_held(self) -> None:
        self._scope().put(self._content(), hold="20ms")

    def attach_shared(self) -> None:
        self._scope().attach(
            self._dice.choice(DIGESTS), self._dice.choice(SHARED), role=self._dice.choice("ab")
        )

    def release_shared(self) -> None:
        self._scope().release(self._dice.choice(SHARED))

    def restore_shared(self) -> None:
        self._scope().restore(owner=self._dice.choice(SHARED))

    def restore_digest(self) -> None:
        self._scope().restore(self._dice.choice(DIGESTS))

    def discard(self) -> None:
        self._scope().discard(self._dice.choice(DIGESTS))

    def open_any(self) -> None:
        digest = self._dice.choice(DIGESTS)
        with self._scope().open(digest) as file:
            if str(Digest.of(file.read())) != digest:
                raise AssertionError(f"other bytes than {digest}")

    def check(self) -> None:
        answers = self._scope().check(DIGESTS)
        if len(answers) != len(DIGESTS):
            raise AssertionError(f"check forgot some: {answers}")

    def update(self) -> None:
        self._scope().update(self._dice.choice(DIGESTS), metadata={"by": self._name})

    def gc(self) -> str:
        report = self._store.gc(now=True)
        if report.failed:
            raise AssertionError(f"not erased: {report}")
        return "erased some" if report.erased else "erased none"

    def fsck(self) -> None:
        for found in self._store.fsck(read_data=True):
            if found.is_problem:
                raise AssertionError(f"fsck sees {found}")


@dataclass(frozen=True, slots=True)
class Part:
    """What a process does: one of its threads may collect garbage or look for damage.

    A ``sluggish`` process is slow on the disk, so that others, and gc, come between.
    """

    name: str
    collects: bool = False
    looks: bool = False
    sluggish: bool = False


def run(where: Combination, log: str, part: Part, until: float) -> None:
    """The process: two threads, until the monotonic clock says ``until``."""
    lines = Log(Path(log))
    with where.open() as opened, _slowed(opened) if part.sluggish else nullcontext():
        racers = [Racer(opened, lines, f"{part.name}-{number}") for number in range(2)]
        racers[1].inherit(_told_before(Path(log)))
        first = racers[0].race
        if part.collects:
            first = racers[0].collect
        elif part.looks:
            first = racers[0].look
        threads = [threading.Thread(target=each, args=(until,)) for each in (first, racers[1].race)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines.tell("op", op="close", outcome="ok")


def _told_before(log: Path) -> list[dict[str, Any]]:
    """What those told that had this place before: ``PLACE-NUMBER.log``."""
    place = log.name.partition("-")[0]
    logs = [each for each in log.parent.glob(f"{place}-*.log") if each != log]
    return [json.loads(line) for each in logs for line in each.read_text().splitlines()]


@contextmanager
def _slowed(store: Store) -> Iterator[None]:
    """Writing waits before and after, sometimes long enough to be given up by all."""
    kind: type[Backend] = type(store._rooms.mounts._first)
    name = "publish" if issubclass(kind, Stages) else "put"
    write = getattr(kind, name)

    def slowly(*arguments: object) -> None:
        time.sleep(random.random() / 10)
        write(*arguments)
        time.sleep(random.random() / 5)

    with mock.patch.object(kind, name, slowly):
        yield
