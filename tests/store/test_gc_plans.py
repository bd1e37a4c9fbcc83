"""Plans: shown first, kept under an id, checked again row by row, and asked about when large."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import backend_of, content, keys, objects, problems, rows

from calotype.errors import GcLimit, NotFound, Unavailable
from calotype.gc import safety


@pytest.fixture
def released(store):
    found = [store.put(noise(100, n), owner=f"scan/{n}").digest for n in range(4)]
    for number in range(4):
        store.release(f"scan/{number}")
    return found


def test_a_plan_shows_and_removes_nothing(store, released):
    plan = store.plan_gc(now=True)
    assert (plan.doomed, plan.doomed_bytes, plan.erased) == (4, 400, 0)
    assert sorted(item.digest for item in plan.items) == sorted(released)
    assert {item.action for item in plan.items} == {"doom"}
    assert len(objects(store)) == len(list(store.assets(trashed=True))) == 4


def test_a_plan_shows_what_was_let_go_before(place):
    with place.open(erase_delay="1h") as store:
        digest = store.put(picture(), owner="scan/9").digest
        store.release("scan/9")
        store.gc(grace=0)
        plan = store.plan_gc(now=True)
        assert (plan.doomed, plan.erased, plan.erased_bytes) == (0, 1, len(picture()))
        assert [(item.action, item.digest) for item in plan.items] == [("erase", digest)]


def test_executing_a_plan_does_what_it_showed(store, released):
    plan = store.plan_gc(now=True)
    report = plan.execute()
    assert (report.plan, report.doomed, report.erased) == (plan.id, 4, 4)
    assert objects(store) == {}


def test_a_plan_is_found_again_by_its_id(durable):
    with durable.open() as store:
        store.put(picture(), owner="scan/9")
        store.release("scan/9")
        made = store.plan_gc(now=True)
    with durable.open() as store:
        plan = store.plan(made.id)
        assert (plan.items, plan.terms, plan.created_at) == (
            made.items,
            made.terms,
            made.created_at,
        )
        assert plan.execute().doomed == 1


def test_every_plan_has_an_id_of_its_own(store, released):
    assert len({store.plan_gc().id for _ in range(5)}) == 5


def test_a_plan_that_is_none_is_not_found(store, released):
    with pytest.raises(NotFound, match="gc-0000"):
        store.plan("gc-0000")


def test_a_plan_can_be_executed_for_thirty_days(store, released, clock):
    plan = store.plan_gc(now=True)
    clock.advance(days=29.9)
    assert store.plan(plan.id).doomed == 4
    clock.advance(days=0.2)
    with pytest.raises(NotFound, match=plan.id):
        store.plan(plan.id)


def test_a_report_says_what_waits_for_another_try(store, released, clock, monkeypatch):
    kept, real = keys(store, released[0])[0], type(backend_of(store)).delete

    def poisoned(self, key):
        if key == kept:
            raise Unavailable("This one cannot be deleted.")
        real(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(type(backend_of(store)), "delete", poisoned)
        first = store.gc(now=True)
        assert (first.erased, first.failed, first.waiting) == (3, 1, 0)
        clock.advance(seconds=61)
        second = store.gc(now=True)
        assert (second.failed, second.waiting) == (1, 0)
    third = store.gc(now=True)
    assert (third.erased, third.failed, third.waiting) == (0, 0, 1)
    assert store.gc(digests=released[1:]).waiting == 0
    clock.advance(days=1)
    last = store.gc(now=True)
    assert (last.erased, last.waiting) == (1, 0)


def test_what_was_attached_again_meanwhile_is_kept(store, released):
    """immich #30933."""
    plan = store.plan_gc(now=True)
    store.attach(released[0], owner="scan/10")
    store.restore(released[1])
    store.put(noise(100, 2), hold="1h")
    report = plan.execute()
    assert report.doomed == 1
    for number in range(3):
        assert content(store, released[number]) == noise(100, number)
    assert problems(store) == []


def test_what_was_let_go_after_the_plan_was_made_is_not_taken_by_it(store, released, clock):
    plan = store.plan_gc(grace="1h")
    assert plan.doomed == 0
    clock.advance(hours=1, seconds=1)
    other = store.put(picture(), owner="scan/10").digest
    store.release("scan/10")
    clock.advance(hours=10)
    assert plan.execute().doomed == 0
    assert store.plan_gc(grace="1h").execute().doomed == 5
    assert store.check([other]) == {other: None}


