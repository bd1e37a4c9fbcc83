"""Scopes: whatever one does, another sees nothing of it (I11)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import content, objects, problems, truncate

from calotype import Digest, Scope, Store
from calotype.errors import CalotypeError, Misconfigured, NotFound

COMMON = [picture(0), picture(1), picture(2), noise(3000)]
UNKNOWN = Digest.of(b"nobody has this")


def answer(call: Any) -> Any:
    """What a call answers, errors included, as something that can be compared."""
    try:
        found = call()
    except CalotypeError as error:
        return type(error).__name__, error.code, str(error), error.hint
    return list(found) if hasattr(found, "page") else found


def everything(scope: Scope) -> dict[str, Any]:
    """What every call of the interface that looks tells ``scope``."""
    digests = [*map(Digest.of, COMMON), UNKNOWN]
    said: dict[str, Any] = {
        "check": answer(lambda: scope.check(digests)),
        "usage": answer(scope.usage),
        "usage_days": answer(scope.usage_days),
        "owners": answer(scope.owners),
        "owners of a kind": answer(lambda: scope.owners(kind="scan")),
        "of an owner": answer(lambda: _listed(scope.references(owner="scan/1"))),
    }
    for sort in ("recent", "size", "views", "digest"):
        for trashed in (False, True):
            said[f"assets {sort} {trashed}"] = answer(
                lambda sort=sort, trashed=trashed: scope.assets(sort=sort, trashed=trashed)
            )
    for query in ({"media_type": "image/*"}, {"owner": "scan/1"}, {"q": "secret"}):
        said[f"assets {query}"] = answer(lambda query=query: scope.assets(**query))
    for digest in digests:
        said[f"stat {digest}"] = answer(lambda digest=digest: scope.stat(digest))
        said[f"bytes {digest}"] = answer(lambda digest=digest: content(scope, digest))
        said[f"url {digest}"] = answer(lambda digest=digest: scope.url(digest))
        said[f"uses {digest}"] = answer(
            lambda digest=digest: _listed(scope.references(digest=digest))
        )
        said[f"prefix {digest}"] = answer(lambda digest=digest: scope.resolve(digest[:8]))
    return said


def _listed(references: Any) -> list[tuple[object, ...]]:
    return [(ref.owner, ref.role, ref.digest, ref.created_at) for ref in references]


def mine(scope: Scope) -> None:
    """A scope's own life, with something of every kind."""
    scope.put(COMMON[0], filename="mine.png", metadata={"a": 1})
    scope.put(COMMON[1], owner="scan/1", role="a")
    scope.put(COMMON[2], owner="scan/2", hold="1h")
    scope.release("scan/2")
    scope.discard(Digest.of(COMMON[2]))


def busy(scope: Scope, store: Store) -> None:
    """Another's: the same and other files, everything that can be done with them."""
    for data in COMMON:
        scope.put(data, filename="secret.png", metadata={"secret": True}, owner="scan/1", role="a")
    scope.put(noise(77, 5), filename="secret")
    for data in COMMON:
        scope.restore(Digest.of(data))
    scope.attach(Digest.of(noise(77, 5)), owner="scan/1", role="b")
    scope.update(Digest.of(noise(77, 5)), filename="secret2")
    for _ in range(3):
        content(scope, Digest.of(COMMON[3]))
    store._rooms.accesses.flush()
    scope.release("scan/1", role="b")
    store.set_quota(scope.name, "1 MB")


@pytest.fixture
def public(place):
    with place.open(public_url="https://p.example") as opened:
        yield opened


def test_nothing_of_another_scope_is_seen_through_any_call(place, tmp_path, clock):
    """All answers of A, in a store with B's activity and in one without, are the same."""
    with place.open(public_url="https://p.example") as store:
        ana, bob = store.scope("ana"), store.scope("bob")
        busy(bob, store)
        mine(ana)
        with_bob = everything(ana)
        busy(bob, store)
        still = everything(ana)
    (tmp_path / "alone").mkdir()
    with Place(place.kind, tmp_path / "alone", clock).open(public_url="https://p.example") as alone:
        mine(alone.scope("ana"))
        without_bob = everything(alone.scope("ana"))
    for said in (with_bob, still, without_bob):
        for name in [name for name in said if name.startswith("url")]:
            del said[name]
    assert with_bob == without_bob
    assert without_accesses(still) == without_accesses(with_bob)


def without_accesses(said: dict[str, Any]) -> str:
    """Looking at everything counts as looking; all else stays the same."""
    plain = {name: said[name] for name in said if "views" not in name}
    return re.sub(r"last_accessed=(None|datetime\S*\(.*?\)), access_count=\d+", "", repr(plain))


def test_references_do_not_count_those_of_others(place, tmp_path, clock):
    said = []
    for others in (0, 5):
        root = tmp_path / f"with{others}"
        root.mkdir()
        with Place(place.kind, root, clock).open() as store:
            for number in range(others):
                store.scope("bob").put(picture(number), owner="scan/1")
            ana = store.scope("ana")
            for number in range(3):
                ana.put(picture(number), owner="scan/1")
            page = ana.references(owner="scan/1").page(2)
            said.append((list(ana.references(owner="scan/1")), page))
    assert said[0] == said[1]


def test_a_first_put_is_created_whoever_had_the_bytes(public):
    public.scope("bob").put(picture())
    put = public.scope("ana").put(picture())
    assert put.status == "created"
    assert len(objects(public)) == 1


