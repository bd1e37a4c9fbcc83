"""connection=: attach, release and restore inside the application's own transaction."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, PoolProxiedConnection, SingletonThreadPool, StaticPool
from tests.store.pictures import picture
from tests.store.places import Place
from tests.store.surgery import problems, rows

from calotype import Digest, Store
from calotype.errors import Locked, Misconfigured, NoStore, NotFound


@pytest.fixture
def store(shared) -> Iterator[Store]:
    with shared.open() as opened:
        yield opened


@pytest.fixture
def digest(store):
    return store.put(picture(), hold="1h").digest


def application(place: Place, *, keys: bool = True, immediate: bool = True) -> Engine:
    """An engine as a careful application sets it up; ``immediate`` begins as SQLite's writer."""
    engine = create_engine(f"sqlite:///{place.database}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def set_up(raw, _):
        raw.isolation_level = None
        raw.execute(f"PRAGMA foreign_keys={'ON' if keys else 'OFF'}")
        raw.execute("PRAGMA busy_timeout=200")

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def session_of(place):
    with Session(application(place)) as session:
        yield session, session.commit, session.rollback


@contextmanager
def core_connection_of(place):
    with application(place).connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def scoped_session_of(place):
    session = scoped_session(sessionmaker(application(place)))
    try:
        yield session, session.commit, session.rollback
    finally:
        session.remove()


@contextmanager
def pooled_raw_of(place):
    """What Engine.raw_connection() gives: the driver's connection, wrapped by the pool."""
    with closing(application(place).raw_connection()) as raw:
        raw.execute("BEGIN IMMEDIATE")
        yield raw, raw.commit, raw.rollback


@contextmanager
def lazy_connection_of(place):
    """SQLAlchemy's default: the driver begins a transaction before the first write."""
    engine = create_engine(f"sqlite:///{place.database}", poolclass=NullPool)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def raw_legacy_of(place):
    """sqlite3's default: a transaction begins by itself before the first write."""
    with closing(sqlite3.connect(place.database)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        yield raw, raw.commit, raw.rollback


@contextmanager
def raw_rows_of(place):
    with raw_legacy_of(place) as (raw, commit, rollback):
        raw.row_factory = sqlite3.Row
        yield raw, commit, rollback
        assert raw.row_factory is sqlite3.Row


@contextmanager
def raw_autocommit_of(place):
    with closing(sqlite3.connect(place.database, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("BEGIN IMMEDIATE")
        yield raw, lambda: raw.execute("COMMIT"), lambda: raw.execute("ROLLBACK")


KINDS = pytest.mark.parametrize(
    "kind",
    [
        session_of,
        core_connection_of,
        scoped_session_of,
        pooled_raw_of,
        lazy_connection_of,
        raw_legacy_of,
        raw_rows_of,
        raw_autocommit_of,
    ],
    ids=lambda kind: kind.__name__,
)


def write_page(connection, title: str = "x") -> None:
    """Something of the application's own, in the same transaction."""
    if isinstance(connection, sqlite3.Connection | PoolProxiedConnection):
        connection.execute("INSERT INTO page (t) VALUES (?)", (title,))
    else:
        connection.execute(text("INSERT INTO page (t) VALUES (:t)"), {"t": title})


def driver_of(connection) -> sqlite3.Connection:
    """The driver's connection under any kind."""
    if isinstance(connection, sqlite3.Connection):
        return connection
    if isinstance(connection, Session | scoped_session):
        connection = connection.connection()
    if not isinstance(connection, PoolProxiedConnection):
        connection = connection.connection
    return connection.driver_connection


def pages(place) -> int:
    with closing(sqlite3.connect(place.database)) as raw:
        return raw.execute("SELECT COUNT(*) FROM page").fetchone()[0]


def owners(store) -> list[str]:
    return [str(each.owner) for each in store.owners()]


# One transaction


@KINDS
def test_attaching_is_committed_with_the_application(store, shared, digest, kind):
    with kind(shared) as (connection, commit, _):
        write_page(connection)
        store.attach(digest, owner="page/1", role="cover", connection=connection)
        assert owners(store) == []
        write_page(connection)
        commit()
    assert owners(store) == ["page/1"]
    assert pages(shared) == 2
    assert problems(store) == []


@KINDS
def test_attaching_is_rolled_back_with_the_application(store, shared, digest, clock, kind):
    with kind(shared) as (connection, _, rollback):
        write_page(connection)
        store.attach(digest, owner="page/1", role="cover", connection=connection)
        rollback()
    assert (owners(store), pages(shared)) == ([], 0)
    assert rows(store, "SELECT COUNT(*) FROM calotype_reference") == [(0,)]
    clock.advance(hours=2)
    assert store.gc(now=True).doomed == 1


@KINDS
def test_releasing_and_restoring_join_too(store, shared, digest, kind):
    store.attach(digest, owner="page/1", role="cover")
    with kind(shared) as (connection, _, rollback):
        assert store.release("page/1", connection=connection).references == 1
        rollback()
    assert owners(store) == ["page/1"]
    with kind(shared) as (connection, commit, _):
        write_page(connection)
        store.release("page/1", connection=connection)
        commit()
    assert owners(store) == []
    with kind(shared) as (connection, commit, _):
        assert store.restore(owner="page/1", connection=connection).digests == (digest,)
        commit()
    assert owners(store) == ["page/1"]


@KINDS
def test_restoring_a_digest_joins_too(store, shared, clock, kind):
    digest = store.put(picture(), owner="page/1").digest
    store.release("page/1")
    with kind(shared) as (connection, _, rollback):
        write_page(connection)
        store.restore(digest, connection=connection)
        rollback()
    assert store.check([digest])[digest].trashed
    with kind(shared) as (connection, commit, _):
        store.restore(digest, connection=connection)
        commit()
    assert store.stat(digest).kept == "library"


@KINDS
def test_not_found_leaves_the_transaction_usable(store, shared, digest, kind):
    with kind(shared) as (connection, commit, _):
        write_page(connection)
        with pytest.raises(NotFound):
            store.attach(Digest.of(b"nothing"), owner="page/1", connection=connection)
        store.attach(digest, owner="page/2", connection=connection)
        write_page(connection)
        commit()
    assert (owners(store), pages(shared)) == (["page/2"], 2)


@KINDS
def test_what_is_attached_twice_is_there_once(store, shared, digest, kind):
    with kind(shared) as (connection, commit, _):
        for _ in range(3):
            store.attach(digest, owner="page/1", role="cover", connection=connection)
        commit()
    assert rows(store, "SELECT COUNT(*) FROM calotype_reference") == [(1,)]


@KINDS
def test_the_application_reads_on_through_its_own_connection(store, shared, digest, kind):
    with kind(shared) as (connection, commit, _):
        store.attach(digest, owner="page/1", connection=connection)
        sql = "SELECT digest FROM calotype_reference"
        raw = isinstance(connection, sqlite3.Connection | PoolProxiedConnection)
        assert [row[0] for row in connection.execute(sql if raw else text(sql))] == [digest]
        commit()


def test_scopes_join_as_themselves(store, shared):
    ana = store.scope("user:ana")
    digest = ana.put(picture(), hold="1h").digest
    with session_of(shared) as (session, commit, _):
        with pytest.raises(NotFound):
            store.attach(digest, owner="page/1", connection=session)
        ana.attach(digest, owner="page/1", connection=session)
        commit()
    assert owners(ana) == ["page/1"]
    assert owners(store) == []


# Savepoints and bulk SQL


def test_a_savepoint_takes_what_was_attached_in_it_along(store, shared, digest):
    other = store.put(picture(1), hold="1h").digest
    with Session(application(shared)) as session:
        store.attach(digest, owner="page/1", connection=session)
        inner = session.begin_nested()
        store.attach(other, owner="page/2", connection=session)
        store.release("page/1", connection=session)
        inner.rollback()
        session.commit()
    assert owners(store) == ["page/1"]
    assert problems(store) == []


@pytest.mark.parametrize("read_first", [False, True])
def test_a_savepoint_that_would_commit_by_itself_is_refused(store, shared, digest, read_first):
    """To Python's sqlite3 it is the transaction: its end would commit what SQLAlchemy undoes."""
    store.attach(digest, owner="page/1")
    careless = create_engine(f"sqlite:///{shared.database}", poolclass=NullPool)
    event.listen(careless, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with Session(careless) as session:
        if read_first:
            session.execute(text("SELECT * FROM page"))
        for _ in range(2):
            with session.begin_nested(), session.begin_nested():
                with pytest.raises(Misconfigured, match="savepoint") as refusal:
                    store.release("page/1", connection=session)
                assert "BEGIN" in refusal.value.hint
        store.release("page/1", connection=session)
        with session.begin_nested():
            store.attach(digest, owner="page/2", connection=session)
        session.rollback()
        with session.begin_nested() as nested:
            nested.rollback()
        session.execute(text("INSERT INTO page (t) VALUES ('first')"))
        with session.begin_nested():
            store.release("page/1", connection=session)
        session.rollback()
    assert owners(store) == ["page/1"]
    assert problems(store) == []


def test_an_engine_that_begins_by_itself_may_begin_with_a_savepoint(store, shared, digest):
    store.attach(digest, owner="page/1")
    with Session(application(shared)) as session:
        with session.begin_nested():
            assert store.release("page/1", connection=session).references == 1
        session.rollback()
        with session.begin_nested():
            store.attach(digest, owner="page/2", connection=session)
        session.commit()
    assert owners(store) == ["page/1", "page/2"]
    assert problems(store) == []


def test_a_raw_savepoint_does_too(store, shared, digest):
    with raw_autocommit_of(shared) as (raw, commit, _):
        raw.execute("SAVEPOINT inner")
        store.attach(digest, owner="page/1", connection=raw)
        raw.execute("ROLLBACK TO inner")
        raw.execute("RELEASE inner")
        store.attach(digest, owner="page/2", connection=raw)
        commit()
    assert owners(store) == ["page/2"]


def test_a_raw_connection_in_autocommit_mode_gets_a_transaction_for_the_call(store, shared, digest):
    with closing(sqlite3.connect(shared.database, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        store.attach(digest, owner="page/1", connection=raw)
        assert not raw.in_transaction
        with pytest.raises(NotFound):
            store.attach(Digest.of(b"nothing"), owner="page/2", connection=raw)
        assert not raw.in_transaction
    assert owners(store) == ["page/1"]


def test_a_connection_of_sqlalchemy_in_autocommit_gets_a_transaction_for_the_call(
    store, shared, digest
):
    engine = create_engine(f"sqlite:///{shared.database}", isolation_level="AUTOCOMMIT")
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with engine.connect() as connection:
        store.attach(digest, owner="page/1", connection=connection)
        assert owners(store) == ["page/1"]
        with pytest.raises(NotFound):
            store.attach(Digest.of(b"nothing"), owner="page/2", connection=connection)
        store.release("page/1", connection=connection)
    assert owners(store) == []
    engine.dispose()


def test_the_applications_functions_and_factories_stay_its_own(store, shared, digest):
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.create_function("regexp", 2, lambda pattern, text: text == f"mine: {pattern}")
        raw.text_factory = bytes
        store.attach(digest, owner="page/1", connection=raw)
        assert raw.execute("SELECT 'mine: x' REGEXP 'x', 'a'").fetchone() == (1, b"a")
        raw.commit()
    assert owners(store) == ["page/1"]


def test_a_commit_that_a_reader_keeps_out_is_locked_and_the_settings_are_as_before(shared, clock):
    """In an application's file that is not in WAL mode, whoever reads holds off the commit."""
    engine = create_engine(f"sqlite:///{shared.database}", connect_args={"timeout": 0.2})
    with Store(engine=engine, backend=f"file:{shared.blobs}", clock=clock) as store:
        store.put(picture())
        with engine.connect() as connection:
            before = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("foreign_keys", "synchronous")
            ]
        with closing(sqlite3.connect(shared.database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM calotype_blob").fetchall()
            for verb in (
                lambda: store.put(picture(1)),
                lambda: store.put(picture(), owner="page/1"),
                lambda: store.put_many(map(picture, range(1, 5))).result(),
                lambda: store.gc(now=True),
            ):
                with pytest.raises(Locked, match="reads the catalog") as caught:
                    verb()
                assert "WAL" in caught.value.hint
        with engine.connect() as connection:
            for name, value in zip(("foreign_keys", "synchronous"), before, strict=True):
                assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value
        assert store.put(picture(1)).status == "created"
    engine.dispose()


def test_a_raw_connection_that_a_reader_keeps_from_committing_is_as_before(store, shared, digest):
    with (
        closing(sqlite3.connect(shared.database, isolation_level=None, timeout=0.2)) as raw,
        closing(sqlite3.connect(shared.database, isolation_level=None)) as reader,
    ):
        raw.execute("PRAGMA foreign_keys=ON")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM calotype_blob").fetchall()
        with pytest.raises(Locked, match="reads the catalog"):
            store.attach(digest, owner="page/1", connection=raw)
        assert not raw.in_transaction
        reader.execute("ROLLBACK")
        store.attach(digest, owner="page/1", connection=raw)
    assert owners(store) == ["page/1"]


def test_on_an_engine_of_the_applications_a_put_is_durable_and_guarded(shared, clock):
    """Whatever the application has set, and it is set so again afterwards."""
    seen: list[tuple[int, int]] = []
    engine = create_engine(f"sqlite:///{shared.database}")

    @event.listens_for(engine, "connect")
    def set_up(raw, _):
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute("PRAGMA foreign_keys=OFF")

    def settings(connection) -> tuple[int, int]:
        driver = connection.connection.driver_connection
        return tuple(
            driver.execute(f"PRAGMA {n}").fetchone()[0] for n in ("synchronous", "foreign_keys")
        )

    event.listen(engine, "commit", lambda connection: seen.append(settings(connection)))
    with Store(engine=engine, backend=f"file:{shared.blobs}", clock=clock) as store:
        digest = store.put(picture(), owner="page/1").digest
        assert set(seen) == {(2, 1)}
        with engine.connect() as connection:
            assert settings(connection) == (0, 0)
        assert store.stat(digest).references == 1
    engine.dispose()


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_an_engine_of_one_connection_is_refused(shared, clock, pool):
    """The store's transactions would end those of the application."""
    engine = create_engine(f"sqlite:///{shared.database}", poolclass=pool)
    with shared.open() as first:
        first.put(picture(1))
    store = Store(engine=engine, backend=f"file:{shared.blobs}", clock=clock)
    with Session(engine) as session, session.begin():
        write_page(session)
        with pytest.raises(Misconfigured, match="one connection"):
            store.put(picture())
    assert pages(shared) == 1
    engine.dispose()


def test_the_first_put_goes_through_an_engine_that_begins_by_itself(shared, clock):
    """The recipe of SQLAlchemy's documentation for SQLite: BEGIN in an event."""
    engine = application(shared)
    with Store(engine=engine, backend=f"file:{shared.blobs}", clock=clock) as store:
        assert store.put(picture()).status == "created"
        assert store.put(picture()).status == "duplicate"
        assert store.gc(now=True).doomed == 0


if sys.version_info >= (3, 12):

    def test_a_raw_connection_with_autocommit_off_joins(store, shared, digest):
        with closing(sqlite3.connect(shared.database, autocommit=True)) as raw:
            raw.execute("PRAGMA foreign_keys=ON")
            raw.autocommit = False
            store.attach(digest, owner="page/1", connection=raw)
            raw.rollback()
            assert owners(store) == []
            store.attach(digest, owner="page/1", connection=raw)
            raw.commit()
        assert owners(store) == ["page/1"]

    def test_a_raw_connection_with_autocommit_on_gets_a_transaction_too(store, shared, digest):
        with closing(sqlite3.connect(shared.database, autocommit=True)) as raw:
            raw.execute("PRAGMA foreign_keys=ON")
            store.attach(digest, owner="page/1", connection=raw)
            assert not raw.in_transaction
            assert owners(store) == ["page/1"]
            with pytest.raises(NotFound):
                store.attach(Digest.of(b"nothing"), owner="page/2", connection=raw)
            assert not raw.in_transaction


@pytest.mark.parametrize("keys", [True, False])
def test_references_deleted_in_bulk_are_collected(store, shared, keys):
    digests = [store.put(picture(n), owner=f"page/{n}").digest for n in range(3)]
    with application(shared, keys=keys).begin() as connection:
        connection.execute(text("DELETE FROM calotype_reference WHERE owner_id <> '1'"))
    store._rooms.catalog.clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 2
    assert [asset.digest for asset in store.assets()] == [digests[1]]
    assert problems(store) == []


def test_references_deleted_and_rolled_back_are_still_there(store, shared, clock):
    store.put(picture(), owner="page/1")
    with application(shared).connect() as connection:
        connection.execute(text("DELETE FROM calotype_reference"))
        connection.rollback()
    clock.advance(days=1)
    assert store.gc(now=True).doomed == 0
    assert owners(store) == ["page/1"]


# What is refused


@KINDS
def test_a_connection_with_foreign_keys_off_is_refused(store, shared, digest, kind):
    with kind(shared) as (connection, _, rollback):
        rollback()
        driver = driver_of(connection)
        driver.rollback()
        driver.execute("PRAGMA foreign_keys=OFF")
        with pytest.raises(Misconfigured, match="foreign_keys"):
            store.attach(digest, owner="page/1", connection=connection)
    assert owners(store) == []


def test_releasing_needs_no_foreign_keys(store, shared, digest):
    store.attach(digest, owner="page/1")
    with application(shared, keys=False).begin() as connection:
        assert store.release("page/1", connection=connection).references == 1
    assert owners(store) == []


def test_another_stores_database_is_refused(store, digest, tmp_path, clock):
    (tmp_path / "b").mkdir()
    other = Place("shared", tmp_path / "b", clock)
    with other.open() as second:
        second.put(picture(), hold="1h")
        with session_of(other) as (session, _, _), pytest.raises(Misconfigured, match="another"):
            store.attach(digest, owner="page/1", connection=session)
        assert owners(second) == owners(store) == []


def test_a_database_without_our_tables_is_refused(store, digest, tmp_path):
    with closing(sqlite3.connect(tmp_path / "bare.db")) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        with pytest.raises((NoStore, Misconfigured)):
            store.attach(digest, owner="page/1", connection=raw)


@pytest.mark.parametrize("thing", [7, "sqlite://", object()])
def test_what_is_no_connection_is_refused(store, digest, thing):
    with pytest.raises(Misconfigured, match="join"):
        store.attach(digest, owner="page/1", connection=thing)


@KINDS
def test_a_connection_that_is_closed_is_refused(store, shared, digest, kind):
    with kind(shared) as (connection, _, _):
        if isinstance(connection, Session | scoped_session):
            connection = connection.connection()
        connection.close()
    with pytest.raises(Misconfigured) as caught:
        store.attach(digest, owner="page/1", connection=connection)
    assert "open" in caught.value.hint


def test_a_session_that_waits_to_be_rolled_back_is_refused(store, shared, digest):
    with Session(application(shared)) as session:
        session.connection().invalidate()
        with pytest.raises(Misconfigured, match="rolled back") as caught:
            store.attach(digest, owner="page/1", connection=session)
        assert "roll back" in caught.value.hint
        session.rollback()
        store.attach(digest, owner="page/1", connection=session)
        session.commit()
    assert owners(store) == ["page/1"]


def test_there_must_be_a_store_to_join(store, shared):
    with session_of(shared) as (session, _, _), pytest.raises((NoStore, NotFound)):
        store.attach(Digest.of(b"x"), owner="page/1", connection=session)


# Locks


def test_a_transaction_that_read_before_another_wrote_is_told_to_begin_immediate(
    store, shared, digest
):
    """In WAL mode SQLite refuses a writer whose snapshot is old, whatever it waits."""
    with closing(sqlite3.connect(shared.database)) as raw:
        assert raw.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    with application(shared, immediate=False).connect() as connection:
        connection.execute(text("SELECT * FROM page")).all()
        store.put(picture(1))
        with pytest.raises(Locked) as caught:
            store.attach(digest, owner="page/1", connection=connection)
        assert "BEGIN IMMEDIATE" in caught.value.hint
        connection.rollback()
        store.attach(digest, owner="page/1", connection=connection)
        connection.commit()
    assert owners(store) == ["page/1"]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_put_that_waits_for_its_own_process_says_so_soon(store, shared, digest, mode):
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute(f"PRAGMA journal_mode={mode}")
    with application(shared).connect() as connection:
        connection.execute(text("INSERT INTO page (t) VALUES ('x')"))
        started = time.monotonic()
        with pytest.raises(Locked) as caught:
            store.put(picture(1))
        assert time.monotonic() - started < 10
        assert "attach(connection=)" in caught.value.hint
        store.attach(digest, owner="page/1", connection=connection)
        connection.commit()
    assert owners(store) == ["page/1"]
    assert store.put(picture(1)).status == "created"


@pytest.mark.parametrize("begins", ["by itself", "by an event"])
def test_so_does_one_through_the_applications_engine_however_patient_that_is(shared, clock, begins):
    engine = create_engine(f"sqlite:///{shared.database}", connect_args={"timeout": 40})
    with shared.open() as first:
        first.put(picture())
    if begins == "by an event":
        event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", lambda each: each.exec_driver_sql("BEGIN"))
    with Store(engine=engine, backend=f"file:{shared.blobs}", clock=clock) as store:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO page (t) VALUES ('x')"))
            started = time.monotonic()
            with pytest.raises(Locked, match="of this process"):
                store.put(picture(1))
            assert time.monotonic() - started < 20
        assert store.put(picture(1)).status == "created"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 40_000
    engine.dispose()


def test_attach_without_the_connection_inside_an_open_transaction_is_locked_too(
    store, shared, digest
):
    with application(shared).connect() as connection:
        connection.execute(text("INSERT INTO page (t) VALUES ('x')"))
        with pytest.raises(Locked):
            store.attach(digest, owner="page/1")


def test_a_put_waits_for_another_threads_short_transaction(store, shared, digest):
    begun, done = threading.Event(), []

    def hold() -> None:
        with application(shared).connect() as connection:
            connection.execute(text("INSERT INTO page (t) VALUES ('x')"))
            begun.set()
            time.sleep(0.7)
            connection.commit()
            done.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    assert store.put(picture(1)).status == "created"
    assert done == [True]
    thread.join()


def test_gc_during_an_open_release_takes_nothing_too_early(store, shared, digest, clock):
    """rails #35386: what an open transaction lets go is kept until it commits."""
    owned = store.put(picture(1), owner="page/1").digest
    with application(shared).connect() as connection:
        store.release("page/1", connection=connection)
        with pytest.raises(Locked):
            store.gc(now=True)
        connection.rollback()
    assert store.gc(now=True).doomed == 0
    assert not store.stat(owned).trashed


def test_putting_with_a_hold_and_then_attaching_inside_is_safe_from_gc(store, shared, clock):
    digest = store.put(picture(), hold="10m").digest
    store.gc(now=True)
    with Session(application(shared)) as session:
        store.attach(digest, owner="page/1", connection=session)
        session.commit()
    clock.advance(days=30)
    assert store.gc(now=True).doomed == 0
    assert problems(store) == []


def test_attaching_what_gc_took_meanwhile_is_not_found(store, shared, digest, clock):
    clock.advance(hours=2)
    store.gc(now=True)
    with session_of(shared) as (session, _, _), pytest.raises(NotFound):
        store.attach(digest, owner="page/1", connection=session)
