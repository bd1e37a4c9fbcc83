"""Statements on the home of a catalog: where it was when it last was known to be the only one."""

from __future__ import annotations

import json
from dataclasses import asdict

from sqlalchemy import Connection

from calotype.backends import Stand
from calotype.catalog.settings import forget_meta, get_meta, set_meta

HOME = "home"
"""The key in ``meta``: not the store's, but this catalog's own."""

_LEFT = "moved to "


def home(connection: Connection) -> Stand | None:
    """Where the catalog is at home; None before there were markers."""
    found = get_meta(connection, HOME)
    return None if found is None else Stand(**json.loads(found))


def settle(connection: Connection, here: Stand | None) -> None:
    """Have it at home here."""
    if here is None:
        forget_meta(connection, HOME)
    else:
        set_meta(connection, HOME, json.dumps(asdict(here)))


def leave(connection: Connection, to: str) -> None:
    """Have it at home nowhere: it was moved to that name, and its bytes with it."""
    settle(connection, Stand(f"{_LEFT}{to}"))


def is_away(home: Stand | None, here: Stand | None) -> bool:
    """True for a copy: it is at home elsewhere than here."""
    return home is not None and home.mark != (here.mark if here is not None else "")


def is_left(home: Stand | None) -> bool:
    """True for a catalog that was moved to another name."""
    return home is not None and home.mark.startswith(_LEFT)


def hand_on(here: Connection, old: Stand | None, there: Connection, new: Stand | None) -> None:
    """Have a copy at home in its new place; one of a catalog that was not at home stays a copy."""
    before = home(here)
    settle(there, before if is_away(before, old) else new)
