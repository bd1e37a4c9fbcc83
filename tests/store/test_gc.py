"""gc: what is let go, when, how much of it, and what stays whatever happens."""

from __future__ import annotations

import pytest
from tests.store.pictures import noise, picture
from tests.store.places import HOUR
from tests.store.surgery import (
    change,
    content,
    hold_back,
    hold_back_no_more,
    objects,
    problems,
    rows,
    states,
)

from calotype import Digest
from calotype.catalog.intents import intend
from calotype.errors import Misconfigured, NotFound
from calotype.model import Report


@pytest.fixture
def released(store):
    """Five blobs that nothing keeps, of 100 to 500 bytes."""
    found = [store.put(noise(100 * n, n), owner=f"scan/{n}").digest for n in range(1, 6)]
    for number in range(1, 6):
        store.release(f"scan/{number}")
    return found


def test_there_is_nothing_to_do_before_there_is_a_store(store):
    assert store.gc(now=True) == Report("none")
    assert store.plan_gc().items == ()


def test_what_was_let_go_goes_after_the_grace(store, clock):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    clock.advance(hours=23.9)
    assert store.gc().doomed == 0
    assert store.check([digest])[digest].trashed
    clock.advance(hours=0.2)
    report = store.gc()
    assert (report.references, report.assets, report.doomed, report.erased) == (1, 1, 1, 1)
    assert report.doomed_bytes == report.erased_bytes == len(picture())
    assert store.check([digest]) == {digest: None}
    assert objects(store) == {}
    assert problems(store) == []


def test_the_reports_items_say_what_and_why(store, released):
    report = store.gc(now=True)
    assert [item.action for item in report.items] == ["doom"] * 5 + ["erase"] * 5
    assert {item.digest for item in report.items} == set(released)
    assert sum(item.size for item in report.items) == 2 * 1500
    assert all(item.reason for item in report.items)


def test_a_store_has_a_grace_of_its_own_and_an_argument_overrides_it(place, clock):
    with place.open(grace="1h") as store:
        store.put(picture(), owner="scan/9")
        store.release("scan/9")
        clock.advance(hours=2)
        assert store.gc(grace="3h").doomed == 0
        assert store.gc().doomed == 1


def test_a_grace_of_nothing_takes_at_once_what_is_let_go(store, released):
    assert store.gc(grace=0).doomed == 5


@pytest.mark.parametrize("grace", [-1, "soon", "-1h"])
def test_a_grace_that_is_none_is_refused(store, released, grace):
    with pytest.raises(Misconfigured):
        store.gc(grace=grace)


def test_what_is_kept_stays_whatever_the_grace(store, clock):
    kept = [
        store.put(picture(0)).digest,
        store.put(picture(1), owner="scan/9").digest,
        store.put(picture(2), hold="1d").digest,
    ]
    store.put(picture(3), owner="scan/1")
    store.release("scan/1")
    for _ in range(3):
        store.gc(now=True, full=True)
    assert {asset.digest for asset in store.assets()} == set(kept)
    assert len(objects(store)) == 3


def test_now_shortens_no_hold(store, clock):
    store.put(picture(), hold="1h")
    clock.advance(hours=0.99)
    assert store.gc(now=True, full=True).doomed == 0


def test_an_erase_delay_keeps_the_bytes_of_what_was_let_go(place, clock):
    with place.open(erase_delay="2h") as store:
        digest = store.put(picture(), owner="scan/9").digest
        store.release("scan/9")
        clock.advance(days=2)
        first = store.gc()
        assert (first.doomed, first.erased) == (1, 0)
        assert states(store, digest) == ["doomed"]
        assert len(objects(store)) == 1
        clock.advance(hours=1.9)
        assert store.gc().erased == 0
        clock.advance(hours=0.2)
        second = store.gc()
        assert (second.doomed, second.erased) == (0, 1)
        assert objects(store) == {}


def test_an_argument_overrides_the_erase_delay(place):
    with place.open(erase_delay="2h") as store:
        store.put(picture(), owner="scan/9")
        store.release("scan/9")
        assert store.gc(grace=0).erased == 0
        assert store.gc(grace=0, erase_delay=0).erased == 1


def test_now_is_no_grace_and_no_delay(place):
    with place.open(erase_delay="2h", grace="1000d") as store:
        store.put(picture(), owner="scan/9")
        store.release("scan/9")
        report = store.gc(now=True)
        assert (report.doomed, report.erased) == (1, 1)


def test_only_the_digests_that_are_named_go(store, released):
    report = store.gc(now=True, digests=[released[3], released[1].upper(), Digest.of(b"x")])
    assert {item.digest for item in report.items} == {released[1], released[3]}
    assert report.doomed == report.erased == 2
    assert store.gc(now=True).doomed == 3


