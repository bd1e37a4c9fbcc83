"""Purge: gone from every scope, erased, and refused from then on."""

from __future__ import annotations

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import (
    backend_of,
    change,
    content,
    findings,
    keys,
    objects,
    problems,
    rows,
    spoil,
    states,
)

from calotype import Digest
from calotype.errors import Blocked, InvalidDigest, NotFound, Unavailable


@pytest.fixture
def digest(store):
    """A file that two scopes keep in every way."""
    digest = store.put(picture()).digest
    store.attach(digest, owner="scan/9", role="a")
    ana = store.scope("user:ana")
    ana.put(picture(), hold="100d")
    ana.attach(digest, owner="scan/1")
    ana.release("scan/1")
    store.put(picture(1))
    return digest


def test_it_is_gone_from_every_scope_and_its_bytes_are_erased(store, digest):
    report = store.purge(digest)
    assert (report.assets, report.erased, report.erased_bytes) == (2, 1, len(picture()))
    assert [item.digest for item in report.items] == [digest]
    for scope in (store, store.scope("user:ana")):
        assert scope.check([digest]) == {digest: None}
        assert list(scope.references(digest=digest)) == []
        with pytest.raises(NotFound):
            scope.open(digest)
    assert states(store, digest) == ["erased"]
    assert len(objects(store)) == 1
    assert content(store, Digest.of(picture(1))) == picture(1)
    assert problems(store) == []


def test_it_may_not_come_back(store, digest):
    store.purge(digest, reason="court order 7")
    for scope in (store, store.scope("new")):
        with pytest.raises(Blocked, match="court order 7"):
            scope.put(picture())
    assert (store.put_many([picture()]).result().failures[0].code) == "blocked"
    with pytest.raises(NotFound):
        store.restore(digest)
    with pytest.raises(NotFound):
        store.attach(digest, owner="scan/9")
    assert len(objects(store)) == 1
    assert "court order 7" in store.explain(digest).sentence
    assert store.explain(digest).blocked == "court order 7"


def test_unblocking_lets_it_in_again(store, digest):
    store.purge(digest)
    assert store.unblock(digest) is True
    assert store.unblock(digest) is False
    assert store.put(picture()).status == "created"
    assert content(store, digest) == picture()
    assert problems(store) == []


def test_without_blocking_it_may_come_back(store, digest):
    store.purge(digest, block=False)
    assert store.put(picture()).status == "created"


def test_what_was_never_here_can_be_blocked_beforehand(store, digest):
    unknown = Digest.of(picture(5))
    report = store.purge(unknown)
    assert (report.assets, report.erased) == (0, 0)
    with pytest.raises(Blocked):
        store.put(picture(5))
    assert len(objects(store)) == 2


def test_blocking_before_there_is_a_store_makes_one(place):
    with place.open() as store:
        store.purge(Digest.of(picture()))
        with pytest.raises(Blocked):
            store.put(picture())


def test_purging_what_was_never_here_without_blocking_is_not_found(store, digest):
    with pytest.raises(NotFound):
        store.purge(Digest.of(b"nothing"), block=False)


def test_purging_is_harmless_to_repeat(store, digest):
    store.purge(digest)
    again = store.purge(digest)
    assert (again.assets, again.erased, again.failed) == (0, 0, 0)


def test_what_is_no_digest_is_refused(store, digest):
    with pytest.raises(InvalidDigest):
        store.purge("abc")


def test_a_hold_and_a_grace_stop_no_purge(store):
    digest = store.put(picture(), hold="1000d").digest
    assert store.purge(digest).erased == 1


def test_the_erase_delay_stops_no_purge(place):
    with place.open(erase_delay="1000d") as store:
        digest = store.put(picture()).digest
        assert store.purge(digest).erased == 1
        assert objects(store) == {}


def test_what_was_let_go_but_not_erased_is_purged_too(place):
    with place.open(erase_delay="1000d") as store:
        digest = store.put(picture(), owner="scan/9").digest
        store.release("scan/9")
        store.gc(grace=0)
        assert states(store, digest) == ["doomed"]
        assert store.purge(digest).erased == 1
        assert objects(store) == {}


def test_every_copy_goes(store, digest):
    """One that is suspect and doomed, one that heals it."""
    spoil(store, digest)
    findings(store, read_data=True)
    store.put(picture())
    assert states(store, digest) == ["doomed", "live"]
    assert store.purge(digest).erased == 2
    assert len(objects(store)) == 1


def test_derivations_go_with_it_and_outputs_at_the_next_gc(store, digest):
    output = store.put(picture(7)).digest
    change(store, f"DELETE FROM calotype_asset WHERE digest = '{output}'")
    change(
        store,
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash,"
        f" state, output_digest) VALUES ('*', '{digest}', 'r', '1', 'h', 'ready', '{output}')",
    )
    store.purge(digest)
    assert rows(store, "SELECT COUNT(*) FROM calotype_derivation") == [(0,)]
    assert store.gc(now=True).doomed == 1
    assert problems(store) == []


def test_uploads_to_providers_go_with_it(store, digest):
    change(
        store,
        "INSERT INTO calotype_provider_upload (scope, digest, provider, state, updated_at) "
        f"VALUES ('default', '{digest}', 'pixverse', 'sending', 0)",
    )
    store.purge(digest)
    assert rows(store, "SELECT COUNT(*) FROM calotype_provider_upload") == [(0,)]


def test_bytes_that_could_not_be_erased_are_said_so_and_go_with_the_next_gc(
    store, digest, monkeypatch, clock
):
    def refuse(*_):
        raise Unavailable("Not now.")

    with monkeypatch.context() as patched:
        patched.setattr(type(backend_of(store)), "delete", refuse)
        report = store.purge(digest)
    assert (report.erased, report.failed) == (0, 1)
    with pytest.raises(NotFound):
        store.open(digest)
    clock.advance(hours=1)
    assert store.gc().erased == 1
    assert len(objects(store)) == 1


def test_a_put_under_way_does_not_bring_it_back(store, digest, monkeypatch):
    """The purge comes after the bytes were published and before the rows are settled."""
    data = noise(500)
    kind = type(backend_of(store))
    method = "publish" if hasattr(kind, "publish") else "put"
    real, purged = getattr(kind, method), []

    def slow(self, *arguments):
        real(self, *arguments)
        if not purged:
            purged.append(True)
            store.purge(Digest.of(data))

    monkeypatch.setattr(kind, method, slow)
    with pytest.raises(Blocked):
        store.put(data)
    monkeypatch.undo()
    store.gc(now=True)
    assert keys(store, Digest.of(data)) == []
    assert len(objects(store)) == 2
    assert problems(store) == []


def test_a_reader_that_is_open_reads_on(store, digest):
    with store.open(digest) as file:
        store.purge(digest)
        assert file.read() == picture()


def test_the_scopes_of_others_keep_their_room(store, digest):
    store.set_quota("user:ana", "1 MB")
    store.purge(digest)
    assert rows(store, "SELECT used FROM calotype_scope") == [(0,)]
