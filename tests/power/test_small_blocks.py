"""A full disk whose blocks are smaller than a page of memory ends no process (SIGBUS)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.power.disk import Disk

from calotype import Store
from calotype.catalog import wal_index

pytestmark = pytest.mark.power

UNTIL_FULL = """
import sys
from pathlib import Path
from calotype import Store
from calotype.errors import Unavailable

with Store(sys.argv[1]) as store, (Path(sys.argv[1]) / "ballast").open("wb", buffering=0) as ballast:
    store.put(b"kept", owner="kept/1")
    try:
        while ballast.write(bytes(1 << 20)) == 1 << 20:
            pass
    except OSError:
        pass
    for number in range(5000):
        try:
            store.put(b"%d" % number, owner=f"scan/{number}")
        except Unavailable:
            break
    for number in range(200):
        store.release(f"scan/{number}")
    store.gc(now=True)
    assert store.open(store.put(b"kept").digest).read() == b"kept"
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    made = Disk("ext4", tmp_path)
    try:
        yield made.at
    finally:
        made.remove()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def fill(path: Path, free: int) -> None:
    """Leave ``free`` bytes of the disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 10, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
        file.truncate(os.fstat(file.fileno()).st_size - free)


def test_such_a_disk_is_known(disk, tmp_path) -> None:
    assert wal_index._has_holes(disk / "catalog.db")
    assert not wal_index._has_holes(Path("/dev/shm/catalog.db"))


@pytest.mark.parametrize("free", [0, 2, 6, 10, 16, 24, 40])
def test_commands_end_by_themselves_on_a_full_disk(disk, free) -> None:
    place = disk / "store"
    with Store(place) as store:
        kept = store.put(b"kept", owner="kept/1").digest
        store.put(b"let go", owner="scan/9")
    fill(disk / "ballast", free << 10)
    for command in ("stats", f"get {kept} -o -", "release --owner scan/9", "gc --now", "fsck"):
        done = run("-m", "calotype", "--store", str(place), *command.split())
        assert done.returncode == 0, (command, done.returncode, done.stderr[-300:])


def test_a_process_that_fills_the_disk_goes_on(disk) -> None:
    (disk / "store").mkdir()
    done = run("-c", UNTIL_FULL, str(disk / "store"))
    assert done.returncode in (0, 1), done.returncode
    assert "Unavailable" in done.stderr or done.returncode == 0, done.stderr[-500:]
