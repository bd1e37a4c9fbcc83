"""The same thing wanted by many at one moment."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tests.crash.points import room
from tests.invariants import broken_invariants, objects_of
from tests.races.acts import attach_to_slot, noise, put, put_in_a_fork, release_and_restore
from tests.races.crowd import PATIENCE, at_once

from calotype import Store
from calotype.scope import Scope


@pytest.fixture
def folder():
    with room() as found:
        yield found


def blobs(place: Path) -> int:
    with Store(place) as store:
        return store.stats().blobs


def test_sixteen_identical_puts_make_one_blob_and_one_created(folder) -> None:
    place = folder / "store"
    put(str(place), "default", "there already", None)
    for number in range(6):
        wanted = [(str(place), "default", f"same {number}", None)] * 16
        answers = Counter(at_once(put, wanted, threads=4))
        assert answers == {"created": 1, "duplicate": 15}
        assert blobs(place) == number + 2
    assert broken_invariants(place, late_writes=True) == []


def test_sixteen_scopes_create_their_own_asset_of_one_blob(folder) -> None:
    place = folder / "store"
    wanted = [(str(place), f"scope {number}", "same", f"scan/{number}") for number in range(16)]
    assert Counter(at_once(put, wanted, threads=4)) == {"created": 16}
    assert blobs(place) == 1
    assert broken_invariants(place, late_writes=True) == []


def test_identical_large_puts_leave_one_object_when_gc_has_been(folder) -> None:
    place = folder / "store"
    wanted = [(str(place), "default", "large", f"scan/{number}", 9 << 20) for number in range(6)]
    answers = Counter(at_once(put, wanted, threads=2))
    assert answers == {"created": 1, "duplicate": 5}
    with Store(place) as store:
        store.gc(now=True)
        assert store.stats().references == 6
    assert len(objects_of(place)) == 1
    assert broken_invariants(place) == []


@pytest.mark.parametrize("shared", [False, True], ids=["different bytes", "some the same"])
def test_a_quota_is_never_exceeded_by_parallel_puts(folder, shared) -> None:
    place = folder / "store"
    with Store(place) as store:
        store.set_quota("ana", 10 * 5000 + 4999)
    names = [f"file {number % 16 if shared else number}" for number in range(32)]
    answers = Counter(at_once(put, [(str(place), "ana", each, None) for each in names], threads=4))
    assert answers["created"] == 10
    assert answers["quota-exceeded"] >= 10
    assert answers.total() == 32
    assert set(answers) <= {"created", "duplicate", "quota-exceeded"}
    with Store(place) as store:
        usage = store.scope("ana").usage()
        assert (usage.assets, usage.bytes) == (10, 50_000)
    assert broken_invariants(place, late_writes=True) == []


def test_eight_first_puts_make_one_store(folder) -> None:
    for number in range(4):
        place = folder / f"store {number}"
        wanted = [(str(place), "default", f"file {each}", f"scan/{each}") for each in range(8)]
        assert Counter(at_once(put, wanted)) == {"created": 8}
        assert blobs(place) == 8
        assert not list(place.glob(".catalog.db.*"))
        with closing(sqlite3.connect(place / "catalog.db")) as rows:
            (ids,) = rows.execute("SELECT count(*) FROM calotype_meta WHERE key = 'store_id'")
            (mode,) = rows.execute("PRAGMA journal_mode")
        assert (ids, mode) == ((1,), ("wal",))
        assert broken_invariants(place) == []


def test_one_slot_has_one_digest_whoever_writes_to_it(folder) -> None:
    place = folder / "store"
    for number in range(8):
        put(str(place), "default", f"file {number}", None)
    wanted = [(str(place), f"file {number % 8}") for number in range(16)]
    at_once(attach_to_slot, wanted, threads=2)
    with Store(place) as store:
        assert len(list(store.references(owner="scan/1"))) == 1
        assert store.release("scan/1").references == 1
    assert broken_invariants(place) == []


def test_release_and_restore_of_one_owner_never_double_a_reference(folder) -> None:
    place = folder / "store"
    with Store(place) as store:
        for number in range(5):
            store.put(noise(f"file {number}"), owner="scan/1", role=f"role {number}")
    at_once(release_and_restore, [(str(place), number % 2 == 0) for number in range(8)], threads=2)
    with Store(place) as store:
        store.restore(owner="scan/1")
        assert len(list(store.references(owner="scan/1"))) == 5
    assert broken_invariants(place) == []


def test_threads_of_one_store_are_as_safe_as_processes(folder) -> None:
    place = folder / "store"
    errors: list[BaseException] = []
    with Store(place) as store:
        scopes = [store.scope(f"scope {number % 3}") for number in range(16)]

        def work(scope: Scope, number: int) -> None:
            try:
                for turn in range(15):
                    digest = scope.put(noise(f"turn {turn}"), owner=f"own/{number}").digest
                    with scope.open(digest) as file:
                        assert file.read() == noise(f"turn {turn}")
                    scope.release(f"own/{number}")
                    store.gc(now=True)
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=work, args=(scope, number), daemon=True)
            for number, scope in enumerate(scopes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not [thread for thread in threads if thread.is_alive()], "a thread hung"
        assert errors == []
        store.gc(now=True)
        assert store.stats().blobs == 0
    assert broken_invariants(place, late_writes=True) == []


def test_a_forked_child_opens_the_store_anew(folder) -> None:
    place = folder / "store"
    statuses = at_once(put_in_a_fork, [(str(place), number) for number in range(2)])
    assert statuses == [0, 0]
    assert blobs(place) == 4
    assert broken_invariants(place) == []
