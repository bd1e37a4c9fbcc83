"""Bugs that other projects had: each is a scenario that a store survives.

Others of them are told where they belong: gc in an open transaction and savepoints in
test_connection.py, plans in test_gc_plans.py, poisoned keys, late writes and abandoned uploads in
test_gc_erasing.py, the trash and truncated files in test_put.py, URLs in test_url.py.
"""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, String, create_engine, event, text
from sqlalchemy.orm import Session, declarative_base
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import content, objects, problems, rows

from calotype import Digest, Store
from calotype.errors import NotFound


def at_once(works: list[Callable[[], object]]) -> list[object]:
    """What each answers, all begun at the same moment on threads of their own; errors too."""
    start, answers = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            answers.append(work())
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# hashfs: the extension of the file's name was part of the address


@pytest.mark.parametrize(
    "names", [("a.jpg", "a.png"), ("a.PNG", "b.png"), ("a", "a.tar.gz"), ("x.html", "x.svg")]
)
def test_the_same_bytes_under_two_names_are_one_object_named_by_what_they_are(
    store, tmp_path, names
):
    statuses = []
    for number, name in enumerate(names):
        path = tmp_path / f"{number}" / name
        path.parent.mkdir()
        path.write_bytes(picture())
        statuses.append(store.put(path, owner=f"scan/{number}").status)
    assert statuses == ["created", "duplicate"]
    assert [Path(name).suffix for name in objects(store)] == [".png"]
    assert store.stats().blobs == 1
    assert store.stat(Digest.of(picture())).media_type == "image/png"


# hashfs: a file that was there, though cut off, was taken for stored


@pytest.mark.parametrize("size", [0, 1, 40, -1])
def test_a_file_that_was_cut_off_at_any_place_is_healed_by_putting_it_again(folder, size):
    with folder.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        [name] = objects(store)
        path = folder.blobs / name
        path.chmod(0o600)
        path.write_bytes(picture()[:size])
        assert store.put(picture(), owner="scan/2").status == "healed"
        assert content(store, digest) == picture()
        assert store.put(picture()).status == "duplicate"
        store.gc(now=True)
        assert problems(store) == []
        assert store.stats().references == 2


# filedepot, sqlalchemy-file, django-cleanup: one owner's delete took another's file


def test_deleting_one_of_two_owners_leaves_the_bytes_to_the_other(store):
    digest = store.put(picture(), owner="scan/1", role="original").digest
    store.attach(digest, owner="scan/2", role="original")
    store.scope("user:ana").put(picture(), owner="scan/1")
    for owner in ("scan/1", "scan/1"):
        store.release(owner)
        assert store.gc(now=True, full=True).doomed == 0
        assert content(store, digest) == picture()
    store.release("scan/2")
    store.gc(now=True)
    with pytest.raises(NotFound):
        store.open(digest)
    assert content(store.scope("user:ana"), digest) == picture()
    store.scope("user:ana").release("scan/1")
    assert store.gc(now=True).erased == 1
    assert objects(store) == {}


def test_replacing_a_file_by_itself_loses_nothing(store):
    """Save a form without changes: the old file is let go, and it is the new one."""
    for _ in range(3):
        digest = store.put(picture(), owner="scan/1", role="original").digest
        store.gc(now=True)
    store.release("scan/1", role="original")
    store.attach(digest, owner="scan/1", role="original")
    store.gc(now=True)
    assert content(store, digest) == picture()
    assert store.stats().references == 1


# depot #36, #46, #77: files and rows of a transaction went different ways


Base = declarative_base()


class Photo(Base):
    """An application's model, with a column of ours."""

    __tablename__ = "photo"
    id = Column(Integer, primary_key=True)
    image = Column(String(64))
    title = Column(String)


@pytest.fixture
def engine(shared: Place) -> Iterator[Engine]:
    """The application's own database, with a table that refers to ours."""
    with shared.open() as store:
        store.put(b"first")
    made = create_engine(f"sqlite:///{shared.database}")
    event.listen(made, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with made.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE photo (id INTEGER PRIMARY KEY, title TEXT, "
                "image TEXT REFERENCES calotype_blob(digest))"
            )
        )
        connection.execute(text("CREATE INDEX ix_photo ON photo (image)"))
    yield made
    made.dispose()


def kept_by_photos(shared: Place, *digests: str) -> list[bool]:
    """For each digest: is it still there when the hold is over and gc has been?"""
    shared.clock.advance(hours=2)
    with shared.open() as store:
        store.gc(now=True, full=True)
        assert problems(store) == []
        return [
            bool(rows(store, f"SELECT 1 FROM calotype_blob WHERE digest = '{d}'")) for d in digests
        ]


def held(shared: Place, *numbers: int) -> list[str]:
    with shared.open() as store:
        return [store.put(picture(number), hold="1h").digest for number in numbers]


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_bytes_end_as_the_transaction_does_flushed_or_not(shared, engine, flush, end):
    [digest] = held(shared, 1)
    with Session(engine) as session:
        session.add(Photo(image=digest))
        if flush:
            session.flush()
        getattr(session, end)()
    assert kept_by_photos(shared, digest) == [end == "commit"]


def test_bytes_of_a_savepoint_that_was_undone_go_and_the_others_stay(shared, engine):
    kept, undone, later = held(shared, 1, 2, 3)
    with Session(engine) as session:
        session.add(Photo(image=kept))
        nested = session.begin_nested()
        session.add(Photo(image=undone))
        session.flush()
        nested.rollback()
        session.add(Photo(image=later))
        session.commit()
    assert kept_by_photos(shared, kept, undone, later) == [True, False, True]


