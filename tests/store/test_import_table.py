"""import_table: the files that an application's rows name, or hold, kept for those rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.store.pictures import picture
from tests.store.surgery import backend_of, content, lose, problems

from calotype import Digest, Store, bulk
from calotype.errors import Locked, Misconfigured, NotFound, Unavailable
from calotype.importing import rows as application


class Application:
    """A database with legacy images, and the folder where their files lie."""

    def __init__(self, root: Path) -> None:
        self.root = root / "imagecache"
        self.database = root / "legacy.db"
        self.url = f"sqlite:///{self.database}"
        self.tell(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, result INT, path TEXT, data BLOB, "
            "digest CHAR(64))"
        )

    def add(self, number: int, name: str | None, data: bytes | None, *, inside: bool = False):
        if name is not None and data is not None and not inside:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.tell(
            "INSERT INTO images VALUES (?, ?, ?, ?, NULL)",
            number,
            number * 10,
            name,
            data if inside else None,
        )

    def tell(self, sql: str, *values: object) -> list[tuple]:
        with closing(sqlite3.connect(self.database)) as raw, raw:
            return raw.execute(sql, values).fetchall()

    def digests(self) -> dict[int, str | None]:
        return dict(self.tell("SELECT id, digest FROM images ORDER BY id"))


@pytest.fixture
def app(tmp_path) -> Application:
    """Six rows: two name one file, two name equal files, one names none."""
    made = Application(tmp_path)
    made.add(1, "tx/CA/a.1.png", picture(0))
    made.add(2, "tx/CA/a.2.png", picture(0))
    made.add(3, "tx/NY/b.1.png", picture(1))
    made.tell("INSERT INTO images VALUES (4, 40, 'tx/NY/b.1.png', NULL, NULL)")
    made.add(5, "tx/FL/c.1.png", picture(2))
    made.add(6, None, None)
    return made


def moved(store, app, **more):
    """The import that most tests run."""
    given = {
        "owner": "result/{result}",
        "role": "screenshot",
        "path_column": "path",
        "digest_column": "digest",
        "root": app.root,
    }
    return store.import_table(app.url, "images", **(given | more)).result()


def test_each_row_has_its_file_under_an_owner_of_its_own_and_its_digest(store, app):
    done = moved(store, app)
    assert (done.created, done.duplicate, done.failures) == (3, 2, ())
    expected = {1: picture(0), 2: picture(0), 3: picture(1), 4: picture(1), 5: picture(2)}
    assert app.digests() == {n: Digest.of(data) for n, data in expected.items()} | {6: None}
    for number in expected:
        (reference,) = store.references(owner=f"result/{number * 10}")
        assert reference.role == "screenshot"
    assert {asset.filename for asset in store.assets()} == {"a.1.png", "b.1.png", "c.1.png"}
    assert len(list(app.root.rglob("*.png"))) == 4, "sources are left alone"
    assert problems(store) == []


def test_again_there_is_nothing_to_do(store, app):
    moved(store, app)
    assert moved(store, app) == type(moved(store, app))()


def test_bytes_in_the_database(store, app):
    app.tell("DELETE FROM images")
    for number in range(8):
        app.add(number, None, picture(number % 3), inside=True)
    done = moved(store, app, path_column=None, bytes_column="data")
    assert (done.created, done.duplicate) == (3, 5)
    assert app.digests() == {n: Digest.of(picture(n % 3)) for n in range(8)}
    assert app.tell("SELECT COUNT(data) FROM images") == [(8,)]


def test_without_an_owner_files_are_kept_for_themselves(store, app):
    moved(store, app, owner=None, role=None)
    assert [asset.kept for asset in store.assets()] == ["library"] * 3


def test_a_column_that_points_at_the_store_is_enough(shared, clock):
    """The rows keep the bytes from then on; the hold is over after a day."""
    with shared.open() as store:
        store.put(b"so that the tables are there", hold=0)
        app = Application.__new__(Application)
        app.root, app.database = shared.root / "files", shared.database
        app.url = f"sqlite:///{app.database}"
        app.tell(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, result INT, path TEXT, data BLOB, "
            "digest CHAR(64) REFERENCES calotype_blob (digest))"
        )
        app.add(1, "a.png", picture(0))
        app.add(2, "b.png", picture(1))
        assert moved(store, app, owner=None, role=None).created == 2
        clock.advance(days=3)
        app.tell("DELETE FROM images WHERE id = 2")
        store.gc(now=True, full=True)
        assert content(store, Digest.of(picture(0))) == picture(0)
        with pytest.raises(NotFound):
            store.stat(Digest.of(picture(1)))


def test_a_row_that_fails_stops_no_other_and_is_had_next_time(store, app):
    (app.root / "tx/FL/c.1.png").rename(app.root / "away")
    app.tell("INSERT INTO images VALUES (7, NULL, 'tx/NY/b.1.png', NULL, NULL)")
    app.tell("INSERT INTO images VALUES (8, 80, 'https://cdn.example/a.png', NULL, NULL)")
    done = moved(store, app)
    assert [(f.source, f.code) for f in done.failures] == [
        ("images[id=5]", "not-found"),
        ("images[id=7]", "misconfigured"),
        ("images[id=8]", "misconfigured"),
    ]
    assert "is a URL" in done.failures[2].message
    assert app.digests()[5] is None
    (app.root / "away").rename(app.root / "tx/FL/c.1.png")
    assert moved(store, app).created == 1
    assert app.digests()[5] == Digest.of(picture(2))


def test_paths_may_be_absolute_or_file_urls(store, app, tmp_path):
    (tmp_path / "with space.png").write_bytes(picture(5))
    app.tell("DELETE FROM images")
    app.tell("INSERT INTO images VALUES (1, 1, ?, NULL, NULL)", f"{tmp_path}/with space.png")
    app.tell(
        "INSERT INTO images VALUES (2, 2, ?, NULL, NULL)", f"file://{tmp_path}/with%20space.png"
    )
    assert moved(store, app).failures == ()
    assert set(app.digests().values()) == {Digest.of(picture(5))}


def test_a_run_that_was_left_goes_on_where_it_was(durable, app, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    monkeypatch.setattr(application, "PAGE", 2)
    with durable.open() as store:
        run = store.import_table(
            app.url, "images", "r/{id}", path_column="path", digest_column="digest", root=app.root
        )
        first = next(iter(run))
        run.close()
        assert (first.total, first.done) == (5, 2)
        assert sum(digest is not None for digest in app.digests().values()) == 2
        done = store.import_table(
            app.url, "images", "r/{id}", path_column="path", digest_column="digest", root=app.root
        ).result()
        assert done.created + done.duplicate == 3
        assert problems(store) == []


def test_a_row_that_is_deleted_meanwhile_leaves_nothing_behind(durable, app, monkeypatch):
    real = application.Rows.write

    def late(self, digests):
        app.tell("DELETE FROM images WHERE id = 5")
        app.tell("UPDATE images SET path = 'tx/CA/a.1.png' WHERE id = 3")
        return real(self, digests)

    with durable.open() as store:
        with monkeypatch.context() as patched:
            patched.setattr(application.Rows, "write", late)
            done = moved(store, app, owner="result/{id}")
        assert [f.source for f in done.failures] == ["images[id=3]", "images[id=5]"]
        assert list(store.references(owner="result/5")) == []
        assert app.digests()[3] is None
        store.gc(now=True)
        with pytest.raises(NotFound):
            store.stat(Digest.of(picture(2)))
        assert moved(store, app, owner="result/{id}").failures == ()
        assert app.digests()[3] == Digest.of(picture(0))


def test_what_other_rows_may_have_is_not_released_with_one_that_is_gone(durable, app, monkeypatch):
    real = application.Rows.write

    def late(self, digests):
        app.tell("DELETE FROM images WHERE id = 2")
        return real(self, digests)

    with durable.open() as store:
        with monkeypatch.context() as patched:
            patched.setattr(application.Rows, "write", late)
            moved(store, app, owner="dataset/7", role=None)
        assert len(list(store.references(owner="dataset/7"))) == 3


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


def test_bytes_are_set_to_null_when_they_are_removed(durable, app):
    app.tell("DELETE FROM images")
    app.add(1, None, picture(0), inside=True)
    with durable.open() as store:
        done = moved(store, app, path_column=None, bytes_column="data", remove_sources=True)
        assert done.removed == 1
        assert app.tell("SELECT data, digest FROM images") == [(None, Digest.of(picture(0)))]


def test_a_key_of_several_columns(store, app):
    app.tell(
        "CREATE TABLE pages (book TEXT, page INT, path TEXT, digest TEXT, PRIMARY KEY (book, page))"
    )
    for page in range(5):
        app.tell("INSERT INTO pages VALUES (?, ?, 'tx/CA/a.1.png', NULL)", f"b{page % 2}", page)
    done = store.import_table(
        app.url, "pages", "book/{book}", role="{page}", path_column="path",
        digest_column="digest", root=app.root,
    ).result()  # fmt: skip
    assert (done.created, done.duplicate) == (1, 4)
    assert {r.role for r in store.references(owner="book/b0")} == {"0", "2", "4"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path_column": None}, "one column of paths"),
        ({"bytes_column": "data"}, "one column of paths"),
        ({"path_column": "nowhere"}, "no column 'nowhere'"),
        ({"digest_column": "nowhere"}, "no column 'nowhere'"),
        ({"owner": "result/{nowhere}"}, "no column .nowhere."),
        ({"owner": None}, "A role belongs to an owner"),
        ({"digest_column": None, "remove_sources": True}, "Without digest_column"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(store, app, given, said):
    with pytest.raises(Misconfigured, match=said) as caught:
        moved(store, app, **given)
    assert caught.value.hint
    assert list(store.assets()) == []


def test_databases_and_tables_that_are_none(store, app, tmp_path):
    for url, table, kind, said in (
        (app.url, "nowhere", Misconfigured, "No table"),
        (f"sqlite:///{tmp_path}/nowhere.db", "images", NotFound, "No database"),
        ("nonsense", "images", Misconfigured, "Not a database"),
        ("nonsense://x/y", "images", Misconfigured, "Not a database"),
    ):
        with pytest.raises(kind, match=said):
            store.import_table(url, table, path_column="path")
    assert not (tmp_path / "nowhere.db").exists()
    app.tell("CREATE TABLE bare (path TEXT)")
    with pytest.raises(Misconfigured, match="no primary key"):
        store.import_table(app.url, "bare", path_column="path")


def test_a_database_that_is_locked_says_so_and_what_was_kept_stays(store, app, monkeypatch):
    monkeypatch.setattr(application, "_TIMEOUT", 0.1)
    with closing(sqlite3.connect(app.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked, match="locked by another writer"):
            moved(store, app)
    assert moved(store, app).duplicate == 5


def test_a_full_disk_in_the_middle_leaves_rows_without_a_digest_for_the_next_run(
    folder, app, monkeypatch
):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    with folder.open() as store:
        kind = type(backend_of(store))
        real, calls = kind.publish, []

        def failing(self, items):
            calls.append(1)
            if len(calls) > 1:
                raise Unavailable("No space left on device.")
            real(self, items)

        with monkeypatch.context() as patched:
            patched.setattr(kind, "publish", failing)
            done = moved(store, app)
        assert {f.code for f in done.failures} == {"backend-unreachable"}
        assert len([d for d in app.digests().values() if d]) == 5 - len(done.failures)
        assert moved(store, app).failures == ()
        assert problems(store) == []


def test_a_store_in_the_same_database_file(tmp_path):
    app = Application(tmp_path)
    app.add(1, "a.png", picture())
    with Store(catalog=app.url, backend=f"file:{tmp_path / 'media'}") as store:
        assert moved(store, app).created == 1
        assert app.digests() == {1: Digest.of(picture())}


def test_columns_of_other_types_than_they_say_are_no_matter(store, app):
    app.tell(
        "CREATE TABLE odd (id INTEGER PRIMARY KEY, at DATETIME, facts JSON, path TEXT, digest TEXT)"
    )
    app.tell("INSERT INTO odd VALUES (1, 1700000000, '{oops', 'tx/CA/a.1.png', NULL)")
    done = store.import_table(
        app.url, "odd", "odd/{id}", path_column="path", digest_column="digest", root=app.root
    ).result()
    assert (done.created, done.failures) == (1, ())


def test_a_row_that_its_table_refuses_stops_no_other(store, app):
    app.tell("CREATE UNIQUE INDEX once ON images (digest)")
    done = moved(store, app, owner="result/{id}")
    assert sorted(f.source for f in done.failures) == ["images[id=2]", "images[id=4]"]
    assert all("refused" in f.message for f in done.failures)
    assert [n for n, digest in app.digests().items() if digest] == [1, 3, 5]
    assert list(store.references(owner="result/2")) == []
    assert len(list(store.references(owner="result/1"))) == 1


def test_rows_that_would_share_a_slot_are_refused_before_anything_is_done(store, app):
    for owner, role in (("album/7", "original"), ("result/{path}", "original")):
        with pytest.raises(Misconfigured, match="same owner and role"):
            moved(store, app, owner=owner, role=role)
    for owner in ("image/{id:03}", "image/{", "x/{id}{result}", "nokind"):
        with pytest.raises(Misconfigured):
            moved(store, app, owner=owner, role=None)
    assert list(store.assets()) == []


def test_a_newer_picture_that_the_application_gave_a_row_meanwhile_stays(durable, app, monkeypatch):
    real = application.Rows.write

    with durable.open() as store:

        def late(self, digests):
            newer = store.put(b"newer", owner="image/5", role="original").digest
            app.tell("UPDATE images SET digest = ? WHERE id = 5", newer)
            return real(self, digests)

        with monkeypatch.context() as patched:
            patched.setattr(application.Rows, "write", late)
            moved(store, app, owner="image/{id}", role="original")
        (reference,) = store.references(owner="image/5")
        assert reference.digest == Digest.of(b"newer") == app.digests()[5]


def test_the_stores_own_file_is_no_source_to_remove(durable, app):
    with durable.open() as store:
        kept = store.put(picture(0), owner="image/1", role="original")
        (copy,) = durable.blobs.rglob("*.png")
        app.tell("DELETE FROM images WHERE id > 1")
        app.tell("UPDATE images SET path = ?", str(copy))
        done = moved(store, app, owner="image/{id}", role="original", remove_sources=True)
        assert (done.removed, "store's own" in done.failures[0].message) == (0, True)
        assert content(store, kept.digest) == picture(0)


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


def test_rows_without_a_key_are_told(store, app):
    app.tell("CREATE TABLE loose (a TEXT, b TEXT, path TEXT, digest TEXT, PRIMARY KEY (a, b))")
    for number in range(4):
        key = f"{number}" if number % 2 else None
        app.tell("INSERT INTO loose VALUES ('x', ?, 'tx/CA/a.1.png', NULL)", key)
    done = store.import_table(
        app.url, "loose", "x/{a}-{b}", path_column="path", digest_column="digest", root=app.root
    ).result()
    assert (done.created + done.duplicate, "2 rows have NULL" in done.failures[0].message) == (
        2,
        True,
    )


def test_a_table_whose_name_has_a_dot(store, app):
    app.tell('CREATE TABLE "my.images" (id INTEGER PRIMARY KEY, path TEXT)')
    app.tell("INSERT INTO \"my.images\" VALUES (1, 'tx/CA/a.1.png')")
    done = store.import_table(app.url, "my.images", path_column="path", root=app.root).result()
    assert done.created == 1


def test_bytes_are_not_heaped_up(store, app, monkeypatch):
    """A page of rows holds keys; bytes are fetched one by one."""
    app.tell("DELETE FROM images")
    for number in range(30):
        app.add(number, None, picture(number % 3), inside=True)
    pages: list[dict] = []
    real = application.Rows.pending
    monkeypatch.setattr(
        application.Rows, "pending", lambda self: (pages.append(row) or row for row in real(self))
    )
    assert moved(store, app, path_column=None, bytes_column="data").failures == ()
    assert len(pages) == 30
    assert not any(isinstance(value, bytes) for row in pages for value in row.values())
