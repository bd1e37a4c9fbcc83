"""import_table: the files that an application's rows name, or hold, kept for those rows."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from tests.store.legacy import Application, furnished, moved, moving
from tests.store.pictures import noise, picture
from tests.store.surgery import content, problems
from tests.store.trouble import full_after

from calotype import Digest, Store, bulk
from calotype.catalog import slots
from calotype.errors import Locked, Misconfigured, NotFound, Unavailable
from calotype.importing import engines, giving
from calotype.importing import rows as application
from calotype.importing import table as importing
from calotype.staging import Limits


@pytest.fixture
def app(tmp_path) -> Application:
    """Six rows: two name one file, two name equal files, one names none."""
    return furnished(tmp_path)


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


def test_a_table_may_be_named_in_another_case_as_sqlite_lets_it(store, app):
    assert moved(store, app, table="IMAGES").created > 0
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


def test_the_empty_text_is_no_digest_and_no_path(store, app):
    app.tell("UPDATE images SET digest = ''")
    app.tell("UPDATE images SET path = '' WHERE id = 6")
    planned = moving(store, app, remove_sources=True, dry_run=True).result()
    assert (len(planned.planned), planned.failures) == (5, ())
    done = moved(store, app)
    assert (done.created, done.duplicate, done.failures) == (3, 2, ())
    assert [n for n, digest in app.digests().items() if digest] == [1, 2, 3, 4, 5]
    assert moved(store, app).created + moved(store, app).duplicate == 0


def test_bytes_are_read_again_a_few_at_a_time(store, app, monkeypatch):
    """The application's other writers wait meanwhile."""
    app.tell("DELETE FROM images")
    for number in range(6):
        app.add(number, None, picture(number), inside=True)
    monkeypatch.setattr(application, "PAGE_BYTES", len(picture()) * 5 // 2)
    real, taken = giving.Giver._given, []

    def counted(self, asked):
        taken.append(len(asked))
        return real(self, asked)

    monkeypatch.setattr(giving.Giver, "_given", counted)
    assert moved(store, app, path_column=None, bytes_column="data").created == 6
    assert taken == [2, 2, 2]
    assert None not in app.digests().values()


def test_bytes_that_become_a_text_meanwhile_are_a_row_that_changed(store, app, monkeypatch):
    app.tell("DELETE FROM images")
    for number in range(3):
        app.add(number, None, picture(number), inside=True)
    before_giving(monkeypatch, lambda: app.tell("UPDATE images SET data = 'a' WHERE id = 1"))
    done = moved(store, app, path_column=None, bytes_column="data")
    assert [(f.source, f.code) for f in done.failures] == [("images[id=1]", "not-found")]
    assert [n for n, digest in app.digests().items() if digest] == [0, 2]


def test_a_database_named_by_a_relative_path_is_the_same_wherever_the_process_goes(
    store, app, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    app.url = f"sqlite:///{app.database.name}"
    run = moving(store, app)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.result().failures == ()


def test_a_deferred_constraint_that_refuses_the_commit_fails_each_row_that_it_concerns(store, app):
    app.tell("CREATE TABLE known (d TEXT PRIMARY KEY)")
    app.tell("INSERT INTO known VALUES (?)", Digest.of(picture(1)))
    app.tell("DROP TABLE images")
    app.tell(
        "CREATE TABLE images (id INTEGER PRIMARY KEY, result INT, path TEXT, data BLOB, "
        "digest TEXT REFERENCES known (d) DEFERRABLE INITIALLY DEFERRED)"
    )
    for number, name in (1, "tx/CA/a.1.png"), (3, "tx/NY/b.1.png"):
        app.tell("INSERT INTO images VALUES (?, ?, ?, NULL, NULL)", number, number, name)
    done = moved(store, app)
    assert [f.source for f in done.failures] == ["images[id=1]"]
    assert "what it points at" in done.failures[0].hint
    assert app.digests() == {1: None, 3: Digest.of(picture(1))}
    app.tell("INSERT INTO known VALUES (?)", Digest.of(picture(0)))
    assert moved(store, app).failures == ()
    assert app.digests()[1] == Digest.of(picture(0))


def before_giving(monkeypatch, act) -> None:
    """Let ``act`` happen once, when the import has kept its bytes and no row has them yet."""
    real, pending = giving.Giver.give, [act]

    def late(self, asked):
        if pending:
            pending.pop()()
        return real(self, asked)

    monkeypatch.setattr(giving.Giver, "give", late)


def test_a_row_that_is_deleted_meanwhile_leaves_nothing_behind(durable, app, monkeypatch):
    def changed():
        app.tell("DELETE FROM images WHERE id = 5")
        app.tell("UPDATE images SET path = 'tx/CA/a.1.png' WHERE id = 3")

    with durable.open() as store:
        before_giving(monkeypatch, changed)
        done = moved(store, app, owner="result/{id}")
        assert [f.source for f in done.failures] == ["images[id=3]", "images[id=5]"]
        assert list(store.references(owner="result/5")) == []
        assert app.digests()[3] is None
        store.gc(now=True)
        with pytest.raises(NotFound):
            store.stat(Digest.of(picture(2)))
        assert moved(store, app, owner="result/{id}").failures == ()
        assert app.digests()[3] == Digest.of(picture(0))


def test_a_newer_picture_that_the_application_gave_a_row_meanwhile_stays(durable, app, monkeypatch):
    with durable.open() as store:

        def newer():
            digest = store.put(b"newer", owner="image/5", role="original").digest
            app.tell("UPDATE images SET digest = ? WHERE id = 5", digest)

        before_giving(monkeypatch, newer)
        moved(store, app, owner="image/{id}", role="original")
        (reference,) = store.references(owner="image/5")
        assert reference.digest == Digest.of(b"newer") == app.digests()[5]


@pytest.mark.parametrize("sql", ["DELETE FROM images", "UPDATE images SET path = 'new'"])
def test_what_the_application_was_told_it_has_stays(durable, app, monkeypatch, sql):
    """The same bytes in the same slot, a moment before the import would have given them."""
    given = only_row_5(app)
    with durable.open() as store:

        def kept():
            store.put(picture(2), owner="image/5", role="original")
            app.tell(sql)

        before_giving(monkeypatch, kept)
        assert len(moved(store, app, **given).failures) == 1
        store.gc(now=True)
        assert slot_of_5(store) == [Digest.of(picture(2))]
        assert content(store, Digest.of(picture(2))) == picture(2)


def test_a_slot_that_the_application_filled_meanwhile_is_left_to_it(durable, app, monkeypatch):
    given = only_row_5(app)
    with durable.open() as store:
        before_giving(monkeypatch, lambda: store.put(b"newer", owner="image/5", role="original"))
        done = moved(store, app, **given)
        assert "has another file" in done.failures[0].message
        assert (app.digests(), slot_of_5(store)) == ({5: None}, [Digest.of(b"newer")])


def test_bytes_that_gc_takes_before_their_row_has_them_are_put_again(durable, app, monkeypatch):
    with durable.open() as store:
        before_giving(monkeypatch, lambda: store.gc(now=True))
        assert moved(store, app).failures == ()
        assert sum(digest is not None for digest in app.digests().values()) == 5
        assert problems(store) == []


def test_of_two_tables_with_the_same_owners_neither_takes_from_the_other(durable, app, monkeypatch):
    app.tell("CREATE TABLE covers (id INTEGER PRIMARY KEY, path TEXT, digest TEXT)")
    app.tell("INSERT INTO covers VALUES (5, 'tx/FL/c.1.png', NULL)")
    given = {"owner": "image/{id}", "role": None}
    with durable.open() as store:

        def other():
            moved(store, app, "covers", **given)
            app.tell("DELETE FROM images WHERE id = 5")

        before_giving(monkeypatch, other)
        assert len(moved(store, app, **given).failures) == 1
        (reference,) = store.references(owner="image/5")
        assert app.tell("SELECT digest FROM covers") == [(reference.digest,)]


def test_an_import_that_ends_between_slot_and_row_is_finished_by_the_next(
    durable, app, monkeypatch
):
    real = application.Rows.changing

    @contextmanager
    def killed(self):
        with real(self) as connection:
            yield connection
            raise KeyboardInterrupt

    with durable.open() as store:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(application.Rows, "changing", killed)
            moved(store, app)
        assert set(app.digests().values()) == {None}
        assert store.stats().references == 5
        store.gc(now=True, full=True)
        done = moved(store, app, remove_sources=True)
        assert (done.duplicate, done.removed, done.failures) == (5, 4, ())
        assert problems(store) == []


def intruding(app, sql: str) -> str:
    """What a writer is told who will not wait; "" where nothing stood in the way."""
    with closing(sqlite3.connect(app.database, timeout=0)) as other:
        try:
            with other:
                other.execute(sql)
        except sqlite3.OperationalError as error:
            return str(error)
    return ""


def test_while_rows_are_given_their_digests_nobody_changes_them(durable, app, monkeypatch):
    real, waited = slots.refer, []

    def late(connection, scope, wishes, now):
        if any(wish.slot for wish in wishes):
            waited.append(intruding(app, "DELETE FROM images"))
        return real(connection, scope, wishes, now)

    monkeypatch.setattr(slots, "refer", late)
    with durable.open() as store:
        assert moved(store, app, owner="image/{id}").failures == ()
    assert set(waited) == {"database is locked"}


@pytest.mark.parametrize(
    "kind", ["STRING", "UUID", "MYTYPE", "NUMERIC", "REAL", "BLOB", "DATETIME", "BOOLEAN", "JSON"]
)
def test_a_digest_is_written_as_it_is_whatever_its_column_is_called(store, app, kind):
    app.tell(f"CREATE TABLE odd (id INTEGER PRIMARY KEY, path TEXT, digest {kind})")
    app.tell("INSERT INTO odd VALUES (1, 'tx/CA/a.1.png', NULL)")
    for _ in range(2):
        assert moved(store, app, "odd", owner="odd/{id}", remove_sources=True).failures == ()
    assert app.tell("SELECT digest FROM odd") == [(Digest.of(picture(0)),)]
    assert not (app.root / "tx/CA/a.1.png").exists()


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
        ("sqlite://", "images", Misconfigured, "sqlite:// names no file"),
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
    monkeypatch.setattr(engines, "_TIMEOUT", 0.1)
    with closing(sqlite3.connect(app.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked, match="locked by another connection"):
            moved(store, app)
    again = moved(store, app)
    assert again.duplicate + again.restored == 5


def test_a_catalog_that_another_holds_when_rows_are_given_theirs_ends_the_import(
    folder, app, monkeypatch
):
    give = giving.Giver.give
    with folder.open() as store:
        store.create()
    with folder.open() as store, closing(sqlite3.connect(folder.database)) as other:

        def late(self, asked):
            other.execute("BEGIN IMMEDIATE")
            return give(self, asked)

        with monkeypatch.context() as patched:
            patched.setattr(giving.Giver, "give", late)
            with pytest.raises(Locked, match="locked by another connection"):
                moved(store, app)
        other.rollback()
        again = moved(store, app)
        assert (again.duplicate + again.restored, again.failures) == (5, ())


def test_a_full_disk_in_the_middle_leaves_rows_without_a_digest_for_the_next_run(
    folder, app, monkeypatch
):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    with folder.open() as store:
        with full_after(1):
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
    assert {f.code for f in done.failures} == {"misconfigured"}
    assert all("refused" in f.message and "UNIQUE" in f.message for f in done.failures)
    assert all("does not help" in f.hint for f in done.failures)
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


def once_read(monkeypatch, act) -> None:
    """Let ``act`` happen once, when the import has read its first file."""
    real = importing.TableImport._receive
    pending = [act]

    def late(self, row):
        content = real(self, row)
        if pending:
            pending.pop()()
        return content

    monkeypatch.setattr(importing.TableImport, "_receive", late)


def only_row_5(app) -> dict[str, object]:
    app.tell("DELETE FROM images WHERE id != 5")
    (app.root / "new").write_bytes(b"newer")
    return {"owner": "image/{id}", "role": "original"}


def slot_of_5(store) -> list[str]:
    return [reference.digest for reference in store.references(owner="image/5")]


def test_a_newer_picture_that_came_while_the_old_one_was_read_stays(durable, app, monkeypatch):
    given = only_row_5(app)
    with durable.open() as store:

        def act() -> None:
            digest = store.put(b"newer", owner="image/5", role="original").digest
            app.tell("UPDATE images SET path = 'new', digest = ?", digest)

        once_read(monkeypatch, act)
        done = moved(store, app, **given)
        assert "another file" in done.failures[0].message
        store.gc(now=True, full=True)
        assert slot_of_5(store) == [app.digests()[5]] == [Digest.of(b"newer")]
        assert content(store, app.digests()[5]) == b"newer"


def test_of_two_imports_at_once_the_late_one_takes_nothing_away(durable, app, monkeypatch):
    given = only_row_5(app) | {"remove_sources": True}
    with durable.open() as store:

        def act() -> None:
            app.tell("UPDATE images SET path = 'new'")
            assert moved(store, app, **given).removed == 1

        once_read(monkeypatch, act)
        assert [f.source for f in moved(store, app, **given).failures] == ["images[id=5]"]
        store.gc(now=True, full=True)
        assert slot_of_5(store) == [app.digests()[5]] == [Digest.of(b"newer")]
        assert content(store, app.digests()[5]) == b"newer"
        assert (app.root / "tx/FL/c.1.png").exists()


def test_a_file_that_only_a_slot_has_is_not_displaced(store, app):
    """The application fills the slot first, and the row perhaps much later."""
    given = only_row_5(app)
    store.put(b"newer", owner="image/5", role="original")
    done = moved(store, app, **given, remove_sources=True)
    assert (done.removed, app.digests()) == (0, {5: None})
    assert "has another file" in done.failures[0].message
    assert slot_of_5(store) == [Digest.of(b"newer")]
    store.release("image/5", "original")
    assert moved(store, app, **given).failures == ()
    assert slot_of_5(store) == [app.digests()[5]] == [Digest.of(picture(2))]


@pytest.mark.parametrize("hold", ["1h", "24h", "48h"])
@pytest.mark.parametrize("taken", [False, True])
def test_an_import_neither_ends_nor_makes_a_hold(store, app, hold, taken):
    given = only_row_5(app)
    if taken:
        store.put(b"newer", owner="image/5", role="original")
    store.put(picture(0))
    before = store.put(picture(2), hold=hold).asset.kept
    assert len(moved(store, app, **given).failures) == taken
    assert store.stat(Digest.of(picture(2))).kept == before
    assert store.stat(Digest.of(picture(0))).kept == "library"


def test_what_is_imported_is_kept_by_its_slot_alone(store, app):
    moved(store, app, **only_row_5(app))
    assert store.stat(Digest.of(picture(2))).kept is None
    store.release("image/5")
    assert store.gc(now=True).doomed == 1


def test_what_no_row_got_is_kept_by_nothing(store, app):
    given = only_row_5(app)
    store.put(b"newer", owner="image/5", role="original")
    moved(store, app, **given)
    store.gc(now=True)
    with pytest.raises(NotFound):
        store.stat(Digest.of(picture(2)))
    assert slot_of_5(store) == [Digest.of(b"newer")]
    assert problems(store) == []


def test_what_a_row_did_not_get_is_not_counted_as_kept(store, app):
    given = only_row_5(app)
    store.put(b"newer", owner="image/5", role="original")
    run = moving(store, app, **given)
    last = list(run)[-1]
    assert (last.done, last.computed, last.failed) == (1, 0, 1)
    assert (run.result().created, len(run.result().failures)) == (0, 1)


@pytest.mark.parametrize("removing", [False, True])
def test_bytes_do_not_change_between_the_look_at_them_and_what_follows(
    durable, app, monkeypatch, removing
):
    """A writer who comes in between has to wait until the row is written."""
    app.tell("DELETE FROM images")
    app.add(1, None, picture(0), inside=True)
    given = {"path_column": None, "bytes_column": "data", "remove_sources": removing}
    real, waited = application.is_of, []

    def late(data, digest):
        waited.append(intruding(app, "UPDATE images SET data = x'00', digest = NULL"))
        return real(data, digest)

    monkeypatch.setattr(application, "is_of", late)
    with durable.open() as store:
        assert moved(store, app, **given).failures == ()
    assert set(waited) == {"database is locked"}
    left = None if removing else picture(0)
    assert app.tell("SELECT data, digest FROM images") == [(left, Digest.of(picture(0)))]


def test_text_that_is_not_utf_8_is_no_matter(store, app):
    odd = os.path.join(os.fsencode(app.root), b"caf\xe9.png")
    with open(odd, "wb") as file:
        file.write(picture(3))
    app.tell("CREATE TABLE odd (name TEXT PRIMARY KEY, path TEXT, digest TEXT)")
    app.tell("INSERT INTO odd VALUES ('a', CAST(x'636166e92e706e67' AS TEXT), NULL)")
    app.tell("INSERT INTO odd VALUES (CAST(x'e9' AS TEXT), 'tx/CA/a.1.png', NULL)")
    app.tell("INSERT INTO odd VALUES ('c', 'tx/NY/b.1.png', NULL)")
    done = moved(store, app, "odd", owner="odd/{name}", role=None, remove_sources=True)
    assert (done.created, done.removed) == (2, 2)
    assert [failure.code for failure in done.failures] == ["misconfigured"], "not of Unicode"
    rows = dict(app.tell("SELECT CAST(name AS BLOB), digest FROM odd"))
    assert rows == {b"a": Digest.of(picture(3)), b"c": Digest.of(picture(1)), b"\xe9": None}
    assert not os.path.exists(odd)
    again = moved(store, app, "odd", owner=None, role=None)
    assert (again.duplicate + again.created, again.failures) == (1, ())


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


@pytest.mark.parametrize("role", ["original", "{name}"])
def test_rows_that_fill_a_template_alike_are_refused_before_anything_is_done(store, app, role):
    app.tell("CREATE TABLE pages (state, name, path TEXT, digest TEXT, PRIMARY KEY (state, name))")
    for state, name, path in (("a-b", "c", "tx/CA/a.1.png"), ("a", "b-c", "tx/NY/b.1.png")):
        app.tell("INSERT INTO pages VALUES (?, ?, ?, NULL)", state, name, path)
    told = r"same owner and role.*pages\[state=a, name=b-c\] and pages\[state=a-b, name=c\]"
    given = {"owner": "listing/{state}-{name}", "role": role}
    if role == "original":
        with pytest.raises(Misconfigured, match=told):
            moved(store, app, table="pages", **given)
        assert list(store.assets()) == []
    else:
        assert moved(store, app, table="pages", **given).failures == ()


def test_a_number_and_its_text_in_one_column_are_alike(store, app):
    app.tell("CREATE TABLE loose (id INTEGER PRIMARY KEY, ref, path TEXT, digest TEXT)")
    app.tell("INSERT INTO loose VALUES (1, 7, 'tx/CA/a.1.png', NULL)")
    app.tell("INSERT INTO loose VALUES (2, '7', 'tx/NY/b.1.png', NULL)")
    with pytest.raises(Misconfigured, match=r"loose\[id=1\] and loose\[id=2\]"):
        moved(store, app, table="loose", owner="listing/{ref}", role="original")


def test_a_row_whose_bytes_were_removed_has_its_slot_still(store, app):
    given = {"path_column": None, "bytes_column": "data", "remove_sources": True}
    app.tell("DELETE FROM images")
    app.add(1, None, picture(0), inside=True)
    assert moved(store, app, **given).removed == 1
    app.tell("INSERT INTO images VALUES (2, 10, NULL, ?, NULL)", picture(1))
    with pytest.raises(Misconfigured, match="same owner and role"):
        moved(store, app, **given)
    assert content(store, Digest.of(picture(0))) == picture(0)


def test_a_file_that_changes_while_it_is_read_is_not_kept_as_it_never_was(folder, app):
    app.tell("DELETE FROM images")
    app.add(1, "big", bytes(32 << 20))
    ended = threading.Event()

    def change() -> None:
        with (app.root / "big").open("r+b", buffering=0) as file:
            for number in itertools.count():
                if ended.is_set():
                    return
                file.seek((number % 32) << 20)
                file.write(bytes([number % 256]) * (1 << 20))

    changing = threading.Thread(target=change)
    changing.start()
    with folder.open() as store:
        try:
            done = moved(store, app)
        finally:
            ended.set()
            changing.join()
        assert [f.message for f in done.failures] == ["It changed while it was read."]
        assert app.digests() == {1: None}
        assert moved(store, app).created == 1
        assert app.digests() == {1: Digest.of(app.root / "big")}


def test_a_run_may_change_threads(durable, app):
    with durable.open() as store, ThreadPoolExecutor(1) as other:
        run = store.import_table(
            app.url, "images", "image/{id}", role="original", path_column="path",
            digest_column="digest", root=app.root,
        )  # fmt: skip
        events = iter(run)
        assert next(events).note == "comparing rows"
        other.submit(list, events).result()
        assert run.result().failures == ()


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_over_the_limit_is_that_rows_failure(durable, app, inside):
    app.tell("DELETE FROM images")
    app.add(1, "a.bin", noise(5000), inside=inside)
    app.add(2, "b.bin", noise(5001), inside=inside)
    columns = {"path_column": None, "bytes_column": "data"} if inside else {}
    with durable.open(limits=Limits(file_size=5000)) as store:
        done = moved(store, app, **columns)
        assert [(f.source, f.code) for f in done.failures] == [("images[id=2]", "too-large")]
        assert app.digests() == {1: Digest.of(noise(5000)), 2: None}


def test_a_database_that_cannot_be_looked_at_is_an_error_of_ours(store, app):
    app.url = f"sqlite:///{'a' * 300}.db"
    with pytest.raises(Unavailable, match="File name too long"):
        moved(store, app)
