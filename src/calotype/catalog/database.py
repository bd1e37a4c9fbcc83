"""The port to the database that a catalog is in: which one it is, and how transactions go there."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from calotype.backends import Stand
from calotype.catalog.reserve import Freeing
from calotype.quantities import Instant


class Database(Protocol):
    """A database, connected to when it is first needed. Safe across threads, processes and fork.

    Where it is ``catalogued``, each writing transaction asks whether its catalog is still here.
    """

    catalogued: bool

    @property
    def path(self) -> Path | None:
        """The file that it is in, where it is one."""
        ...

    @property
    def own(self) -> bool:
        """True when no application shares it."""
        ...

    @property
    def memory(self) -> bool:
        """True when it ends with the process."""
        ...

    @property
    def name(self) -> str:
        """Where it is, for people; no password in it."""
        ...

    @property
    def engine(self) -> Engine:
        """The engine, made on first use; connecting happens later still."""
        ...

    def identity(self) -> Hashable | None:
        """Which database is there now; None where there is none. Cheap: asked at every use."""
        ...

    def stand(self) -> Stand | None:
        """Where it is, so that no other one that is there at the same time has the same mark.

        None where there is none yet, or this user may not ask where it is.
        """
        ...

    def create(self, fill: Callable[[Connection], None]) -> None:
        """Make it unless it is there, and let ``fill`` have the writing transaction.

        Any number of processes may do so at once.
        """
        ...

    def rehearse(self, fill: Callable[[Connection], None]) -> None:
        """Raise what ``create`` would raise, and leave nothing; ``fill`` ends with an exception."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """One consistent view."""
        ...

    def writing(
        self, *, durable: bool, freeing: Freeing, rows: int, patience: float | None
    ) -> AbstractContextManager[Connection]:
        """One transaction, committed when the block ends well and rolled back otherwise.

        ``Misconfigured`` where the catalog was moved away.
        """
        ...

    def rebuilding(self) -> AbstractContextManager[Connection]:
        """A transaction in which tables may be replaced that others point at."""
        ...

    def joining(self, connection: Connection) -> AbstractContextManager[None]:
        """Let an application's transaction find the tables for the length of the block."""
        ...

    def sweep(self, older_than: Instant) -> int:
        """Remove what killed processes left beside it; how many files."""
        ...

    def close(self) -> None:
        """Close every connection; the next use opens again."""
        ...