def test_a_put_of_known_bytes_answers_as_one_of_unknown_bytes_does(place, tmp_path, clock):
    with place.open() as store:
        store.scope("bob").put(picture(), filename="secret", metadata={"s": 1}, owner="x/1")
        clock.advance(hours=5)
        known = store.scope("ana").put(picture(), owner="scan/1")
        unknown = store.scope("ana").put(picture(1), owner="scan/1")
    for name in ("filename", "metadata", "kept", "references", "created_at", "access_count"):
        assert getattr(known.asset, name) == getattr(unknown.asset, name)


@pytest.mark.parametrize(
    "call",
    [
        lambda scope, digest: scope.open(digest),
        lambda scope, digest: scope.stat(digest),
        lambda scope, digest: scope.url(digest),
        lambda scope, digest: scope.attach(digest, owner="scan/1"),
        lambda scope, digest: scope.restore(digest),
        lambda scope, digest: scope.discard(digest),
        lambda scope, digest: scope.keep(digest),
        lambda scope, digest: scope.renew(digest, "1h"),
        lambda scope, digest: scope.update(digest, filename="x"),
        lambda scope, digest: scope.resolve(digest[:6]),
        lambda scope, digest: scope.restore(owner="scan/9"),
        lambda scope, digest: scope.release("scan/9"),
    ],
)
def test_what_only_another_has_is_answered_as_what_nobody_has(public, call):
    digest = public.scope("bob").put(picture(), owner="scan/9").digest
    ana = public.scope("ana")
    of_bob, of_nobody = answer(lambda: call(ana, digest)), answer(lambda: call(ana, UNKNOWN))
    masked = [str(said).replace(digest, "D").replace(UNKNOWN, "D") for said in (of_bob, of_nobody)]
    masked = [text.replace(digest[:6], "P").replace(UNKNOWN[:6], "P") for text in masked]
    assert masked[0] == masked[1]
    assert [str(each.owner) for each in public.scope("bob").owners()] == ["scan/9"]


def test_a_cross_scope_hit_still_reads_the_whole_body(public):
    public.scope("bob").put(picture())
    read = []

    def pieces():
        for at in range(0, len(picture()), 10):
            read.append(at)
            yield picture()[at : at + 10]

    public.scope("ana").put(pieces())
    assert len(read) == -(-len(picture()) // 10)


def test_a_prefix_that_only_another_shares_is_not_ambiguous(store):
    """Both digests begin alike; each scope has one of them."""
    first, second = _alike()
    store.scope("ana").put(first)
    store.scope("bob").put(second)
    prefix = Digest.of(first)[:6]
    assert Digest.of(second)[:6] == prefix
    assert store.scope("ana").resolve(prefix) == Digest.of(first)
    store.scope("ana").put(second)
    with pytest.raises(CalotypeError) as caught:
        store.scope("ana").resolve(prefix)
    assert caught.value.code == "ambiguous-prefix"
    assert "2 digests" in str(caught.value)


def _alike() -> tuple[bytes, bytes]:
    """Two contents whose digests share six characters (a birthday search)."""
    seen: dict[str, bytes] = {}
    number = 0
    while True:
        data = b"%d" % number
        prefix = Digest.of(data)[:6]
        if prefix in seen:
            return seen[prefix], data
        seen[prefix] = data
        number += 1


def test_what_one_lets_go_another_keeps(store):
    ana, bob = store.scope("ana"), store.scope("bob")
    digest = ana.put(picture(), owner="scan/1").digest
    bob.put(picture(), owner="scan/1")
    ana.release("scan/1")
    store.gc(now=True)
    with pytest.raises(NotFound):
        ana.stat(digest)
    assert content(bob, digest) == picture()
    assert problems(store) == []


def test_damage_found_by_one_is_mended_for_all(store):
    ana, bob = store.scope("ana"), store.scope("bob")
    digest = ana.put(picture()).digest
    bob.put(picture())
    truncate(store, digest)
    assert bob.put(picture()).status == "healed"
    assert content(ana, digest) == picture()
    assert ana.put(picture()).status == "duplicate"


@pytest.mark.parametrize("name", ["default", "user:ana", "a/b c", "ünïcode", "x" * 1024, "%_'\""])
def test_scopes_have_any_name(store, name):
    scope = store.scope(name)
    digest = scope.put(picture(), owner="scan/1").digest
    assert scope.name == name
    assert scope.stat(digest).scope == name
    assert [str(owner.owner) for owner in scope.owners()] == ["scan/1"]


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 1025, "\ud800"])
def test_a_scope_without_a_name_is_refused(store, name):
    with pytest.raises(Misconfigured):
        store.scope(name)


def test_a_store_may_be_another_scope_itself(durable):
    with durable.open(scope="site") as store:
        store.put(picture())
    with durable.open() as store:
        assert list(store.assets()) == []
        assert [asset.digest for asset in store.scope("site").assets()] == [Digest.of(picture())]


def test_names_alike_are_different_scopes(store):
    """supabase #830: ``images`` and ``images2``."""
    store.scope("images").put(picture(1))
    store.scope("images2").put(picture(2))
    store.scope("Images").put(picture(3))
    assert [a.digest for a in store.scope("images").assets()] == [Digest.of(picture(1))]
    assert store.scope("images").usage().assets == 1


def test_scopes_lack_what_concerns_the_whole_store(store):
    scope = store.scope("ana")
    for verb in ("gc", "plan_gc", "fsck", "purge", "explain", "stats", "set_quota", "verify_url"):
        assert not hasattr(scope, verb), verb
