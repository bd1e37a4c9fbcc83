"""The application's own columns that point at our tables: they keep, and nobody changes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.store.pictures import picture
from tests.store.surgery import content, findings, lose, objects, problems, rows

from calotype import Digest, Store
from calotype.catalog import health
from calotype.errors import Corrupt, NotFound, RoleCascades, StillReferenced


@pytest.fixture
def store(shared) -> Iterator[Store]:
    with shared.open() as opened:
        yield opened


@pytest.fixture
def digest(store):
    return store.put(picture(), owner="scan/9").digest


def run(place, *statements: str, keys: bool = True) -> None:
    """Statements of the application on a connection of its own."""
    with closing(sqlite3.connect(place.database)) as raw:
        raw.execute(f"PRAGMA foreign_keys={'ON' if keys else 'OFF'}")
        for statement in statements:
            raw.execute(statement)
        raw.commit()


def results(place, *digests: str, rule: str = "", index: bool = True) -> None:
    """A table ``search_results`` whose column points at blobs."""
    run(
        place,
        "CREATE TABLE search_results (id INTEGER PRIMARY KEY, image_hash CHAR(64) "
        f"CONSTRAINT fk_image REFERENCES calotype_blob(digest) {rule})",
        *(["CREATE INDEX ix ON search_results (image_hash)"] if index else []),
        *[f"INSERT INTO search_results (image_hash) VALUES ('{d}')" for d in digests],
    )


def asset_links(place, *rows_: tuple[str, str]) -> None:
    """A table ``links`` with a composite key to assets."""
    run(
        place,
        "CREATE TABLE links (id INTEGER PRIMARY KEY, tenant TEXT, image TEXT, CONSTRAINT fk_asset "
        "FOREIGN KEY (tenant, image) REFERENCES calotype_asset(scope, digest))",
        "CREATE INDEX ix_links ON links (tenant, image)",
        *[f"INSERT INTO links (tenant, image) VALUES ('{s}', '{d}')" for s, d in rows_],
    )


# Keeping


@pytest.mark.parametrize("rule", ["", "ON DELETE RESTRICT", "ON DELETE NO ACTION"])
@pytest.mark.parametrize("index", [True, False])
def test_a_column_keeps_blob_and_asset_and_the_asset_stays_visible(
    store, shared, digest, rule, index, clock
):
    results(shared, digest, rule=rule, index=index)
    store.release("scan/9")
    clock.advance(days=100)
    assert store.gc(now=True, full=True).doomed == 0
    asset = store.stat(digest)
    assert (asset.trashed, asset.kept, asset.references) == (False, None, 0)
    assert [each.digest for each in store.assets()] == [digest]
    assert list(store.assets(trashed=True)) == []
    assert not store.check([digest])[digest].trashed
    assert content(store, digest) == picture()
    assert problems(store) == []


def test_it_is_kept_in_the_column_scope_alone(store, shared, digest):
    ana = store.scope("user:ana")
    ana.put(picture(), owner="scan/1")
    results(shared, digest)
    store.release("scan/9")
    ana.release("scan/1")
    with pytest.raises(NotFound):
        ana.stat(digest)
    report = store.gc(now=True)
    assert (report.assets, report.doomed) == (1, 0)
    assert ana.check([digest]) == {digest: None}
    assert content(store, digest) == picture()


def test_the_column_scope_can_be_another(shared):
    with shared.open(column_scope="site") as store:
        site = store.scope("site")
        digest = site.put(picture(), owner="scan/1").digest
        store.put(picture(), owner="scan/1")
        results(shared, digest)
        site.release("scan/1")
        store.release("scan/1")
        store.gc(now=True)
        assert content(site, digest) == picture()
        assert store.check([digest]) == {digest: None}


def test_a_composite_key_keeps_the_asset_of_its_scope(store, shared, digest):
    ana = store.scope("user:ana")
    ana.put(picture(), owner="scan/1")
    asset_links(shared, ("user:ana", digest))
    store.release("scan/9")
    ana.release("scan/1")
    assert store.gc(now=True).assets == 1
    assert store.check([digest]) == {digest: None}
    assert content(ana, digest) == picture()
    assert problems(store) == []


def test_once_the_row_is_gone_a_full_look_collects(store, shared, digest):
    results(shared, digest)
    store.release("scan/9")
    store.gc(now=True)
    run(shared, "DELETE FROM search_results")
    with pytest.raises(NotFound):
        store.stat(digest)
    assert store.gc(now=True, full=True).doomed == 1
    assert objects(store) == {}


def test_once_the_row_is_gone_gc_looks_again_within_a_week(store, shared, digest, clock):
    results(shared, digest)
    store.release("scan/9")
    for _ in range(30):
        clock.advance(days=1)
        assert store.gc().doomed == 0
    run(shared, "UPDATE search_results SET image_hash = NULL")
    doomed = 0
    for _ in range(9):
        clock.advance(days=1)
        doomed += store.gc().doomed
    assert doomed == 1
    assert problems(store) == []


def test_only_what_a_column_keeps_is_looked_at_ever_less_often(store, shared, digest, clock):
    results(shared, digest)
    store.release("scan/9")
    pushes = []
    for _ in range(60):
        clock.advance(hours=12)
        store.gc()
        pushes += [row[0] for row in rows(store, "SELECT pushed FROM calotype_candidate")]
    assert max(pushes) == 7 * 24 * 3600 * 1_000_000
    assert pushes == sorted(pushes)
    assert rows(store, "SELECT COUNT(*) FROM calotype_candidate") == [(1,)]


def test_a_null_in_the_column_keeps_nothing(store, shared, digest):
    results(shared)
    run(shared, "INSERT INTO search_results (image_hash) VALUES (NULL)")
    store.release("scan/9")
    assert store.gc(now=True).doomed == 1


def test_a_column_added_while_the_store_is_open_counts_at_once(store, shared, digest):
    store.release("scan/9")
    assert store.check([digest])[digest].trashed
    results(shared, digest)
    assert not store.check([digest])[digest].trashed
    assert store.gc(now=True).doomed == 0


def test_a_dropped_table_keeps_nothing_any_more(store, shared, digest):
    results(shared, digest)
    store.release("scan/9")
    assert store.gc(now=True, full=True).doomed == 0
    run(shared, "DROP TABLE search_results")
    assert store.gc(now=True, full=True).doomed == 1


def test_a_renamed_table_keeps_as_before(store, shared, digest):
    results(shared, digest)
    store.release("scan/9")
    run(shared, "ALTER TABLE search_results RENAME TO finds")
    assert store.gc(now=True, full=True).doomed == 0
    assert content(store, digest) == picture()


def test_our_triggers_do_not_hinder_the_applications_own_migrations(store, shared, digest):
    results(shared, digest)
    run(
        shared,
        "ALTER TABLE search_results ADD COLUMN note TEXT",
        "CREATE TABLE search_new (id INTEGER PRIMARY KEY, image_hash TEXT "
        "REFERENCES calotype_blob(digest))",
        "INSERT INTO search_new SELECT id, image_hash FROM search_results",
        "DROP TABLE search_results",
        "ALTER TABLE search_new RENAME TO search_results",
    )
    store.release("scan/9")
    assert store.gc(now=True, full=True).doomed == 0


@pytest.mark.parametrize(
    "declaration",
    [
        '"image hash" TEXT REFERENCES "calotype_blob" ("digest")',
        "image_hash TEXT REFERENCES CALOTYPE_BLOB(DIGEST)",
        "image_hash TEXT REFERENCES calotype_blob",
        "image_hash TEXT, FOREIGN KEY (image_hash) REFERENCES calotype_blob (digest) "
        "DEFERRABLE INITIALLY DEFERRED",
    ],
)
def test_columns_are_found_however_they_are_declared(store, shared, digest, declaration):
    run(
        shared,
        f'CREATE TABLE "odd name" ({declaration})',
        f"INSERT INTO \"odd name\" VALUES ('{digest}')",
    )
    store.release("scan/9")
    assert store.gc(now=True, full=True).doomed == 0
    assert content(store, digest) == picture()
    assert problems(store) == []


def test_two_columns_of_one_table_each_keep(store, shared, digest):
    other = store.put(picture(1), owner="scan/9").digest
    run(
        shared,
        "CREATE TABLE pairs (a TEXT REFERENCES calotype_blob(digest), "
        "b TEXT REFERENCES calotype_blob(digest))",
        f"INSERT INTO pairs VALUES ('{digest}', '{other}')",
    )
    store.release("scan/9")
    assert store.gc(now=True).doomed == 0
    run(shared, "UPDATE pairs SET a = NULL")
    assert store.gc(now=True, full=True).doomed == 1
    assert content(store, other) == picture(1)


def test_a_column_keeps_a_blob_that_has_no_asset_in_its_scope(store, shared):
    """The database would refuse, so gc does not try, and nobody calls it a leak."""
    ana = store.scope("user:ana")
    digest = ana.put(picture(), owner="scan/1").digest
    results(shared, digest)
    ana.release("scan/1")
    report = store.gc(now=True)
    assert (report.assets, report.doomed, report.refused) == (1, 0, 0)
    assert store.check([digest]) == {digest: None}
    assert problems(store) == []
    run(shared, "DELETE FROM search_results")
    assert store.gc(now=True, full=True).doomed == 1


def test_explain_names_the_column(store, shared, digest):
    results(shared, digest)
    store.release("scan/9")
    explained = store.explain(digest)
    assert explained.verdict == "kept"
    assert "search_results.image_hash" in explained.sentence


def test_discard_says_that_a_column_keeps_it(store, shared):
    digest = store.put(picture()).digest
    results(shared, digest)
    [kept] = store.discard(digest).kept_by
    assert kept.kind == "column" and "search_results.image_hash" in str(kept)


def test_what_a_column_keeps_is_no_orphan_and_heals(store, shared, digest):
    results(shared, digest)
    store.release("scan/9")
    assert findings(store) == []
    assert (store.stats().orphaned, store.usage().assets, store.usage().trashed) == (0, 1, 0)
    lose(store, digest)
    with pytest.raises(Corrupt):
        content(store, digest)
    assert store.put(picture()).status == "healed"


# Refused


@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_key_that_would_change_the_applications_rows_is_refused_by_name(
    store, shared, digest, rule
):
    results(shared, digest, rule=f"ON DELETE {rule}")
    store.release("scan/9")
    for verb in (
        lambda: store.gc(now=True),
        lambda: store.plan_gc(),
        lambda: store.purge(digest),
    ):
        with pytest.raises(RoleCascades) as caught:
            verb()
        assert "fk_image" in str(caught.value)
        assert "search_results.image_hash" in str(caught.value)
        assert rule in str(caught.value)
    assert store.check([digest])[digest] is not None
    assert len(objects(store)) == 1


@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL"])
def test_a_composite_key_that_cascades_is_refused_by_name(store, shared, digest, rule):
    run(
        shared,
        "CREATE TABLE links (tenant TEXT, image TEXT, CONSTRAINT fk_asset FOREIGN KEY "
        f"(tenant, image) REFERENCES calotype_asset(scope, digest) ON DELETE {rule})",
    )
    with pytest.raises(RoleCascades, match="fk_asset"):
        store.gc(now=True)


def test_a_plan_made_before_the_cascade_is_refused_too(store, shared, digest):
    store.release("scan/9")
    plan = store.plan_gc(now=True)
    results(shared, digest, rule="ON DELETE CASCADE")
    with pytest.raises(RoleCascades):
        plan.execute()
    assert len(objects(store)) == 1


def test_a_nameless_cascade_is_refused_with_its_table(store, shared, digest):
    run(
        shared,
        "CREATE TABLE nameless (image TEXT REFERENCES calotype_blob(digest) ON DELETE CASCADE)",
    )
    with pytest.raises(RoleCascades, match=r"nameless\.image"):
        store.gc(now=True)


def test_on_update_rules_are_nobodys_business(store, shared, digest):
    results(shared, digest, rule="ON UPDATE CASCADE")
    store.release("scan/9")
    assert store.gc(now=True).doomed == 0


def test_purge_refuses_while_a_column_points_there(store, shared, digest):
    results(shared, digest)
    with pytest.raises(StillReferenced, match=r"search_results\.image_hash"):
        store.purge(digest)
    assert content(store, digest) == picture()
    assert store.put(picture()).status == "duplicate"
    run(shared, "DELETE FROM search_results")
    assert store.purge(digest).assets == 1


def test_purge_refuses_while_a_composite_key_points_there(store, shared, digest):
    ana = store.scope("user:ana")
    ana.put(picture())
    asset_links(shared, ("user:ana", digest))
    with pytest.raises(StillReferenced, match=r"links\.tenant\+image"):
        store.purge(digest)
    assert content(ana, digest) == content(store, digest) == picture()


# Health


def test_a_column_without_an_index_is_named(store, shared, digest):
    results(shared, digest, index=False)
    asset_links(shared)
    with store._rooms.catalog.read() as connection:
        [(warning, cure)] = health.warnings(connection, store._rooms.hosts, own=False)
    assert "search_results.image_hash" in warning
    assert cure.startswith("CREATE INDEX")


@pytest.mark.parametrize(
    "declaration",
    [
        "image TEXT PRIMARY KEY REFERENCES calotype_blob(digest)",
        "image TEXT UNIQUE REFERENCES calotype_blob(digest)",
        "image TEXT REFERENCES calotype_blob(digest), x TEXT, UNIQUE (image, x)",
    ],
)
def test_a_key_or_unique_constraint_is_an_index(store, shared, digest, declaration):
    run(shared, f"CREATE TABLE t ({declaration})")
    with store._rooms.catalog.read() as connection:
        assert health.warnings(connection, store._rooms.hosts, own=False) == []


def test_an_index_of_some_rows_alone_is_none(store, shared, digest):
    run(
        shared,
        "CREATE TABLE t (image TEXT REFERENCES calotype_blob(digest), x INTEGER)",
        "CREATE INDEX partial ON t (image) WHERE x > 5",
    )
    with store._rooms.catalog.read() as connection:
        assert len(health.warnings(connection, store._rooms.hosts, own=False)) == 1


def test_the_cure_that_health_gives_works(store, shared, digest):
    results(shared, digest, index=False)
    with store._rooms.catalog.read() as connection:
        [(_, cure)] = health.warnings(connection, store._rooms.hosts, own=False)
    run(shared, cure)
    with store._rooms.catalog.read() as connection:
        assert health.warnings(connection, store._rooms.hosts, own=False) == []


def test_a_wal_shared_with_an_application_is_warned_of(store, shared, digest):
    run(shared, "PRAGMA journal_mode=WAL")
    with store._rooms.catalog.read() as connection:
        found = health.warnings(connection, store._rooms.hosts, own=False)
    assert any("journal_mode=TRUNCATE" in cure for _, cure in found) == (
        sqlite3.sqlite_version_info < (3, 51, 3)
    )


def test_the_journal_mode_of_a_shared_file_is_never_changed(shared):
    run(shared, "PRAGMA journal_mode=TRUNCATE")
    with shared.open() as store:
        digest = store.put(picture(), owner="scan/9").digest
        store.release("scan/9")
        store.gc(now=True)
        assert states_of(shared) == "delete"
        assert store.explain(digest).verdict == "erased"


def states_of(place) -> str:
    with closing(sqlite3.connect(place.database)) as raw:
        return raw.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_store_leaves_the_applications_tables_alone(shared):
    with shared.open() as store:
        store.put(picture())
        run(shared, "INSERT INTO page (t) VALUES ('hello')")
        store.release("scan/9")
        store.gc(now=True, full=True)
    with closing(sqlite3.connect(shared.database)) as raw:
        assert raw.execute("SELECT t FROM page").fetchall() == [("hello",)]
        assert Digest.of(picture()) in raw.execute("SELECT digest FROM calotype_blob").fetchone()
