"""Giving rows what was kept for them: the slot, if no other file is in it, and the digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from calotype.bulk import Refused
from calotype.catalog import holdings, slots
from calotype.catalog.joining import joined
from calotype.errors import CalotypeError, Locked, Misconfigured, NotFound
from calotype.importing.rows import Rows, Values, gone
from calotype.references import Referrer
from calotype.wishes import Wish


class Asked(NamedTuple):
    """A row, and what it is to have: of which digest, in which slot.

    ``size`` bytes of its column are read again before.
    """

    row: Values
    wish: Wish
    size: int


Refusals = Refused[Asked]


class Went(NotFound):
    """What was kept for a row is gone again before the row had it."""


class _Failed(Exception):
    """One of the two databases failed; what was done in the other is rolled back."""

    def __init__(self, error: CalotypeError) -> None:
        super().__init__(error)
        self.error = error


class _StoreFailed(_Failed):
    """The store did, and so these rows fail."""


class _RowsFailed(_Failed):
    """The rows' own database did, and so does the import."""


@dataclass(frozen=True, slots=True)
class Giver:
    """Fills the slots of rows and writes their digests.

    A slot that has another file keeps it, whoever gave it: nothing is ever displaced, and nothing
    is ever released.
    """

    rows: Rows
    referrer: Referrer

    def give(self, asked: Sequence[Asked]) -> Refusals:
        """Let rows have what the scope has: those that are as they were read. Which have not?

        Nobody changes a row between the look at it and its digest. Killed before the rows are
        committed, or where they cannot be, they have no digest, and their slots what the next
        import gives them anyway.
        """
        return self.rows.by_pages(asked, self._given)

    def _given(self, asked: Sequence[Asked]) -> Refusals:
        """In one transaction of the rows, and one of the store that is committed before it."""
        try:
            with self.rows.changing() as theirs, self._store(theirs, len(asked)) as ours:
                return self._fill(theirs, ours, asked)
        except _StoreFailed as failed:
            if isinstance(failed.error, Locked) and failed.error.whole:
                raise failed.error from failed
            return [(each, failed.error) for each in asked]
        except _RowsFailed as failed:
            raise failed.error from failed

    def _fill(self, theirs: Connection, ours: Connection, asked: Sequence[Asked]) -> Refusals:
        referrer, wishes = self.referrer, [each.wish for each in asked]
        digests = {wish.digest for wish in wishes}
        there = holdings.assets(ours, referrer.scope, digests, referrer.hosts)
        wanted = [wish.slot for wish in wishes if wish.slot is not None]
        held: dict[slots.Slot | None, str] = dict(
            slots.filled(ours, referrer.scope, wanted).items()
        )
        refused: list[tuple[Asked, CalotypeError]] = []
        ready: list[Wish] = []
        for each in asked:
            wish = each.wish
            if wish.digest not in there:
                refused.append((each, _went()))
            elif held.get(wish.slot, wish.digest) != wish.digest:
                refused.append((each, _other(wish)))
            elif not self._give(theirs, each):
                refused.append((each, gone()))
            else:
                held[wish.slot] = wish.digest
                ready.append(wish)
        slots.refer(ours, referrer.scope, ready, referrer.catalog.clock())
        return refused

    def _give(self, theirs: Connection, asked: Asked) -> bool:
        try:
            return self.rows.give(theirs, asked.row, asked.wish.digest)
        except CalotypeError as error:
            raise _RowsFailed(error) from error

    @contextmanager
    def _store(self, theirs: Connection, rows: int) -> Iterator[Connection]:
        """A transaction of the store's; in one database with the rows it is theirs."""
        catalog = self.referrer.catalog
        try:
            if self.rows.are_in(catalog.path):
                with joined(catalog, theirs, needs_keys=True) as ours:
                    yield ours
            else:
                with catalog.write(rows=rows) as ours:
                    yield ours
        except CalotypeError as error:
            raise _StoreFailed(error) from error


def _went() -> Went:
    return Went("What was kept for the row is gone already.", hint="Import again.")


def _other(wish: Wish) -> Misconfigured:
    return Misconfigured(
        f"{wish.owner} has another file than the row as {wish.role!r}, and keeps it.",
        hint="Give the row that file's digest; or release what is there, and import again.",
    )
