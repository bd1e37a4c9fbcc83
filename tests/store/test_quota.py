"""Quotas: never passed, whoever puts at once, and always what there is (I12)."""

from __future__ import annotations

import threading

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import content, findings, objects, problems, rows, truncate

from calotype import Digest
from calotype.catalog import settings
from calotype.errors import Misconfigured, QuotaExceeded


def used(store, scope: str = "default") -> int:
    [(count,)] = rows(store, "SELECT used FROM calotype_scope WHERE scope = ?", scope)
    return count


def test_a_scope_takes_what_its_quota_has_room_for(store):
    store.set_quota("default", 250)
    store.put(noise(100, 1))
    store.put(noise(150, 2))
    with pytest.raises(QuotaExceeded, match="250 B"):
        store.put(b"!")
    assert used(store) == 250
    assert len(objects(store)) == 2
    assert problems(store) == []


def test_a_refused_file_leaves_nothing(store):
    store.set_quota("default", 50)
    with pytest.raises(QuotaExceeded, match="nothing was stored"):
        store.put(noise(100), owner="scan/9")
    assert (list(store.assets()), list(store.owners()), objects(store)) == ([], [], {})
    assert store.gc(now=True).items == ()


def test_an_empty_file_fits_into_a_full_scope(store):
    store.set_quota("default", 0)
    assert store.put(b"").status == "created"


def test_what_is_there_already_counts_once(store):
    store.set_quota("default", 100)
    store.put(noise(100))
    assert store.put(noise(100)).status == "duplicate"
    assert store.put(noise(100), owner="scan/1").status == "duplicate"
    assert used(store) == 100


def test_what_is_damaged_is_healed_in_a_scope_beyond_its_quota(store):
    digest = store.put(noise(100)).digest
    store.set_quota("default", 10)
    truncate(store, digest)
    assert store.put(noise(100)).status == "healed"
    assert content(store, digest) == noise(100)


def test_bytes_that_another_scope_has_count_here_too(store):
    store.set_quota("ana", 50)
    store.put(noise(100))
    with pytest.raises(QuotaExceeded):
        store.scope("ana").put(noise(100))
    assert store.scope("ana").check([Digest.of(noise(100))]) == {Digest.of(noise(100)): None}
    store.set_quota("ana", 100)
    assert store.scope("ana").put(noise(100)).status == "created"
    assert used(store, "ana") == 100


def test_the_trash_counts_until_gc_takes_it(store):
    store.set_quota("default", 100)
    store.put(noise(100, 1), owner="scan/1")
    store.release("scan/1")
    with pytest.raises(QuotaExceeded):
        store.put(noise(100, 2))
    store.gc(now=True)
    assert used(store) == 0
    assert store.put(noise(100, 2)).status == "created"


def test_restoring_from_the_trash_needs_no_room(store):
    store.set_quota("default", 100)
    store.put(noise(100, 1), owner="scan/1")
    store.release("scan/1")
    assert store.put(noise(100, 1), owner="scan/2").status == "restored"
    assert used(store) == 100


def test_a_purge_gives_the_room_back(store):
    store.set_quota("default", 100)
    digest = store.put(noise(100, 1)).digest
    store.purge(digest)
    assert used(store) == 0


def test_a_new_quota_counts_what_is_there(store):
    store.put(noise(100, 1))
    store.put(noise(50, 2), owner="scan/1")
    store.release("scan/1")
    store.set_quota("default", "1 kB")
    assert used(store) == 150
    assert store.usage().quota == 1000


def test_a_quota_below_what_is_there_refuses_more_and_loses_nothing(store):
    store.put(noise(100, 1))
    store.set_quota("default", 10)
    with pytest.raises(QuotaExceeded):
        store.put(b"!")
    assert store.put(noise(100, 1)).status == "duplicate"
    assert content(store, Digest.of(noise(100, 1))) == noise(100, 1)
    assert problems(store) == []


def test_a_lifted_quota_limits_nothing(store):
    store.set_quota("default", 10)
    store.set_quota("default", None)
    store.put(noise(100))
    assert store.usage().quota is None
    assert rows(store, "SELECT COUNT(*) FROM calotype_scope") == [(0,)]


@pytest.mark.parametrize("quota", [-1, "much", "-5 MB"])
def test_a_quota_that_is_none_is_refused(store, quota):
    with pytest.raises(Misconfigured):
        store.set_quota("default", quota)


@pytest.mark.parametrize(("text", "size"), [("10 MB", 10**7), ("1.5 GiB", 3 << 29), (77, 77)])
def test_quotas_are_written_as_people_write_sizes(store, text, size):
    store.set_quota("default", text)
    assert store.usage().quota == size


def test_other_scopes_are_not_concerned(store):
    store.set_quota("ana", 10)
    store.put(noise(100))
    store.scope("bob").put(noise(100))
    assert used(store, "ana") == 0


def test_several_batches_fill_it_exactly(store):
    store.set_quota("default", 1000)
    done = store.put_many([noise(100, n) for n in range(15)]).result()
    assert (done.created, len(done.failures)) == (10, 5)
    assert used(store) == store.usage().bytes == 1000


