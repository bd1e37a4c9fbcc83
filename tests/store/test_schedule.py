"""gc_every: gc runs by itself, once for all who share the store."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable

import pytest
from tests.store.pictures import picture
from tests.store.surgery import problems, rows

from calotype import Store, schedule
from calotype.errors import GcLimit, Misconfigured
from calotype.quantities import SECOND

HOUR = 3600 * SECOND


def eventually(true: Callable[[], bool]) -> bool:
    """Wait for it, twenty seconds at most."""
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def running() -> int:
    return sum(thread.name == "calotype-gc" for thread in threading.enumerate())


def test_what_nothing_keeps_goes_by_itself(durable, clock):
    with durable.open(gc_every=0.05, grace=0) as store:
        store.put(picture(), owner="scan/1")
        kept = store.put(picture(1)).digest
        store.release("scan/1")
        assert eventually(lambda: clock.advance(seconds=1) or store.stats().blobs == 1)
        assert store.stat(kept)
        assert problems(store) == []
    assert running() == 0


@pytest.mark.parametrize(("look", "every"), [(SECOND // 50, "24h"), (24 * HOUR, 0.02)])
def test_a_process_looks_soon_after_its_start_and_after_an_interval_at_most(
    durable, monkeypatch, look, every
):
    monkeypatch.setattr(schedule, "FIRST_LOOK", look)
    with durable.open(grace=0) as store:
        store.put(picture(), owner="scan/1")
        store.release("scan/1")
    with durable.open(gc_every=every, grace=0) as store:
        assert eventually(lambda: store.stats().blobs == 0)


def test_no_sleep_is_longer_than_an_hour(durable, clock):
    with durable.open() as store:
        store.put(picture())
        catalog = store._rooms.catalog
        assert schedule._look(store, catalog, 24 * HOUR) == HOUR  # it ran
        assert schedule._look(store, catalog, 24 * HOUR) == HOUR  # 24 hours are left
        clock.advance(hours=23.5)
        assert schedule._look(store, catalog, 24 * HOUR) == HOUR // 2


def test_one_run_an_interval_for_all_who_share_the_store(durable, clock):
    """Whoever claims it has it; clocks that jump back let it be due at once, and no more often."""
    with durable.open() as one, durable.open() as other:
        one.put(picture())
        catalogs = [store._rooms.catalog for store in (one, other)]

        def taken() -> list[bool]:
            return [schedule.claim(catalog, HOUR) == 0 for catalog in catalogs * 3]

        assert taken() == [True] + [False] * 5
        clock.advance(seconds=59 * 60)
        assert 0 < schedule.claim(catalogs[1], HOUR) <= 60 * SECOND
        clock.advance(seconds=60)
        assert taken() == [True] + [False] * 5
        clock.advance(days=-40)
        assert taken() == [True] + [False] * 5
        clock.advance(days=400)
        assert taken() == [True] + [False] * 5


def test_threads_that_claim_at_once_have_one_run_between_them(durable):
    with durable.open() as store:
        store.put(picture())
        took: list[int] = []
        threads = [
            threading.Thread(target=lambda: took.append(schedule.claim(store._rooms.catalog, HOUR)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert took.count(0) == 1


def test_before_there_is_a_store_nothing_is_made(durable):
    with durable.open(gc_every=0.02):
        time.sleep(0.2)
        assert not durable.blobs.exists()
    assert running() == 0


@pytest.mark.parametrize("error", [GcLimit("Too much would go.", hint="Look."), RuntimeError("no")])
def test_what_fails_is_logged_and_tried_again(durable, clock, monkeypatch, caplog, error):
    caplog.set_level(logging.INFO, "calotype.gc")
    calls: list[int] = []
    real = Store.gc

    def failing(self, **options):
        calls.append(1)
        if len(calls) == 1:
            raise error
        return real(self, **options)

    monkeypatch.setattr(Store, "gc", failing)
    with durable.open(gc_every=0.02) as store:
        store.put(picture())
        assert eventually(lambda: len(calls) == 1)
        clock.advance(seconds=1)
        assert eventually(lambda: len(calls) == 2)
    assert str(error) in caplog.text
    assert eventually(lambda: "let go of 0 blobs" in caplog.text)


def test_a_store_that_is_forgotten_ends_its_thread(durable):
    store = durable.open(gc_every=0.02)
    store.put(picture())
    assert running() == 1
    del store
    gc.collect()
    assert eventually(lambda: running() == 0)


def test_a_closed_store_can_be_used_and_closed_again(durable):
    store = durable.open(gc_every=0.02)
    store.put(picture())
    store.close()
    assert rows(store, "SELECT COUNT(*) FROM calotype_blob") == [(1,)]
    store.close()
    assert running() == 0


@pytest.mark.parametrize("every", [0, "nonsense", -1])
def test_an_interval_that_is_none_is_refused(durable, every):
    with pytest.raises(Misconfigured):
        durable.open(gc_every=every)
