"""A catalog in which a disk changed a bit: an index that lies, rows that nobody wrote."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress

import pytest
from sqlalchemy.exc import IntegrityError
from tests.store.pictures import noise
from tests.store.places import Place
from tests.store.surgery import content, findings

from calotype import Digest, Store
from calotype.catalog import health
from calotype.doctoring import examine
from calotype.errors import CalotypeError, Corrupt

KEPT = {f"scan/{number}": noise(300, number) for number in range(30)}
INDEXES = ("calotype_asset_digest", "calotype_reference_asset_ix")


@pytest.fixture
def at_rest(in_file: Place) -> Place:
    """A store with thirty kept files, each of which gc is to look at."""
    with in_file.open() as store:
        for owner, data in KEPT.items():
            digest = store.put(data, owner=owner).digest
            store.attach(digest, owner=f"again/{digest}")
            store.release(f"again/{digest}")
    with closing(sqlite3.connect(in_file.database)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return in_file


def pages(place: Place, name: str) -> tuple[int, int]:
    """Where the first page of a table or an index begins in the file, and its size."""
    with closing(sqlite3.connect(place.database)) as raw:
        (size,) = raw.execute("PRAGMA page_size").fetchone()
        found = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return (found[0] - 1) * size, size


def flip(place: Place, name: str, text: bytes, at: int, mask: int = 1) -> None:
    """Change one bit of one byte of ``text`` in the first page of a table or an index."""
    start, size = pages(place, name)
    whole = bytearray(place.database.read_bytes())
    found = whole.index(text, start, start + size)
    whole[found + at] ^= mask
    place.database.write_bytes(whole)


def by_hand(place: Place, statement: str, *, behind: str = "") -> None:
    """Rows that no writer of ours writes, and that the tables' own rules refuse.

    ``behind`` the indexes of a table, which then differ from it.
    """
    of_master = "FROM sqlite_master WHERE type = 'index' AND tbl_name = ?"
    with closing(sqlite3.connect(place.database)) as raw:
        triggers = raw.execute(
            "SELECT name, sql FROM sqlite_master WHERE type='trigger'"
        ).fetchall()
        indexes = raw.execute(f"SELECT * {of_master}", (behind,)).fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute(f"DELETE {of_master}", (behind,))
        raw.commit()
    with closing(sqlite3.connect(place.database)) as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        assert raw.execute(statement).rowcount
        for _, sql in triggers:
            raw.execute(sql)
        raw.execute("PRAGMA writable_schema = ON")
        raw.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", indexes)
        raw.commit()


def first_in(place: Place, name: str) -> str:
    """A digest that stands in the first page of a table or an index."""
    start, size = pages(place, name)
    page = place.database.read_bytes()[start : start + size]
    return next(str(d) for d in map(Digest.of, KEPT.values()) if str(d).encode() in page)


def digest_of(owner: str) -> Digest:
    return Digest.of(KEPT[owner])


def all_are_there(store: Store) -> bool:
    return all(content(store, Digest.of(data)) == data for data in KEPT.values())


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_that_lies_is_told_locks_gc_and_is_made_again(at_rest, index):
    flip(at_rest, index, first_in(at_rest, index).encode(), 40)
    with at_rest.open() as store:
        found = findings(store)
        assert {each.kind for each in found} == {"broken"}
        assert all("the catalog is damaged" in each.note for each in found)
        assert any(index in each.note for each in found)
        assert not store.fsck().result().complete
        with pytest.raises(Corrupt, match="nothing was let go of") as caught:
            store.gc(now=True)
        assert "fsck --repair" in caught.value.hint
        failed = [each for each in examine(store) if each.level == "fail"]
        assert failed and {each.cure for each in failed} == {"calotype fsck --repair"}
        mended = store.fsck(repair=True).result()
        assert mended.complete and (mended.problems, mended.findings) == (0, {"broken": len(found)})
        assert store.fsck().result().problems == 0
        assert store.gc(now=True).doomed == 0
        assert all_are_there(store)


def test_a_plan_of_a_damaged_catalog_is_neither_made_nor_executed(at_rest):
    with at_rest.open() as store:
        plan = store.plan_gc(now=True)
    flip(at_rest, INDEXES[0], first_in(at_rest, INDEXES[0]).encode(), 40)
    with at_rest.open() as store:
        with pytest.raises(Corrupt, match="nothing was let go of"):
            plan.execute()
        with pytest.raises(Corrupt, match="nothing was let go of"):
            store.plan_gc(now=True)
        some = store.put(b"new").digest
        store.discard(some)
        assert store.gc(digests=[some], now=True).erased == 1  # which asks for no look at all


def test_gc_looks_for_damage_only_where_it_may_let_go_of_something(at_rest, monkeypatch):
    looks = []
    sound = health.require_sound
    monkeypatch.setattr(health, "require_sound", lambda it: (looks.append(1), sound(it)))
    with at_rest.open() as store:
        store.gc(now=True)
        assert len(looks) == 1  # what was let go of once is kept by others
        store.gc(now=True)
        assert len(looks) == 1
        store.discard(store.put(b"new").digest)
        assert store.gc(now=True).erased == 1
        assert len(looks) == 3  # for the plan and for what is done


def test_an_index_of_rows_that_are_there_twice_is_told_and_stays(at_rest):
    name = "calotype_reference_slot"
    with closing(sqlite3.connect(at_rest.database)) as raw:
        (said,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        raw.execute(f"DROP INDEX {name}")
        raw.execute(said.replace("UNIQUE ", ""))
        columns = "scope, owner_kind, owner_id, role, digest, created_at"
        raw.execute(
            f"INSERT INTO calotype_reference ({columns}) "
            f"SELECT {columns} FROM calotype_reference WHERE owner_id = '3' LIMIT 1"
        )
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (said, name))
        raw.commit()
    with at_rest.open() as store:
        [found] = store.fsck(repair=True)
        assert (found.action, found.is_problem) == ("", True)
        assert name in found.note


def empty(place: Place, name: str) -> None:
    """Have the pages of an index say that there is nothing in it."""
    start, size = pages(place, name)
    whole = bytearray(place.database.read_bytes())
    blank = bytes([0x0A, 0, 0, 0, 0]) + size.to_bytes(2, "big")
    whole[start : start + size] = blank.ljust(size, b"\0")
    place.database.write_bytes(whole)


def test_indexes_are_made_again_however_many_rows_they_lack(at_rest):
    indexes = ("calotype_asset_digest", "calotype_replica_token")
    for index in indexes:
        empty(at_rest, index)
    with at_rest.open() as store:
        told = [each.note for each in findings(store)]
        assert len(told) == 20 and not any(indexes[1] in note for note in told)
        mended = [each.note for each in store.fsck(repair=True)]
        assert all(any(index in note for note in mended) for index in indexes)
        assert store.fsck().result().problems == 0
        assert store.gc(now=True).doomed == 0


def test_what_no_new_index_mends_is_not_said_to_be_mended_so(at_rest):
    start, _ = pages(at_rest, INDEXES[0])
    whole = bytearray(at_rest.database.read_bytes())
    whole[start] = 0xFF
    at_rest.database.write_bytes(whole)
    with at_rest.open() as store:
        with pytest.raises(Corrupt, match="is damaged") as caught:
            store.gc(now=True)
        assert "fsck --repair" not in caught.value.hint
        assert store.fsck(repair=True).result().problems


OF_AN_APPLICATION = {
    "a check with a function": ["CREATE TABLE a (b TEXT CHECK (theirs(b)))"],
    "a check with a search": [
        "CREATE TABLE a (b TEXT)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE a (b TEXT CHECK (b MATCH 1))' "
        "WHERE name = 'a'",
    ],
    "an order": ["CREATE TABLE a (b TEXT COLLATE their_order PRIMARY KEY) WITHOUT ROWID"],
    "a computed column": ["CREATE TABLE a (b TEXT, c AS (theirs(b)) NOT NULL)"],
    "a key by an order": [
        "CREATE TABLE p (b TEXT COLLATE their_order PRIMARY KEY)",
        "CREATE TABLE a (b TEXT COLLATE their_order REFERENCES p)",
    ],
    "a key to what is no key": ["CREATE TABLE p (b)", "CREATE TABLE a (b REFERENCES p (b))"],
    "rows against a check": [
        "CREATE TABLE a (b TEXT CHECK (b > 'zero'))",
        "PRAGMA ignore_check_constraints = ON",
    ],
    "rows against a column": [
        "CREATE TABLE a (b TEXT, c)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE a (b TEXT, c NOT NULL)' WHERE name = 'a'",
    ],
}
"""Tables with what only their application's connections have, or with rows that break its rules."""


