"""The revisions on PostgreSQL: they make what a first put makes, and go down and up again."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.store.pictures import picture
from tests.store.places import Place
from tests.store.surgery import change, content, problems

from calotype import Store
from calotype.catalog import migrations, postgres_triggers, schema
from calotype.catalog.tables import metadata
from calotype.errors import SchemaAhead, SchemaBehind, StillReferenced

COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name "
    "FROM information_schema.columns WHERE table_schema = current_schema()"
)
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
CONSTRAINTS = (
    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = CAST(current_schema() AS regnamespace) AND contype <> 'n'"
)
TRIGGERS = (
    "SELECT tgname, pg_get_triggerdef(t.oid), prosrc FROM pg_trigger t "
    "JOIN pg_proc p ON p.oid = tgfoid JOIN pg_class c ON c.oid = tgrelid "
    "WHERE relnamespace = CAST(current_schema() AS regnamespace) AND NOT tgisinternal"
)


def shape(place: Place) -> dict[str, list[str]]:
    """What a catalog is made of, without the name of its schema and the rows."""
    with psycopg.connect(place.url) as raw:
        [(name,)] = raw.execute("SELECT current_schema()").fetchall()
        return {
            asked: sorted(str(row).replace(f"{name}.", "") for row in raw.execute(asked))
            for asked in (COLUMNS, INDEXES, CONSTRAINTS, TRIGGERS)
        }


def go(place: Place, *revisions: str) -> None:
    with place.open() as store:
        for revision in revisions:
            assert schema.to(store._rooms.catalog, revision) is None


@pytest.fixture
def place(tmp_path: Path, clock) -> Place:
    made = Place("postgres", tmp_path, clock)
    with made.open() as store:
        store.put(picture(), owner="scan/1")
    return made


def test_revisions_make_the_catalog_that_a_first_put_makes(place, tmp_path, clock):
    other = Place("postgres", tmp_path / "other", clock)
    with other.open() as store:
        migrations.to(store._rooms.catalog, "head")
    made, fresh = shape(other), shape(place)
    different = {line for asked in made for line in set(made[asked]) ^ set(fresh[asked])}
    assert all("calotype_version" in line for line in different), different
    assert len(fresh[TRIGGERS]) == len(postgres_triggers.TRIGGERS)


def test_down_and_up_again_is_the_catalog_of_a_first_put(place, tmp_path):
    fresh = shape(place)
    go(place, "base")
    assert not [line for line in shape(place)[COLUMNS] if "calotype_version" not in line]
    go(place, "head")
    assert shape(place)[TRIGGERS] == fresh[TRIGGERS]
    go(place, "base", "head")
    place.blobs.rename(tmp_path / "of the store before")
    with place.open() as store:
        digest = store.put(picture(1), owner="scan/2").digest
        assert content(store, digest) == picture(1)
        store.release("scan/2")
        assert store.gc(now=True).doomed == 1
        assert problems(store) == []


def test_down_by_one_and_up_again_loses_no_blob(place):
    go(place, "0001", "head")
    with place.open() as store:
        assert store.stats().blobs == 1
        assert [each.kind for each in problems(store)] == ["locked"]  # below 4 nobody knows markers
        store.fsck(recover=True).result()
        assert problems(store) == []


def test_autogenerate_finds_nothing_to_do(place):
    with place.open() as store, store._rooms.catalog.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables},
        )
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(("number", "error"), [(1, SchemaBehind), (99, SchemaAhead)])
def test_another_schema_is_refused_and_nothing_changed(place, number, error):
    with place.open() as store:
        change(store, f"UPDATE calotype_meta SET value = '{number}' WHERE key = 'schema'")
    with Store(catalog=place.url, backend=f"file:{place.blobs}") as store:
        with pytest.raises(error) as refusal:
            store.stats()
        assert "upgrade" in refusal.value.hint.lower()


STORAGE = (
    "SELECT attstorage FROM pg_attribute WHERE attname = 'bytes' "
    "AND attrelid = CAST('calotype_chunk' AS regclass)"
)


def test_chunks_are_kept_as_they_are_however_their_table_was_made(place):
    for revisions in ((), ("base", "head"), ("0002", "head")):
        go(place, *revisions)
        with psycopg.connect(place.url) as raw:
            assert raw.execute(STORAGE).fetchall() == [("e",)]


@pytest.mark.parametrize("revision", ["0002", "base"])
def test_the_only_copy_of_bytes_is_not_dropped_with_its_table(tmp_path, clock, revision):
    place = Place("in-postgres", tmp_path, clock)
    with place.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        with pytest.raises(StillReferenced, match="1 objects"):
            schema.to(store._rooms.catalog, revision)
        assert content(store, digest) == picture()
        store.release("scan/1")
        store.gc(now=True)
        schema.to(store._rooms.catalog, revision)
