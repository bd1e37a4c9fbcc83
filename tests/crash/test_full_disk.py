"""A disk without room: refused with a way out, nothing half stored, and well again with room."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from tests.crash.scenario import digest, noise, pieces
from tests.invariants import broken_invariants, temporary_of
from tests.mounts import fill_up, needs_mounts, small_disk

from calotype import Store
from calotype.catalog import candidates, reserve
from calotype.catalog.reserve import Freeing
from calotype.errors import Unavailable

pytestmark = needs_mounts

SIZE = 200_000
SIZE_KEPT = 2 << 20
"""What is kept back on the catalog's disk."""


def fill(store: Store, size: int = SIZE) -> list[bytes]:
    """Put files until there is no room, and return those that were acknowledged."""
    kept: list[bytes] = []
    for number in count():
        data = noise(f"file {number}", size)
        try:
            store.put(data, owner=f"file/{number}")
        except Unavailable as refusal:
            assert "full" in f"{refusal} {refusal.hint}" or "space" in f"{refusal} {refusal.hint}"
            return kept
        kept.append(data)
    raise AssertionError("the disk has no end")


def readable(store: Store, files: list[bytes]) -> None:
    for data in files:
        with store.open(digest(data)) as file:
            assert file.read() == data


def test_bytes_that_find_no_room_are_refused_and_leave_nothing(tmp_path) -> None:
    with small_disk(tmp_path / "blobs", "4m"), Store(tmp_path) as store:
        kept = fill(store)
        assert len(kept) > 10
        readable(store, kept)
        assert broken_invariants(tmp_path) == []
        assert temporary_of(tmp_path) == []
        assert store.stats().blobs == len(kept)


def test_release_and_gc_make_room_for_more(tmp_path) -> None:
    with small_disk(tmp_path / "blobs", "4m"), Store(tmp_path) as store:
        kept = fill(store)
        for number in range(5):
            store.release(f"file/{number}")
        assert store.gc(now=True).erased >= 5
        assert len(fill(store)) >= 5
        readable(store, kept[5:])
        assert broken_invariants(tmp_path) == []


def test_a_large_file_that_does_not_fit_leaves_no_temporary_file(tmp_path) -> None:
    with small_disk(tmp_path / "blobs", "4m"), Store(tmp_path) as store:
        kept = noise("kept")
        store.put(kept)
        with pytest.raises(Unavailable):
            store.put(pieces("large", 9))
        done = store.put_many([pieces("large", 9), noise("fits")]).result()
        assert (done.created, len(done.failures)) == (1, 1)
        assert done.failures[0].code == Unavailable.code
        assert temporary_of(tmp_path) == []
        readable(store, [kept, noise("fits")])
        assert broken_invariants(tmp_path) == []


def test_a_catalog_on_the_full_disk_loses_nothing_and_recovers(tmp_path) -> None:
    place, ballast = tmp_path / "small" / "store", tmp_path / "small" / "ballast"
    with small_disk(tmp_path / "small", "12m"):
        ballast.write_bytes(bytes(256 << 10))
        with Store(place) as store:
            kept = fill(store, 100_000)
            readable(store, kept)
            assert broken_invariants(place) == []
        with Store(place) as store:
            readable(store, kept)
            ballast.unlink()
            for number in range(20):
                store.release(f"file/{number}")
            store.gc(now=True)
            assert broken_invariants(place) == []
            assert len(fill(store, 100_000)) >= 5
            readable(store, kept[20:])
            assert broken_invariants(place) == []


@pytest.mark.parametrize("room", ["6m", "16m"])
def test_a_disk_that_is_filled_again_and_again_can_be_freed_every_time(tmp_path, room) -> None:
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", room), Store(place) as store:
        for _ in range(4):
            kept = fill(store, 300_000)
            assert kept
            readable(store, kept)
            for number in range(len(kept)):
                assert store.release(f"file/{number}").references == 1
            assert store.gc(now=True).doomed == len(kept)
            assert broken_invariants(place) == []


