"""Full disks of the kinds that people have: what differs from one in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mounts import fill_up
from tests.power.disk import KINDS, Disk

from calotype import Store
from calotype.errors import Unavailable

pytestmark = pytest.mark.power

FILES = 60


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """As the system makes it: ext4 keeps 5 % for root, who fills it here."""
    disk = Disk(request.param, tmp_path)
    try:
        yield disk
    finally:
        disk.remove()


@pytest.fixture
def disk(made: Disk) -> Path:
    return made.at


def filled(disk: Path) -> Path:
    """A store on a disk that somebody filled since."""
    place = disk / "store"
    with Store(place) as store:
        for number in range(FILES):
            store.put(b"%d" % number * 1000, owner=f"file/{number}")
    for number in range(3):
        fill_up(disk / f"ballast {number}")
    return place


def test_a_new_process_reads_a_full_disk_and_frees_it(disk):
    """XFS wants far more than SQLite's files take, to make them at all."""
    place = filled(disk)
    for words in (
        ["ls"],
        ["release", "--owner", "file/0"],
        ["gc", "--now", "--force"],
        ["doctor"],
    ):
        command = [sys.executable, "-m", "calotype", "--store", place, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (words, done.stderr)
    assert (place / "catalog.db-reserve").stat().st_size == 2 << 20


def test_a_full_disk_gives_everything_back(disk):
    place = filled(disk)
    with Store(place) as store:
        for number in range(FILES):
            assert store.release(f"file/{number}").references == 1
            fill_up(disk / f"late {number}")
        assert store.gc(now=True, force=True).doomed == FILES
        assert store.fsck().result().problems == 0
    assert (place / "catalog.db-reserve").stat().st_size == 2 << 20


def test_a_catalog_whose_disk_died_fails_in_words_to_the_end(made):
    """Closing the store too; and the files that were not taken in are listed."""
    place = made.at / "store"
    with pytest.raises(Unavailable) as refusal, Store(place) as store:
        store.put(b"one", owner="file/1")
        made.cut()
        store.put(b"two", owner="file/2")
    assert refusal.value.hint
    store.close()