@pytest.mark.parametrize("statements", OF_AN_APPLICATION.values(), ids=OF_AN_APPLICATION)
def test_tables_of_an_applications_hinder_nobody(at_rest, statements):
    with closing(sqlite3.connect(at_rest.database)) as raw:
        raw.create_function("theirs", 1, lambda _: 1, deterministic=True)
        raw.create_collation("their_order", lambda one, two: (one > two) - (one < two))
        for statement in statements:
            raw.execute(statement)
        for number in range(30):
            raw.execute("INSERT INTO a (b) VALUES (?)", (f"{number:03}",))
        raw.commit()
    with at_rest.open() as store:
        checked = store.fsck().result()
        assert (checked.problems, checked.complete) == (0, True)
        assert not [each for each in examine(store) if each.level == "fail"]
        assert store.gc(now=True).doomed == 0
    flip(at_rest, INDEXES[0], first_in(at_rest, INDEXES[0]).encode(), 40)
    with at_rest.open() as store:
        assert any(INDEXES[0] in each.note for each in findings(store))
        assert store.fsck(repair=True).result().problems == 0


@pytest.mark.parametrize("behind", [True, False], ids=["behind its indexes", "as it should be"])
@pytest.mark.parametrize("table", ["asset", "blob", "reference", "replica"])
def test_nothing_is_lost_where_a_digest_changed_whatever_is_mended(at_rest, table, behind):
    digest, name = str(digest_of("scan/3")), f"calotype_{table}"
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    said = f"UPDATE {name} SET digest = '{other}' WHERE digest = '{digest}'"
    by_hand(at_rest, said, behind=name if behind else "")
    [kept] = at_rest.blobs.rglob(f"{digest}*")
    with at_rest.open() as store:
        for _ in range(3):
            assert not store.fsck(repair=True).result().complete
            for _ in range(2):
                at_rest.clock.advance(days=40)
                with pytest.raises(Corrupt, match="nothing was let go of"):
                    store.gc(now=True)
    assert Digest.of(kept.read_bytes()) == digest


