"""Marks on damaged copies: whoever did not see one does not take it off."""

from __future__ import annotations

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import (
    change,
    content,
    drop_trigger,
    hold_back,
    objects,
    problems,
    rows,
    spoil,
)

from calotype import Digest, putting
from calotype.catalog import copies, replicas
from calotype.errors import Corrupt, Locked
from calotype.fsck import sides


def test_a_mark_made_while_fsck_reads_is_not_taken_off_by_it(durable, clock, monkeypatch):
    with durable.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        clock.advance(seconds=1)
        verify = sides.Side._verified

        def beside(self, tokens):
            spoil(store, digest)
            with pytest.raises(Corrupt):
                store.open(digest).read()
            verify(self, tokens)

        monkeypatch.setattr(sides.Side, "_verified", beside)
        store.fsck(read_data=True).result()
        assert store.put(picture(), owner="scan/2").status == "healed"
        assert content(store, digest) == picture()


def test_a_mark_made_again_while_fsck_reads_is_not_taken_off_by_it(durable, monkeypatch):
    """The clock stands still: a mark is later than the one before all the same."""
    with durable.open() as store:
        digest = store.put(picture(), owner="scan/1").digest
        change(store, "UPDATE calotype_replica SET suspect_at = 1")
        read_whole = sides.Side._hash

        def beside(self, row, seen):
            found = read_whole(self, row, seen)
            spoil(store, digest)
            with pytest.raises(Corrupt):
                store.open(digest).read()
            return found

        monkeypatch.setattr(sides.Side, "_hash", beside)
        assert [finding.kind for finding in store.fsck()] == ["corrupt"]
        assert rows(store, "SELECT suspect_at > 1 FROM calotype_replica") == [(1,)]
        assert store.put(picture(), owner="scan/2").status == "healed"


def test_a_mark_made_between_probing_and_linking_is_not_passed_over(store, monkeypatch):
    digest = store.put(picture(), owner="scan/1").digest
    look = putting.probe

    def before_it_is_marked(*arguments):
        sound = look(*arguments)
        if sound:
            spoil(store, digest)
            with pytest.raises(Corrupt):
                store.open(digest).read()
        return sound

    monkeypatch.setattr(putting, "probe", before_it_is_marked)
    assert store.put(picture(), owner="scan/2").status == "healed"
    assert content(store, digest) == picture()
    assert problems(store) == []


def test_every_mark_is_later_than_the_one_before(store):
    digest = store.put(picture()).digest
    spoil(store, digest)
    marks = []
    for _ in range(3):
        with pytest.raises(Corrupt):
            store.open(digest).read()
        marks += rows(store, "SELECT suspect_at FROM calotype_replica")
    assert marks == sorted(set(marks))


def test_damage_is_told_although_nothing_can_be_written(durable, monkeypatch):
    with durable.open() as store:
        digest = store.put(picture()).digest
        spoil(store, digest)
        monkeypatch.setattr(type(store._rooms.catalog), "write", refuses)
        with pytest.raises(Corrupt):
            store.open(digest).read()


def test_a_live_copy_whose_blob_is_gone_gives_way_to_the_next_put(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
        drop_trigger(store, "calotype_blob_doom_delete")
        for table in ("asset", "blob"):
            change(store, f"DELETE FROM calotype_{table}")
        assert store.put(picture()).status == "created"
        assert content(store, digest) == picture()
        store.gc(now=True)
        assert len(objects(store)) == 1


def test_a_blob_that_the_application_holds_back_does_not_use_up_the_limit(store, clock):
    digests = sorted(store.put(picture(n), owner="scan/1").digest for n in range(3))
    hold_back(store, digests[0])
    store.release("scan/1")
    done = []
    for _ in range(3):
        clock.advance(days=2)
        done.append(store.gc(limit=1).doomed)
    assert sum(done) == 2


def test_what_had_been_replaced_is_not_brought_back_once_its_follower_was_collected(store, clock):
    store.put(picture(0), owner="scan/1", role="r")
    clock.advance(seconds=1)
    newer = store.put(picture(1), owner="scan/1", role="r").digest
    store.put(picture(2), owner="scan/1", role="other")
    clock.advance(seconds=1)
    store.release("scan/1", role="r")
    clock.advance(days=2)
    store.gc(digests=[newer])
    store.release("scan/1", role="other")
    assert store.restore(owner="scan/1").digests == (picture_digest(2),)


@pytest.mark.parametrize("size", [100, 9_000_000])
def test_a_full_read_that_is_sound_takes_a_mark_off(durable, size):
    with durable.open() as store:
        digest = store.put(noise(size)).digest
        with store._rooms.catalog.write() as connection:
            (copy,) = copies.live(connection, [digest], "main")
            replicas.suspect(connection, copy.token, store._rooms.catalog.clock())
        with store.open(digest) as file:
            assert file.read(10)
        assert store.explain(digest).replicas[0].suspect is (size > 100)
        with store.open(digest) as file:
            assert len(file.read()) == size
        assert not store.explain(digest).replicas[0].suspect
        assert store.put(noise(size)).status == "duplicate"


def test_the_grace_of_what_was_replaced_is_its_own(durable, clock):
    with durable.open() as store:
        old = store.put(b"old", owner="scan/1", role="front").digest
        clock.advance(days=3)
        new = store.put(b"new", owner="scan/1", role="front").digest
        clock.advance(hours=1)
        store.release("scan/1")
        until = store.explain(old).until
        store.gc(now=True, digests=[new])
        assert store.explain(old).until == until
        assert store.gc(full=True).doomed == 0
        assert problems(store) == []
        clock.advance(days=1)
        assert store.gc().doomed == 1


def picture_digest(number: int) -> str:
    return Digest.of(picture(number))


def refuses(*_: object, **__: object) -> None:
    raise Locked("Somebody else writes.")