def test_naming_a_digest_that_is_kept_lets_nothing_go(store):
    digest = store.put(picture()).digest
    assert store.gc(now=True, digests=[digest]).doomed == 0
    assert content(store, digest) == picture()


def test_naming_no_digests_lets_nothing_go(store, released):
    assert store.gc(now=True, digests=[]).doomed == 0


def test_a_limit_bounds_one_run(store, released):
    assert [store.gc(now=True, limit=2).doomed for _ in range(4)] == [2, 2, 1, 0]
    assert objects(store) == {}
    assert problems(store) == []


def test_a_limit_bounds_what_is_erased_too(place):
    with place.open(erase_delay="1h") as store:
        for number in range(5):
            store.put(noise(100, number), owner=f"scan/{number}")
            store.release(f"scan/{number}")
        store.gc(grace=0)
        assert [store.gc(now=True, limit=2).erased for _ in range(4)] == [2, 2, 1, 0]


def test_a_bound_on_bytes_is_never_passed(store, released):
    reports = [store.gc(now=True, max_bytes="700 B") for _ in range(6)]
    assert all(report.doomed_bytes <= 700 and report.erased_bytes <= 700 for report in reports)
    assert sum(report.doomed for report in reports) == 5
    assert objects(store) == {}


def test_a_file_larger_than_the_bound_goes_alone_and_is_in_nobodys_way(store):
    for data in (b"a" * 10, b"b" * 10, b"c" * 10):
        store.put(data, hold="0")
    reports = [store.gc(now=True, max_bytes=9) for _ in range(4)]
    assert [(each.doomed, each.erased_bytes) for each in reports] == [(1, 10)] * 3 + [(0, 0)]
    assert [each.stopped for each in reports] == ["max-bytes"] * 2 + ["", ""]


def test_a_run_stops_when_its_time_is_up(store, released):
    report = store.gc(now=True, budget=0)
    assert report.stopped == "budget"
    rest = store.gc(now=True)
    assert rest.stopped == ""
    assert report.doomed + rest.doomed == 5
    assert objects(store) == {}


def test_running_again_does_nothing_more(store, released):
    store.gc(now=True)
    again = store.gc(now=True)
    assert (again.doomed, again.erased, again.items) == (0, 0, ())


def test_what_was_let_go_is_a_candidate_and_what_was_taken_is_not(store, released):
    assert rows(store, "SELECT COUNT(DISTINCT digest) FROM calotype_candidate") == [(5,)]
    store.gc(now=True)
    assert rows(store, "SELECT COUNT(*) FROM calotype_candidate") == [(0,)]


def test_a_kept_asset_is_no_candidate_after_one_look(store, clock):
    store.put(picture(), hold="1h")
    store.keep(Digest.of(picture()))
    store.put(picture(1), owner="scan/9")
    clock.advance(hours=2)
    store.gc(now=True)
    assert rows(store, "SELECT COUNT(*) FROM calotype_candidate") == [(0,)]


def test_a_candidate_waits_for_the_end_of_a_hold(store, clock):
    digest = store.put(picture(), hold="1h", owner="scan/9").digest
    store.release("scan/9")
    store.gc(now=True)
    wanted = store.stat(digest).kept
    [(look_at,)] = rows(store, "SELECT DISTINCT look_at FROM calotype_candidate")
    assert look_at <= wanted.timestamp() * 1e6
    clock.advance(hours=1.1)
    assert store.gc(now=True).doomed == 1


def test_lost_candidates_are_made_up_for_by_a_full_look(store, released):
    change(store, "DELETE FROM calotype_candidate")
    assert store.gc(now=True).doomed == 0
    assert store.gc(now=True, full=True).doomed == 5


def test_a_full_look_is_made_when_the_catalog_asks_for_one(store, released):
    change(store, "DELETE FROM calotype_candidate")
    change(store, "UPDATE calotype_meta SET value = '1' WHERE key = 'full_look'")
    assert store.gc(now=True).doomed == 5
    assert rows(store, "SELECT value FROM calotype_meta WHERE key = 'full_look'") == [("0",)]


def test_a_full_look_that_did_not_see_everything_is_still_due(store, released):
    due = "SELECT value FROM calotype_meta WHERE key = 'full_look'"
    change(store, "UPDATE calotype_meta SET value = '1' WHERE key = 'full_look'")
    one = str(next(store.orphans()).digest)
    for terms in ({"limit": 1}, {"digests": [one], "full": True}):
        store.gc(now=True, **terms)
        assert rows(store, due) == [("1",)]
    store.gc(now=True)
    assert rows(store, due) == [("0",)]


