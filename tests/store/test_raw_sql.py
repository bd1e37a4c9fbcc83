"""Raw SQL on our tables: what it may do ends right, what it may not do is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from tests.store.pictures import picture
from tests.store.surgery import content, objects, problems, rows, states

from calotype import Digest

OTHER = Digest.of(b"never put")


@pytest.fixture(params=[True, False], ids=["keys on", "keys off"])
def raw(request, shared):
    """A connection of the application, with SQLite's foreign keys on or off."""
    with shared.open() as store:
        store.put(picture(), owner="scan/9", role="a")
        store.put(picture(1), hold="1h")
    with closing(sqlite3.connect(shared.database)) as connection:
        connection.execute(f"PRAGMA foreign_keys={'ON' if request.param else 'OFF'}")
        yield connection


@pytest.fixture
def store(shared):
    with shared.open() as opened:
        yield opened


DIGEST = Digest.of(picture())


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM calotype_blob WHERE digest = '{DIGEST}'",
        "DELETE FROM calotype_blob",
        f"DELETE FROM calotype_asset WHERE digest = '{DIGEST}'",
        "UPDATE calotype_blob SET size = size + 1",
        f"UPDATE calotype_blob SET digest = '{OTHER}' WHERE digest = '{DIGEST}'",
        f"UPDATE calotype_asset SET digest = '{OTHER}' WHERE digest = '{DIGEST}'",
        "UPDATE calotype_asset SET scope = 'other'",
        f"UPDATE calotype_reference SET digest = '{OTHER}'",
        "UPDATE calotype_reference SET scope = 'other'",
        f"INSERT INTO calotype_asset (scope, digest, kept_until, created_at) "
        f"VALUES ('default', '{OTHER}', 0, 0)",
        "INSERT INTO calotype_reference (scope, owner_kind, owner_id, role, digest, created_at) "
        f"VALUES ('default', 'scan', '1', 'a', '{OTHER}', 0)",
        "INSERT INTO calotype_reference (scope, owner_kind, owner_id, role, digest, created_at) "
        f"VALUES ('other', 'scan', '1', 'a', '{DIGEST}', 0)",
        "INSERT OR REPLACE INTO calotype_blob (digest, size, media_type, extension) "
        f"VALUES ('{DIGEST}', 1, 'text/plain', 'txt')",
        *(
            "INSERT INTO calotype_blob (digest, size, media_type, extension) "
            f"VALUES ('{digest}', 1, 'text/plain', 'txt')"
            for digest in ("abc", "A" * 64, "0" * 63 + "g", "0" * 30 + "-" + "0" * 33)
        ),
    ],
)
def test_what_would_break_a_promise_is_refused(raw, store, statement):
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(statement)
    raw.rollback()
    assert problems(store) == []
    assert content(store, DIGEST) == picture()


def test_deleting_references_lets_go(raw, store, clock):
    raw.execute("DELETE FROM calotype_reference")
    raw.commit()
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1
    assert problems(store) == []


def test_deleted_references_are_no_leak_before_gc_has_looked(raw, store, clock):
    clock.advance(days=-5)  # the triggers' clock is the machine's
    store.put(picture(2), owner="scan/9", role="b")
    clock.advance(days=2)
    store.gc()
    raw.execute("DELETE FROM calotype_reference")
    raw.commit()
    clock.advance(days=3, seconds=5)
    assert problems(store) == []
    assert store.gc(now=True).doomed == 2
    assert problems(store) == []


def test_ending_a_hold_by_sql_lets_go(raw, store):
    raw.execute("UPDATE calotype_asset SET kept_until = 0")
    raw.commit()
    assert store.gc(now=True).doomed == 1
    assert content(store, DIGEST) == picture()


def test_shortening_a_hold_by_sql_counts(raw, store, clock):
    raw.execute(f"UPDATE calotype_asset SET kept_until = {clock() + 1_000_000}")
    raw.commit()
    assert problems(store) == []
    clock.advance(seconds=2)
    assert store.gc(now=True).doomed == 1


def test_releasing_by_sql_lets_go(raw, store, clock):
    raw.execute(f"UPDATE calotype_reference SET released_at = {clock()}")
    raw.commit()
    assert store.gc(now=True).doomed == 1


def test_moving_a_reference_by_sql_lets_go_of_what_it_left(raw, store, clock):
    second = Digest.of(picture(1))
    raw.execute(f"UPDATE calotype_reference SET digest = '{second}'")
    raw.commit()
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1
    assert states(store, DIGEST) == ["erased"]
    clock.advance(hours=2)
    assert store.gc(now=True).doomed == 0
    assert content(store, second) == picture(1)


def test_replacing_an_asset_leaves_a_candidate(raw, store, clock):
    """REPLACE deletes without firing delete triggers."""
    second = Digest.of(picture(1))
    raw.execute("DELETE FROM calotype_candidate")
    raw.execute(
        "INSERT OR REPLACE INTO calotype_asset (scope, digest, kept_until, created_at) "
        f"VALUES ('default', '{second}', 0, 0)"
    )
    raw.commit()
    assert [d for (d,) in rows(store, "SELECT DISTINCT digest FROM calotype_candidate")] == [second]
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1
    assert problems(store) == []


