"""Which catalog bytes belong to: what is moved, copied, marked, locked and unlocked again."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from sqlalchemy import NullPool, QueuePool, StaticPool, create_engine
from tests import invariants
from tests.store.pictures import noise, picture
from tests.store.surgery import backend_of, change, content, findings, objects, problems, rows
from tests.store.test_markers import body, digest_of, filled, kinds
from tests.store.worlds import erases, gone_back, marker, notes, put_at, put_back, save

from calotype import Store, belonging, publishing
from calotype.backends import Key, Stand
from calotype.backends.local import LocalBackend
from calotype.backends.markers import (
    BLOCKED,
    ERASED,
    MARKER,
    Marker,
    blocked_digest,
    erased_keys,
    erased_seq,
    is_note,
)
from calotype.catalog import Catalog
from calotype.digest import Digest
from calotype.doctoring import examine
from calotype.errors import Blocked, Corrupt, EraseLocked, Misconfigured, Unavailable
from calotype.gc.announcing import KEPT
from calotype.gc.erasing import Eraser
from calotype.recovering import Recovery

# -- what a marker says


def test_a_store_is_marked_when_it_is_made_and_raised_when_it_erases(shop):
    made = marker(shop)
    [(name, epoch, seq, generation)] = rows(
        shop, "SELECT name, epoch, erase_seq, generation FROM calotype_backend"
    )
    assert (name, made.epoch, made.erase_seq, made.generation) == ("main", epoch, seq, generation)
    assert made.store == rows(shop, "SELECT value FROM calotype_meta WHERE key='store_id'")[0][0]
    gone = list(objects(shop))
    assert erases(shop) == 1
    assert marker(shop).erase_seq == 1
    [note] = notes(shop, ERASED)
    assert erased_seq(note) == 1
    [key] = erased_keys(note, backend_of(shop).read_note(note))
    assert {str(key)} == set(gone) - set(objects(shop))
    assert kinds(shop) == []


def test_notes_of_batches_are_pruned_but_never_the_last(shop, clock):
    for number in range(3):
        assert erases(shop, f"page/{number}") == 1
    assert [erased_seq(name) for name in notes(shop, ERASED)] == [1, 2, 3]
    clock.advance(seconds=KEPT / 1_000_000 + 3600)
    shop.gc(now=True)
    assert [erased_seq(name) for name in notes(shop, ERASED)] == [3]
    assert erases(shop, "page/3") == 1
    assert kinds(shop) == []


def test_a_marker_of_a_later_version_is_not_understood(shop, tmp_path):
    file = tmp_path / "shop/blobs" / MARKER
    file.chmod(0o600)
    file.write_text('{"format": 2}')
    shop.release("page/0")
    with pytest.raises(Corrupt, match="later version"):
        shop.gc(now=True)
    assert shop.put(picture()).status == "created"
    assert len(objects(shop)) == 5
    assert file.read_text() == '{"format": 2}'


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1, "store": "x"}', "\0", "[" * 9999])
def test_a_damaged_marker_locks_until_it_is_recovered(shop, tmp_path, text):
    file = tmp_path / "shop/blobs" / MARKER
    file.chmod(0o600)
    file.write_text(text)
    with pytest.raises(EraseLocked, match="damaged"):
        erases(shop)
    assert kinds(shop) == ["locked", "orphan"]
    assert kinds(shop, recover=True) == ["adopted"]
    assert erases(shop, "page/1") == 1


def test_a_plan_says_why_it_could_not_erase(shop, clock):
    assert shop.plan_gc(now=True).locked() is None
    erases(shop)
    backend_of(shop).delete_note(MARKER)
    clock.advance(days=1)
    shop.release("page/1")
    plan = shop.plan_gc(now=True)
    with pytest.raises(EraseLocked) as caught:
        plan.execute(force=True)
    locked = plan.locked()
    assert (str(locked), locked.hint) == (str(caught.value), caught.value.hint)


def test_of_two_gcs_the_one_that_announces_later_does_not_lower_the_marker(
    shop, tmp_path, clock, monkeypatch
):
    write_note = LocalBackend.write_note
    announced = []

    def write(self, name, *given, **how):
        if name.startswith(ERASED) and not announced:  # the first batch is counted, nothing else
            announced.append(name)
            assert erases(other, "page/1") == 2
            assert marker(shop).erase_seq == 3  # one of them was begun before
        return write_note(self, name, *given, **how)

    with Store(tmp_path / "shop", clock=clock) as other:
        monkeypatch.setattr(LocalBackend, "write_note", write)
        erases(shop)
    assert [erased_seq(name) for name in announced] == [1]
    assert marker(shop).erase_seq == 3
    assert kinds(shop) == []


def test_a_damaged_note_of_a_batch_is_not_passed_over(shop, tmp_path):
    erases(shop)
    [note] = notes(shop, ERASED)
    (tmp_path / "shop/blobs" / note).chmod(0o600)
    (tmp_path / "shop/blobs" / note).write_text("{}")
    (tmp_path / "shop/blobs" / MARKER).unlink()
    found = [(each.kind, each.note) for each in findings(shop, recover=True)]
    assert found[0][0] == "unreachable" and "is damaged" in found[0][1]
    assert found[1][0] == "locked"
    backend_of(shop).delete_note(note)
    assert kinds(shop, recover=True) == []


@pytest.mark.parametrize(
    "name",
    ["erased/1", "erased/x" + "0" * 19, "blocked/ab", "calotype.json.x", "erased/" + "٣" * 20],
)
def test_other_names_are_no_notes(shop, tmp_path, name):
    assert not is_note(name)
    file = tmp_path / "shop/blobs" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    assert kinds(shop) == ["foreign"]


def test_a_marker_that_cannot_be_read_is_not_asked_for_at_every_put(shop, tmp_path, monkeypatch):
    asked = []

    def read_note(self, name):
        asked.append(name)
        raise Unavailable("It is away.", hint="Wait.")

    monkeypatch.setattr(LocalBackend, "read_note", read_note)
    with Store(tmp_path / "shop") as store:
        for number in range(10, 14):
            digest = store.put(noise(number)).digest
            assert any(digest in name and "~" in name for name in objects(store))
    assert asked == [MARKER]


# -- moved and copied


def test_a_folder_that_was_moved_or_copied_as_a_whole_goes_on(shop, tmp_path, clock):
    erases(shop)
    shop.close()
    shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    (tmp_path / "shop").rename(tmp_path / "moved")
    for place, owner in (("copy", "page/1"), ("moved", "page/1"), ("copy", "page/2")):
        with Store(tmp_path / place, clock=clock) as store:
            assert kinds(store) == []
            assert erases(store, owner) == 1
            assert all(each.level != "fail" for each in examine(store))
            assert marker(store).stand.path == f"{tmp_path}/{place}/blobs"
            assert marker(store).epoch == 1


def test_a_folder_with_the_bytes_in_a_file_goes_on_where_it_is_moved_or_copied(tmp_path, clock):
    def opened(place: str) -> Store:
        database = f"sqlite:///{tmp_path / place}"
        return Store(catalog=f"{database}/app.db", backend=f"{database}/bytes.db", clock=clock)

    (tmp_path / "shop").mkdir()
    with opened("shop") as store:
        filled(store)
        assert erases(store) == 1
    shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    (tmp_path / "shop").rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "large")
    shutil.rmtree(tmp_path / "moved")
    for place in ("copy", "large"):
        with opened(place) as store:
            assert kinds(store) == []
            assert erases(store, "page/1") == 1


def test_a_folder_of_both_catalog_and_objects_goes_on_where_it_is_moved_or_copied(tmp_path, clock):
    def opened(place: str) -> Store:
        folder = tmp_path / place
        return Store(catalog=f"sqlite:///{folder}/app.db", backend=f"file:{folder}", clock=clock)

    (tmp_path / "shop").mkdir()
    with opened("shop") as store:
        filled(store)
        assert erases(store) == 1
    shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    (tmp_path / "shop").rename(tmp_path / "renamed")
    with opened("renamed") as store:
        assert erases(store, "page/1") == 1
    shutil.copytree(tmp_path / "renamed", tmp_path / "large")
    shutil.rmtree(tmp_path / "renamed")
    for place in ("copy", "large"):
        with opened(place) as store:
            assert erases(store, "page/2") == 1


@pytest.mark.parametrize(
    ("root", "before", "called"),
    [
        (r"D:\shop\blobs", r"C:\shop\blobs", True),
        (r"D:\shop\a\blobs", r"C:\shop\a\blobs", True),
        (r"D:\shop\a\blobs", r"C:\shop\b\blobs", False),
        (r"D:\shop\blobs", r"C:\shop\myblobs", False),
        (r"D:\shop", r"C:\shop", True),
        (r"D:\shop", r"C:\other", False),
    ],
)
def test_names_are_compared_as_the_system_writes_its_paths(monkeypatch, root, before, called):
    monkeypatch.setattr(belonging, "Path", PureWindowsPath)
    inner = belonging._inner(Stand("", r"D:\shop\app.db"), Stand("", root))
    assert inner is not None
    noted = (Stand("", r"C:\shop\app.db"), Stand("", before))
    assert belonging._are_called(*inner, *noted) is called


def test_a_folder_that_was_renamed_is_copied_as_a_whole_like_any_other(shop, tmp_path, clock):
    erases(shop)
    shop.close()
    (tmp_path / "shop").rename(tmp_path / "renamed")
    with Store(tmp_path / "renamed", clock=clock) as store:
        assert erases(store, "page/1") == 1
    shutil.copytree(tmp_path / "renamed", tmp_path / "copy")
    with Store(tmp_path / "copy", clock=clock) as store:
        assert erases(store, "page/2") == 1


def test_a_catalog_that_was_copied_without_its_bytes_erases_nothing(shop, tmp_path, clock):
    erases(shop)
    shop.close()
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "other/catalog.db")
    (tmp_path / "other/blobs").symlink_to(tmp_path / "shop/blobs")
    with Store(tmp_path / "other", clock=clock) as store:
        with pytest.raises(EraseLocked, match=str(tmp_path / "shop/catalog.db")):
            erases(store, "page/1")
        [said] = [each for each in examine(store) if each.level == "fail"]
        assert said.subject == "erasing" and "--adopt" in said.cure


@pytest.fixture(params=["uri", "creator"])
def opened(request, clock):
    """A store by an application's engine whose URL does not name its file."""

    def opened(file: Path, place: str | Path) -> Store:
        uri = request.param == "uri"
        file.parent.mkdir(exist_ok=True)
        engine = create_engine(
            f"sqlite:///file:{file}?uri=true" if uri else "sqlite://",
            poolclass=NullPool,
            **({} if uri else {"creator": lambda: sqlite3.connect(file)}),
        )
        return Store(engine=engine, backend=f"file:{place}", clock=clock)

    return opened


