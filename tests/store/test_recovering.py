"""Recovering while others go on: gc, other copies of the catalog, late deletes, disks that are away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.store.pictures import noise
from tests.store.surgery import backend_of, content, objects
from tests.store.test_markers import body, digest_of, kinds
from tests.store.worlds import erases, gone_back, put_at, put_back, save

from calotype import Store, blocking, recovering
from calotype.backends import Key
from calotype.backends.local import LocalBackend
from calotype.backends.markers import MARKER
from calotype.catalog import intents
from calotype.errors import Blocked, EraseLocked, Unavailable
from calotype.gc import erasing, plans
from calotype.readopting import Readopter

FILE = digest_of(body(0))
"""Of the file that has to be readable in the end."""


def clone(shop: Store, root: Path, clock) -> Store:
    """A copy of the catalog beside the same bytes."""
    shop.close()
    (root / "clone").mkdir()
    shutil.copy(root / "shop/catalog.db", root / "clone/catalog.db")
    (root / "clone/blobs").symlink_to(root / "shop/blobs")
    return Store(root / "clone", clock=clock)


def unblocked_since(store: Store) -> None:
    """The file is put again, and another one erased."""
    assert store.unblock(FILE)
    assert store.put(body(0), owner="page/9").status == "created"
    assert erases(store, "page/1") == 1


def killed(store: Store, monkeypatch, **options) -> None:
    """A recovery that ends before it is finished."""

    class Killed(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(recovering.Recovery, "_kept", dies)
        list(store.fsck(recover=True, **options))


# -- a catalog that is put back under a gc


def test_gc_lets_nothing_go_in_a_catalog_that_is_put_back_under_it(
    shop, tmp_path, clock, monkeypatch
):
    shop.release("page/0")
    save(shop, tmp_path)
    with Store(tmp_path / "shop", clock=clock) as store:
        assert store.put(body(0), owner="page/9").status == "restored"
        assert erases(store, "page/1") == 1
        plan, behind = store.plan_gc(now=True), plans.behind

        def looked(*given):
            found = behind(*given)
            store.close()
            put_back(tmp_path)
            return found

        monkeypatch.setattr(plans, "behind", looked)
        with pytest.raises(EraseLocked, match="was put back"):
            plan.execute(force=True)
        monkeypatch.undo()
        assert "adopted" in kinds(store, recover=True)
        store.gc(now=True)
        assert content(store, FILE) == body(0)


def test_gc_tells_no_backend_of_the_blocks_of_a_catalog_that_is_put_back_under_it(
    shop, tmp_path, clock, monkeypatch
):
    """A recovery would believe the note, and not what was unblocked and put since."""
    shop.purge(FILE)
    save(shop, tmp_path)
    with Store(tmp_path / "shop", clock=clock) as store:
        unblocked_since(store)
        claim = erasing.claim

        def claimed(*given):
            found = claim(*given)
            store.close()
            put_back(tmp_path)
            return found

        monkeypatch.setattr(erasing, "claim", claimed)
        with pytest.raises(EraseLocked, match="older than the bytes"):
            store.gc(now=True)
        monkeypatch.undo()
        assert "adopted" in kinds(store, recover=True)
        assert content(store, FILE) == body(0)


# -- what could not be kept


def test_what_was_unblocked_and_put_since_waits_for_a_disk_that_does_not_answer(
    shop, tmp_path, clock, monkeypatch
):
    opened = LocalBackend.open

    def away(backend, key, *more):
        if str(key.digest) == FILE:
            raise Unavailable("The disk does not answer.", hint="Wait.")
        return opened(backend, key, *more)

    shop.purge(FILE)
    with gone_back(shop, tmp_path, clock, unblocked_since) as store:
        with monkeypatch.context() as patched:
            patched.setattr(LocalBackend, "open", away)
            assert "unreachable" in kinds(store, recover=True)
        assert "adopted" in kinds(store, recover=True)
        assert content(store, FILE) == body(0)


def test_a_recovery_without_room_locks_also_where_the_marker_is_gone(
    shop, tmp_path, clock, monkeypatch
):
    """Nothing was erased there yet, so nothing but the recovery tells that it has to be locked."""

    def since(store: Store) -> None:
        assert store.put(body(0), owner="page/9").status == "restored"
        backend_of(store).delete_note(MARKER)

    def full(*given):
        raise Unavailable("There is no room.", hint="Make some.")

    shop.release("page/0")
    with gone_back(shop, tmp_path, clock, since) as store:
        with monkeypatch.context() as patched:
            patched.setattr(recovering, "keep", full)
            assert kinds(store, recover=True)[:2] == ["unreachable", "locked"]
        with pytest.raises(EraseLocked, match="not finished"):
            store.gc(now=True)
        assert kinds(store, recover=True) == ["adopted"]
        store.gc(now=True)
        assert content(store, FILE) == body(0)


def test_a_recovery_whose_copy_was_taken_for_an_abandoned_one_is_not_finished(
    shop, tmp_path, clock, monkeypatch
):
    """What lies at a key that may still be deleted is copied, and the delete lands at last."""
    held, copied, delete = [], Readopter._copied, LocalBackend.delete

    def since(store: Store) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(LocalBackend, "delete", lambda *given: held.append(given))
            erases(store)
        assert len(held) == 1

    def fenced_off(readopter, candidate):
        made = copied(readopter, candidate)
        clock.advance(days=2)
        with readopter.catalog.write() as connection:
            intents.abort(connection, [made.intent.token], clock())
        return made

    with gone_back(shop, tmp_path, clock, since) as store:
        with monkeypatch.context() as patched:
            patched.setattr(Readopter, "_copied", fenced_off)
            assert kinds(store, recover=True)[:2] == ["unreachable", "locked"]
        with pytest.raises(EraseLocked, match="not finished"):
            store.gc(now=True)
        assert kinds(store, recover=True) == ["adopted"]
        delete(*held[0])
        store.gc(now=True)
        assert content(store, FILE) == body(0)


# -- others at the same time


def test_what_was_put_since_and_by_another_during_the_recovery_is_kept_for_both(
    shop, tmp_path, clock, monkeypatch
):
    digest, read = digest_of(noise(9)), Readopter._read

    def put_meanwhile(readopter, candidate):
        done = read(readopter, candidate)
        with Store(tmp_path / "shop", clock=clock) as other:
            assert other.put(noise(9), owner="page/8").status == "created"
        return done

    with gone_back(
        shop, tmp_path, clock, lambda store: store.put(noise(9), owner="page/9")
    ) as store:
        with monkeypatch.context() as patched:
            patched.setattr(Readopter, "_read", put_meanwhile)
            assert "adopted" in kinds(store, recover=True)
        erases(store, "page/8")
        assert content(store, digest) == noise(9)


def test_a_digest_stays_blocked_where_its_note_could_not_be_removed(shop, monkeypatch):
    """Another process's gc tells the backend once more; a recovery would purge what is put then."""
    deleted, deletes = LocalBackend.delete_note, []

    def delete_note(backend, name):
        deletes.append(name)
        if len(deletes) > 1:
            raise Unavailable("The disk does not answer.", hint="Wait.")
        deleted(backend, name)
        shop.gc(now=True)

    shop.purge(FILE)
    with monkeypatch.context() as patched:
        patched.setattr(LocalBackend, "delete_note", delete_note)
        with pytest.raises(Unavailable):
            shop.unblock(FILE)
    with pytest.raises(Blocked):
        shop.put(body(0))
    assert shop.unblock(FILE)
    assert shop.put(body(0), owner="page/9").status == "created"
    assert "adopted" not in kinds(shop, recover=True)
    assert content(shop, FILE) == body(0)


