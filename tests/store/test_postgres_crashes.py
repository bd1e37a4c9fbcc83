"""What PostgreSQL does to a transaction: deadlocks, lost answers, crashes of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import create_engine, text
from tests import servers
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import content, problems, rows
from tests.wire import Wire

from calotype import Digest, Store
from calotype.errors import CalotypeError, Locked, Unavailable


@pytest.fixture
def place(tmp_path, clock) -> Place:
    return Place("postgres", tmp_path, clock)


@contextmanager
def beside(work) -> Iterator[list[BaseException]]:
    """Run ``work`` in a thread for the length of the block; what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield raised
    thread.join(30)
    assert not thread.is_alive()


def until_somebody_waits(place: Place) -> None:
    """Until a transaction of this server waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(place.url, autocommit=True) as raw:
        end = time.monotonic() + 10
        while raw.execute(query).fetchone() == (0,):
            assert time.monotonic() < end
            time.sleep(0.01)


# Deadlocks: the server rolls one of two back


def test_a_verb_that_had_to_give_way_is_run_again(place):
    with place.open() as store:
        old = store.put(picture(), owner="page/1", role="cover").digest
        new = store.put(picture(1)).digest
        lock_reference = "SELECT 1 FROM calotype_reference WHERE digest = %s FOR UPDATE"
        lock_asset = "SELECT 1 FROM calotype_asset WHERE digest = %s FOR UPDATE"
        with psycopg.connect(place.url) as raw:
            raw.execute(lock_reference, [old])
            with beside(lambda: store.attach(new, owner="page/1", role="cover")) as raised:
                until_somebody_waits(place)
                raw.execute(lock_asset, [new])  # the store waits longer, so it gives way
                raw.commit()
        assert raised == []
        assert [each.digest for each in store.references(owner="page/1")] == [new]
        assert problems(store) == []


def test_a_transaction_of_the_applications_is_for_it_to_run_again(place):
    with place.open() as store:
        old = store.put(picture(), owner="page/1", role="cover").digest
        new = store.put(picture(1)).digest

        def attach() -> None:
            with psycopg.connect(place.url) as mine:
                store.attach(new, owner="page/1", role="cover", connection=mine)

        with psycopg.connect(place.url) as raw:
            raw.execute("SELECT 1 FROM calotype_reference WHERE digest = %s FOR UPDATE", [old])
            with beside(attach) as raised:
                until_somebody_waits(place)
                raw.execute("SELECT 1 FROM calotype_asset WHERE digest = %s FOR UPDATE", [new])
                raw.commit()
        assert [type(error) for error in raised] == [Locked]
        assert [each.digest for each in store.references(owner="page/1")] == [old]


# A commit whose answer is lost


@pytest.fixture
def wire(place) -> Iterator[Wire]:
    carried = Wire(place.url)
    yield carried
    carried.close()


@pytest.fixture
def distant(place, wire) -> Iterator[Store]:
    """A store whose connections go through the wire."""
    with place.open() as near:
        near.put(b"first")
    with Store(catalog=wire.url, backend=f"file:{place.blobs}", clock=place.clock) as store:
        store.stats()
        yield store


def cut_at(store: Store, wire: Wire, how: str, monkeypatch) -> None:
    """Cut the wire at the commit of the next TX2."""
    from calotype.putting import Putter

    settle = Putter._settle

    def then(*arguments, **named):
        lines = settle(*arguments, **named)
        wire.cut = how
        return lines

    monkeypatch.setattr(Putter, "_settle", then)


def test_a_commit_that_was_done_though_nobody_heard_is_acknowledged(
    place, wire, distant, monkeypatch
):
    cut_at(distant, wire, "after", monkeypatch)
    answer = distant.put(picture(), owner="page/1")
    monkeypatch.undo()
    assert (wire.cuts, answer.status) == (1, "created")
    assert content(distant, answer.digest) == picture()
    assert distant.stats().references == 1
    assert problems(distant) == []


def test_a_commit_that_never_arrived_is_no_put(place, wire, distant, monkeypatch):
    cut_at(distant, wire, "before", monkeypatch)
    with pytest.raises(Unavailable) as error:
        distant.put(picture(), owner="page/1")
    monkeypatch.undo()
    assert wire.cuts == 1
    assert error.value.hint
    assert distant.stats().assets == 1
    assert distant.put(picture(), owner="page/1").status == "created"
    place.clock.advance(hours=1)
    distant.gc(now=True)
    assert len(list(place.blobs.glob("sha256/*/*/*"))) == 2
    assert problems(distant) == []


# The server crashes


@pytest.fixture
def server(tmp_path) -> Iterator[servers.OwnServer]:
    own = servers.OwnServer(tmp_path)
    yield own
    own.stop()


def test_crashes_of_the_server_lose_nothing_that_was_acknowledged(server, tmp_path, clock):
    """Writers put, release and collect while it is restarted as after a power cut, five times."""
    backend = f"file:{tmp_path}/media"
    kept: list[str] = []
    errors: list[CalotypeError] = []
    over = threading.Event()

    def work(store: Store, name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                kept.append(store.put(noise(2000, f"{name}{number}"), owner=f"kept/{name}").digest)
                store.put(noise(2000, f"gone{name}{number}"), owner=f"gone/{name}")
                store.release(f"gone/{name}")
                if number % 3 == 0:
                    store.gc(now=True, force=True)
            except CalotypeError as error:
                errors.append(error)
                time.sleep(0.02)

    with Store(catalog=server.url, backend=backend, clock=clock) as store:
        store.put(b"first")
        threads = [threading.Thread(target=work, args=[store, str(each)]) for each in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            before = len(kept)
            while len(kept) < before + 10:
                time.sleep(0.02)
            server.restart("immediate")
        before = len(kept)
        while len(kept) < before + 10:
            time.sleep(0.02)
        over.set()
        for thread in threads:
            thread.join()
        assert {type(error) for error in errors} <= {Unavailable}
        clock.advance(days=2)
        store.gc(now=True)
        assert all(store.check(kept).values())
        assert problems(store) == []
        assert all(content(store, digest) for digest in kept)
        assert rows(store, "SELECT count(*) FROM calotype_replica WHERE state = 'writing'") == [
            (0,)
        ]
        store.fsck(repair=True).result()  # what was intended just before a crash may be unknown
        clock.advance(days=31)
        store.gc()
        assert len(list((tmp_path / "media").glob("sha256/*/*/*"))) == store.stats().blobs


# A pool of one connection


@pytest.mark.parametrize("kind", ["file", "database"])
def test_one_connection_is_enough_for_every_verb(place, kind, tmp_path):
    """Nothing waits for a second connection while it has the first."""
    engine = create_engine(
        place.url.replace("postgresql:", "postgresql+psycopg:"),
        pool_size=1,
        max_overflow=0,
        pool_timeout=5,
    )
    backend = "database:" if kind == "database" else f"file:{place.blobs}"
    large = noise(9 << 20)
    with Store(engine=engine, backend=backend, clock=place.clock) as store:
        digest = store.put(picture(), owner="page/1").digest
        store.put(large[at : at + 700_000] for at in range(0, len(large), 700_000))
        store.put_many([noise(400, number) for number in range(20)], owner="many/1").result()
        with store.open(Digest.of(large)) as file:
            first = file.read(1 << 20)
            store.put(picture(1), owner="page/1")
            assert first + file.read() == large
        store.backends.add("two", f"file:{tmp_path}/two")
        assert store.backends.copy("two").result().copied == 23
        store.backends.primary("two")
        assert store.backends.drop("main").removed
        store.release("page/1")
        assert store.gc(now=True).doomed == 2
        assert problems(store) == []
        assert store.check([digest]) == {digest: None}
        with beside(lambda: store.put(noise(50, "beside"))) as raised:
            store.put_many([noise(60, number) for number in range(20)]).result()
        assert raised == []
        store.purge(Digest.of(large))
        assert store.stats().blobs == 41
    engine.dispose()


@pytest.mark.parametrize("backend", ["file:{}/bytes", "database:"])
def test_what_is_acknowledged_survives_whatever_the_role_was_set_to(
    server, tmp_path, clock, backend
):
    """Of a role that commits hastily, and of a server that writes its log late."""
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        raw.execute("ALTER ROLE postgres SET synchronous_commit = off")
    server.restart("fast")

    def opened() -> Store:
        return Store(catalog=server.url, backend=backend.format(tmp_path), clock=clock)

    with opened() as store:
        store.put(noise(50, 1), owner="page/1")
        with psycopg.connect(server.url, autocommit=True) as raw:
            raw.execute("CHECKPOINT")
        digest = store.put(noise(50, 2), owner="page/1").digest
        server.restart("immediate")
    with opened() as store:
        assert content(store, digest) == noise(50, 2)
        assert problems(store) == []


@pytest.mark.parametrize(("durable", "has"), [(True, "remote_write"), (False, "off")])
def test_a_commit_that_waits_for_more_is_left_to_wait(server, tmp_path, durable, has):
    with psycopg.connect(server.url, autocommit=True) as raw:
        raw.execute("ALTER ROLE postgres SET synchronous_commit = remote_write")
    with Store(catalog=server.url, backend=f"file:{tmp_path}/bytes") as store:
        store.create()
        with store._rooms.catalog.write(durable=durable) as connection:
            assert connection.scalar(text("SHOW synchronous_commit")) == has
