"""Durations and sizes as people write them, and instants as the catalog keeps them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf

from calotype.errors import Misconfigured

Duration = str | int | float | timedelta
Size = str | int

Instant = int
"""Microseconds since 1970-01-01 UTC."""

FOREVER: Instant = 2**63 - 1
"""The instant that never comes."""

SECOND = 1_000_000
"""One second in the unit of an ``Instant``."""

_LONGEST = 10**11
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)?\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?\s*", re.IGNORECASE)


def now() -> Instant:
    """The present instant."""
    return time.time_ns() // 1000


def duration(value: Duration) -> int:
    """Microseconds of ``"24h"``, ``"1.5d"``, seconds, or a timedelta; never negative."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if not match:
            raise Misconfigured(
                f"Not a duration: {value!r}.",
                hint="Write 90s, 15m, 24h, 7d, 2w, or a number of seconds.",
            )
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    elif isinstance(value, int | float):
        seconds = float(value) if value < _LONGEST else inf
    else:
        raise Misconfigured(
            f"Not a duration: {value!r}.", hint="Give '24h', seconds or a timedelta."
        )
    if not 0 <= seconds < _LONGEST:
        raise Misconfigured(
            f"A duration out of range: {value!r}.", hint="Give 0 or more, and less than 3000 years."
        )
    return round(seconds * SECOND)


def size(value: Size) -> int:
    """Bytes of ``"10 MB"`` (10^6), ``"10 MiB"`` (2^20), or a plain number."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if not match:
            raise Misconfigured(
                f"Not a size: {value!r}.", hint="Write 500, 64kB, 10 MB, 1.5 GiB or 2 TB."
            )
        number = round(Decimal(match[1]) * _BYTES[match[2].lower()])
    if not 0 <= number < 2**63:
        raise Misconfigured(
            f"A size out of range: {str(value)[:40]}.", hint="Give 0 or more, and less than 8 EiB."
        )
    return number


def human_size(number: int) -> str:
    """Bytes for people: ``1.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        digits = 0 if unit == "B" else 1
        if abs(round(value, digits)) < 1000:
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def human_duration(microseconds: int) -> str:
    """A duration for people: ``24h``, ``90s``."""
    seconds = microseconds / SECOND
    for unit in ("w", "d", "h", "m"):
        count = seconds / _SECONDS[unit]
        if count >= 2 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def when(instant: Instant) -> datetime:
    """The instant as an aware datetime in UTC."""
    return datetime.fromtimestamp(instant / SECOND, UTC)


def at(moment: datetime) -> Instant:
    """The instant of an aware datetime."""
    return round(moment.timestamp() * SECOND)