def test_an_update_that_was_undone_keeps_the_old_bytes(shared, engine):
    old, new = held(shared, 1, 2)
    with Session(engine) as session:
        photo = Photo(image=old)
        session.add(photo)
        session.commit()
        photo.image = new
        session.flush()
        session.rollback()
        assert photo.image == old
    assert kept_by_photos(shared, old, new) == [True, False]


@pytest.mark.parametrize("by", ["query", "sql", "objects"])
def test_rows_deleted_in_bulk_let_their_bytes_go_and_no_others(shared, engine, by):
    digests = held(shared, *range(4))
    with Session(engine) as session:
        session.add_all([Photo(image=each, title=f"{n % 2}") for n, each in enumerate(digests)])
        session.add(Photo(image=digests[0], title="1"))
        session.commit()
        if by == "query":
            session.query(Photo).filter(Photo.title == "0").delete()
        elif by == "sql":
            session.execute(text("DELETE FROM photo WHERE title = '0'"))
        else:
            for photo in session.query(Photo).filter(Photo.title == "0"):
                session.delete(photo)
        session.commit()
    assert kept_by_photos(shared, *digests) == [True, True, False, True]


# distribution #3045, harbor #23116, quay #6318: gc took what was being put


def test_gc_without_rest_beside_puts_and_attaches_of_one_digest_loses_nothing(durable):
    with durable.open() as store:
        over = threading.Event()

        def collect() -> int:
            count = 0
            while not over.is_set():
                count += not store.gc(now=True).failed
            return count

        def use(number: int) -> str:
            try:
                for turn in range(25):
                    digest = store.put(picture(), owner=f"first/{number}").digest
                    store.attach(digest, owner=f"second/{number}")
                    store.release(f"first/{number}")
                    assert content(store, digest) == picture(), turn
                    store.release(f"second/{number}")
                return "used"
            finally:
                over.set()

        answers = at_once([collect, lambda: use(1), lambda: use(2)])
        [collected] = [answer for answer in answers if isinstance(answer, int)] or [0]
        assert (answers.count("used"), collected > 0) == (2, True), answers
        store.gc(now=True)
        assert store.stats().blobs == 0
        assert problems(store) == []


# immich #15051, pulp #8018: one file sent many times at once was an error, or several files


@pytest.mark.parametrize("bytes_at", ["path", "memory", "stream"])
def test_sixteen_identical_puts_at_once_are_one_blob_and_one_created(durable, tmp_path, bytes_at):
    path = tmp_path / "file.png"
    path.write_bytes(picture(5, size=(200, 100)))
    sources = {"path": lambda: path, "memory": path.read_bytes}
    source = sources.get(bytes_at, lambda: io.BytesIO(path.read_bytes()))
    with durable.open() as store:
        answers = at_once([lambda: store.put(source()).status] * 16)
        assert Counter(answers) == {"created": 1, "duplicate": 15}
        assert store.stats().blobs == 1
        store.gc(now=True)
        assert len(objects(store)) == 1
        assert problems(store) == []


# supabase #830: the prefix `images` also meant `images2`


def test_a_store_beside_one_whose_name_begins_the_same_touches_nothing_of_it(tmp_path, clock):
    with (
        Store(tmp_path / "images", clock=clock) as one,
        Store(tmp_path / "images2", clock=clock) as two,
    ):
        for store in (one, two):
            store.put_many([noise(60, number) for number in range(5)], "scan/1").result()
        before = objects(two)
        one.release("scan/1")
        assert one.gc(now=True).erased == 5
        assert list(one.fsck(read_data=True, repair=True)) == []
        assert objects(one) == {}
        assert objects(two) == before
        assert problems(two) == []


ALIKE = [
    ("images/1", "images2/1"),
    ("images/1", "images/10"),
    ("images/1", "images/1/2"),
    ("images/1", "image_/1"),
    ("images/1", "IMAGES/1"),
    ("images/a%", "images/ab"),
    ("images/a_", "images/ab"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_an_owner_whose_name_begins_the_same_or_matches_is_another(store, one, other):
    mine = store.put(picture(1), owner=one).digest
    others = store.put(picture(2), owner=other).digest
    assert [each.digest for each in store.references(owner=one)] == [mine]
    assert [each.digest for each in store.assets(owner=one)] == [mine]
    assert store.release(one).digests == (mine,)
    assert store.gc(now=True).doomed == 1
    assert content(store, others) == picture(2)
    with pytest.raises(NotFound):
        store.restore(owner=one)


@pytest.mark.parametrize("other", ["images2", "IMAGES", "image_", "images/", "imagesé"])
def test_a_kind_or_scope_whose_name_begins_the_same_is_another(store, other):
    store.put(picture(1), owner="images/1")
    store.scope("images").put(picture(2))
    elsewhere = store.scope(other).put(picture(3)).digest
    assert [each.digest for each in store.scope(other).assets()] == [elsewhere]
    assert len(list(store.scope("images").assets())) == 1
    assert [each.owner.kind for each in store.owners(kind="images")] == ["images"]
    assert list(store.owners(kind="image")) == []


# immich #6639, #7032, #30167: what was deleted could not be uploaded again


@pytest.mark.parametrize("collected", [False, True])
def test_what_was_let_go_comes_back_whole_whenever_it_is_uploaded_again(store, collected):
    digest = store.put(picture(), filename="a.png", owner="scan/1").digest
    store.release("scan/1")
    if collected:
        store.gc(now=True)
    again = store.put(picture(), owner="scan/2")
    assert again.status == ("created" if collected else "restored")
    assert not store.check([digest])[digest].trashed
    assert content(store, digest) == picture()
    store.gc(now=True)
    assert content(store, digest) == picture()
