"""What only PostgreSQL has: many writers at once, deferred constraints, TRUNCATE, lost connections."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from tests import servers
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import change, content, findings, problems, rows

from calotype import Digest, Store, bulk
from calotype.catalog import Catalog, garbage, repeating, replicas
from calotype.catalog.failures import translated
from calotype.errors import (
    Locked,
    Misconfigured,
    MissingExtra,
    NotFound,
    RoleCascades,
    Unavailable,
)
from calotype.importing import engines
from calotype.quantities import now


@pytest.fixture
def place(tmp_path, clock) -> Place:
    return Place("postgres", tmp_path, clock)


@pytest.fixture
def store(place) -> Iterator[Store]:
    with place.open() as opened:
        yield opened


@pytest.fixture
def digest(store) -> Digest:
    return store.put(picture(), hold="1h").digest


def owners(store: Store) -> list[str]:
    """Of every live reference."""
    live = "SELECT owner_kind || '/' || owner_id FROM calotype_reference WHERE released_at IS NULL"
    return sorted(owner for (owner,) in rows(store, live))


# The application's transaction


@contextmanager
def session_of(place: Place):
    engine = create_engine(place.url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@contextmanager
def raw_of(place: Place):
    with psycopg.connect(place.url) as raw:
        yield raw, raw.commit, raw.rollback


@contextmanager
def raw_with_dicts_of(place: Place):
    with psycopg.connect(place.url, row_factory=dict_row) as raw:
        yield raw, raw.commit, raw.rollback
        assert raw.execute("SELECT 1 AS one").fetchone() == {"one": 1}


KINDS = pytest.mark.parametrize("kind", [session_of, raw_of, raw_with_dicts_of])


@KINDS
def test_what_is_attached_stands_or_falls_with_the_transaction(store, place, digest, kind):
    with kind(place) as (connection, _, rollback):
        store.attach(digest, owner="page/1", connection=connection)
        rollback()
    assert owners(store) == []
    with kind(place) as (connection, commit, _):
        store.attach(digest, owner="page/1", connection=connection)
        assert owners(store) == []
        commit()
    assert owners(store) == ["page/1"]
    with kind(place) as (connection, commit, rollback):
        assert store.release("page/1", connection=connection).references == 1
        rollback()
        assert store.release("page/1", connection=connection).references == 1
        assert store.restore(owner="page/1", connection=connection).references == 1
        commit()
    assert owners(store) == ["page/1"]
    assert problems(store) == []


@KINDS
def test_an_unknown_digest_leaves_the_transaction_usable(store, place, digest, kind):
    with kind(place) as (connection, commit, _):
        with pytest.raises(NotFound):
            store.attach(Digest.of(b"nothing"), owner="page/1", connection=connection)
        store.attach(digest, owner="page/2", connection=connection)
        commit()
    assert owners(store) == ["page/2"]


def test_an_autocommit_connection_gets_a_transaction_for_the_call(store, place, digest):
    with psycopg.connect(place.url, autocommit=True) as raw:
        store.attach(digest, owner="page/1", connection=raw)
        assert raw.info.transaction_status.name == "IDLE"
    assert owners(store) == ["page/1"]


def test_a_connection_that_cannot_be_used_is_refused(store, place, digest, tmp_path, clock):
    with psycopg.connect(place.url) as raw:
        with pytest.raises(psycopg.Error):
            raw.execute("SELECT nonsense")
        with pytest.raises(Misconfigured, match="failed"):
            store.attach(digest, owner="page/1", connection=raw)
    with pytest.raises(Misconfigured, match="closed"):
        store.attach(digest, owner="page/1", connection=raw)
    with Place("postgres", tmp_path / "other", clock).open() as other:
        other.put(b"other")
        with psycopg.connect(place.url) as raw, pytest.raises(Misconfigured, match="another store"):
            other.attach(Digest.of(b"other"), owner="page/1", connection=raw)
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.connect() as connection, pytest.raises(Misconfigured, match="sqlite"):
        store.attach(digest, owner="page/1", connection=connection)


def test_nobody_waits_for_a_release_and_gc_passes_over_what_is_being_used(store, place, digest):
    other = store.put(picture(1), owner="page/2").digest
    store.release("page/2")
    with psycopg.connect(place.url) as raw:
        store.attach(other, owner="page/3", connection=raw)
        started = time.monotonic()
        assert store.gc(now=True).doomed == 0
        store.release("page/2")
        assert time.monotonic() - started < 5
        raw.commit()
    assert store.gc(now=True).doomed == 0
    assert owners(store) == ["page/3"]
    assert content(store, other) == picture(1)


# The application's own tables


def application_table(store: Store, rule: str) -> None:
    change(
        store,
        'CREATE TABLE result (id SERIAL PRIMARY KEY, image TEXT COLLATE "C" '
        f"CONSTRAINT result_image REFERENCES calotype_blob (digest) {rule})",
    )
    change(store, "CREATE INDEX result_image_ix ON result (image)")


@pytest.mark.parametrize("rule", ["", "ON DELETE RESTRICT", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_column_of_the_application_keeps_what_it_points_at(store, digest, rule, clock):
    application_table(store, rule)
    change(store, "INSERT INTO result (image) VALUES (?)", digest)
    clock.advance(days=2)
    assert store.gc(now=True, full=True).doomed == 0
    assert [keeper.what for keeper in store.discard(digest).kept_by]
    assert content(store, digest) == picture()
    change(store, "DELETE FROM result")
    assert store.gc(now=True, full=True).doomed == 1
    assert problems(store) == []


def test_a_deferred_key_is_asked_at_the_delete_and_not_at_the_commit(
    store, place, digest, clock, monkeypatch
):
    """Of a row that comes after gc has asked, as replication writes it: past what keys ask."""
    application_table(store, "DEFERRABLE INITIALLY DEFERRED")
    other = store.put(noise(50), hold="1h").digest
    let_go, refused = garbage.let_go, []

    def meanwhile(connection, digests) -> None:
        if digest in digests:
            with psycopg.connect(place.url) as raw:
                raw.execute("SET session_replication_role = replica")
                raw.execute("INSERT INTO result (image) VALUES (%s)", [digest])
        try:
            let_go(connection, digests)
        except IntegrityError:
            refused.append(sorted(digests))
            raise

    monkeypatch.setattr(garbage, "let_go", meanwhile)
    clock.advance(days=2)
    assert store.gc(now=True, full=True, force=True).doomed == 1
    assert refused == [sorted([digest, other])]
    assert rows(store, "SELECT image FROM result") == [(digest,)]
    assert content(store, digest) == picture()
    assert problems(store) == []


@pytest.mark.parametrize("rule", ["ON DELETE CASCADE", "ON DELETE SET NULL"])
def test_a_column_that_gc_would_change_is_refused_by_name(store, digest, rule):
    application_table(store, rule)
    with pytest.raises(RoleCascades, match="result_image"):
        store.gc(now=True)


def test_a_table_of_another_schema_keeps_what_it_points_at(store, place, digest, clock):
    elsewhere = f"{rows(store, 'SELECT current_schema()')[0][0]}_shop"
    change(store, f"CREATE SCHEMA {elsewhere}")
    change(
        store,
        f'CREATE TABLE {elsewhere}.item (id SERIAL, scope TEXT COLLATE "C", cover TEXT COLLATE "C", '
        "FOREIGN KEY (scope, cover) REFERENCES calotype_asset (scope, digest))",
    )
    change(store, f"INSERT INTO {elsewhere}.item (scope, cover) VALUES ('default', ?)", digest)
    clock.advance(days=2)
    assert store.gc(now=True, full=True).doomed == 0
    assert not store.stat(digest).trashed
    assert f"{elsewhere}.item.scope+cover" in str(store.explain(digest))
    change(store, f"CREATE INDEX ON {elsewhere}.item (cover, scope)")
    change(store, f"DELETE FROM {elsewhere}.item")
    assert store.gc(now=True, full=True).doomed == 1


# Whoever goes past the library


def test_raw_sql_leaves_candidates(store, place, clock):
    for number in range(6):
        store.put(noise(50, number), owner=f"page/{number}")
    with psycopg.connect(place.url) as raw:
        raw.execute("UPDATE calotype_reference SET released_at = 1 WHERE owner_id IN ('0', '1')")
        raw.execute("DELETE FROM calotype_reference WHERE owner_id IN ('2', '3')")
    clock.advance(days=2)
    assert store.gc().doomed == 4
    assert problems(store) == []


def test_a_truncated_table_has_gc_look_at_everything(store, place, clock):
    for number in range(3):
        store.put(noise(50, number), owner=f"page/{number}")
    with psycopg.connect(place.url) as raw:
        raw.execute("TRUNCATE calotype_reference")
    clock.advance(days=2)
    assert store.gc(force=True).doomed == 3
    assert problems(store) == []


def test_a_blob_is_immutable_and_its_deletion_dooms_its_bytes(store, place, digest):
    with psycopg.connect(place.url) as raw:
        with pytest.raises(psycopg.errors.CheckViolation, match="immutable"):
            raw.execute("UPDATE calotype_blob SET size = 1")
        raw.rollback()
        with pytest.raises(psycopg.IntegrityError):
            raw.execute("DELETE FROM calotype_blob")
        raw.rollback()
        raw.execute("DELETE FROM calotype_asset")
        raw.execute("DELETE FROM calotype_blob")
    assert rows(store, "SELECT state FROM calotype_replica") == [("doomed",)]
    assert [found for found in findings(store) if found.is_problem] == []


# Many at once, and servers that go away


def test_many_threads_put_release_and_collect_without_an_error(place):
    errors: Counter[str] = Counter()
    end = time.monotonic() + 6

    def uses(number: int) -> None:
        with place.open(clock=now) as store:
            scope = store.scope(f"user:{number % 2}")
            turn = 0
            while time.monotonic() < end:
                turn += 1
                data = b"%d" % (turn % 7) * 50
                try:
                    kept = scope.put(data, owner=f"page/{number}").digest
                    assert content(scope, kept) == data
                    done = scope.put_many([b"%d" % each for each in range(9)], f"set/{number}")
                    assert not done.result().failures
                    scope.release(f"page/{number}")
                    scope.release(f"set/{number}")
                except Exception as error:
                    errors[f"{type(error).__name__}: {error}"] += 1

    def collects() -> None:
        with place.open(clock=now) as store:
            while time.monotonic() < end:
                try:
                    store.gc(now=True, force=True)
                except Exception as error:
                    errors[f"gc {type(error).__name__}: {error}"] += 1

    with place.open(clock=now) as store:
        store.put(b"first")
    threads = [threading.Thread(target=uses, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=collects) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == Counter()
    with place.open(clock=now) as store:
        assert store.fsck(read_data=True).result().problems == 0


def both(first, second) -> list[object]:
    """Two calls at one moment; what each answered or raised."""
    gate = threading.Barrier(2)
    said: list[object] = [None, None]

    def call(number, work) -> None:
        gate.wait()
        try:
            said[number] = work()
        except Exception as error:
            said[number] = error

    threads = [threading.Thread(target=call, args=each) for each in ((0, first), (1, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_a_shorter_hold_never_ends_what_is_kept_for_good(place):
    with place.open() as one, place.open() as other:
        for number in range(25):
            digest = one.put(noise(50, number), hold="1h").digest
            said = both(lambda d=digest: one.keep(d), lambda d=digest: other.renew(d, "2h"))
            assert not [each for each in said if isinstance(each, Exception)]
            assert one.stat(digest).kept == "library"


def test_two_who_fill_a_slot_at_once_both_have_an_answer(place):
    with place.open() as one, place.open() as other:
        old, new = (one.put(noise(50, number), hold="1h").digest for number in range(2))
        for number in range(25):
            owner = f"page/{number}"
            if number % 2:
                one.attach(old, owner, "cover")
            said = both(
                lambda o=owner: one.attach(new, o, "cover"),
                lambda o=owner: other.attach(old if o[-1] in "02468" else new, o, "cover"),
            )
            assert said == [None, None]
            assert len(list(one.references(owner=owner))) == 1
        one.release("page/3")
        said = both(lambda: one.restore(owner="page/3"), lambda: other.restore(owner="page/3"))
        assert not [each for each in said if isinstance(each, Exception)]
        assert len(list(one.references(owner="page/3"))) == 1


def test_a_quota_that_is_set_beside_puts_counts_them(place):
    with place.open() as one, place.open() as other:
        one.put(b"first")
        for number in range(20):
            said = both(
                lambda n=number: one.scope(f"s{n}").put(noise(100, n)),
                lambda n=number: other.set_quota(f"s{n}", "1 MB"),
            )
            assert not [each for each in said if isinstance(each, Exception)]
        assert [found for found in findings(one) if found.kind == "drift"] == []


def test_a_writer_that_gc_fences_off_while_it_settles_is_not_acknowledged(place, monkeypatch):
    """Its intent was too old: either gc waits for its commit, or the put goes round again."""
    real = replicas.set_live
    with place.open() as one, place.open() as other:
        one.put(b"first")
        collectors: list[threading.Thread] = []

        def late(connection, tokens, instant):
            if not collectors:
                place.clock.advance(hours=1)
                collectors.append(threading.Thread(target=lambda: other.gc(now=True)))
                collectors[0].start()
                time.sleep(0.5)
            real(connection, tokens, instant)

        monkeypatch.setattr(replicas, "set_live", late)
        digest = one.put(picture(), owner="page/1").digest
        collectors[0].join()
        other.gc(now=True)
        assert content(one, digest) == picture()
        assert problems(one) == []


def test_a_schema_with_capitals_is_found(place, tmp_path, clock):
    with psycopg.connect(place.url, autocommit=True) as raw:
        raw.execute('CREATE SCHEMA IF NOT EXISTS "Media"')
    url = place.url.partition("options=")[0] + "options=-csearch_path%3D%22Media%22"
    try:
        with Store(catalog=url, backend=f"file:{tmp_path}/m", clock=clock) as store:
            digest = store.put(picture(), hold="1h").digest
            application_table(store, "")
            change(store, "INSERT INTO result (image) VALUES (?)", digest)
            clock.advance(days=2)
            assert not store.stat(digest).trashed
            assert store.gc(now=True, full=True).doomed == 0
    finally:
        with psycopg.connect(place.url, autocommit=True) as raw:
            raw.execute('DROP SCHEMA "Media" CASCADE')


def test_a_forked_child_that_ends_leaves_its_parents_connections_alone(store, digest):
    with store._rooms.catalog.write() as connection:
        connection.execute(text("SELECT 1"))
        child = os.fork()
        if not child:
            store._rooms.catalog.database.engine  # noqa: B018 - opens its own
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        connection.execute(text("SELECT 1"))
    assert content(store, digest) == picture()


WORKING = """
import os, sys
from calotype import Store
with Store(catalog=sys.argv[1], backend=sys.argv[2]) as store:
    number = 0
    while True:
        number += 1
        data = (sys.argv[3] + str(number)).encode() * 20
        digest = store.put(data, owner=f"kept/{sys.argv[3]}-{number}").digest
        print(digest, flush=True)
        store.put(b"common", owner=f"gone/{number}")
        store.release(f"gone/{number}")
        if number % 5 == 0:
            store.gc(now=True, force=True)
