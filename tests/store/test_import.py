"""import_tree: whole trees in, again and again, and only what changed is read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.invariants import temporary_of
from tests.mounts import small_disk
from tests.store.pictures import noise, picture
from tests.store.surgery import content, lose, objects, problems, rows
from tests.store.trouble import full_after

from calotype import Digest, Store, bulk, staging
from calotype.errors import CalotypeError, Locked, Misconfigured, NotFound, Unavailable
from calotype.importing import tree, walk
from calotype.model import Imported
from calotype.progress import Progress
from calotype.staging import Limits

AGED = time.time() - 3600


@pytest.fixture
def folder_of(tmp_path) -> Path:
    """Six files in three folders, two of them the same, and what is passed over."""
    root = tmp_path / "tree"
    for name, data in {
        "a.png": picture(0),
        "b/a.png": picture(0),
        "b/c.png": picture(1),
        "b.txt": noise(300),
        "deep/er/d.jpg": picture(2),
        "umlaut ä.bin": noise(50, 7),
        "empty.png": b"",
        ".hidden.png": picture(3),
        ".folder/e.png": picture(4),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(root)
    (root / "linked.txt").symlink_to(root / "b.txt")
    return root


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The paths of files whose content is read from now on."""
    seen: list[str] = []
    real = staging.open_regular

    def noting(path):
        seen.append(os.fsdecode(path))
        return real(path)

    monkeypatch.setattr(staging, "open_regular", noting)
    return seen


def roles(store, owner: str) -> dict[str, str]:
    return {each.role: str(each.digest) for each in store.references(owner=owner)}


def test_every_file_goes_to_its_owner_in_the_role_of_its_path(store, folder_of):
    done = store.import_tree(folder_of, owner="dataset/7").result()
    assert (done.created, done.duplicate, done.failures) == (5, 2, ())
    assert (done.empty, done.hidden, done.special) == (1, 2, 2)
    names = ["a.png", "b.txt", "b/a.png", "b/c.png", "deep/er/d.jpg", "linked.txt", "umlaut ä.bin"]
    found = roles(store, "dataset/7")
    assert sorted(found) == names
    assert all(found[name] == Digest.of(folder_of / name) for name in names)
    assert all(content(store, Digest(found[name])) for name in names)
    assert problems(store) == []


def test_without_an_owner_every_file_is_kept_for_itself(store, folder_of):
    done = store.import_tree(folder_of).result()
    assert (done.created, done.duplicate) == (5, 2)
    assert all(asset.kept == "library" for asset in store.assets())
    assert store.stats().references == 0


@pytest.mark.parametrize("owner", [None, "dataset/7"])
def test_again_nothing_is_read_and_nothing_changes(store, folder_of, reads, owner):
    store.import_tree(folder_of, owner).result()
    before = (
        rows(store, "SELECT * FROM calotype_reference"),
        rows(store, "SELECT * FROM calotype_asset"),
    )
    assert len(reads) == 7
    reads.clear()
    done = store.import_tree(folder_of, owner).result()
    assert done == Imported(unchanged=7, empty=1, hidden=2, special=2)
    assert reads == []
    assert before == (
        rows(store, "SELECT * FROM calotype_reference"),
        rows(store, "SELECT * FROM calotype_asset"),
    )
    assert store.import_tree(folder_of, owner, resume=False).result().duplicate == 7
    assert len(reads) == 7


def test_only_what_changed_is_read(store, folder_of, reads):
    store.import_tree(folder_of, "dataset/7").result()
    reads.clear()
    (folder_of / "b.txt").write_bytes(noise(300, 9))
    os.utime(folder_of / "a.png", (AGED, AGED))
    (folder_of / "new").mkdir()
    (folder_of / "new/f.png").write_bytes(picture(5))
    (folder_of / "b/c.png").unlink()
    done = store.import_tree(folder_of, "dataset/7").result()
    assert sorted(os.path.relpath(path, folder_of) for path in reads) == [
        "a.png",
        "b.txt",
        "linked.txt",
        "new/f.png",
    ]
    assert (done.unchanged, done.created, done.duplicate) == (3, 2, 2)
    assert roles(store, "dataset/7")["b.txt"] == Digest.of(folder_of / "b.txt")
    assert roles(store, "dataset/7")["b/c.png"] == Digest.of(picture(1)), "what is gone is kept"
    (remembered,) = rows(store, "SELECT COUNT(*) FROM calotype_import_seen")[0]
    assert remembered == 7


