"""import_table: sources are removed only where nobody needs them any more."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing

import pytest
from tests.store.legacy import TO_BLOB, Application, furnished, moved, pointing
from tests.store.pictures import noise, picture
from tests.store.surgery import content, lose, spoil

from calotype import Digest, Store
from calotype.backends.markers import MARKER
from calotype.errors import Misconfigured
from calotype.importing import removing as removing_sources
from calotype.importing import rows as application


@pytest.fixture
def app(tmp_path) -> Application:
    """Six rows: two name one file, two name equal files, one names none."""
    return furnished(tmp_path)


def test_sources_are_removed_only_once_what_is_kept_was_read_back(durable, app, monkeypatch):
    with durable.open() as store:
        (app.root / "tx/FL/c.1.png").rename(app.root / "away")
        done = moved(store, app, remove_sources=True)
        assert done.removed == 3
        assert [path.name for path in app.root.rglob("*") if path.is_file()] == ["away"]
        (app.root / "away").rename(app.root / "tx/FL/c.1.png")
        assert moved(store, app).removed == 0
        lose(store, Digest.of(picture(2)))
        again = moved(store, app, remove_sources=True)
        assert (again.removed, [f.source for f in again.failures]) == (0, ["images[id=5]"])
        assert (app.root / "tx/FL/c.1.png").exists()


@pytest.mark.parametrize("inside", [False, True])
def test_a_source_whose_copy_is_spoiled_is_not_removed(durable, app, inside):
    """All of a copy is read; above 8 MiB its first bytes come before it is known to be sound."""
    app.tell("DELETE FROM images")
    data = noise(9 << 20)
    app.add(1, "a.bin", data, inside=inside)
    app.add(2, "b.bin", noise(100), inside=inside)
    columns = {"path_column": None, "bytes_column": "data"} if inside else {}
    with durable.open() as store:
        moved(store, app, **columns)
        spoil(store, Digest.of(data))
        done = moved(store, app, remove_sources=True, **columns)
        assert (done.removed, [f.source for f in done.failures]) == (1, ["images[id=1]"])
        assert done.failures[0].code == "corrupt"
        if inside:
            assert app.tell("SELECT data FROM images ORDER BY id") == [(data,), (None,)]
        else:
            assert (app.root / "a.bin").read_bytes() == data
            assert not (app.root / "b.bin").exists()


def test_a_source_that_changed_since_is_not_removed(durable, app):
    with durable.open() as store:
        moved(store, app)
        (app.root / "tx/FL/c.1.png").write_bytes(picture(9))
        done = moved(store, app, remove_sources=True)
        assert [f.source for f in done.failures] == ["images[id=5]"]
        assert "not removed" in done.failures[0].message
        assert (app.root / "tx/FL/c.1.png").read_bytes() == picture(9)


def test_a_file_that_a_row_still_needs_is_not_removed(durable, app, monkeypatch):
    with durable.open() as store:
        app.tell("UPDATE images SET result = NULL WHERE id = 4")
        done = moved(store, app, remove_sources=True)
        assert [f.source for f in done.failures] == ["images[id=4]"]
        assert (app.root / "tx/NY/b.1.png").exists()
        app.tell("UPDATE images SET result = 40 WHERE id = 4")
        assert moved(store, app, remove_sources=True).failures == ()
        assert not (app.root / "tx/NY/b.1.png").exists()


def test_a_file_that_a_row_without_a_key_names_is_not_removed(durable, app):
    app.tell("CREATE TABLE loose (id TEXT PRIMARY KEY, path TEXT, digest TEXT)")
    for key in ("1", None):
        app.tell("INSERT INTO loose VALUES (?, 'tx/CA/a.1.png', NULL)", key)
    with durable.open() as store:
        given = {"table": "loose", "owner": "loose/{id}", "role": None, "remove_sources": True}
        done = moved(store, app, **given)
        assert (done.removed, len(done.failures)) == (0, 1)
        app.tell("UPDATE loose SET id = '2' WHERE id IS NULL")
        done = moved(store, app, **given)
        assert (done.removed, done.failures) == (1, ())


def test_bytes_that_may_not_be_cleared_are_one_failure(durable, app):
    app.tell("DELETE FROM images")
    for number in range(3):
        app.add(number, None, picture(number), inside=True)
    app.tell(
        "CREATE TRIGGER archived BEFORE UPDATE OF data ON images WHEN old.id = 1 "
        "BEGIN SELECT RAISE(ABORT, 'this row is archived'); END"
    )
    with durable.open() as store:
        done = moved(store, app, path_column=None, bytes_column="data", remove_sources=True)
        assert (done.removed, [f.source for f in done.failures]) == (2, ["images[id=1]"])
        assert "archived" in done.failures[0].message
        assert app.tell("SELECT id FROM images WHERE data IS NOT NULL") == [(1,)]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("slot", [False, True])
def test_a_source_whose_row_or_slot_changed_since_it_was_verified_is_not_removed(
    durable, app, monkeypatch, slot, inside
):
    app.tell("DELETE FROM images WHERE id != 5")
    if inside:
        app.tell("UPDATE images SET data = ?", picture(2))
    given = {"path_column": None, "bytes_column": "data"} if inside else {}
    real = removing_sources.Remover._verify
    with durable.open() as store:

        def late(self, *rest):
            real(self, *rest)
            if slot:
                store.release("result/50")
            else:
                app.tell("UPDATE images SET digest = ?", Digest.of(b"newer"))

        monkeypatch.setattr(removing_sources.Remover, "_verify", late)
        done = moved(store, app, remove_sources=True, **given)
        assert (done.removed, len(done.failures)) == (0, 1)
        assert (app.root / "tx/FL/c.1.png").exists()
        assert app.tell("SELECT data FROM images") == [(picture(2) if inside else None,)]


def test_a_file_of_which_a_row_is_told_that_it_stays_does_stay(durable, app):
    """It changed between the imports of two rows that name it."""
    with durable.open() as store:
        moved(store, app)
        (app.root / "tx/FL/c.1.png").write_bytes(picture(9))
        app.tell("INSERT INTO images VALUES (7, 70, 'tx/FL/c.1.png', NULL, NULL)")
        done = moved(store, app, remove_sources=True)
        assert [f.source for f in done.failures] == ["images[id=5]"]
        assert (app.root / "tx/FL/c.1.png").exists()
        store.release("result/50")
        app.tell("UPDATE images SET digest = NULL WHERE id = 5")
        done = moved(store, app, remove_sources=True)
        assert (done.removed, done.failures) == (1, ())


def test_bytes_are_set_to_null_when_they_are_removed(durable, app):
    app.tell("DELETE FROM images")
    app.add(1, None, picture(0), inside=True)
    with durable.open() as store:
        done = moved(store, app, path_column=None, bytes_column="data", remove_sources=True)
        assert done.removed == 1
        assert app.tell("SELECT data, digest FROM images") == [(None, Digest.of(picture(0)))]


def test_the_stores_own_file_is_no_source_to_remove(durable, app):
    with durable.open() as store:
        kept = store.put(picture(0), owner="image/1", role="original")
        (copy,) = durable.blobs.rglob("*.png")
        app.tell("DELETE FROM images WHERE id > 1")
        app.tell("UPDATE images SET path = ?", str(copy))
        done = moved(store, app, owner="image/{id}", role="original", remove_sources=True)
        assert (done.removed, "store's own" in done.failures[0].message) == (0, True)
        assert content(store, kept.digest) == picture(0)


@pytest.mark.parametrize("end", ["-journal", "-reserve", "-checkpoint", ""])
def test_nor_is_a_database_of_bytes_or_what_belongs_to_it(folder, app, tmp_path, end):
    file = tmp_path / f"bytes.db{end}"
    with folder.open() as store:
        store.backends.add("two", f"sqlite:///{tmp_path}/bytes.db")
        store.put(picture(9), owner="image/9")
        file.touch()
        app.tell("DELETE FROM images WHERE id > 1")
        app.tell("UPDATE images SET path = ?", str(file))
        done = moved(store, app, owner="image/{id}", remove_sources=True)
        assert (done.removed, done.created) == (0, 0)
        assert "belongs to a database that is in use" in done.failures[0].message
    assert file.exists()


@pytest.mark.parametrize("name", ["{}", "{}-wal", "linked", "hard"])
@pytest.mark.parametrize("whose", ["the rows'", "the store's"])
def test_a_database_in_use_is_no_source(durable, app, tmp_path, whose, name):
    """It is not even read: that would let go of the locks that this process has on it."""
    with durable.open() as store:
        store.put(picture(9), owner="image/9")
        catalog = store._rooms.catalog.path
        if whose == "the store's" and catalog is None:
            pytest.skip("PostgreSQL's files are its own")
        file = app.database if whose == "the rows'" else catalog
        path = tmp_path / name.format(file)
        if name == "linked":
            path.symlink_to(file)
        elif name == "hard":
            path.hardlink_to(file)
        elif name == "{}-wal" and not path.exists():
            path.touch()
        app.tell("DELETE FROM images WHERE id > 1")
        app.tell("UPDATE images SET path = ?", str(path))
        for dry_run in (True, False):
            done = moved(store, app, owner="image/{id}", remove_sources=True, dry_run=dry_run)
            assert (done.removed, done.created) == (0, 0)
        assert "belongs to a database that is in use" in done.failures[0].message
        assert file.exists()
        assert [asset.digest for asset in store.assets()] == [Digest.of(picture(9))]


OWN = [MARKER, "sha256/aa/stray", "tmp/x", "spare/4096", "erased/7", "blocked/aa"]


@pytest.mark.parametrize("name", OWN[:2])
def test_nor_what_it_keeps_where_its_second_copies_are(folder, app, tmp_path, name):
    file = tmp_path / "two" / name
    with folder.open() as store:
        store.backends.add("two", f"file:{tmp_path}/two")
        store.put(picture(9), owner="image/9")
        file.parent.mkdir(exist_ok=True)
        file.touch()
        app.tell("DELETE FROM images WHERE id > 1")
        app.tell("UPDATE images SET path = ?", str(file))
        done = moved(store, app, owner="image/{id}", remove_sources=True)
        assert (done.removed, "store's own" in done.failures[0].message) == (0, True)
    assert file.exists()


@pytest.mark.parametrize("name", OWN)
def test_what_the_store_keeps_beside_its_bytes_is_no_source_to_remove(durable, app, name):
    with durable.open() as store:
        store.put(picture(9), owner="image/9")
        file = durable.blobs / name
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            file.write_bytes(b"stray")
        app.tell("DELETE FROM images WHERE id > 1")
        app.tell("UPDATE images SET path = ?", str(file))
        for _ in range(2):
            done = moved(store, app, owner="image/{id}", remove_sources=True)
            assert (done.removed, "store's own" in done.failures[0].message) == (0, True)
        planned = moved(store, app, owner="image/{id}", remove_sources=True, dry_run=True)
        assert planned.planned == ()
        assert file.exists()


def test_files_below_the_folder_of_the_bytes_that_are_not_its_own_are_removed(app, tmp_path, clock):
    (tmp_path / "all/pictures").mkdir(parents=True)
    file = tmp_path / "all/pictures/a.png"
    file.write_bytes(picture(5))
    app.tell("DELETE FROM images WHERE id > 1")
    app.tell("UPDATE images SET path = ?", str(file))
    url = f"sqlite:///{tmp_path}/own.db"
    with Store(catalog=url, backend=f"file:{tmp_path}/all", clock=clock) as store:
        assert moved(store, app, owner="image/{id}", remove_sources=True).removed == 1
    assert not file.exists()


def test_a_source_whose_row_has_nothing_in_the_store_is_not_removed(durable, app):
    """Somebody else has the same picture, and may let it go."""
    with durable.open() as store:
        digest = store.put(picture(2), owner="other/1").digest
        app.tell("UPDATE images SET digest = ? WHERE id = 5", digest)
        done = moved(store, app, remove_sources=True)
        assert [f.source for f in done.failures] == ["images[id=5]"]
        assert (app.root / "tx/FL/c.1.png").exists()


def test_a_file_that_a_pending_row_names_otherwise_is_not_removed(durable, app):
    with durable.open() as store:
        app.tell("INSERT INTO images VALUES (7, NULL, './tx/FL/../FL/c.1.png', NULL, NULL)")
        moved(store, app, remove_sources=True)
        assert (app.root / "tx/FL/c.1.png").exists()


@pytest.mark.parametrize("path", ["tx", "http://[bad", "a\0b"])
def test_a_source_that_is_no_file_is_that_rows_failure(durable, app, path):
    with durable.open() as store:
        digest = store.put(b"x", owner="result/70", role="screenshot").digest
        app.tell("INSERT INTO images VALUES (7, 70, ?, NULL, ?)", path, digest)
        done = moved(store, app, remove_sources=True)
        assert done.removed == 4
        assert (app.root / "tx").is_dir()


def test_a_source_whose_name_is_too_long_is_that_rows_failure(durable, app):
    app.tell("INSERT INTO images VALUES (7, 70, ?, NULL, NULL)", f"{'x' * 5000}/a.png")
    with durable.open() as store:
        done = moved(store, app, remove_sources=True)
        assert (done.removed, [f.source for f in done.failures]) == (4, ["images[id=7]"])


def removed(store, app, *late):
    """The import that most tests run; ``late`` is told to the database when one row is done."""
    run = store.import_table(
        app.url, "images", "image/{id}", path_column="path", digest_column="digest",
        root=app.root, remove_sources=True,
    )  # fmt: skip
    told = []
    for progress in run:
        if progress.note == "removing sources" and not told:
            told = sorted(path.name for path in app.root.rglob("*.png"))
            app.tell(*late)
    return run.result(), told


@pytest.mark.parametrize("together", [500, 1])
def test_a_file_that_a_row_needs_since_the_removal_began_is_not_removed(
    durable, app, monkeypatch, together
):
    monkeypatch.setattr(removing_sources, "TOGETHER", together)
    late = f"{app.root}/tx/FL/c.1.png"
    with durable.open() as store:
        done, before = removed(store, app, "INSERT INTO images VALUES (9, 9, ?, NULL, NULL)", late)
        assert before == ["a.1.png", "a.2.png", "b.1.png", "c.1.png"][together == 1 :]
        assert (done.removed, done.failures) == (3, ())
        assert [path.name for path in app.root.rglob("*.png")] == ["c.1.png"]
        assert moved(store, app).failures == ()


def test_rows_that_came_to_share_a_slot_stop_every_removal(durable, app, monkeypatch):
    real = application.Rows.without_key

    def late(self):
        app.tell("INSERT INTO images VALUES (9, 50, 'tx/NY/b.1.png', NULL, NULL)")
        return real(self)

    monkeypatch.setattr(application.Rows, "without_key", late)
    with durable.open() as store:
        done = moved(store, app, remove_sources=True)
        assert (done.created, done.removed) == (3, 0)
        assert "same owner and role" in done.failures[0].message
        assert len(list(app.root.rglob("*.png"))) == 4


def test_a_row_whose_slot_has_another_file_keeps_its_own(durable, app):
    """Rows 3 and 4 name one file; row 3 has it in its slot, row 4 has not any more."""
    with durable.open() as store:
        moved(store, app)
        store.put(b"another", owner="result/40", role="screenshot")
        done = moved(store, app, remove_sources=True)
        assert [f.source for f in done.failures] == ["images[id=4]"]
        assert "has another file" in done.failures[0].message
        assert "NULL" not in done.failures[0].hint
        assert [path.name for path in app.root.rglob("*.png")] == ["b.1.png"]


def test_a_link_is_left_alone_and_told(durable, app):
    (app.root / "link.png").symlink_to("tx/FL/c.1.png")
    app.tell("UPDATE images SET path = 'link.png' WHERE id = 5")
    with durable.open() as store:
        done = moved(store, app, remove_sources=True)
        assert (done.removed, [f.source for f in done.failures]) == (3, ["images[id=5]"])
        assert (done.failures[0].code, "is a link" in done.failures[0].message) == (
            "misconfigured",
            True,
        )
        assert sorted(path.name for path in app.root.rglob("*.png")) == ["c.1.png", "link.png"]


def test_what_the_rows_keep_for_another_scope_only_is_not_removed(shared):
    """The digest is a foreign key, and somebody else's: this scope never had the file."""
    with shared.open(column_scope="ana") as store:
        store.create()
        app = pointing(shared, TO_BLOB)
        app.tell("UPDATE images SET digest = ? WHERE id = 1", store.put(picture(1)).digest)
        done = moved(store.scope("ana"), app, owner=None, role=None, remove_sources=True)
        assert (done.removed, [f.source for f in done.failures]) == (1, ["images[id=1]"])
        assert (app.root / "tx/1").exists()


