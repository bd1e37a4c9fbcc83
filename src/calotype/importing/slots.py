"""The slots of a table's rows: no two rows may have one, or the second takes the first's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice

from calotype.errors import Misconfigured, Unavailable
from calotype.importing.rows import PAGE, Rows
from calotype.importing.terms import Terms, filled
from calotype.names import escaped


def tell_apart(rows: Rows, terms: Terms) -> Iterator[None]:
    """Compare what the rows make of owner and role, as text; None now and then.

    ``Misconfigured`` where two make the same of them. They are sorted on disk, in bounded memory.
    """
    owner, role = terms.owner, terms.role
    if owner is None or role is None:
        return  # in a slot that is the digest, two rows have the same bytes
    with _speaking(), closing(_sorter()) as sorter:
        slots = _slots(rows, owner, role)
        while page := list(islice(slots, PAGE)):
            sorter.executemany("INSERT INTO slot VALUES (?, ?, ?)", page)
            yield
        alike = sorter.execute(
            "SELECT owner, role, min(row), max(row) FROM slot GROUP BY owner, role "
            "HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
    if alike is not None:
        raise Misconfigured(
            "Two rows would have the same owner and role, and one of them would lose its file: "
            f"{alike[2]} and {alike[3]} both give {alike[0].decode(errors='replace')!r} "
            f"{alike[1].decode(errors='replace')!r}.",
            hint="Name a column that tells rows apart, as {id}, or leave the role away.",
        )


def _sorter() -> sqlite3.Connection:
    """A database of its own that SQLite spills to a temporary file; a Run may change threads."""
    sorter = sqlite3.connect("", check_same_thread=False)
    sorter.execute("PRAGMA journal_mode=OFF")
    sorter.execute("CREATE TABLE slot (owner BLOB, role BLOB, row TEXT)")
    return sorter


def _slots(rows: Rows, owner: str, role: str) -> Iterator[tuple[bytes, bytes, str]]:
    for row in rows.given():
        with suppress(Misconfigured):  # a NULL in them makes no slot
            slot = [
                filled(template, row).encode(errors="surrogatepass") for template in (owner, role)
            ]
            yield slot[0], slot[1], escaped(rows.name(row))


@contextmanager
def _speaking() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable(
            f"Comparing the rows' owners and roles failed: {error}.",
            hint="Make room in the folder for temporary files.",
        ) from error
