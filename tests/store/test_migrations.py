"""Migrations: whichever way a catalog came to a schema, it is the same catalog with all its rows."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import content, problems, rows

from calotype import Store
from calotype.catalog import migrations, schema, tables, triggers
from calotype.errors import CalotypeError, Locked, StillReferenced

TABLE = "CREATE TABLE calotype_note (digest VARCHAR(64) NOT NULL REFERENCES calotype_blob(digest))"
ADDS = f"""
def upgrade():
    op.add_column("calotype_asset", sa.Column("note", sa.Text(), nullable=True))
    op.create_index("calotype_asset_note", "calotype_asset", ["note"])
    op.execute("{TABLE}")

def downgrade():
    op.execute("DROP TABLE calotype_note")
    op.drop_index("calotype_asset_note", "calotype_asset")
    op.drop_column("calotype_asset", "note")
"""
RECREATES = """
def upgrade():
    with op.batch_alter_table(
        "calotype_asset", recreate="always", table_kwargs={"sqlite_with_rowid": False}
    ) as batch:
        batch.add_column(sa.Column("note", sa.Text(), nullable=True))

def downgrade():
    with op.batch_alter_table(
        "calotype_asset", recreate="always", table_kwargs={"sqlite_with_rowid": False}
    ) as batch:
        batch.drop_column("note")
"""
BREAKS = ADDS.replace("def downgrade", "    op.execute('CREATE TABLE oops')\n\ndef downgrade")
HERE = schema.CURRENT
NEXT = HERE + 1
HEAD = (
    "import sqlalchemy as sa\nfrom alembic import op\n"
    f"revision = '{NEXT:04}'\ndown_revision = '{HERE:04}'\n"
)


@pytest.fixture
def next_program(tmp_path) -> Callable[[str], object]:
    """A program whose schema has one more revision, for as long as it is entered."""

    @contextmanager
    def program(second: str) -> Iterator[Path]:
        folder = tmp_path / "migrations"
        shutil.copytree(migrations.HERE, folder, dirs_exist_ok=True)
        (folder / "versions" / f"{NEXT:04}_next.py").write_text(HEAD + second)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(migrations, "HERE", folder)
            patched.setattr(schema, "CURRENT", NEXT)
            yield folder

    return program


@pytest.fixture
def filled(in_file: Place) -> Place:
    """A store at rest with rows of every kind, made by this program."""
    with in_file.open(public_url="https://p.example") as store:
        store.set_quota("default", "1 GB")
        for number in range(5):
            store.put(picture(number), owner=f"scan/{number}", role="a", metadata={"n": number})
        store.put(noise(300_000), hold="1h")
        store.put(noise(100))
        store.release("scan/1")
        store.plan_gc()
        store.purge(store.put(noise(10)).digest)
        store.gc(now=True)
    return in_file


def words(sql: str | None) -> str:
    """A statement without its quotes, spaces and line ends, which mean nothing."""
    return "".join((sql or "").replace('"', "").split()).lower()


def shape(database: Path) -> dict[str, object]:
    """What a catalog is made of: each table, index and trigger of ours, apart from its rows."""
    with closing(sqlite3.connect(database)) as raw:
        found = raw.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name LIKE 'calotype%'"
        ).fetchall()
        made = {f"{kind} {name}": (table, words(sql)) for kind, name, table, sql in found}
        for kind, name, _, _ in found:
            for asked in ("table_xinfo", "foreign_key_list") if kind == "table" else ():
                made[f"{asked} {name}"] = sorted(raw.execute(f"PRAGMA {asked}({name})"), key=str)
    return made


def parts(database: Path) -> dict[str, object]:
    """``shape`` without the tables' own text, which a table that was altered has differently."""
    return {name: what for name, what in shape(database).items() if not name.startswith("table ")}


def all_rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of ours but the schema's number."""
    with closing(sqlite3.connect(database)) as raw:
        found = {
            name: sorted(raw.execute(f"SELECT {', '.join(_columns(table))} FROM {name}"), key=str)
            for name, table in ((f"{t.name}", t) for t in tables.metadata.sorted_tables)
        }
    found["calotype_meta"] = [row for row in found["calotype_meta"] if row[0] != "schema"]
    return found