def test_a_copy_is_known_by_its_file_however_an_engine_opens_it(tmp_path, opened):
    shop, other, files = tmp_path / "shop/app.db", tmp_path / "other/app.db", tmp_path / "files"
    with opened(shop, files) as store:
        filled(store)
        assert erases(store) == 1
    other.parent.mkdir()
    shutil.copy(shop, other)
    with opened(other, files) as staging, pytest.raises(EraseLocked, match=str(shop)):
        erases(staging, "page/1")
    with opened(shop, files) as store:
        assert erases(store, "page/1") == 1


def test_an_engine_is_asked_for_its_file_without_a_connection_of_the_applications(tmp_path):
    """None is left in its pool, which a child would inherit; and no transaction is ended."""
    file = create_engine(f"sqlite:///file:{tmp_path}/app.db?uri=true", poolclass=QueuePool)
    Store(engine=file, backend=f"file:{tmp_path}/files")
    assert file.pool.checkedin() == 0
    memory = create_engine("sqlite://")
    with memory.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE row (number)")
        connection.commit()
        connection.exec_driver_sql("INSERT INTO row VALUES (1)")
        Store(engine=memory, backend=f"file:{tmp_path}/files")
        connection.commit()
        assert connection.exec_driver_sql("SELECT number FROM row").fetchall() == [(1,)]
    memory.dispose()