def test_not_one_byte_of_room_refuses_more_but_lets_go(tmp_path) -> None:
    place, ballast = tmp_path / "small" / "store", tmp_path / "small" / "ballast"
    with small_disk(tmp_path / "small", "20m"), Store(place) as store:
        kept = [noise(f"before {number}") for number in range(5)]
        for data in kept:
            store.put(data, owner="early/1")
        store.put(noise("to be let go"), owner="early/2")
        for taking in (
            lambda number: store.put(noise(f"late {number}")),
            lambda number: store.put(kept[0], owner=f"late/{number}"),
            lambda number: store.attach(digest(kept[1]), f"late/{number}"),
        ):
            _refused_at_last(taking, ballast)
        readable(store, kept)
        assert broken_invariants(place) == []
        assert store.release("early/2").references == 1
        assert store.gc(now=True).erased >= 1
        readable(store, kept)
        assert broken_invariants(place) == []
        for each in ballast.parent.glob("ballast*"):
            each.unlink()
        assert store.put(noise("late")).status == "created"
        assert broken_invariants(place) == []


@pytest.mark.parametrize(("room", "size"), [("24m", 240), ("48m", 4000)])
def test_a_disk_full_of_many_small_files_can_be_freed(tmp_path, room, size) -> None:
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", room):
        with Store(place) as store:
            for number in count():
                files = [noise(f"{number}/{each}", size) for each in range(200)]
                if store.put_many(files, owner=f"file/{number % 3}").result().failures:
                    break
            kept = store.stats().blobs
            assert kept > 1500
        with Store(place) as store:
            assert sum(freed(store, f"file/{number}") for number in range(3)) == kept
            assert store.stats().blobs == 0
            assert broken_invariants(place) == []
            assert store.put(noise("again")).status == "created"


def freed(store: Store, owner: str) -> int:
    """Release all that an owner has, and let gc erase it; how many blobs that were.

    A disk without any room may take several goes, and each of them makes room.
    """
    blobs = 0
    for _ in range(10):
        try:
            store.release(owner)
        except Unavailable as refusal:
            assert "were released" in str(refusal) and "gc --now" in refusal.hint
        report = store.gc(now=True, force=True)
        assert report.doomed > 0 and report.failed == 0
        blobs += report.doomed
        if not list(store.references(owner=owner)):
            return blobs
    raise AssertionError("it takes for ever")


@pytest.mark.parametrize("left", [0, 24 << 10])
def test_a_new_process_opens_a_store_on_a_full_disk(tmp_path, left) -> None:
    """SQLite removed its log's index when the last one closed, and now it has no room for one."""
    place, ballast = tmp_path / "small" / "store", tmp_path / "small" / "ballast"
    command = [sys.executable, "-m", "calotype", "--store", place]
    with small_disk(tmp_path / "small", "20m"):
        with Store(place) as store:
            kept = store.put(noise("kept"), owner="file/1").digest
        assert not place.joinpath("catalog.db-shm").exists()
        fill_up(ballast)
        os.truncate(ballast, ballast.stat().st_size - left)
        for words in (
            ["ls"],
            ["doctor"],
            ["release", "--owner", "file/1"],
            ["gc", "--now", "--force"],
        ):
            done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (words, done.stderr)
        assert not list(place.glob(f"blobs/sha256/*/*/{kept}*"))
        ballast.unlink()
        assert broken_invariants(place) == []