def _columns(table) -> list[str]:
    return [f'"{column.name}"' for column in table.columns]


def go(place: Place, *revisions: str) -> list[Path | None]:
    """Bring the catalog to each revision in turn; the copies that were made."""
    with place.open() as store:
        return [schema.to(store._rooms.catalog, revision) for revision in revisions]


def numbers(database: Path) -> tuple[list[tuple[str]], list[tuple[str]]]:
    """The schema's number as the catalog and as Alembic have it."""
    with closing(sqlite3.connect(database)) as raw:
        return (
            raw.execute("SELECT value FROM calotype_meta WHERE key = 'schema'").fetchall(),
            raw.execute("SELECT version_num FROM calotype_version").fetchall(),
        )


def by_alembic(root: Path) -> Path:
    """The catalog as the revisions alone make it."""
    made = root / "revisions.db"
    with Store(catalog=f"sqlite:///{made}", backend="memory:") as store:
        catalog = store._rooms.catalog
        migrations.to(catalog, "head")
    return made


# This program's own schema


def test_revisions_make_the_catalog_that_a_first_put_makes(filled, tmp_path):
    made, fresh = shape(by_alembic(tmp_path)), shape(filled.database)
    assert made.keys() == fresh.keys()
    # Alembic names the key of its own table, which nothing refers to.
    different = {name for name in made if made[name] != fresh[name]}
    assert different <= {"table calotype_version"}
    assert sum(name.startswith("trigger ") for name in fresh) == len(triggers.SQLITE)
    assert sum(name.startswith("table ") for name in fresh) == len(tables.metadata.tables) + 1


def test_the_shape_tells_catalogs_apart(filled, tmp_path):
    before = shape(filled.database)
    with closing(sqlite3.connect(filled.database)) as raw:
        raw.execute("DROP INDEX calotype_asset_recent")
    assert shape(filled.database) != before


def test_down_and_up_again_is_the_catalog_of_a_first_put(filled):
    fresh = shape(filled.database)
    go(filled, "base")
    assert set(shape(filled.database)) <= {
        "table calotype_version",
        "index sqlite_autoindex_calotype_version_1",
        "table_xinfo calotype_version",
        "foreign_key_list calotype_version",
    }
    go(filled, "head")
    assert shape(filled.database) == fresh
    assert numbers(filled.database) == ([(f"{HERE}",)], [(f"{HERE:04}",)])
    go(filled, "base", "head", "base", "head")
    assert shape(filled.database) == fresh


def test_a_store_works_after_it_was_taken_down_and_up(filled):
    go(filled, "base", "head")
    with filled.open() as store:
        assert store.stats().blobs == 0
        digest = store.put(picture(), owner="scan/1").digest
        assert content(store, digest) == picture()
        store.release("scan/1")
        assert store.gc(now=True).doomed == 1
        assert [each for each in problems(store) if each.kind != "stray"] == []


def test_an_application_keeps_its_own_tables_and_rows_whatever_ours_do(shared):
    with shared.open() as store:
        store.put(picture())
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute("INSERT INTO page (t) VALUES ('x')")
        raw.commit()
    go(shared, "base", "head", "base")
    with closing(sqlite3.connect(shared.database)) as raw:
        assert raw.execute("SELECT t FROM page").fetchall() == [("x",)]


def test_autogenerate_finds_nothing_to_do(filled):
    with filled.open() as store, store._rooms.catalog.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "version_table": schema.VERSION_TABLE,
                "include_name": lambda name, kind, _: kind != "table" or name != "page",
            },
        )
        assert compare_metadata(context, migrations.target()) == []


def test_there_is_one_line_of_revisions_and_its_end_is_the_number_in_the_code():
    script = ScriptDirectory.from_config(migrations.config(None))
    assert script.get_heads() == [f"{schema.CURRENT:04}"]
    assert [each.revision for each in script.walk_revisions()] == [
        f"{number:04}" for number in range(schema.CURRENT, 0, -1)
    ]


def test_going_where_one_is_changes_nothing(filled):
    fresh, before = shape(filled.database), all_rows(filled.database)
    go(filled, "head", f"{HERE:04}")
    assert (shape(filled.database), all_rows(filled.database)) == (fresh, before)


# The next one's


