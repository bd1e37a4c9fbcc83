"""Processes do everything to the same few files, gc in a loop, workers killed at random."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tests.combinations import Combination, combination
from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.races import counted, worker
from tests.races.crowd import LENGTH, LONG, PATIENCE, pairs, seconds, server
from tests.races.worker import Part

from calotype import Digest

PROCESSES = 8
SHORT = ("sqlite-supabase", "postgres-database", "postgres-s3")


@pytest.mark.parametrize("pair", pairs(LONG, *SHORT))
def test_no_acknowledged_byte_is_lost_and_nothing_leaks(pair, record_property) -> None:
    at_length = LENGTH is not None or pair == LONG
    with room() as folder:
        where = combination(*pair.split("-"), folder)
        length, processes = (seconds(20), PROCESSES) if at_length else (8, PROCESSES // 2)
        kills, lines = _race(folder, where, length, processes)
        counts = Counter(
            f"{line['op']} {line['outcome']}" for line in lines if line["kind"] == "op"
        )
        errors = [line for line in lines if line["kind"] == "bad"]
        lost = _lost(where, lines)
        leaked = _leaked(where)
        found = {"kills": kills, "losses": len(lost), "leaks": len(leaked), "errors": len(errors)}
        collected = sum(count for name, count in counts.items() if name.startswith("gc "))
        done = {"operations": counts.total(), "gc": collected}
        record_property(counted.PROPERTY, {**done, **found})
        assert (errors, lost, leaked) == ([], [], [])
        assert not [name for name in counts if "locked" in name], counts
        assert collected > 0 and kills > 0, counts
        if at_length:
            assert counts["gc erased some"] > 5
            assert kills > 5


def _race(
    folder: Path, where: Combination, length: float, processes: int
) -> tuple[int, list[dict]]:
    """Run the processes, kill one now and then; how often, and what all of them told."""
    running: dict[int, BaseProcess] = {}
    where.open().close()
    first = server().Process(target=time.monotonic)  # they are forked from what this one loads
    first.start()
    first.join(PATIENCE)
    try:
        kills = _run(folder, where, time.monotonic() + length, running, processes)
        for process in running.values():
            process.join(PATIENCE)
            assert process.exitcode == 0, "a worker failed or hung"
    finally:
        for process in running.values():
            process.kill()
    logs = sorted(folder.glob("*.log"))
    return kills, [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def _run(
    folder: Path,
    where: Combination,
    until: float,
    running: dict[int, BaseProcess],
    processes: int,
) -> int:
    dice, context = random.Random(1), server()
    started = kills = 0
    while time.monotonic() < until:
        for place in range(processes):
            if place not in running or not running[place].is_alive():
                part = _part(place, started)
                log = str(folder / f"{part.name}.log")
                arguments = (where, log, part, until)
                running[place] = context.Process(target=worker.run, args=arguments)
                running[place].start()
                started += 1
        time.sleep((0.2 if processes == PROCESSES else 2) + dice.random() / 2)
        if time.monotonic() < until - 1:
            victim = running[dice.randrange(processes)]
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


def _lost(where: Combination, lines: list[dict]) -> list[str]:
    """Promises that were not given up and are not kept, byte for byte."""
    given_up = {line["owner"] for line in lines if line["kind"] == "released"}
    promises = [
        line for line in lines if line["kind"] == "promised" and line["owner"] not in given_up
    ]
    assert promises
    lost = where.broken(late_writes=True)
    with where.open() as store:
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


def _leaked(where: Combination) -> list[str]:
    """What is left when everything was let go of."""
    clock = Clock(0)
    with where.open(clock=clock) as store:
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
    return found + where.broken() + [*where.objects().sizes] + where.temporary()
