"""Open: the right bytes or an error, whole, in ranges, and while the store changes."""

from __future__ import annotations

import io
import os
import threading
from types import SimpleNamespace

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import (
    backend_of,
    content,
    findings,
    key_of,
    lose,
    problems,
    rows,
    spoil,
    truncate,
    write,
)

from calotype import Digest, accesses
from calotype.backends.memory import MemoryBackend
from calotype.errors import Corrupt, InvalidDigest, Misconfigured, NotFound, Unavailable
from calotype.staging import SMALL

BIG = SMALL + (3 << 20) + 7
LARGE = noise(BIG)
SIZES = pytest.mark.parametrize("data", [picture(), LARGE], ids=["small", "large"])


@pytest.fixture
def large(store):
    return store.put(io.BytesIO(LARGE)).digest


@SIZES
def test_a_file_is_read_in_any_pieces(store, data):
    digest = store.put(data).digest
    with store.open(digest) as file:
        pieces = list(iter(lambda: file.read(1_234_567), b""))
    assert b"".join(pieces) == data
    with store.open(digest) as file:
        buffer = bytearray(len(data) + 9)
        seen = 0
        while count := file.readinto(memoryview(buffer)[seen:]):
            seen += count
        assert bytes(buffer[:seen]) == data


@SIZES
def test_a_file_is_seekable(store, data):
    with store.open(store.put(data).digest) as file:
        assert (file.readable(), file.seekable()) == (True, True)
        assert file.seek(0, os.SEEK_END) == len(data)
        assert file.read() == b""
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.seek(10) == file.tell() == 10
        assert file.read(7) == data[10:17]
        assert file.seek(3, os.SEEK_CUR) == 20
        assert file.read(1) == data[20:21]
        file.seek(0)
        assert file.read() == data


@SIZES
@pytest.mark.parametrize("whence", [3, 4, 9, -1])
def test_there_are_three_places_to_seek_from(store, data, whence):
    with store.open(store.put(data).digest) as file:
        with pytest.raises(ValueError, match=f"{whence}"):
            file.seek(0, whence)
        assert file.read() == data


@SIZES
@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 10), (5, None), (None, 9), (5, 5), (20, 21), (0, 10**12), (10**12, None), (None, None)],
)
def test_a_range_is_what_a_slice_is(store, data, start, stop):
    digest = store.put(data).digest
    with store.open(digest, start, stop) as file:
        assert file.read() == data[start:stop]
        assert file.seek(0) == 0
        assert file.read(3) == data[start:stop][:3]


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (None, -1), (7, 6)])
def test_a_range_that_is_none_is_refused(store, start, stop):
    with pytest.raises(Misconfigured):
        store.open(store.put(picture()).digest, start, stop)


@pytest.mark.parametrize("data", [b"", picture()])
def test_an_empty_range_is_empty(store, data):
    with store.open(store.put(data).digest, 0, 0) as file:
        assert file.read() == b""


def test_what_is_not_there_is_not_found(store):
    for _ in range(2):
        with pytest.raises(NotFound):
            store.open(Digest.of(b"nothing"))
        store.put(picture())


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63])
def test_what_is_no_digest_is_refused(store, text):
    with pytest.raises(InvalidDigest):
        store.open(text)


def test_a_digest_is_read_as_people_write_it(store):
    digest = store.put(picture()).digest
    assert content(store, f"sha256:{digest.upper()}") == picture()


def test_what_is_in_the_trash_is_not_found(store):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    with pytest.raises(NotFound) as caught:
        store.open(digest)
    assert "restored for 24h" in caught.value.hint


def test_small_wrong_bytes_never_come_out(store):
    digest = store.put(picture()).digest
    spoil(store, digest)
    with pytest.raises(Corrupt):
        store.open(digest)
    with pytest.raises(Corrupt):
        store.open(digest)


def test_large_wrong_bytes_never_end_well(store, large):
    spoil(store, large)
    out = b""
    with store.open(large) as file, pytest.raises(Corrupt):
        while piece := file.read(1 << 20):
            out += piece
    assert len(out) < BIG


def test_large_wrong_bytes_are_refused_to_who_reads_all_at_once(store, large):
    spoil(store, large)
    with store.open(large) as file, pytest.raises(Corrupt):
        file.read()


@pytest.mark.parametrize("at", [0, SMALL, BIG - 1])
def test_one_wrong_bit_anywhere_in_a_large_file_is_noticed(folder, at):
    with folder.open() as store:
        digest = store.put(LARGE).digest
        harmed = bytearray(LARGE)
        harmed[at] ^= 1
        write(store, key_of(store, digest), bytes(harmed))
        with store.open(digest) as file, pytest.raises(Corrupt):
            file.read()


@pytest.mark.parametrize("looks", [[(0, 2)], [(-1, 2), (0, 0)], [(5, 0), (0, 1), (0, 0)]])
def test_looking_around_first_spoils_no_verification(store, large, looks):
    with store.open(large) as file:
        for offset, whence in looks:
            file.seek(offset, whence)
            file.read(100)
        file.seek(0)
        assert file.read() == LARGE
    spoil(store, large)
    with store.open(large) as file:
        for offset, whence in looks:
            file.seek(offset, whence)
            file.read(100)
        file.seek(0)
        with pytest.raises(Corrupt):
            file.read()


