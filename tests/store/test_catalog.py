"""The catalog's file: damaged, missing, empty, newer, or another folder's."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import content, findings, harm_page, objects, problems

from calotype import Digest, Store
from calotype.catalog import schema, sqlite
from calotype.doctoring import examine
from calotype.errors import Corrupt, EraseLocked, Misconfigured, SchemaAhead, Unavailable

VERBS: dict[str, Callable[[Store, Digest], object]] = {
    "put": lambda store, digest: store.put(b"new"),
    "open": lambda store, digest: store.open(digest),
    "stat": lambda store, digest: store.stat(digest),
    "check": lambda store, digest: store.check([digest]),
    "resolve": lambda store, digest: store.resolve(digest[:8]),
    "attach": lambda store, digest: store.attach(digest, owner="scan/9"),
    "release": lambda store, digest: store.release("scan/1"),
    "restore": lambda store, digest: store.restore(owner="scan/1"),
    "discard": lambda store, digest: store.discard(digest),
    "url": lambda store, digest: store.url(digest),
    "gc": lambda store, digest: store.gc(now=True),
    "fsck": lambda store, digest: store.fsck(repair=True).result(),
    "purge": lambda store, digest: store.purge(digest),
    "explain": lambda store, digest: store.explain(digest),
    "assets": lambda store, digest: list(store.assets()),
    "orphans": lambda store, digest: list(store.orphans()),
    "stats": lambda store, digest: store.stats(),
    "usage": lambda store, digest: store.usage(),
    "set_quota": lambda store, digest: store.set_quota("ana", 5),
}


@pytest.fixture
def digest(folder: Place) -> Digest:
    """A store at rest with two hundred files; the digest of one."""
    with folder.open() as store:
        store.put_many([noise(50, number) for number in range(200)], "set/1").result()
        found = store.put(picture(), owner="scan/1").digest
        store.put(picture(1), hold="1h")
    return found


def everything(place: Place) -> dict[str, str]:
    """Each file of the store and its digest, but for the locks and maps that reading needs."""
    return {
        str(path.relative_to(place.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.root.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal", "-checkpoint"))
    }


def tell(place: Place, *statements: str) -> None:
    """Statements of somebody else, behind the store's back."""
    with closing(sqlite3.connect(place.database)) as raw:
        for statement in statements:
            raw.execute(statement)
        raw.commit()


# Where it cannot be


@pytest.mark.parametrize("version", [(3, 34, 1), (3, 35, 0)])
def test_an_sqlite_before_3_35_is_refused_when_a_store_is_opened(in_file, monkeypatch, version):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    if version < (3, 35):
        with pytest.raises(Misconfigured, match="too old") as caught:
            in_file.open()
        assert "3.35" in caught.value.hint
    else:
        in_file.open().close()


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch) -> Callable[[str], None]:
    """Tells the store that its disk is of another kind."""

    def mount(kind: str) -> None:
        device = tmp_path.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        (tmp_path / "mounts").write_text(
            "22 1 0:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
            f"36 22 {number} / /mnt/a\\040b rw,noatime shared:7 master:1 - {kind} host:/b rw\n"
        )
        monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "mounts")

    return mount


@pytest.mark.parametrize("kind", ["nfs4", "cifs"])
def test_no_catalog_is_made_on_a_network_file_system(folder, mounted, kind):
    mounted(kind)
    with folder.open() as store:
        with pytest.raises(Misconfigured, match=f"would lie on {kind}"):
            store.put(picture())
        assert not folder.database.exists()
        mounted("ext4")
        assert store.put(picture()).status == "created"


def test_the_doctor_tells_that_a_catalog_lies_on_a_network_file_system(folder, mounted):
    with folder.open() as store:
        store.put(picture())
        mounted("nfs4")
        (failed,) = [each for each in examine(store) if each.level == "fail"]
        assert (failed.subject, failed.note) == ("disk", "the catalog lies on nfs4")
        mounted("ext4")
        assert [each for each in examine(store) if each.level == "fail"] == []


# Damaged