def test_a_pipe_is_not_waited_for(durable, app):
    os.mkfifo(app.root / "pipe")
    with durable.open() as store:
        digest = store.put(b"x", owner="result/70", role="screenshot").digest
        app.tell("INSERT INTO images VALUES (7, 70, 'pipe', NULL, ?)", digest)
        assert [f.source for f in moved(store, app, remove_sources=True).failures] == [
            "images[id=7]"
        ]


def test_removing_tells_how_long_it_takes(durable, app):
    with durable.open() as store:
        moved(store, app)
        run = store.import_table(
            app.url, "images", "result/{result}", role="screenshot", path_column="path",
            digest_column="digest", root=app.root, remove_sources=True,
        )  # fmt: skip
        told = [progress for progress in run if progress.note == "removing sources"]
        assert [(each.total, each.done) for each in told[:5]] == [(5, n) for n in range(1, 6)]
        assert told[0].eta is not None and told[0].eta > 0
        assert (told[-1].computed, told[-1].eta) == (4, 0)


@pytest.mark.parametrize(
    "moments", [("before",), ("between",), ("aside",), ("between", "aside")], ids=" and ".join
)
def test_a_file_that_is_replaced_at_the_last_moment_stays(durable, app, monkeypatch, moments):
    """Before the rows are asked, after it, and when it was moved aside already."""
    path = app.root / "tx/FL/c.1.png"
    real, newer = removing_sources._require_same, []

    def replaced_at(moment):
        if moment in moments:
            newer.append(b"newer at the moment " + moment.encode())
            (app.root / "newer").write_bytes(newer[-1])
            os.replace(app.root / "newer", path)

    def late(where, stamp):
        if where == path:
            replaced_at("before")
            real(where, stamp)
            replaced_at("between")
        else:
            if where.parent == path.parent:
                replaced_at("aside")
            real(where, stamp)

    with durable.open() as store:
        moved(store, app)
        monkeypatch.setattr(removing_sources, "_require_same", late)
        done = moved(store, app, remove_sources=True)
    assert path.read_bytes() == newer[-1]
    assert [name.name for name in path.parent.iterdir()] == [path.name]
    assert done.removed + len(done.failures) == 4
    assert len(done.failures) == (moments != ("aside",))


