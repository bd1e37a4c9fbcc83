"""A flow of an application, killed before any of its system calls, and what is left then.

``python -m tests.crash.applications FLOW FAULT[/EVERY[@OFFSET]] ...`` prints one JSON object a line,
as ``tests.crash.points`` does for the operations of a store.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tests.crash import tracing
from tests.crash.operating import Voice
from tests.crash.points import FAULTS, Fault, Result, room, undisturbed
from tests.crash.scenario import DAY, Clock
from tests.crash.tracing import Call, trace
from tests.crash.verdict import between, traits
from tests.invariants import broken_invariants, objects_of, temporary_of

from calotype import Store

State = Mapping[Hashable, object]
"""What a user of the application sees, by whatever names it."""

Say = Callable[[str], None]


class Application(Protocol):
    """What is open while a flow acts."""

    @property
    def store(self) -> Store: ...


T = TypeVar("T", bound=Application)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """An application: how a folder of it is opened, and what must be so in it at any time.

    ``wrong`` are its rows that promise what is not there, ``kept`` the digests that they keep.
    ``database`` and ``images`` are the names of the store's two halves in its folder, ``column``
    a table and column of its own that point at digests.
    """

    database: str
    images: str
    column: tuple[str, str] | None
    open: Callable[[Path, Clock], AbstractContextManager[T]]
    state: Callable[[T], State]
    wrong: Callable[[T], list[str]]
    kept: Callable[[T], Collection[str]]


@dataclass(frozen=True, slots=True)
class Flow(Generic[T]):
    """What an application does; done again it goes on where it was stopped.

    What comes ``before`` meets no fault. ``act`` says what it has done, sentence by sentence;
    ``lost`` tells which of the sentences that were heard is not true. One that ``must_go_on``
    leaks until it was done again.
    """

    name: str
    kind: Kind[T]
    before: Sequence[Callable[[T], object]]
    act: Callable[[T, Say], None]
    lost: Callable[[T, Collection[str]], list[str]]
    must_go_on: bool = False


class FlowBench(Generic[T]):
    """One flow in a folder of its own, which has to be empty.

    ``thorough`` uses up what every point leaves; otherwise one of each sort is enough.
    """

    def __init__(self, flow: Flow[T], folder: Path, *, thorough: bool = False) -> None:
        self._flow = flow
        self._kind = flow.kind
        self._thorough = thorough
        self._judged: set[Hashable] = set()
        self._base, self._home, self._aside = (folder / n for n in ("base", "home", "aside"))
        self._plain = _as_a_store(folder / "plain", self._home, flow.kind)
        for step in flow.before:
            with flow.kind.open(self._base, Clock(0)) as opened:
                step(opened)
        self._before, self._after = self._seen(act=False), self._seen(act=True)
        watched = FAULTS["kill"]
        self.calls = undisturbed(lambda: self._run(watched, lambda _: False)[0]).calls

    def sweep(self, fault: Fault, every: int = 1, offset: int = 0) -> Result:
        """Strike at every ``every``-th call that concerns the fault, and judge what is left."""
        started = time.monotonic()
        result = Result(self._flow.name, fault.name)
        points = sum(fault.concerns(call) for call in self.calls)
        for number in range(points)[offset % every :: every]:
            done, heard = self._run(fault, fault.at(number))
            if not done.killed:
                result.missed += 1
                continue
            result.points += 1
            result.count("killed")
            broken = self._left(heard, result)
            result.broken += [f"{fault.name} at {done.hit}: {each}" for each in broken]
        result.seconds = round(time.monotonic() - started, 3)
        return result

    def _left(self, heard: Collection[str], result: Result) -> list[str]:
        """What is wrong with what is left: as it is, when the flow goes on, and if it never does."""
        if broken := self._unsound():
            return broken
        sort = self._sort(heard)
        if sort in self._judged and not self._thorough:
            return []
        self._judged.add(sort)
        result.states += 1
        shutil.copytree(self._home, self._aside) if self._home.exists() else self._aside.mkdir()
        try:
            broken.extend(self._judge(heard, again=True))
            shutil.rmtree(self._home)
            self._aside.rename(self._home)
            broken.extend(self._judge(heard, again=False) if not self._flow.must_go_on else ())
        except Exception as error:
            broken.append(f"using it: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
        return broken

    def _sort(self, heard: Collection[str]) -> Hashable:
        """Two kills that left the same rows and files, after the same was said, are one."""
        objects = tuple(Path(name).name[:64] for name in objects_of(self._plain))
        return frozenset(heard), traits(self._plain), objects, len(temporary_of(self._plain))

    def _judge(self, heard: Collection[str], *, again: bool) -> Iterator[str]:
        flow, kind, clock = self._flow, self._kind, Clock(0)
        with kind.open(self._home, clock) as opened:
            found = kind.state(opened)
            if not flow.must_go_on:
                yield from between(found, self._before, self._after, whole=False)
                yield from kind.wrong(opened)
            yield from flow.lost(opened, heard)
            if again:
                flow.act(opened, lambda _: None)
                found = kind.state(opened)
                yield from _differs("done again", found, self._after)
                yield from flow.lost(opened, heard)
            for pause in (0, DAY // 24, DAY + DAY // 24, 2 * DAY):
                clock.forward(pause)
                opened.store.gc(now=True, full=True)
            yield from _differs("after gc", kind.state(opened), found)
            yield from (f"at the end: {each}" for each in kind.wrong(opened))
            yield from (f"fsck: {each}" for each in opened.store.fsck(read_data=True))
            yield from self._left_over(kind.kept(opened))
        yield from (f"at the end: {each}" for each in self._unsound())

    def _unsound(self) -> list[str]:
        """Broken promises of the store; gc need not look at what the application's column keeps."""
        kept = self._pointed_at()
        return [
            each
            for each in (broken_invariants(self._plain) if kept is not None else [])
            if not (each.startswith("I17") and any(digest in each for digest in kept or ()))
        ]

    def _pointed_at(self) -> Collection[str] | None:
        """The digests in the application's column; None while there are no tables yet.

        SQLite rolls back here what was not committed; whoever only reads could not.
        """
        if not (file := self._home / self._kind.database).exists():
            return ()
        with closing(sqlite3.connect(file)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            table, column = self._kind.column or ("", "")
            if table not in tables:
                return () if tables else None
            return {each for (each,) in connection.execute(f"SELECT {column} FROM {table}") if each}

    def _left_over(self, kept: Collection[str]) -> Iterator[str]:
        there = Counter(Path(name).name[:64] for name in objects_of(self._plain))
        yield from (f"left over: {name}" for name in there - Counter(kept))
        yield from (f"lost: {name}" for name in Counter(kept) - there)
        yield from (f"left over: tmp/{name}" for name in temporary_of(self._plain))

    def _run(
        self, fault: Fault, due: Callable[[Call], bool]
    ) -> tuple[tracing.Trace, Collection[str]]:
        self._fresh()
        voice = Voice()
        try:
            act = partial(_perform, self._flow, self._home, voice)
            done = trace(act, self._home.parent, fault=fault.how, due=due, number=fault.number)
            heard = voice.heard()
        finally:
            voice.close()
        if "broken" in heard:
            raise AssertionError(f"{self._flow.name}: {heard['broken']}")
        return done, heard

    def _seen(self, *, act: bool) -> State:
        self._fresh()
        with self._kind.open(self._home, Clock(0)) as opened:
            if act:
                self._flow.act(opened, lambda _: None)
            assert (wrong := self._kind.wrong(opened)) == [], wrong
            return self._kind.state(opened)

    def _fresh(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        if self._base.exists():
            shutil.copytree(self._base, self._home)


def _perform(flow: Flow[T], home: Path, voice: Voice) -> None:
    try:
        with flow.kind.open(home, Clock(0)) as opened:
            flow.act(opened, voice.say)
    except BaseException as error:
        voice.say("broken", f"{type(error).__name__}: {error}")


def _as_a_store(plain: Path, home: Path, kind: Kind[T]) -> Path:
    """The application's store under the names that a store has by itself."""
    plain.mkdir()
    (plain / "catalog.db").symlink_to(home / kind.database)
    (plain / "blobs").symlink_to(home / kind.images)
    return plain


def _differs(when: str, found: State, wanted: State) -> Iterator[str]:
    for name in found.keys() | wanted.keys():
        if found.get(name) != wanted.get(name):
            yield f"{when}: {name} is {found.get(name)}, neither lost nor {wanted.get(name)}"


def main(name: str, *asked: str) -> None:
    """Run the sweeps that were asked for; print a Result a line."""
    from tests.crash import screenshot_flows, staging_flows

    if obstacle := tracing.forbidden():
        raise SystemExit(obstacle)
    with room() as folder:
        thorough = os.environ.get("CALOTYPE_CRASH") == "full"
        flows = {**screenshot_flows.FLOWS, **screenshot_flows.MUTANTS}
        flows |= {**staging_flows.FLOWS, **staging_flows.MUTANTS}
        bench = FlowBench(flows[name], folder, thorough=thorough)
        for each in asked:
            fault, _, how = each.partition("/")
            every, _, offset = how.partition("@")
            result = bench.sweep(FAULTS[fault], int(every or 1), int(offset or 0))
            print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