def test_a_recovery_that_another_copy_has_taken_over_from_tells_of_no_block(
    shop, tmp_path, clock, monkeypatch
):
    """The copy is from before the file was unblocked; production goes on with it."""
    make_up = blocking.make_up
    shop.purge(FILE)
    other = clone(shop, tmp_path, clock)
    assert shop.unblock(FILE)

    def stalled(*given) -> None:
        monkeypatch.undo()
        kinds(shop, recover=True, adopt=True)
        assert shop.put(body(0), owner="page/9").status == "created"
        make_up(*given)

    monkeypatch.setattr(blocking, "make_up", stalled)
    with other:
        assert kinds(other, recover=True, adopt=True)[:2] == ["unreachable", "locked"]
    assert "adopted" not in kinds(shop, recover=True)
    assert content(shop, FILE) == body(0)


def test_what_a_copy_has_wanted_is_kept_by_production_that_had_let_go_of_it(shop, tmp_path, clock):
    shop.release("page/0")
    other = clone(shop, tmp_path, clock)
    assert shop.gc(grace=0, erase_delay="1d").doomed == 1
    with other:
        kinds(other, recover=True, adopt=True)
        assert other.put(body(0), owner="page/9").status == "duplicate"
    assert kinds(shop, recover=True, adopt=True) == ["adopted"]
    assert shop.gc(now=True).erased == 1
    assert content(shop, FILE) == body(0)