def test_what_nobody_has_is_held_once_an_index_was_made_again(at_rest):
    some = digest_of("scan/3")
    said = f"UPDATE calotype_reference SET released_at = 1 WHERE digest = '{some}'"
    by_hand(at_rest, said, behind="calotype_reference")
    with at_rest.open() as store:
        store.fsck(repair=True).result()
        assert store.gc(now=True).doomed == 0
        assert content(store, some) == KEPT["scan/3"]
        assert [each.digest for each in store.assets() if each.kept is not None] == [some]
        at_rest.clock.advance(days=40)
        assert store.gc(now=True).doomed == 1


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE calotype_asset SET filename = x'41'", "calotype_asset.filename"),
        (
            "INSERT INTO calotype_chunk (version, number, bytes) VALUES (1, 0, 'text')",
            "calotype_chunk.bytes",
        ),
    ],
)
def test_values_of_a_kind_that_nobody_writes_are_damage(at_rest, statement, told):
    by_hand(at_rest, statement)
    with at_rest.open() as store:
        assert [told in each.note for each in findings(store)] == [True]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("calotype_asset.filename", "CAST(x'41ff' AS TEXT)"),
        ("calotype_asset.metadata", "'{tag'"),
        ("calotype_asset.metadata", "'[]'"),
        ("calotype_asset.metadata", "CAST(x'7b22ff' AS TEXT)"),
        ("calotype_blob.media_type", "CAST(x'ff' AS TEXT)"),
        ("calotype_reference.owner_id", "CAST(x'41ff' || id AS TEXT)"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_row(at_rest, column, value):
    table, _, name = column.partition(".")
    digest = str(digest_of("scan/3"))
    by_hand(at_rest, f"UPDATE {table} SET {name} = {value} WHERE digest = '{digest}'")
    with closing(sqlite3.connect(at_rest.database)) as raw:
        of_reference = f"SELECT id FROM calotype_reference WHERE digest = '{digest}'"
        keys = {str(key) for (key,) in raw.execute(of_reference)}
    with at_rest.open() as store:
        told = [each.note for each in findings(store)]
        assert told and all(f"{column} of " in note for note in told)
        which = {note.split(":")[0].split(" ")[2] for note in told}
        assert which == (keys if table == "calotype_reference" else which)
        assert table == "calotype_reference" or all(digest in note for note in told)


@pytest.mark.parametrize("table", ["asset", "blob", "reference", "replica"])
def test_digests_that_are_none_are_told_and_nothing_is_lost(at_rest, table):
    digest = str(digest_of("scan/3"))
    for odd in (f"x{digest[1:]}", digest[:-1]):
        said = f"UPDATE calotype_{table} SET digest = '{odd}' WHERE digest LIKE '%{digest[1:-1]}%'"
        by_hand(at_rest, said)
        with at_rest.open() as store:
            for repair in (False, True):
                checked = store.fsck(repair=repair).result()
                assert checked.problems and not checked.complete
            with pytest.raises(Corrupt, match="nothing was let go of"):
                store.gc(now=True)
            assert table != "replica" or any(odd in each.note for each in findings(store))


def a_name(place: Place) -> None:
    """The table that assets point at is none, by their table's own words."""
    whole = place.database.read_bytes()
    there = whole.index(b"CREATE TABLE calotype_asset")
    found = whole.index(b"REFERENCES calotype_blob", there)
    whole = whole[: found + 14] + b"X" + whole[found + 15 :]
    place.database.write_bytes(whole)


def an_index(place: Place) -> None:
    """A partial index that SQLite finds all the same, and a list of indexes does not."""
    with closing(sqlite3.connect(place.database)) as raw:
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET type = 'Index' WHERE name LIKE '%reference_slot'")
        raw.commit()


@pytest.mark.parametrize("damage", [a_name, an_index])
def test_a_schema_with_other_words_hinders_no_look(at_rest, damage):
    damage(at_rest)
    with at_rest.open() as store:
        assert store.fsck().result().problems == (0 if damage is an_index else 30)
        assert all_are_there(store)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE calotype_meta SET value = '{' WHERE key = 'home'",
        """UPDATE calotype_meta SET value = '{"maRk": "a", "place": "b"}' WHERE key = 'home'""",
    ],
)
def test_notes_that_nobody_of_ours_wrote_are_the_catalogs_fault(at_rest, statement):
    by_hand(at_rest, statement)
    with at_rest.open() as store, pytest.raises(Corrupt, match="cannot be read") as caught:
        store.gc(now=True)
    assert "fsck" in caught.value.hint


