"""The log (WAL) of an SQLite file of our own: moved into the file in time, also on a full disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection

from calotype.catalog import reserve, sqlite
from calotype.catalog.failures import translated
from calotype.catalog.locks import only_one
from calotype.catalog.reserve import Freeing
from calotype.errors import CalotypeError, Unavailable

CHECKPOINT_BYTES = 8 << 20
"""A log that long is moved into the file."""

READERS = 0.1
"""Seconds to wait for those who read; the next write tries again."""


class Log:
    """The log of the catalog at ``path``; ``connected`` opens a connection outside transactions."""

    def __init__(
        self, path: Path, connected: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._path = path
        self._connected = connected
        self._overdue = False

    @contextmanager
    def room(self, rows: int, freeing: Freeing, patience: float) -> Iterator[None]:
        """Have room for a transaction, of ``rows`` new assets or of what lets go of some.

        ``Unavailable`` where the disk is full, while nothing is begun yet. Where it is nearly
        full those who let go take turns, for ``patience`` seconds at most: each has the same room.
        """
        if freeing is Freeing.NOTHING:
            self._require(rows)
            yield
            self._keep_short(CHECKPOINT_BYTES)
        elif reserve.has_less_than(self._path, reserve.PLENTY):
            with reserve.turn(self._path, patience) as mine:
                full = self._make_room(freeing, mine)
                yield
                self._keep_short(0 if full else CHECKPOINT_BYTES)
        else:
            with suppress(CalotypeError):
                self._catch_up()
            yield
            self._keep_short(CHECKPOINT_BYTES)

    @contextmanager
    def within(self, connection: Connection, freeing: Freeing) -> Iterator[None]:
        """Refuse to commit what could not be moved into the file afterwards, as a full disk does.

        What lets go of something goes in smaller steps then. Its pages in the log are seldom more
        than four times those that the file grows by. Growth of earlier transactions counts as
        well: where somebody reads for long it is in the log still.
        """
        yield
        if freeing is Freeing.NOTHING or not reserve.has_less_than(self._path, reserve.PLENTY):
            return
        more = growth(connection, self._path)
        kept = reserve.taken(self._path) - reserve.for_others(freeing)
        if more > max(0, kept) and reserve.has_less_than(self._path, 4 * more):
            raise sqlite3.OperationalError("database or disk is full")

    def _require(self, rows: int) -> None:
        if reserve.is_tight(self._path) or reserve.is_short(self._path, rows):
            self._emptied(threshold=0)
            reserve.require(self._path, rows)
        self._catch_up()

    def _make_room(self, freeing: Freeing, mine: bool) -> bool:
        """Where the disk is nearly full: move the log into the file, which gives its room back.

        Should there be none even so, it has its part of what is kept back. True if nearly full.
        """
        full = reserve.has_less_than(self._path, reserve.NEARLY_FULL)
        if full or reserve.is_tight(self._path):
            self._emptied(threshold=0)
        if mine and reserve.has_less_than(self._path, reserve.FOR_GC):
            reserve.share(self._path, freeing)
        return full

    def _catch_up(self) -> None:
        """Move in what could not be moved in before."""
        if self._overdue:
            with translated():
                checkpoint(self._connected, self._path)
                self._overdue = False

    def _keep_short(self, threshold: int) -> None:
        """Empty the log once it is long; where that fails, what is committed stands anyway."""
        self._overdue = not self._emptied(threshold)
        if not reserve.keep_for_log(self._path):
            self._emptied(threshold=0)

    def _emptied(self, threshold: int) -> bool:
        try:
            with translated():
                if checkpoint(self._connected, self._path, threshold=threshold):
                    reserve.shorten(self._path)
        except CalotypeError:
            return False
        return True


class SharedLog(Log):
    """The log of a file of an application's, who moves it into the file; or there is none."""

    @contextmanager
    def room(self, rows: int, freeing: Freeing, patience: float) -> Iterator[None]:
        """Have room for a transaction; ``Unavailable`` where the disk is full and it adds."""
        if freeing is Freeing.NOTHING:
            reserve.require(self._path, rows)
        if freeing is Freeing.NOTHING or not reserve.has_less_than(self._path, reserve.PLENTY):
            yield
            return
        with reserve.turn(self._path, patience) as mine:
            if reserve.has_less_than(self._path, reserve.NEARLY_FULL):
                with suppress(CalotypeError), translated(), self._connected() as connection:
                    sqlite.tell(connection, "PRAGMA wal_checkpoint(PASSIVE)")
                if mine:
                    reserve.share(self._path, freeing)
            yield

    @contextmanager
    def within(self, _: Connection, __: Freeing) -> Iterator[None]:
        """Nothing: the database itself refuses what finds no room."""
        yield


def checkpoint(
    connected: Callable[[], AbstractContextManager[Connection]],
    path: Path,
    *,
    threshold: int = CHECKPOINT_BYTES,
) -> bool:
    """Move a WAL past ``threshold`` bytes into the file, if nobody else is at it; True if done.

    TRUNCATE takes the writer's lock, so no one writes or resets the WAL meanwhile. Readers that
    are still in it only put the rest off to the next time.
    """
    if reserve.log_size(path) <= threshold:
        return False
    with only_one(Path(f"{path}-checkpoint")) as mine:
        if mine:
            with (
                connected() as connection,
                sqlite.in_steps(connection, READERS),
                _with_room(connection, path),
            ):
                sqlite.tell(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
        return mine


@contextmanager
def _with_room(connection: Connection, path: Path) -> Iterator[None]:
    """A checkpoint has all that is kept back where the disk has too little.

    ``Unavailable`` where that is too little as well: it would use it up in vain.
    """
    needed = growth(connection, path)
    with reserve.lent(path, needed) as enough:
        if not enough:
            raise Unavailable(
                f"The disk that holds {str(path)!r} has no room for its log to be moved in.",
                hint="Free some space there.",
            )
        yield


def growth(connection: Connection, path: Path) -> int:
    """By how many bytes the file grows when the log is moved in, this transaction's part too."""
    pages, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "page_size")
    )
    return int(pages * size) - path.stat().st_size