@pytest.mark.parametrize("pool", [QueuePool, StaticPool])
def test_an_engine_whose_creator_has_one_connection_keeps_it(tmp_path, pool):
    with closing(sqlite3.connect(tmp_path / "app.db", check_same_thread=False)) as connection:
        engine = create_engine("sqlite://", creator=lambda: connection, poolclass=pool)
        Store(engine=engine, backend=f"file:{tmp_path}/files")
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 36), reason="SQLite has no memdb before 3.36")
def test_a_database_in_memory_that_has_a_name_is_no_file(tmp_path):
    engine = create_engine("sqlite:///file:/named?vfs=memdb&uri=true", poolclass=QueuePool)
    with Store(engine=engine, backend=f"file:{tmp_path}/files") as store:
        assert store.put(body(0), owner="page/0").status == "created"
    engine.dispose()


def test_what_an_engine_opened_is_moved_and_opened_by_a_url(tmp_path, opened, clock):
    with opened(tmp_path / "shop/app.db", tmp_path / "shop/files") as store:
        filled(store)
        assert erases(store) == 1
    (tmp_path / "shop").rename(tmp_path / "other")
    file, place = tmp_path / "other/app.db", tmp_path / "other/files"
    with Store(catalog=f"sqlite:///{file}", backend=f"file:{place}", clock=clock) as store:
        assert erases(store, "page/1") == 1
    with opened(file, place) as store:
        assert erases(store, "page/2") == 1
        assert problems(store) == []


def test_bytes_that_were_moved_alone_are_not_taken_for_moved_together(shop, tmp_path, clock):
    """Production moves its bytes to a larger disk; staging is a copy of its catalog that sees them."""
    shop.close()
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "other/catalog.db")
    shutil.copytree(tmp_path / "shop/blobs", tmp_path / "large")
    shutil.rmtree(tmp_path / "shop/blobs")
    for place in ("shop", "other"):
        (tmp_path / place / "blobs").symlink_to(tmp_path / "large")
    with Store(tmp_path / "other", clock=clock) as staging, pytest.raises(EraseLocked):
        erases(staging)
    with Store(tmp_path / "shop", clock=clock) as store:
        assert erases(store) == 1


def test_a_restored_folder_goes_on_and_one_with_older_rows_does_not(shop, tmp_path, clock):
    erases(shop, "page/0")
    shop.close()
    shutil.copytree(tmp_path / "shop", tmp_path / "backup")
    with Store(tmp_path / "shop", clock=clock) as store:
        erases(store, "page/1")
    shutil.copytree(tmp_path / "backup", tmp_path / "restored")  # before, or it may get its inode
    shutil.rmtree(tmp_path / "shop")
    (tmp_path / "restored").rename(tmp_path / "shop")
    with Store(tmp_path / "shop", clock=clock) as store:
        assert erases(store, "page/2") == 1
    shutil.copy(tmp_path / "backup/catalog.db", tmp_path / "shop/catalog.db")
    with Store(tmp_path / "shop", clock=clock) as store, pytest.raises(EraseLocked):
        erases(store, "page/3")


def test_a_folder_that_is_put_back_in_its_place_goes_on(shop, tmp_path, clock):
    erases(shop)
    shop.close()
    place, saved = tmp_path / "shop", tmp_path / "saved"
    place.rename(saved)
    place.mkdir()
    for each in saved.iterdir():  # the same bytes, as where a number of an inode is used again
        each.rename(place / each.name)
    with Store(place, clock=clock) as store:
        assert erases(store, "page/1") == 1
        assert kinds(store) == []


@pytest.mark.parametrize("released", ["before", "after"])
def test_bytes_that_were_put_again_at_another_key_are_kept(shop, tmp_path, clock, released):
    def since(store: Store) -> None:
        assert erases(store) == 1
        store.put(body(0), owner="page/9")

    if released == "before":
        shop.release("page/0")
    with gone_back(shop, tmp_path, clock, since) as store:
        assert "missing" not in kinds(store, recover=True)
        store.release("page/0")
        store.gc(now=True)
        with store.open(digest_of(body(0))) as file:
            assert file.read() == body(0)
        assert kinds(store, read_data=True) == []


@pytest.mark.parametrize("lost", [False, True], ids=["marker", "no-marker"])
@pytest.mark.parametrize("erased", [True, False], ids=["locked", "not-locked"])
def test_what_an_older_catalog_would_let_go_of_is_kept(shop, tmp_path, clock, erased, lost):
    """It was restored since at its own key; gc before the recovery lets nothing go either."""

    def since(store: Store) -> None:
        store.put(body(0), owner="page/9")
        if erased:
            assert erases(store, "page/1") == 1
        if lost:
            backend_of(store).delete_note(MARKER)

    shop.release("page/0")
    with gone_back(shop, tmp_path, clock, since) as store:
        if erased:
            with pytest.raises(EraseLocked):
                store.gc(now=True)
        assert kinds(store, recover=True, dry_run=True).count("adopted") == 1
        assert kinds(store, recover=True).count("adopted") == 1
        store.gc(now=True)
        assert store.stat(digest_of(body(0))).kept == "library"
        assert len(objects(store)) == 4 - erased


def test_what_was_in_the_trash_and_is_erased_by_now_is_not_kept(shop, tmp_path, clock):
    shop.release("page/0")
    with gone_back(shop, tmp_path, clock, lambda store: store.gc(now=True)) as store:
        assert kinds(store, recover=True) == ["missing", "orphan"]
        store.gc(now=True)
        assert kinds(store) == []


def test_what_was_unblocked_and_put_since_is_kept(shop, tmp_path, clock):
    def since(store: Store) -> None:
        assert store.unblock(digest_of(body(0)))
        store.put(body(0), owner="page/9")
        erases(store, "page/1")

    shop.purge(digest_of(body(0)))
    with gone_back(shop, tmp_path, clock, since) as store:
        [adopted] = [each for each in store.fsck(recover=True) if each.kind == "adopted"]
        assert adopted.action == "kept in scope default, and no longer blocked"
        assert store.put(body(0)).status == "duplicate"
        assert notes(store, BLOCKED) == []


