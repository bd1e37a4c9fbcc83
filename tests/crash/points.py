"""Every crash point of a scenario, one after the other: a process that forks and never restarts.

``python -m tests.crash.points SCENARIO FAULT[/EVERY[@OFFSET]] ...`` strikes at every EVERY-th point
of each fault and prints one JSON object a line; the faults are those of ``FAULTS``, and ``cut``.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

from tests.crash import order, tracing
from tests.crash.disk import Disk, Image, place
from tests.crash.mutants import MUTANTS
from tests.crash.operating import Voice, operate
from tests.crash.scenario import SCENARIOS, Scenario
from tests.crash.tracing import Call, Trace, trace
from tests.crash.verdict import End, Expected, judge, traits, view
from tests.invariants import broken_invariants


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call goes wrong, and at which calls that makes a difference."""

    name: str
    how: tracing.Fault
    number: int
    concerns: Callable[[Call], bool]

    def at(self, number: int) -> Callable[[Call], bool]:
        """Due at the ``number``-th call that the fault concerns, from 0.

        Not at the n-th of all calls: how often a run reads and locks is up to its threads.
        """
        concerned = itertools.count()
        return lambda call: self.concerns(call) and next(concerned) == number


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", "kill", 0, lambda call: call.kind == "change"),
        Fault("kill-any", "kill", 0, lambda _: True),
        Fault("eio", "fail", errno.EIO, lambda call: call.kind != "lock"),
        Fault("eio-on", "fail-on", errno.EIO, lambda call: call.kind != "lock"),
        Fault("enospc", "fail", errno.ENOSPC, lambda call: call.grows),
        Fault("enospc-on", "fail-on", errno.ENOSPC, lambda call: call.grows),
    )
}
"""A kill leaves another store only where the call before it changed something; SQLite's locks do
not fail on the file systems that it may be used on; ``-on``: nothing works any more from there."""


@dataclass(slots=True)
class Result:
    """``points`` that were hit and the different ``states`` they left; ``broken`` promises."""

    scenario: str
    fault: str
    points: int = 0
    states: int = 0
    missed: int = 0
    seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def count(self, answer: str) -> None:
        """Note what the operation answered at one point."""
        self.answers[answer] = self.answers.get(answer, 0) + 1


@dataclass(frozen=True, slots=True)
class Moment:
    """What power cuts may leave then, and whether the operation had been acknowledged."""

    after: str
    acked: bool
    images: Sequence[Image]


