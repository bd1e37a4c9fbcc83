"""What must be in a store: every acknowledged change, and the last one begun, wholly or in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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
    """The owners of a store and what each has; ``begun`` is not acknowledged yet."""

    owners: dict[str, dict[str, str]] = field(default_factory=dict)
    begun: Change | None = None
    acknowledged: int = 0

    def hear(self, what: str, change: Change | None) -> None:
        """Take in what a worker says."""
        if what == "end":
            self.acknowledged += 1
            if self.begun is not None:
                owner = self.begun.owner
                self.owners[owner] = self.begun.on(self.owners.get(owner, {}))
        self.begun = change

    def broken(self, store: Store) -> Iterator[str]:
        """Every promise that the store does not keep; what was begun is settled as it is found."""
        begun, self.begun = self.begun, None
        if begun is not None:
            self.owners.setdefault(begun.owner, {})
        for owner, slots in self.owners.items():
            found = {each.role: str(each.digest) for each in store.references(owner=owner)}
            after = begun.on(slots) if begun is not None and begun.owner == owner else slots
            between = begun is not None and begun.owner == owner and not begun.merge
            for role in slots.keys() | after.keys() | found.keys():
                allowed = {slots.get(role), after.get(role), *([None] if between else [])}
                if found.get(role) not in allowed:
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


def _unreadable(store: Store, digest: str) -> Iterator[str]:
    try:
        with store.open(digest) as file:
            if Digest.of(file.read()) != digest:
                yield f"lost: {digest} has other bytes"
    except CalotypeError as error:
        yield f"lost: {digest}: {error}"