def test_what_was_purged_without_telling_the_backend_stays_blocked(shop, tmp_path, clock):
    """Its note is missing because nothing could be noted, not because it was taken back."""

    def since(store: Store) -> None:
        assert erases(store) == 1
        store.put(body(0), owner="page/9")

    with gone_back(shop, tmp_path, clock, since) as store:
        [again] = [name for name in objects(store) if digest_of(body(0)) in name]
        file = tmp_path / "shop/blobs" / again
        os.utime(file, (0, 0))  # the clock of the test is behind the file's
        with pytest.raises(EraseLocked):
            store.purge(digest_of(body(0)))
        assert "adopted" not in kinds(store, recover=True)
        with pytest.raises(Blocked):
            store.put(body(0))
        assert len(notes(store, BLOCKED)) == 1


@pytest.fixture
def mirrored(tmp_path) -> Iterator[Store]:
    """A store with a mirror, at the time of its files; one file was purged and is blocked."""
    with Store(tmp_path / "shop") as store:
        filled(store)
        store.backends.add("mirror", f"file:{tmp_path}/mirror")
        store.backends.copy("mirror").result()
        store.purge(digest_of(body(0)))
        store.gc(now=True)
        yield store


def test_what_a_mirror_alone_knows_to_be_unblocked_stays_kept(mirrored, tmp_path):
    """Catalog and primary were put back together: the note of the block as well."""
    mirrored.close()
    shutil.copytree(tmp_path / "shop", tmp_path / "backup")
    with Store(tmp_path / "shop") as store:
        assert store.unblock(digest_of(body(0)))
        store.put(body(0), owner="page/9")
    shutil.rmtree(tmp_path / "shop")
    shutil.copytree(tmp_path / "backup", tmp_path / "shop")
    with Store(tmp_path / "shop") as store:
        [adopted] = store.fsck(recover=True, adopt=True)
        assert adopted.action == "kept in scope default, and no longer blocked"
        for _ in range(2):
            assert content(store, digest_of(body(0))) == body(0)
            assert list(store.fsck(recover=True, adopt=True)) == []
        store.gc(now=True, force=True)
        assert content(store, digest_of(body(0))) == body(0)


def test_what_was_purged_again_while_the_mirror_was_away_stays_away(mirrored, tmp_path):
    place, mirror = tmp_path / "shop", tmp_path / "mirror"
    mirrored.close()
    shutil.copy(place / "catalog.db", tmp_path / "older.db")
    with Store(place) as store:
        assert store.unblock(digest_of(body(0)))
        store.put(body(0), owner="page/9")
        mirror.rename(tmp_path / "away")
        store.purge(digest_of(body(0)))
    (tmp_path / "away").rename(mirror)
    put_back(tmp_path)
    with Store(place) as store:
        for _ in range(2):
            assert "adopted" not in [each.kind for each in store.fsck(recover=True)]
            with pytest.raises(Blocked):
                store.put(body(0))


def test_an_older_catalog_from_before_the_bytes_moved_gets_them_back(shop, tmp_path, clock):
    def since(store: Store) -> None:
        store.backends.add("next", f"file:{tmp_path}/next")
        store.backends.copy("next").result()
        store.backends.primary("next")
        store.backends.drop("main")
        store.put(body(7), owner="page/7")

    with gone_back(shop, tmp_path, clock, since) as store:
        assert "missing" in kinds(store, recover=True)
        with pytest.raises(Misconfigured) as caught:
            store.backends.add("next", f"file:{tmp_path}/next")
        assert f"{MARKER} as well, then run 'calotype fsck --recover --adopt'" in caught.value.hint
        shutil.copytree(tmp_path / "next", tmp_path / "shop/blobs", dirs_exist_ok=True)
        assert "missing" not in kinds(store, recover=True, adopt=True)
        assert problems(store) == []
        store.gc(now=True, force=True)
        assert [content(store, digest_of(body(n))) for n in (0, 7)] == [body(0), body(7)]


def test_what_was_put_again_where_a_delete_had_failed_is_kept(shop, tmp_path, clock, monkeypatch):
    """The row of the older catalog is of the key that was to be erased, and still has its bytes."""

    def since(store: Store) -> None:
        delete = LocalBackend.delete
        monkeypatch.setattr(LocalBackend, "delete", fails)
        store.release("page/0")
        assert store.gc(now=True).failed == 1
        monkeypatch.setattr(LocalBackend, "delete", delete)
        assert store.put(body(0), owner="page/9").status == "created"

    def fails(backend: LocalBackend, key: Key) -> None:
        raise Unavailable("not now")

    with gone_back(shop, tmp_path, clock, since) as store:
        [adopted] = [each for each in findings(store, recover=True) if each.kind == "adopted"]
        assert adopted.action == "kept in scope default"
        store.release("page/0")
        store.gc(now=True, force=True)
        assert content(store, digest_of(body(0))) == body(0)


def test_one_that_another_adopts_meanwhile_is_not_written_over(shop, tmp_path, monkeypatch):
    backend = backend_of(shop)
    other = replace(marker(shop), epoch=2, generation="0" * 16)

    def begin(*given) -> None:
        assert backend.write_note(MARKER, other.to_bytes(), instead_of=backend.read_note(MARKER))

    monkeypatch.setattr(Recovery, "_begin", begin)
    assert kinds(shop, recover=True)[:2] == ["unreachable", "locked"]
    assert marker(shop) == other


def test_a_copy_with_a_mirror_of_its_own_is_at_home_with_both(shop, tmp_path, clock):
    shop.gc(now=True)
    shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    with Store(tmp_path / "copy", clock=clock) as store:
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        assert erases(store) == 2
        store.copy_catalog(f"{tmp_path}/copied").result()
    with Store(tmp_path / "copied", clock=clock) as store:
        assert erases(store, "page/1") == 2
    assert erases(shop) == 1


def locks(file: Path) -> list[str]:
    """What this process has locked of a file."""
    mine = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    inode = str(file.stat().st_ino)
    return [
        each[1] for each in mine if each[4] == str(os.getpid()) and each[5].endswith(f":{inode}")
    ]


