"""A window shows the same bytes of a file as of memory, in any order, and never many at once."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.media.window import LIMIT, Broken, Window

CONTENT = random.Random(1).randbytes(150_000)
PLACE = st.one_of(st.integers(0, 160_000), st.just(2**64))


@given(st.lists(st.tuples(PLACE, st.integers(0, 80_000)), max_size=6), st.integers(0, 170_000))
def test_any_order_of_reading_shows_the_content(reads: list[tuple[int, int]], size: int) -> None:
    memory, file = Window(CONTENT, size), Window(io.BytesIO(CONTENT), size)
    for offset, count in reads:
        expected = CONTENT[:size][offset : offset + min(count, LIMIT)]
        assert memory.at(offset, count) == expected
        assert file.at(offset, count) == expected


def test_reading_backwards_in_a_file_shows_the_content() -> None:
    file = Window(io.BytesIO(CONTENT), len(CONTENT))
    for offset in (100_000, 99_990, 5_000, 4_999, 0):
        assert file.at(offset, 20) == CONTENT[offset : offset + 20]


def test_neighbouring_reads_cost_one_read_of_the_file() -> None:
    file = io.BytesIO(CONTENT)
    window = Window(file, len(CONTENT))
    window.at(0, 8)
    file.close()
    assert window.at(8, 100) == CONTENT[8:108]


@pytest.mark.parametrize("source", [CONTENT[:9], io.BytesIO(CONTENT[:9])])
def test_taking_more_than_there_is_is_broken(source: bytes | io.BytesIO) -> None:
    window = Window(source, 9)
    assert window.take(4, 5) == CONTENT[4:9]
    with pytest.raises(Broken):
        window.take(4, 6)


def test_the_size_of_content_in_memory_is_never_overstated() -> None:
    assert Window(b"four", 9).size == 4
    assert Window(b"four", 3).size == 3


@pytest.mark.parametrize("source", [CONTENT, io.BytesIO(CONTENT)])
def test_at_most_64_kib_are_shown_at_a_time(source: bytes | io.BytesIO) -> None:
    assert Window(source, len(CONTENT)).at(3, 10**6) == CONTENT[3 : 3 + 65_536]
