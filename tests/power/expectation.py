"""What must be in a store: every acknowledged change, and the last one begun, wholly or in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from calotype import Digest, Store
from calotype.errors import CalotypeError

DATA = 40

Slots = Mapping[str, str]
"""Role -> digest."""


@cache
def data(number: int) -> bytes:
    """Bytes that only this number has: a few hundred, or a hundred thousand."""
    size = (number * 7919) % 3000 + 1 if number % 4 else 60_000 + number * 1000
    return hashlib.shake_128(b"power %d" % number).digest(size)


def plant(tree: Path) -> None:
    """A tree of files to import, some of which other operations put as well."""
    for number in range(0, DATA + 20, 3):
        path = tree / f"{number % 5}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data(number))


@cache
def tree_of(tree: Path) -> dict[str, str]:
    """What the import of the tree gives its owner."""
    return {
        str(path.relative_to(tree)): Digest.of(path) for path in tree.rglob("*") if path.is_file()
    }


@dataclass(frozen=True, slots=True)
class Change:
    """An owner has ``slots`` afterwards: beside what it has, or with ``merge`` false instead.

    Then it has nothing for a while: what it had is released first.
    """

    owner: str
    slots: Slots
    merge: bool

    def on(self, before: Slots) -> dict[str, str]:
        """What the owner has when it is done."""
        return {**(before if self.merge else {}), **self.slots}


@dataclass
class Expectation:
    """The owners of a store and what each has.

    ``maybe`` are changes that were begun and not acknowledged, or acknowledged when the power was
    being cut: a sync that is under way then may end well and have done nothing.
    """

    owners: dict[str, dict[str, str]] = field(default_factory=dict)
    maybe: list[Change] = field(default_factory=list)
    acknowledged: int = 0

    def hear(self, messages: Sequence[tuple[str, Change | None, int]], cut: int) -> None:
        """Take in what a worker said until the instant of the ``cut``, and after it."""
        begun: Change | None = None
        for what, change, at in messages:
            if what == "begin":
                begun = change
                continue
            if at < cut:
                self.acknowledged += 1
                if begun is not None:
                    owner = begun.owner
                    self.owners[owner] = begun.on(self.owners.get(owner, {}))
            elif begun is not None:
                self.maybe.append(begun)
            begun = None
        if begun is not None:
            self.maybe.append(begun)

    def broken(self, store: Store) -> Iterator[str]:
        """Every promise that the store does not keep; what was begun is settled as it is found."""
        maybe, self.maybe = self.maybe, []
        for change in maybe:
            self.owners.setdefault(change.owner, {})
        for owner, slots in self.owners.items():
            found = {each.role: str(each.digest) for each in store.references(owner=owner)}
            states = [slots, *_after(slots, [each for each in maybe if each.owner == owner])]
            for role in {role for state in (found, *states) for role in state}:
                if found.get(role) not in {state.get(role) for state in states}:
                    yield f"{owner} {role}: {found.get(role)}, not {slots.get(role)}"
            for digest in set(found.values()):
                yield from _unreadable(store, digest)
            self.owners[owner] = found
        yield from (
            f"{finding.kind}: {finding.note}" for finding in store.fsck() if finding.is_problem
        )

    def leaks(self, store: Store) -> Iterator[str]:
        """What is left beyond that, once gc has run."""
        store.gc(now=True)
        wanted = {digest for slots in self.owners.values() for digest in slots.values()}
        if (found := store.stats().blobs) != len(wanted):
            yield f"leak: {found} blobs where {len(wanted)} are kept"


def _after(slots: Slots, changes: Sequence[Change]) -> Iterator[Slots]:
    """What an owner may have on the way through some changes."""
    for change in changes:
        if not change.merge:
            yield {}
        slots = change.on(slots)
        yield slots


def _unreadable(store: Store, digest: str) -> Iterator[str]:
    try:
        with store.open(digest) as file:
            if Digest.of(file.read()) != digest:
                yield f"lost: {digest} has other bytes"
    except CalotypeError as error:
        yield f"lost: {digest}: {error}"