def test_an_old_slot_entry_goes_with_its_grace(store, clock):
    first = store.put(picture(1), owner="scan/9", role="a").digest
    store.put(picture(2), owner="scan/9", role="a")
    clock.advance(hours=25)
    report = store.gc()
    assert (report.doomed, report.references) == (1, 1)
    with pytest.raises(NotFound):
        store.stat(first)


def test_each_scope_lets_go_by_itself(store, clock):
    ana = store.scope("user:ana")
    digest = store.put(picture(), owner="scan/9").digest
    ana.put(picture())
    store.release("scan/9")
    report = store.gc(now=True)
    assert (report.assets, report.doomed) == (1, 0)
    assert store.check([digest]) == {digest: None}
    assert content(ana, digest) == picture()
    ana.discard(digest)
    assert store.gc(now=True).doomed == 1


def test_one_refused_digest_stops_no_other(store, released):
    """The application's own trigger refuses one of them."""
    hold_back(store, released[2])
    report = store.gc(now=True)
    assert (report.doomed, report.refused) == (4, 1)
    assert states(store, released[2]) == ["live"]
    assert store.gc(now=True).refused == 0
    hold_back_no_more(store)
    store._rooms.catalog.clock.advance(hours=2)
    assert store.gc(now=True).doomed == 1
    assert problems(store) == []


def test_one_refused_digest_keeps_its_asset_until_it_goes_itself(store, released):
    hold_back(store, released[2])
    store.gc(now=True)
    assert store.check([released[2]])[released[2]].trashed
    store.restore(released[2])
    assert content(store, released[2]) == noise(300, 3)


def test_what_is_refused_does_not_count_for_the_limit(store, released):
    first = store.plan_gc(now=True, limit=1).items[0].digest
    hold_back(store, first)
    report = store.gc(now=True, limit=4)
    assert (report.doomed, report.refused) == (4, 1)
    assert states(store, first) == ["live"]


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE calotype_provider_upload SET state = 'done'",
        "DELETE FROM calotype_provider_upload",
    ],
)
def test_an_upload_under_way_keeps_the_asset(store, clock, end):
    digest = store.put(picture(), owner="scan/9").digest
    change(
        store,
        "INSERT INTO calotype_provider_upload (scope, digest, provider, state, updated_at) "
        f"VALUES ('default', '{digest}', 'pixverse', 'sending', 0)",
    )
    store.release("scan/9")
    assert store.gc(now=True).doomed == 0
    assert "pixverse" in store.explain(digest).sentence
    change(store, end)
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1


@pytest.mark.parametrize(("hours", "left"), [(0, "doomed"), (1, "writing")])
def test_what_is_written_for_a_blob_that_is_deleted_by_hand_goes_with_it(store, hours, left):
    """Unless it was admitted for longer than anybody writes without a heartbeat."""
    digest = store.put(picture()).digest
    catalog = store._rooms.catalog
    with catalog.write() as connection:
        wanted = [(digest, "png", len(picture()))]
        [intent] = intend(connection, "main", wanted, catalog.clock() + hours * HOUR)
    for table in ("asset", "blob"):
        change(store, f"DELETE FROM calotype_{table}")
    found = rows(store, "SELECT state FROM calotype_replica WHERE token = ?", intent.token)
    assert found == [(left,)]


def test_gc_notes_what_each_scope_uses_that_day(store, clock):
    store.put(noise(100), owner="scan/9")
    store.scope("user:ana").put(noise(50))
    clock.advance(days=1)
    store.gc()
    [*_, today] = store.usage_days()
    assert today.day == f"{clock.moment:%Y-%m-%d}"
    assert (today.scope, today.assets, today.bytes, today.references) == ("default", 1, 100, 1)
    assert store.scope("user:ana").usage_days()[-1].bytes == 50


def test_gc_leaves_foreign_objects_alone(folder):
    with folder.open() as store:
        store.put(picture(), owner="scan/9")
        (folder.blobs / "README").write_text("mine")
        (folder.blobs / "sha256" / "note").write_text("mine")
        store.release("scan/9")
        store.gc(now=True)
        assert set(objects(store)) == {"README", "sha256/note"}


def test_gc_in_a_loop_beside_puts_of_the_same_digest_loses_nothing(store):
    """distribution #3045, one thread after the other at every step."""
    for round in range(10):
        digest = store.put(picture(), owner=f"scan/{round}").digest
        store.gc(now=True)
        assert content(store, digest) == picture()
        store.release(f"scan/{round}")
        store.gc(now=True)
        assert objects(store) == {}
    assert problems(store) == []
