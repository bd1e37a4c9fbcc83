"""Attach, release, restore, keep, renew, discard, update, and what lists show of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import content, rows

from calotype import Digest
from calotype.errors import InvalidDigest, Misconfigured, NotFound
from calotype.names import Owner


def digests(listing):
    return [item.digest for item in listing]


@pytest.fixture
def digest(store):
    return store.put(picture()).digest


# Attach


def test_attaching_is_idempotent(store, digest):
    for _ in range(3):
        assert store.attach(digest, owner="scan/9", role="original") is None
    [reference] = store.references(owner="scan/9")
    assert (reference.owner, reference.role, reference.digest, reference.scope) == (
        Owner("scan", "9"),
        "original",
        digest,
        "default",
    )
    assert rows(store, "SELECT COUNT(*) FROM calotype_reference") == [(1,)]


def test_attaching_another_digest_takes_over_the_slot(store, digest, clock):
    other = store.put(picture(1)).digest
    store.attach(digest, owner="scan/9", role="original")
    clock.advance(hours=1)
    store.attach(other, owner="scan/9", role="original")
    assert digests(store.references(owner="scan/9")) == [other]
    history = rows(store, "SELECT digest, released_at FROM calotype_reference ORDER BY id")
    assert history == [(digest, clock()), (other, None)]


def test_without_a_role_each_digest_is_a_slot_of_its_own(store, digest):
    other = store.put(picture(1)).digest
    store.attach(digest, owner="set/1")
    store.attach(other, owner="set/1")
    store.attach(other, owner="set/1")
    assert digests(store.references(owner="set/1")) == [digest, other]
    assert [ref.role for ref in store.references(owner="set/1")] == [digest, other]


def test_one_digest_may_lie_in_many_slots(store, digest):
    for role in ("a", "b"):
        store.attach(digest, owner="scan/9", role=role)
    store.attach(digest, owner="scan/10", role="a")
    assert store.stat(digest).references == 3
    assert len(list(store.references(digest=digest))) == 3


def test_attaching_what_is_not_there_is_not_found(store):
    for _ in range(2):
        with pytest.raises(NotFound):
            store.attach(Digest.of(b"nothing"), owner="scan/9")
        store.put(picture())
    assert list(store.owners()) == []


def test_attaching_from_the_trash_makes_it_visible_again(store):
    digest = store.put(picture(), owner="scan/1").digest
    store.release("scan/1")
    store.attach(digest, owner="scan/2")
    assert not store.stat(digest).trashed
    assert content(store, digest) == picture()


def test_attaching_takes_owner_objects_and_digests_as_people_write_them(store, digest):
    store.attach(f"SHA256:{digest.upper()}", owner=Owner("scan", "9"))
    assert digests(store.references(owner=Owner("scan", "9"))) == [digest]


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64])
def test_attaching_what_is_no_digest_is_refused(store, digest):
    with pytest.raises(InvalidDigest):
        store.attach(digest, owner="scan/9")


# Release


def test_releasing_lets_all_of_an_owner_go(store):
    for number in range(3):
        store.put(picture(number), owner="dataset/7")
    released = store.release("dataset/7")
    assert released.references == 3
    assert released.digests == tuple(sorted(Digest.of(picture(n)) for n in range(3)))
    assert list(store.references(owner="dataset/7")) == []
    assert list(store.assets()) == []


def test_releasing_a_role_leaves_the_others(store, digest):
    store.attach(digest, owner="scan/9", role="a")
    store.attach(digest, owner="scan/9", role="b")
    assert store.release("scan/9", role="a").digests == (digest,)
    assert [ref.role for ref in store.references(owner="scan/9")] == ["b"]


def test_releasing_from_a_set_names_the_digest_as_the_role(store, digest):
    other = store.put(picture(1)).digest
    for each in (digest, other):
        store.attach(each, owner="set/1")
    assert store.release("set/1", role=digest).references == 1
    assert digests(store.references(owner="set/1")) == [other]


def test_releasing_is_harmless_to_repeat(store, digest):
    store.attach(digest, owner="scan/9")
    assert [store.release("scan/9").references for _ in range(3)] == [1, 0, 0]
    assert store.release("nobody/0").references == 0


def test_releasing_before_there_is_a_store_does_nothing(store):
    assert store.release("scan/9").references == 0


def test_releasing_leaves_what_the_library_or_another_owner_keeps(store, digest):
    shared = store.put(picture(1), owner="scan/1").digest
    store.attach(shared, owner="scan/2")
    store.attach(digest, owner="scan/1")
    store.release("scan/1")
    assert set(digests(store.assets())) == {digest, shared}


# Restore


def test_restoring_an_owner_brings_each_role_back(store):
    for role, number in (("a", 1), ("b", 2)):
        store.put(picture(number), owner="scan/9", role=role)
    store.release("scan/9")
    back = store.restore(owner="scan/9")
    assert (back.references, len(back.digests)) == (2, 2)
    assert {ref.role: ref.digest for ref in store.references(owner="scan/9")} == {
        "a": Digest.of(picture(1)),
        "b": Digest.of(picture(2)),
    }
    assert content(store, Digest.of(picture(1))) == picture(1)


def test_restoring_brings_back_the_newest_of_a_slot(store, clock):
    for number in (1, 2, 3, 1):
        store.put(picture(number), owner="scan/9", role="a")
        clock.advance(seconds=1)
    store.release("scan/9")
    assert store.restore(owner="scan/9").digests == (Digest.of(picture(1)),)


def test_restoring_one_role_leaves_the_others(store):
    for role in ("a", "b"):
        store.put(picture(), owner="scan/9", role=role)
    store.release("scan/9")
    assert store.restore(owner="scan/9", role="b").references == 1
    assert [ref.role for ref in store.references(owner="scan/9")] == ["b"]


def test_restoring_a_slot_that_is_taken_changes_nothing(store):
    store.put(picture(1), owner="scan/9", role="a")
    store.put(picture(2), owner="scan/9", role="a")
    assert store.restore(owner="scan/9").references == 0
    assert digests(store.references(owner="scan/9")) == [Digest.of(picture(2))]


def test_restoring_an_owner_nobody_remembers_is_not_found(store, digest):
    with pytest.raises(NotFound, match="nobody/0"):
        store.restore(owner="nobody/0")


def test_restoring_after_gc_is_not_found(store):
    store.put(picture(), owner="scan/9")
    store.release("scan/9")
    store.gc(now=True)
    with pytest.raises(NotFound):
        store.restore(owner="scan/9")


def test_restoring_a_digest_keeps_it_for_itself_and_brings_no_owner_back(store):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    back = store.restore(digest)
    assert (back.references, back.digests) == (0, (digest,))
    assert store.stat(digest).kept == "library"
    assert list(store.references(digest=digest)) == []
    assert store.gc(now=True).doomed == 0


@pytest.mark.parametrize("kept", [{"owner": "scan/9"}, {"hold": "1h"}])
def test_restoring_what_is_not_in_the_trash_keeps_it_for_itself_as_well(store, clock, kept):
    digest = store.put(picture(), **kept).digest
    store.discard(digest)
    store.restore(digest)
    store.release("scan/9")
    clock.advance(days=3)
    assert store.gc(now=True).doomed == 0
    assert store.stat(digest).kept == "library"


def test_restoring_what_is_not_there_is_not_found(store, digest):
    with pytest.raises(NotFound):
        store.restore(Digest.of(b"nothing"))


def test_restore_wants_one_of_digest_and_owner(store, digest):
    with pytest.raises(Misconfigured):
        store.restore()
    with pytest.raises(Misconfigured):
        store.restore(digest, owner="scan/9")


# Keep, renew, discard, update


def test_keeping_puts_it_in_the_library(store, clock):
    digest = store.put(picture(), hold="1h").digest
    assert store.keep(digest).kept == "library"
    clock.advance(days=1)
    assert store.gc(now=True).doomed == 0


@pytest.mark.parametrize(("hold", "hours"), [("1h", 2), ("5h", 5)])
def test_renewing_takes_the_later_instant(store, clock, hold, hours):
    digest = store.put(picture(), hold="2h").digest
    assert store.renew(digest, hold=hold).kept == clock.moment + timedelta(hours=hours)


def test_renewing_counts_from_now(store, clock):
    digest = store.put(picture(), hold="2h").digest
    clock.advance(hours=1)
    assert store.renew(digest, "2h").kept == clock.moment + timedelta(hours=2)


def test_renewing_leaves_the_library_alone_and_holds_what_an_owner_has(store, digest, clock):
    assert store.renew(digest, "1h").kept == "library"
    owned = store.put(picture(1), owner="scan/9").digest
    assert store.renew(owned, "1h").kept == clock.moment + timedelta(hours=1)


@pytest.mark.parametrize("verb", ["keep", "renew", "update", "discard"])
def test_these_verbs_answer_not_found_for_what_is_not_there(store, digest, verb):
    more = {"renew": ("1h",), "update": ("name",)}.get(verb, ())
    with pytest.raises(NotFound):
        getattr(store, verb)(Digest.of(b"nothing"), *more)


@pytest.mark.parametrize("verb", ["keep", "renew", "update"])
def test_what_is_in_the_trash_is_restored_first(store, verb):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    more = {"renew": ("1h",), "update": ("name",)}.get(verb, ())
    with pytest.raises(NotFound):
        getattr(store, verb)(digest, *more)


def test_discarding_the_library_entry_leaves_references(store, digest):
    store.attach(digest, owner="scan/9", role="a")
    store.attach(digest, owner="set/1")
    discarded = store.discard(digest)
    assert [str(kept) for kept in discarded.kept_by] == ["scan/9 as a", "set/1"]
    assert {kept.kind for kept in discarded.kept_by} == {"reference"}
    assert store.stat(digest).kept is None
    assert store.gc(now=True).doomed == 0


def test_discarding_what_nothing_else_keeps_is_the_trash(store, digest):
    assert store.discard(digest).kept_by == ()
    assert store.check([digest])[digest].trashed
    assert store.discard(digest).kept_by == ()
    assert store.gc(now=True).doomed == 1


def test_discarding_ends_a_hold(store):
    digest = store.put(picture(), hold="1000d").digest
    assert store.discard(digest).kept_by == ()
    assert store.gc(now=True).doomed == 1


def test_grace_counts_from_the_discard(store, digest, clock):
    clock.advance(days=100)
    store.discard(digest)
    clock.advance(hours=23)
    assert store.gc().doomed == 0
    clock.advance(hours=2)
    assert store.gc().doomed == 1


def test_discarding_again_does_not_lengthen_the_grace(store, digest, clock):
    store.discard(digest)
    clock.advance(hours=23)
    store.discard(digest)
    clock.advance(hours=2)
    assert store.gc().doomed == 1


def test_updating_changes_what_is_given(store):
    digest = store.put(picture(), filename="a.png", metadata={"a": 1}).digest
    assert store.update(digest, filename="b.png").filename == "b.png"
    assert store.stat(digest).metadata == {"a": 1}
    assert store.update(digest, metadata={"b": 2}).metadata == {"b": 2}
    asset = store.update(digest)
    assert (asset.filename, asset.metadata) == ("b.png", {"b": 2})


def test_metadata_can_be_emptied(store):
    digest = store.put(picture(), metadata={"a": 1}).digest
    assert store.update(digest, metadata={}).metadata == {}


# What is shown


def test_check_answers_for_each_digest_in_order(store, digest):
    trashed = store.put(picture(1), owner="scan/9").digest
    store.release("scan/9")
    unknown = Digest.of(b"nothing")
    answers = store.check([unknown, digest.upper(), trashed, digest])
    assert list(answers) == [unknown, digest, trashed]
    assert answers[unknown] is None
    assert (answers[digest].trashed, answers[trashed].trashed) == (False, True)
    assert answers[digest] == store.stat(digest)


def test_check_of_nothing_and_before_there_is_a_store(store):
    assert store.check([]) == {}
    assert store.check([Digest.of(b"x")]) == {Digest.of(b"x"): None}


def test_check_takes_thousands(store, digest):
    many = [Digest.of(str(number).encode()) for number in range(5000)]
    answers = store.check([*many, digest])
    assert len(answers) == 5001 and answers[digest] is not None


def test_check_refuses_what_is_no_digest(store):
    with pytest.raises(InvalidDigest):
        store.check(["abc"])


@pytest.mark.parametrize("sort", ["recent", "size", "views", "digest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_join_up_to_the_whole_list(store, clock, sort, limit):
    for number in range(7):
        digest = store.put(noise(9 + number % 3, number)).digest
        for _ in range(number % 2):
            content(store, digest)
        if number % 2:
            clock.advance(seconds=1)
    store._rooms.accesses.flush()
    whole = digests(store.assets(sort=sort))
    assert len(whole) == 7
    pages, after = [], None
    while True:
        page = store.assets(sort=sort).page(limit, after)
        assert len(page.items) <= limit
        pages += digests(page.items)
        after = page.next
        if after is None:
            break
    assert pages == whole


def test_sorting_means_what_it_says(store, clock):
    for number, size in enumerate((300, 100, 200)):
        digest = store.put(noise(size, number)).digest
        for _ in range(number):
            content(store, digest)
        clock.advance(seconds=1)
    store._rooms.accesses.flush()
    a, b, c = (Digest.of(noise(size, n)) for n, size in enumerate((300, 100, 200)))
    assert digests(store.assets()) == digests(store.assets(sort="recent")) == [c, b, a]
    assert digests(store.assets(sort="size")) == [a, c, b]
    assert digests(store.assets(sort="views")) == [c, b, a]
    assert digests(store.assets(sort="digest")) == sorted([a, b, c])


def test_a_list_goes_on_where_after_says(store, clock):
    for number in range(5):
        store.put(picture(number))
        clock.advance(seconds=1)
    page = store.assets().page(2)
    assert digests(store.assets(after=page.next)) == digests(store.assets())[2:]


@pytest.mark.parametrize("after", ["", "nonsense", "WzFd", "bnVsbA", "\xff"])
def test_a_place_that_is_none_is_refused(store, digest, after):
    if after:
        with pytest.raises(Misconfigured):
            store.assets().page(10, after)
    else:
        assert digests(store.assets().page(10, after).items) == [digest]


def test_a_sort_or_limit_that_is_none_is_refused(store):
    with pytest.raises(Misconfigured):
        store.assets(sort="name")
    with pytest.raises(Misconfigured):
        store.assets().page(0)


def test_assets_are_chosen_by_owner_type_name_and_digest(store):
    png = store.put(picture(1), owner="scan/9", filename="Holiday_1.PNG").digest
    jpeg = store.put(picture(2, format="JPEG"), filename="50%.jpg").digest
    text = store.put(b"text", filename="notes").digest
    everything = {png, jpeg, text}
    assert set(digests(store.assets(owner="scan/9"))) == {png}
    assert set(digests(store.assets(media_type="image/png"))) == {png}
    assert set(digests(store.assets(media_type="image/*"))) == {png, jpeg}
    assert set(digests(store.assets(media_type="image"))) == set()
    assert set(digests(store.assets(q="holiday"))) == {png}
    assert set(digests(store.assets(q="%"))) == {jpeg}
    assert set(digests(store.assets(q="_"))) == {png}
    assert set(digests(store.assets(q=text[:10].upper()))) == {text}
    assert set(digests(store.assets(q=text[1:10]))) == set()
    assert set(digests(store.assets(q=""))) == everything
    assert set(digests(store.assets(q="o", media_type="image/*", owner="scan/9"))) == {png}


def test_a_name_is_found_as_it_is_written(store):
    digest = store.put(picture(), filename="ÜBUNG é.png").digest
    assert digests(store.assets(q="ÜBUNG é")) == [digest]


def test_a_name_is_found_whatever_its_case(store):
    digest = store.put(picture(), filename="ÜBUNG é.png").digest
    assert digests(store.assets(q="übung É")) == [digest]


def test_the_trash_is_listed_only_when_asked_for(store, digest):
    trashed = store.put(picture(1), owner="scan/9").digest
    store.release("scan/9")
    assert digests(store.assets()) == [digest]
    assert digests(store.assets(trashed=True)) == [trashed]
    assert all(asset.trashed for asset in store.assets(trashed=True))
    assert digests(store.assets(trashed=True, owner="scan/9")) == [trashed]
    assert digests(store.assets(trashed=True, owner="scan/1")) == []


def test_owners_are_listed_with_what_they_come_to(store):
    store.put(noise(100), owner="scan/2", role="a")
    store.put(noise(100), owner="scan/2", role="b")
    store.put(noise(50), owner="scan/1")
    store.put(noise(10), owner="set/1")
    store.put(noise(10), owner="gone/1")
    store.release("gone/1")
    shown = [(str(each.owner), each.references, each.bytes) for each in store.owners()]
    assert shown == [("scan/1", 1, 50), ("scan/2", 2, 200), ("set/1", 1, 10)]
    assert [str(each.owner) for each in store.owners(kind="set")] == ["set/1"]
    page = store.owners().page(2)
    assert [str(o.owner) for o in store.owners().page(2, page.next).items] == ["set/1"]


def test_references_come_in_pages_in_the_order_they_were_made(store):
    for number in (3, 1, 2):
        store.put(picture(number), owner="scan/9")
    wanted = [Digest.of(picture(number)) for number in (3, 1, 2)]
    page = store.references(owner="scan/9").page(2)
    rest = store.references(owner="scan/9").page(2, page.next)
    assert digests(page.items) + digests(rest.items) == wanted
    assert rest.next is None


def test_references_of_an_owner_to_a_digest(store, digest):
    store.attach(digest, owner="scan/9", role="a")
    store.attach(digest, owner="scan/8", role="a")
    store.put(picture(1), owner="scan/9", role="b")
    [reference] = store.references(owner="scan/9", digest=digest)
    assert reference.role == "a"


def test_whose_references_must_be_said(store):
    with pytest.raises(Misconfigured):
        store.references()


def test_a_prefix_names_the_one_that_begins_so(store, digest):
    assert store.resolve(digest[:6]) == store.resolve(digest[:6].upper()) == digest
    with pytest.raises(InvalidDigest):
        store.resolve(digest[:5])
    with pytest.raises(NotFound):
        store.resolve("000000" if not digest.startswith("000000") else "111111")


def test_a_prefix_of_what_is_in_the_trash_says_so(store):
    trashed = store.put(picture(1), owner="scan/9").digest
    store.release("scan/9")
    with pytest.raises(NotFound, match="in the trash") as error:
        store.resolve(trashed[:8])
    assert f"calotype restore {trashed[:8]}" in error.value.hint
    assert store.resolve(trashed[:8], trashed=True) == trashed


def test_lists_before_there_is_a_store_are_empty(store):
    assert list(store.assets()) == list(store.owners()) == []
    assert list(store.references(owner="scan/9")) == []
    assert store.usage().assets == 0 and store.usage_days() == []
    assert store.stats().blobs == 0