@pytest.mark.parametrize("inside", [False, True])
def test_a_dry_run_tells_what_would_go_and_changes_nothing(durable, app, inside):
    app.tell("DELETE FROM images")
    for number in (1, 2, 3):
        app.add(number, f"{number}.png", picture(number))
        app.tell("UPDATE images SET data = ? WHERE id = ?", picture(number), number)
    columns = {"path_column": None, "bytes_column": "data"} if inside else {}
    dry = {**columns, "remove_sources": True, "dry_run": True}
    sources = ["the bytes in data"] * 3 if inside else ["1.png", "2.png", "3.png"]
    rows = [f"images[id={number}]" for number in (1, 2, 3)]
    with durable.open() as store:
        first = moved(store, app, **dry)
        assert [(each.when, each.row, each.source) for each in first.planned] == [
            ("later", row, source) for row, source in zip(rows, sources, strict=True)
        ]
        assert set(app.digests().values()) == {None}
        assert list(store.assets()) == []
        moved(store, app, **columns)
        app.tell("UPDATE images SET digest = NULL WHERE id = 1")
        app.tell("UPDATE images SET data = x'00' WHERE id = 3")
        (app.root / "3.png").write_bytes(b"newer")
        before = app.tell("SELECT * FROM images")
        again = moved(store, app, **dry)
        assert [(each.when, each.row) for each in again.planned] == [
            ("now", rows[1]),
            ("later", rows[0]),
        ]
        assert [failure.source for failure in again.failures] == [rows[2]]
        assert (again.removed, app.tell("SELECT * FROM images")) == (0, before)
        assert len(list(app.root.glob("*.png"))) == 3


