"""Erasing: crashes, failures, late writers, tombstones, and what killed writers leave behind."""

from __future__ import annotations

import io
import os
import stat
import time
from types import SimpleNamespace

import pytest
from tests.store.pictures import noise, picture
from tests.store.places import SECOND, Place
from tests.store.surgery import (
    backend_of,
    change,
    content,
    findings,
    keys,
    objects,
    problems,
    rows,
    states,
    write,
)

from calotype import Digest, Store, heart, intake
from calotype.backends import Key
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.errors import Unavailable
from calotype.putting import Putter


class Killed(BaseException):
    """The process ends here."""


def let_go(store: Store, data: bytes) -> str:
    digest = store.put(data, owner="scan/9").digest
    store.release("scan/9")
    return digest


def killed(*_: object, **__: object) -> None:
    raise Killed


def abandon(store: Store, monkeypatch, data: bytes, *, method: str = "publish") -> None:
    """A put whose process dies between announcing its bytes and keeping them."""
    real = getattr(LocalBackend, method)

    def last_act(self, *arguments):
        real(self, *arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(LocalBackend, method, last_act)
        patched.setattr(Putter, "withdraw", lambda *_: None)
        with pytest.raises(Killed):
            store.put(data)


# One bad key, and crashes


def test_one_poisoned_key_of_many_never_stops_a_run(store, clock, monkeypatch):
    """harbor #19991."""
    many = [noise(50, number) for number in range(600)]
    store.put_many(many, owner="dataset/7").result()
    store.release("dataset/7")
    poisoned_digest = Digest.of(many[300])
    [bad] = keys(store, poisoned_digest)
    kind, real = type(backend_of(store)), type(backend_of(store)).delete

    def poisoned(self, key):
        if key == bad:
            raise Unavailable("This one cannot be deleted.")
        real(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "delete", poisoned)
        report = store.gc(now=True)
        assert (report.doomed, report.erased, report.failed) == (600, 599, 1)
        assert store.gc(now=True).failed == 0
        clock.advance(seconds=61)
        assert store.gc(now=True).failed == 1
    assert states(store, poisoned_digest) == ["erasing"]
    clock.advance(days=1)
    assert store.gc(now=True).erased == 1
    assert objects(store) == {}


def test_a_key_that_stays_although_deleted_is_not_called_erased(store, clock, monkeypatch):
    digest = let_go(store, picture())
    with monkeypatch.context() as patched:
        patched.setattr(type(backend_of(store)), "delete", lambda *_: None)
        report = store.gc(now=True)
    assert (report.erased, report.failed) == (0, 1)
    assert states(store, digest) == ["erasing"]
    clock.advance(days=1)
    assert store.gc(now=True).erased == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_is_gone_on_with_by_the_next(store, monkeypatch, when):
    for number in range(5):
        let_go(store, noise(50, number))
    kind, real, count = type(backend_of(store)), type(backend_of(store)).delete, []

    def dying(self, key):
        count.append(key)
        if when == "after":
            real(self, key)
        if len(count) == 3:
            raise Killed
        real(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "delete", dying)
        with pytest.raises(Killed):
            store.gc(now=True)
    report = store.gc(now=True)
    assert (report.doomed, report.erased) == (0, 5)
    assert objects(store) == {}
    assert problems(store) == []


def test_putting_again_what_is_being_erased_is_a_new_object(store, monkeypatch):
    digest = let_go(store, picture())
    with monkeypatch.context() as patched:
        patched.setattr(type(backend_of(store)), "delete", killed)
        with pytest.raises(Killed):
            store.gc(now=True)
    assert store.put(picture()).status == "created"
    assert states(store, digest) == ["erasing", "live"]
    assert store.gc(now=True).erased == 1
    assert content(store, digest) == picture()


# Late writers


def test_bytes_that_arrive_late_at_an_erased_key_go_a_day_later(store, clock):
    digest = let_go(store, picture())
    [key] = keys(store, digest)
    store.gc(now=True)
    assert states(store, digest) == ["erased"]
    write(store, key, picture())
    store.gc(now=True)
    assert len(objects(store)) == 1
    clock.advance(days=1, seconds=1)
    store.gc(now=True)
    assert objects(store) == {}


def test_bytes_that_arrive_later_still_are_found_by_fsck_and_then_erased(store, clock):
    digest = let_go(store, picture())
    [key] = keys(store, digest)
    store.gc(now=True)
    clock.advance(days=2)
    store.gc(now=True)
    write(store, key, picture())
    assert [(f.kind, f.key, f.action) for f in findings(store)] == [("stray", str(key), "")]
    store.gc(now=True)
    assert len(objects(store)) == 1
    [finding] = findings(store, repair=True)
    assert "erase" in finding.action
    store.gc(now=True)
    assert objects(store) == {}


def test_a_late_write_never_harms_the_new_copy(store, clock):
    digest = let_go(store, picture())
    [old] = keys(store, digest)
    store.gc(now=True)
    store.put(picture())
    write(store, old, b"garbage from a late writer")
    assert content(store, digest) == picture()
    clock.advance(days=1, seconds=1)
    store.gc(now=True)
    assert len(objects(store)) == 1
    assert content(store, digest) == picture()


def test_a_writer_that_was_fenced_off_while_writing_writes_again(store, clock, monkeypatch):
    """Its intent grew old while the disk hung; gc erased the key; it must not answer with it."""
    kind = type(backend_of(store))
    method = "publish" if kind is LocalBackend else "put"
    real, hung = getattr(kind, method), []

    def hanging(self, *arguments):
        real(self, *arguments)
        if not hung:
            hung.append(arguments)
            clock.advance(hours=1)
            assert store.gc(now=True).intents == 1

    monkeypatch.setattr(kind, method, hanging)
    put = store.put(picture())
    assert put.status == "created"
    assert content(store, put.digest) == picture()
    assert states(store, put.digest) == ["erased", "live"]
    assert problems(store) == []


def test_a_writer_that_sends_for_long_is_not_fenced_off(memory, clock, monkeypatch):
    """Its bytes take forty minutes; gc comes by every ten."""
    seconds = SimpleNamespace(monotonic=lambda: clock() / SECOND)
    monkeypatch.setattr(heart, "time", seconds)
    real, sent = MemoryBackend.put, []

    def slow(self, key, source, size):
        data = b""
        while piece := source.read(size // 4):
            data += piece
            clock.advance(seconds=600)
            assert memory.gc(now=True).intents == 0
        sent.append(key)
        real(self, key, io.BytesIO(data), size)

    monkeypatch.setattr(MemoryBackend, "put", slow)
    put = memory.put(noise(1000), owner="scan/9")
    assert keys(memory, put.digest) == sent
    assert content(memory, put.digest) == noise(1000)
    assert problems(memory) == []


# Tombstones


def test_tombstones_of_token_keys_are_forgotten_after_thirty_days(store, clock):
    digest = let_go(store, picture())
    store.gc(now=True)
    let_go(store, picture())
    store.gc(now=True)
    assert states(store, digest) == ["erased", "erased"]
    for _ in range(29):
        clock.advance(days=1)
        store.gc()
    assert states(store, digest) == ["erased", "erased"]
    for _ in range(3):
        clock.advance(days=1)
        store.gc()
    [left] = store.explain(digest).replicas
    assert "~" not in left.key


def test_a_plain_key_is_never_used_again(store, clock):
    digest = let_go(store, picture())
    [plain] = keys(store, digest)
    assert plain.token == ""
    for _ in range(3):
        store.gc(now=True)
        clock.advance(days=40)
        store.gc(now=True)
        again = store.put(picture(), owner="scan/9")
        assert again.status == "created"
        [key] = keys(store, digest)
        assert key.token != ""
        store.release("scan/9")
    clock.advance(days=4000)
    store.gc(now=True)
    assert rows(store, "SELECT state FROM calotype_replica WHERE key NOT LIKE '%~%'") == [
        ("erased",)
    ]


def test_every_key_is_written_to_once(store):
    seen = set()
    for _ in range(10):
        digest = let_go(store, picture())
        [key] = keys(store, digest)
        assert key not in seen
        seen.add(key)
        store.gc(now=True)


# What killed writers leave


def test_an_abandoned_intent_is_erased_after_a_quarter_of_an_hour(durable, monkeypatch):
    with durable.open() as store:
        abandon(store, monkeypatch, picture())
        assert rows(store, "SELECT state FROM calotype_replica") == [("writing",)]
        assert len(objects(store)) == 1
        durable.clock.advance(seconds=14 * 60)
        assert store.gc(now=True).intents == 0
        durable.clock.advance(seconds=2 * 60)
        report = store.gc()
        assert (report.intents, report.erased) == (1, 1)
        assert objects(store) == {}
        assert problems(store) == []


def test_an_abandoned_intent_stands_in_nobodys_way(durable, monkeypatch):
    with durable.open() as store:
        abandon(store, monkeypatch, picture())
        put = store.put(picture())
        assert put.status == "created"
        assert states(store, put.digest) == ["live", "writing"]
        durable.clock.advance(hours=1)
        assert store.gc().intents == 1
        assert content(store, put.digest) == picture()
        assert len(objects(store)) == 1


def test_a_plan_shows_abandoned_intents(durable, monkeypatch):
    with durable.open() as store:
        abandon(store, monkeypatch, picture())
        durable.clock.advance(hours=1)
        [item] = store.plan_gc().items
        assert (item.action, item.reason) == ("erase", "its writer is gone")


def test_a_put_that_fails_takes_its_intent_back_at_once(durable, monkeypatch):
    with durable.open() as store:
        store.put(b"first")

        def full(*_):
            raise Unavailable("No space left on device.")

        with monkeypatch.context() as patched:
            patched.setattr(LocalBackend, "publish", full)
            with pytest.raises(Unavailable):
                store.put(picture())
        assert rows(store, "SELECT state FROM calotype_replica ORDER BY state") == [
            ("doomed",),
            ("live",),
        ]
        assert store.put(picture()).status == "created"
        store.gc(now=True)
        assert problems(store) == []
        assert len(objects(store)) == 2


def aged(path, hours: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half a file")
    moment = time.time() - hours * 3600
    os.utime(path, (moment, moment))
    return path


def test_old_temporary_files_are_reclaimed_and_young_ones_are_not(durable):
    """zot #2598: 100 GB of abandoned uploads."""
    with durable.open() as store:
        store.put(picture())
        old = aged(durable.blobs / "tmp" / ("a" * 32), 1)
        young = aged(durable.blobs / "tmp" / ("b" * 32), 0.1)
        assert store.gc().temporary == 1
        assert (old.exists(), young.exists()) == (False, True)


def test_a_temporary_file_that_is_held_open_for_hours_is_not_reclaimed(durable):
    with durable.open() as store:
        store.put(picture())

        def slowly():
            yield noise(9, 9_000_000)
            for draft in (durable.blobs / "tmp").iterdir():
                aged(draft, 5)
            assert store.gc().temporary == 0
            yield b"the end"

        put = store.put(slowly())
        assert content(store, put.digest) == noise(9, 9_000_000) + b"the end"


def resting(place):
    """Temporary files that are wholly written."""
    drafts = (place.blobs / "tmp").iterdir()
    return [each for each in drafts if not each.stat().st_mode & stat.S_IWUSR]


def test_temporary_files_that_rest_may_be_reclaimed_and_are_read_again(
    durable, tmp_path, monkeypatch
):
    paths = [tmp_path / f"{number}" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(noise(number, 5_000))

    def slowly(some):
        yield from some
        while len(drafts := resting(durable)) < len(some):
            time.sleep(0.01)
        for draft in drafts:
            aged(draft, 5)
        assert store.gc().temporary == len(some)

    with durable.open() as store:
        store.put(picture())
        for some in (paths[:1], paths[1:]):
            monkeypatch.setattr(intake, "TOGETHER", len(some))
            done = store.put_many(slowly(some)).result()
            assert (done.created, done.failures) == (len(some), ())
        for number in range(3):
            assert content(store, Digest.of(paths[number])) == noise(number, 5_000)


@pytest.mark.parametrize("error", [Unavailable("time-out"), OSError("time-out")])
def test_a_copy_that_cannot_be_read_for_the_moment_is_not_called_damaged(
    store, clock, monkeypatch, error
):
    digest = store.put(picture()).digest
    write(store, Key(digest, "0123456789abcdef", "png"), picture())
    findings(store, repair=True)
    clock.advance(days=31)

    def fails(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(type(backend_of(store)), "open", fails)
        report = store.gc(now=True)
    assert (report.erased, report.failed) == (0, 1)
    assert rows(store, "SELECT suspect_at FROM calotype_replica WHERE suspect_at > 0") == []
    clock.advance(days=1)
    assert store.gc(now=True).erased == 1
    assert content(store, digest) == picture()


def test_a_temporary_file_that_may_not_be_looked_at_ends_no_run(durable, monkeypatch):
    with durable.open() as store:
        digest = let_go(store, picture())
        aged(durable.blobs / "tmp" / ("a" * 32), 5)
        real = os.open

        def refused(path, flags, *arguments, **options):
            if path == "a" * 32:
                raise PermissionError(13, "Permission denied", path)
            return real(path, flags, *arguments, **options)

        monkeypatch.setattr(os, "open", refused)
        report = store.gc(now=True)
        assert (report.erased, report.temporary) == (1, 1)
        assert store.explain(digest).verdict == "erased"


def test_drafts_of_a_catalog_are_reclaimed(folder):
    with folder.open() as store:
        store.put(picture())
        old = aged(folder.root / "store" / ".catalog.db.0123456789ab", 1)
        young = aged(folder.root / "store" / ".catalog.db.ba9876543210", 0.1)
        other = aged(folder.root / "store" / "other", 1)
        assert store.gc().temporary == 1
        assert (old.exists(), young.exists(), other.exists()) == (False, True, True)


def test_rows_that_were_erasing_when_power_was_cut_are_erased(store):
    digest = let_go(store, picture())
    store.gc(now=True, erase_delay="1h", grace=0)
    change(store, "UPDATE calotype_replica SET state = 'erasing', due_at = 0")
    store.gc(now=True)
    assert states(store, digest) == ["erased"]
    assert objects(store) == {}


def test_a_store_copied_elsewhere_erases_only_its_own(tmp_path, clock):
    """Catalog and blobs moved together stay one store."""
    with Place("folder", tmp_path / "a", clock).open() as store:
        digest = let_go(store, picture())
        kept = store.put(picture(1)).digest
    (tmp_path / "a").rename(tmp_path / "b")
    with Place("folder", tmp_path / "b", clock).open() as store:
        assert store.gc(now=True).erased == 1
        assert content(store, kept) == picture(1)
        assert states(store, digest) == ["erased"]
