"""Digests: made from any bytes, read as people write them, and never anything but 64 hex."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.digest import CHUNK, Digest, digest_many, digest_prefix
from calotype.errors import InvalidDigest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
MILLION_A = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

NO_DIGEST = [
    "",
    "abc",
    ABC[:63],
    ABC + "0",
    ABC[:63] + "g",
    ABC[:63] + "\u0661",
    ABC[:63] + "\uff11",
    f"{ABC[:32]} {ABC[32:]}",
    f"{ABC[:32]}-{ABC[33:]}",
    f"md5:{ABC[:32]}",
    f"sha512:{ABC}",
    f"sha256:sha256:{ABC}",
    f"sha256-{ABC}",
    f"0x{ABC}",
    f"../{ABC}",
    f"{ABC}\x00",
]


class Dribble(io.RawIOBase):
    """A file that answers with less than it is asked for, and tells what it was asked for."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._rest, self._piece = content, piece
        self.asked: list[int] = []

    def read(self, size: int = -1) -> bytes:
        self.asked.append(size)
        taken, self._rest = self._rest[: self._piece], self._rest[self._piece :]
        return taken


@pytest.mark.parametrize(
    ("content", "digest"), [(b"", EMPTY), (b"abc", ABC), (b"a" * 1_000_000, MILLION_A)]
)
def test_a_digest_is_the_sha256_that_the_standard_gives(content, digest):
    assert Digest.of(content) == digest


@given(st.binary(max_size=3000))
def test_every_kind_of_bytes_has_the_same_digest(content):
    expected = hashlib.sha256(content).hexdigest()
    assert Digest.of(content) == expected
    assert Digest.of(bytearray(content)) == expected
    assert Digest.of(memoryview(content)) == expected
    assert Digest.of(io.BytesIO(content)) == expected


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_a_file_is_hashed_to_its_end_whatever_its_size(tmp_path, size):
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert Digest.of(path) == Digest.of(str(path)) == expected
    with path.open("rb") as file:
        assert Digest.of(file) == expected


def test_an_open_file_is_hashed_from_where_it_stands_and_left_open_at_its_end():
    file = io.BytesIO(b"xyzabc")
    file.seek(3)
    assert Digest.of(file) == ABC
    assert not file.closed
    assert file.read() == b""


def test_short_reads_are_no_end():
    file = Dribble(b"a" * 1_000_000, piece=4097)
    assert Digest.of(file) == MILLION_A
    assert set(file.asked) == {CHUNK}


def test_what_cannot_be_read_says_so_as_the_system_does(tmp_path):
    with pytest.raises(FileNotFoundError):
        Digest.of(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        Digest.of(str(tmp_path))


def test_text_has_no_digest():
    with pytest.raises(TypeError):
        Digest.of(io.StringIO("abc"))


@pytest.mark.parametrize(
    "text", [ABC, ABC.upper(), f"sha256:{ABC}", f"SHA256:{ABC.upper()}", f"  {ABC}\n"]
)
def test_a_digest_is_read_as_people_write_it(text):
    assert Digest.parse(text) == ABC
    assert type(Digest.parse(text)) is Digest


@pytest.mark.parametrize("text", NO_DIGEST)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidDigest, match="Not a SHA-256 digest"):
        Digest.parse(text)
    with pytest.raises(InvalidDigest):
        Digest(text)


@pytest.mark.parametrize("text", [ABC.upper(), f"sha256:{ABC}", f" {ABC}", f"{ABC}\n"])
def test_making_one_is_stricter_than_parsing(text):
    with pytest.raises(InvalidDigest):
        Digest(text)


@given(st.text())
def test_no_text_but_a_digest_passes_and_no_refusal_repeats_all_of_it(text):
    try:
        assert len(Digest.parse(text)) == 64
    except InvalidDigest as error:
        assert len(str(error)) < 1000
        assert error.hint


def test_a_digest_is_a_string_in_every_respect():
    digest = Digest(ABC)
    assert digest == ABC
    assert hash(digest) == hash(ABC)
    assert {digest: 1}[ABC] == 1
    assert str(digest) == f"{digest}" == ABC
    assert json.dumps({"digest": digest}) == json.dumps({"digest": ABC})
    assert (Path("x") / digest).name == ABC
    assert sorted([Digest(MILLION_A), Digest(ABC)]) == [ABC, MILLION_A]


def test_a_digest_of_a_digest_is_itself():
    digest = Digest(ABC)
    assert Digest(digest) is digest


@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]
)
def test_a_digest_stays_one_when_it_travels(travel):
    there = travel(Digest(ABC))
    assert there == ABC
    assert type(there) is Digest


def test_a_digest_can_be_given_nothing_more():
    with pytest.raises(AttributeError):
        Digest(ABC).note = "x"


# Prefixes


@pytest.mark.parametrize("text", [ABC[:6], ABC[:6].upper(), f" sha256:{ABC[:6]}\n"])
def test_six_characters_are_a_prefix(text):
    assert digest_prefix(text) == ABC[:6]


def test_a_whole_digest_is_a_prefix_of_itself():
    assert digest_prefix(f"sha256:{ABC}") == ABC


@pytest.mark.parametrize(
    "text", ["", "ba781", "sha256:ba781", "ba781g", "ba78%", "ba781_", ABC + "0"]
)
def test_less_more_or_other_characters_are_no_prefix(text):
    with pytest.raises(InvalidDigest, match="prefix"):
        digest_prefix(text)


# Many


@pytest.fixture
def files(tmp_path) -> list[Path]:
    for number in range(20):
        (tmp_path / f"{number:02}").write_bytes(b"%d" % number)
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_many_files_come_back_in_the_order_they_were_given(files, threads):
    wanted = [*reversed(files), str(files[3])]
    found = list(digest_many(wanted, threads=threads))
    assert [path for path, _ in found] == wanted
    assert [digest for _, digest in found] == [Digest.of(path) for path in wanted]


def test_a_file_that_cannot_be_read_stops_no_other(files, tmp_path):
    wanted = [files[0], tmp_path / "nothing", tmp_path, files[1]]
    found = [digest for _, digest in digest_many(wanted)]
    assert (found[0], found[3]) == (Digest.of(files[0]), Digest.of(files[1]))
    assert isinstance(found[1], FileNotFoundError)
    assert isinstance(found[2], IsADirectoryError)


def test_of_no_files_there_are_no_digests():
    assert list(digest_many([])) == []


def test_leaving_early_leaves_no_thread_behind(files):
    before = set(threading.enumerate())
    found = digest_many(files * 50)
    assert next(found)[1] == Digest.of(files[0])
    found.close()
    assert not set(threading.enumerate()) - before


def test_two_files_are_read_at_once(files, monkeypatch):
    together, read = threading.Barrier(2), Digest.of

    def reading(path):
        together.wait(10)
        return read(path)

    monkeypatch.setattr(Digest, "of", reading)
    found = digest_many(files[:2], threads=2)
    assert [digest for _, digest in found] == [read(b"0"), read(b"1")]
