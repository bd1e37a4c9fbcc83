"""Placing: temporary files renamed to where they belong, in folders made on the way."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Self

from calotype.backends.folders import Folder, Way, telling

if TYPE_CHECKING:
    from calotype.backends.staged import LocalStaged


class Placing:
    """The renames of one publish, neighbours best one after the other.

    ``durable`` are the folders below ``root`` whose own entries are known to be durable; ``made``
    those that were made, or found, without that being known.
    """

    def __init__(self, root: str, durable: set[str]) -> None:
        self.made: set[str] = set()
        self._root = root
        self._durable = durable
        self._way: Way | None = None

    def place(self, name: str, staged: LocalStaged, *, durably: bool) -> None:
        """Rename one file; ``durably`` syncs the folders that it changes."""
        with telling("put", self._root, name):
            try:
                self._rename(name, staged, durably=durably)
            except FileNotFoundError:  # a folder that we knew was removed by someone else
                self.close()
                for place in accumulate(name.split("/"), "{}/{}".format):
                    self._durable.discard(place)
                    self.made.discard(place)
                self._rename(name, staged, durably=durably)

    def _rename(self, name: str, staged: LocalStaged, *, durably: bool) -> None:
        """Make the folders that are missing, rename, and sync from the innermost outwards.

        Whoever made a folder, it is taken for durable only once we synced the one it is in.
        """
        changed: list[Folder] = []

        def enter(outer: Folder, part: str, place: str) -> None:
            if place not in self._durable and place not in self.made:
                outer.make(part)
                self.made.add(place)
                changed.append(outer)

        if self._way is None:
            self._way = Way(self._root)
        folder = self._way.to(name.rpartition("/")[0], enter)
        staged.rename(folder, name)
        if durably:
            for each in (folder, *reversed(changed)):
                each.sync()

    def close(self) -> None:
        """Hold no folder open any longer."""
        if self._way is not None:
            self._way.close()
            self._way = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
