"""Listing a bucket: page by page, in order, under the names that the store knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from calotype.backends import Listed
from calotype.backends.supabase.wire import Wire, strange
from calotype.quantities import at

PAGE = 1000
"""Objects in a page; the service gives no more."""

_WHAT = "the list of objects"
_DIGEST = len("sha256/ab/cd/") + 64


def listed(wire: Wire, prefix: str) -> Iterator[Listed]:
    """Every object below the place whose name begins with ``prefix``, sorted by name.

    Names with a token are stored in another spelling, which sorts elsewhere among the names that
    begin with the same digest: those few are put in order here.
    """
    rows = _rows(wire, prefix.partition("~")[0])
    for _, alike in groupby(rows, key=lambda found: found.name[:_DIGEST]):
        for found in sorted(alike, key=attrgetter("name")):
            if found.name.startswith(prefix):
                yield found


def _rows(wire: Wire, prefix: str) -> Iterator[Listed]:
    """The objects as the service lists them; each name must come after the one before."""
    whole = wire.place.prefix + prefix
    question: dict[str, object] = {"prefix": whole, "limit": PAGE, "with_delimiter": False}
    before = ""
    while True:
        answer = wire.ask("POST", wire.path("object/list-v2"), _WHAT, question)
        rows = answer.get("objects")
        if not isinstance(rows, list):
            raise strange(wire.place, "a list without objects")
        for name, found in (_row(wire, row) for row in rows):
            if not name.startswith(whole):  # in LIKE, with which it looks, some characters are any
                continue
            if name <= before:
                raise strange(wire.place, "a list out of order")
            before = name
            yield found
        if not answer.get("hasNext"):
            return
        cursor = answer.get("nextCursor")
        if not isinstance(cursor, str) or cursor == question.get("cursor"):
            raise strange(wire.place, "a list that does not go on")
        question["cursor"] = cursor


def _row(wire: Wire, row: object) -> tuple[str, Listed]:
    """The stored name, and the object as the store knows it."""
    match row:
        case {"name": str(name), "updated_at": str(when), **rest}:
            pass
        case _:
            raise strange(wire.place, "an object without name or time")
    facts = rest.get("metadata")
    size = facts.get("size") if isinstance(facts, Mapping) else None
    try:
        modified = at(datetime.fromisoformat(when))
    except (ValueError, OverflowError):
        raise strange(wire.place, f"the time {when!r}") from None
    known = wire.place.known(name)
    return name, Listed(known, size if isinstance(size, int) else 0, modified)