@pytest.mark.parametrize("second", [ADDS, RECREATES], ids=["adds", "recreates"])
def test_an_older_catalog_is_upgraded_by_opening_it_and_loses_nothing(filled, next_program, second):
    before = all_rows(filled.database)
    with next_program(second):
        with filled.open() as store:
            assert len(list(store.assets())) == 6
            assert content(store, store.put(picture(0)).digest) == picture(0)
        with filled.open() as store:
            assert rows(store, "SELECT note FROM calotype_asset")[0] == (None,)
            assert problems(store) == []
        assert numbers(filled.database) == ([(f"{NEXT}",)], [(f"{NEXT:04}",)])
    changed = {name for name, had in all_rows(filled.database).items() if had != before[name]}
    assert changed <= {"calotype_asset", "calotype_candidate", "calotype_replica", "calotype_meta"}


@pytest.mark.parametrize("second", [ADDS, RECREATES], ids=["adds", "recreates"])
def test_up_down_and_up_again_is_the_same_as_up(filled, next_program, tmp_path, second):
    first, before = parts(filled.database), all_rows(filled.database)
    with next_program(second):
        go(filled, "head")
        upgraded = shape(filled.database)
        assert parts(filled.database) == parts(by_alembic(tmp_path))
        go(filled, f"{HERE:04}")
        assert parts(filled.database) == first
        assert numbers(filled.database) == ([(f"{HERE}",)], [(f"{HERE:04}",)])
        assert all_rows(filled.database) == before
        go(filled, f"{NEXT:04}")
        assert shape(filled.database) == upgraded
    assert all_rows(filled.database) == before


def test_an_upgrade_leaves_a_copy_that_the_older_program_can_use(filled, next_program):
    first, before = shape(filled.database), all_rows(filled.database)
    with next_program(ADDS), filled.open() as store:
        store.stats()
    [copy] = filled.database.parent.glob(f"{filled.database.name}.schema{HERE}.*")
    assert (shape(copy), all_rows(copy)) == (first, before)
    for name in ("", "-wal", "-shm"):
        Path(f"{filled.database}{name}").unlink(missing_ok=True)
    copy.rename(filled.database)
    with filled.open() as store:
        assert content(store, next(iter(store.assets())).digest)
        assert problems(store) == []


def test_the_copy_is_read_by_nobody_who_may_not_read_the_catalog(shared, next_program):
    with shared.open() as store:
        store.put(picture())
    shared.database.chmod(0o600)
    with next_program(ADDS), shared.open() as store:
        store.stats()
    [copy] = shared.root.glob(f"app.db.schema{HERE}.*")
    assert f"{copy.stat().st_mode & 0o777:o}" == "600"


def test_one_upgrade_makes_one_copy(filled, next_program):
    with next_program(ADDS):
        for _ in range(3):
            with filled.open() as store:
                store.stats()
    assert len(list(filled.database.parent.glob("*.schema*"))) == 1


def test_whoever_comes_too_late_to_upgrade_copies_nothing(filled, next_program):
    with next_program(ADDS), filled.open() as store:
        assert schema.upgrade(store._rooms.catalog) is not None
        assert schema.upgrade(store._rooms.catalog) is None
    assert len(list(filled.database.parent.glob("*.schema*"))) == 1


def test_the_copy_is_made_beside_an_application_with_a_single_connection(shared, next_program):
    """One that begins every transaction as the writer."""
    with shared.open() as store:
        store.put(picture())
    engine = create_engine(f"sqlite:///{shared.database}", pool_size=1, max_overflow=0)
    event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda each: each.exec_driver_sql("BEGIN IMMEDIATE"))
    with next_program(ADDS), Store(engine=engine, backend=f"file:{shared.blobs}") as store:
        assert store.stats().blobs == 1
    [copy] = shared.root.glob(f"app.db.schema{HERE}.*")
    assert numbers(copy) == ([(f"{HERE}",)], [(f"{HERE:04}",)])
    engine.dispose()


def test_a_revision_that_breaks_changes_nothing(filled, next_program):
    first, before = shape(filled.database), all_rows(filled.database)
    with next_program(BREAKS), filled.open() as store, pytest.raises(Exception, match="incomplete"):
        store.stats()
    assert (shape(filled.database), all_rows(filled.database)) == (first, before)
    with filled.open() as store:
        assert problems(store) == []