def test_a_file_that_thousands_let_go_of_keeps_gc_from_nothing(tmp_path) -> None:
    """Its references are too many for one transaction, and the garbage beside it goes as well."""
    place = tmp_path / "small" / "store"
    shown = noise("shown by thousands")
    with small_disk(tmp_path / "small", "32m"):
        with Store(place) as store:
            store.put(shown, owner="kept/1")
            garbage = [noise(f"garbage {number}", 100_000) for number in range(5)]
            store.put_many(garbage, owner="file/1").result()
            with closing(sqlite3.connect(place / "catalog.db", isolation_level=None)) as raw:
                raw.execute("PRAGMA foreign_keys=ON")
                raw.execute("BEGIN IMMEDIATE")
                for number in range(8000):
                    store.attach(digest(shown), f"list/{number}", connection=raw)
                raw.execute(
                    "UPDATE calotype_reference SET released_at = 1 WHERE owner_kind = 'list'"
                )
                raw.execute("COMMIT")
            store.release("file/1")
        fill_up(tmp_path / "small" / "ballast")
        with Store(place) as store:
            report = store.gc(now=True, force=True)
            assert (report.doomed, report.references, report.refused) == (5, 8005, 0)
            readable(store, [shown])
            assert broken_invariants(place) == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_full_disk_with_a_store_in_an_applications_database_can_be_freed(tmp_path, mode) -> None:
    place = tmp_path / "small"
    with small_disk(place, "16m"):
        with closing(sqlite3.connect(place / "app.db")) as raw:
            raw.execute(f"PRAGMA journal_mode={mode}")
            raw.execute("CREATE TABLE listing (id INTEGER)")
        with Store(catalog=f"sqlite:///{place}/app.db", backend=f"file:{place}/blobs") as store:
            for owner in ("old/1", "old/2"):
                store.put_many([noise(f"{owner} {n}", 20_000) for n in range(50)], owner).result()
            store.release("old/1")
            fill(store, 4000)
            fill_up(place / "ballast")
            assert store.gc(now=True, force=True).doomed == 50
            fill_up(place / "ballast late")
            assert store.release("old/2").references == 50
            assert store.gc(now=True, force=True).doomed == 50
            (place / "ballast").unlink()
            (place / "ballast late").unlink()
            assert store.put(noise("again")).status == "created"
            assert store.fsck().result().problems == 0


def test_no_application_need_run_for_its_full_database_to_be_freed(tmp_path) -> None:
    """In WAL mode SQLite makes its files anew for whoever comes first."""
    place = tmp_path / "small"
    environment = {
        "CALOTYPE_CATALOG": f"sqlite:///{place}/app.db",
        "CALOTYPE_BACKENDS__MAIN__URL": f"file:{place}/blobs",
    }
    with small_disk(place, "16m"):
        with closing(sqlite3.connect(place / "app.db")) as raw:
            raw.execute("PRAGMA journal_mode=wal")
        with Store(catalog=f"sqlite:///{place}/app.db", backend=f"file:{place}/blobs") as store:
            store.put(noise("kept"), owner="file/1")
        fill_up(place / "ballast")
        for words in (["ls"], ["release", "--owner", "file/1"], ["gc", "--now"], ["doctor"]):
            command = [sys.executable, "-m", "calotype", *words]
            done = subprocess.run(
                command, env=os.environ | environment, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, (words, done.stderr)
        assert list(place.glob("blobs/sha256/*/*/*")) == []


PUTTING = """
import os, sys, time
from calotype import Store
from calotype.errors import Unavailable
print("ready", flush=True)
with Store(sys.argv[1]) as store:
    while True:
        try:
            store.put(os.urandom(3000), owner="late/1")
        except Unavailable:
            time.sleep(0.001)
"""


def test_puts_that_are_refused_take_no_room_from_those_who_let_go(tmp_path) -> None:
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "24m"), Store(place) as store:
        for number in range(600):
            store.put(noise(f"{number}", 3000), owner=f"file/{number}")
        fill_up(tmp_path / "small" / "ballast")
        command = [sys.executable, "-c", PUTTING, place]
        putters = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        try:
            assert [putter.stdout.readline() for putter in putters] == [b"ready\n"] * 2
            time.sleep(1)
            for number in range(40):
                assert store.release(f"file/{number}").references == 1
                if number % 10 == 9:
                    assert store.gc(now=True, force=True).doomed >= 10
        finally:
            for putter in putters:
                putter.kill()
                putter.communicate()
        assert broken_invariants(place) == []