def test_a_replaced_file_of_the_same_size_and_time_is_told_by_its_inode(store, folder_of):
    os.utime(folder_of / "b.txt", (AGED, AGED))
    store.import_tree(folder_of, "dataset/7").result()
    other = folder_of / "other"
    other.write_bytes(noise(300, 8))
    os.utime(other, (AGED, AGED))
    other.replace(folder_of / "b.txt")
    store.import_tree(folder_of, "dataset/7").result()
    assert roles(store, "dataset/7")["b.txt"] == Digest.of(noise(300, 8))


def test_a_file_of_another_size_and_the_same_time_and_inode_is_read_again(store, folder_of):
    os.utime(folder_of / "b.txt", (AGED, AGED))
    store.import_tree(folder_of, "dataset/7").result()
    (folder_of / "b.txt").write_bytes(noise(301))
    os.utime(folder_of / "b.txt", (AGED, AGED))
    store.import_tree(folder_of, "dataset/7").result()
    assert roles(store, "dataset/7")["b.txt"] == Digest.of(noise(301))


def test_bytes_that_gc_has_taken_come_back(store, folder_of, reads):
    store.import_tree(folder_of, "dataset/7").result()
    store.release("dataset/7")
    assert store.gc(now=True).erased == 5
    reads.clear()
    done = store.import_tree(folder_of, "dataset/7").result()
    assert (done.unchanged, done.created, done.duplicate) == (0, 5, 2)
    assert len(roles(store, "dataset/7")) == 7
    assert problems(store) == []


def test_what_was_released_is_had_again_without_reading(store, folder_of, reads):
    store.import_tree(folder_of, "dataset/7").result()
    store.release("dataset/7")
    reads.clear()
    done = store.import_tree(folder_of, "dataset/7").result()
    assert (done.restored + done.duplicate, reads) == (7, [])
    assert len(roles(store, "dataset/7")) == 7


def test_another_owner_has_the_files_without_reading(store, folder_of, reads):
    store.import_tree(folder_of, "dataset/7").result()
    reads.clear()
    assert store.import_tree(folder_of, "dataset/8").result().duplicate == 7
    assert reads == []
    assert len(roles(store, "dataset/8")) == 7


def test_another_scope_reads_the_files_to_have_them(store, folder_of, reads):
    """What one scope has is no secret that a path alone would tell another."""
    store.import_tree(folder_of, "dataset/7").result()
    path = folder_of / "b.txt"
    facts, was = path.stat(), path.read_bytes()
    path.write_bytes(bytes(reversed(was)))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    reads.clear()
    ana = store.scope("ana")
    assert ana.import_tree(folder_of).result().created == 5
    assert len(reads) == 7
    with pytest.raises(NotFound):
        ana.stat(Digest.of(was))
    reads.clear()
    assert ana.import_tree(folder_of).result().unchanged == 7
    assert reads == []


def test_a_damaged_copy_is_mended_from_a_file_that_did_not_change(store, folder_of):
    store.import_tree(folder_of, "dataset/7").result()
    digest = Digest.of(folder_of / "b.txt")
    lose(store, digest)
    store.fsck().result()
    done = store.import_tree(folder_of, "dataset/7").result()
    assert (done.healed, done.duplicate) == (1, 1), "linked.txt is the same file"
    assert content(store, digest) == (folder_of / "b.txt").read_bytes()
    assert problems(store) == []


def test_a_file_whose_blob_went_and_that_changed_meanwhile_fails_and_is_had_next_time(
    store, folder_of, monkeypatch
):
    """The bytes of its known digest are not here any more, and what is read now is others."""
    store.import_tree(folder_of, "dataset/7").result()
    lose(store, Digest.of(folder_of / "b/c.png"))
    store.fsck().result()
    real = tree.TreeImport._read

    def late(self, entry):
        if entry.path.endswith(b"b/c.png") and entry.known:
            Path(os.fsdecode(entry.path)).write_bytes(picture(9))
        return real(self, entry)

    with monkeypatch.context() as patched:
        patched.setattr(tree.TreeImport, "_read", late)
        done = store.import_tree(folder_of, "dataset/7").result()
    assert [failure.code for failure in done.failures] == ["backend-unreachable"]
    assert store.import_tree(folder_of, "dataset/7").result().created == 1
    assert roles(store, "dataset/7")["b/c.png"] == Digest.of(picture(9))


