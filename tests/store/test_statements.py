"""Statements: none of those that run often reads a table whole, and all are PostgreSQL too."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateIndex, CreateTable
from tests.store.listening import collected, overheard, scans
from tests.store.pictures import noise, picture
from tests.store.places import DAY
from tests.store.surgery import change, findings, spoil, truncate

from calotype import Digest, Store
from calotype.catalog import tables
from calotype.errors import CalotypeError
from calotype.gc.collecting import Collector
from calotype.gc.collecting import Tally as Collected
from calotype.gc.erasing import Eraser
from calotype.gc.erasing import Tally as Erased
from calotype.gc.safety import Safety
from calotype.gc.terms import Allowance, Terms

HOSTS = (
    "CREATE TABLE search_results (id INTEGER PRIMARY KEY, image TEXT REFERENCES "
    "calotype_blob(digest))",
    "CREATE INDEX ix_results ON search_results (image)",
    "CREATE TABLE links (id INTEGER PRIMARY KEY, tenant TEXT, image TEXT, FOREIGN KEY "
    "(tenant, image) REFERENCES calotype_asset(scope, digest))",
    "CREATE INDEX ix_links ON links (tenant, image)",
)


@pytest.fixture(params=[False, True], ids=["alone", "with columns"])
def store(request, memory) -> Store:
    """Forty blobs: some kept in each way, some garbage, some derived."""
    for number in range(10):
        memory.put(noise(50, number), owner=f"scan/{number}")
        memory.put(noise(50, 100 + number), hold="1h")
        memory.put(noise(50, 200 + number))
        memory.put(noise(50, 300 + number), owner="gone/1")
    output = memory.put(noise(50, 400)).digest
    change(memory, f"DELETE FROM calotype_asset WHERE digest = '{output}'")
    change(
        memory,
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash,"
        f" state, output_digest) VALUES ('*', '{digest(300)}', 'r', '1', 'h', 'ready', '{output}')",
    )
    if request.param:
        for statement in HOSTS:
            change(memory, statement)
        change(memory, f"INSERT INTO search_results (image) VALUES ('{digest(301)}')")
        change(memory, f"INSERT INTO links (tenant, image) VALUES ('default', '{digest(302)}')")
    memory.release("gone/1")
    return memory


def digest(number: int) -> Digest:
    return Digest.of(noise(50, number))


def doom(store: Store, **terms: object) -> Collected:
    rooms = store._rooms
    asked = Terms(cutoff=rooms.catalog.clock(), erase_delay=0, **terms)
    tally = Collected()
    collector = Collector(rooms.catalog, rooms.hosts, asked, Safety("test"))
    for _ in collector.look():
        pass
    for _ in collector.collect(tally, lambda: False):
        pass
    return tally


def erase(store: Store) -> Erased:
    rooms = store._rooms
    asked = Terms(cutoff=rooms.catalog.clock(), erase_delay=0)
    tally = Erased()
    eraser = Eraser(rooms.catalog, rooms.mounts, rooms.mounts.primary, asked, Allowance(asked))
    list(eraser.due())
    for _ in eraser.erase(tally, lambda: False):
        pass
    return tally


def test_scans_are_noticed(store):
    """The listener and the pattern work: this one does read a table whole."""
    with overheard(store) as heard:
        store.stats()
    assert {table for table, _ in scans(store, heard)} >= {"calotype_blob"}


def test_dooming_reads_no_table_whole(store):
    with overheard(store) as heard:
        assert doom(store).doomed in (9, 11)
    assert any("DELETE FROM calotype_blob" in sql for sql in heard)
    assert any("DELETE FROM calotype_asset" in sql for sql in heard)
    assert any("WITH RECURSIVE" in sql for sql in heard)
    assert scans(store, heard) == set()


def test_dooming_named_digests_reads_no_table_whole(store):
    names = tuple(sorted(digest(number) for number in range(300, 310)))
    with overheard(store) as heard:
        assert doom(store, digests=names).doomed >= 7
    assert scans(store, heard) == set()


def test_a_full_look_reads_the_blobs_by_their_key(store):
    with overheard(store) as heard:
        doom(store, full=True)
    assert scans(store, heard) == set()


def test_a_refused_batch_reads_no_table_whole(store):
    change(
        store,
        "CREATE TRIGGER mine BEFORE DELETE ON calotype_blob "
        f"WHEN OLD.digest = '{digest(305)}' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    with overheard(store) as heard:
        assert doom(store).refused == 1
    assert {s for s in scans(store, heard) if s[0] != "calotype_backend"} == set()


def test_erasing_sweeping_and_pruning_read_no_table_whole(store, clock):
    doom(store)
    with overheard(store) as heard:
        assert erase(store).erased >= 9
        clock.instant += 2 * DAY
        erase(store)
        clock.instant += 40 * DAY
        erase(store)
    assert any("'erased'" in sql for sql in heard)
    assert scans(store, heard) == set()


def test_check_reads_no_table_whole(store):
    wanted = [digest(number) for number in (0, 100, 200, 300, 301, 302, 999)]
    with overheard(store) as heard:
        assert len(store.check(wanted)) == 7
    assert any("calotype_asset" in sql for sql in heard)
    assert scans(store, heard) == set()


def test_attaching_releasing_and_restoring_read_no_table_whole(store):
    with overheard(store) as heard:
        store.attach(digest(100), owner="scan/1", role="a")
        store.attach(digest(101), owner="scan/1", role="a")
        store.attach(digest(101), owner="scan/1")
        store.release("scan/1", role="a")
        store.release("scan/1")
        store.restore(owner="scan/1")
        store.restore(digest(300))
    assert any("INSERT INTO calotype_reference" in sql for sql in heard)
    assert scans(store, heard) == set()


def test_holding_keeping_and_discarding_read_no_table_whole(store):
    with overheard(store) as heard:
        store.renew(digest(100), "1h")
        store.keep(digest(100))
        store.update(digest(100), filename="x", metadata={"a": 1})
        store.discard(digest(100))
    assert scans(store, heard) == set()


def test_putting_reads_no_table_whole(store):
    with overheard(store) as heard:
        store.put(noise(60, 1), owner="scan/1", role="a")
        store.put(noise(60, 1), hold="1h", filename="x")
        store.put_many([noise(70, number) for number in range(5)], owner="set/1").result()
        store.put(noise(50, 303))
        truncate(store, digest(0))
        store.put(noise(50, 0))
    assert any("INSERT INTO calotype_blob" in sql for sql in heard)
    found = {(table, sql) for table, sql in scans(store, heard) if "calotype_usage" not in sql}
    assert found == set()


def test_opening_reads_no_table_whole(store):
    with overheard(store) as heard:
        store.open(digest(0)).close()
        store.stat(digest(0))
        store._rooms.accesses.flush()
    assert scans(store, heard) == set()


def test_explaining_and_purging_read_no_table_whole(store):
    with overheard(store) as heard:
        store.explain(digest(0))
        store.explain(digest(400))
        store.purge(digest(0))
    assert scans(store, heard) == set()


def test_listing_the_newest_assets_of_a_scope_reads_no_table_whole(store):
    with overheard(store) as heard:
        page = store.assets().page(5)
        store.assets().page(5, page.next)
        store.assets(sort="digest").page(5)
        list(store.references(owner="scan/1"))
        list(store.references(digest=digest(1)))
        list(store.owners(kind="scan"))
        store.resolve(digest(1)[:8])
    assert scans(store, heard) == set()


def test_many_digests_travel_as_one_parameter(store):
    """No limit of parameters is in the way of large batches."""
    assert len(store.check([Digest.of(b"%d" % number) for number in range(40_000)])) == 40_000


# PostgreSQL

DIALECT = psycopg.dialect()


def tour(store: Store) -> None:
    """Every verb, well and badly, on a store that has something of everything."""
    store.set_quota("default", "1 GB")
    first = store.put(picture(0), owner="scan/1", role="a", filename="a", metadata={"x": 1}).digest
    second = store.put(picture(1), hold="1h").digest
    store.put_many([picture(number) for number in range(6)], owner="set/1").result()
    store.put(picture(2), owner="scan/1", role="a")
    store.attach(second, owner="scan/1", role="a")
    for sort in ("recent", "size", "views", "digest"):
        page = store.assets(owner="set/1", media_type="image/*", q="a", sort=sort).page(1)
        store.assets(sort=sort).page(1, page.next)
    store.assets(media_type="image/png", trashed=True).page()
    list(store.owners())
    store.owners(kind="set").page(1, store.owners().page(1).next)
    store.references(owner="set/1").page(1, store.references(owner="set/1").page(1).next)
    list(store.references(digest=first))
    store.check([first, second]), store.stat(first), store.open(first).close()
    store.url(first), store.verify_url(store.url(first)), store.rotate_url_key()
    store.update(first, filename="b", metadata={}), store.renew(first, "2h"), store.keep(first)
    store.resolve(first[:7]), store.resolve_anywhere(first[:7])
    store.discard(first), store.release("scan/1", role="a"), store.release("set/1")
    store.restore(owner="set/1"), store.restore(first), store.discard(first)
    store.release("set/1"), store.explain(first), store.explain(Digest.of(b"x"))
    spoil(store, second)
    findings(store, read_data=True, repair=True)
    store.put(picture(1)), store.stats(), store.usage(), store.usage_days(), list(store.orphans())
    plan = store.plan_gc(now=True)
    store.plan(plan.id).execute(force=True)
    store.gc(now=True, full=True, digests=[second], limit=5, max_bytes=100)
    store._rooms.catalog.clock.advance(days=2)
    store.gc(now=True, full=True)
    store._rooms.catalog.clock.advance(days=40)
    store.gc()
    store.purge(second), store.unblock(second), store.set_quota("default", None)
    store._rooms.accesses.flush()
    for harmless in (
        lambda: store.attach(Digest.of(b"x"), owner="scan/1"),
        lambda: store.restore(owner="nobody/1"),
        lambda: store.resolve("abcdef"),
        lambda: store.plan("none"),
    ):
        with pytest.raises(CalotypeError):
            harmless()


@pytest.mark.parametrize("columns", [False, True])
def test_every_statement_compiles_for_postgresql(tmp_path, clock, columns):
    with Store.memory(clock=clock, public_url="https://p.example") as store:
        store.put(b"first")
        for statement in HOSTS if columns else ():
            change(store, statement)
        with collected(store) as statements:
            tour(store)
    assert len({str(statement) for statement in statements}) > 60
    for statement in statements:
        text = str(statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True}))
        assert "json_each" not in text
        assert "sqlite" not in text.lower()


def test_the_tables_compile_for_postgresql():
    for table in tables.metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=DIALECT))
        assert "WITHOUT ROWID" not in text
        for index in table.indexes:
            assert (
                "WHERE" in str(CreateIndex(index).compile(dialect=DIALECT))
                or not index.unique
                or index.name == "calotype_replica_token"
            )


def test_digests_are_compared_bytewise_on_postgresql():
    for table in tables.metadata.sorted_tables:
        for column in table.columns:
            if "digest" in column.name:
                assert 'COLLATE "C"' in str(CreateTable(table).compile(dialect=DIALECT))


# An engine of the application's


@pytest.fixture
def engine(tmp_path) -> Engine:
    with closing(sqlite3.connect(tmp_path / "app.db")) as raw:
        raw.execute("CREATE TABLE page (id INTEGER PRIMARY KEY)")
    made = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    yield made
    made.dispose()


def test_an_engine_of_the_applications_is_used_as_it_is(engine, tmp_path, clock):
    with Store(engine=engine, backend=f"file:{tmp_path / 'media'}", clock=clock) as store:
        made = store.put(picture(), owner="scan/9").digest
        with Session(engine) as session:
            session.execute(tables.reference.select()).all()
        store.release("scan/9")
        assert store.gc(now=True).doomed == 1
        assert store.explain(made).verdict == "erased"
        assert [f for f in findings(store) if f.is_problem] == []
