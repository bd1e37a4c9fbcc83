"""explain: for one digest what keeps it, where, and until when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.store.pictures import picture
from tests.store.surgery import change, key_of, lose

from calotype import Digest
from calotype.errors import InvalidDigest

UNKNOWN = Digest.of(b"nothing")


def kept(store, digest) -> list[str]:
    return [str(item) for item in store.explain(digest).kept_by]


def test_what_was_never_here_is_unknown(store):
    for _ in range(2):
        explained = store.explain(UNKNOWN)
        assert (explained.verdict, explained.blob, explained.scopes) == ("unknown", None, ())
        assert (explained.kept_by, explained.replicas, explained.until) == ((), (), None)
        assert explained.sentence
        store.put(picture())


def test_what_is_no_digest_is_refused(store):
    with pytest.raises(InvalidDigest):
        store.explain("abc")


def test_the_library_keeps_for_good(store):
    put = store.put(picture())
    explained = store.explain(put.digest)
    assert (explained.verdict, explained.until) == ("kept", None)
    assert kept(store, put.digest) == ["the library"]
    assert explained.sentence == "Kept by the library."
    assert explained.blob == put.blob
    [replica] = explained.replicas
    assert (replica.backend, replica.key, replica.state, replica.suspect) == (
        "main",
        str(key_of(store, put.digest)),
        "live",
        False,
    )


def test_a_hold_keeps_until_its_end(store, clock):
    digest = store.put(picture(), hold="2h").digest
    explained = store.explain(digest)
    assert explained.verdict == "kept"
    assert explained.until == clock.moment + timedelta(hours=2)
    assert f"{explained.until:%Y-%m-%d %H:%M:%S}Z" in explained.sentence


def test_owners_keep_and_are_named_with_their_roles(store):
    digest = store.put(picture(), owner="scan/9", role="original").digest
    store.attach(digest, owner="dataset/7")
    assert kept(store, digest) == ["scan/9 as original", "dataset/7"]
    assert store.explain(digest).until is None


def test_a_hold_and_an_owner_keep_without_an_end(store):
    digest = store.put(picture(), owner="scan/9", hold="1h").digest
    assert store.explain(digest).until is None
    assert {item.kind for item in store.explain(digest).kept_by} == {"hold", "reference"}


def test_of_two_holds_in_two_scopes_the_later_end_is_told(store, clock):
    digest = store.put(picture(), hold="1h").digest
    store.scope("ana").put(picture(), hold="3h")
    assert store.explain(digest).until == clock.moment + timedelta(hours=3)


def test_the_trash_has_an_end(store, clock):
    digest = store.put(picture(), owner="scan/9").digest
    clock.advance(hours=5)
    store.release("scan/9")
    explained = store.explain(digest)
    assert explained.verdict == "trash"
    assert explained.until == clock.moment + timedelta(hours=24)
    assert "trash" in explained.sentence
    [scope] = explained.scopes
    assert (scope.scope, scope.kept_by, scope.until) == ("default", (), explained.until)


def test_after_the_grace_it_is_garbage_and_gc_agrees(store, clock):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    clock.advance(hours=23, seconds=3599)
    assert store.explain(digest).verdict == "trash"
    assert store.gc().doomed == 0
    clock.advance(seconds=2)
    assert store.explain(digest).verdict == "garbage"
    assert store.gc().doomed == 1
    assert store.explain(digest).verdict == "erased"


def test_a_passed_hold_is_the_trash_from_its_end_on(store, clock):
    digest = store.put(picture(), hold="2h").digest
    end = store.explain(digest).until
    clock.advance(hours=3)
    explained = store.explain(digest)
    assert (explained.verdict, explained.until) == ("trash", end + timedelta(hours=24))


def test_what_was_let_go_is_doomed_until_it_is_erased(place):
    with place.open(erase_delay="1h") as store:
        digest = store.put(picture(), owner="scan/9").digest
        store.release("scan/9")
        store.gc(grace=0)
        explained = store.explain(digest)
        assert (explained.verdict, explained.blob) == ("doomed", None)
        assert [replica.state for replica in explained.replicas] == ["doomed"]
        store.gc(now=True)
        assert store.explain(digest).verdict == "erased"


def test_each_scope_is_explained_by_itself(store):
    digest = store.put(picture(), owner="scan/9").digest
    store.scope("ana").put(picture())
    store.release("scan/9")
    explained = store.explain(digest)
    assert explained.verdict == "kept"
    assert [(s.scope, [str(k) for k in s.kept_by]) for s in explained.scopes] == [
        ("ana", ["the library"]),
        ("default", []),
    ]


def test_a_damaged_copy_is_shown(store):
    digest = store.put(picture()).digest
    lose(store, digest)
    store.fsck().result()
    assert store.explain(digest).replicas[0].suspect
    store.put(picture())
    assert [(r.state, r.suspect) for r in store.explain(digest).replicas] == [
        ("doomed", True),
        ("live", False),
    ]


def test_a_blob_that_nobody_ever_had_is_garbage(store):
    digest = store.put(picture()).digest
    change(store, "DELETE FROM calotype_asset")
    assert store.explain(digest).verdict == "garbage"


def test_many_keepers_are_summed_up(store):
    digest = store.put(picture()).digest
    for number in range(9):
        store.attach(digest, owner=f"scan/{number}")
    explained = store.explain(digest)
    assert len(explained.kept_by) == 10
    assert "7 more" in explained.sentence


def test_explaining_makes_nothing(durable):
    with durable.open() as store:
        assert store.explain(UNKNOWN).verdict == "unknown"
        assert not durable.blobs.exists()


def test_a_verdict_of_kept_or_trash_is_never_collected_by_an_ordinary_gc(store, clock):
    """explain and gc say the same at every hour of a day and a half."""
    digests = {
        "owner": store.put(picture(1), owner="scan/1").digest,
        "hold": store.put(picture(2), hold="6h").digest,
        "library": store.put(picture(3)).digest,
        "column-less": store.put(picture(4), owner="scan/4", hold="3h").digest,
    }
    store.release("scan/1")
    for _ in range(36):
        verdicts = {name: store.explain(digest).verdict for name, digest in digests.items()}
        planned = {item.digest for item in store.plan_gc().items if item.action == "doom"}
        assert planned == {
            digest for name, digest in digests.items() if verdicts[name] == "garbage"
        }
        clock.advance(hours=1)
    assert verdicts == {
        "owner": "garbage",
        "hold": "garbage",
        "library": "kept",
        "column-less": "kept",
    }
