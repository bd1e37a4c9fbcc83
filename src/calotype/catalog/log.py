"""The log (WAL) of an SQLite file of our own: moved into the file in time, also on a full disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from sqlalchemy import Connection

from calotype.catalog import reserve, sqlite
from calotype.catalog.failures import translated
from calotype.errors import CalotypeError


class Log:
    """The log of the catalog at ``path``; ``connected`` opens a connection outside transactions."""

    def __init__(
        self, path: Path, connected: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._path = path
        self._connected = connected
        self._overdue = False

    def before(self, rows: int, *, freeing: bool) -> None:
        """Have room for a transaction, of ``rows`` new assets or of what lets go of some.

        ``Unavailable`` where the disk is full, while nothing is begun yet.
        """
        if freeing:
            self._make_room()
        elif reserve.is_tight(self._path) or reserve.is_short(self._path, rows):
            self._emptied(threshold=0)
            reserve.require(self._path, rows)
        if self._overdue:
            with suppress(CalotypeError) if freeing else nullcontext(), translated():
                sqlite.checkpoint(self._connected, self._path)
                self._overdue = False

    def after(self) -> None:
        """Empty the log once it is long; where that fails, what is committed stands anyway."""
        self._overdue = not self._emptied()

    def _make_room(self) -> None:
        """Where the disk is nearly full: move the log into the file, which gives its room back.

        Should even that find no room, it has what is kept back.
        """
        if reserve.is_tight(self._path) and not self._emptied(threshold=0):
            reserve.give_back(self._path)
            self._emptied(threshold=0)
        if reserve.open_when_full(self._path):
            self._emptied(threshold=0)

    def _emptied(self, threshold: int = sqlite.CHECKPOINT_BYTES) -> bool:
        try:
            with translated():
                sqlite.checkpoint(self._connected, self._path, threshold=threshold)
        except CalotypeError:
            return False
        return True