@pytest.mark.parametrize("columns", ["slot", "id"])
def test_replacing_a_reference_leaves_a_candidate(raw, store, clock, columns):
    second = Digest.of(picture(1))
    raw.execute("DELETE FROM calotype_candidate")
    [(ident,)] = raw.execute("SELECT id FROM calotype_reference").fetchall()
    slot = ("scan", "9", "a") if columns == "slot" else ("scan", "77", "b")
    raw.execute(
        "INSERT OR REPLACE INTO calotype_reference "
        "(id, scope, owner_kind, owner_id, role, digest, created_at) "
        "VALUES (?, 'default', ?, ?, ?, ?, 0)",
        (ident if columns == "id" else None, *slot, second),
    )
    raw.commit()
    assert (DIGEST,) in rows(store, "SELECT digest FROM calotype_candidate")
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1
    assert states(store, DIGEST) == ["erased"]


@pytest.mark.parametrize("what", ["role = 'a'", "id = 1"])
def test_an_update_that_replaces_a_reference_leaves_a_candidate(raw, store, clock, what):
    store.put(picture(1), owner="scan/9", role="z")
    assert raw.execute("SELECT role FROM calotype_reference WHERE id = 1").fetchall() == [("a",)]
    raw.execute("DELETE FROM calotype_candidate")
    raw.execute(f"UPDATE OR REPLACE calotype_reference SET {what} WHERE role = 'z'")
    raw.commit()
    assert [each.digest for each in store.references(owner="scan/9")] == [Digest.of(picture(1))]
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1
    assert states(store, DIGEST) == ["erased"]
    assert problems(store) == []


@pytest.fixture
def output(raw):
    """A blob that only a derivation keeps, and that nobody looks at."""
    second = Digest.of(picture(1))
    raw.execute(f"DELETE FROM calotype_asset WHERE digest = '{second}'")
    raw.execute(
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash,"
        f" state, output_digest) VALUES ('*', '{DIGEST}', 'r', '1', 'h', 'ready', '{second}')"
    )
    raw.execute("DELETE FROM calotype_candidate")
    raw.commit()
    return second


def test_replacing_a_derivation_lets_go_of_its_output(raw, store, output):
    raw.execute(
        "INSERT OR REPLACE INTO calotype_derivation (audience, input_digest, recipe, version,"
        f" params_hash, state) VALUES ('*', '{DIGEST}', 'r', '1', 'h', 'pending')"
    )
    raw.commit()
    assert store.gc(now=True).doomed == 1
    assert states(store, output) == ["erased"]
    assert problems(store) == []


def test_the_output_of_a_derivation_is_not_deleted_by_hand(raw, store, output):
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(f"DELETE FROM calotype_blob WHERE digest = '{output}'")
    raw.rollback()
    assert store.gc(now=True, full=True).doomed == 0
    assert problems(store) == []


def test_replacing_a_blob_by_itself_changes_nothing(raw, store):
    before = rows(store, "SELECT * FROM calotype_blob ORDER BY digest")
    raw.execute("INSERT OR IGNORE INTO calotype_blob SELECT * FROM calotype_blob")
    raw.commit()
    assert rows(store, "SELECT * FROM calotype_blob ORDER BY digest") == before
    assert problems(store) == []


def test_an_upsert_into_references_is_watched(raw, store, clock):
    second = Digest.of(picture(1))
    raw.execute(
        "INSERT INTO calotype_reference (scope, owner_kind, owner_id, role, digest, created_at) "
        f"VALUES ('default', 'scan', '9', 'a', '{second}', 0) ON CONFLICT "
        "(scope, owner_kind, owner_id, role) WHERE released_at IS NULL "
        "DO UPDATE SET digest = excluded.digest"
    )
    raw.commit()
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 1
    assert states(store, DIGEST) == ["erased"]


def test_an_asset_and_its_references_deleted_in_order_let_go_of_the_blob(raw, store, clock):
    raw.execute("DELETE FROM calotype_reference")
    raw.execute("DELETE FROM calotype_asset")
    raw.commit()
    clock.advance(seconds=5)
    assert store.gc(now=True).doomed == 2
    assert problems(store) == []


def test_a_blob_that_nothing_needs_may_be_deleted_by_hand(raw, store, clock):
    raw.execute("DELETE FROM calotype_reference")
    raw.execute("DELETE FROM calotype_asset")
    raw.execute("DELETE FROM calotype_blob")
    raw.commit()
    assert store.put(picture()).status == "created"
    assert content(store, DIGEST) == picture()


def test_bytes_whose_blob_was_deleted_by_hand_are_found_and_let_go(raw, store, clock):
    raw.execute("DELETE FROM calotype_reference")
    raw.execute("DELETE FROM calotype_asset")
    raw.execute("DELETE FROM calotype_blob")
    raw.commit()
    clock.advance(days=40)
    found = list(store.fsck(repair=True))
    after = store.gc(now=True, full=True)
    assert len(found) == 2 or after.erased == 2
    clock.advance(days=40)
    store.gc(now=True)
    assert objects(store) == {}


def test_inserting_an_asset_with_an_end_is_watched(raw, store, clock):
    raw.execute("DELETE FROM calotype_candidate")
    raw.execute(
        "INSERT INTO calotype_asset (scope, digest, kept_until, created_at) "
        f"VALUES ('other', '{DIGEST}', 5, 0)"
    )
    raw.commit()
    assert store.gc(now=True).assets == 1
    assert content(store, DIGEST) == picture()


def test_an_application_column_pointing_at_nothing_is_refused_with_keys_on(shared, store):
    store.put(picture())
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("CREATE TABLE t (image TEXT REFERENCES calotype_blob(digest))")
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(f"INSERT INTO t VALUES ('{OTHER}')")
