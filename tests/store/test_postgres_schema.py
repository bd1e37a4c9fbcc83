"""A schema of the application's choice: everything of ours is in it, wherever a path leads."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.store.pictures import picture
from tests.store.places import Place
from tests.store.surgery import content, problems, rows

from calotype import Digest, Store
from calotype.config import load
from calotype.errors import Misconfigured, NotFound, StillReferenced

NAME = 'Clinic "7"'


@pytest.fixture
def place(tmp_path, clock) -> Place:
    return Place("postgres", tmp_path, clock)


@pytest.fixture
def store(place):
    with place.open(schema=NAME) as opened:
        yield opened


def tables(place: Place) -> dict[str, set[str]]:
    """The schemas with tables of ours -> their names."""
    found: dict[str, set[str]] = {}
    with psycopg.connect(place.url) as raw:
        there = raw.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'calotype_%%' "
            "AND schemaname IN (%s, current_schema())",
            [NAME],
        )
        for schema, table in there:
            found.setdefault(schema, set()).add(table)
    return found


@pytest.fixture(autouse=True)
def gone_afterwards(place):
    yield
    with psycopg.connect(place.url) as raw:
        raw.execute('DROP SCHEMA IF EXISTS "Clinic ""7""" CASCADE')


def test_it_is_made_by_the_first_put_and_holds_everything(store, place):
    with pytest.raises(NotFound):
        store.stat(Digest.of(b"nothing"))
    assert tables(place) == {}
    kept = store.put(picture(), owner="scan/1").digest
    assert set(tables(place)) == {NAME}
    with place.open(schema=NAME) as again:
        assert content(again, kept) == picture()
        again.release("scan/1")
        assert again.gc(now=True).erased == 1
        assert problems(again) == []


def test_it_is_another_store_than_the_one_of_the_search_path(store, place, tmp_path):
    mine = store.put(picture(), owner="scan/1").digest
    with Store(catalog=place.url, backend=f"file:{tmp_path}/other") as other:
        theirs = other.put(picture(1), owner="scan/1").digest
        assert other.check([mine]) == {mine: None}
    assert store.check([theirs]) == {theirs: None}


@pytest.mark.parametrize("kind", ["session", "raw"])
def test_an_applications_transaction_keeps_its_own_search_path(store, place, kind):
    digest = store.put(picture(), hold="1h").digest
    engine = create_engine(place.url.replace("postgresql:", "postgresql+psycopg:"))
    with psycopg.connect(place.url) as raw, Session(engine) as session:
        raw.execute("CREATE TABLE page (id INT PRIMARY KEY)")
        raw.commit()
        driver = raw if kind == "raw" else session.connection().connection.driver_connection
        path = driver.execute("SHOW search_path").fetchone()
        driver.execute("INSERT INTO page VALUES (1)")
        store.attach(digest, owner="page/1", connection=raw if kind == "raw" else session)
        assert driver.execute("SHOW search_path").fetchone() == path
        with pytest.raises(NotFound):
            store.attach(Digest.of(b"-"), "page/2", connection=raw if kind == "raw" else session)
        assert driver.execute("SHOW search_path").fetchone() == path
        driver.execute("INSERT INTO page VALUES (2)")
        (raw if kind == "raw" else session).commit()
        assert driver.execute("SELECT count(*) FROM page").fetchone() == (2,)
        assert driver.execute("SHOW search_path").fetchone() == path
    engine.dispose()
    assert rows(store, "SELECT owner_id FROM calotype_reference") == [("1",)]


def test_a_column_elsewhere_keeps_what_it_points_at(store, place, clock):
    digest = store.put(picture(), hold="1h").digest
    with psycopg.connect(place.url) as raw:
        raw.execute(
            "CREATE TABLE scan (id INT PRIMARY KEY, image TEXT REFERENCES "
            '"Clinic ""7""".calotype_blob)'
        )
        raw.execute("INSERT INTO scan VALUES (1, %s)", [digest])
    clock.advance(hours=48)
    assert store.gc(now=True).doomed == 0
    with pytest.raises(StillReferenced):
        store.purge(digest)
    with psycopg.connect(place.url) as raw:
        raw.execute("DELETE FROM scan")
    assert store.gc(now=True, full=True).doomed == 1


def test_raw_sql_of_an_application_leaves_candidates(store, place, clock):
    store.put(picture(), owner="scan/1")
    with psycopg.connect(place.url) as raw:
        raw.execute('DELETE FROM "Clinic ""7""".calotype_reference')
    clock.advance(hours=1)
    assert store.gc(now=True).doomed == 1


def test_a_role_that_may_make_no_schema_uses_one_that_is_there(store, place, clock):
    store.create()
    with psycopg.connect(place.url) as raw:
        raw.execute("DROP ROLE IF EXISTS clerk")
        raw.execute("CREATE ROLE clerk LOGIN")
        raw.execute('GRANT USAGE ON SCHEMA "Clinic ""7""" TO clerk')
        raw.execute('GRANT ALL ON ALL TABLES IN SCHEMA "Clinic ""7""" TO clerk')
        raw.execute('GRANT ALL ON ALL SEQUENCES IN SCHEMA "Clinic ""7""" TO clerk')
    url = place.url.replace("postgres@", "clerk@")
    try:
        with Store(catalog=url, backend=f"file:{place.blobs}", schema=NAME, clock=clock) as clerks:
            kept = clerks.put(picture(), owner="scan/1").digest
            assert content(clerks, kept) == picture()
    finally:
        with psycopg.connect(place.url) as raw:
            raw.execute("DROP OWNED BY clerk")
            raw.execute("DROP ROLE clerk")


@pytest.mark.parametrize("name", ["", " ", "pg_mine", "a\0b"])
def test_a_name_that_no_schema_has_is_refused(place, name):
    with pytest.raises(Misconfigured, match="schema"):
        place.open(schema=name)


def test_sqlite_has_none(tmp_path):
    with pytest.raises(Misconfigured, match="SQLite has no schemas"):
        Store(tmp_path / "store", schema="mine")
    with pytest.raises(Misconfigured, match="SQLite has no schemas"):
        Store.memory(schema="mine")


def test_the_configuration_names_it(place, tmp_path):
    environment = {
        "CALOTYPE_CATALOG": place.url,
        "CALOTYPE_SCHEMA": NAME,
        "CALOTYPE_BACKENDS__MAIN__URL": f"file:{place.blobs}",
    }
    with load(environ=environment, start=tmp_path).store() as store:
        store.put(picture())
        assert NAME in store._rooms.catalog.name
    assert set(tables(place)) == {NAME}
