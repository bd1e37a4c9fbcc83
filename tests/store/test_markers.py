"""Whose bytes they are: dumps, clones, older catalogs and lost ones, on every backend."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import psycopg
import pytest
from tests import supabase_server
from tests.store.surgery import backend_of, change, content, findings, rows
from tests.store.worlds import BACKENDS, CATALOGS, World, bytes_of, marker, names, put_at

from calotype import Store, catalog, doctoring, mounting
from calotype.backends import INSIDE
from calotype.backends.markers import MARKER
from calotype.catalog import homes
from calotype.digest import Digest
from calotype.errors import Blocked, Corrupt, Denied, EraseLocked, Locked, Misconfigured, NotFound
from calotype.recovering import Recovery

FEW = [
    ("sqlite", "folder"),
    ("sqlite", "s3"),
    ("postgresql", "database"),
    ("postgresql", "supabase"),
]
ALL = [(catalog, kind) for catalog in CATALOGS for kind in BACKENDS]
CHOSEN = ALL if os.environ.get("CALOTYPE_MARKERS") == "full" else FEW


@pytest.fixture(params=CHOSEN, ids="-".join)
def world(request, monkeypatch, tmp_path, clock, s3_keys) -> Iterator[World]:
    monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", supabase_server.running().key)
    made = World(*request.param, tmp_path, clock)
    yield made
    made.close()


def body(number: int) -> bytes:
    return b"body %d " % number * 50


def filled(store: Store, count: int = 4) -> list[str]:
    return [store.put(body(n), owner=f"page/{n}").digest for n in range(count)]


def kinds(store: Store, **options) -> list[str]:
    return [each.kind for each in findings(store, **options)]


def test_staging_with_productions_dump_erases_nothing_there(world):
    with world.open() as store:
        filled(store)
        store.release("page/3")
        store.gc(now=True)
        before = marker(store)
    staging = world.open(world.staging(world.dump()))
    there = names(staging)
    assert len(there) == 3
    staging.release("page/0")
    with pytest.raises(EraseLocked, match="is a copy") as refused:
        staging.gc(now=True)
    assert "fsck --recover --adopt" in refused.value.hint
    assert kinds(staging) == ["locked", "orphan"]  # nothing was let go of either
    digest = staging.put(body(9)).digest  # puts and reads go on
    assert "~" in names(staging)[[digest in name for name in names(staging)].index(True)]
    with staging.open(digest) as file:
        assert file.read() == body(9)
    with pytest.raises(EraseLocked):
        staging.purge(staging.put(body(1)).digest)
    assert kinds(staging, recover=True)[0] == "locked"
    assert set(there) < set(names(staging))
    assert marker(staging) == before
    with world.open() as store:  # production does as before
        store.release("page/2")
        assert store.gc(now=True).erased == 1
        assert store.put(body(1)).status == "duplicate"
    with pytest.raises(EraseLocked, match="is a copy"):  # an older one by now, and still a copy
        staging.gc(now=True)
    assert "locked" in kinds(staging, recover=True)
    with world.open() as store:
        assert kinds(store, read_data=True) == ["stray"]  # what staging has put


@pytest.fixture(params=["rebuilt", "tables by hand", "no marker at first"])
def begun(request, world, monkeypatch) -> list[str]:
    """The digests of a store that did not begin as most do."""
    if request.param == "rebuilt":
        with world.open() as store:
            digests = filled(store)
        world.lose()
        world.open().fsck(rebuild=True).result()
    elif request.param == "tables by hand":
        store = world.open()
        if world.catalog == "postgresql":
            with psycopg.connect(world.production, autocommit=True) as raw:
                raw.execute(doctoring.script(store))
        else:
            store.create()
            change(store, "DELETE FROM calotype_meta WHERE key = 'home'")
        digests = filled(world.open())
    else:
        store = world.open()
        with monkeypatch.context() as patched:
            noted = type(backend_of(store)).write_note

            def refused(backend, name, *rest, **more):
                if name == MARKER:
                    raise Denied("The service takes no marker for a while.")
                return noted(backend, name, *rest, **more)

            patched.setattr(type(backend_of(store)), "write_note", refused)
            digests = filled(store)
    return digests


def test_staging_erases_nothing_however_production_began(world, begun):
    """Before production's first gc as well, which would have noted where it is at home."""
    staging = world.open(world.staging(world.dump()))
    for digest in begun:
        staging.discard(digest)
    for number in range(len(begun)):
        staging.release(f"page/{number}")
    with pytest.raises(EraseLocked, match="is a copy"):
        staging.gc(now=True, force=True)
    with world.open() as store:
        assert [content(store, digest) for digest in begun] == [body(n) for n in range(len(begun))]
        assert store.gc(now=True).erased == 0


