"""Eight processes do everything to the same few files, gc in a loop, workers killed at random."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.invariants import broken_invariants, objects_of, temporary_of
from tests.races import counted, worker
from tests.races.crowd import PATIENCE, seconds, server
from tests.races.worker import Part

from calotype import Digest, Store

PROCESSES = 8


def test_no_acknowledged_byte_is_lost_and_nothing_leaks(record_property) -> None:
    with room() as folder:
        kills, lines = _race(folder, seconds(20))
        counts = Counter(
            f"{line['op']} {line['outcome']}" for line in lines if line["kind"] == "op"
        )
        errors = [line for line in lines if line["kind"] == "bad"]
        lost = _lost(folder / "store", lines)
        leaked = _leaked(folder / "store")
        found = {"kills": kills, "losses": len(lost), "leaks": len(leaked), "errors": len(errors)}
        collected = sum(count for name, count in counts.items() if name.startswith("gc "))
        done = {"operations": counts.total(), "gc": collected}
        record_property(counted.PROPERTY, {**done, **found})
        assert (errors, lost, leaked) == ([], [], [])
        assert not [name for name in counts if "locked" in name], counts
        assert counts["gc erased some"] > 5
        assert kills > 5


def _race(folder: Path, length: float) -> tuple[int, list[dict]]:
    """Run the processes, kill one now and then; how often, and what all of them told."""
    running: dict[int, BaseProcess] = {}
    try:
        kills = _run(folder, time.monotonic() + length, running)
        for process in running.values():
            process.join(PATIENCE)
            assert process.exitcode == 0, "a worker failed or hung"
    finally:
        for process in running.values():
            process.kill()
    logs = sorted(folder.glob("*.log"))
    return kills, [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def _run(folder: Path, until: float, running: dict[int, BaseProcess]) -> int:
    dice, context = random.Random(1), server()
    started = kills = 0
    while time.monotonic() < until:
        for place in range(PROCESSES):
            if place not in running or not running[place].is_alive():
                part = _part(place, started)
                log = str(folder / f"{part.name}.log")
                arguments = (str(folder / "store"), log, part, until)
                running[place] = context.Process(target=worker.run, args=arguments)
                running[place].start()
                started += 1
        time.sleep(0.2 + dice.random() / 2)
        if time.monotonic() < until - 2:
            victim = running[dice.randrange(PROCESSES)]
            victim.kill()
            victim.join(PATIENCE)
            kills += 1
    return kills


def _part(place: int, number: int) -> Part:
    return Part(
        f"{place}-{number}",
        collects=place in (0, 1),
        looks=place == 2,
        sluggish=place in (3, 4),
    )


def _lost(path: Path, lines: list[dict]) -> list[str]:
    """Promises that were not given up and are not kept, byte for byte."""
    given_up = {line["owner"] for line in lines if line["kind"] == "released"}
    promises = [
        line for line in lines if line["kind"] == "promised" and line["owner"] not in given_up
    ]
    assert promises
    lost = broken_invariants(path, late_writes=True)
    with Store(path) as store:
        for promise in promises:
            scope = store.scope(promise["scope"])
            held = {each.digest for each in scope.references(owner=promise["owner"])}
            lost += [f"{promise}, but it has {held}"] if held != set(promise["digests"]) else []
        for scope in map(store.scope, worker.SCOPES):
            for asset in scope.assets():
                with scope.open(asset.digest) as file:
                    whole = Digest.of(file.read()) == asset.digest
                lost += [] if whole else [f"{asset.digest} reads as something else"]
        return lost + [str(each) for each in store.fsck(read_data=True) if each.is_problem]


def _leaked(path: Path) -> list[str]:
    """What is left when everything was let go of."""
    clock = Clock(0)
    with Store(path, clock=clock) as store:
        for scope in map(store.scope, worker.SCOPES):
            for summary in list(scope.owners()):
                scope.release(summary.owner)
            for asset in list(scope.assets()):
                scope.discard(asset.digest)
        store.gc(now=True)
        store.gc(now=True)
        blobs = store.stats().blobs
        for _ in range(2):
            clock.forward(DAY + DAY // 24)
            store.gc(now=True)
        found = [str(each) for each in store.fsck()]
    found += [f"{blobs} blobs that nobody has"] if blobs else []
    return found + broken_invariants(path) + objects_of(path) + temporary_of(path)