def test_a_revision_that_breaks_says_so_in_our_words(filled, next_program):
    with next_program(BREAKS), filled.open() as store, pytest.raises(CalotypeError):
        store.stats()


def test_trying_again_and_again_in_vain_fills_no_disk_with_copies(filled, next_program):
    with next_program(BREAKS):
        for _ in range(3):
            with filled.open() as store, pytest.raises(Exception, match="incomplete"):
                store.stats()
    assert list(filled.database.parent.glob("*.schema*")) == []


def test_an_upgrade_waits_for_a_writer_or_is_locked_and_changes_nothing(filled, next_program):
    before = shape(filled.database)
    with closing(sqlite3.connect(filled.database, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with next_program(ADDS), filled.open() as store, pytest.raises(Locked):
            store._rooms.catalog.database._patience = 0.5
            store.stats()
        raw.execute("ROLLBACK")
    assert shape(filled.database) == before


def test_an_upgrade_waits_for_a_short_transaction_of_another(filled, next_program):
    with closing(
        sqlite3.connect(filled.database, isolation_level=None, check_same_thread=False)
    ) as raw:
        raw.execute("BEGIN IMMEDIATE")
        ends = threading.Timer(1.0, raw.execute, ["ROLLBACK"])
        ends.start()
        try:
            with next_program(ADDS), filled.open() as store:
                assert store.stats().references == 4
        finally:
            ends.join()


def open_as_next_program(place: str, folder: str, start: object) -> int:
    """In a process of its own: open the store with the second revision; how many blobs it has."""
    migrations.HERE, schema.CURRENT = Path(folder), NEXT
    start.wait()
    with Store(place) as store:
        return store.stats().blobs


@pytest.mark.parametrize("processes", [3])
def test_any_number_of_processes_upgrade_at_once(folder, next_program, processes):
    with folder.open() as store:
        store.put_many([noise(100, number) for number in range(50)]).result()
    context = get_context("spawn")
    with next_program(ADDS) as revisions, context.Manager() as manager:
        start = manager.Barrier(processes)
        given = [(str(folder.root / "store"), str(revisions), start)] * processes
        with context.Pool(processes) as pool:
            assert pool.starmap(open_as_next_program, given, chunksize=1) == [50] * processes
    assert len(list(folder.database.parent.glob("*.schema*"))) == 1
    assert numbers(folder.database) == ([(f"{NEXT}",)], [(f"{NEXT:04}",)])


def test_threads_of_one_store_upgrade_it_once(filled, next_program):
    answers: list[object] = []

    def look(store: Store) -> None:
        try:
            answers.append(store.stats().references)
        except Exception as error:
            answers.append(error)

    with next_program(ADDS), filled.open() as store:
        threads = [threading.Thread(target=look, args=(store,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [4] * 8


# Bytes in the catalog's database


def test_a_catalog_of_the_schema_before_can_be_given_a_place_for_bytes(tmp_path, clock):
    place = Place("one-file", tmp_path, clock)
    with place.open() as store:
        store.create()
    fresh = shape(place.root / "store/catalog.db")
    with place.open() as store:
        schema.to(store._rooms.catalog, "0002")
    with place.open() as store:
        digest = store.put(noise(3 << 20)).digest
        assert content(store, digest) == noise(3 << 20)
        assert problems(store) == []
    assert shape(place.root / "store/catalog.db") == fresh


@pytest.mark.parametrize("revision", ["0002", "0001", "base"])
def test_the_only_copy_of_bytes_is_not_dropped_with_its_table(tmp_path, clock, revision):
    place = Place("one-file", tmp_path, clock)
    with place.open() as store:
        digest = store.put(noise(3 << 20), owner="scan/1").digest
        with pytest.raises(StillReferenced, match="1 objects"):
            schema.to(store._rooms.catalog, revision)
        assert content(store, digest) == noise(3 << 20)
        assert problems(store) == []
        store.release("scan/1")
        store.gc(now=True)
        schema.to(store._rooms.catalog, revision)
    assert [each.name for each in (tmp_path / "store").glob(f"*.schema{schema.CURRENT}.*")] != []