def test_a_plan_keeps_its_filters(store, released):
    plan = store.plan_gc(now=True, digests=released[:2], limit=1)
    assert plan.doomed == 1
    assert store.plan(plan.id).execute().doomed == 1
    assert plan.execute().doomed == 1
    assert plan.execute().doomed == 0
    assert len(objects(store)) == 2


def test_a_plan_may_be_executed_twice(store, released):
    plan = store.plan_gc(now=True)
    assert [plan.execute().doomed for _ in range(2)] == [4, 0]


def test_plans_are_forgotten_after_thirty_days(store, released, clock):
    old = store.plan_gc()
    clock.advance(days=31)
    store.plan_gc()
    with pytest.raises(NotFound):
        store.plan(old.id)
    assert rows(store, "SELECT COUNT(*) FROM calotype_plan") == [(1,)]


# The limit


@pytest.fixture
def careful(monkeypatch):
    monkeypatch.setattr(safety, "SAFE_COUNT", 3)


@pytest.mark.usefixtures("careful")
def test_a_run_that_would_take_too_much_stops_and_removes_nothing(store, released):
    with pytest.raises(GcLimit, match="4 of 4") as caught:
        store.gc(now=True)
    assert "--force" in caught.value.hint
    assert len(list(store.assets(trashed=True))) == len(objects(store)) == 4


def test_a_thousand_may_go_whatever_their_share(memory):
    files = [noise(4, number) for number in range(1001)]
    memory.put_many(files, "set/1").result()
    memory.release("set/1")
    with pytest.raises(GcLimit, match="1001 of 1001"):
        memory.gc(now=True)
    memory.put(files[0])
    assert memory.gc(now=True).doomed == 1000


@pytest.mark.usefixtures("careful")
def test_force_takes_it(store, released):
    assert store.gc(now=True, force=True).doomed == 4


@pytest.mark.usefixtures("careful")
def test_the_plan_that_was_refused_can_be_forced(store, released):
    plan = store.plan_gc(now=True)
    with pytest.raises(GcLimit, match="4"):
        plan.execute()
    assert store.plan(plan.id).execute(force=True).doomed == 4


@pytest.mark.usefixtures("careful")
@pytest.mark.parametrize(("kept", "allowed"), [(16, True), (15, False)])
def test_a_fifth_of_the_store_is_allowed_whatever_the_count(store, released, kept, allowed):
    store.put_many([noise(50, 100 + n) for n in range(kept)]).result()
    if allowed:
        assert store.gc(now=True).doomed == 4
    else:
        with pytest.raises(GcLimit):
            store.gc(now=True)


@pytest.mark.usefixtures("careful")
def test_a_bounded_run_is_judged_by_its_bound(store, released):
    assert store.gc(now=True, limit=3).doomed == 3


def test_erasing_what_was_let_go_before_asks_nothing(place, monkeypatch):
    with place.open(erase_delay="1h") as store:
        for number in range(5):
            store.put(noise(100, number), owner="scan/1")
        store.release("scan/1")
        store.gc(grace=0)
        monkeypatch.setattr(safety, "SAFE_COUNT", 3)
        assert store.gc(now=True).erased == 5


def test_a_run_that_is_left_is_gone_on_with_by_the_next(store, released):
    run = store.plan_gc(now=True).run()
    next(iter(run))
    run.close()
    assert problems(store) == []
    store.gc(now=True)
    assert objects(store) == {}


@pytest.mark.usefixtures("careful")
def test_what_became_garbage_since_the_plan_counts_too(store, released):
    for number in range(4, 8):
        store.put(noise(100, number), owner=f"late/{number}")
    plan = store.plan_gc(now=True, digests=released[:3])
    for number in range(4, 8):
        store.release(f"late/{number}")
    grown = replace(plan, terms=replace(plan.terms, digests=None))
    with pytest.raises(GcLimit, match="8 of 8.*nothing was removed"):
        grown.execute()
    assert len(list(store.assets(trashed=True))) == 8
    assert grown.execute(force=True).doomed == 8


def test_progress_never_passes_its_total(store, released):
    steps = list(store.plan_gc(now=True).run())
    assert steps[-1].done == steps[-1].total == 8
    assert all(step.done <= step.total for step in steps)


def test_progress_counts_what_became_garbage_since_the_plan(store, released):
    plan = store.plan_gc(now=True, digests=released[:1])
    plan = replace(plan, terms=replace(plan.terms, digests=None))
    steps = list(plan.run())
    assert steps[-1].done == 8
    assert all(step.done <= step.total for step in steps)