@pytest.mark.mounts
def test_a_dump_that_is_mounted_over_the_catalog_is_a_copy(shop, tmp_path, clock):
    shop.close()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "dump.db")
    there = tmp_path / "shop/catalog.db"
    subprocess.run(["mount", "--bind", tmp_path / "dump.db", there], check=True)
    try:
        with Store(tmp_path / "shop", clock=clock) as store:
            with pytest.raises(EraseLocked, match="is a copy"):
                erases(store)
            held = locks(there)
            assert store._rooms.catalog.database.stand().mark.count("/") == 2
            assert held and locks(there) == held  # a look ends no lock of the database
    finally:
        subprocess.run(["umount", there], check=True)
    with Store(tmp_path / "shop", clock=clock) as store:
        assert erases(store) == 1


def test_a_recovery_that_could_not_keep_something_is_not_finished(shop, tmp_path, monkeypatch):
    digest = Digest.of(noise(90))
    put_at(shop, digest, noise(90))
    opened = LocalBackend.open

    def away(self, key, *more):
        if key.digest == digest:
            raise Unavailable("The disk does not answer.", hint="Wait.")
        return opened(self, key, *more)

    with monkeypatch.context() as patched:
        patched.setattr(LocalBackend, "open", away)
        run = shop.fsck(recover=True)
        assert [each.kind for each in run] == ["unreachable", "locked", "stray"]
        assert not run.result().complete
    with pytest.raises(EraseLocked, match="not finished"):
        erases(shop)
    assert kinds(shop, recover=True) == ["adopted", "adopted"]
    assert erases(shop, "page/1") == 1


def test_a_block_is_not_taken_back_where_a_backend_would_go_on_to_tell_of_it(shop, tmp_path):
    """A recovery would purge what was put again."""
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    digest = digest_of(body(0))
    shop.purge(digest)
    (tmp_path / "two").rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        shop.unblock(digest)
    (tmp_path / "away").rename(tmp_path / "two")
    (tmp_path / "two" / MARKER).rename(tmp_path / "mark")
    with pytest.raises(EraseLocked, match="'two'"):
        shop.unblock(digest)
    with pytest.raises(Blocked):
        shop.put(body(0))
    assert len(notes(shop, BLOCKED)) == 1
    (tmp_path / "mark").rename(tmp_path / "two" / MARKER)
    assert shop.unblock(digest)
    assert shop.put(body(0)).status == "created"
    assert kinds(shop, recover=True) == []


def test_a_copy_that_recovers_its_own_place_does_not_take_the_others(shop, tmp_path, clock):
    shop.close()
    (tmp_path / "staging").mkdir()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "staging")
    with Store(tmp_path / "shop", clock=clock) as store:
        store.backends.add("two", f"file:{tmp_path}/new")
    (tmp_path / "staging/blobs").symlink_to(tmp_path / "shop/blobs")
    with Store(tmp_path / "staging", clock=clock) as store:
        with pytest.raises(Misconfigured, match="another copy's"):
            store.backends.add("own", f"file:{tmp_path}/new")
        store.backends.add("own", f"file:{tmp_path}/own")
        store.backends.copy("own").result()
        assert Marker.of((tmp_path / "own" / MARKER).read_bytes()).given_to
        found = LocalBackend(tmp_path / "own")
        assert found.write_note(
            MARKER,
            replace(Marker.of(found.read_note(MARKER)), erase_seq=9).to_bytes(),
            instead_of=found.read_note(MARKER),
        )
        told = [(each.kind, each.backend) for each in findings(store, recover=True)]
        assert told == [("locked", "main")]
        with pytest.raises(EraseLocked, match="is a copy"):
            erases(store)
        assert kinds(store, recover=True, adopt=True)[-1:] != ["locked"]


def test_a_put_that_the_copy_saw_under_way_is_kept(shop, tmp_path, clock, monkeypatch):
    real = publishing.keep

    def keep(*given, **more):
        done = real(*given, **more)
        with closing(sqlite3.connect(tmp_path / "shop/catalog.db")) as raw:
            raw.execute(f"VACUUM INTO '{tmp_path}/older.db'")
        return done

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "keep", keep)
        digest = shop.put(picture(), owner="page/9").digest
    erases(shop)
    shop.close()
    put_back(tmp_path)
    clock.advance(hours=1)
    with Store(tmp_path / "shop", clock=clock) as store:
        assert rows(store, f"SELECT state FROM calotype_replica WHERE digest = '{digest}'") == [
            ("writing",)
        ]
        with pytest.raises(EraseLocked):
            store.gc(now=True)
        assert "adopted" in kinds(store, recover=True)
        assert store.gc(now=True).intents == 1
        assert content(store, digest) == picture()
        assert sum(digest in name for name in objects(store)) == 1
        assert kinds(store) == ["missing"]


def test_who_is_no_longer_the_owner_makes_no_second_delete(shop, tmp_path, clock, monkeypatch):
    erases(shop)
    clock.advance(days=2)
    sweep = Eraser._sweep

    def meanwhile(self, *given):
        backend, content = self.mount.backend, self.mount.backend.read_note(MARKER)
        taken = replace(Marker.of(content), epoch=2, generation="0" * 16)
        assert backend.write_note(MARKER, taken.to_bytes(), instead_of=content)
        put_at(shop, digest_of(body(0)), body(0))  # the other one's, at the key that was erased
        sweep(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Eraser, "_sweep", meanwhile)
        with pytest.raises(EraseLocked, match="taken it over"):
            shop.gc(now=True)
    assert any(digest_of(body(0)) in name for name in objects(shop))
    assert rows(shop, "SELECT attempts FROM calotype_replica WHERE state = 'erased'") == [(0,)]


def test_a_stray_that_was_to_be_erased_is_kept_by_recovery(shop, tmp_path, clock):
    save(shop, tmp_path)
    with Store(tmp_path / "shop", clock=clock) as store:
        digest = store.put(picture()).digest
    put_back(tmp_path)
    with Store(tmp_path / "shop", clock=clock) as store:
        clock.advance(seconds=1)
        assert kinds(store, repair=True) == ["stray"]
        assert kinds(store, recover=True) == ["adopted"]
        assert kinds(store, recover=True) == []
        clock.advance(days=31)
        assert store.gc(now=True).erased == 1
        assert content(store, digest) == picture()
        assert kinds(store) == []