def test_a_row_of_which_nothing_can_be_read_is_told_too(at_rest):
    with at_rest.open() as store:
        digest = store.put(b"of nobody").digest
    odd = "metadata = '', scope = CAST(x'41ff' AS TEXT)"
    by_hand(at_rest, f"UPDATE calotype_asset SET {odd} WHERE digest = '{digest}'")
    with at_rest.open() as store:
        told = [each.note.partition(":")[0] for each in findings(store)]
    assert f"calotype_asset.scope of A?/{digest} is no text" in told
    assert f"calotype_asset.metadata of A?/{digest} is no JSON object" in told


def test_of_what_cannot_be_read_a_hundred_are_told(at_rest):
    by_hand(at_rest, "UPDATE calotype_reference SET owner_id = CAST(x'ff' || id AS TEXT)")
    by_hand(at_rest, "UPDATE calotype_asset SET filename = CAST(x'ff' AS TEXT), metadata = ''")
    with at_rest.open() as store:
        assert [each.note for each in findings(store)][-1] == "there are more than 100 such rows"
        assert not store.fsck().result().complete


def test_of_an_applications_rows_those_are_told_that_point_at_nothing_of_ours(at_rest):
    with closing(sqlite3.connect(at_rest.database)) as raw:
        raw.execute("CREATE TABLE p (b TEXT PRIMARY KEY)")
        raw.execute("CREATE TABLE a (b TEXT REFERENCES p, c TEXT REFERENCES calotype_blob)")
        raw.execute("INSERT INTO a VALUES ('none', NULL), (NULL, ?)", ("0" * 64,))
        raw.commit()
    with at_rest.open() as store:
        told = [each.note for each in findings(store)]
        assert told == ["row 2 of a points at nothing in calotype_blob"]
        assert store.fsck().result().complete
        assert store.gc(now=True).doomed == 0