def test_a_file_that_changes_while_it_is_read_is_not_kept_as_it_never_was(
    store, folder_of, monkeypatch
):
    real = staging.receive

    def writing(source, *rest, **options):
        received = real(source, *rest, **options)
        if os.fsdecode(source).endswith("b/c.png"):
            with open(source, "ab") as file:
                file.write(b"more")
        return received

    with monkeypatch.context() as patched:
        patched.setattr(staging, "receive", writing)
        done = store.import_tree(folder_of, "dataset/7").result()
    assert [failure.source for failure in done.failures] == [str(folder_of / "b/c.png")]
    assert "b/c.png" not in roles(store, "dataset/7")
    assert store.import_tree(folder_of, "dataset/7").result().failures == ()


def test_a_file_written_in_the_very_instant_is_waited_for(store, tmp_path):
    """A change within the same instant could not be told from none."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(20):
        (root / "f").write_bytes(noise(64, number))
        store.import_tree(root, "d/1").result()
        (root / "f").write_bytes(noise(64, 1000 + number))
        store.import_tree(root, "d/1").result()
        assert roles(store, "d/1") == {"f": Digest.of(root / "f")}


def test_whole_seconds_are_not_trusted_while_they_last(store, tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_bytes(b"x")
    now = int(time.time())
    os.utime(root / "f", ns=(now * 10**9, now * 10**9))
    store.import_tree(root).result()
    assert store.import_tree(root).result().unchanged == 0
    os.utime(root / "f", (int(AGED), int(AGED)))
    store.import_tree(root).result()
    assert store.import_tree(root).result().unchanged == 1


def test_a_file_that_changes_between_two_owners_is_read_again(store, tmp_path, monkeypatch):
    """The second reading is not trusted, whenever the first one is remembered."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_bytes(b"x")
    os.utime(root / "f", (AGED, AGED))
    (tmp_path / "links.csv").write_text("path,owner,role\nf,scan/1,a\nf,scan/2,b\n")
    real, one_by_one, ahead = tree.read_still, threading.Lock(), time.time() + 3600

    def changing(path, *rest):
        with one_by_one:
            read = real(path, *rest)
            (root / "f").write_bytes(b"y")
            os.utime(root / "f", (ahead, ahead))
            return read

    monkeypatch.setattr(tree, "read_still", changing)
    monkeypatch.setattr(bulk, "BATCH_COUNT", 1)
    done = store.import_tree(root, links=tmp_path / "links.csv").result()
    assert (done.created, done.failures) == (2, ())
    again = store.import_tree(root, links=tmp_path / "links.csv").result()
    assert again.unchanged == 0


def test_one_bad_file_stops_no_other_and_is_tried_again(store, folder_of, tmp_path):
    (folder_of / "broken").symlink_to(tmp_path / "nowhere")
    store.purge(Digest.of(picture(1)))
    done = store.import_tree(folder_of, "dataset/7").result()
    assert sorted((Path(f.source).name, f.code) for f in done.failures) == [
        ("broken", "not-found"),
        ("c.png", "blocked"),
    ]
    assert len(roles(store, "dataset/7")) == 6
    (folder_of / "broken").unlink()
    store.unblock(Digest.of(picture(1)))
    again = store.import_tree(folder_of, "dataset/7", only=[f.source for f in done.failures])
    result = again.result()
    assert (result.created, [f.code for f in result.failures]) == (1, ["not-found"])
    assert len(roles(store, "dataset/7")) == 7


def test_a_file_over_the_limit_fails_alone(durable, folder_of):
    (folder_of / "large").write_bytes(noise(5001))
    with durable.open(limits=Limits(file_size=5000)) as store:
        done = store.import_tree(folder_of, "dataset/7").result()
        assert [(f.source, f.code) for f in done.failures] == [
            (str(folder_of / "large"), "too-large")
        ]
        assert len(roles(store, "dataset/7")) == 7
    with durable.open() as store:
        assert store.import_tree(folder_of, "dataset/7").result().created == 1