def cut(place: Place, size: int) -> None:
    os.truncate(place.database, size)


def overwrite(place: Place, start: int, content: Callable[[int], bytes]) -> None:
    whole = place.database.read_bytes()
    place.database.write_bytes(whole[:start] + content(len(whole) - start))


DAMAGE: dict[str, Callable[[Place], object]] = {
    "a short text": lambda place: place.database.write_text("hello, I am text\n"),
    "a long text": lambda place: place.database.write_text("hello\n" * 5000),
    "a picture": lambda place: place.database.write_bytes(picture(size=(300, 200))),
    "half of it": lambda place: cut(place, place.database.stat().st_size // 2),
    "its first page": lambda place: cut(place, 4096),
    "its first hundred bytes": lambda place: cut(place, 100),
    "zeros from the second page on": lambda place: overwrite(place, 4096, bytes),
    "noise from the second page on": lambda place: overwrite(place, 4096, noise),
    "zeros": lambda place: overwrite(place, 0, bytes),
    "noise": lambda place: overwrite(place, 0, noise),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_catalog_is_corrupt_to_every_verb_and_left_as_it_is(folder, digest, damage):
    DAMAGE[damage](folder)
    before = everything(folder)
    for name, verb in VERBS.items():
        with folder.open() as store, pytest.raises(Corrupt) as caught:
            verb(store, digest)
        assert "blobs are untouched" in caught.value.hint, name
    assert everything(folder) == before


def test_damage_of_a_page_that_is_no_hindrance_is_told_by_fsck(in_file):
    with in_file.open() as store:
        digest = store.put(picture(), owner="scan/9").digest
    harm_page(in_file.database)
    with in_file.open() as store:
        assert content(store, digest) == picture()
        (found,) = [each for each in findings(store) if each.is_problem]
        assert found.kind == "broken" and "the catalog is damaged" in found.note


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_copy_in_place_of_a_damaged_catalog_brings_all_back(folder, digest, damage):
    copy = shutil.copy(folder.database, folder.root / "copy.db")
    DAMAGE[damage](folder)
    with folder.open() as store, pytest.raises(Corrupt):
        store.stats()
    for name in ("", "-wal", "-shm"):
        Path(f"{folder.database}{name}").unlink(missing_ok=True)
    shutil.copy(copy, folder.database)
    with folder.open() as store:
        assert content(store, digest) == picture()
        assert problems(store) == []


def test_a_store_that_is_open_recovers_once_the_copy_is_in_place(folder, digest):
    whole = folder.database.read_bytes()
    with folder.open() as store:
        store.stats()
        store.close()
        folder.database.write_text("hello\n" * 5000)
        with pytest.raises(Corrupt):
            store.stat(digest)
        folder.database.write_bytes(whole)
        store.close()
        assert content(store, digest) == picture()


def test_a_catalog_that_is_a_folder_is_unavailable(folder, digest):
    folder.database.unlink()
    folder.database.mkdir()
    with folder.open() as store, pytest.raises(Unavailable):
        store.put(b"new")
    assert folder.database.is_dir()


def test_a_catalog_that_is_a_link_to_nothing_is_said_to_be_one(folder):
    folder.database.parent.mkdir()
    folder.database.symlink_to("elsewhere/catalog.db")
    with folder.open() as store, pytest.raises(Unavailable, match="link to elsewhere/") as caught:
        store.put(b"new")
    assert "remove the link" in caught.value.hint
    assert folder.database.is_symlink() and not folder.database.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE calotype_meta SET value = 'x' WHERE key = 'schema'",
        "DELETE FROM calotype_meta WHERE key = 'schema'",
        "DELETE FROM calotype_meta",
        "DROP TABLE calotype_meta",
    ],
)
def test_a_catalog_that_does_not_say_its_schema_is_neither_read_nor_taken_for_empty(
    folder, digest, statement
):
    tell(folder, statement)
    before = everything(folder)
    for name, verb in VERBS.items():
        with folder.open() as store, pytest.raises(Corrupt):
            pytest.fail(f"{name}: {verb(store, digest)}")
    assert everything(folder) == before


