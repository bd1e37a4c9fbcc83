"""Giving rows what was kept for them: the slot, if no other file is in it, and then the digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from calotype.catalog import holdings, slots
from calotype.errors import CalotypeError, Misconfigured, NotFound, Unavailable
from calotype.importing.rows import Rows, Values
from calotype.quantities import Instant
from calotype.references import Referrer
from calotype.wishes import Wish

Slot = tuple[str, str, str]


class Asked(NamedTuple):
    """A row, and what it is to have: of which digest, in which slot."""

    row: Values
    wish: Wish

    @property
    def slot(self) -> Slot:
        """Owner and role."""
        assert self.wish.slot is not None
        return self.wish.slot


@dataclass(frozen=True, slots=True)
class Giver:
    """Fills the slots of rows and writes their digests; ``alone``: no two rows share a slot.

    A slot that has another file keeps it, whoever gave it: nothing is ever displaced.
    """

    rows: Rows
    referrer: Referrer
    alone: bool

    def give(
        self, asked: Sequence[Asked], held_until: Instant
    ) -> list[tuple[Values, CalotypeError]]:
        """Let rows have what the scope holds until ``held_until``; which have not, and why.

        First the slots, durably; then the digests, to rows that are as they were read. Of a row
        that refuses, the slot is emptied if it was filled here; of one whose slot was changed
        meanwhile, the digest is taken back. Killed in between, a row has no digest, and its slot
        what the next import gives it anyway.
        """
        try:
            filled, refused = self._fill(asked, held_until)
        except CalotypeError as error:
            return [(each.row, error) for each in asked]
        known = {id(row) for row, _ in refused}
        ready = {id(each.row): each for each in asked if id(each.row) not in known}
        for row, _, why in self.rows.write([(a.row, a.wish.digest) for a in ready.values()]):
            refused.append((row, why))
            unwanted = ready.pop(id(row))
            if self.alone and unwanted.slot in filled:
                self._empty(unwanted)
        return refused + self._taken_back(list(ready.values()))

    def _fill(
        self, asked: Sequence[Asked], held_until: Instant
    ) -> tuple[set[Slot], list[tuple[Values, CalotypeError]]]:
        """The slots that were filled, and the rows that have another file there; ends the hold."""
        scope, catalog = self.referrer.scope, self.referrer.catalog
        filled: dict[Slot, Wish] = {}
        refused: list[tuple[Values, CalotypeError]] = []
        with catalog.write(rows=len(asked)) as connection:
            now = catalog.clock()
            digests = {each.wish.digest for each in asked}
            there = holdings.assets(connection, scope, digests, self.referrer.hosts)
            held = slots.filled(connection, scope, [each.wish for each in asked])
            for each in asked:
                has = held.get(each.slot)
                if each.wish.digest not in there:
                    refused.append((each.row, _went()))
                elif has is None:
                    filled[each.slot] = each.wish
                    held[each.slot] = each.wish.digest
                elif has != each.wish.digest:
                    refused.append((each.row, _other(each.slot)))
            slots.refer(connection, scope, list(filled.values()), now)
            for digest, row in there.items():
                if int(row["kept_until"]) == held_until:
                    holdings.set_kept_until(connection, scope, digest, now)
        return set(filled), refused

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


def _shown(slot: Slot) -> str:
    kind, ident, role = slot
    return f"{kind}/{ident} as {role!r}"


def _went() -> NotFound:
    return NotFound("What was kept for the row is gone already.", hint="Import again.")


def _other(slot: Slot) -> Misconfigured:
    return Misconfigured(
        f"{_shown(slot)} has another file than the row, and keeps it.",
        hint="Give the row that file's digest; or release what is there, and import again.",
    )


def _changed(slot: Slot) -> Unavailable:
    return Unavailable(
        f"{_shown(slot)} was changed while the row was imported.",
        hint="Import again, if the row has no digest.",
    )