@pytest.mark.parametrize("same", [False, True])
def test_thirty_two_parallel_puts_never_pass_it(place, same):
    """Each file takes a tenth: ten are kept; a file of all is kept once."""
    with place.open() as store:
        store.set_quota("default", 1000)
        answers: list[str] = []
        start = threading.Barrier(32)

        def put(number: int) -> None:
            start.wait()
            try:
                answers.append(store.put(noise(100, 0 if same else number)).status)
            except QuotaExceeded:
                answers.append("refused")

        threads = [threading.Thread(target=put, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 32
        if same:
            assert sorted(answers) == ["created"] + ["duplicate"] * 31
        else:
            assert sorted(answers) == ["created"] * 10 + ["refused"] * 22
        assert used(store) == store.usage().bytes == (100 if same else 1000)
        store.gc(now=True)
        assert len(objects(store)) == (1 if same else 10)
        assert problems(store) == []


def test_usage_shows_trash_apart(store):
    store.put(noise(100, 1))
    store.put(noise(50, 2), owner="scan/1")
    store.put(noise(25, 3), owner="scan/2")
    store.attach(Digest.of(noise(100, 1)), owner="scan/1")
    store.release("scan/2")
    usage = store.usage()
    assert (usage.assets, usage.bytes) == (2, 150)
    assert (usage.trashed, usage.trashed_bytes) == (1, 25)
    assert (usage.references, usage.quota, usage.scope) == (2, None, "default")


def noted(store):
    return [size for (size,) in rows(store, "SELECT bytes FROM calotype_usage ORDER BY day")]


def test_usage_is_noted_at_most_hourly(store, clock):
    store.put(noise(100, 1))
    store.put(noise(100, 2))
    assert noted(store) == [100]
    clock.advance(hours=1.1)
    store.put(noise(100, 3))
    assert noted(store)[-1] == 300


def test_todays_usage_is_as_things_are(store, clock):
    store.put(noise(100, 1))
    store.put(noise(100, 2))
    [today] = store.usage_days()
    assert (today.assets, today.bytes) == (2, 200)
    assert today.day == f"{clock.moment:%Y-%m-%d}"


def test_days_of_work_at_once_have_a_row_each(store, clock):
    for day in range(3):
        store.put_many([noise(100, 10 * day + number) for number in range(5)]).result()
        clock.advance(days=1)
    assert noted(store) == [500, 1000, 1500]


def test_a_days_work_at_once_is_noted_at_the_latest_when_the_store_is_closed(store, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"{number}").write_bytes(noise(100, number))
    store.put(noise(100, 1))
    store.put_many([tree / f"{number}" for number in range(20)]).result()
    store.close()
    assert noted(store) == [2000]
    store.import_tree(tree).result()
    store.close()
    assert noted(store) == [4000]


def test_what_was_put_one_by_one_within_an_hour_is_noted_when_the_store_is_closed(store):
    for number in range(5):
        store.put(noise(100, number))
    assert noted(store) == [100]
    store.close()
    assert noted(store) == [500]


def test_what_another_process_noted_within_an_hour_is_noted_again_on_closing(folder):
    with folder.open() as store:
        store.put(noise(100, 1))
    with folder.open() as store:
        store.put(noise(100, 2))
        assert noted(store) == [100]
        store.close()
        assert noted(store) == [200]


def test_usage_of_each_day_is_kept(store, clock):
    for number in range(4):
        clock.advance(days=1)
        store.put(noise(100, number))
    assert [day.bytes for day in store.usage_days()] == [100, 200, 300, 400]
    assert len(store.usage_days(days=2)) == 2
    assert store.scope("ana").usage_days() == []


def test_a_sound_quota_is_no_drift(store):
    store.set_quota("default", "1 MB")
    for number in range(5):
        store.put(noise(100, number), owner=f"scan/{number}")
    store.release("scan/1")
    store.gc(now=True)
    assert findings(store) == []
    assert used(store) == 400


def test_a_healed_file_counts_once(store):
    store.set_quota("default", 100)
    digest = store.put(picture()).digest
    truncate(store, digest)
    assert store.put(picture()).status == "healed"
    assert used(store) == len(picture())


def test_a_clock_that_ran_ahead_for_a_moment_takes_no_day_from_the_trend(folder, clock):
    for day in range(8):
        clock.advance(days=400 if day == 3 else 1)
        with folder.open() as store:
            store.put(noise(100, day))
            store.gc()
        if day == 3:
            clock.advance(days=-400)
    with folder.open() as store:
        assert [day.bytes for day in store.usage_days()] == [100, 200, 300, 500, 600, 700, 800]


def test_nothing_but_a_later_zero_row_follows_a_clock_that_ran_ahead(store, clock):
    store.put(noise(100), owner="scan/1")
    store.gc()
    clock.advance(days=400)
    store.gc()
    clock.advance(days=-399)
    store.release("scan/1")
    store.gc(now=True)
    assert [day.bytes for day in store.usage_days()] == [100, 0]


def test_a_scope_that_was_emptied_does_not_have_gc_count_all_others_again_and_again(
    store, clock, monkeypatch
):
    counted = []
    real = settings.record_usage
    monkeypatch.setattr(settings, "record_usage", lambda *a: (counted.append(a), real(*a)))
    store.put(noise(10))
    store.scope("user:ben").put(noise(20), owner="page/1")
    store.gc()
    store.scope("user:ben").release("page/1")
    clock.advance(days=3)
    store.gc()
    clock.advance(hours=30)
    store.gc()
    before = len(counted)
    for _ in range(5):
        clock.advance(seconds=60)
        store.gc()
    assert len(counted) == before > 0
    clock.advance(hours=2)
    store.gc()
    assert len(counted) == before + 1