def test_a_picture_that_went_while_it_was_looked_up_has_the_limit_of_pixels(
    durable, folder_of, monkeypatch
):
    digest = Digest.of(picture(1))
    with durable.open() as store:
        store.import_tree(folder_of, "dataset/7").result()
        assert store.stat(digest).blob.width == 8
        store.release("dataset/7", "b/c.png")
    real = tree.TreeImport._receive

    def late(self, entry):
        if entry.path.endswith(b"b/c.png"):
            store.gc(now=True)
        return real(self, entry)

    monkeypatch.setattr(tree.TreeImport, "_receive", late)
    with durable.open(limits=Limits(pixels=8 * 6 - 1)) as store:
        assert store.import_tree(folder_of, "dataset/7").result().created == 1
        assert store.stat(digest).blob.width is None


def test_names_that_are_no_unicode_too_long_or_like_a_digest(store, tmp_path):
    root = os.fsencode(tmp_path / "tree")
    os.mkdir(root)
    long = b"/".join([b"n" * 200] * 6)
    os.makedirs(os.path.join(root, os.path.dirname(long)))
    names = [b"bad \xff.png", b"new\nline", b"-rf", b"a" * 64, long]
    for number, name in enumerate(names):
        with open(os.path.join(root, name), "wb") as file:
            file.write(noise(20, number))
    done = store.import_tree(os.fsdecode(root), "d/1").result()
    assert done.failures == ()
    found = sorted(roles(store, "d/1"))
    os.rename(root, root + b"-2")
    elsewhere = store.import_tree(os.fsdecode(root + b"-2"), "d/1").result()
    assert (elsewhere.duplicate, sorted(roles(store, "d/1"))) == (5, found)
    os.rename(root + b"-2", root)
    assert found[:4] == ["-rf", f"./{'a' * 64}", "./bad \\xff.png", "new\nline"]
    assert found[4].startswith("nnn") and "~" in found[4] and len(found[4]) < 1000
    assert store.import_tree(os.fsdecode(root), "d/1").result().unchanged == 5


