"""Places where a store of a test lives, and the clock that it goes by."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests import servers

from calotype import Store
from calotype.quantities import Instant, now, when

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.instant: Instant = now()

    def __call__(self) -> Instant:
        return self.instant

    def advance(self, *, seconds: float = 0, hours: float = 0, days: float = 0) -> None:
        self.instant += round(seconds * SECOND + hours * HOUR + days * DAY)

    @property
    def moment(self) -> Any:
        """The instant as the store shows it."""
        return when(self.instant)


@dataclass(frozen=True)
class Place:
    """Where a store can be opened: a ``folder``, this process's ``memory``, ``shared``, ``postgres``.

    A shared one has its tables in a database that an application made. In ``one-file`` and
    ``in-postgres`` the bytes are in the catalog's database.
    """

    kind: str
    root: Path
    clock: Clock

    @cached_property
    def url(self) -> str:
        """The catalog's URL: a schema of a real PostgreSQL."""
        return servers.schema()

    @property
    def database(self) -> Path:
        """The catalog's file."""
        return self.root / ("app.db" if self.kind == "shared" else "store/catalog.db")

    @property
    def blobs(self) -> Path:
        """The backend's folder."""
        return self.root / ("store/blobs" if self.kind == "folder" else "media")

    def open(self, **options: Any) -> Store:
        """A store here; every call but in memory leads to the same one."""
        options = {"clock": self.clock, **options}
        if self.kind == "memory":
            return Store.memory(**options)
        if self.kind == "folder":
            return Store(self.root / "store", **options)
        if self.kind == "one-file":
            return Store(self.root / "store", backend="database:", **options)
        if self.kind == "in-postgres":
            return Store(catalog=self.url, backend="database:", **options)
        if self.kind == "postgres":
            return Store(catalog=self.url, backend=f"file:{self.blobs}", **options)
        with closing(sqlite3.connect(self.database)) as application:
            application.execute("CREATE TABLE IF NOT EXISTS page (id INTEGER PRIMARY KEY, t TEXT)")
            application.commit()
        return Store(catalog=f"sqlite:///{self.database}", backend=f"file:{self.blobs}", **options)