# Empty, or another application's


def wal(place: Place) -> bool:
    with closing(sqlite3.connect(place.database)) as raw:
        return raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("tables", [[], ["CREATE TABLE page (t TEXT)"]], ids=["empty", "another's"])
def test_a_file_that_is_there_already_becomes_a_catalog_as_safe_as_any(folder, tables):
    """WAL mode is what lets readers go on beside a writer, and what ``synchronous`` counts on."""
    folder.database.parent.mkdir()
    folder.database.touch()
    tell(folder, *tables)
    with folder.open() as store:
        assert list(store.assets()) == []
        digest = store.put(picture(), owner="scan/1").digest
        assert content(store, digest) == picture()
        assert problems(store) == []
    assert wal(folder)


def test_an_empty_file_in_place_of_the_catalog_costs_no_bytes(folder, digest):
    cut(folder, 0)
    with folder.open() as store:
        before = objects(store)
        for verb in (
            store.stats,
            lambda: store.gc(now=True, full=True),
            lambda: store.fsck(repair=True).result(),
        ):
            with pytest.raises(Corrupt, match="lost or empty"):
                verb()
        assert objects(store) == before
        assert len(before) == 202


@pytest.mark.parametrize("lost", ["removed", "emptied", "downgraded"])
def test_no_catalog_is_made_over_the_bytes_of_a_lost_one(folder, digest, lost):
    """It would take them for strays, which gc may erase in the end."""
    copy = folder.root / "copy.db"
    tell(folder, f"VACUUM INTO '{copy}'")
    if lost == "downgraded":
        with folder.open() as store:
            schema.to(store._rooms.catalog, "base")
    for name in ("", "-wal", "-shm") if lost != "downgraded" else ():
        Path(f"{folder.database}{name}").unlink(missing_ok=True)
    if lost == "emptied":
        folder.database.touch()
    with folder.open() as store:
        for write in (
            lambda: store.put(picture()),
            lambda: store.put_many([picture(7)]).result(),
        ):
            with pytest.raises(Corrupt, match="lost or empty") as caught:
                write()
            assert "copy" in caught.value.hint
        for read in (lambda: list(store.assets()), lambda: store.check([digest]), store.usage):
            with pytest.raises(Corrupt):
                read()
    copy.replace(folder.database)
    with folder.open() as store:
        assert content(store, digest) == picture()
        assert store.fsck(read_data=True).result().problems == 0


def test_folders_and_foreign_files_are_no_bytes_of_a_lost_catalog(folder):
    (folder.root / "store/blobs/sha256/ab").mkdir(parents=True)
    (folder.root / "store/blobs/notes.txt").write_text("not ours")
    with folder.open() as store:
        assert store.put(picture()).status == "created"


# Newer than the program


@pytest.mark.parametrize("verb", VERBS)
def test_a_newer_catalog_is_refused_by_every_verb_and_loses_nothing(folder, digest, verb):
    newer = schema.CURRENT + 1
    tell(folder, f"UPDATE calotype_meta SET value = '{newer}' WHERE key = 'schema'")
    before = everything(folder)
    with folder.open() as store:
        with pytest.raises(SchemaAhead) as caught:
            VERBS[verb](store, digest)
        assert caught.value.code == "schema-ahead"
        assert "nothing was changed" in str(caught.value)
        assert "pip install -U calotype" in caught.value.hint
    assert everything(folder) == before


def test_a_catalog_that_was_refused_is_used_as_soon_as_it_fits(folder, digest):
    with folder.open() as store:
        tell(folder, "UPDATE calotype_meta SET value = '99' WHERE key = 'schema'")
        with pytest.raises(SchemaAhead):
            store.stat(digest)
        now = schema.CURRENT
        tell(folder, f"UPDATE calotype_meta SET value = '{now}' WHERE key = 'schema'")
        assert content(store, digest) == picture()
        assert problems(store) == []


# Another folder's


