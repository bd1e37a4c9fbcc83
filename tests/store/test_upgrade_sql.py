"""`upgrade --sql`: what an SQL editor runs comes to what `calotype upgrade` does."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from tests.store.pictures import picture
from tests.store.places import Place
from tests.store.surgery import change, content, problems, rows
from tests.store.test_postgres_migrations import shape

from calotype import Store
from calotype.catalog import schema
from calotype.doctoring import migrate, script
from calotype.errors import Misconfigured, SchemaAhead

KEYS = "SELECT key FROM calotype_meta WHERE key <> 'home' ORDER BY key"
BACKENDS = "SELECT name, url, role, epoch, erase_seq FROM calotype_backend"


@pytest.fixture
def place(tmp_path: Path, clock) -> Place:
    return Place("postgres", tmp_path, clock)


@pytest.fixture
def fresh(tmp_path: Path, clock) -> Place:
    """What ``create`` makes."""
    made = Place("postgres", tmp_path / "fresh", clock)
    with made.open() as store:
        store.create()
    return made


def pasted(url: str, sql: str) -> None:
    """Run it as an editor does: all of it in one go, nothing prepared, in no transaction of ours."""
    with psycopg.connect(url, autocommit=True) as raw:
        raw.pgconn.exec_(b"SET search_path = pg_catalog")
        done = raw.pgconn.exec_(sql.encode())
        if done.error_message:
            raw.pgconn.exec_(b"ROLLBACK")
            raise psycopg.DatabaseError(done.error_message.decode())


def printed(place: Place, **options) -> str:
    with place.open(**options) as store:
        return script(store)


def test_of_an_empty_database_it_makes_what_create_makes(place, fresh):
    pasted(place.url, printed(place))
    assert shape(place) == shape(fresh)
    with place.open() as store, fresh.open() as other:
        assert rows(store, KEYS) == rows(other, KEYS)
        here, there = rows(store, BACKENDS), rows(other, BACKENDS)
        assert [each[:1] + each[2:] for each in here] == [each[:1] + each[2:] for each in there]
        assert here[0][1] == f"file:{place.blobs}"
        digest = store.put(picture(), owner="scan/1").digest
        assert content(store, digest) == picture()
        assert store.url(digest)
        store.release("scan/1")
        assert store.gc(now=True).doomed == 1
        assert problems(store) == []


def test_a_folder_may_have_any_name(place, tmp_path):
    backend = f"file:{tmp_path}/100%25 of it's"
    with Store(catalog=place.url, backend=backend) as store:
        pasted(place.url, script(store))
        digest = store.put(picture()).digest
        assert content(store, digest) == picture()


def test_it_names_the_schema_that_was_chosen_and_makes_it(place):
    with Store(catalog=place.url, schema="Der Laden", backend=f"file:{place.blobs}") as store:
        said = script(store)
        assert 'CREATE SCHEMA IF NOT EXISTS "Der Laden";' in said
        pasted(place.url, said)
        assert store.put(picture()).status == "created"
        assert "nothing to do" in script(store)
        schema.to(store._rooms.catalog, "0001")
        pasted(place.url, script(store))
        assert store.stats().blobs == 1
        with psycopg.connect(place.url) as raw:
            raw.execute('DROP SCHEMA "Der Laden" CASCADE')


def test_two_stores_made_by_one_script_are_two_and_it_holds_no_secret(place, tmp_path, clock):
    said = printed(place)
    other = Place("postgres", tmp_path / "other", clock)
    pasted(place.url, said)
    [(name,)] = _answer(place.url, "SELECT current_schema()")
    [(another,)] = _answer(other.url, "SELECT current_schema()")
    pasted(other.url, said.replace(name, another))
    asked = "SELECT value FROM calotype_meta WHERE key IN ('store_id', 'generation')"
    assert not {*_answer(place.url, asked)} & {*_answer(other.url, asked)}
    [(secret,)] = _answer(place.url, "SELECT secret FROM calotype_signing_key")
    assert len(bytes.fromhex(secret)) == 32 and secret not in said


def _answer(url: str, asked: str) -> list[tuple]:
    with psycopg.connect(url) as raw:
        return raw.execute(asked).fetchall()


def test_of_an_older_schema_it_makes_the_present_one_and_loses_nothing(place, fresh):
    with place.open() as store:
        store.put(picture(), owner="scan/1")
        schema.to(store._rooms.catalog, "0001")
    pasted(place.url, printed(place))
    assert shape(place) == shape(fresh)
    with place.open() as store:
        assert store.stats().references == 1
        assert [each.kind for each in problems(store)] == ["locked"]  # nobody knows what was erased
        assert store.fsck(recover=True).result().problems == 0
        assert rows(store, "SELECT version_num FROM calotype_version") == [
            (f"{schema.CURRENT:04}",)
        ]


@pytest.mark.parametrize("older", [True, False])
def test_pasted_twice_it_changes_nothing_the_second_time(place, older):
    if older:
        with place.open() as store:
            store.put(picture())
            schema.to(store._rooms.catalog, "0001")
    said = printed(place)
    pasted(place.url, said)
    once = shape(place)
    with pytest.raises(psycopg.DatabaseError, match="another schema by now" if older else "exists"):
        pasted(place.url, said)
    assert shape(place) == once
    assert "nothing to do" in printed(place)


def test_printing_changes_nothing(place):
    assert printed(place).startswith("BEGIN;\n")
    assert _answer(place.url, "SELECT 1 FROM pg_tables WHERE schemaname = current_schema()") == []


def test_a_catalog_of_a_newer_program_is_refused(fresh):
    with fresh.open() as store:
        change(store, "UPDATE calotype_meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(SchemaAhead):
        printed(fresh)


def test_an_sqlite_catalog_upgrades_itself(folder):
    with pytest.raises(Misconfigured, match="upgrades itself"):
        printed(folder)


def test_an_upgrade_finds_the_tables_in_the_chosen_schema(place):
    with Store(catalog=place.url, schema="chosen", backend=f"file:{place.blobs}") as store:
        store.put(picture())
        schema.to(store._rooms.catalog, "0001")
    with Store(catalog=place.url, schema="chosen", backend=f"file:{place.blobs}") as store:
        assert migrate(store, None) is None
        assert store.stats().blobs == 1
    with psycopg.connect(place.url) as raw:
        raw.execute("DROP SCHEMA chosen CASCADE")