class Bench:
    """One scenario in a folder of its own, which has to be empty.

    ``thorough`` uses up what every point leaves; otherwise one store of each sort is enough.
    """

    def __init__(self, scenario: Scenario, folder: Path, *, thorough: bool = False) -> None:
        self._scenario = scenario
        self._thorough = thorough
        self._mixtures = 4 if thorough else 1
        self._base = folder / "base"
        self._path = folder / "store"
        self._aside = folder / "aside"
        self._judged: set[Hashable] = set()
        scenario.prepare(self._base)
        self._expected = Expected(self._seen(), self._seen(act=True))
        watched = FAULTS["kill"]
        self.undisturbed = undisturbed(lambda: self._run(watched, lambda _: False)[0])

    def sweep(self, fault: Fault, every: int = 1, offset: int = 0) -> Result:
        """Strike at every ``every``-th call that concerns the fault, and judge what is left."""
        started = time.monotonic()
        result = Result(self._scenario.name, fault.name)
        points = sum(fault.concerns(call) for call in self.undisturbed.calls)
        for number in range(points)[offset % every :: every]:
            self._strike(fault, number, result)
        result.seconds = round(time.monotonic() - started, 3)
        return result

    def order(self) -> Result:
        """What has to reach the disk before what, and what before it was said to be done."""
        calls = self.undisturbed.calls
        return Result(self._scenario.name, "order", broken=self._unsafe(calls, "acked"))

    def cut(self, every: int = 1, offset: int = 0) -> Result:
        """Cut the power after every ``every``-th call that changes or syncs something.

        What was not synced is lost; and again, with some of it lost and some kept, by the dice.
        """
        started = time.monotonic()
        result = Result(self._scenario.name, "cut")
        seen: set[Hashable] = set()
        for moment in self._moments()[offset % every :: every]:
            for image in moment.images:
                if (what := (moment.acked, frozenset(image.items()))) in seen:
                    continue
                seen.add(what)
                shutil.rmtree(self._path, ignore_errors=True)
                place(image, self._path.parent)
                result.points += 1
                broken = self._left(result, acked=moment.acked, cut=True)
                result.broken += [f"cut {moment.after}: {promise}" for promise in broken]
        result.seconds = round(time.monotonic() - started, 3)
        return result

    def _moments(self) -> list[Moment]:
        """Each moment of an undisturbed run, in which a cut would leave something else.

        One that is acknowledged before anything else happens has to outlive a cut right then.
        """
        moments: list[Moment] = []
        voice, dice = Voice(), Random(self._scenario.name)
        self._fresh()
        disk = Disk(self._path.parent, self._path.name)

        def note(after: str) -> None:
            images = [disk.left(None), *(disk.left(dice) for _ in range(self._mixtures))]
            moments.append(Moment(after, "acked" in voice.heard(), images))

        def follow(call: Call) -> None:
            if moments and "acked" in call.heard:
                moments[-1] = replace(moments[-1], acked=True)
            if disk.take(call):
                note(f"after {call}")

        try:
            trace(
                partial(operate, self._scenario, self._path, voice),
                self._path.parent,
                heard=lambda: frozenset(voice.heard()),
                after=follow,
            )
            note("at the end")
        finally:
            voice.close()
        return moments

    def _unsafe(self, calls: Sequence[Call], word: str) -> list[str]:
        return order.unsafe(calls, word, lazy=self._scenario.lazy)

    def _strike(self, fault: Fault, number: int, result: Result) -> None:
        done, words = self._run(fault, fault.at(number))
        if done.hit is None:
            result.missed += 1
            return
        result.points += 1
        answer = next((each for each in ("broken", "failed", "acked") if each in words), "killed")
        result.count(f"{answer} {words.get('failed', '').partition(' ')[0]}".strip())
        broken = self._answered(done, words)
        broken += self._left(result, acked="acked" in words or "again" in words)
        result.broken += [f"{fault.name} at {done.hit}: {promise}" for promise in broken]

    def _answered(self, done: Trace, words: dict[str, str]) -> list[str]:
        """What is wrong with the operation's own answer."""
        if done.killed:
            return []
        broken = [f"{word}: {words[word]}" for word in words if word.startswith("broken")]
        if "failed" in words and not words["failed"].partition(" | ")[2]:
            broken.append(f"it failed without a hint ({words['failed']})")
        if "failed" in words and "again" not in words:
            broken.append(f"it failed ({words['failed']}) and could not be done again")
        if "closed" not in words and "broken-close" not in words:
            broken.append(f"never came to its end: {words}")
        if "acked" in words and not self._scenario.redoes and _lost_a_sync(done):
            broken.append("acknowledged although a sync before it had failed")
        if "again" in words:
            broken += [f"the second time: {each}" for each in self._unsafe(done.calls, "again")]
        return broken

    def _left(self, result: Result, *, acked: bool, cut: bool = False) -> list[str]:
        """What is wrong with what is left; used up only where no other point left the same."""
        damaged = self._scenario.spoiled(done=acked)
        broken = broken_invariants(self._path, damaged=damaged, late_writes=cut)
        broken = [each for each in broken if not (cut and _is_stray(each))]
        if broken:
            return broken
        state = acked, cut, traits(self._path)
        if state in self._judged and not self._thorough:
            return []
        self._judged.add(state)
        result.states += 1
        for repeat in (False,) if acked else (True, False):
            with self._set_aside(keep=repeat):
                end = End(acked=acked, repeat=repeat, cut=cut)
                broken += judge(self._scenario, self._path, self._expected, end)
        return broken

    @contextmanager
    def _set_aside(self, *, keep: bool) -> Iterator[None]:
        """Have the store again as it is now when the block ends."""
        there = self._path.exists()
        if keep and there:
            shutil.copytree(self._path, self._aside)
        yield
        if keep:
            shutil.rmtree(self._path, ignore_errors=True)
        if keep and there:
            self._aside.rename(self._path)

    def _run(self, fault: Fault, due: Callable[[Call], bool]) -> tuple[Trace, dict[str, str]]:
        self._fresh()
        voice = Voice()
        try:
            done = trace(
                partial(operate, self._scenario, self._path, voice),
                self._path.parent,
                fault=fault.how,
                due=due,
                number=fault.number,
                heard=lambda: frozenset(voice.heard()),
                until=frozenset(("failed", "broken")),
            )
            return done, voice.heard()
        finally:
            voice.close()

    def _seen(self, *, act: bool = False) -> dict:
        self._fresh()
        with self._scenario.store(self._path) as store:
            if act:
                self._scenario.act(store)
            return dict(view(store))

    def _fresh(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
        if self._base.exists():
            shutil.copytree(self._base, self._path)


def _is_stray(sentence: str) -> bool:
    """A power cut may take the row that announced an object."""
    return sentence.startswith("I7") and sentence.endswith("has no row")


def _lost_a_sync(done: Trace) -> bool:
    """SQLite itself syncs its folder with fdatasync, and never heeds the answer.

    What was in its log is as good in its file, once that was synced.
    """
    hit = done.hit
    if hit is None or "acked" in hit.heard or hit.kind != "sync":
        return False
    moved = hit.path == "store/catalog.db-wal" and any(
        call.kind == "sync" and call.path == "store/catalog.db" and not call.failed
        for call in done.calls
        if call.ordinal > hit.ordinal and "acked" not in call.heard
    )
    return not moved and (hit.name, hit.path) != ("fdatasync", "store")


def undisturbed(run: Callable[[], Trace]) -> Trace:
    """The shortest of three runs; in one before them, whatever is imported late is imported.

    Now and then one of the threads opens one connection more than usual: most runs would be over
    before the last points of such a run.
    """
    run()
    return min((run() for _ in range(3)), key=lambda trace: len(trace.calls))


@contextmanager
def room() -> Iterator[Path]:
    """A folder in memory where there is one: a kill tells nothing about the disk's own cache."""
    shared = Path("/dev/shm")
    usable = shared.is_dir() and os.access(shared, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="crash-", dir=shared if usable else None) as folder:
        yield Path(folder)


def _sweep(bench: Bench, asked: str) -> Result:
    """``order``, or ``FAULT``, ``FAULT/EVERY`` or ``FAULT/EVERY@OFFSET``; a fault may be ``cut``."""
    name, _, how = asked.partition("/")
    every, _, offset = how.partition("@")
    if name == "order":
        return bench.order()
    if name == "cut":
        return bench.cut(int(every or 1), int(offset or 0))
    return bench.sweep(FAULTS[name], int(every or 1), int(offset or 0))


def main(name: str, *asked: str) -> None:
    """Run the sweeps that were asked for; print a Result a line."""
    if obstacle := tracing.forbidden():
        raise SystemExit(obstacle)
    thorough = os.environ.get("CALOTYPE_CRASH") == "full"
    with room() as folder:
        bench = Bench({**SCENARIOS, **MUTANTS}[name], folder, thorough=thorough)
        for each in asked:
            print(json.dumps(asdict(_sweep(bench, each))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