def test_a_catalog_is_refused_together_with_blobs_that_are_not_its_own(folder, digest, clock):
    before = everything(folder)
    catalog, other = f"sqlite:///{folder.database}", f"file:{folder.root / 'other'}"
    for verb in VERBS.values():
        with (
            Store(catalog=catalog, backend=other, clock=clock) as store,
            pytest.raises(Misconfigured, match="keeps its bytes in file:blobs"),
        ):
            verb(store, digest)
    assert everything(folder) == before
    assert not (folder.root / "other").exists()


@pytest.mark.parametrize("backend", ["memory:", "file:store/blobs/", "file:store/../store/blobs"])
def test_one_place_is_itself_however_it_is_written(folder, digest, clock, backend, monkeypatch):
    monkeypatch.chdir(folder.root)
    with Store(catalog="sqlite:///store/catalog.db", backend=backend, clock=clock) as store:
        if backend == "memory:":
            with pytest.raises(Misconfigured):
                store.stat(digest)
        else:
            assert content(store, digest) == picture()


def test_a_store_that_was_moved_as_a_whole_is_the_same_store(folder, digest, clock):
    (folder.root / "store").rename(folder.root / "moved")
    with Store(folder.root / "moved", clock=clock) as store:
        assert content(store, digest) == picture()
        assert problems(store) == []


def test_a_catalog_copied_over_another_stores_erases_none_of_its_files(folder, digest, tmp_path):
    (tmp_path / "b").mkdir()
    other = Place("folder", tmp_path / "b", folder.clock)
    with other.open() as store:
        store.put_many([noise(80, number) for number in range(30)]).result()
        before = objects(store)
    with folder.open() as store:
        store.release("set/1")
    shutil.copy(folder.database, other.database)
    with other.open() as store:
        with pytest.raises(EraseLocked, match="another store"):
            store.gc(now=True, force=True)
        assert store.fsck(read_data=True, repair=True).result().findings["locked"] == 1
        with pytest.raises(EraseLocked):
            store.gc(now=True, full=True, force=True)
        assert objects(store) == before


def test_a_second_catalog_on_the_same_folder_is_refused(shared, clock):
    """It would see the first one's objects as strays."""
    with shared.open() as first:
        kept = first.put(picture()).digest
        second = Store(
            catalog=f"sqlite:///{shared.root / 'b.db'}",
            backend=first._rooms.mounts.primary.backend.url,
        )
        with second, pytest.raises(Corrupt):
            second.put(picture(1), owner="scan/1")
        assert content(first, kept) == picture()


def test_a_catalog_that_was_removed_is_missed_at_once(folder):
    with folder.open() as store:
        store.put(b"x")
        shutil.rmtree(folder.root / "store")
        assert list(store.assets()) == []
        digest = store.put(b"y").digest
        with folder.open() as other:
            assert other.stat(digest).size == 1


def test_a_catalog_that_was_put_in_place_of_another_is_opened(folder, tmp_path):
    with folder.open() as store:
        digest = store.put(b"x").digest
    copy = tmp_path / "copy"
    shutil.copytree(folder.root / "store", copy)
    with folder.open() as store:
        store.put(b"y")
        shutil.rmtree(folder.root / "store")
        copy.rename(folder.root / "store")
        assert [asset.digest for asset in store.assets()] == [digest]
        assert store.put(b"y").status == "created"
    with folder.open() as store:
        assert len(list(store.assets())) == 2
        assert not any(finding.is_problem for finding in store.fsck(read_data=True))


@pytest.mark.parametrize("where", ["none/app.db", "none/deep/app.db"])
def test_an_engine_whose_folder_is_not_there_leaves_nothing_where_the_bytes_go(tmp_path, where):
    engine = create_engine(f"sqlite:///{tmp_path / where}")
    store = Store(engine=engine, backend=f"file:{tmp_path / 'media'}")
    with store, pytest.raises(Unavailable):
        store.put(b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [Path("app.db"), 5, create_engine("sqlite://")])
def test_what_is_no_url_of_a_catalog_is_told_what_to_write(given):
    with pytest.raises(Misconfigured, match="as text, not a") as caught:
        Store(catalog=given, backend="memory:")
    assert "engine=" in caught.value.hint