def test_a_look_leaves_the_rules_of_the_tables_as_they_are(at_rest):
    with at_rest.open() as store:
        store.set_quota("default", 10**9)
        assert store.fsck().result().problems == 0
        with store._rooms.catalog.write() as connection, pytest.raises(IntegrityError):
            connection.exec_driver_sql("UPDATE calotype_scope SET used = -1")


def test_the_file_is_looked_at_although_a_table_wants_its_applications_functions(at_rest):
    with closing(sqlite3.connect(at_rest.database)) as raw:
        raw.create_function("theirs", 1, lambda _: 1, deterministic=True)
        raw.execute("CREATE TABLE a (b TEXT CHECK (theirs(b)))")
        raw.execute("INSERT INTO a VALUES ('one')")
        raw.commit()
    change(at_rest, 36, 5)  # how many pages are free
    with at_rest.open() as store:
        assert ["the catalog is damaged" in each.note for each in findings(store)] == [True]
        with pytest.raises(Corrupt, match="nothing was let go of"):
            store.gc(now=True)


def test_what_is_mended_is_told_as_mended(at_rest):
    flip(at_rest, INDEXES[0], first_in(at_rest, INDEXES[0]).encode(), 40)
    with at_rest.open() as store:
        assert {each.action for each in findings(store)} == {""}
        assert {each.action for each in store.fsck(repair=True)} == {"mended"}


@pytest.mark.parametrize("mask", [0x01, 0x80], ids=["another letter", "no UTF-8"])
def test_a_digest_that_is_none_is_told_by_fsck_and_is_no_bad_argument(at_rest, mask):
    digest = first_in(at_rest, "calotype_blob")
    flip(at_rest, "calotype_blob", digest.encode(), 40, mask | 0x40)
    with at_rest.open() as store:
        [*found] = findings(store)
        assert found and {each.kind for each in found} == {"broken"}
        with pytest.raises(Corrupt):
            store.gc(now=True)


@pytest.mark.parametrize("verb", [lambda store: list(store.orphans())])
def test_text_that_is_no_utf8_is_damage(at_rest, verb):
    flip(at_rest, "calotype_blob", first_in(at_rest, "calotype_blob").encode(), 40, 0xC0)
    with at_rest.open() as store, pytest.raises(Corrupt, match="The catalog .*is damaged"):
        verb(store)


@pytest.mark.parametrize(
    ("table", "column", "verb"),
    [
        ("calotype_asset", "created_at", lambda store: list(store.assets())),
        ("calotype_blob", "size", lambda store: store.stat(digest_of("scan/3"))),
        ("calotype_replica", "size", lambda store: store.gc(now=True)),
        ("calotype_reference", "released_at", lambda store: store.explain(digest_of("scan/3"))),
    ],
)
def test_rows_that_nobody_can_read_are_the_catalogs_fault_and_not_the_callers(
    at_rest, table, column, verb
):
    by_hand(at_rest, f"UPDATE {table} SET {column} = 'main'")
    with at_rest.open() as store:
        with pytest.raises(Corrupt, match=f"{table}.{column} holds|cannot be read"):
            verb(store)
        assert any(f"{table}.{column} holds" in each.note for each in findings(store))
        with pytest.raises(CalotypeError, match="Not a SHA-256") as caught:
            store.stat("no digest")
        assert not isinstance(caught.value, Corrupt)


def test_an_asset_whose_metadata_a_disk_changed_is_named(at_rest):
    digest = digest_of("scan/3")
    with at_rest.open() as store:
        store.update(digest, metadata={"tag": "first"})
    by_hand(at_rest, "UPDATE calotype_asset SET metadata = 'tag' WHERE metadata <> '{}'")
    with at_rest.open() as store:
        with pytest.raises(Corrupt, match=f"The row of {digest} in scope 'default'") as caught:
            list(store.assets())
        assert "calotype_asset" in caught.value.hint


def test_a_catalog_that_other_tools_put_back_has_its_log_again_from_the_first_write_on(folder):
    with folder.open() as store:
        store.put(b"old")
    with closing(sqlite3.connect(folder.database)) as raw:
        said = list(raw.iterdump())
    for each in folder.database.parent.glob("catalog.db*"):
        each.unlink()
    with closing(sqlite3.connect(folder.database)) as raw:
        raw.executescript("\n".join(said))
    os.utime(folder.database)
    folder.database.chmod(0o644)
    folder.database.parent.chmod(0o755)
    with folder.open() as store:
        assert journal(folder) == "delete"
        assert content(store, Digest.of(b"old")) == b"old"
        warned = [each for each in examine(store) if each.subject == "rights"]
        assert [each.cure for each in warned] == [f"chmod 600 {folder.database}"]
        store.put(b"new")
        assert journal(folder) == "wal"
        folder.database.parent.chmod(0o700)
        assert [each for each in examine(store) if each.subject == "rights"] == []