def test_what_is_kept_back_lies_beside_the_file_and_not_beside_a_link_to_it(tmp_path) -> None:
    data, view = tmp_path / "small", tmp_path / "view"
    view.mkdir()
    with small_disk(data, "16m"):
        sqlite3.connect(data / "app.db").close()
        (view / "app.db").symlink_to(data / "app.db")
        with Store(catalog=f"sqlite:///{view}/app.db", backend=f"file:{data}/blobs") as store:
            files = [noise(f"{number}", 20_000) for number in range(50)]
            store.put_many(files, owner="file/1").result()
            fill_up(data / "ballast")
            assert store.release("file/1").references == 50
            assert store.gc(now=True, force=True).doomed == 50
        assert [each.name for each in view.iterdir()] == ["app.db"]


KILLED = """
import os, signal, sys, threading, time
from calotype import Store
with Store(sys.argv[1]) as store:
    def kill():
        time.sleep(float(sys.argv[3]))
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=kill, daemon=True).start()
    while True:
        store.release(f"file/{sys.argv[2]}")
        store.gc(now=True, force=True)
"""


def test_what_a_killed_one_gave_back_is_kept_back_again(tmp_path) -> None:
    place, kept = tmp_path / "small" / "store", tmp_path / "small/store/catalog.db-reserve"
    with small_disk(tmp_path / "small", "24m"):
        with Store(place) as store:
            for number in range(600):
                store.put(noise(f"{number}", 3000), owner=f"file/{number}")
        fill_up(tmp_path / "small" / "ballast")
        gave_back = 0
        for number in range(100):
            after = 0.002 * (number % 50)
            subprocess.run(
                [sys.executable, "-c", KILLED, place, f"{number}", f"{after}"], timeout=60
            )
            gave_back += kept.stat().st_size < SIZE_KEPT
            if gave_back > 1:
                break
        assert gave_back > 1
        with Store(place) as store:
            for number in range(100, 140):
                assert store.release(f"file/{number}").references == 1
            assert store.gc(now=True, force=True).doomed >= 40
            assert kept.stat().st_size == SIZE_KEPT
        assert broken_invariants(place) == []


def test_many_threads_let_go_on_a_full_disk(tmp_path) -> None:
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "24m"), Store(place) as store:
        for number in range(400):
            store.put(noise(f"{number}", 3000), owner=f"file/{number}")
        fill_up(tmp_path / "small" / "ballast")
        with ThreadPoolExecutor(8) as threads:
            done = threads.map(lambda number: store.release(f"file/{number}"), range(400))
            assert sum(each.references for each in done) == 400
        assert store.gc(now=True, force=True).doomed == 400
        assert broken_invariants(place) == []


def test_who_reads_for_long_beside_many_who_let_go_leaves_room_to_gc(tmp_path) -> None:
    """What the log takes meanwhile comes back with the reader's end, and then gc goes on."""
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "24m"), Store(place) as store:
        for number in range(80):
            store.put(noise(f"{number}", 300), owner=f"file/{number}")
        fill_up(tmp_path / "small" / "ballast")
        with closing(sqlite3.connect(place / "catalog.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM calotype_blob").fetchall()
            with ThreadPoolExecutor(4) as threads:
                done = list(threads.map(partial(_released_if_possible, store), range(80)))
            with suppress(Unavailable):
                store.gc(now=True, force=True)
        assert 0 < sum(done) < 80
        assert store.gc(now=True, force=True).refused == 0
        assert store.stats().blobs == 80 - sum(done)
        for number in range(80):
            store.release(f"file/{number}")
        assert store.gc(now=True, force=True).doomed == 80 - sum(done)
        assert broken_invariants(place) == []


def _released_if_possible(store: Store, number: int) -> int:
    try:
        return store.release(f"file/{number}").references
    except Unavailable as refusal:
        assert "full" in str(refusal)
        return 0


READING = """
import sys, time
from calotype import Store
end = time.monotonic() + 1.5
while time.monotonic() < end:
    with Store(sys.argv[1]) as store:
        assert store.stats().blobs == 1
"""


def test_who_only_reads_a_full_disk_leaves_what_is_kept_back(tmp_path) -> None:
    """Each new process makes SQLite's index; its room comes back, whoever else does the same."""
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "12m"):
        with Store(place) as store:
            store.put(noise("kept"), owner="file/1")
        fill_up(tmp_path / "small" / "ballast")
        readers = [subprocess.Popen([sys.executable, "-c", READING, place]) for _ in range(4)]
        assert [reader.wait(60) for reader in readers] == [0, 0, 0, 0]
        fill_up(tmp_path / "small" / "ballast late")
        with Store(place) as store:
            assert store.release("file/1").references == 1
            assert store.gc(now=True).doomed == 1
            assert broken_invariants(place) == []