@pytest.mark.parametrize("whole", [True, False])
def test_production_that_moved_is_not_a_copy_of_staging_that_sees_it(shop, tmp_path, clock, whole):
    """It went to a larger disk, and a link leads there; or its bytes alone did."""
    shop.close()
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "other/catalog.db")
    (tmp_path / "other/blobs").symlink_to("../shop/blobs")
    moved = tmp_path / ("shop" if whole else "shop/blobs")
    shutil.copytree(moved, tmp_path / "large")
    shutil.rmtree(moved)
    moved.symlink_to(tmp_path / "large")
    with Store(tmp_path / "other", clock=clock) as staging, pytest.raises(EraseLocked):
        erases(staging)
    with Store(tmp_path / "shop", clock=clock) as store:
        assert erases(store) == 1


def test_a_folder_that_was_moved_is_at_home_also_where_its_catalog_goes_on_from_there(
    shop, tmp_path, clock
):
    erases(shop)
    shop.close()
    shutil.copytree(tmp_path / "shop", tmp_path / "large")
    shutil.rmtree(tmp_path / "shop")
    (tmp_path / "apart").mkdir()
    with Store(tmp_path / "large", clock=clock) as store:
        store.release("page/1")
        store.copy_catalog(f"sqlite:///{tmp_path}/apart/app.db").result()
    moved = Store(
        catalog=f"sqlite:///{tmp_path}/apart/app.db",
        backend=f"file:{tmp_path}/large/blobs",
        clock=clock,
    )
    with moved:
        assert moved.gc(now=True).erased == 1
        assert kinds(moved) == []


def test_both_renamed_go_on_and_what_is_left_behind_does_not(shop, tmp_path, clock):
    erases(shop)
    shop.close()
    for place in ("moved", "half"):
        (tmp_path / place).mkdir()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "half/catalog.db")
    (tmp_path / "shop/blobs").rename(tmp_path / "half/blobs")
    with Store(tmp_path / "half", clock=clock) as store, pytest.raises(EraseLocked) as refused:
        erases(store)
    assert "where none" not in str(refused.value)
    (tmp_path / "shop/catalog.db").rename(tmp_path / "moved/catalog.db")
    (tmp_path / "half/blobs").rename(tmp_path / "moved/blobs")
    with Store(tmp_path / "moved", clock=clock) as store:
        assert erases(store, "page/1") == 1
        store.close()
    shutil.copy(tmp_path / "half/catalog.db", tmp_path / "moved/another.db")
    other = Store(
        catalog=f"sqlite:///{tmp_path}/moved/another.db",
        backend=f"file:{tmp_path}/moved/blobs",
        clock=clock,
    )
    with other, pytest.raises(EraseLocked, match=r"catalog\.db, where none is now"):
        erases(other, "page/2")


# -- marked late, lost, another's


def test_a_store_from_before_is_marked_when_it_erases(shop, tmp_path, clock):
    """No marker, no generation, numbers that nobody heard of."""
    shutil.rmtree(tmp_path / "shop/blobs/erased")
    (tmp_path / "shop/blobs" / MARKER).unlink()
    change(shop, "UPDATE calotype_backend SET generation = '', erase_seq = 7")
    change(shop, "DELETE FROM calotype_meta WHERE key = 'home'")
    assert kinds(shop) == []
    assert shop.put(picture()).status == "created"
    assert notes(shop) == []
    assert erases(shop) == 1
    assert marker(shop).erase_seq == 1
    assert kinds(shop) == []


def test_a_marker_that_is_gone_locks_until_it_is_recovered(shop, tmp_path):
    erases(shop)
    for name in notes(shop):
        backend_of(shop).delete_note(name)
    with pytest.raises(EraseLocked, match="is gone"):
        erases(shop, "page/1")
    assert kinds(shop, repair=True) == ["locked", "orphan"]  # nothing was let go of either
    assert kinds(shop, recover=True) == ["adopted"]
    assert erases(shop, "page/2") == 1
    assert marker(shop).epoch == 2


def test_nothing_is_noted_to_be_erased_by_fsck_where_nothing_may_be(shop, tmp_path, clock):
    late = [key for key in objects(shop) if digest_of(body(0)) in key]
    assert erases(shop) == 1
    shop.close()
    shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/blobs")
    (tmp_path / "copy/blobs").symlink_to(tmp_path / "shop/blobs")
    with Store(tmp_path / "copy", clock=clock) as store:
        assert late == [str(put_at(store, digest_of(body(0)), body(0)))]
        put_at(store, digest_of(body(9)), body(9))
        noted = "SELECT key, state, due_at, attempts FROM calotype_replica ORDER BY key"
        before = rows(store, noted)
        found = findings(store, repair=True)
        assert sorted(each.kind for each in found) == ["locked", "stray", "stray"]
        assert not [each for each in found if "erase" in each.action]
        assert rows(store, noted) == before
    with Store(tmp_path / "shop", clock=clock) as store:  # whose bytes they are notes both
        found = findings(store, repair=True)
        assert sorted(each.kind for each in found) == ["stray", "stray"]
        assert all("erase" in each.action for each in found)
        assert len(set(rows(store, noted)) - set(before)) == 2


def test_another_stores_bytes_are_not_erased_whatever_is_asked(shop, tmp_path, clock):
    url = f"file:{tmp_path}/shop/blobs"
    with Store(catalog="sqlite://", backend=url, clock=clock) as other:
        digest = other.put(noise(50), owner="x/1").digest
        with pytest.raises(EraseLocked, match="another store"):
            erases(other, "x/1")
        assert kinds(other, recover=True, adopt=True)[0] == "locked"
        assert any(digest in name for name in objects(other))
    assert erases(shop) == 1