def test_where_a_place_was_tried_nothing_is_left(world):
    with world.open() as store:
        store.create()
        assert [each.name for each in backend_of(store).scan("calotype-tried")] == []
        assert [each for each in world.root.glob("bytes/tmp/*") if each.is_file()] == []


def test_a_dump_that_was_made_during_a_rebuilding_is_a_copy(world):
    with world.open() as store:
        digests = filled(store)
    world.lose()
    run = world.open().fsck(rebuild=True)
    next(iter(run))
    run.close()
    dump = world.dump()
    world.open().fsck(rebuild=True).result()
    staging = world.open(world.staging(dump))
    for digest in staging.check(digests):
        with suppress(NotFound):
            staging.discard(digest)
    with pytest.raises(EraseLocked):
        staging.gc(now=True, force=True)
    with world.open() as store:
        assert [content(store, digest) for digest in digests] == [body(n) for n in range(4)]


def test_a_catalog_that_could_not_settle_does_so_with_the_next_put(in_file):
    with in_file.open() as store:
        store.create()
        change(store, "DELETE FROM calotype_meta WHERE key = 'home'")
    with in_file.open() as store:
        store._rooms.catalog.database._patience = 0.2
        with closing(sqlite3.connect(in_file.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Locked):
                store.put(body(1))
            other.execute("ROLLBACK")
        store.put(body(1))
        with store._rooms.catalog.read() as connection:
            assert homes.home(connection) == store._rooms.catalog.database.stand()


def test_staging_that_is_given_a_place_of_its_own_erases_there_and_nowhere_else(world):
    with world.open() as store:
        filled(store)
        before = names(store)
    catalog = world.staging(world.dump())
    staging = world.open(catalog)
    staging.backends.add("own", f"file:{world.root}/own")
    staging.backends.copy("own").result()
    staging.backends.primary("own")
    with pytest.raises(EraseLocked, match="is a copy") as refused:
        staging.backends.drop("main")
    assert "--abandon" in refused.value.hint
    assert staging.backends.drop("main", abandon=True).removed
    staging.release("page/0")
    assert staging.gc(now=True).erased == 1
    assert kinds(staging, read_data=True) == []
    again = world.staging(world.dump(catalog), "again")  # a copy of the copy has none of its own
    with Store(catalog=again, backend=f"file:{world.root}/own", clock=world.clock) as clone:
        clone.release("page/1")
        with pytest.raises(EraseLocked, match="is a copy"):
            clone.gc(now=True)
    with world.open() as store:
        assert names(store) == before
        assert kinds(store, read_data=True) == []
        store.release("page/3")
        assert store.gc(now=True).erased == 1


@contextmanager
def untold(tmp_path, clock, bytes_at="") -> Iterator[tuple[World, Store, Callable[[], None]]]:
    """A store whose user may not ask the server which it is, until the last is called."""
    world = World("postgresql", "folder", tmp_path, clock)
    world.bytes_at = bytes_at or world.bytes_at
    role = f"clerk_{os.urandom(4).hex()}"
    with psycopg.connect(world.production, autocommit=True) as raw:
        raw.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        raw.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}")
        store = world.open(world.production.replace("postgres@", f"{role}@"))
        granted = f"GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}"
        yield world, store, lambda: raw.execute(granted)
    world.close()


def test_a_server_that_does_not_say_which_it_is_locks_until_it_does(tmp_path, clock):
    with untold(tmp_path, clock) as (world, store, grant):
        filled(store)
        store.release("page/0")
        with pytest.raises(EraseLocked, match="which server") as refused:
            store.gc(now=True)
        assert "GRANT EXECUTE ON FUNCTION pg_control_system()" in refused.value.hint
        assert kinds(store, recover=True, adopt=True) == ["locked", "orphan"]
        clone = world.open(world.staging(world.dump()))  # by a user who may ask
        clone.release("page/1")
        with pytest.raises(EraseLocked, match="did not say where this catalog began"):
            clone.gc(now=True, force=True)
        grant()
        with pytest.raises(EraseLocked, match="may be a copy") as refused:
            store.gc(now=True)
        assert "fsck --recover --adopt" in refused.value.hint
        assert kinds(store, recover=True, adopt=True) == ["adopted"]
        store.release("page/2")
        assert store.gc(now=True).erased == 1  # a recovery keeps what it finds let go of
        assert kinds(store, read_data=True) == []
        with pytest.raises(EraseLocked, match="may be in use|may be a copy"):
            clone.gc(now=True, force=True)


