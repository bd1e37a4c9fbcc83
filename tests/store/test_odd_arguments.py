"""Arguments that make no sense, or only just: an error with a hint, or an honest answer."""

from __future__ import annotations

import io
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.store.surgery import content

from calotype import Digest
from calotype.errors import InvalidDigest, Misconfigured, Unavailable
from calotype.names import Owner


def nested(depth: int) -> dict[str, object]:
    outer: dict[str, object] = {}
    inner = outer
    for _ in range(depth):
        deeper: dict[str, object] = {}
        inner["in"] = deeper
        inner = deeper
    return outer


@pytest.mark.parametrize("digest", [None, 5, b"a" * 64, "", "main"])
def test_what_is_no_digest_is_said_to_be_none(memory, digest):
    for ask in (memory.stat, memory.open, memory.url, memory.discard, memory.explain):
        with pytest.raises(InvalidDigest):
            ask(digest)
    with pytest.raises(InvalidDigest):
        memory.check([digest])


@pytest.mark.parametrize("one", ["d" * 64, Digest("d" * 64), b"d" * 64])
def test_one_digest_is_no_list_of_them(memory, one):
    for ask in (memory.check, memory.scope("ana").check):
        with pytest.raises(Misconfigured, match="several digests") as caught:
            ask(one)
        assert caught.value.hint == "Give a list of one."
    for collect in (memory.gc, memory.plan_gc):
        with pytest.raises(Misconfigured, match="several digests"):
            collect(digests=one)
    assert memory.check(["d" * 64]) == {"d" * 64: None}
    assert memory.gc(digests=["d" * 64]).doomed == 0


@pytest.mark.parametrize("metadata", [nested(200_000), [1], {"a": float("nan")}, {"a": object()}])
def test_metadata_that_is_no_json_is_refused(memory, metadata):
    with pytest.raises(Misconfigured, match="not JSON"):
        memory.put(b"x", metadata=metadata)
    assert list(memory.assets()) == []


def test_a_hold_is_a_length_of_time_and_no_instant(memory):
    with pytest.raises(Misconfigured, match="Not a duration"):
        memory.put(b"x", hold=datetime.now(UTC))


@pytest.mark.parametrize("filename", [Path("a.png"), 7, b"a.png"])
def test_a_file_name_is_text(memory, filename):
    with pytest.raises(Misconfigured, match="file name"):
        memory.put(b"x", filename=filename)
    assert list(memory.assets()) == []


@pytest.mark.parametrize("disposition", ["a\nb", "inline\r\nSet-Cookie: a=b", "a\x7f", ""])
def test_a_disposition_ends_no_line_of_an_answer(memory, disposition):
    digest = memory.put(b"x").digest
    with pytest.raises(Misconfigured, match="disposition"):
        memory.url(digest, disposition=disposition)


@pytest.mark.parametrize("source", [{}, OrderedDict(a=b"x"), None, 5])
def test_what_holds_no_bytes_is_no_source(memory, source):
    with pytest.raises(Misconfigured, match="Cannot put"):
        memory.put(source)


@pytest.mark.parametrize("sources", [None, 5, "a.png", b"a", bytearray(b"a"), io.BytesIO(b"a")])
def test_put_many_wants_many(memory, sources):
    with pytest.raises(Misconfigured, match="several sources"):
        memory.put_many(sources)


def test_put_many_refuses_at_once_what_no_file_could_have(memory):
    with pytest.raises(Misconfigured, match="Not an owner"):
        memory.put_many([b"1"], owner="bad")
    with pytest.raises(Misconfigured, match="Not a duration"):
        memory.put_many([b"1"], hold="soon")


def test_metadata_is_compared_as_json_has_it(memory):
    memory.put(b"x", metadata={"a": 1})
    memory.put(b"x", metadata={"a": True})
    (asset,) = memory.assets()
    assert asset.metadata["a"] is True


def test_what_is_held_for_no_time_is_in_the_trash_at_once(memory):
    assert memory.put(b"x", hold=0).asset.trashed
    assert not memory.put(b"y", hold=0, owner="a/1").asset.trashed


def test_a_role_is_never_another_files_digest(memory):
    a, b = (memory.put(each).digest for each in (b"a", b"b"))
    memory.attach(a, "o/1", role=a)
    for verb in (lambda: memory.attach(a, "o/1", role=b), lambda: memory.put(b"a", "o/1", role=b)):
        with pytest.raises(Misconfigured, match="digest"):
            verb()


def test_a_place_belongs_to_its_list(memory):
    memory.put_many([b"1", b"2", b"3"], owner="a/1").result()
    place = memory.assets(sort="digest").page(1).next
    for other in (memory.assets(sort="size"), memory.owners(), memory.references(owner="a/1")):
        with pytest.raises(Misconfigured, match="Not a place"):
            other.page(1, after=place)


def test_pages_may_be_asked_for_in_any_size(memory):
    memory.put_many([b"1", b"2"]).result()
    assert len(memory.assets().page(10**30).items) == 2
    with pytest.raises(Misconfigured):
        memory.assets().page(0)


@pytest.mark.parametrize("days", [-(10**9), -5, 0, 10**9])
def test_days_may_be_any_number(memory, days):
    memory.put(b"x")
    assert len(memory.usage_days(days)) <= 1


def test_a_list_can_be_searched_for_what_no_name_can_be(memory):
    memory.put(b"x", filename="caf\udce9.png")
    assert [each.filename for each in memory.assets(q="caf\udce9")] == ["caf\\xe9.png"]
    assert list(memory.assets(q="\ud800\x00")) == []
    assert list(memory.assets(media_type="image/\udc80")) == []
    assert list(memory.owners(kind="\udc80")) == []


@pytest.mark.parametrize(("kind", "ident"), [("", "1"), ("a", ""), ("a/b", "1"), ("a", "\udc80")])
def test_an_owner_is_always_one_that_can_be_written(kind, ident):
    with pytest.raises(Misconfigured):
        Owner(kind, ident)


class Slow(io.RawIOBase):
    """A socket that is not blocking and has nothing to give."""

    def readable(self):
        return True

    def read(self, size=-1):
        return None


def test_a_source_that_has_nothing_for_now_is_not_taken_for_its_end(memory):
    with pytest.raises(Unavailable, match="for now"):
        memory.put(Slow())
    assert list(memory.assets()) == []


def test_a_reader_may_give_any_kind_of_bytes(memory):
    class Reader:
        def __init__(self):
            self.left = [bytearray(b"some "), memoryview(b"bytes"), b""]

        def read(self, size):
            return self.left.pop(0)

    assert content(memory, memory.put(Reader()).digest) == b"some bytes"


def test_a_million_tiny_chunks_cost_no_more_than_their_bytes(memory):
    import tracemalloc

    tracemalloc.start()
    done = memory.put(b"x" for _ in range(1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.blob.size == 1_000_000
    assert peak < 16_000_000


def test_verbs_that_need_a_store_make_none(place):
    with place.open() as store:
        digest = "0" * 64
        for verb in (store.discard, store.restore, lambda d: store.attach(d, "a/1")):
            with pytest.raises(Exception) as caught:
                verb(digest)
            assert caught.value.code == "not-found"
        store.set_quota("default", None)
        assert not store._rooms.catalog.exists()