def test_a_store_that_is_begun_anew_in_its_old_place_is_told_the_way_out(shop, tmp_path, clock):
    for number in range(4):
        assert erases(shop, f"page/{number}") == 1
    shop.close()
    for file in (tmp_path / "shop").glob("catalog.db*"):
        file.unlink()
    with Store(tmp_path / "shop", clock=clock) as store:
        filled(store)
        with pytest.raises(EraseLocked, match="another store") as refused:
            erases(store)
        assert f"remove {MARKER} there, then run 'calotype fsck --recover'" in refused.value.hint
        (tmp_path / "shop/blobs" / MARKER).unlink()
        assert kinds(store, recover=True) == []
        assert store.gc(now=True).erased == 1
        assert len(objects(store)) == 3
        assert kinds(store) == []


def test_a_place_of_another_store_is_not_added(shop, tmp_path, clock):
    with Store(tmp_path / "other", clock=clock) as other:
        other.create()
        with pytest.raises(Misconfigured, match="another store"):
            shop.backends.add("two", f"file:{tmp_path}/other/blobs")
        assert [each.name for each in shop.backends.list()] == ["main"]
        assert erases(other) == 0


# -- several backends


def test_a_backend_that_is_locked_stops_no_other(shop, tmp_path):
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    two = LocalBackend(tmp_path / "two")
    assert Marker.of(two.read_note(MARKER)).store == marker(shop).store
    two.delete_note(MARKER)
    two.write_note(MARKER, Marker("x", 1, "y", 0).to_bytes())
    with pytest.raises(EraseLocked, match="'two'"):
        erases(shop)
    assert len(objects(shop)) == 3
    assert len(list(two.scan("sha256/"))) == 4
    assert [(each.kind, each.backend) for each in findings(shop)] == [("locked", "two")]


def test_a_dropped_place_can_be_had_again(shop, tmp_path):
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    assert shop.backends.drop("two").removed
    assert list(LocalBackend(tmp_path / "two").scan()) == []
    assert shop.backends.add("two", f"file:{tmp_path}/two").name == "two"
    with pytest.raises(Misconfigured, match="already"):
        shop.backends.add("two", f"file:{tmp_path}/three")
    assert list(LocalBackend(tmp_path / "three").scan()) == []
    assert shop.backends.drop("two", abandon=True).removed  # its marker stays behind
    assert shop.backends.add("two", f"file:{tmp_path}/two").name == "two"
    assert Marker.of(LocalBackend(tmp_path / "two").read_note(MARKER)).epoch == 2
    assert erases(shop) == 1
    assert kinds(shop) == []


def test_a_folder_that_was_moved_away_from_its_mirror_adopts_both(shop, tmp_path, clock):
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    erases(shop)
    shop.close()
    shutil.copytree(tmp_path / "shop", tmp_path / "moved")
    shutil.rmtree(tmp_path / "shop")
    with Store(tmp_path / "moved", clock=clock) as store:
        with pytest.raises(EraseLocked, match="'two'"):
            erases(store, "page/1")
        assert kinds(store, recover=True, adopt=True) == ["adopted"]  # the other may have had it
        assert erases(store, "page/2") == 2
        assert kinds(store) == []


def test_a_mirror_is_recovered_with_the_primary(shop, tmp_path, clock):
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    save(shop, tmp_path)
    with Store(tmp_path / "shop", clock=clock) as store:
        erases(store)
        digest = store.put(noise(70)).digest
    shutil.copy(tmp_path / "older.db", tmp_path / "shop/catalog.db")
    with Store(tmp_path / "shop", clock=clock) as store:
        assert sorted(kinds(store)) == ["locked", "locked", "missing", "missing", "stray", "stray"]
        found = [(each.kind, each.backend) for each in findings(store, recover=True)]
        assert found[:2] == [("adopted", "main"), ("adopted", "two")]
        assert content(store, digest) == noise(70)
        assert store.put(body(0)).status == "healed"
        assert erases(store, "page/1") >= 2
        assert problems(store) == []


def test_a_store_that_was_moved_with_its_catalog_alone_takes_the_bytes_along(shop, tmp_path, clock):
    erases(shop)
    shop.copy_catalog(str(tmp_path / "new")).result()
    with Store(tmp_path / "new", clock=clock) as store:
        assert kinds(store) == []
        assert erases(store, "page/1") == 1
        assert marker(store).epoch == 1


def test_a_copy_stays_a_copy_when_its_catalog_is_moved(shop, tmp_path, clock):
    erases(shop)
    shop.close()
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "other/catalog.db")
    (tmp_path / "other/blobs").symlink_to(tmp_path / "shop/blobs")
    with Store(tmp_path / "other", clock=clock) as store:
        store.copy_catalog(str(tmp_path / "new")).result()
    with Store(tmp_path / "new", clock=clock) as store, pytest.raises(EraseLocked, match="a copy"):
        erases(store, "page/1")


# -- what is blocked


def test_a_block_is_told_to_every_backend_and_taken_back(shop, tmp_path):
    shop.backends.add("two", f"file:{tmp_path}/two")
    two = LocalBackend(tmp_path / "two")
    first = shop.put(picture()).digest
    shop.purge(first, reason="a complaint")
    for backend in (backend_of(shop), two):
        [found] = backend.scan(BLOCKED)
        assert blocked_digest(found.name) == first
    shop.purge(shop.put(noise(9)).digest, block=False)
    assert shop.backends.drop("two").removed
    shop.backends.add("two", f"file:{tmp_path}/two")
    assert len(list(two.scan(BLOCKED))) == 1
    assert kinds(shop) == []
    assert shop.unblock(first)
    assert not shop.unblock(first)
    assert notes(shop, BLOCKED) == list(two.scan(BLOCKED)) == []


def test_a_block_is_made_up_for_where_it_was_not_told(shop, tmp_path):
    """The primary lost its note, and the mirror's disk was away; nothing is written in its place."""
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    (tmp_path / "two").rename(tmp_path / "away")
    digest = shop.put(body(0)).digest
    shop.purge(digest, reason="a complaint")
    assert not (tmp_path / "two" / BLOCKED).exists()
    shutil.rmtree(tmp_path / "two", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "two")
    [name] = notes(shop, BLOCKED)
    backend_of(shop).delete_note(name)
    shop.gc(now=True)
    for backend in (backend_of(shop), LocalBackend(tmp_path / "two")):
        assert [each.name for each in backend.scan(BLOCKED)] == [name]
    assert shop.gc(now=True).erased == 0