def test_a_catalog_that_could_not_tell_is_a_copy_where_it_is_copied_to(tmp_path, clock):
    with untold(tmp_path, clock) as (world, store, _):
        filled(store)
        elsewhere = f"sqlite:///{tmp_path}/app.db"
        store.copy_catalog(elsewhere).result()
        copied = world.open(elsewhere)
        copied.release("page/0")
        with pytest.raises(EraseLocked, match="may be a copy"):  # as it would be of a dump
            copied.gc(now=True)
        assert kinds(copied, recover=True, adopt=True) == ["adopted"]
        copied.release("page/1")
        assert copied.gc(now=True).erased == 1


def test_bytes_in_the_catalogs_database_are_its_own_wherever_that_is(tmp_path, clock):
    with untold(tmp_path, clock, INSIDE) as (_, store, grant):
        filled(store)
        store.release("page/0")
        assert store.gc(now=True).erased == 1
        grant()
        store.release("page/1")
        assert store.gc(now=True).erased == 1
        with store._rooms.catalog.read() as connection:
            assert homes.home(connection) == store._rooms.catalog.database.stand()


@pytest.mark.parametrize("by", ["this process", "the next"])
def test_a_marker_that_could_not_be_written_is_written_with_a_later_put(
    tmp_path, clock, monkeypatch, by
):
    root = tmp_path / "shop"
    noted = root / "blobs" / MARKER

    def refused(*_, **__):
        raise Denied("The disk takes no marker for a while.")

    if by == "this process":
        monkeypatch.setattr(catalog, "SETTLE_AGAIN", 0)
    with Store(root, clock=clock) as store:
        with monkeypatch.context() as patched:
            patched.setattr(type(backend_of(store)), "write_note", refused)
            filled(store, 2)
        store.put(body(7))
        assert noted.exists() == (by == "this process")  # it is not tried with each put
    if by == "the next":
        with Store(root, clock=clock) as store:
            store.put(body(8))
        assert noted.exists()
    shutil.copytree(root, tmp_path / "copy")
    with Store(tmp_path / "copy", clock=clock) as copy:
        copy.release("page/1")
        assert copy.gc(now=True).erased == 1
    with Store(root, clock=clock) as store:
        assert rows(store, "SELECT value FROM calotype_meta WHERE key = 'unmarked'") == []


def test_no_thread_puts_before_the_catalog_is_at_home(in_file):
    with in_file.open() as store:
        store.create()
        change(store, "DELETE FROM calotype_meta WHERE key = 'home'")
    with in_file.open() as store:
        begun, may_end = threading.Event(), threading.Event()
        settle = store._rooms.catalog._settle

        def slowly(catalog):
            begun.set()
            assert may_end.wait(60)
            settle(catalog)

        store._rooms.catalog._settle = slowly
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(store.put, body(1))
            assert begun.wait(60)
            second = pool.submit(store.put, body(2))
            with pytest.raises(TimeoutError):
                second.result(0.5)
            may_end.set()
            assert {first.result(60).status, second.result(60).status} == {"created"}


def test_of_two_clones_the_one_that_adopts_has_the_bytes(world):
    with world.open() as store:
        filled(store)
    clone = world.open(world.staging(world.dump()))
    first = world.open()
    assert kinds(clone, recover=True, adopt=True) == []
    assert marker(clone).epoch == 2
    clone.release("page/0")
    assert clone.gc(now=True).erased == 1
    first.release("page/1")
    with pytest.raises(EraseLocked, match="taken it over"):
        first.gc(now=True)
    assert len(names(first)) == 3
    assert set(kinds(first, recover=True)) >= {"locked"}
    assert "locked" not in kinds(first, recover=True, adopt=True)
    first.release("page/2")
    assert first.gc(now=True).erased == 1
    with pytest.raises(EraseLocked):
        clone.gc(now=True)


def test_bytes_are_not_taken_over_while_their_catalog_erases(world, monkeypatch):
    with world.open() as store:
        filled(store)
        store.release("page/0")
        store.gc(now=True)
    clone = world.open(world.staging(world.dump()))
    production = world.open()
    production.release("page/1")
    begin = Recovery._begin

    def meanwhile(recovery, found):
        begin(recovery, found)
        assert production.gc(now=True).erased == 1

    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "_begin", meanwhile)
        told = findings(clone, recover=True, adopt=True)
    refused = next(each.note for each in told if each.kind == "unreachable")
    assert refused.startswith("Another catalog writes the marker")
    assert marker(production).epoch == 1
    assert kinds(clone, recover=True, adopt=True) == ["missing"]  # page/1's
    assert marker(clone).epoch > 1