def test_one_that_is_put_back_while_a_store_is_open_has_its_log_again_too(folder):
    with folder.open() as store:
        store.put(b"old")
        copy = folder.root / "copy.db"
        with closing(sqlite3.connect(folder.database)) as raw:
            raw.execute("VACUUM INTO ?", (str(copy),))
        for end in ("-wal", "-shm"):
            folder.database.with_name(f"catalog.db{end}").unlink()
        copy.replace(folder.database)
        store.put(b"new")
        assert journal(folder) == "wal"
        store.close()
        with closing(sqlite3.connect(folder.database)) as raw:
            raw.execute("PRAGMA journal_mode = DELETE")
        store.put(b"newer")
        assert journal(folder) == "wal"


def test_the_file_of_an_application_keeps_the_journal_that_it_has(shared):
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
    with shared.open() as store:
        store.put(b"new")
    assert journal(shared) == "delete"


def journal(place: Place) -> str:
    with closing(sqlite3.connect(place.database)) as raw:
        return str(raw.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_trend_that_cannot_be_written_fails_nobody(at_rest):
    with closing(sqlite3.connect(at_rest.database)) as raw:
        raw.execute("DELETE FROM calotype_usage")
        raw.execute(
            "CREATE TRIGGER mine BEFORE INSERT ON calotype_usage BEGIN "
            "SELECT RAISE(ABORT, 'UNIQUE constraint failed: calotype_usage.scope'); END"
        )
        raw.commit()
    with at_rest.open() as store:
        assert store.put(b"new").status == "created"


def change(place: Place, at: int, value: int) -> None:
    with place.database.open("r+b") as file:
        file.seek(at + 3)
        file.write(bytes([value]))


def words(place: Place, mask: int) -> None:
    whole = bytearray(place.database.read_bytes())
    found = whole.index(b"CREATE TABLE calotype_scope")
    whole[found + 2] ^= mask
    place.database.write_bytes(whole)


def a_column(place: Place) -> None:
    whole = place.database.read_bytes()
    place.database.write_bytes(whole.replace(b"kept_until BIGINT", b"keqt_until BIGINT"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: words(place, 0x42),
        lambda place: words(place, 0x80),
        lambda place: change(place, 44, 9),
        a_column,
    ],
    ids=["words", "no text", "format", "a column"],
)
def test_a_schema_that_cannot_be_read_is_a_damaged_catalog(folder, damage):
    with folder.open() as store:
        store.put(b"old")
    damage(folder)
    with folder.open() as store:
        for verb in (store.stats, lambda: store.put(b"new"), lambda: store.fsck().result()):
            with pytest.raises(Corrupt, match="The catalog .* is damaged") as caught:
                verb()
            assert str(folder.database) in str(caught.value)


VERBS: tuple[Callable[[Store], object], ...] = (
    lambda store: store.put(b"new", owner="new/1"),
    lambda store: store.gc(now=True, force=True),
    lambda store: list(store.assets()),
    lambda store: store.fsck(read_data=True).result(),
    lambda store: store.release("again/1"),
    lambda store: store.usage(),
    lambda store: store.fsck(repair=True).result(),
    lambda store: store.gc(now=True, force=True),
)


@pytest.mark.parametrize("seed", range(60))
def test_whichever_bit_a_disk_changes_nothing_that_is_kept_is_erased(at_rest, seed):
    dice = random.Random(seed)
    whole = bytearray(at_rest.database.read_bytes())
    written = [at for at, byte in enumerate(whole) if byte]
    whole[dice.choice(written)] ^= 1 << dice.randrange(8)
    at_rest.database.write_bytes(whole)
    with suppress(CalotypeError, sqlite3.DatabaseError), at_rest.open() as store:
        for verb in VERBS:
            with suppress(CalotypeError):
                verb(store)
    there = {path.name[:64] for path in at_rest.blobs.glob("sha256/*/*/*")}
    assert {str(Digest.of(data)) for data in KEPT.values()} <= there
