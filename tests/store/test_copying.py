"""Many files copied with few transactions: none takes another along, whatever becomes of it."""

from __future__ import annotations

import threading

import pytest
from tests.store.pictures import noise
from tests.store.places import Place
from tests.store.surgery import problems, rows
from tests.store.test_postgres import session_of

from calotype import Store, copying
from calotype.catalog import Catalog, settings
from calotype.copying import Copier
from calotype.errors import Locked, Unavailable

MANY = 60


@pytest.fixture
def filled(durable, tmp_path):
    """A store of many files, with a mirror that has none of them."""
    with durable.open() as store:
        store.put_many([noise(50, number) for number in range(MANY)]).result()
        store.backends.add("two", f"file:{tmp_path}/two")
        yield store


def work_of(store: Store, name: str) -> dict[str, int]:
    """How many copies there are in a backend, by their state."""
    asked = f"SELECT state, count(*) FROM calotype_replica WHERE backend = '{name}' GROUP BY state"
    return {str(state): int(count) for state, count in rows(store, asked)}


def test_many_files_share_their_transactions(filled, monkeypatch):
    begun = []
    write = Catalog.write

    def noting(catalog, **terms):
        begun.append(1)
        return write(catalog, **terms)

    monkeypatch.setattr(Catalog, "write", noting)
    assert filled.backends.copy("two").result().copied == MANY
    assert len(begun) < MANY / 2
    assert problems(filled) == []


def test_a_damaged_one_fails_alone(filled, durable):
    bad = sorted(each.digest for each in filled.assets())[MANY // 2]
    (file,) = durable.blobs.glob(f"**/{bad}*")
    file.chmod(0o600)
    file.write_bytes(b"rotten")
    done = filled.backends.copy("two").result()
    assert (done.copied, done.failed) == (MANY - 1, 1)
    assert [str(each.digest) for each in done.failures] == [bad]
    assert work_of(filled, "two") == {"live": MANY - 1, "doomed": 1}


def test_a_damaged_one_comes_from_where_it_is_sound(filled, durable, tmp_path):
    filled.backends.copy("two").result()
    filled.backends.add("three", f"file:{tmp_path}/three")
    bad = sorted(each.digest for each in filled.assets())[MANY // 2]
    (file,) = durable.blobs.glob(f"**/{bad}*")
    file.chmod(0o600)
    file.write_bytes(b"rotten")
    done = filled.backends.copy("three").result()
    assert (done.copied, done.failed) == (MANY, 0)
    assert filled.backends.copy("main").result().copied == 1
    filled.gc(now=True)
    assert problems(filled) == []


@pytest.mark.parametrize("at", ["_intend", "_settle"])
def test_what_another_one_copied_meanwhile_is_there(filled, monkeypatch, at):
    real = getattr(Copier, at)
    first = threading.Lock()
    helped = []

    def late(copier, several):
        if len(several) > 1 and first.acquire(blocking=False):
            helped.extend(copier.copy([each.digest for each in several]))
        return real(copier, several)

    monkeypatch.setattr(Copier, at, late)
    done = filled.backends.copy("two").result()
    assert len(helped) > 1 and {each.state for each in helped} == {"copied"}
    assert (done.there, done.copied) == (len(helped), MANY - len(helped))
    assert (done.gone, done.failed) == (0, 0)
    assert work_of(filled, "two")["live"] == MANY


@pytest.mark.parametrize("at", ["_intend", "_settle"])
def test_what_fails_together_is_tried_one_by_one(filled, monkeypatch, at):
    bad = sorted(each.digest for each in filled.assets())[MANY // 2]
    real = getattr(Copier, at)

    def refusing(copier, several):
        if bad in [each.digest for each in several]:
            raise Locked("held", hint="Wait.")
        return real(copier, several)

    monkeypatch.setattr(Copier, at, refusing)
    done = filled.backends.copy("two").result()
    assert (done.copied, done.failed) == (MANY - 1, 1)
    assert [(each.digest, each.code) for each in done.failures] == [(bad, "locked")]
    assert "writing" not in work_of(filled, "two")
    monkeypatch.undo()
    assert filled.backends.copy("two").result().copied == 1
    filled.gc(now=True)
    assert problems(filled) == []


def test_what_a_transaction_holds_fails_alone(tmp_path, clock):
    place = Place("postgres", tmp_path, clock)
    with place.open() as store:
        store.put_many([noise(50, number) for number in range(MANY)]).result()
        store.backends.add("two", f"file:{tmp_path}/two")
        held = sorted(each.digest for each in store.assets())[MANY // 2]
        store._rooms.catalog.database._patience = 0.2
        with session_of(place) as (session, _, rollback):
            settings.lock_digests(session.connection(), [held])
            done = store.backends.copy("two").result()
            rollback()
        assert (done.copied, [each.digest for each in done.failures]) == (MANY - 1, [held])
        assert store.backends.copy("two").result().copied == 1


def test_a_copy_that_is_stopped_leaves_nothing_begun(filled):
    run = filled.backends.copy("two")
    next(iter(run))
    run.close()
    assert "writing" not in work_of(filled, "two")
    filled.backends.copy("two").result()
    assert work_of(filled, "two")["live"] == MANY
    filled.gc(now=True)
    assert problems(filled) == []


def test_what_is_sent_slowly_is_kept_each_second(filled, monkeypatch):
    """Of a copy that is killed no more is sent again than what a second takes."""
    begun = []
    real = Copier._intend

    def noting(copier, blobs):
        begun.append(sum(blob.size for blob in blobs))
        return real(copier, blobs)

    monkeypatch.setattr(Copier, "_intend", noting)
    monkeypatch.setattr(copying.Pace, "sent", lambda *_: None)
    one = max(each.size for each in filled.assets())
    filled.backends.copy("two", rate=4 * one).result()
    assert max(begun) <= 4 * one < sum(begun)


def test_a_place_that_is_away_costs_one_wait_and_one_row(filled, monkeypatch):
    def away(*_):
        raise Unavailable("the network is away")

    mirror = filled._rooms.mounts.named("two")
    monkeypatch.setattr(mirror.backend, "put", away)
    filled.put_many([noise(50, number) for number in range(MANY, 2 * MANY)]).result()
    assert work_of(filled, "two") == {"doomed": 1}


def test_many_bytes_do_not_wait_together(filled, monkeypatch):
    monkeypatch.setattr(copying, "BYTES", 3 * max(each.size for each in filled.assets()))
    begun = []
    real = Copier._intend
    monkeypatch.setattr(
        Copier, "_intend", lambda copier, blobs: begun.append(len(blobs)) or real(copier, blobs)
    )
    assert filled.backends.copy("two").result().copied == MANY
    assert max(begun) == 3
