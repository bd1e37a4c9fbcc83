"""The power is cut again and again while a store is used: what was acknowledged is there."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from tests.power.conftest import PROPERTY
from tests.power.disk import KINDS, Disk
from tests.power.expectation import Change, Expectation, plant
from tests.power.worker import MUTANTS, use

from calotype import Store

CUTS = int(os.environ.get("CALOTYPE_POWER_CUTS", "100"))
"""On all kinds of disks together."""

ENOUGH = 40
"""After so many cuts a mutant that was not noticed counts as missed."""

pytestmark = pytest.mark.power


@contextmanager
def disk_of(kind: str, folder: Path) -> Iterator[Disk]:
    disk = Disk(kind, folder)
    try:
        yield disk
    finally:
        disk.remove()


def server() -> BaseContext:
    """Where workers come from, with all that they import; a forked pytest has too many threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["calotype.store", "tests.power.worker"])
    return context


def interrupted(disk: Disk, tree: Path, wait: float, expected: Expectation, *mutant: str) -> None:
    """Let a worker use the store on the disk, and cut the power after ``wait`` seconds of work."""
    heard, said = server().Pipe(duplex=False)
    arguments = (said, disk.at / "store", tree, random.random(), *mutant)
    worker = server().Process(target=use, args=arguments)  # type: ignore[attr-defined]
    worker.start()
    said.close()
    assert heard.recv()[0] == "ready"
    messages: list[tuple[str, Change | None, int]] = []
    hearing = threading.Thread(target=_hear, args=(heard, messages))
    hearing.start()
    time.sleep(wait)
    worked = worker.is_alive()
    cut = time.monotonic_ns()
    disk.cut()
    worker.kill()
    worker.join()
    hearing.join()
    heard.close()
    assert worked, "the worker ended by itself"
    expected.hear(messages, cut)
    disk.unmount()
    disk.mount()


def _hear(heard: Connection, messages: list[tuple[str, Change | None, int]]) -> None:
    with suppress(EOFError):
        while True:
            messages.append(heard.recv())


@pytest.mark.parametrize("kind", KINDS)
def test_whenever_the_power_is_cut_what_was_acknowledged_is_there(kind, tmp_path, record_property):
    plant(tree := tmp_path / "tree")
    expected, dice, cuts = Expectation(), random.Random(kind), CUTS // len(KINDS)
    with disk_of(kind, tmp_path) as disk:
        for number in range(cuts):
            interrupted(disk, tree, dice.expovariate(6), expected)
            with Store(disk.at / "store", grace=0) as store:
                broken = [*expected.broken(store)]
                if number % 10 == 9:
                    broken += expected.leaks(store)
            record_property(PROPERTY, {"cuts": 1, "broken": len(broken)})
            assert broken == [], f"after cut {number + 1}"
        with Store(disk.at / "store", grace=0) as store:
            assert list(expected.leaks(store)) == []
    record_property(PROPERTY, {"acknowledged": expected.acknowledged})
    assert expected.acknowledged > cuts // 4


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_store_that_does_not_sync_is_noticed(mutant, tmp_path, record_property):
    plant(tree := tmp_path / "tree")
    expected, dice = Expectation(), random.Random(mutant)
    with disk_of("ext4", tmp_path) as disk:
        for _ in range(ENOUGH):
            interrupted(disk, tree, dice.expovariate(6), expected, mutant)
            try:
                with Store(disk.at / "store", grace=0) as store:
                    broken = [*expected.broken(store)]
            except Exception as error:
                broken = [f"{error}"]
            if broken:
                record_property(PROPERTY, {"noticed": 1})
                return
    pytest.fail(f"{ENOUGH} cuts and nothing was noticed")