def test_a_neighbour_whose_name_begins_alike_is_not_forgotten(store, tmp_path, reads):
    for name in ("tree", "tree-2", "tree.bak", "tree0", "tree/in"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(name.encode())
    for name in ("tree-2", "tree.bak", "tree0", "tree"):
        store.import_tree(tmp_path / name).result()
    reads.clear()
    for name in ("tree-2", "tree.bak", "tree0", "tree"):
        store.import_tree(tmp_path / name).result()
    assert reads == []


def test_a_map_says_who_has_what(store, folder_of, tmp_path):
    links = tmp_path / "links.csv"
    links.write_text(
        "path,owner,role\n"
        "a.png,scan/1,original\n"
        "a.png,scan/2,\n"
        '"umlaut ä.bin",scan/3,note\n'
        ".hidden.png,scan/4,secret\n"
        f"{folder_of}/b.txt,scan/5,absolute\n"
    )
    done = store.import_tree(folder_of, "dataset/7", links=links).result()
    assert done.failures == ()
    assert roles(store, "scan/1") == {"original": Digest.of(picture(0))}
    assert roles(store, "scan/2") == {"a.png": Digest.of(picture(0))}
    assert list(roles(store, "scan/3")) == ["note"]
    assert roles(store, "scan/4") == {"secret": Digest.of(picture(3))}
    assert list(roles(store, "scan/5")) == ["absolute"]
    assert sorted(roles(store, "dataset/7")) == [
        "b/a.png",
        "b/c.png",
        "deep/er/d.jpg",
        "linked.txt",
    ]
    assert store.import_tree(folder_of, "dataset/7", links=links).result().unchanged >= 8


def test_a_map_names_files_by_their_bytes_where_they_are_no_text(store, tmp_path):
    root, links = tmp_path / "tree", tmp_path / "links.csv"
    root.mkdir()
    (root / os.fsdecode(b"caf\xe9")).write_bytes(picture())
    links.write_bytes(b"path,owner,role\ncaf\xe9,scan/1,original\n")
    assert store.import_tree(root, links=links).result().created == 1
    assert roles(store, "scan/1") == {"original": Digest.of(picture())}
    links.write_bytes(b"path,owner,role\ncaf\xe9,scan/\xe9,original\n")
    with pytest.raises(Misconfigured, match=r"links\.csv:2: "):
        store.import_tree(root, links=links).result()


def test_what_a_map_names_beside_the_tree_is_not_read_again(store, folder_of, tmp_path, reads):
    """Hidden files, those in hidden folders, empty ones, and those that lie elsewhere."""
    (folder_of / ".git").mkdir(exist_ok=True)
    for path in (folder_of / ".git/config", folder_of / ".note", tmp_path / "outside.png"):
        path.write_bytes(path.name.encode())
    named = [".git/config", ".git", ".hidden.png", ".note", "empty.png", "../outside.png"]
    links = tmp_path / "links.csv"
    links.write_text("\n".join(["path,owner", *(f"{name},scan/1" for name in named)]))
    before = store.import_tree(folder_of, "d/1").result()
    for path in [folder_of / name for name in named]:
        os.utime(path, (AGED, AGED))
    done = store.import_tree(folder_of, "d/1", links=links).result()
    assert len(roles(store, "scan/1")) == 5
    assert [Path(f.source).name for f in done.failures] == [".git"], "a folder is no file"
    assert (before.empty - done.empty, before.hidden - done.hidden) == (1, 2)
    reads.clear()
    again = store.import_tree(folder_of, "d/1", links=links).result()
    assert (again.unchanged, [path for path in reads if not path.endswith(".git")]) == (12, [])
    (folder_of / ".git/config").write_bytes(b"changed")
    assert store.import_tree(folder_of, "d/1", links=links).result().created == 1
    assert Digest.of(b"changed") in roles(store, "scan/1").values()


def test_a_line_of_the_map_whose_file_is_not_there_fails_by_itself(store, folder_of, tmp_path):
    links = tmp_path / "links.csv"
    links.write_text("path, owner\nnowhere.png, scan/1\n../outside.png, scan/2\n")
    (tmp_path / "outside.png").write_bytes(picture(6))
    done = store.import_tree(folder_of, links=links).result()
    assert [(Path(f.source).name, f.code) for f in done.failures] == [("nowhere.png", "not-found")]
    assert list(roles(store, "scan/2").values()) == [Digest.of(picture(6))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png,scan/1\n", "does not name the columns"),
        ("", "does not name the columns"),
        ("path,owner,colour\n", "does not name the columns"),
        ("path,path,owner\na.png,b.txt,s/1\n", "each once"),
        ("path,owner\na.png,nobody\n", ":2: Not an owner"),
        ("path,owner\na.png,s/1\n,s/1\n", ":3 has no path"),
        ("path,owner\na.png,s/1,x,y\n", ":2 has no path, or more"),
        ("path,owner,role\na.png,,original\n", ":2: A role belongs"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused_before_anything_is_done(
    store, folder_of, tmp_path, text, said
):
    (tmp_path / "links.csv").write_text(text)
    with pytest.raises(Misconfigured, match=said) as caught:
        store.import_tree(folder_of, links=tmp_path / "links.csv")
    assert caught.value.hint
    assert list(store.assets()) == []


def test_what_is_no_folder_is_refused(store, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotFound, match="No such folder"):
        store.import_tree(tmp_path / "nowhere").result()
    with pytest.raises(Misconfigured, match="is a file"):
        store.import_tree(tmp_path / "file").result()


def test_a_store_inside_the_tree_does_not_import_itself(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    with Store(tmp_path / "media") as store:
        for _ in range(2):
            store.import_tree(tmp_path).result()
        assert [asset.filename for asset in store.assets()] == ["a.png"]


@pytest.mark.parametrize("inner", ["", "sha256", "sha256/aa", "tmp", "erased"])
def test_the_stores_own_folder_is_not_imported(tmp_path, inner):
    with Store(tmp_path / "media") as store:
        store.put(picture())
        for there in ("sha256/aa", "tmp", "erased"):
            (tmp_path / "media/blobs" / there).mkdir(exist_ok=True)
        (tmp_path / "link").symlink_to("media/blobs")
        (tmp_path / "deep").symlink_to(f"media/blobs/{inner}")
        for root in (f"media/blobs/{inner}", f"link/{inner}", "deep"):
            with pytest.raises(Misconfigured, match="where the store keeps its bytes"):
                store.import_tree(tmp_path / root).result()
        assert len([*store.assets()]) == 1


def test_a_database_that_is_named_among_the_files_is_not_read(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    with Store(tmp_path / "media") as store:
        store.put(picture(1))
        for names in (["a.png", "media/catalog.db"], ["media"]):
            done = store.import_tree(tmp_path, only=names).result()
            assert [each.source[-10:] for each in done.failures] == ["catalog.db"][: len(names) - 1]
        assert len([*store.assets()]) == 2


@pytest.mark.parametrize("where", ["inside", "elsewhere", "linked"])
def test_a_database_that_a_map_names_is_not_read(tmp_path, where):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.png").write_bytes(picture())
    place = tmp_path / ("tree/media" if where == "inside" else "media")
    with Store(place) as store:
        store.put(picture(1))
        named = [place / "catalog.db", place / "catalog.db-shm"]
        if where == "linked":
            named = [tmp_path / "tree/linked.db"]
            named[0].hardlink_to(place / "catalog.db")
        lines = [f"{path},x/1,{number}" for number, path in enumerate(named)]
        links = tmp_path / "links.csv"
        links.write_text("path,owner,role\n" + "\n".join([*lines, "a.png,x/1,a"]) + "\n")
        done = store.import_tree(tmp_path / "tree", links=links).result()
        assert [each.source for each in done.failures] == [str(path) for path in named]
        assert {each.code for each in done.failures} == {"misconfigured"}
        assert (done.created, len([*store.assets()])) == (1, 2)


def test_a_folder_in_a_list_that_still_cannot_be_imported_stops_no_other(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    with Store(tmp_path / "media") as store:
        store.put(picture(1))
        done = store.import_tree(tmp_path, only=["media/blobs", "a.png"]).result()
        assert [each.source for each in done.failures] == [str(tmp_path / "media/blobs")]
        assert (done.created, len([*store.assets()])) == (1, 2)


def test_files_whose_names_only_begin_as_the_databases_are_imported(tmp_path):
    names = ("app.db.old", "app.db2", "app.dbs/x.png")
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(number))
    (tmp_path / "app.db.schema3.abcdef").write_bytes(b"a copy made before an upgrade")
    with Store(catalog=f"sqlite:///{tmp_path}/app.db", backend=f"file:{tmp_path}/blobs") as store:
        assert store.import_tree(tmp_path).result().created == 3


def test_a_folder_beside_the_stores_own_is_imported(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(picture())
    with Store(catalog=f"sqlite:///{tmp_path}/app.db", backend=f"file:{tmp_path}") as store:
        store.put(b"first")
        assert store.import_tree(tmp_path / "pictures").result().created == 1


@pytest.mark.parametrize("role", ["primary", "mirror"])
def test_bytes_in_a_file_inside_the_tree_are_not_imported(tmp_path, role):
    (tmp_path / "a.png").write_bytes(picture())
    there = f"sqlite:///{tmp_path}/bytes.db"
    primary = {"backend": there} if role == "primary" else {}
    with Store(tmp_path / "media", **primary) as store:
        if role == "mirror":
            store.backends.add("two", there)
        for _ in range(3):
            store.import_tree(tmp_path).result()
        assert [asset.filename for asset in store.assets()] == ["a.png"]


def test_progress_tells_of_all_files_and_ends_at_the_total(store, folder_of, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    steps = list(store.import_tree(folder_of, "d/1"))
    assert all(isinstance(step, Progress) for step in steps)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[-1].done, steps[-1].total) == (10, 10)
    monkeypatch.setattr(tree, "CHUNK", 2)
    again = list(store.import_tree(folder_of, "d/1"))
    assert (len(again) >= 3, again[-1].done, again[-1].skipped) == (True, 10, 10)


def test_what_is_left_takes_as_long_as_what_was_done_copies_or_not(store, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 5)
    root = tmp_path / "copies"
    root.mkdir()
    for number in range(50):
        (root / f"{number:02}").write_bytes(b"the same")
    began = time.monotonic()
    told = 0
    for step in store.import_tree(root, "d/1"):
        if 0 < step.done < 50:
            assert 0 < step.eta <= (time.monotonic() - began) * (50 - step.done) / step.done
            told += 1
    assert told >= 5
    assert step.eta == 0
    for number in range(50, 60):
        (root / f"{number:02}").write_bytes(b"the same")
    began = time.monotonic()
    for step in store.import_tree(root, "d/1"):
        if 50 < step.done < 60:
            assert step.eta <= (time.monotonic() - began) * (60 - step.done) / step.done


def test_an_import_stops_where_another_holds_the_catalog_and_goes_on_later(
    folder, folder_of, monkeypatch
):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    with folder.open() as store:
        store.create()
    with folder.open() as store, closing(sqlite3.connect(folder.database)) as other:
        run = iter(store.import_tree(folder_of, "d/1"))
        kept = next(run).computed
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked):
            list(run)
        other.execute("ROLLBACK")
        assert len(roles(store, "d/1")) == kept
        assert temporary_of(folder.root / "store") == []
        assert store.import_tree(folder_of, "d/1").result().unchanged == kept
        assert problems(store) == []


def test_a_run_that_was_left_goes_on_where_it_was(durable, folder_of, monkeypatch, reads):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    with durable.open() as store:
        run = store.import_tree(folder_of, "d/1")
        next(iter(run))
        run.close()
        kept = len(roles(store, "d/1"))
        assert 0 < kept < 7
        assert problems(store) == []
        reads.clear()
        done = store.import_tree(folder_of, "d/1").result()
        assert done.unchanged == kept
        assert len(reads) == 7 - kept
        assert len(roles(store, "d/1")) == 7


def test_two_imports_of_overlapping_trees_at_once(durable, tmp_path):
    root = tmp_path / "tree"
    for number in range(300):
        path = root / f"{number % 7}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(60, number % 90))
    with durable.open() as store:
        failed: list[CalotypeError] = []

        def work(folder: Path, owner: str) -> None:
            try:
                assert store.import_tree(folder, owner).result().failures == ()
            except CalotypeError as error:
                failed.append(error)

        threads = [
            threading.Thread(target=work, args=(folder, owner))
            for folder, owner in ((root, "d/1"), (root / "3", "d/2"), (root, "d/3"), (root, "d/1"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(roles(store, "d/1")) == len(roles(store, "d/3")) == 300
        store.gc(now=True)  # of two that bring the same bytes at once one lets its own go
        assert len(objects(store)) == 90
        assert store.import_tree(root, "d/3").result().unchanged == 300
        assert problems(store) == []


def test_a_backend_that_fails_in_the_middle_loses_nothing_and_the_next_import_goes_on(
    folder, folder_of, monkeypatch
):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    with folder.open() as store:
        with full_after(1):
            done = store.import_tree(folder_of, "d/1").result()
        assert done.created and {f.code for f in done.failures} == {"backend-unreachable"}
        assert problems(store) == []
        again = store.import_tree(folder_of, "d/1").result()
        assert (again.failures, len(roles(store, "d/1"))) == ((), 7)
        assert problems(store) == []


def test_the_walk_goes_by_the_bytes_of_whole_paths(tmp_path):
    for name in ("a/x", "a.b", "a-b", "a", "b/a/z", "b/a.z", "ab"):
        path = tmp_path / (name if name != "a" else "A")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = [each.path for each in walk.Walk(os.fsencode(tmp_path)).files()]
    assert found == sorted(found)
    assert len(found) == 7


def test_a_folder_that_may_not_be_entered_is_a_failure_of_its_own(store, folder_of, monkeypatch):
    real = os.scandir

    def refusing(path):
        if not isinstance(path, int) and os.fsencode(path).endswith(b"/deep"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    done = store.import_tree(folder_of, "d/1").result()
    assert [(Path(f.source).name, f.code) for f in done.failures] == [("deep", "denied")]
    assert len(roles(store, "d/1")) == 6


def test_two_names_never_have_one_role(store, tmp_path):
    """One has the byte, the other the four characters that stand for it elsewhere."""
    root = os.fsencode(tmp_path / "tree")
    os.mkdir(root)
    ending = b"\\xff".rjust(64, b"x")
    names = [b"\xff", b"\\xff", b"\xff\\xfe", b"\\xff\xfe", ending, ending[:-4] + b"\xff"]
    for number, name in enumerate(names):
        with open(os.path.join(root, name), "wb") as file:
            file.write(b"%d" % number)
    store.import_tree(os.fsdecode(root), "d/1").result()
    assert len(roles(store, "d/1")) == len(names)
    assert roles(store, "d/1")["\\xff"] == Digest.of(b"1"), "an ordinary name is its own role"
    assert store.import_tree(os.fsdecode(root), "d/1").result().unchanged == len(names)


def test_a_map_gives_no_slot_to_two_files(store, folder_of, tmp_path):
    links = tmp_path / "links.csv"
    links.write_text(
        "path,owner,role\na.png,s/9,original\na.png,s/9,original\nb.txt,s/9,original\n"
    )
    with pytest.raises(Misconfigured, match=r":4 gives s/9 'original' a second file"):
        store.import_tree(folder_of, links=links)
    links.write_text("path,owner,role\na.png,d/1,b.txt\n")
    done = store.import_tree(folder_of, "d/1", links=links).result()
    assert [Path(f.source).name for f in done.failures] == ["b.txt"]
    assert roles(store, "d/1")["b.txt"] == Digest.of(folder_of / "a.png")


@pytest.mark.parametrize("text", ['path,owner\n"a.png,s/1\n' + "x" * 200_000, "path\na\0b\n"])
def test_a_map_that_is_no_csv_is_refused(store, folder_of, tmp_path, text):
    (tmp_path / "links.csv").write_text(text)
    with pytest.raises(Misconfigured, match="links.csv:"):
        store.import_tree(folder_of, links=tmp_path / "links.csv")


@pytest.mark.parametrize("source", ["", "a\0b"])
def test_what_can_be_no_folder_is_refused(store, source):
    with pytest.raises(Misconfigured, match="Not a folder"):
        store.import_tree(source)
    with pytest.raises(Misconfigured, match="several files"):
        store.import_tree(".", only="a")


def test_a_folder_that_is_none_makes_no_store(tmp_path):
    with Store(tmp_path / "media") as store, pytest.raises(NotFound):
        store.import_tree(tmp_path / "nowhere").result()
    assert not (tmp_path / "media").exists()


def test_a_folder_that_failed_is_fed_back(store, folder_of):
    done = store.import_tree(folder_of, "d/1", only=[folder_of / "b", folder_of / "deep"]).result()
    assert done.failures == ()
    assert sorted(roles(store, "d/1")) == ["b/a.png", "b/c.png", "deep/er/d.jpg"]


def test_a_new_store_inside_the_tree_is_passed_over_from_the_first_file_on(tmp_path):
    for number in range(bulk.BATCH_COUNT + 2500):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    with Store(tmp_path / "zz") as store:
        done = store.import_tree(tmp_path, "t/1").result()
        assert done.created + done.duplicate == bulk.BATCH_COUNT + 2500


def test_a_note_that_cannot_be_written_costs_only_another_reading(store, folder_of, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(tree.seen, "note", refused)
        assert store.import_tree(folder_of, "d/1").result().failures == ()
    assert store.import_tree(folder_of, "d/1").result().duplicate == 7


def refused(*_: object) -> None:
    raise Unavailable("The disk that holds the catalog is full.")


def test_a_file_written_between_the_walk_and_its_reading_is_read_again(
    store, tmp_path, monkeypatch
):
    """And once more in the very instant of the reading: on a disk whose clock ticks slowly."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_bytes(b"old")
    os.utime(root / "f", (AGED, AGED))
    real = staging.receive

    def late(source, *rest, **options):
        (root / "f").write_bytes(b"111")
        received = real(source, *rest, **options)
        instant = os.stat(root / "f").st_mtime_ns
        (root / "f").write_bytes(b"222")
        os.utime(root / "f", ns=(instant, instant))
        return received

    with monkeypatch.context() as patched:
        patched.setattr(staging, "receive", late)
        store.import_tree(root, "d/1").result()
    store.import_tree(root, "d/1").result()
    assert roles(store, "d/1") == {"f": Digest.of(b"222")}


@pytest.mark.mounts
def test_a_file_of_a_date_before_all_dates_is_imported_and_known_again(store, tmp_path):
    """Go and .NET write year 1 where there is no date; some file systems keep it."""
    with small_disk(tmp_path / "disk", "4m"):
        for name, stamp in (("old", "0001-01-01"), ("new", "2400-01-01"), ("mid", "2020-01-01")):
            file = tmp_path / "disk" / name
            file.write_bytes(name.encode())
            subprocess.run(["touch", "-d", stamp, file], check=True)
        first = store.import_tree(tmp_path / "disk", owner="set/1").result()
        assert (first.created, first.failures) == (3, ())
        again = store.import_tree(tmp_path / "disk", owner="set/1").result()
        assert (again.created, again.failures) == (0, ())
        assert again.unchanged >= 2


def test_two_dots_lead_up_from_where_a_link_leads_to(store, tmp_path):
    for folder in ("real/data", "real/photos", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "real/photos/a").write_bytes(b"right")
    (tmp_path / "photos/a").write_bytes(b"wrong")
    (tmp_path / "link").symlink_to(tmp_path / "real/data")
    store.import_tree(f"{tmp_path}/link/../photos", owner="set/1").result()
    (kept,) = store.references(owner="set/1")
    assert (content(store, kept.digest), kept.role) == (b"right", "a")