def test_nothing_is_written_beneath_a_disk_that_is_not_mounted(shop, tmp_path, clock):
    shop.backends.add("two", f"file:{tmp_path}/two")
    shop.backends.copy("two").result()
    (tmp_path / "two").rename(tmp_path / "away")
    shop.gc(now=True)
    (tmp_path / "new").mkdir()
    shop.copy_catalog(f"sqlite:///{tmp_path}/new/catalog.db").result()
    assert not (tmp_path / "two").exists()


def test_what_was_purged_after_the_copy_is_let_go_of_by_recovery(shop, tmp_path, clock):
    digest = shop.put(noise(80), owner="page/9").digest
    save(shop, tmp_path)
    with Store(tmp_path / "shop", clock=clock) as store:
        store.purge(digest, reason="a complaint")
    shutil.copy(tmp_path / "older.db", tmp_path / "shop/catalog.db")
    with Store(tmp_path / "shop", clock=clock) as store:
        put_at(store, digest, noise(80))
        assert store.fsck(recover=True).result().problems == 0
        assert list(store.references(owner="page/9")) == []
        with pytest.raises(Blocked, match="a complaint"):
            store.put(noise(80))
        store.gc(now=True)
        assert not any(digest in name for name in objects(store))


# -- killed between any two steps


class Killed(BaseException):
    """The process ends here."""


class Fuse:
    """Ends the process before or after its ``at``-th step; a step is a write to either side."""

    def __init__(self, at: int, after: bool) -> None:
        self.left, self.after, self.burnt = at, after, False

    def on(self, patched: pytest.MonkeyPatch, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def step(*given, **more):
            self.left -= 1
            if self.left == 0 and not self.after:
                self.burnt = True
                raise Killed
            done = real(*given, **more)
            if self.left == 0 and self.after:
                self.burnt = True
                raise Killed
            return done

        patched.setattr(owner, name, step)


STEPS = ("write_note", "delete_note", "put", "delete")


def killed_at(number: int, after: bool, act) -> bool:
    """True where ``act`` was killed at that step; False where it has fewer."""
    fuse = Fuse(number, after)
    with pytest.MonkeyPatch.context() as patched:
        for name in STEPS:
            fuse.on(patched, LocalBackend, name)
        fuse.on(patched, Catalog, "write")
        try:
            act()
        except Killed:
            return True
    return fuse.burnt


def setting(tmp_path: Path, clock) -> dict[str, bytes]:
    """A store whose catalog is older than its bytes; what it has to have in the end."""
    with Store(tmp_path / "shop", clock=clock) as store:
        wanted = {store.put(body(n), owner=f"page/{n}").digest: body(n) for n in range(3)}
    shutil.copy(tmp_path / "shop/catalog.db", tmp_path / "older.db")
    with Store(tmp_path / "shop", clock=clock) as store:
        store.release("page/0")
        store.gc(now=True)
        wanted[store.put(body(8)).digest] = body(8)
        put_at(store, next(iter(wanted)), body(0))
    for end in ("-wal", "-shm"):
        (tmp_path / f"shop/catalog.db{end}").unlink(missing_ok=True)
    return wanted


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("act", ["recover", "rebuild", "gc"])
def test_killed_at_any_step_the_next_run_goes_on(tmp_path, clock, act, after):
    stride = 1 if os.environ.get("CALOTYPE_MARKERS") == "full" else 7
    for number in range(1 + 3 * after, 99, stride):
        root = tmp_path / f"{number}"
        root.mkdir()
        if not goes_on(root, clock, act, number, after):
            assert number > 7
            return
        shutil.rmtree(root)
    pytest.fail("it never ends")


def goes_on(root: Path, clock, act: str, number: int, after: bool) -> bool:
    """Kill one run, look, run again, look at everything; False where it had fewer steps."""
    wanted, shop = setting(root, clock), root / "shop"
    if act == "recover":
        shutil.copy(root / "older.db", shop / "catalog.db")
    if act == "rebuild":
        (shop / "catalog.db").unlink()
    first = Store(shop, clock=clock)
    killed = killed_at(number, after, lambda: run(first, act))
    with Store(shop, clock=clock) as store:
        if killed and act != "gc" and locked(store):
            with pytest.raises((EraseLocked, Corrupt)):
                store.gc(now=True)
        if killed and not (act == "rebuild" and whole(store)):
            run(store, act)
        clock.advance(seconds=1)
        assert [each for each in problems(store) if each.kind != "stray"] == []
        store.gc(now=True)
        for digest, data in wanted.items():
            if act != "gc" or data == body(8):
                assert content(store, digest) == data
        assert not locked(store)
    assert invariants.broken_invariants(shop, late_writes=True) == []
    return killed


def run(store: Store, act: str) -> None:
    if act == "gc":
        store.release("page/1")
        store.gc(now=True)
    else:
        store.fsck(**{act: True}).result()


def whole(store: Store) -> bool:
    """A catalog whose rebuilding came to its end."""
    try:
        return rows(store, "SELECT 1 FROM calotype_meta WHERE key = 'rebuilding'") == []
    except Corrupt:
        return False


def locked(store: Store) -> bool:
    try:
        return any(each.kind == "locked" for each in store.fsck())
    except Corrupt:
        return True


def test_one_that_is_just_taken_over_is_not_taken_back_without_being_asked(shop, tmp_path):
    """The other one is not at its end yet, and its epoch has the same number."""
    backend = backend_of(shop)
    content = backend.read_note(MARKER)
    other = replace(marker(shop), generation="0" * 16, recovering=True)
    assert backend.write_note(MARKER, other.to_bytes(), instead_of=content)
    with pytest.raises(EraseLocked, match="taken it over"):
        erases(shop)
    assert kinds(shop, recover=True) == ["locked", "orphan"]
    assert marker(shop) == other
    assert kinds(shop, recover=True, adopt=True) == ["adopted"]
    assert marker(shop).epoch == 2
