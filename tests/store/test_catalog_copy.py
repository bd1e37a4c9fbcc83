"""The catalog copied to another database: every row, no matter who writes, is killed, or is in the way."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests import mounts, servers
from tests.store.pictures import noise, picture
from tests.store.places import Clock, Place
from tests.store.surgery import change, content, problems, rows
from tests.store.test_postgres_crashes import beside, until_somebody_waits
from tests.store.test_postgres_migrations import shape
from tests.wire import Wire

from calotype import Digest, Store, catalog
from calotype.catalog import merging, moving, schema
from calotype.catalog.homes import HOME
from calotype.catalog.tables import metadata
from calotype.errors import CalotypeError, Corrupt, Locked, Misconfigured, NoStore, Unavailable
from calotype.progress import Progress

ODD = "größe/ \U0001f5bc\ufe0f'\"%s\\x ~"
WAYS = [
    ("folder", "postgres"),
    ("shared", "postgres"),
    ("postgres", "folder"),
    ("postgres", "postgres"),
    ("folder", "shared"),
]


def fill(store: Store) -> list[Digest]:
    """Something in every table; what can be opened."""
    clock: Clock = store._rooms.catalog.clock
    kept = [
        store.put(picture(), filename=ODD, metadata={"": None, "ü": ["\U0001f600", 1.5]}).digest
    ]
    kept += store.put_many([noise(50, n) for n in range(30)], "set/1").result() and [
        Digest.of(noise(50, n)) for n in range(30)
    ]
    owner = f"kind/{ODD}"
    kept.append(store.put(b"odd", owner=owner, role=ODD).digest)
    kept.append(store.put(b"odder", owner=owner, role=ODD).digest)  # the first one is released
    kept.append(store.put(b"held", hold="3d").digest)
    kept.append(store.scope("user:ana").put(b"hers", owner="scan/1").digest)
    store.set_quota("user:ana", "1 MB")
    store.put(b"in the trash", owner="scan/2")
    store.release("scan/2")
    gone = store.put(b"erased", owner="scan/3").digest
    store.release("scan/3")
    store.gc(now=True, digests=[gone])
    store.purge(store.put(b"purged").digest, reason="a \N{SNOWMAN}")
    store.plan_gc()
    store.url(kept[0], expires=60)
    store.rotate_url_key()
    store._rooms.accesses.flush()
    store._rooms.trend.bring_up_to_date("default")
    first, second = kept[0], kept[1]
    change(
        store,
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash, "
        "state, output_inline, output_digest) VALUES ('*', ?, 't', '1', '', 'ready', ?, NULL), "
        "('default', ?, 't', '1', 'x', 'ready', NULL, ?)",
        first, b"\x00\xff", second, first,
    )  # fmt: skip
    change(
        store,
        "INSERT INTO calotype_provider_upload (scope, digest, provider, state, updated_at) "
        "VALUES ('default', ?, 'pix', 'sending', ?)",
        first, clock(),
    )  # fmt: skip
    change(
        store,
        "INSERT INTO calotype_import_seen VALUES (?, 1, 2, ?, ?)",
        b"/\xff\x00", 2**63 - 1, first,
    )  # fmt: skip
    change(
        store,
        "INSERT INTO calotype_upload (id, scope, mode, digest, size, ends_at) "
        "VALUES ('1', 'default', 'direct', ?, 7, ?)",
        first, clock(),
    )  # fmt: skip
    return [each for each in kept if each != Digest.of(b"odd")]


def table_rows(store: Store) -> dict[str, list[tuple]]:
    """Everything that is to be the same in a copy."""
    found = {}
    for table in metadata.sorted_tables:
        found[table.name] = sorted(rows(store, f"SELECT * FROM {table.name}"), key=repr)
    found["calotype_meta"] = [
        each for each in found["calotype_meta"] if each[0] not in moving.MARKS | {HOME}
    ]
    found["calotype_backend"] = [(each[0], *each[2:]) for each in found["calotype_backend"]]
    return found


class Twin(Place):
    """Another place for the catalog of the same bytes."""

    @property
    def where(self) -> str:
        """What ``copy_catalog`` takes."""
        if self.kind == "postgres":
            return self.url
        return str(self.database.parent) if self.kind == "folder" else f"sqlite:///{self.database}"


def twin(place: Place, kind: str, root: Path) -> Twin:
    (root / "store").mkdir(parents=True, exist_ok=True)
    return Twin(kind, root, place.clock)


def opened(made: Twin, place: Place, **options) -> Store:
    """The store of the copy: its catalog there, its bytes where they were."""
    options = {"clock": place.clock, **options}
    backend = f"file:{place.blobs}"
    if made.kind == "folder":
        return Store(made.root / "store", backend=backend, **options)
    if made.kind == "shared":
        return Store(catalog=made.where, backend=backend, **options)
    return Store(catalog=made.url, backend=backend, **options)


def refused(store: Store, monkeypatch) -> None:
    """Nobody reads or writes it any more."""
    monkeypatch.setattr(catalog, "LOOK_AGAIN", 0)
    for verb in (
        lambda: store.put(b"too late"),
        lambda: store.put(picture()),
        lambda: store.stats(),
        lambda: store.release("set/1"),
        lambda: store.gc(now=True),
        lambda: store.fsck().result(),
        lambda: store.check([Digest.of(picture())]),
        lambda: store.scope("user:ana").discard(Digest.of(b"hers")),
    ):
        with pytest.raises(Misconfigured, match=r"moved to .+; nothing was changed") as refusal:
            verb()
        assert "Point catalog" in refusal.value.hint


@pytest.fixture(params=WAYS, ids="-to-".join)
def way(request, tmp_path, clock) -> tuple[Place, Twin]:
    here, there = request.param
    place = Place(here, tmp_path / "here", clock)
    place.root.mkdir()
    return place, twin(place, there, tmp_path / "there")


@pytest.fixture
def place(folder: Place) -> Place:
    """A store in a folder with something of everything."""
    with folder.open() as store:
        fill(store)
    return folder


@pytest.fixture
def there(place: Place, tmp_path) -> Twin:
    """An empty schema for it."""
    return twin(place, "postgres", tmp_path / "there")


def test_a_copy_has_every_row_and_is_a_catalog_like_any_other(way, monkeypatch):
    place, made = way
    with place.open() as store:
        kept = fill(store)
        before = table_rows(store)
        empty = {name for name, found in before.items() if not found}
        assert empty == {"calotype_object", "calotype_chunk"}
        stranger = place.open()
        stranger.stats()
        done = store.copy_catalog(made.where).result()
        assert done.moved and done.rows == sum(map(len, before.values()))
        assert done.written >= done.rows and done.removed == 0
        refused(store, monkeypatch)
        refused(stranger, monkeypatch)
        stranger.close()
    with place.open() as store:
        refused(store, monkeypatch)
    with opened(made, place, public_url="https://p.example") as store:
        assert table_rows(store) == before
        assert [content(store, each) for each in kept if each != Digest.of(b"hers")]
        assert content(store.scope("user:ana"), Digest.of(b"hers")) == b"hers"
        assert store.references(owner=f"kind/{ODD}").page(9).items[0].role == ODD
        assert problems(store) == []
        assert store.put(b"new", owner="set/9").status == "created"
        assert store.attach(kept[0], owner="set/8") is None
        change(store, "DELETE FROM calotype_provider_upload")
        change(store, "DELETE FROM calotype_derivation")
        store.release("set/1")
        assert store.gc(now=True).doomed == 32
        assert problems(store) == []


def test_a_copy_in_postgresql_is_made_like_any_other(place, there, tmp_path, clock):
    fresh = Place("postgres", tmp_path / "fresh", clock)
    with fresh.open() as store:
        store.create()
    with place.open() as store:
        store.copy_catalog(there.where).result()
    assert shape(there) == shape(fresh)
    with opened(there, place) as store:
        [(last,)] = rows(store, "SELECT last_value FROM calotype_reference_id_seq")
        [(highest,)] = rows(store, "SELECT max(id) FROM calotype_reference")
        assert last == highest


def test_a_process_that_was_there_before_notices(place, there):
    code = (
        "import sys; from calotype import Store\n"
        "from calotype.errors import Misconfigured\n"
        "store = Store(sys.argv[1]); print(store.stats().blobs, flush=True); input()\n"
        "try: store.put(b'late')\n"
        "except Misconfigured as error: print(error)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, place.root / "store"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert int(child.stdout.readline()) > 30
    with place.open() as store:
        store.copy_catalog(there.where).result()
    said, _ = child.communicate("\n", timeout=30)
    assert "was moved to postgresql://" in said


@pytest.mark.parametrize("kind", ["shared", "postgres"])
def test_an_applications_own_statements_are_refused_as_well(kind, tmp_path, clock, there):
    place = Place(kind, tmp_path / "app", clock)
    place.root.mkdir()
    with place.open() as store:
        digest = store.put(picture(), owner="page/1").digest
        store.copy_catalog(twin(place, "postgres", tmp_path / "new").where).result()
        raw = sqlite3.connect(place.database) if kind == "shared" else psycopg.connect(place.url)
        with closing(raw):
            if kind == "shared":
                raw.execute("PRAGMA foreign_keys=ON")
            with pytest.raises(Misconfigured, match="was moved to"):
                store.attach(digest, owner="page/2", connection=raw)
            raw.rollback()
            with pytest.raises((sqlite3.Error, psycopg.Error), match="was moved to|moved to <"):
                raw.execute("DELETE FROM calotype_reference")


# While others write


@pytest.mark.parametrize("kind", ["folder", "postgres"])
def test_what_is_written_meanwhile_is_there_as_well(kind, tmp_path, clock, monkeypatch):
    place = Place(kind, tmp_path / "here", clock)
    place.root.mkdir()
    there = twin(place, "postgres", tmp_path / "there")
    with place.open() as store:
        fill(store)
    monkeypatch.setattr(merging, "WINDOW", 20)
    put: list[Digest] = []
    refusals: list[CalotypeError] = []

    def write() -> None:
        with place.open() as store:
            for number in range(10_000):
                time.sleep(0 if number < 100 else 0.1)
                try:
                    put.append(
                        store.put(b"%d" % number, owner=f"late/{number % 7}", role="r").digest
                    )
                    if number % 5 == 0:
                        store.release(f"late/{number % 3}")
                except Locked:  # the copy's end holds all writers still for a moment
                    continue
                except CalotypeError as error:
                    refusals.append(error)
                    return

    with place.open() as store, beside(write) as raised:
        for _ in store.copy_catalog(there.where):
            time.sleep(0.02)
    assert raised == [] and [type(each) for each in refusals] == [Misconfigured]
    assert put
    with opened(there, place) as store:
        assert [each for each in put if not store.explain(each).replicas] == []
        assert problems(store) == []


def test_a_transaction_that_is_open_is_waited_for(tmp_path, clock):
    place = Place("postgres", tmp_path, clock)
    made = twin(place, "postgres", tmp_path / "there")
    with place.open() as store, place.open() as other:
        digest = store.put(picture(), hold="1h").digest
        with psycopg.connect(place.url) as raw:
            other.attach(digest, owner="page/1", connection=raw)
            with beside(lambda: store.copy_catalog(made.where).result()) as raised:
                until_somebody_waits(place)
                raw.commit()
        assert raised == []
    with opened(made, place) as store:
        assert store.stats().references == 1
        assert problems(store) == []


def test_a_transaction_that_does_not_end_leaves_the_old_catalog_in_use(tmp_path, clock):
    place = Place("postgres", tmp_path, clock)
    made = twin(place, "postgres", tmp_path / "there")
    with place.open() as store:
        digest = store.put(picture(), hold="1h").digest
        store._rooms.catalog.database._patience = 0.2
        with psycopg.connect(place.url) as raw:
            store.attach(digest, owner="page/1", connection=raw)
            with pytest.raises(Locked):
                store.copy_catalog(made.where).result()
            raw.commit()
        assert store.stats().references == 1
        with opened(made, place) as half, pytest.raises(Misconfigured, match="not finished"):
            half.stats()
        store.copy_catalog(made.where).result()
    with opened(made, place) as store:
        assert store.stats().references == 1


# Killed


KILLED = """
import os, signal, sys
from calotype import Store
from calotype.catalog import Catalog, bare, merging, moving
merging.WINDOW = 10
owners = {"bare": bare, "moving": moving, "Difference": merging.Difference, "Catalog": Catalog}
folder, url, place, moment, times = sys.argv[1:]
owner, name = place.split(".")
real, left = getattr(owners[owner], name), [int(times)]

