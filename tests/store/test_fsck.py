"""fsck: every kind of damage is found, what can be mended is, and what is foreign is left."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import (
    backend_of,
    change,
    change_trigger,
    content,
    drop_trigger,
    findings,
    key_of,
    lose,
    objects,
    problems,
    rows,
    spoil,
    states,
    truncate,
    write,
)

from calotype import Digest
from calotype.backends import Key
from calotype.backends.markers import MARKER
from calotype.backends.memory import MemoryBackend
from calotype.errors import Corrupt, EraseLocked, Misconfigured, Unavailable
from calotype.fsck import sides, whole
from calotype.model import Check

STRAY = Key(Digest.of(b"nobody's"), "0123456789abcdef", "png")


def filled(store, count: int) -> list[Digest]:
    """So many little files."""
    many = [noise(50, number) for number in range(count)]
    store.put_many(many).result()
    return [Digest.of(data) for data in many]


def kinds(store, **options) -> list[str]:
    return [finding.kind for finding in findings(store, **options)]


@pytest.fixture
def digest(store):
    return store.put(picture()).digest


def test_a_store_that_is_none_yet_is_sound(store):
    assert store.fsck().result() == Check(0, 0, 0, {}, 0)


def test_a_sound_store_has_no_findings_and_says_what_was_looked_at(store, digest):
    store.put(picture(1), owner="scan/9")
    store.put(picture(2), hold="1h")
    run = store.fsck()
    assert list(run) == []
    assert run.result() == Check(3, 3, 0, {}, 0)
    store._rooms.catalog.clock.advance(seconds=1)
    whole = store.fsck(read_data=True).result()
    assert whole.read_bytes == sum(len(picture(number)) for number in range(3))
    assert whole.complete


def test_every_shard_is_looked_at(store):
    filled(store, 300)
    assert store.fsck().result().blobs == store.fsck().result().objects == 300
    victims = list(store.assets(sort="digest"))[::37]
    for victim in victims:
        lose(store, victim.digest)
    found = findings(store)
    assert [finding.digest for finding in found] == [victim.digest for victim in victims]
    assert {finding.kind for finding in found} == {"missing"}


# Bytes


@pytest.mark.parametrize(("harm", "kind"), [(lose, "missing"), (truncate, "corrupt")])
def test_missing_and_short_bytes_are_found_without_reading_any(store, digest, harm, kind):
    key = key_of(store, digest)
    harm(store, digest)
    [finding] = findings(store)
    assert (finding.kind, finding.digest, finding.key) == (kind, digest, str(key))
    assert (finding.backend, finding.is_problem) == ("main", True)
    assert "put the file again" in finding.action
    assert store.explain(digest).replicas[0].suspect
    assert kinds(store) == [kind]


def test_wrong_bytes_of_the_right_size_are_found_by_reading(store, digest):
    spoil(store, digest)
    assert kinds(store) == []
    assert kinds(store, read_data=True) == ["corrupt"]
    assert kinds(store) == ["corrupt"]


@pytest.mark.parametrize("harm", [lose, truncate, spoil])
def test_putting_the_file_again_mends_what_was_found(store, digest, harm):
    harm(store, digest)
    findings(store, read_data=True)
    assert store.put(picture()).status == "healed"
    store.gc(now=True)
    assert problems(store) == []
    assert findings(store) == []
    assert content(store, digest) == picture()


def test_repair_reports_nothing_mended_that_it_cannot_mend(store, digest):
    lose(store, digest)
    [finding] = findings(store, repair=True)
    assert finding.kind == "missing" and finding.is_problem
    assert store.fsck(repair=True).result().problems == 1


def test_a_blob_without_any_copy_is_found(store, digest):
    change(store, "DELETE FROM calotype_replica")
    found = findings(store)
    assert ("missing", digest) in [(finding.kind, finding.digest) for finding in found]
    assert store.put(picture()).status == "healed"
    assert content(store, digest) == picture()


def test_an_unreachable_object_is_not_called_missing(memory, monkeypatch):
    digest = memory.put(picture()).digest

    def down(*_):
        raise Unavailable("The line is dead.")

    monkeypatch.setattr(MemoryBackend, "size", down)
    monkeypatch.setattr(MemoryBackend, "scan", lambda *_: iter(()))
    [finding] = findings(memory)
    assert (finding.kind, finding.is_problem) == ("broken", True)
    assert not memory.explain(digest).replicas[0].suspect


def test_an_unreadable_object_is_not_called_corrupt(memory, monkeypatch):
    digest = memory.put(picture()).digest

    def down(*_):
        raise Unavailable("The line is dead.")

    monkeypatch.setattr(MemoryBackend, "open", down)
    [finding] = findings(memory, read_data=True)
    assert (finding.kind, finding.is_problem) == ("broken", True)
    assert not memory.explain(digest).replicas[0].suspect


# Strays and foreign objects


def test_a_stray_is_information_and_stays_for_thirty_days(store, digest, clock):
    write(store, STRAY, b"nobody's")
    [finding] = findings(store)
    assert (finding.kind, finding.key, finding.digest) == ("stray", str(STRAY), STRAY.digest)
    assert ("--recover keeps it" in finding.action, finding.is_problem) == (True, False)
    clock.advance(days=100)
    store.gc(now=True)
    assert str(STRAY) in objects(store)


def test_a_stray_of_a_blocked_file_is_kept_by_nobody(store, digest, clock):
    store.purge(STRAY.digest, block=True, reason="a request")
    write(store, STRAY, b"nobody's")
    [finding] = findings(store)
    assert (finding.kind, finding.action) == (
        "stray",
        "it is blocked: --repair has it erased in 30 days",
    )
    findings(store, recover=True)
    findings(store, repair=True)
    clock.advance(days=31)
    assert store.gc(now=True).erased == 1
    assert str(STRAY) not in objects(store)


def test_a_stray_of_a_blocked_file_is_left_to_recovery_where_the_store_is_locked(durable):
    with durable.open() as store:
        store.put(b"gone", owner="page/0")
        store.release("page/0")
        store.gc(now=True)
        backend_of(store).delete_note(MARKER)
        with pytest.raises(EraseLocked):
            store.purge(STRAY.digest, block=True, reason="a request")
        write(store, STRAY, b"nobody's")
        [stray] = [each for each in findings(store) if each.kind == "stray"]
        assert stray.action == "it is blocked: --recover sees whether it still is"


def test_repair_gives_a_stray_thirty_days(store, digest, clock):
    write(store, STRAY, b"nobody's")
    [finding] = findings(store, repair=True)
    assert "30 days" in finding.action
    clock.advance(days=29.9)
    store.gc(now=True)
    assert str(STRAY) in objects(store)
    findings(store, repair=True)
    clock.advance(days=0.2)
    assert store.gc(now=True).erased == 1
    assert str(STRAY) not in objects(store)
    assert content(store, digest) == picture()


def test_a_stray_of_a_known_digest_harms_nothing(store, digest, clock):
    stray = Key(digest, "0123456789abcdef", "png")
    write(store, stray, b"rubbish")
    findings(store, repair=True)
    assert content(store, digest) == picture()
    clock.advance(days=31)
    store.gc(now=True)
    assert content(store, digest) == picture()
    assert len(objects(store)) == 1


def test_a_stray_at_a_plain_key_never_becomes_another_files_object(store, digest):
    data = picture(7)
    plain = Key(Digest.of(data), "", "png")
    write(store, plain, b"rubbish")
    findings(store, repair=True)
    put = store.put(data)
    assert key_of(store, put.digest) != plain
    assert content(store, put.digest) == data


def test_a_file_put_where_a_stray_lies_is_whole(store, digest):
    data = picture(7)
    write(store, Key(Digest.of(data), "", "png"), b"rubbish")
    put = store.put(data)
    assert content(store, put.digest) == data
    assert problems(store) == []


@pytest.mark.parametrize(
    "name",
    [
        "README",
        "sha256/note.txt",
        "sha256/zz/zz/thing",
        "sha256/ab/cd/abcd",
        "other/" + "a" * 64,
        "sha256/00/00/" + "F" * 64,
    ],
)
def test_foreign_objects_are_reported_and_never_touched(folder, name):
    with folder.open() as store:
        store.put(picture())
        path = folder.blobs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        [finding] = findings(store, repair=True)
        assert (finding.kind, finding.key, finding.is_problem) == ("foreign", name, False)
        folder.clock.advance(days=100)
        store.gc(now=True, full=True)
        assert path.read_text() == "mine"


def test_what_is_no_file_is_neither_listed_nor_touched(folder):
    with folder.open() as store:
        store.put(picture())
        (folder.blobs / "link").symlink_to(folder.database)
        (folder.blobs / "sha256/ab").mkdir()
        (folder.blobs / "empty").mkdir()
        os.mkfifo(folder.blobs / "sha256/pipe")
        before = sorted(folder.blobs.rglob("*"))
        assert findings(store, repair=True) == []
        store.gc(now=True)
        assert sorted(folder.blobs.rglob("*")) == before


def test_temporary_files_are_no_findings(folder):
    with folder.open() as store:
        store.put(picture())
        (folder.blobs / "tmp" / ("a" * 32)).write_bytes(b"half")
        assert findings(store) == []


def test_what_is_doomed_or_being_written_is_no_stray(place):
    with place.open(erase_delay="1h") as store:
        store.put(picture(), owner="scan/9")
        store.release("scan/9")
        store.gc(now=False, grace=0)
        assert states(store, Digest.of(picture())) == ["doomed"]
        assert findings(store) == []


# Rows


def test_an_orphan_is_information(store, digest):
    store.discard(digest)
    [finding] = findings(store, repair=True)
    assert (finding.kind, finding.digest, finding.is_problem) == ("orphan", digest, False)
    assert store.check([digest])[digest].trashed


def test_a_leak_is_found_and_mended(store):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    change(store, "DELETE FROM calotype_candidate")
    assert store.gc(now=True).doomed == 0
    found = {finding.kind: finding for finding in findings(store)}
    assert (found["leak"].digest, found["leak"].is_problem) == (digest, True)
    found = {finding.kind: finding for finding in findings(store, repair=True)}
    assert (found["leak"].action, found["leak"].is_problem) == ("mended", False)
    assert "leak" not in kinds(store)
    assert store.gc(now=True).doomed == 1


def test_a_candidate_that_looks_too_late_is_a_leak(store, clock):
    digest = store.put(picture(), hold="1h").digest
    change(store, "UPDATE calotype_candidate SET look_at = look_at + 1")
    assert [(f.kind, f.digest) for f in findings(store)] == [("leak", digest)]
    findings(store, repair=True)
    assert findings(store) == []
    clock.advance(hours=2)
    assert store.gc(now=True).doomed == 1


def test_a_candidate_that_was_pushed_back_is_no_leak(store):
    store.put(picture(), hold="1h")
    change(store, "UPDATE calotype_candidate SET look_at = look_at + 1, pushed = 3600000000")
    assert findings(store) == []


def test_live_bytes_without_a_blob_are_a_leak(store):
    digest = store.put(picture()).digest
    drop_trigger(store, "calotype_blob_doom_delete")
    for table in ("asset", "candidate", "blob"):
        change(store, f"DELETE FROM calotype_{table}")
    found = [finding for finding in findings(store, repair=True) if finding.digest]
    assert [(f.kind, f.digest, f.action) for f in found] == [
        ("leak", digest, "the next gc erases it")
    ]
    assert findings(store) == []
    store.gc(now=True)
    assert objects(store) == {}


def test_bad_copies_are_told_once_and_the_others_are_read(store, clock):
    many = filled(store, 120)
    for digest in sorted(many)[:12]:
        spoil(store, digest)
    clock.advance(seconds=1)
    run = store.fsck(read_data=True)
    found = list(run)
    assert sorted(f.digest for f in found if f.kind == "corrupt") == sorted(many)[:12]
    assert len(found) == 12
    assert run.result().read_bytes == 120 * 50


def test_a_leak_of_a_hold_is_found(store, clock):
    digest = store.put(picture(), hold="1h").digest
    change(store, "DELETE FROM calotype_candidate")
    assert [(f.kind, f.digest) for f in findings(store)] == [("leak", digest)]
    findings(store, repair=True)
    clock.advance(hours=2)
    assert store.gc(now=True).doomed == 1


def test_a_leak_in_one_scope_is_found_although_another_keeps_it_for_good(store):
    ana = store.scope("user:ana")
    digest = store.put(picture()).digest
    ana.put(picture(), owner="scan/9")
    ana.release("scan/9")
    change(store, "DELETE FROM calotype_candidate")
    assert [(f.kind, f.digest) for f in findings(store)] == [("leak", digest)]
    findings(store, repair=True)
    assert store.gc(now=True).assets == 1
    assert ana.check([digest]) == {digest: None}


def test_a_blob_that_nobody_has_is_a_leak(store, digest):
    change(store, f"DELETE FROM calotype_asset WHERE digest = '{digest}'")
    change(store, "DELETE FROM calotype_candidate")
    assert "leak" in kinds(store)
    findings(store, repair=True)
    assert store.gc(now=True).doomed == 1


@pytest.mark.parametrize("state", ["writing", "doomed", "erasing"])
def test_a_copy_that_gc_has_no_date_for_is_found_and_gets_one(store, digest, state):
    change(store, "UPDATE calotype_replica SET state = ?, due_at = NULL", state)
    assert {(each.kind, each.note) for each in findings(store)} >= {
        ("leak", "gc would never erase it")
    }
    mended = [
        each for each in findings(store, repair=True) if each.note == "gc would never erase it"
    ]
    assert {each.action for each in mended} == {"mended"}
    assert "gc would never erase it" not in {each.note for each in findings(store)}
    store.gc(now=True, force=True)
    assert objects(store) == {}


def test_of_very_many_some_are_told_and_that_there_are_more(store, digest, monkeypatch):
    monkeypatch.setattr(whole, "SHOWN", 2)
    store.put_many([noise(50, number) for number in range(4)]).result()
    change(store, "UPDATE calotype_replica SET state = 'doomed', due_at = NULL")
    run = store.fsck()
    told = [each.note for each in run if each.kind == "leak"]
    assert not run.result().complete
    assert told[-1] == "there are more than 2 such copies" and len(told) == 3
    run = store.fsck(repair=True)
    assert [each.action for each in run if each.kind == "leak"] == ["mended"] * 3
    assert run.result().complete
    assert [each for each in findings(store) if each.kind == "leak"] == []


def test_of_very_many_odd_keys_some_are_told(store, monkeypatch):
    monkeypatch.setattr(whole, "SHOWN", 2)
    filled(store, 3)
    change(store, "UPDATE calotype_replica SET key = 'elsewhere/' || key")
    told = [each.note for each in findings(store)]
    assert told[-1] == "there are more than 2 such rows" and len(told) == 3


@pytest.mark.parametrize("number", [2, 3])
def test_of_very_many_results_without_an_output_some_are_told(store, digest, monkeypatch, number):
    monkeypatch.setattr(whole, "SHOWN", 2)
    for version in range(number):
        ready(store, digest, "NULL, NULL", version)
    run = store.fsck()
    told = [each.note for each in run]
    assert run.result().complete is (number == 2)
    assert told[2:] == ["there are more than 2 such rows"] * (number - 2)


def test_a_key_of_another_digest_is_told_and_the_rest_is_not_looked_at(store, digest):
    other = str(key_of(store, digest)).replace(digest[8:16], "00000000")
    change(store, "UPDATE calotype_replica SET key = ?", other)
    run = store.fsck()
    (found,) = run
    assert (found.kind, found.digest, found.is_problem) == ("broken", digest, True)
    assert repr(other) in found.note
    assert not run.result().complete


@pytest.mark.parametrize("folders", ["{0}/{0}", "{1}/{1}"])
def test_a_key_in_folders_of_another_digest_is_told(store, digest, folders):
    key, shard = str(key_of(store, digest)), (digest[:2], digest[2:4])
    other = key.replace("/".join(shard), folders.format(*shard))
    change(store, "UPDATE calotype_replica SET key = ?", other)
    (found,) = findings(store)
    assert (found.kind, found.digest, repr(other) in found.note) == ("broken", digest, True)


def test_a_key_that_is_none_says_what_to_do(store, digest):
    change(store, "UPDATE calotype_replica SET key = key || '!'")
    with pytest.raises(Corrupt, match="The catalog holds a key that is none") as error:
        content(store, digest)
    assert "Put back a copy of the catalog" in error.value.hint


def ready(store, digest, output: str, version: int = 1) -> None:
    """A derivation that is ready, with such an output."""
    change(
        store,
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash,"
        f" state, output_inline, output_digest) VALUES ('', ?, 'thumb', ?, '', 'ready', {output})",
        digest,
        str(version),
    )


@pytest.mark.parametrize("output", ["NULL, NULL", "CAST('it' AS {bytes}), '{digest}'"])
def test_a_result_without_its_one_output_is_told(store, digest, output):
    kind = "BLOB" if store._rooms.catalog.is_sqlite else "BYTEA"
    ready(store, digest, output.format(bytes=kind, digest=digest))
    (found,) = findings(store)
    assert (found.kind, found.digest) == ("broken", digest)
    assert "thumb of it is ready, and has not one output" in found.note


def test_drift_of_a_quota_is_found_and_mended(store, digest):
    store.set_quota("default", "1 MB")
    change(store, "UPDATE calotype_scope SET used = used + 5")
    [finding] = findings(store)
    assert (finding.kind, finding.is_problem) == ("drift", True)
    assert [f.action for f in findings(store, repair=True)] == ["mended"]
    assert findings(store) == []
    assert rows(store, "SELECT used FROM calotype_scope") == [(len(picture()),)]


@pytest.mark.parametrize(
    "trigger", ["calotype_reference_look_update", "calotype_blob_guard_update"]
)
def test_a_lost_trigger_is_found_and_made_again(store, digest, trigger):
    drop_trigger(store, trigger)
    [finding] = findings(store)
    assert (finding.kind, finding.is_problem) == ("broken", True)
    assert trigger in finding.note
    assert [f.action for f in findings(store, repair=True)] == ["mended"]
    assert findings(store) == []


def test_a_trigger_that_was_changed_is_found(store, digest):
    change_trigger(store, "calotype_asset_look_delete")
    assert kinds(store) == ["broken"]
    findings(store, repair=True)
    assert kinds(store) == []


def test_a_row_that_points_at_nothing_is_found(in_file):
    with in_file.open() as store:
        store.put(picture(), owner="scan/9")
        store.put(picture(1))
    with closing(sqlite3.connect(in_file.database)) as raw:
        raw.execute("DROP TRIGGER calotype_asset_guard_delete")
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute(f"DELETE FROM calotype_asset WHERE digest = '{Digest.of(picture())}'")
        raw.commit()
    with in_file.open() as store:
        notes = [finding.note for finding in findings(store) if finding.kind == "broken"]
        assert any("calotype_reference" in note for note in notes)
        assert any("trigger" in note for note in notes)
        assert store.fsck().result().problems >= 2


def test_rows_of_the_application_that_point_at_its_own_tables_are_none_of_ours(shared):
    with shared.open() as store:
        store.put(picture())
    with closing(sqlite3.connect(shared.database)) as raw:
        raw.execute("CREATE TABLE leaf (page INTEGER REFERENCES page(id))")
        raw.execute("INSERT INTO leaf VALUES (77)")
        raw.commit()
    with shared.open() as store:
        assert findings(store) == []


# Reading data


def test_the_longest_unread_come_first_and_a_budget_goes_on_the_next_time(
    store, clock, monkeypatch
):
    order = []
    for number in range(6):
        order.append(store.put(noise(50, number)).digest)
        clock.advance(seconds=10)
    read = []
    real = sides.Side._hash

    def hash_one(self, row, seen):
        read.append(row.digest)
        return real(self, row, seen)

    ticks = count(0, 0.25)
    monkeypatch.setattr(sides.Side, "_hash", hash_one)
    monkeypatch.setattr(sides.time, "monotonic", lambda: next(ticks))
    first = store.fsck(read_data=True, budget="1.5s").result()
    assert first.complete is False
    assert 0 < len(read) < 6
    clock.advance(seconds=10)
    second = store.fsck(read_data=True, budget="1h").result()
    assert second.complete is True
    assert read[:6] == order
    assert first.read_bytes + second.read_bytes == 50 * len(read)


def test_a_budget_of_nothing_reads_nothing(store, digest):
    check = store.fsck(read_data=True, budget=0).result()
    store._rooms.catalog.clock.advance(seconds=1)
    check = store.fsck(read_data=True, budget=0).result()
    assert (check.read_bytes, check.complete) == (0, False)


def test_a_store_full_of_bad_copies_is_read_to_its_end(store):
    digests = filled(store, 210)
    for bad in digests:
        spoil(store, bad)
    good = store.put(picture()).digest
    found = findings(store, read_data=True)
    assert {f.digest for f in found} == set(digests)
    assert len(found) == 210
    assert store.explain(good).verdict == "kept"


def test_a_summary_counts_findings_by_kind(store, digest):
    other = store.put(picture(1)).digest
    lose(store, digest)
    truncate(store, other)
    write(store, STRAY, b"x")
    run = store.fsck()
    assert sorted(f.kind for f in run) == ["corrupt", "missing", "stray"]
    assert run.result().findings == {"corrupt": 1, "missing": 1, "stray": 1}
    assert run.result().problems == 2


def test_fsck_without_repair_changes_no_rows_of_a_sound_store(store, digest):
    store.put(picture(1), owner="scan/9")
    before = rows(store, "SELECT * FROM calotype_replica ORDER BY key")
    findings(store)
    assert rows(store, "SELECT * FROM calotype_replica ORDER BY key") == before
    assert backend_of(store).size(key_of(store, digest)) == len(picture())


def test_strays_that_share_a_token_each_get_their_end(durable):
    with durable.open() as store:
        digests = [store.put(picture(number)).digest for number in range(3)]
        for name, digest in zip(sorted(objects(store)), sorted(digests), strict=True):
            copy = durable.blobs / name
            copy.with_name(f"{digest}~{'ab' * 8}{copy.suffix}").write_bytes(b"x")
        actions = [finding.action for finding in store.fsck(repair=True)]
        assert [action for action in actions if "30 days" in action] == actions
        assert len(actions) == 3
        assert findings(store) == []
        assert rows(store, "SELECT COUNT(*) FROM calotype_replica") == [(6,)]


def test_an_index_over_rows_that_are_doubled_by_now_is_told_and_stops_nothing(durable):
    with durable.open() as store:
        store.put(picture(), owner="scan/1", role="r")
        change(store, "DROP INDEX calotype_reference_slot")
        change(store, "DROP INDEX calotype_asset_recent")
        columns = "scope, owner_kind, owner_id, role, digest, created_at"
        change(
            store,
            f"INSERT INTO calotype_reference ({columns}) SELECT {columns} FROM calotype_reference",
        )
        found = findings(store, repair=True)
        assert [finding.action for finding in found if "asset_recent" in finding.note] == ["mended"]
        (doubled,) = [finding for finding in found if "reference_slot" in finding.note]
        assert ("there twice" in doubled.note, doubled.action) == (True, "")


def test_bytes_that_a_clock_ahead_says_were_read_are_read_again(store, clock):
    clock.advance(days=90)
    digest = store.put(picture()).digest
    clock.advance(days=-90)
    spoil(store, digest)
    assert [each.kind for each in store.fsck(read_data=True)] == ["corrupt"]


def test_a_dry_run_and_a_repair_are_not_one(store):
    digest = store.put(picture()).digest
    with pytest.raises(Misconfigured, match="A dry run repairs nothing"):
        store.fsck(repair=True, dry_run=True)
    assert content(store, digest) == picture()
