"""Statements on the home of a catalog: where it was when it last was known to be the only one."""

from __future__ import annotations

import json
from dataclasses import asdict

from sqlalchemy import Connection

from calotype.backends import Stand
from calotype.catalog.settings import forget_meta, get_meta, set_meta

HOME = "home"
"""The key in ``meta``: not the store's, but this catalog's own."""

UNMARKED = "unmarked"
"""The key in ``meta`` that is there while a folder or database could not be marked as its own."""

_LEFT = "moved to "
_UNTOLD = "not told"


def home(connection: Connection) -> Stand | None:
    """Where the catalog is at home; None before there were markers."""
    found = get_meta(connection, HOME)
    return None if found is None else Stand(**json.loads(found))


def settle(connection: Connection, here: Stand | None) -> None:
    """Have it at home here; None where that cannot be told."""
    set_meta(connection, HOME, json.dumps(asdict(here or Stand(_UNTOLD))))


def is_settled(connection: Connection) -> bool:
    """True where its home is noted, and in every backend that can be moved with it whose it is."""
    return home(connection) is not None and get_meta(connection, UNMARKED) is None


def note_unmarked(connection: Connection, unmarked: bool) -> None:
    """Note whether a backend that can be moved with it could not be marked, and is to be."""
    if unmarked:
        set_meta(connection, UNMARKED, "1")
    else:
        forget_meta(connection, UNMARKED)


def leave(connection: Connection, to: str) -> None:
    """Have it at home nowhere: it was moved to that name, and its bytes with it."""
    settle(connection, Stand(f"{_LEFT}{to}"))


def is_away(home: Stand | None, here: Stand | None) -> bool:
    """True for a copy: it is at home elsewhere than here.

    Where it could not tell and cannot tell still, it is not away; nothing is erased there then but
    what lies in its own database.
    """
    return home is not None and home.mark != (here.mark if here is not None else _UNTOLD)


def is_untold(home: Stand | None) -> bool:
    """True for a catalog that could not tell where it was when it was to be at home there."""
    return home is not None and home.mark == _UNTOLD


def is_left(home: Stand | None) -> bool:
    """True for a catalog that was moved to another name."""
    return home is not None and home.mark.startswith(_LEFT)


def hand_on(here: Connection, old: Stand | None, there: Connection, new: Stand | None) -> None:
    """Have a copy at home in its new place; one of a catalog that was not at home stays a copy.

    So does one of a catalog that could not tell: it may be production's, or one of a dump of it.
    """
    before = home(here)
    settle(there, before if is_away(before, old) or is_untold(before) else new)