@SIZES
@pytest.mark.parametrize("harm", [truncate, lose])
def test_short_and_missing_bytes_are_refused_and_marked(store, data, harm):
    digest = store.put(data).digest
    harm(store, digest)
    with pytest.raises(Corrupt, match=digest):
        content(store, digest)
    assert store.explain(digest).replicas[0].suspect
    assert store.put(data).status == "healed"
    assert content(store, digest) == data


@SIZES
def test_bytes_that_grew_are_refused(store, data):
    digest = store.put(data).digest
    write(store, key_of(store, digest), data + b"!")
    with pytest.raises(Corrupt):
        content(store, digest)


def test_a_large_file_that_shrinks_while_it_is_read_does_not_end_well(folder):
    with folder.open() as store:
        digest = store.put(LARGE).digest
        path = backend_of(store).path(key_of(store, digest))
        os.chmod(path, 0o600)
        with store.open(digest) as file, pytest.raises(Corrupt):
            file.read(1 << 20)
            os.truncate(path, 5 << 20)
            while file.read(1 << 20):
                pass


def test_a_range_of_a_known_bad_copy_is_refused(store):
    digest = store.put(picture()).digest
    spoil(store, digest)
    with pytest.raises(Corrupt):
        store.open(digest)
    with pytest.raises(Corrupt):
        store.open(digest, 0, 5)


def test_a_range_of_a_truncated_copy_is_refused(store):
    digest = store.put(picture()).digest
    truncate(store, digest)
    with pytest.raises(Corrupt):
        store.open(digest, 0, 5)


def test_a_copy_that_reads_whole_again_loses_its_mark(store):
    digest = store.put(picture()).digest
    key = key_of(store, digest)
    spoil(store, digest)
    with pytest.raises(Corrupt):
        store.open(digest)
    write(store, key, picture())
    assert findings(store) == []
    assert not store.explain(digest).replicas[0].suspect
    assert store.put(picture()).status == "duplicate"


@SIZES
def test_a_reader_outlives_the_file(store, data):
    digest = store.put(data, owner="scan/9").digest
    with store.open(digest) as file:
        first = file.read(10)
        store.release("scan/9")
        assert store.gc(now=True).erased == 1
        assert first + file.read() == data


@SIZES
def test_two_readers_do_not_disturb_each_other(store, data):
    digest = store.put(data).digest
    with store.open(digest) as one, store.open(digest) as two:
        assert one.read(100) + one.read() == two.read() == data


def test_an_unreachable_backend_makes_nothing_missing_or_suspect(memory, monkeypatch):
    digest = memory.put(picture()).digest

    def down(*_: object) -> None:
        raise Unavailable("The line is dead.")

    for method in ("open", "size"):
        monkeypatch.setattr(MemoryBackend, method, down)
    with pytest.raises(Unavailable):
        memory.open(digest)
    with pytest.raises(Unavailable):
        memory.open(digest, 0, 3)
    monkeypatch.undo()
    assert not memory.explain(digest).replicas[0].suspect
    assert content(memory, digest) == picture()


def test_opening_counts_and_looking_does_not(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
        for _ in range(3):
            content(store, digest)
        store.stat(digest), store.check([digest]), store.explain(digest), list(store.assets())
    with durable.open() as store:
        asset = store.stat(digest)
        assert (asset.access_count, asset.last_accessed) == (3, durable.clock.moment)


def test_urls_count_as_accesses(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
        store.url(digest)
    with durable.open() as store:
        assert store.stat(digest).access_count == 1


def test_accesses_are_written_once_a_minute(place, monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(accesses, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    with place.open() as store:
        digest = store.put(picture()).digest
        counted = []
        for seconds[0] in (59.0, 61.0, 120.0, 122.0):
            store.open(digest).close()
            counted += rows(store, "SELECT access_count FROM calotype_asset")
        assert counted == [(0,), (2,), (2,), (4,)]


def test_a_failed_opening_counts_for_nothing(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
        lose(store, digest)
        with pytest.raises(Corrupt):
            store.open(digest)
    with durable.open() as store:
        assert store.stat(digest).access_count == 0


def test_reading_survives_bytes_that_move_to_another_key_meanwhile(store, monkeypatch):
    """Between looking up the key and opening it, the blob is collected and put again."""
    digest = store.put(picture(), owner="scan/9").digest
    kind = type(backend_of(store))
    real = kind.open
    moved = []

    def late(self, key, *rest):
        if not moved:
            moved.append(key)
            store.release("scan/9")
            store.gc(now=True)
            store.put(picture())
        return real(self, key, *rest)

    monkeypatch.setattr(kind, "open", late)
    assert content(store, digest) == picture()
    assert moved != [key_of(store, digest)]
    assert rows(store, "SELECT COUNT(*) FROM calotype_replica WHERE suspect_at > 0") == [(0,)]


def test_many_threads_read_at_once(durable):
    with durable.open() as store:
        pairs = {store.put(picture(n)).digest: picture(n) for n in range(4)}
        wrong: list[object] = []

        def read() -> None:
            try:
                for digest, data in list(pairs.items()) * 10:
                    if content(store, digest) != data:
                        wrong.append(digest)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert problems(store) == []
