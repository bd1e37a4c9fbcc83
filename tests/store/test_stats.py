"""stats: the formulas of the interface on an example that was reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.store.listening import overheard
from tests.store.pictures import noise
from tests.store.surgery import change, problems

from calotype.figures import Stats


def test_an_empty_store_has_nothing_of_anything(store):
    assert store.stats() == Stats(0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0.0, 0, 0)


def test_the_example_that_was_reckoned_by_hand(store, clock):
    """Sizes 1000, 200, 30, 4 and 50000; what each comes to is said at its side."""
    ana = store.scope("user:ana")
    a, b, c, d = (noise(size, size) for size in (1000, 200, 30, 4))
    store.put(a)  # library: 1000
    store.put(a, owner="scan/1", role="x")  # reference: 1000
    store.put(a, owner="scan/1", role="y")  # reference: 1000
    ana.put(a, owner="scan/1")  # reference in another scope: 1000
    store.put(b, hold="1h")  # unexpired hold: 200
    ana.put(b)  # library: 200
    store.put(c, owner="scan/2")  # released: an orphan
    store.release("scan/2")
    store.put(d, hold="1m")  # expired: an orphan
    clock.advance(hours=0.5)

    stats = store.stats()
    assert stats.blobs == 4
    assert stats.bytes == 1000 + 200 + 30 + 4
    assert stats.assets == 6
    assert stats.references == 3
    assert (stats.orphaned, stats.orphaned_bytes) == (2, 34)
    assert stats.average_references == 3 / 4
    assert stats.logical_bytes == 4 * 1000 + 2 * 200
    assert stats.saved_bytes == 4400 - (1234 - 34)
    assert stats.saved_percent == pytest.approx(100 * 3200 / 4400)
    assert (stats.derived_blobs, stats.derived_bytes) == (0, 0)


def test_usage_is_each_scopes_own_part(store, clock):
    ana = store.scope("user:ana")
    store.put(noise(100, 1))
    ana.put(noise(100, 1), owner="scan/1")
    ana.put(noise(20, 2), owner="scan/2")
    ana.release("scan/2")
    mine, hers = store.usage(), ana.usage()
    assert (mine.assets, mine.bytes, mine.trashed, mine.references) == (1, 100, 0, 0)
    assert (hers.assets, hers.bytes, hers.trashed, hers.trashed_bytes) == (1, 100, 1, 20)
    assert (hers.references, hers.scope) == (1, "user:ana")


def test_a_store_of_orphans_saves_nothing(store):
    store.put(noise(100), owner="scan/1")
    store.release("scan/1")
    stats = store.stats()
    assert (stats.logical_bytes, stats.saved_bytes, stats.saved_percent) == (0, 0, 0)
    assert (stats.orphaned, stats.orphaned_bytes, stats.average_references) == (1, 100, 0)


def test_nothing_shared_saves_nothing(store):
    store.put(noise(100, 1))
    store.put(noise(200, 2), owner="scan/1")
    stats = store.stats()
    assert (stats.logical_bytes, stats.saved_bytes, stats.saved_percent) == (300, 0, 0.0)


def test_ten_uses_of_one_file_save_nine_tenths(store):
    for number in range(10):
        store.put(noise(100), owner=f"scan/{number}")
    stats = store.stats()
    assert (stats.logical_bytes, stats.saved_bytes) == (1000, 900)
    assert stats.saved_percent == pytest.approx(90)
    assert stats.average_references == 10


def test_what_an_application_keeps_is_no_orphan(shared):
    with shared.open() as store:
        digest = store.put(noise(100), owner="scan/1").digest
        store.release("scan/1")
        change(store, "CREATE TABLE t (image TEXT REFERENCES calotype_blob(digest))")
        change(store, f"INSERT INTO t VALUES ('{digest}')")
        assert store.stats().orphaned == 0


@pytest.mark.parametrize("target", ["calotype_blob(digest)", "calotype_asset(scope, digest)"])
def test_what_only_an_application_keeps_is_used_once(shared, target):
    """However many columns and rows keep it: nothing is lost by that, and nothing is saved."""
    with shared.open() as store:
        kept, twice, orphan = (store.put(noise(n, n), owner=f"scan/{n}") for n in (100, 20, 3))
        store.put(noise(20, 20))
        for table in ("t", "u"):
            key = "FOREIGN KEY (image) " if "blob" in target else "FOREIGN KEY (scope, image) "
            change(store, f"CREATE TABLE {table} (scope, image TEXT, {key} REFERENCES {target})")
            for put in (kept, kept, twice):
                change(store, f"INSERT INTO {table} VALUES ('default', '{put.digest}')")
        for owner in (100, 20, 3):
            store.release(f"scan/{owner}")
        stats = store.stats()
    assert orphan.digest not in (kept.digest, twice.digest)
    assert (stats.bytes, stats.orphaned_bytes, stats.references) == (123, 3, 0)
    assert (stats.logical_bytes, stats.saved_bytes, stats.saved_percent) == (120, 0, 0.0)


def test_what_gc_took_counts_no_more(store):
    store.put(noise(100), owner="scan/1")
    store.release("scan/1")
    store.gc(now=True)
    stats = store.stats()
    assert replace(stats, backends=()) == Stats(0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0.0, 0, 0)
    assert [(each.copies, each.bytes, each.lacking) for each in stats.backends] == [(0, 0, 0)]


def test_orphans_are_listed_one_by_one(store):
    blobs = [store.put(noise(100, n), owner=f"scan/{n}").blob for n in range(5)]
    for number in range(3):
        store.release(f"scan/{number}")
    assert [blob.digest for blob in store.orphans()] == sorted(b.digest for b in blobs[:3])


def test_an_output_that_someone_also_has_is_a_blob_like_any_other(store):
    source, output = store.put(noise(100, 1)).digest, store.put(noise(50, 2)).digest
    change(
        store,
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash,"
        f" state, output_digest) VALUES ('*', '{source}', 'r', '1', 'h', 'ready', '{output}')",
    )
    assert (store.stats().blobs, store.stats().derived_blobs) == (2, 0)
    change(store, f"DELETE FROM calotype_asset WHERE digest = '{output}'")
    stats = store.stats()
    assert (stats.blobs, stats.bytes, stats.derived_blobs, stats.derived_bytes) == (1, 100, 1, 50)
    assert stats.orphaned == 0


# -- what lies in each backend ------------------------------------------------------------------


def held(store):
    return {
        each.name: (each.role, each.copies, each.bytes, each.lacking, each.lacking_bytes)
        for each in store.stats().backends
    }


def test_each_backend_says_what_it_has_and_what_is_missing_there(store, tmp_path):
    store.put(noise(100, 1))
    store.put(noise(20, 2), owner="scan/1")
    store.backends.add("two", f"file:{tmp_path}/two")
    store.backends.add("three", f"file:{tmp_path}/three", role="read")
    store.put(noise(3, 3))
    assert held(store) == {
        "main": ("primary", 3, 123, 0, 0),
        "two": ("mirror", 1, 3, 2, 120),
        "three": ("read", 0, 0, 3, 123),
    }
    assert list(held(store)) == ["main", "two", "three"]
    store.backends.copy("two").result()
    store.backends.primary("two")
    assert list(store.stats().backends) == store.backends.list()
    assert held(store)["two"] == ("primary", 3, 123, 0, 0)


def test_a_copy_that_was_found_damaged_is_missing(store, tmp_path):
    store.put(noise(100, 1))
    digest = store.put(noise(20, 2)).digest
    store.backends.add("two", f"file:{tmp_path}/two")
    store.backends.copy("two").result()
    change(
        store,
        f"UPDATE calotype_replica SET suspect_at = 5 WHERE digest = '{digest}' AND backend = 'two'",
    )
    assert held(store)["two"] == ("mirror", 2, 120, 1, 20)
    [two] = [each for each in store.stats().backends if each.name == "two"]
    assert (two.suspect, two.coverage) == (1, 50.0)
    store.fsck(repair=True).result()
    assert held(store)["two"] == ("mirror", 2, 120, 0, 0)
    assert problems(store) == []


def test_more_backends_are_no_more_statements(memory, tmp_path):
    def asked() -> list[str]:
        with overheard(memory) as heard:
            memory.stats()
        return [sql for sql in heard if "calotype_replica" in sql]

    memory.put(noise(20, 2))
    one = asked()
    for name in ("two", "three", "four"):
        memory.backends.add(name, f"file:{tmp_path}/{name}")
    assert len(asked()) == len(one) == 1
    assert "calotype_blob" not in one[0]