def killing(*given, **named):
    left[0] -= 1
    if left[0] == 0 and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = real(*given, **named)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

setattr(owners[owner], name, killing)
store = Store(folder)
store.copy_catalog(url).result()
"""
PLACES = [
    ("bare.strip", "before", 1),
    ("bare.strip", "after", 1),
    ("moving.begin", "after", 1),
    ("Difference.settle", "after", 1),
    ("Difference.settle", "before", 7),
    ("Difference.settle", "after", 12),
    ("moving.hold_still", "after", 1),
    ("bare.complete", "before", 1),
    ("bare.complete", "after", 1),
    ("moving.close", "before", 1),
    ("moving.close", "after", 1),
    ("moving.open_up", "before", 1),
    ("moving.open_up", "after", 1),
    ("Catalog.close", "before", 1),
]


@pytest.mark.parametrize(("name", "moment", "times"), PLACES)
def test_killed_anywhere_it_goes_on_and_never_are_there_two(
    place, there, name, moment, times, monkeypatch
):
    with place.open() as store:
        before = table_rows(store)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, place.root / "store", there.where, name, moment, str(times)],
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    usable = [kind for kind in ("old", "new") if _is_usable(kind, place, there)]
    assert usable == {"moving.open_up": [], "Catalog.close": ["new"]}.get(name, ["old"])
    with place.open() as store:
        done = store.copy_catalog(there.where).result()
        refused(store, monkeypatch)
    with opened(there, place) as store:
        assert table_rows(store) == before
        assert problems(store) == []


def _is_usable(kind: str, place: Place, there: Twin) -> bool:
    with place.open() if kind == "old" else opened(there, place) as store:
        try:
            return store.stats().blobs > 0
        except (Misconfigured, Corrupt):  # a database without tables, over bytes that are there
            return False


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("windows", [0, 3, 10_000])
def test_a_connection_that_is_lost_is_told_and_it_goes_on(place, there, how, windows, monkeypatch):
    """At the commit of a window, and of the end, whether the server did it or not."""
    monkeypatch.setattr(merging, "WINDOW", 10)
    wire = Wire(there.url)
    try:
        with place.open() as store:
            before = table_rows(store)
            run = store.copy_catalog(wire.url)
            with pytest.raises(Unavailable):
                for number, event in enumerate(run):
                    if number >= windows or event.note == "held still":
                        wire.cut = how
            assert wire.cuts == 1
            assert store.copy_catalog(there.where).result().moved
    finally:
        wire.close()
    with opened(there, place) as store:
        assert table_rows(store) == before
        assert problems(store) == []


def test_left_early_it_goes_on_and_writes_only_what_is_missing(place, there, monkeypatch):
    monkeypatch.setattr(merging, "WINDOW", 10)
    with place.open() as store:
        run = store.copy_catalog(there.where)
        for event in run:
            if event.note == "calotype_blob":
                break
        run.close()
        planned = store.copy_catalog(there.where, dry_run=True).result()
        assert 0 < planned.written < planned.rows and not planned.moved
        done = store.copy_catalog(there.where).result()
        assert 0 < done.written < done.rows


def test_of_two_into_one_the_later_takes_over(place, there, monkeypatch):
    monkeypatch.setattr(merging, "WINDOW", 10)
    with place.open() as store, place.open() as other:
        first = iter(store.copy_catalog(there.where))
        next(first)
        second = iter(other.copy_catalog(there.where))
        next(second)
        with pytest.raises(Locked, match="taken over"):
            list(first)
        list(second)
        assert store.copy_catalog(there.where).result().rows == 0
    with opened(there, place) as store:
        assert problems(store) == []


def test_one_that_was_overtaken_changes_nothing_of_what_is_in_use(place, there, monkeypatch):
    monkeypatch.setattr(merging, "WINDOW", 10)
    with place.open() as store, place.open() as other:
        late = iter(store.copy_catalog(there.where))
        next(late)
        other.copy_catalog(there.where).result()
        with opened(there, place) as moved:
            moved.put_many([b"new %d" % number for number in range(50)], owner="new/1").result()
            before = moved.stats()
            with pytest.raises(Locked, match="taken over"):
                list(late)
            assert moved.stats() == before
            assert problems(moved) == []


def test_of_two_into_different_places_one_moves(place, there, tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "WINDOW", 10)
    elsewhere = twin(place, "postgres", tmp_path / "elsewhere")
    with place.open() as store, place.open() as other:
        first = iter(store.copy_catalog(there.where))
        next(first)
        other.copy_catalog(elsewhere.where).result()
        with pytest.raises(Misconfigured, match="was moved to"):
            list(first)
        with pytest.raises(Misconfigured, match="was moved to"):
            store.copy_catalog(there.where).result()
    with opened(there, place) as store, pytest.raises(Misconfigured, match="not finished"):
        store.put(b"x")


# There and back


@pytest.mark.parametrize("back", ["folder", "postgres"])
def test_moving_back_onto_the_old_one(back, tmp_path, clock, monkeypatch):
    place = Place(back, tmp_path / "here", clock)
    place.root.mkdir()
    old = Twin(place.kind, place.root, clock)
    if back == "postgres":
        old.__dict__["url"] = place.url
    made = twin(place, "postgres", tmp_path / "there")
    with place.open() as store:
        fill(store)
        like = shape(place) if back == "postgres" else None
        store.copy_catalog(made.where).result()
    with opened(made, place) as store:
        store.put(b"newer", owner="set/1")
        store.release("set/1")
        store.gc(now=True)
        store.put(picture(5), owner=f"kind/{ODD}", role=ODD)
        before = table_rows(store)
        done = store.copy_catalog(old.where).result()
        assert 0 < done.written < done.rows and done.removed > 30
        refused(store, monkeypatch)
    assert like is None or shape(place) == like
    with place.open() as store:
        assert table_rows(store) == before
        assert problems(store) == []
        assert store.put(b"again").status == "created"
        assert store.gc(now=True).refused == 0
    with opened(made, place) as store, pytest.raises(Misconfigured, match="was moved to"):
        store.copy_catalog(old.where, dry_run=True).result() and store.stats()


def test_it_can_be_moved_again_and_again(place, tmp_path, clock):
    second = twin(place, "shared", tmp_path / "second")
    third = twin(place, "postgres", tmp_path / "third")
    with place.open() as store:
        before = table_rows(store)
        store.copy_catalog(second.where).result()
    with opened(second, place) as store:
        store.copy_catalog(third.where).result()
    with opened(third, place) as store:
        store.copy_catalog(str(place.database.parent)).result()
    with place.open() as store:
        assert table_rows(store) == before
        assert problems(store) == []


# What is refused


def test_what_is_there_already_is_refused(place, there, tmp_path, clock):
    other = Place("postgres", tmp_path / "other", clock)
    with other.open() as store:
        store.put(b"another store's")
    with place.open() as store:
        for dry_run in (True, False):
            for where, match in [
                (other.url, "another store's catalog"),
                (str(place.root / "store"), "is in use"),
                (f"sqlite:///{place.database}", "is in use"),
                ("sqlite://", "in memory"),
                ("mysql://h/x", "SQLite or PostgreSQL"),
            ]:
                with pytest.raises(Misconfigured, match=match):
                    store.copy_catalog(where, dry_run=dry_run).result()
        assert store.stats().blobs > 30
    with other.open() as store:
        assert store.stats().blobs == 1


def test_a_catalog_with_bytes_of_its_own_stays(tmp_path, there):
    with Store(tmp_path / "one", backend="database:") as store:
        store.put(picture())
        with pytest.raises(Misconfigured, match="in the catalog's own database") as error:
            store.copy_catalog(there.where).result()
        assert "backend add" in error.value.hint
        assert store.put(picture(1)).status == "created"


def test_no_store_no_copy(folder, tmp_path):
    where = tmp_path / "there"
    with folder.open() as store, pytest.raises(NoStore):
        store.copy_catalog(str(where)).result()
    assert not where.exists() and not folder.database.exists()


def test_a_dry_run_changes_nothing(place, there, tmp_path):
    with place.open() as store:
        count = sum(map(len, table_rows(store).values()))
        for where in (there.where, str(tmp_path / "new"), f"sqlite:///{tmp_path}/new.db"):
            done = store.copy_catalog(where, dry_run=True).result()
            assert (done.rows, done.written, done.removed, done.moved) == (count, count, 0, False)
        assert not (tmp_path / "new").exists() and not (tmp_path / "new.db").exists()
        with psycopg.connect(there.url) as raw:
            tables = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema()"
            assert raw.execute(tables).fetchall() == []
        assert store.put(b"x").status == "created"


@pytest.mark.parametrize("kind", ["shared", "postgres"])
def test_columns_of_an_application_cannot_go_and_what_they_keep_is_held(kind, tmp_path, clock):
    place = Place(kind, tmp_path / "here", clock)
    place.root.mkdir()
    made = twin(place, "postgres", tmp_path / "there")
    with place.open() as store:
        kept = store.put(picture(), owner="page/1").digest
        also = store.put(picture(1), owner="page/1").digest
        bare = store.put(picture(2)).digest
        change(
            store,
            "CREATE TABLE hit (n INTEGER PRIMARY KEY, image VARCHAR(64) "
            "REFERENCES calotype_blob (digest), s TEXT, d VARCHAR(64), "
            "FOREIGN KEY (s, d) REFERENCES calotype_asset (scope, digest))",
        )
        change(store, "INSERT INTO hit VALUES (1, ?, 'default', ?)", kept, also)
        change(store, "INSERT INTO hit VALUES (2, ?, NULL, NULL)", bare)
        change(store, "DELETE FROM calotype_asset WHERE digest = ?", bare)
        store.release("page/1")
        for dry_run in (True, False):
            with pytest.raises(Misconfigured, match=r"hit\.image, hit\.s\+d|hit\.s\+d, hit\.image"):
                store.copy_catalog(made.where, dry_run=dry_run).result()
        assert store.copy_catalog(made.where, force=True).result().held == 3
    with opened(made, place) as store:
        clock.advance(days=29)
        store.gc(now=True)
        assert [content(store, each) for each in (kept, also, bare)]
        assert problems(store) == []
        clock.advance(days=2)
        assert store.gc(now=True).doomed == 3


def test_a_catalog_that_was_lost_where_it_went_comes_back_with_force(place, there, tmp_path):
    with place.open() as store:
        store.copy_catalog(there.where).result()
        elsewhere = twin(place, "folder", tmp_path / "elsewhere")
        with pytest.raises(Misconfigured, match="was moved to"):
            store.copy_catalog(elsewhere.where).result()
        store.copy_catalog(elsewhere.where, force=True).result()
    with opened(elsewhere, place) as store:
        assert store.put(b"back").status == "created"
        decided(store)


def decided(store: Store) -> None:
    """Two catalogs name these bytes: none may erase until somebody says whose they are."""
    assert [each.kind for each in problems(store)] == ["locked"]
    store.fsck(recover=True, adopt=True).result()
    assert problems(store) == []


def test_a_copy_that_was_given_up_by_force_cannot_be_finished(place, there, tmp_path):
    where = [sys.executable, "-c", KILLED, place.root / "store", there.where]
    done = subprocess.run([*where, "moving.open_up", "before", "1"], timeout=60)
    assert done.returncode == -signal.SIGKILL
    elsewhere = twin(place, "folder", tmp_path / "elsewhere")
    with place.open() as store:
        store.copy_catalog(elsewhere.where, force=True).result()
        with pytest.raises(Misconfigured, match="was moved to"):
            store.copy_catalog(there.where).result()
    with opened(there, place) as store, pytest.raises(Misconfigured, match="not finished"):
        store.stats()
    with opened(elsewhere, place) as store:
        decided(store)


def test_a_copy_that_another_schema_was_begun_with_is_refused(place, there, monkeypatch):
    with place.open() as store:
        next(iter(store.copy_catalog(there.where)))
        with psycopg.connect(there.url) as raw:
            raw.execute(
                "UPDATE calotype_meta SET value = replace(value, %s, %s) WHERE key = 'copying'",
                [f'"schema": {schema.CURRENT}', '"schema": 1'],
            )
        with pytest.raises(Misconfigured, match="begun or made with schema 1"):
            store.copy_catalog(there.where).result()


def test_a_row_that_points_at_nothing_is_not_moved(tmp_path, place):
    made = twin(place, "shared", tmp_path / "there")
    lost = Digest.of(picture())
    with closing(sqlite3.connect(place.database)) as raw:
        raw.execute("DROP TRIGGER calotype_blob_guard_delete")
        raw.execute("DELETE FROM calotype_blob WHERE digest = ?", [lost])
        raw.commit()
    with place.open() as store:
        with pytest.raises(Corrupt, match="points at nothing"):
            store.copy_catalog(made.where).result()
        with pytest.raises(CalotypeError, match="not finished"):
            store.copy_catalog(servers.schema()).result()
        assert store.stats().blobs > 30


def test_a_place_that_cannot_be_used_is_told_in_words(place, tmp_path):
    (tmp_path / "file").write_bytes(b"no database" * 300)
    with place.open() as store:
        for where, error in [
            (f"sqlite:///{tmp_path}/nowhere/x.db", Unavailable),
            (f"sqlite:///{tmp_path}/file", Corrupt),
            (str(tmp_path / "file"), Unavailable),
            (servers.postgres().replace("/postgres?", "/nowhere?"), Misconfigured),
            (f"{servers.postgres()}&options=-csearch_path%3Dnowhere", Misconfigured),
        ]:
            with pytest.raises(error) as refusal:
                store.copy_catalog(where).result()
            assert refusal.value.hint
        assert store.put(b"goes on").status == "created"


@pytest.mark.mounts
@pytest.mark.parametrize("where", ["{}/disk", "sqlite:///{}/disk/x.db"])
def test_a_full_disk_there_is_told_and_the_old_one_stays_in_use(place, tmp_path, where):
    with place.open() as store:
        store.put_many([noise(9, number) for number in range(3000)]).result()
        with mounts.small_disk(tmp_path / "disk", "2m"):
            with pytest.raises(Unavailable, match="full"):
                store.copy_catalog(where.format(tmp_path)).result()
            assert store.put(b"goes on").status == "created"


def test_no_password_is_noted_or_told(place, there):
    with place.open() as store:
        address = f"{there.url}&password=hush"
        store.copy_catalog(address).result()
        with pytest.raises(Misconfigured) as refusal:
            store.stats()
    assert "hush" not in f"{refusal.value}"
    with closing(sqlite3.connect(place.database)) as raw:
        assert "hush" not in "".join(raw.iterdump())


# A window of keys


def pages(made: list[tuple], size: int):
    return lambda after: [each for each in made if after is None or each[:1] > after][:size]


@pytest.mark.parametrize("seed", range(20))
def test_windows_meet_whatever_is_on_either_side(seed, monkeypatch):
    monkeypatch.setattr(merging, "WINDOW", 3)
    dice = random.Random(seed)
    table = metadata.tables["calotype_meta"]
    keys = [f"{n:02}" for n in range(25)]
    ours = [(key, dice.choice("ab")) for key in keys if dice.random() < dice.choice((0.2, 0.8))]
    theirs = [(key, dice.choice("ab")) for key in keys if dice.random() < 0.5]
    made = dict(theirs)
    for each in merging.differences(table, pages(ours, 3), pages(theirs, 3)):
        for key in each.surplus:
            del made[key[0]]
        made.update(each.missing)
    assert made == dict(ours)


def test_progress_comes_to_its_end(place, there):
    with place.open() as store:
        seen: list[Progress] = list(store.copy_catalog(there.where))
    assert seen[-1].note == "held still" and seen[-1].done == seen[-1].total
    assert [each.done for each in seen] == sorted(each.done for each in seen)


def test_the_folder_is_noted_as_seen_from_where_the_catalog_is(place, there, tmp_path):
    noted = "SELECT url FROM calotype_backend"
    with place.open() as store:
        assert rows(store, noted) == [("file:blobs",)]
        store.copy_catalog(there.where).result()
    with opened(there, place) as store:
        assert rows(store, noted) == [(f"file:{place.blobs}",)]
        elsewhere = twin(place, "folder", tmp_path / "else")
        store.copy_catalog(elsewhere.where).result()
    with opened(elsewhere, place) as store:
        assert rows(store, noted) == [("file:../../store/blobs",)]
