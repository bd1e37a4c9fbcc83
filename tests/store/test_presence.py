"""A folder that is not there for a time, and what is left when rows, logs or keys are lost."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from tests.store.pictures import picture
from tests.store.surgery import change, content, objects, problems

from calotype import Store
from calotype.errors import Corrupt, Unavailable


def test_a_folder_that_vanished_is_not_taken_for_an_empty_one(durable, clock):
    """A disk that is not mounted: nothing is marked, made anew or thought erased."""
    away = durable.blobs.with_name("away")
    with durable.open() as store:
        kept = store.put(picture()).digest
        store.put(picture(1), owner="scan/1")
        store.release("scan/1")
        durable.blobs.rename(away)
        durable.blobs.mkdir()  # the mount point
        for verb in (
            lambda: store.put(picture()),
            lambda: store.put(picture(2)),
            lambda: store.open(kept),
            lambda: store.gc(now=True),
            lambda: store.fsck(repair=True).result(),
        ):
            with pytest.raises(Unavailable, match="no object"):
                verb()
        shutil.rmtree(durable.blobs)
        away.rename(durable.blobs)
        assert content(store, kept) == picture()
        assert not store.explain(kept).replicas[0].suspect
        clock.advance(days=2)
        store.gc(now=True)
        assert len(objects(store)) == 1
        assert problems(store) == []


def test_a_folder_that_was_emptied_for_good_is_filled_again(durable):
    with durable.open() as store:
        store.put(picture())
        shutil.rmtree(durable.blobs)
        (durable.blobs / "sha256").mkdir(parents=True)
        assert store.fsck().result().problems == 1
        assert store.put(picture()).status == "healed"
        assert problems(store) == []


def test_the_last_bytes_of_a_blob_are_not_erased_for_want_of_a_row(durable, clock):
    with durable.open() as store:
        digest = store.put(picture()).digest
        change(store, "DELETE FROM calotype_replica")
        stray = next(each for each in store.fsck(repair=True) if each.kind == "stray")
        assert "put this file again" in stray.note and "sound copy" in stray.action
        clock.advance(days=31)
        store.gc(now=True)
        (left,) = objects(store)
        store.put(durable.blobs / left)
        assert content(store, digest) == picture()
        assert problems(store) == []


def test_bytes_that_a_clock_ahead_verified_are_read_again(durable, clock):
    with durable.open() as store:
        clock.advance(days=365)
        digest = store.put(b"as it was").digest
        clock.advance(days=-365)
        (name,) = objects(store)
        file = durable.blobs / name
        file.chmod(0o600)
        file.write_bytes(b"AS it was")
        done = store.fsck(read_data=True).result()
        assert (done.read_bytes, done.problems) == (9, 1)
        assert store.explain(digest).replicas[0].suspect


def test_a_log_that_was_left_is_not_replayed_into_a_new_catalog(folder):
    wal = folder.database.with_name("catalog.db-wal")
    with folder.open() as store:
        store.put(picture())
        log = wal.read_bytes()
    assert log
    folder.database.unlink()
    shutil.rmtree(folder.blobs)
    wal.write_bytes(log)
    with folder.open() as store:
        new = store.put(picture(1)).digest
        assert [asset.digest for asset in store.assets()] == [new]
        assert problems(store) == []


def test_what_purge_could_not_erase_is_told_and_erased_by_the_next_one(folder, monkeypatch):
    with folder.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        with monkeypatch.context() as patched:
            patched.setattr(type(store._rooms.mounts.primary.backend), "delete", fails)
            assert store.purge(digest).failed == 1
        assert len(objects(store)) == 1
        assert store.purge(digest).failed == 0
        assert not objects(store)


def test_closing_beside_work_that_goes_on_spoils_nothing(folder):
    with folder.open() as store:
        stop = threading.Event()
        failed: list[BaseException] = []

        def work(number: int) -> None:
            count = 0
            while not stop.is_set():
                try:
                    store.put(b"%d %d" % (number, count), owner=f"scan/{number}")
                except BaseException as error:
                    failed.append(error)
                    return
                count += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for each in threads:
            each.start()
        for _ in range(200):
            store.close()
        stop.set()
        for each in threads:
            each.join()
        assert failed == []
        assert problems(store) == []


def test_a_store_in_memory_outlives_its_closing(clock):
    store = Store.memory(clock=clock)
    digest = store.put(picture()).digest
    store.close()
    assert content(store, digest) == picture()


@pytest.mark.parametrize("what", ["INDEX calotype_replica_live", "TABLE calotype_usage"])
def test_what_the_schema_lost_is_found_and_made_again(durable, what):
    with durable.open() as store:
        store.put(picture())
        change(store, f"DROP {what}")
        (found,) = [each for each in store.fsck() if each.is_problem]
        assert what.lower() in found.note
        store.fsck(repair=True).result()
        assert problems(store) == []
        assert store.gc(now=True).failed == 0


def test_lost_signing_keys_are_told(durable):
    with durable.open(public_url="https://media.example.com") as store:
        digest = store.put(picture()).digest
        change(store, "DELETE FROM calotype_signing_key")
        with pytest.raises(Corrupt, match="lost the keys"):
            store.url(digest)
        store.rotate_url_key()
        assert store.verify_url(store.url(digest)).digest == digest


def test_columns_of_a_transaction_that_was_rolled_back_are_forgotten(shared, clock):
    with shared.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        with closing(sqlite3.connect(shared.database, isolation_level=None)) as raw:
            raw.execute("PRAGMA foreign_keys=ON")
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("CREATE TABLE tmp1 (h TEXT REFERENCES calotype_blob (digest))")
            store.restore(digest, connection=raw)
            raw.execute("ROLLBACK")
            raw.execute("CREATE TABLE res (h TEXT REFERENCES calotype_blob (digest))")
            raw.execute("INSERT INTO res VALUES (?)", (digest,))
        store.release("scan/1")
        assert not store.stat(digest).trashed
        assert store.gc(now=True).doomed == 0


def test_a_raw_connection_joins_beside_columns_that_nobody_looked_up_yet(shared):
    with shared.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        store.release("scan/1")
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute("CREATE TABLE res (h TEXT REFERENCES calotype_blob (digest))")
        raw.commit()
        raw.execute("PRAGMA foreign_keys=ON")
        with shared.open() as store:
            store.restore(digest, connection=raw)
            raw.commit()
            assert store.stat(digest).kept == "library"


def test_tables_of_the_applications_may_begin_as_ours_do(shared):
    with shared.open() as store:
        store.put(picture())
        with closing(sqlite3.connect(shared.database)) as raw:
            raw.execute("CREATE TABLE calotype_tags (id INTEGER PRIMARY KEY)")
            raw.execute("CREATE TABLE tagged (tag REFERENCES calotype_tags)")
            raw.commit()
        assert store.put(picture()).status == "duplicate"
        assert store.gc(now=True).doomed == 0


def test_explain_says_when_gc_looks_again_at_what_a_column_had_kept(shared, clock):
    with shared.open() as store:
        digest = store.put(picture(), hold=0).digest
        with closing(sqlite3.connect(shared.database, isolation_level=None)) as raw:
            raw.execute("CREATE TABLE page2 (d TEXT REFERENCES calotype_blob (digest))")
            raw.execute("INSERT INTO page2 VALUES (?)", (digest,))
            for _ in range(8):  # each look that finds it kept by a column puts the next one off
                clock.advance(days=2)
                assert store.gc(now=True).doomed == 0
            raw.execute("DELETE FROM page2")
        assert "--full" in store.explain(digest).sentence
        assert store.gc(now=True).doomed == 0
        assert store.gc(now=True, full=True).doomed == 1


@pytest.mark.parametrize("suspect", [True, False])
def test_no_bytes_of_a_blob_are_erased_while_its_own_copy_is_bad(durable, clock, suspect):
    """Whether the copy is gone when the stray is found, or goes afterwards."""
    with durable.open() as store:
        digest = store.put(picture()).digest
        (name,) = objects(store)
        copy = durable.blobs / name
        spare = copy.with_name(f"{digest}~{'0' * 16}{copy.suffix}")
        spare.write_bytes(picture())
        if suspect:
            copy.unlink()
            store.fsck().result()
        store.fsck(repair=True).result()
        copy.unlink(missing_ok=True)
        store.fsck().result()
        clock.advance(days=31)
        store.put(b"other", owner="scan/2")
        store.release("scan/2")
        assert store.gc(now=True, limit=1).erased == 1  # what is kept back uses up no limit
        assert spare.exists()
        assert store.put(spare).status == "healed"
        clock.advance(days=31)
        store.gc(now=True)
        assert content(store, digest) == picture()


def test_what_is_missing_is_marked_before_bytes_without_a_row_get_their_end(durable):
    """Else an fsck that dies in between leaves the last bytes to gc, and nobody knows."""
    with durable.open() as store:
        digest = store.put(picture()).digest
        (name,) = objects(store)
        copy = durable.blobs / name
        copy.rename(copy.with_name(f"{digest}~{'0' * 16}{copy.suffix}"))
        assert [finding.kind for finding in store.fsck(repair=True)] == ["missing", "stray"]


def test_what_lies_on_a_disk_that_is_away_is_not_thought_erased(durable):
    away = durable.blobs.with_name("away")
    with durable.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        store.release("scan/1")
        durable.blobs.rename(away)
        for verb in (lambda: store.gc(now=True), lambda: store.purge(digest)):
            with pytest.raises(Unavailable, match="nothing was changed"):
                verb()
        assert store.restore(owner="scan/1").references == 1
        store.release("scan/1")
        away.rename(durable.blobs)
        store.gc(grace=0, erase_delay="1h")
        durable.blobs.rename(away)
        for verb in (
            lambda: store.gc(now=True),
            lambda: store.put(picture(1)),
            lambda: store.purge(digest),
            lambda: store.fsck().result(),
        ):
            with pytest.raises(Unavailable, match="nothing was changed"):
                verb()
        away.rename(durable.blobs)
        assert store.gc(now=True).erased == 1
        assert not objects(store)


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_stray_is_kept_where_the_live_bytes_turn_out_to_be_bad(durable, clock, harm):
    """Nobody has looked at them since: the very gc that would erase the stray does."""
    with durable.open() as store:
        digest = store.put(picture()).digest
        (name,) = objects(store)
        copy = durable.blobs / name
        spare = copy.with_name(f"{digest}~{'0' * 16}{copy.suffix}")
        spare.write_bytes(picture())
        store.fsck(repair=True).result()
        copy.unlink()
        if harm == "damaged":
            copy.write_bytes(bytes(len(picture())))
        clock.advance(days=31)
        assert store.gc(now=True).erased == 0
        assert spare.exists()
        assert store.put(spare).status == "healed"
        assert store.gc(now=True).erased == 2
        assert content(store, digest) == picture()


def test_closing_a_store_whose_catalog_was_lost_is_no_error(folder):
    with folder.open() as store:
        content(store, store.put(picture()).digest)
        folder.database.unlink()
    with folder.open() as store, pytest.raises(Corrupt, match="lost or empty"):
        store.stats()


def test_a_catalog_that_was_moved_is_moved_back_with_all_its_commits(folder):
    """What the error says must not cost what is in the log alone."""
    crashed = folder.open()
    digest = crashed.put(picture(), owner="scan/1").digest
    folder.database.rename(moved := folder.database.with_name("moved.db"))
    with folder.open() as store, pytest.raises(Corrupt) as caught:
        store.stats()
    assert "move it back" in caught.value.hint
    moved.rename(folder.database)
    with folder.open() as store:
        assert content(store, digest) == picture()
    crashed.close()


def test_what_a_store_in_memory_gave_out_keeps_it():
    def filled() -> Store:
        store = Store.memory()
        store.put(picture())
        store.put(b"gone", owner="scan/1")
        store.release("scan/1")
        return store

    assert len(list(filled().assets())) == 1
    assert filled().fsck().result().blobs == 2
    assert filled().plan_gc(now=True).execute().doomed == 1


@pytest.mark.parametrize("table", ["asset", "reference", "replica", "scope", "blocked"])
def test_a_table_that_says_what_is_kept_is_never_made_anew(in_file, clock, table):
    with in_file.open() as store:
        store.put(picture(), owner="scan/1")
        with closing(sqlite3.connect(in_file.database)) as raw:
            raw.execute("PRAGMA foreign_keys=OFF")
            raw.execute(f"DROP TABLE calotype_{table}")
            raw.commit()
        for repair in (False, True):
            run = store.fsck(repair=repair)
            notes = [finding.note for finding in run]
            assert any(f"calotype_{table} is lost" in note for note in notes)
            assert run.result().problems and not run.result().complete
        assert len(objects(store)) == 1


def test_closing_twice_at_once_is_harmless(folder):
    with folder.open() as store:
        failed: list[BaseException] = []

        def close() -> None:
            try:
                for _ in range(300):
                    store.stats()
                    store.close()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=close) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert failed == []


def test_a_scope_outlives_the_name_of_its_store(clock):
    ana = Store.memory(clock=clock).scope("ana")
    gc.collect()
    digest = ana.put(picture()).digest
    assert ana.stat(digest).scope == "ana"


def test_a_plan_shows_no_more_than_its_limit_lets_go_of(folder):
    with folder.open() as store:
        for number in range(3):
            store.put(picture(number), owner=f"scan/{number}")
            store.release(f"scan/{number}")
        store.gc(grace=0, erase_delay="1h")
        assert store.plan_gc(now=True, limit=1).erased == 1


def test_sources_in_memory_are_not_heaped_up(memory):
    taken = []

    def sources():
        for number in range(40):
            taken.append(number)
            yield bytes([number]) * (4 << 20)

    run = memory.put_many(sources())
    next(iter(run))
    assert len(taken) < 16


def fails(*_: object) -> None:
    raise Unavailable("The disk failed.")
