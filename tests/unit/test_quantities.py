"""Durations, sizes and instants: read as people write them, refused where they cannot be."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.errors import Misconfigured
from calotype.quantities import (
    FOREVER,
    SECOND,
    at,
    duration,
    human_duration,
    human_size,
    now,
    size,
    when,
)

HOUR = 3600 * SECOND
DAY = 24 * HOUR

# Durations


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("24h", DAY),
        ("90s", 90 * SECOND),
        ("90", 90 * SECOND),
        ("15m", 900 * SECOND),
        ("1.5d", 36 * HOUR),
        ("7d", 7 * DAY),
        ("2w", 14 * DAY),
        ("250ms", SECOND // 4),
        ("3us", 3),
        ("  24 h ", DAY),
        ("0", 0),
        ("0s", 0),
        (0, 0),
        (90, 90 * SECOND),
        (1.5, 3 * SECOND // 2),
        (1e-6, 1),
        (timedelta(hours=24), DAY),
        (timedelta(microseconds=1), 1),
        (timedelta(0), 0),
    ],
)
def test_a_duration_is_written_in_many_ways(written, expected):
    assert duration(written) == expected
    assert type(duration(written)) is int


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "h",
        "24x",
        "24 hours",
        "1h30m",
        "-1h",
        "+1h",
        "1e3",
        "1,5h",
        ".5h",
        "5.h",
        "24H",
        "nan",
        "inf",
    ],
)
def test_text_that_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(Misconfigured, match="Not a duration") as caught:
        duration(text)
    assert "24h" in caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        timedelta(seconds=-1),
        timedelta.max,
        10**11,
        1e300,
        float("nan"),
        float("inf"),
        "9" * 30,
        "9" * 400 + "w",
        10**400,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_duration_below_zero_or_beyond_reason_is_refused(value):
    with pytest.raises(Misconfigured, match="out of range"):
        duration(value)


def test_the_longest_duration_still_leads_to_a_date():
    longest = duration(10**11 - 1)
    assert when(now() + longest).year > 5000
    assert now() + longest < FOREVER


@given(st.integers(0, 10**17 - 10**9))
def test_every_microsecond_of_a_timedelta_counts_within_a_century(count):
    count %= 100 * 366 * DAY
    assert duration(timedelta(microseconds=count)) == count


# Sizes


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("500", 500),
        ("500B", 500),
        ("64kB", 64_000),
        ("64k", 64_000),
        ("10 MB", 10_000_000),
        ("10MiB", 10 << 20),
        ("1.5 GiB", 3 << 29),
        ("2 TB", 2 * 10**12),
        ("1 ti", 1 << 40),
        (" 1gb ", 10**9),
        ("0", 0),
        (0, 0),
        (123, 123),
    ],
)
def test_a_size_is_written_in_many_ways(written, expected):
    assert size(written) == expected
    assert type(size(written)) is int


@pytest.mark.parametrize(
    "text",
    ["", "B", "MB", "-1", "+1", "1e6", "1,5 GB", "1 PB", "10 bytes", "10 MBit", "0x10", "nan"],
)
def test_text_that_is_no_size_is_refused_with_examples(text):
    with pytest.raises(Misconfigured, match="Not a size") as caught:
        size(text)
    assert "10 MB" in caught.value.hint


def test_a_size_below_zero_is_refused():
    with pytest.raises(Misconfigured, match="out of range"):
        size(-1)


@pytest.mark.parametrize("value", [2**63, 10**30, "9" * 30, "9" * 400], ids=lambda v: repr(v)[:20])
def test_a_size_that_no_catalog_can_keep_is_refused(value):
    with pytest.raises(Misconfigured):
        size(value)


@given(st.integers(0, 2**63 - 1))
def test_a_whole_number_of_bytes_is_exact_as_text_too(number):
    assert size(str(number)) == size(number) == number


@given(st.integers(0, 10**9), st.sampled_from(["k", "M", "G", "T"]), st.sampled_from(["", "i"]))
def test_a_unit_multiplies_exactly(number, letter, binary):
    power = "kMGT".index(letter) + 1
    number %= 10**6
    assert size(f"{number} {letter}{binary}B") == number * (1024 if binary else 1000) ** power


# For people


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1449, "1.4 kB"),
        (1_400_000, "1.4 MB"),
        (12_300_000_000, "12.3 GB"),
        (2 * 10**12, "2.0 TB"),
        (5 * 10**15, "5000.0 TB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_a_size_for_people(number, text):
    assert human_size(number) == text


@pytest.mark.parametrize("number", [999_949, 999_951, 999_999, 999_999_999, 999_999_999_999])
def test_a_size_for_people_never_says_a_thousand_of_a_unit(number):
    assert not human_size(number).startswith("1000")


@given(st.integers(0, 10**15))
def test_a_size_for_people_reads_back_within_its_digits(number):
    assert abs(size(human_size(number)) - number) <= max(0.051 * number, 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0s", "0s"),
        ("90s", "90s"),
        ("60s", "60s"),
        ("2m", "2m"),
        ("90m", "90m"),
        ("1h", "60m"),
        ("24h", "24h"),
        ("48h", "2d"),
        ("7d", "7d"),
        ("14d", "2w"),
        ("1.5s", "1.5s"),
    ],
)
def test_a_duration_for_people(text, shown):
    assert human_duration(duration(text)) == shown


@given(st.integers(0, 10**10))
def test_a_duration_of_whole_seconds_reads_back(seconds):
    assert duration(human_duration(seconds * SECOND)) == seconds * SECOND


# Instants


def test_now_is_the_time_of_day_in_microseconds():
    before = time.time()
    assert before - 1 < now() / SECOND < time.time() + 1
    assert type(now()) is int


def test_an_instant_is_a_moment_in_utc():
    assert when(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert when(1_700_000_000_123_456) == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert when(0).tzinfo is UTC


def test_a_moment_of_any_zone_is_the_same_instant():
    east = timezone(timedelta(hours=5, minutes=30))
    assert at(datetime(2026, 1, 1, 5, 30, tzinfo=east)) == at(datetime(2026, 1, 1, tzinfo=UTC))
    assert at(datetime(1970, 1, 1, tzinfo=UTC)) == 0


@given(st.integers(0, 130 * 366 * DAY))
def test_an_instant_comes_back_to_the_microsecond(instant):
    """Pages of a list go on from an instant that was shown as a moment."""
    assert at(when(instant)) == instant


@given(st.integers(0, 10**5), st.integers(1, 10**6))
def test_fractions_of_a_second_are_rounded_and_never_cut(whole, parts):
    exact = whole + Fraction(1, parts)
    assert abs(duration(float(exact)) - exact * SECOND) <= Fraction(51, 100)


def test_forever_fits_a_catalogs_column_and_is_later_than_any_date():
    assert FOREVER == 2**63 - 1
    assert at(datetime.max.replace(tzinfo=UTC)) < FOREVER