def test_what_keeps_a_disk_full_gets_nothing_from_those_who_only_read(tmp_path) -> None:
    """What SQLite removes as the last one closes is kept back again before anybody else has it."""
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "12m"):
        with Store(place) as store:
            store.put(noise("kept"), owner="file/1")
        for number in range(40):
            fill_up(tmp_path / "small" / f"ballast {number}")
            with Store(place) as store:
                assert store.stats().blobs == 1
        assert (place / "catalog.db-reserve").stat().st_size == SIZE_KEPT
        fill_up(tmp_path / "small" / "ballast late")
        with Store(place) as store:
            assert store.release("file/1").references == 1
            assert store.gc(now=True).doomed == 1
            assert broken_invariants(place) == []


def test_without_anything_kept_back_a_full_disk_is_called_full(tmp_path) -> None:
    place = tmp_path / "small" / "store"
    command = [sys.executable, "-m", "calotype", "--store", place]
    with small_disk(tmp_path / "small", "12m"):
        with Store(place) as store:
            store.put(noise("kept"), owner="file/1")
        (place / "catalog.db-reserve").unlink()
        fill_up(tmp_path / "small" / "ballast")
        for words, code in (["ls"], 1), (["gc", "--now"], 1), (["doctor"], 4):
            done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
            assert done.returncode == code, done
            said = done.stdout + done.stderr
            assert "The disk that holds the catalog " in said and "is full" in said
        assert "only 0 MiB are free" in done.stdout


def test_what_could_not_be_moved_into_the_file_is_not_committed(tmp_path) -> None:
    """Else the log would stay, and with it what is kept back for those who come after."""
    with small_disk(tmp_path / "small", "16m"), Store(tmp_path / "small" / "store") as store:
        store.put(noise("kept"), owner="file/1")
        fill_up(tmp_path / "small" / "ballast")
        catalog = store._rooms.catalog
        looks = [(str(digest(noise(f"{number}", 8))), 1, 1) for number in range(8000)]
        with (
            pytest.raises(Unavailable, match="is full"),
            catalog.write(freeing=Freeing.BYTES) as connection,
        ):
            candidates.append(connection, looks)
        assert (reserve.log_size(catalog.path), reserve.taken(catalog.path)) == (0, SIZE_KEPT)
        with catalog.write(freeing=Freeing.BYTES) as connection:
            candidates.append(connection, looks[:1000])
        assert reserve.log_size(catalog.path) == 0