def test_an_adoption_that_was_killed_keeps_as_much_when_it_goes_on(
    shop, tmp_path, clock, monkeypatch
):
    shop.release("page/0")
    other = clone(shop, tmp_path, clock)
    assert shop.gc(grace=0, erase_delay="1d").doomed == 1
    with other:
        kinds(other, recover=True, adopt=True)
        assert other.put(body(0), owner="page/9").status == "duplicate"
    killed(shop, monkeypatch, adopt=True)
    assert "adopted" in kinds(shop, recover=True)
    shop.gc(now=True)
    assert content(shop, FILE) == body(0)


def test_what_is_purged_while_a_recovery_is_not_finished_stays_away(shop, monkeypatch):
    erases(shop, "page/1")
    backend_of(shop).delete_note(MARKER)
    killed(shop, monkeypatch)
    with pytest.raises(EraseLocked):
        shop.purge(FILE, block=False)
    assert "adopted" not in kinds(shop, recover=True)
    shop.gc(now=True)
    assert [name for name in objects(shop) if FILE in name] == []


def test_what_is_purged_before_an_adoption_stays_away(shop, tmp_path, clock):
    with clone(shop, tmp_path, clock) as other:
        kinds(other, recover=True, adopt=True)
    with pytest.raises(EraseLocked):
        shop.purge(FILE, block=False)
    assert "adopted" not in kinds(shop, recover=True, adopt=True)
    shop.gc(now=True)
    assert [name for name in objects(shop) if FILE in name] == []


def test_what_was_purged_after_repair_had_found_it_stays_away(shop, clock):
    """It had no row: neither repair's own end for it nor a copy brings it back."""
    put_at(shop, digest_of(body(7)), body(7))
    assert "stray" in kinds(shop, repair=True)
    assert shop.purge(digest_of(body(7)), block=False).failed == 0
    assert "adopted" not in kinds(shop, recover=True)
    assert [name for name in objects(shop) if digest_of(body(7)) in name] == []


def test_what_was_purged_is_erased_though_a_later_copy_of_it_is_damaged(shop):
    erases(shop, "page/1")
    marker = backend_of(shop).read_note(MARKER)
    backend_of(shop).delete_note(MARKER)
    [first] = [name for name in objects(shop) if FILE in name]
    with pytest.raises(EraseLocked):
        shop.purge(FILE, block=False)
    backend_of(shop).write_note(MARKER, marker)
    assert shop.put(body(0), owner="page/9").status == "created"
    [again] = [name for name in objects(shop) if FILE in name and name != first]
    backend_of(shop).delete(Key.parse(again))
    kinds(shop)
    shop.gc(now=True)
    assert first not in objects(shop)
