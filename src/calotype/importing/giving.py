"""Giving rows the digests of what was kept for them, once their slots have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from calotype.catalog import slots
from calotype.errors import CalotypeError, Misconfigured, Unavailable
from calotype.importing.rows import Rows, Values
from calotype.ledger import Line
from calotype.references import Referrer
from calotype.wishes import Wish


class Asked(NamedTuple):
    """A row, which digest it is to have, in which slot; and what its put came to."""

    row: Values
    wish: Wish
    line: Line

    @property
    def slot(self) -> slots.Slot:
        """Owner and role."""
        assert self.wish.slot is not None
        return self.wish.slot


@dataclass(frozen=True, slots=True)
class Giver:
    """Writes the digests of rows whose slots were filled; ``alone``: no two rows share a slot.

    A slot that has another file keeps it, whoever gave it: nothing is ever displaced.
    """

    rows: Rows
    referrer: Referrer
    alone: bool

    def give(self, asked: Sequence[Asked]) -> list[tuple[Values, CalotypeError]]:
        """Let rows that are as they were read have their digests; which have not, and why.

        Of a row that refuses, the slot is emptied if it was filled for it; of one whose slot was
        changed meanwhile, the digest is taken back. Killed before, a row has no digest, and its
        slot what the next import gives it anyway; but a row that is deleted at that very moment
        leaves its slot behind.
        """
        refused: list[tuple[Values, CalotypeError]] = []
        ready: dict[int, Asked] = {}
        for each in asked:
            if each.line.wish.owner is None:
                refused.append((each.row, _other(each.slot)))
            else:
                ready[id(each.row)] = each
        for row, _, why in self.rows.write([(a.row, a.wish.digest) for a in ready.values()]):
            refused.append((row, why))
            unwanted = ready.pop(id(row))
            if self.alone and unwanted.line.filled:
                self._empty(unwanted)
        return refused + self._taken_back(list(ready.values()))

    def _empty(self, unwanted: Asked) -> None:
        """Unless the row has the digest by now; one that comes by it later loses it again."""
        owner, digest = unwanted.wish.owner, unwanted.wish.digest
        assert owner is not None
        if not self.rows.has(unwanted.row, digest):
            self.referrer.let_go(owner, unwanted.slot[2], digest)
            self.rows.take_back(unwanted.row, digest)

    def _taken_back(self, asked: Sequence[Asked]) -> list[tuple[Values, CalotypeError]]:
        """Rows whose slot has something else, or nothing, by now; they have no digest any more."""
        wishes = [each.wish for each in asked]
        with self.referrer.catalog.read() as connection:
            held = slots.filled(connection, self.referrer.scope, wishes)
        gone = [each for each in asked if held.get(each.slot) != each.wish.digest]
        for each in gone:
            self.rows.take_back(each.row, each.wish.digest)
        return [(each.row, _changed(each.slot)) for each in gone]


def _shown(slot: slots.Slot) -> str:
    kind, ident, role = slot
    return f"{kind}/{ident} as {role!r}"


def _other(slot: slots.Slot) -> Misconfigured:
    return Misconfigured(
        f"{_shown(slot)} has another file than the row, and keeps it.",
        hint="Give the row that file's digest; or release what is there, and import again.",
    )


def _changed(slot: slots.Slot) -> Unavailable:
    return Unavailable(
        f"{_shown(slot)} was changed while the row was imported.",
        hint="Import again, if the row has no digest.",
    )