def test_a_dry_run_of_an_import_that_removes_nothing_is_refused(durable, app):
    with durable.open() as store, pytest.raises(Misconfigured, match="dry run"):
        moved(store, app, dry_run=True)


@pytest.mark.parametrize("came", ["folder", "file that cannot be linked"])
def test_what_came_in_a_files_place_is_put_back_whatever_it_is(durable, app, monkeypatch, came):
    path = app.root / "tx/FL/c.1.png"
    real = removing_sources._require_same

    def late(where, stamp):
        real(where, stamp)
        if where == path:
            path.unlink()
            if came == "folder":
                path.mkdir()
                (path / "inside").write_bytes(b"newer")
            else:
                path.write_bytes(b"newer")

    def no_links(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with durable.open() as store:
        moved(store, app)
        monkeypatch.setattr(removing_sources, "_require_same", late)
        if came != "folder":
            monkeypatch.setattr(removing_sources.os, "link", no_links)
        done = moved(store, app, remove_sources=True)
    assert [failure.source for failure in done.failures] == ["images[id=5]"]
    assert (path / "inside" if came == "folder" else path).read_bytes() == b"newer"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_dry_run_plans_a_file_once_and_not_before_every_row_has_it(durable, app):
    with durable.open() as store:
        moved(store, app)
        planned = moved(store, app, remove_sources=True, dry_run=True).planned
        assert [each.row for each in planned] == [f"images[id={n}]" for n in (1, 2, 3, 5)]
        app.tell("UPDATE images SET digest = NULL WHERE id = 4")
        planned = moved(store, app, remove_sources=True, dry_run=True).planned
        assert [(each.row, each.when) for each in planned if "b.1" in each.source] == [
            ("images[id=3]", "later"),
            ("images[id=4]", "later"),
        ]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("dry", [False, True])
def test_what_a_killed_removal_left_aside_is_told_by_its_name(durable, app, monkeypatch, dry):
    def killed(self):
        if self.name.endswith(removing_sources.ASIDE):
            raise Killed
        real(self)

    real = type(app.root).unlink
    with durable.open() as store:
        moved(store, app)
        with monkeypatch.context() as patched:
            patched.setattr(type(app.root), "unlink", killed)
            with pytest.raises(Killed):
                moved(store, app, remove_sources=True)
        (aside,) = app.root.rglob(f"*{removing_sources.ASIDE}")
        data = aside.read_bytes()
        for _ in range(2):
            (failure,) = moved(store, app, remove_sources=True, dry_run=dry).failures
            assert (failure.source, failure.code) == (str(aside), "backend-unreachable")
            assert "if the store has its bytes" in failure.hint
            assert content(store, Digest.of(data)) == data == aside.read_bytes()
        aside.unlink()
        assert moved(store, app, remove_sources=True).failures == ()


@pytest.mark.parametrize("row", ["released", "pending"])
def test_what_lies_aside_is_told_whatever_became_of_its_row(durable, tmp_path, row):
    url = f"sqlite:///{tmp_path}/own.db"
    with closing(sqlite3.connect(tmp_path / "own.db")) as raw, durable.open() as store:
        raw.execute("CREATE TABLE image (id INTEGER PRIMARY KEY, path TEXT, digest TEXT)")
        raw.execute("INSERT INTO image VALUES (1, 'files/a', NULL)")
        raw.commit()
        source = tmp_path / "files/a"
        source.parent.mkdir()
        source.write_bytes(b"a")
        asked = {"path_column": "path", "digest_column": "digest", "root": tmp_path}
        assert store.import_table(url, "image", "image/{id}", **asked).result().created == 1
        aside = source.rename(source.with_name(f".0123456789abcdef{removing_sources.ASIDE}"))
        store.release("image/1")
        if row == "pending":
            raw.execute("UPDATE image SET digest = NULL")
            raw.commit()
        done = store.import_table(url, "image", "image/{id}", remove_sources=True, **asked).result()
        assert str(aside) in [each.source for each in done.failures]
        assert aside.read_bytes() == b"a"


def test_what_another_removal_has_on_its_way_out_is_not_told(durable, app, monkeypatch):
    """It was there when the folder was listed, and is gone a moment later."""
    real = type(app.root).glob

    def listed(self, pattern):
        found = list(real(self, pattern))
        for each in found:
            each.unlink()
        return found

    with durable.open() as store:
        moved(store, app)
        (app.root / f"tx/FL/.0{removing_sources.ASIDE}").write_bytes(b"x")
        monkeypatch.setattr(type(app.root), "glob", listed)
        assert moved(store, app, remove_sources=True).failures == ()
