"""The catalog: the database that knows which bytes there are, whose they are, and what is due.

``Catalog`` opens it, makes it, and gives out transactions; the modules beside this one are its
statements. Nothing outside this package writes SQL.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from sqlalchemy import Connection, Engine

from calotype.catalog import backends, homes, moving, schema
from calotype.catalog.backends import Known
from calotype.catalog.database import Database
from calotype.catalog.failures import translated
from calotype.catalog.places import beside
from calotype.catalog.reserve import Freeing
from calotype.errors import CalotypeError, Corrupt, NoStore
from calotype.quantities import Instant
from calotype.quantities import now as clock_now

FIRST = "main"
"""The name of the backend that a store is made with, unless it has another."""

LOOK_AGAIN = 1.0
"""Seconds until a reader asks again whether the catalog is still here; a writer always learns."""

SETTLE_AGAIN = 60.0
"""Seconds until a put tries again to mark a backend that could not be marked."""

_LOST_FILE = (
    "If it was moved, move it back: what lies beside it as -wal belongs to it. To use a copy "
    "instead (an upgrade leaves one as .schema*), move -wal and -shm away first. "
)
_LOST_SCHEMA = "Look at the URL and its schema, or restore the database's newest backup. "


class Catalog:
    """One catalog, opened when it is first needed. Safe across threads, processes and fork.

    ``database`` says where it is. ``backend_url`` is noted, by its name, in a catalog that this
    object makes, and must be one of those that are noted in a catalog that is there; unless it is
    ``implied``, for nobody named it. ``occupied`` tells whether bytes lie there already: then a
    catalog that is missing was lost, and none is made over them. ``ready`` raises where nothing
    could be kept: then none is made. ``settle`` is told of one that is at home nowhere yet, before
    anything is put, and again while a backend could not be marked.
    """

    def __init__(
        self,
        database: Database,
        *,
        backend_url: str,
        backend_name: str = FIRST,
        implied: bool = False,
        clock: Callable[[], Instant] = clock_now,
        occupied: Callable[[], bool] = lambda: False,
        ready: Callable[[], None] = lambda: None,
        settle: Callable[[Catalog], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.database = database
        self.path = self.database.path
        self.own = self.database.own
        self.memory = self.database.memory
        self.backend_url = beside(self.path, backend_url)
        self.backend_name = backend_name
        self.implied = implied
        self._occupied = occupied
        self._ready = ready
        self._settle = settle
        self._settles_at = math.inf
        self._ready_for: Hashable | None = None
        self._looked = 0.0
        self.store_id: str | None = None
        self.backends: tuple[Known, ...] = ()

    @property
    def engine(self) -> Engine:
        """The engine, made on first use; connecting happens later still."""
        return self.database.engine

    @property
    def is_sqlite(self) -> bool:
        """True on SQLite, False on PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @property
    def first_backend(self) -> tuple[str, str]:
        """Name and URL of the backend that this catalog begins with, where it is made."""
        return self.backend_name, self.backend_url

    @property
    def name(self) -> str:
        """Where the catalog is, for people; no password in it."""
        return self.database.name

    def exists(self) -> bool:
        """True when there is a catalog here; opens it, and upgrades an SQLite one if need be.

        ``Corrupt`` where bytes lie without one: it was lost.
        """
        if self._opened():
            return True
        with _of_no_store():
            occupied = self._occupied()
        if not occupied:
            return False
        if self._opened():  # made between the two looks
            return True
        raise Corrupt(
            f"The catalog {self.name} is lost or empty, but {self.backend_url} holds files; "
            "nothing was changed.",
            hint=(_LOST_FILE if self.is_sqlite else _LOST_SCHEMA)
            + "Without any, 'calotype fsck --rebuild' makes one from the bytes alone.",
        )

    def _opened(self) -> bool:
        with translated():
            seen = self.database.identity()
        if seen is None:
            return False
        if seen != self._ready_for:
            self._ready_for = None
            if not self._looked_at():
                return False
            self._ready_for = seen
        return True

    def _looked_at(self) -> bool:
        """Look at the tables: False where there are none; what is not ours to use raises."""
        with self.database.reading() as connection:
            number = schema.number(connection)
            if number is None:
                return False
            if number == schema.CURRENT:
                self._looked = time.monotonic()
                self.store_id = connection.scalar(schema.STORE_ID)
                self.backends = backends.known(connection)
                self._settles_at = math.inf if homes.is_settled(connection) else -math.inf
        if number != schema.CURRENT:
            schema.require_current(number, self)
            return self._looked_at()
        schema.require_backend(self)
        return True

    def look_at_backends(self) -> tuple[Known, ...]:
        """The backends that the store has by now."""
        with self.read() as connection:
            self.backends = backends.known(connection)
        return self.backends

    def require(self) -> None:
        """Raise ``NoStore`` unless there is a catalog here."""
        if not self.exists():
            raise NoStore(
                f"No store here ({self.name}).",
                hint="Run 'calotype init', pass --store, or put something first.",
            )

    def ensure(self) -> None:
        """Make the catalog unless it is there; any number of processes may do so at once."""
        if not self.exists():
            if not self.implied:  # else the bytes lie in the catalog's own folder
                self.rehearse()
                with _of_no_store():
                    self._ready()
            with translated():
                self.database.create(self._fill)
        if self.exists() and time.monotonic() >= self._settles_at:
            self._settle(self)  # each thread that comes meanwhile, for it puts nothing before
            with self.read() as connection:
                settled = homes.is_settled(connection)
            self._settles_at = math.inf if settled else time.monotonic() + SETTLE_AGAIN

    def rehearse(self) -> None:
        """Raise what would be raised where the catalog is made; nothing is left of it."""
        with suppress(_OnlyRehearsed), translated():
            self.database.rehearse(self._fill_and_end)

    def _fill(self, connection: Connection) -> None:
        if schema.number(connection) is None:
            schema.create(connection, self.first_backend, self.clock())

    def _fill_and_end(self, connection: Connection) -> None:
        self._fill(connection)
        raise _OnlyRehearsed

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the catalog; ``NoStore`` where there is none."""
        self.require()
        with self.database.reading() as connection:
            self._look_again(connection)
            yield connection

    def _look_again(self, connection: Connection) -> None:
        """Raise ``Misconfigured`` where it was moved away while this process had it open.

        And learn which backends there are by now.
        """
        if time.monotonic() - self._looked >= LOOK_AGAIN:
            moving.require_here(connection)
            if (known := backends.known(connection)) != self.backends:
                self.backends = known
            self._looked = time.monotonic()

    @contextmanager
    def write(
        self,
        *,
        durable: bool = True,
        freeing: Freeing = Freeing.NOTHING,
        rows: int = 1,
        patience: float | None = None,
    ) -> Iterator[Connection]:
        """One transaction, committed when the block ends well and rolled back otherwise.

        On SQLite writers take turns from the start (BEGIN IMMEDIATE). ``durable=False`` spares
        the sync of a commit that may be lost to a power cut, but never out of order: the next
        durable commit carries it. ``freeing`` is for whoever lets go of something: it may use its
        part of what is kept back for a full disk; others need room for as many assets as ``rows``
        says. Raises ``NoStore`` where there is no catalog, and
        ``Locked`` when another writer does not end within ``patience`` seconds.
        """
        self.require()
        with self.database.writing(
            durable=durable, freeing=freeing, rows=rows, patience=patience
        ) as connection:
            yield connection

    def rebuilding(self) -> AbstractContextManager[Connection]:
        """A write transaction in which SQLite lets tables be replaced that others point at."""
        return self.database.rebuilding()

    def sweep(self, older_than: Instant) -> int:
        """Remove files that killed makers of the catalog left; how many there were."""
        if not self.exists():
            return 0
        with translated():
            return self.database.sweep(older_than)

    def close(self) -> None:
        """Close every connection; the next use opens again. One in memory stays as it is."""
        self.database.close()
        if not self.memory:
            self._ready_for = None


class _OnlyRehearsed(Exception):
    """Ends the transaction in which a catalog was made to see whether it can be."""


@contextmanager
def _of_no_store() -> Iterator[None]:
    try:
        yield
    except CalotypeError as error:
        error.of_no_store = True
        raise
