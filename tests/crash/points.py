"""Every crash point of a scenario, one after the other: a process that forks and never restarts.

``python -m tests.crash.points SCENARIO FAULT [EVERY [OFFSET]]`` runs one sweep and prints its
result as JSON; FAULT is one of ``FAULTS``.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from calotype.errors import CalotypeError
from tests.crash import tracing
from tests.crash.scenario import SCENARIOS, Scenario
from tests.crash.tracing import Call, Trace, trace
from tests.crash.verdict import Expected, judge, traits, view
from tests.invariants import broken_invariants


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call goes wrong, and at which calls that makes a difference."""

    name: str
    how: tracing.Fault
    number: int
    concerns: Callable[[Call], bool]


def _leaves_another_disk(call: Call) -> bool:
    return call.kind == "change"


def _any(call: Call) -> bool:
    return True


def _no_lock(call: Call) -> bool:
    return call.kind != "lock"


def _grows(call: Call) -> bool:
    return call.grows


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", "kill", 0, _leaves_another_disk),
        Fault("kill-any", "kill", 0, _any),
        Fault("eio", "fail", errno.EIO, _no_lock),
        Fault("eio-on", "fail-on", errno.EIO, _no_lock),
        Fault("enospc", "fail", errno.ENOSPC, _grows),
        Fault("enospc-on", "fail-on", errno.ENOSPC, _grows),
    )
}


@dataclass(slots=True)
class Result:
    """``points`` that were hit and the different ``states`` they left; ``faults`` name the point."""

    scenario: str
    fault: str
    points: int = 0
    states: int = 0
    missed: int = 0
    seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Voice:
    """How the forked child tells what became of its operation; read without waiting."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._heard = b""

    def say(self, word: str, more: str = "") -> None:
        os.write(self._writer, json.dumps([word, more]).encode() + b"\n")

    def heard(self) -> dict[str, str]:
        try:
            while chunk := os.read(self._reader, 65536):
                self._heard += chunk
        except BlockingIOError:
            pass
        return dict(json.loads(line) for line in self._heard.splitlines())

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Sweep:
    """One scenario and one fault in a folder of its own, which has to be empty."""

    def __init__(
        self, scenario: Scenario, fault: Fault, folder: Path, *, thorough: bool = False
    ) -> None:
        self._scenario = scenario
        self._thorough = thorough
        self._judged_before: set[Hashable] = set()
        self._aside = folder / "aside"
        self._fault = fault
        self._base = folder / "base"
        self._path = folder / "store"
        scenario.prepare(self._base)
        self._expected = Expected(self._seen(), self._seen(act=True))
        self._run(lambda _: False)  # whatever is imported late is imported by now
        self.calls = self._run(lambda _: False)[0].calls

    def run(self, every: int, offset: int) -> Result:
        """Strike at every ``every``-th call that concerns the fault, and judge what is left."""
        started = time.monotonic()
        result = Result(self._scenario.name, self._fault.name)
        points = [call for call in self.calls if self._fault.concerns(call)][offset % every :: every]
        for call in points:
            self._strike(call, result)
        result.seconds = time.monotonic() - started
        return result

    def _strike(self, planned: Call, result: Result) -> None:
        done, words = self._run(lambda call: call.ordinal == planned.ordinal)
        if done.hit is None:
            result.missed += 1
            return
        result.points += 1
        faults = self._answered(done, words)
        answer = next((each for each in ("broken", "failed", "acked") if each in words), "killed")
        code = f"{answer} {words.get('failed', '').partition(' ')[0]}".strip()
        result.answers[code] = result.answers.get(code, 0) + 1
        faults += self._judged(result, acked="acked" in words or "again" in words)
        result.faults += [f"{done.hit}: {fault}" for fault in faults]

    def _judged(self, result: Result, *, acked: bool) -> list[str]:
        """What is wrong with what is left; used up only where no other point left the same."""
        damaged = self._scenario.spoiled(done=acked)
        faults = broken_invariants(self._path, damaged=damaged)
        if faults:
            return faults
        state = acked, traits(self._path)
        if state in self._judged_before and not self._thorough:
            return []
        self._judged_before.add(state)
        result.states += 1
        for repeat in (True, False) if not acked else (False,):
            with self._set_aside(keep=repeat):
                faults += judge(
                    self._scenario, self._path, self._expected, acked=acked, repeat=repeat
                )
        return faults

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

    def _answered(self, done: Trace, words: dict[str, str]) -> list[str]:
        """What is wrong with the operation's own answer."""
        if done.killed:
            return []
        faults = [f"{word}: {words[word]}" for word in words if word.startswith("broken")]
        if "failed" in words and "again" not in words:
            faults.append(f"it failed ({words['failed']}) and could not be done again")
        if "closed" not in words and "broken-close" not in words:
            faults.append(f"never came to its end: {words}")
        if "acked" in words and not self._scenario.redoes and _lost_a_sync(done):
            faults.append("acknowledged although a sync before it had failed")
        return faults

    def _run(self, due: Callable[[Call], bool]) -> tuple[Trace, dict[str, str]]:
        self._fresh()
        voice = Voice()
        try:
            done = trace(
                partial(_operate, self._scenario, self._path, voice),
                self._path,
                fault=self._fault.how,
                due=due,
                number=self._fault.number,
                acked=lambda: "acked" in voice.heard(),
                over=lambda: bool(voice.heard().keys() & {"failed", "broken"}),
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


def _lost_a_sync(done: Trace) -> bool:
    """SQLite itself syncs its folder with fdatasync, and never heeds the answer."""
    hit = done.hit
    if hit is None or hit.acked:
        return False
    return hit.kind == "sync" and (hit.name, hit.path) != ("fdatasync", "")


def _operate(scenario: Scenario, path: Path, voice: Voice) -> None:
    """In the child: the operation, once more after a failure, and the end of the store."""
    store = scenario.store(path)
    try:
        voice.say("acked", str(scenario.act(store)))
    except CalotypeError as error:
        voice.say("failed", f"{error.code} {error} | {error.hint}")
        _again(scenario, store, voice)
    except BaseException as error:
        voice.say("broken", _told(error))
    try:
        store.close()
        voice.say("closed")
    except BaseException as error:
        voice.say("broken-close", _told(error))


def _again(scenario: Scenario, store: object, voice: Voice) -> None:
    try:
        voice.say("again", str(scenario.act(store)))
    except BaseException as error:
        voice.say("broken-again", _told(error))


def _told(error: BaseException) -> str:
    """The error, and the last place in the package that it passed."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/calotype/" in frame.filename
    ]
    return f"{type(error).__name__}: {error} at {places[-1] if places else 'nowhere of ours'}"


@contextmanager
def room() -> Iterator[Path]:
    """A folder in memory where there is one: a kill tells nothing about the disk's own cache."""
    shared = Path("/dev/shm")
    usable = shared.is_dir() and os.access(shared, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="crash-", dir=shared if usable else None) as folder:
        yield Path(folder)


def sweep(scenario: str, fault: str, every: int = 1, offset: int = 0) -> Result:
    """Run one sweep in this process."""
    with room() as folder:
        return Sweep(SCENARIOS[scenario], FAULTS[fault], folder).run(every, offset)


def main(scenario: str, fault: str, every: str = "1", offset: str = "0") -> None:
    """Run one sweep and print its Result as JSON."""
    print(json.dumps(asdict(sweep(scenario, fault, int(every), int(offset)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