"""


def test_killed_processes_lose_and_leave_nothing(place):
    acknowledged: list[str] = []
    backend = f"file:{place.blobs}"
    with place.open(clock=now) as store:
        store.put(b"first")
    for turn in range(6):
        command = [sys.executable, "-c", WORKING, place.url, backend]
        workers = [
            subprocess.Popen([*command, f"{turn}{each}"], stdout=subprocess.PIPE, text=True)
            for each in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        time.sleep(0.05 * turn)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            acknowledged += worker.communicate()[0].split()
    with place.open() as store:
        place.clock.advance(hours=1)
        store.gc(now=True)
        assert all(store.check(acknowledged).values())
        assert problems(store) == []
        assert len(list(place.blobs.glob("sha256/*/*/*"))) == store.stats().blobs


def test_a_terminated_backend_is_an_error_at_most_once(store, place, digest):
    with psycopg.connect(place.url, autocommit=True) as raw:
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    assert content(store, digest) == picture()
    assert store.put(picture(1)).status == "created"


def test_a_backend_terminated_inside_a_transaction_changes_nothing(store, place, digest):
    with pytest.raises(Unavailable), store._rooms.catalog.write() as connection:
        connection.execute(text("DELETE FROM calotype_candidate"))
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(place.url, autocommit=True) as raw:
            raw.execute("SELECT pg_terminate_backend(%s)", [pid])
        time.sleep(0.2)
        connection.execute(text("SELECT 1"))
    assert rows(store, "SELECT count(*) FROM calotype_candidate") == [(1,)]
    assert content(store, digest) == picture()


def test_what_is_interrupted_in_the_middle_of_a_statement_says_so_and_nothing_else(
    store, place, digest, monkeypatch
):
    """At every statement in turn, the ping and the commit among them: sent, and no answer read."""
    calls: list[int] = []

    def interrupted(driver, call, given, named):
        calls.append(1)
        if len(calls) != at:
            return call(driver, *given, **named)
        getattr(driver, "connection", driver).pgconn.send_query(b"SELECT pg_sleep(60)")
        raise KeyboardInterrupt

    for kind, name in [(psycopg.Cursor, "execute"), (psycopg.Connection, "commit")]:
        whole = getattr(kind, name)
        monkeypatch.setattr(
            kind,
            name,
            lambda driver, *given, _=whole, **named: interrupted(driver, _, given, named),
        )
    for at in range(1, 100):
        calls.clear()
        try:
            store.attach(digest, owner=f"search/{at}")
            break
        except KeyboardInterrupt:
            assert len(calls) >= at
    monkeypatch.undo()
    assert at > 4
    assert owners(store) == [f"search/{at}"]


def test_what_a_caller_was_stopped_by_before_hides_no_error():
    statement = OperationalError("SELECT 1", {}, psycopg.OperationalError("cut off"))
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(Unavailable, match="cut off"), translated():
            raise statement from None


def test_a_lock_that_another_holds_for_long_is_said_to_be_locked(store, place, digest):
    store._rooms.catalog.database._patience = 0.2
    with psycopg.connect(place.url) as raw:
        raw.execute("LOCK TABLE calotype_asset")
        with pytest.raises(Locked) as refusal:
            store.put(picture(1))
        assert refusal.value.hint
    assert store.put(picture(1)).status == "created"


@pytest.mark.parametrize(
    ("verb", "meanwhile"),
    [
        (lambda store, digest: store.keep(digest), "calotype_asset SET kept_until = kept_until"),
        (lambda store, _: store.put(picture()), "calotype_asset SET kept_until = kept_until"),
        (lambda store, _: store.release("page/1"), "calotype_reference SET role = role"),
        (lambda store, _: store.gc(now=True), "calotype_asset SET kept_until = kept_until"),
    ],
    ids=["keep", "put", "release", "gc"],
)
def test_what_postgresql_cannot_serialize_is_run_again(place, verb, meanwhile, monkeypatch):
    """An application may have its engine begin every transaction at another level."""
    engine = create_engine(place.url.replace("postgresql:", "postgresql+psycopg:"))
    states: list[str] = []
    armed = False

    @event.listens_for(engine, "begin")
    def begin(connection):
        if connection.get_execution_options()["isolation_level"] == "READ COMMITTED":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.exec_driver_sql("SELECT 1")  # from here on it sees nothing new
            if armed and not states:
                change(plain, f"UPDATE {meanwhile}")

    gave_up = repeating.gave_up

    def noted(error):
        states.append(error.__cause__.orig.sqlstate)
        return gave_up(error)

    with (
        place.open() as plain,
        Store(engine=engine, backend=f"file:{place.blobs}", clock=place.clock) as store,
    ):
        digest = plain.put(picture(), owner="page/1").digest
        store.stats()
        monkeypatch.setattr(repeating, "gave_up", noted)
        armed = True
        verb(store, digest)
        assert states == ["40001"]
        assert problems(plain) == []
    engine.dispose()


@pytest.mark.parametrize("whose", ["engine's", "server's"])
def test_what_level_the_application_has_does_not_bind_the_store(place, whose):
    url = place.url.replace("postgresql:", "postgresql+psycopg:")
    if whose == "server's":  # as ALTER ROLE and ALTER DATABASE make it
        url = url.replace("-csearch", "-cdefault_transaction_isolation%3Dserializable%20-csearch")
    engine = create_engine(url, **{"isolation_level": "SERIALIZABLE"} if whose[0] == "e" else {})
    with Store(engine=engine, backend=f"file:{place.blobs}", clock=place.clock) as store:
        store.put(picture(), owner="page/1")
        with store._rooms.catalog.write() as connection:
            assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW transaction_isolation")) == "serializable"
    engine.dispose()


def test_an_engine_with_one_connection_will_do(place):
    url = place.url.replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=5)
    with Store(engine=engine, backend=f"file:{place.blobs}", clock=place.clock) as store:
        kept = store.put(picture(), owner="page/1").digest
        store.put_many([noise(50, number) for number in range(50)], "set/1").result()
        store.release("set/1")
        assert store.gc(now=True).doomed == 50
        assert content(store, kept) == picture()
        assert problems(store) == []
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        (
            "postgresql://nobody:sesame@127.0.0.1:1/none",
            Unavailable,
            "cannot be reached: postgresql://nobody@127.0.0.1:1/none",
        ),
        ("HERE/none", Misconfigured, "no such database: postgresql://postgres@/none?"),
        ("postgresql://nobody@HOST", Misconfigured, "or its password: postgresql://nobody@/"),
        ("mysql://localhost/x", Misconfigured, "SQLite or PostgreSQL"),
    ],
)
def test_a_server_that_is_not_there_is_said_not_to_be(tmp_path, place, url, error, said):
    url = url.replace("HERE/none", place.url.replace("/postgres?", "/none?"))
    url = url.replace("HOST", place.url.partition("postgres@")[2])
    with pytest.raises(error, match=re.escape(said)) as refusal:
        Store(catalog=url, backend=f"file:{tmp_path}").put(b"x")
    assert refusal.value.hint
    assert "sesame" not in str(refusal.value)


def test_no_password_is_shown(place):
    url = "postgresql://ana:secret@127.0.0.1:1/none"
    with pytest.raises(Unavailable) as refusal:
        Store(catalog=url, backend=f"file:{place.blobs}").put(b"x")
    assert "secret" not in f"{refusal.value} {refusal.value.hint}"


def test_the_short_scheme_means_the_same_database():
    url = servers.schema()
    short = url.replace("postgresql://", "postgres://")
    assert short != url
    with Store(catalog=url, backend=servers.schema()) as store:
        digest = store.put(b"found", owner="page/1").digest
        where = store.backends.list()[0].url
    with Store(catalog=short, backend=where.replace("postgresql:", "postgres:")) as store:
        assert content(store, digest) == b"found"
        assert store.backends.list()[0].url == where


@pytest.mark.parametrize("begins", ["postgresql:", "postgres:", "postgresql+psycopg2:"])
def test_whatever_a_url_begins_with_the_driver_is_psycopg(begins):
    """SQLAlchemy 2.0 would take psycopg2 by itself."""
    with Store(catalog=f"{begins}//nobody@/none", backend="memory:") as store:
        assert store._rooms.catalog.engine.url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize("whole_first", [True, False])
def test_a_place_is_one_with_its_password_and_without(tmp_path, whole_first):
    """The server lets anybody in."""
    bare = [servers.schema() for _ in range(2)]
    whole = [url.replace("postgres@", "postgres:secret@") for url in bare]
    assert whole != bare
    first, then = (whole, bare) if whole_first else (bare, whole)
    catalog = f"sqlite:///{tmp_path}/catalog.db"
    with Store(catalog=catalog, backend=first[0]) as store:
        digest = store.put(b"found", owner="page/1").digest
        urls = [store.backends.list()[0].url, store.backends.add("two", first[1]).url]
        assert all("://postgres@" in url for url in urls)
    with Store(catalog=catalog, backend=then[0], backends={"two": then[1]}) as store:
        assert store.put(b"more").status == "created"
    with Store(catalog=catalog, backend=then[0]) as store:  # and the other one as it is noted
        assert content(store, digest) == b"found"
        assert store.backends.copy("two").result().failed == 0
        assert [each.url for each in store.backends.list()] == urls
        assert store._rooms.mounts.named("two").backend._tables.database._url.password is None


# Rows of an application's database


@pytest.mark.parametrize("begins", ["postgresql:", "postgres:", "postgresql+psycopg:"])
def test_rows_of_a_database_are_imported_by_its_usual_url(tmp_path, place, begins):
    with psycopg.connect(place.url) as app:
        app.execute("CREATE TABLE scans (id INT PRIMARY KEY, data BYTEA, digest CHAR(64))")
        app.execute("INSERT INTO scans VALUES (1, 'one', NULL), (2, 'two', NULL)")
    url = place.url.replace("postgresql:", begins)
    named = {"bytes_column": "data", "digest_column": "digest"}
    with Store(tmp_path / "own") as own:
        done = own.import_table(url, "scans", "scan/{id}", **named).result()
        assert (done.created, done.failures) == (2, ())
        assert content(own, Digest.of(b"two")) == b"two"
    with psycopg.connect(place.url) as app:
        found = app.execute("SELECT digest FROM scans ORDER BY id").fetchall()
    assert found == [(Digest.of(b"one"),), (Digest.of(b"two"),)]


@pytest.mark.parametrize("begins", ["postgresql:", "postgres:"])
def test_rows_of_a_database_are_read_by_psycopg_where_no_driver_is_named(begins):
    engine = engines.open_database(f"{begins}//nobody@/none")
    assert engine.url.drivername == "postgresql+psycopg"


def test_rows_of_a_database_need_its_driver(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with Store(tmp_path / "own") as own, pytest.raises(MissingExtra) as error:
        own.import_table("postgresql://nobody@/none", "t", "t/{id}", bytes_column="b").result()
    assert "pip install 'calotype[postgres]'" in error.value.hint


def test_a_picture_that_a_transaction_holds_fails_alone(place, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 4)
    monkeypatch.setattr(bulk, "SHORTLY", 0.1)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(6):
        (root / f"{number}").write_bytes(noise(50, number))
    with place.open() as store, session_of(place) as (session, _, rollback):
        held = store.put(noise(50, 3), hold="1h").digest
        store._rooms.catalog.database._patience = 0.3
        store.attach(held, owner="other/1", connection=session)
        done = store.import_tree(root, "t/1").result()
        assert done.created == 5
        failed = [(each.source, each.code) for each in done.failures]
        assert failed == [(str(root / "3"), "locked")]
        rollback()
        assert store.import_tree(root, "t/1").result().unchanged == 5
        assert problems(store) == []


@pytest.fixture
def waited(monkeypatch):
    """How long each transaction would wait, once ``put_many`` has begun; three held ones are many."""
    found = []
    write = Catalog.write

    def noting(catalog, **terms):
        found.append(terms.get("patience"))
        return write(catalog, **terms)

    monkeypatch.setattr(bulk, "SHORTLY", 0.2)
    monkeypatch.setattr(bulk, "MANY", 3)
    monkeypatch.setattr(Catalog, "write", noting)
    return found


def put_many_beside(place, sources, held):
    """Put all of them while another transaction holds some."""
    with place.open() as store, session_of(place) as (session, _, rollback):
        store._rooms.catalog.database._patience = 0.3
        for source in held:
            digest = store.put(source, hold="1h").digest
            store.attach(digest, owner="other/1", connection=session)
        done = store.put_many(sources, owner="t/1").result()
        rollback()
    return done


def test_many_pictures_that_are_held_are_waited_for_hardly_at_all(place, waited):
    sources = [noise(50, number) for number in range(16)]
    done = put_many_beside(place, sources, sources[:12])
    assert (done.created, len(done.failures)) == (4, 12)
    assert 0 < waited.count(0.2) < 12 < waited.count(bulk.HARDLY)


def test_a_few_that_are_held_in_each_batch_are_waited_for(place, waited, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 6)
    sources = [noise(50, number) for number in range(18)]
    done = put_many_beside(
        place, sources, [source for n, source in enumerate(sources) if n % 6 < 2]
    )
    assert (done.created, len(done.failures)) == (12, 6)
    assert bulk.HARDLY not in waited
