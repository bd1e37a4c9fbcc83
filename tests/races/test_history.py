"""Eight processes do everything to the same few files, gc in a loop, workers killed at random."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.invariants import broken_invariants, objects_of, temporary_of
from tests.races import worker
from tests.races.crowd import seconds, server
from tests.races.worker import Part

from calotype import Digest, Store

PROCESSES = 8


def test_no_acknowledged_byte_is_lost_and_nothing_leaks(record_property) -> None:
    with room() as folder:
        lines = _race(folder, seconds(20))
        counts = Counter(
            f"{line['op']} {line['outcome']}" for line in lines if line["kind"] == "op"
        )
        record_property("race operations", counts.total())
        assert [line for line in lines if line["kind"] == "bad"] == []
        assert not [name for name in counts if "locked" in name], counts
        assert counts["gc erased some"] > 5
        assert broken_invariants(folder / "store", late_writes=True) == []
        _keeps(folder / "store", lines)
        _lets_go_of_everything(folder / "store")


def _race(folder: Path, length: float) -> list[dict]:
    """Run the processes, kill one now and then, and return what all of them told."""
    dice = random.Random(1)
    context = server()
    until = time.monotonic() + length
    running = {}
    started = 0
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
            victim.join()
    for process in running.values():
        process.join(120)
        assert process.exitcode == 0, "a worker failed or hung"
    logs = sorted(folder.glob("*.log"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def _part(place: int, number: int) -> Part:
    return Part(
        f"{place}-{number}",
        collects=place in (0, 1),
        looks=place == 2,
        sluggish=place in (3, 4),
    )


def _keeps(path: Path, lines: list[dict]) -> None:
    """Every promise that was not given up is kept, byte for byte."""
    given_up = {line["owner"] for line in lines if line["kind"] == "released"}
    promises = [
        line for line in lines if line["kind"] == "promised" and line["owner"] not in given_up
    ]
    assert promises
    with Store(path) as store:
        for promise in promises:
            scope = store.scope(promise["scope"])
            held = {each.digest for each in scope.references(owner=promise["owner"])}
            assert held == set(promise["digests"]), promise
        for scope in map(store.scope, worker.SCOPES):
            for asset in scope.assets():
                with scope.open(asset.digest) as file:
                    assert Digest.of(file.read()) == asset.digest
        assert store.fsck(read_data=True).result().problems == 0


def _lets_go_of_everything(path: Path) -> None:
    clock = Clock(0)
    with Store(path, clock=clock) as store:
        for scope in map(store.scope, worker.SCOPES):
            for summary in list(scope.owners()):
                scope.release(summary.owner)
            for asset in list(scope.assets()):
                scope.discard(asset.digest)
        store.gc(now=True)
        store.gc(now=True)
        assert store.stats().blobs == 0
        for _ in range(2):
            clock.forward(DAY + DAY // 24)
            store.gc(now=True)
        assert store.fsck().result().findings == {}
    assert broken_invariants(path) == []
    assert objects_of(path) == []
    assert temporary_of(path) == []