def test_an_older_catalog_locks_by_itself_until_it_is_recovered(world, clock):
    with world.open() as store:
        gone, late, *_ = filled(store)
    dump = world.dump()
    with world.open() as store:
        store.release("page/0")
        store.release("page/1")
        assert store.gc(now=True).erased == 2
        young = store.put(body(7), owner="page/7").digest
        store.release("page/7")
        kept = store.put(body(8)).digest
    world.load(dump)
    store = world.open()
    store.release("page/2")
    with pytest.raises(EraseLocked, match="older than the bytes") as refused:
        store.gc(now=True)
    assert "fsck --recover" in refused.value.hint
    assert store.put(body(0)).status == "healed"  # never at its plain key again
    assert len([each for each in names(store) if gone in each]) == 1
    assert all("~" in each for each in names(store) if gone in each)
    key = put_at(store, late, body(1))  # written late, or deleted late
    clock.advance(seconds=1)
    told = [each.kind for each in store.fsck(recover=True, dry_run=True)]
    assert told.count("adopted") == 4
    assert "locked" in told
    found = list(store.fsck(recover=True))
    assert sorted(each.kind for each in found) == ["adopted"] * 4
    actions = {str(each.digest): each.action for each in found}
    assert actions[young] == actions[kept] == "kept in scope default"
    assert actions[late] == "its blob has it again"
    bytes_of(store).delete(key)  # the late delete of a key that was erased
    assert store.gc(now=True).erased >= 1
    assert kinds(store, read_data=True) == []
    for digest, held in ((late, body(1)), (young, body(7)), (kept, body(8))):
        assert content(store, digest) == held
    assert marker(store).epoch == 2


@pytest.mark.parametrize("who", ["itself", "another"])
def test_who_stays_up_while_a_catalog_is_put_back_answers_for_no_lost_bytes(
    tmp_path, clock, monkeypatch, s3_keys, who
):
    world = World("postgresql", "s3", tmp_path, clock)
    with world.open() as store:
        filled(store)
    dump = world.dump()
    if who == "another":  # which takes a while to be noticed
        monkeypatch.setattr(mounting, "BELIEVED", 0.0)
    with (
        Store(catalog=world.production, backend=world.bytes_at, clock=clock) as store,
        Store(catalog=world.production, backend=world.bytes_at, clock=clock) as other,
    ):
        assert store.put(body(1)).status == "duplicate"
        eraser = store if who == "itself" else other
        eraser.release("page/0")
        assert eraser.gc(now=True, force=True).erased == 1
        world.load(dump)
        assert store.put(body(0), owner="page/9").status == "healed"
        assert content(store, digest_of(body(0))) == body(0)


def test_a_catalog_that_goes_back_while_gc_makes_its_notes_erases_nothing(world, monkeypatch):
    """The marker says that it came so far, and the next one looks at both anew."""
    with world.open() as store:
        digests = filled(store)
        store.release("page/0")
        store.gc(now=True)
        store.release("page/1")
        backend = backend_of(store)
        noted = backend.write_note

        def put_back(name, *rest, **more):
            if name == MARKER:
                change(store, "UPDATE calotype_backend SET erase_seq = 1")
            return noted(name, *rest, **more)

        before = names(store)
        with monkeypatch.context() as patched:
            patched.setattr(backend, "write_note", put_back)
            with pytest.raises(EraseLocked, match="was put back"):
                store.gc(now=True)
        assert names(store) == before
        assert content(store, digests[2]) == body(2)


def test_a_lost_catalog_is_built_again_from_the_bytes(world):
    with world.open() as store:
        digests = filled(store)
        store.scope("user:ana").put(body(20), filename="a.txt")
        store.release("page/0")
        store.gc(now=True)
        store.purge(digests[1])
        before = marker(store)
    world.lose()
    store = world.open()
    with pytest.raises(Corrupt, match="is lost or empty") as refused:
        store.put(body(5))
    assert "fsck --rebuild" in refused.value.hint
    assert ("-wal" in refused.value.hint) is store._rooms.catalog.is_sqlite
    put_at(store, digests[1], body(1))  # purged, and brought back from somewhere
    assert [each.kind for each in store.fsck(rebuild=True, dry_run=True)] == ["adopted"] * 3
    found = list(store.fsck(rebuild=True))
    assert [each.kind for each in found] == ["adopted"] * 4 + ["stray"]
    assert "owners and scopes are lost" in found[3].note
    assert {asset.digest for asset in store.assets()} == {*digests[2:], digest_of(body(20))}
    assert all(asset.kept == "library" for asset in store.assets())
    with pytest.raises(Blocked):
        store.put(body(1))
    after = marker(store)
    assert (after.store, after.epoch) == (before.store, before.epoch + 1)
    assert store.put(body(0)).status == "created"
    assert all("~" in each for each in names(store) if digest_of(body(0)) in each)
    assert kinds(store, read_data=True) == ["stray"]
    with pytest.raises(Misconfigured, match="There is a catalog"):
        list(store.fsck(rebuild=True))


def digest_of(content: bytes) -> str:
    return str(Digest.of(content))