def test_somebody_who_reads_for_long_keeps_nobody_from_letting_go(tmp_path) -> None:
    """The log cannot be moved in meanwhile; there is room enough for it."""
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "64m"), Store(place) as store:
        store.put(noise("first"), owner="file/1")
        (tmp_path / "small/ballast").write_bytes(bytes(32 << 20))
        with closing(sqlite3.connect(place / "catalog.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM calotype_blob").fetchall()
            for number in range(60):
                store.put(noise(f"{number}", 100), owner=f"file/{number}")
            assert store.release("file/1").references == 2
            assert store.release("file/2").references == 1
            assert store.gc(now=True, force=True).doomed == 3
        assert broken_invariants(place) == []


@pytest.mark.parametrize(("files", "size", "owners"), [(800, 3000, 4), (6000, 300, 2)])
def test_a_disk_that_somebody_else_filled_can_be_freed(tmp_path, files, size, owners) -> None:
    """The log is long at that moment, and nothing can be put any more."""
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "100m"), Store(place) as store:
        for number in range(owners):
            data = [noise(f"{number}/{each}", size) for each in range(files // owners)]
            assert not store.put_many(data, owner=f"file/{number}").result().failures
        _refused_at_last(lambda number: store.put(noise(f"{number}")), tmp_path / "small/ballast")
        assert sum(freed(store, f"file/{number}") for number in range(owners)) == files
        assert broken_invariants(place) == []
        assert store.put(noise("again")).status == "created"


def test_the_log_stays_short_while_much_is_let_go(tmp_path) -> None:
    with Store(tmp_path) as store:
        tiny = [noise(f"{number}", 20) for number in range(6000)]
        store.put_many(tiny, owner="file/1").result()
        store.release("file/1")
        log = tmp_path / "catalog.db-wal"
        longest = 0
        for _ in store.plan_gc(now=True).run(force=True):
            longest = max(longest, log.stat().st_size)
        assert store.stats().blobs == 0
        assert longest < 24 << 20


def _refused_at_last(taking: Callable[[int], object], ballast: Path) -> None:
    """On a disk filled to the last byte; its log gives fewer bytes back each time, which are filled too."""
    for number in range(50):
        fill_up(ballast.with_name(f"ballast {time.monotonic_ns()}"))
        try:
            taking(number)
        except Unavailable as refusal:
            assert refusal.hint
            return
    raise AssertionError("the disk has no end")


@pytest.mark.parametrize("room", ["11m", "12m", "13m"])
def test_a_commit_that_stands_is_not_called_failed_for_want_of_a_checkpoint(tmp_path, room) -> None:
    """What raises has changed nothing, and what was changed was not refused."""
    place = tmp_path / "small" / "store"
    (tmp_path / "elsewhere").mkdir()
    with small_disk(tmp_path / "small", room), Store(place) as store:
        place.mkdir()
        (place / "blobs").symlink_to(tmp_path / "elsewhere")
        kept = store.put(noise("kept")).digest
        refused = 0
        for number in range(4000):
            try:
                store.attach(kept, f"owner/{number}", role="r" * 1000)
            except Unavailable:
                refused += 1
                assert list(store.references(owner=f"owner/{number}")) == []
                if refused == 5:
                    break
        assert refused == 5
        assert store.release("owner/0").references == 1
        assert broken_invariants(place) == []


@pytest.mark.parametrize("kind", ["paths", "bytes", "tree"])
def test_of_many_files_at_once_those_are_kept_that_have_room(tmp_path, kind) -> None:
    place = tmp_path / "small" / "store"
    tree = tmp_path / "tree"
    tree.mkdir()
    files = {f"{number:03}": noise(f"many {number}", 40_000) for number in range(600)}
    for name, data in files.items():
        (tree / name).write_bytes(data)
    with small_disk(tmp_path / "small", "12m"), Store(place) as store:
        if kind == "tree":
            run = store.import_tree(tree)
        else:
            run = store.put_many(
                list(files.values()) if kind == "bytes" else [tree / name for name in files]
            )
        done = run.result()
        assert done.created >= (40 if kind == "bytes" else 150)
        assert done.created + len(done.failures) == 600
        assert store.stats().blobs == done.created
        here = store.check([digest(data) for data in files.values()])
        readable(store, [data for data in files.values() if here[digest(data)]])
        assert temporary_of(place) == []
        store.gc(now=True)
        assert broken_invariants(place) == []
        assert len(list(place.glob("blobs/sha256/*/*/*"))) == done.created
        assert store.fsck().result().objects == done.created


def test_the_first_put_on_a_full_disk_leaves_no_broken_catalog(tmp_path) -> None:
    place = tmp_path / "small" / "store"
    with small_disk(tmp_path / "small", "8m"):
        for free in range(0, 3_600_000, 150_000):
            ballast = tmp_path / "small" / "ballast"
            fill_up(ballast)
            with ballast.open("r+b") as file:
                file.truncate(ballast.stat().st_size - free)
            with Store(place) as store:
                try:
                    store.put(noise("first"))
                except Unavailable as refusal:
                    assert refusal.hint
            ballast.unlink()
            assert broken_invariants(place) == []
        with Store(place) as store:
            assert store.put(noise("first")).status in ("created", "duplicate")
            assert not list(place.glob(".catalog.db.*"))
