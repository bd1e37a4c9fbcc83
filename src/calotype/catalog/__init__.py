"""The catalog: the database that knows which bytes there are, whose they are, and what is due.

``Catalog`` opens it, makes it, and gives out transactions; the modules beside this one are its
statements. Nothing outside this package writes SQL.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from calotype.catalog import at_rest, reserve, schema, sqlite
from calotype.catalog.columns import OURS
from calotype.catalog.failures import spoils_connection, translated
from calotype.catalog.log import Log
from calotype.catalog.places import beside, file_of
from calotype.catalog.reserve import Freeing
from calotype.catalog.waiting import begin
from calotype.errors import CalotypeError, Corrupt, Locked, Misconfigured, NoStore
from calotype.quantities import Instant
from calotype.quantities import now as clock_now

PATIENCE = 30.0
"""Seconds a write waits for other writers before it gives up with ``Locked``."""


class Catalog:
    """One catalog, opened when it is first needed. Safe across threads, processes and fork.

    Exactly one of ``path`` (a file of our own), ``url`` and ``engine`` says where it is;
    ``backend_url`` is noted in a catalog that this object makes, and must be the one that is
    noted in a catalog that is there. ``occupied`` tells whether bytes lie there already: then a
    catalog that is missing was lost, and none is made over them.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        url: str | None = None,
        engine: Engine | None = None,
        memory: bool = False,
        backend_url: str,
        clock: Callable[[], Instant] = clock_now,
        occupied: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
    ) -> None:
        sqlite.require_version()
        self.clock = clock
        self.own = path is not None or memory
        self.path = path if path is not None or memory else file_of(url, engine)
        self.backend_url = beside(self.path, backend_url)
        self.memory = memory
        self._given = engine
        self._url = url
        self._occupied = occupied
        self._patience = patience
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._setup = threading.Lock()
        self._forked_in_use: Engine | None = None
        self._doubtful = False
        self._log = Log(self.path, self._connected) if self.own and self.path is not None else None
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the database, as before it was opened."""
        self._engine: Engine | None = None
        self._ready = False
        self._file: tuple[int, int] | None = None
        self.store_id: str | None = None

    def _same_process(self) -> None:
        """A forked child must not use its parent's connections; it closes them and starts anew.

        While one of them stays open, SQLite takes its locks in the child for granted, and what
        the child writes can be lost. Where one was in use at the fork none is closed, for a thread
        that the child does not have may hold SQLite's own lock for ever.
        """
        if self._pid != os.getpid() and not self.memory:
            inherited = self._engine
            self._start()
            if inherited is not None and self._given is None:
                if sqlite.in_use(inherited):
                    self._forked_in_use = inherited
                else:
                    inherited.dispose()

    @property
    def engine(self) -> Engine:
        """The engine, made on first use; connecting happens later still."""
        self._same_process()
        if self._forked_in_use is not None:
            raise Misconfigured(
                f"The process was forked while a transaction on {self.name} was open, so SQLite's "
                "locks do not work in the child.",
                hint="Fork while the store is idle, or start children with 'spawn'.",
            )
        made = self._engine
        if made is None:
            with self._setup:
                if (made := self._engine) is None:
                    made = self._engine = self._make_engine().execution_options(**{OURS: True})
        return made

    def _make_engine(self) -> Engine:
        if isinstance(self._given, Engine):
            if isinstance(self._given.pool, StaticPool | SingletonThreadPool):
                raise Misconfigured(
                    "The engine has one connection for everything, so the store's transactions "
                    "and the application's would be one.",
                    hint="Use the pool that create_engine() gives a file, or NullPool.",
                )
            return self._given
        if self.memory:
            made = sqlite.memory_engine()
            weakref.finalize(self, made.dispose)  # lists and plans may outlive the store
            return made
        if self.path is not None:
            return sqlite.engine(self.path, own=self.own)
        raise Misconfigured(
            f"This version keeps its catalog in SQLite, not in {self.name}.",
            hint="Write catalog='sqlite:///catalog.db', or give a folder.",
        )

    @property
    def is_sqlite(self) -> bool:
        """True on SQLite, False on PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @property
    def name(self) -> str:
        """Where the catalog is, for people; no password in it."""
        if self.path is not None:
            return str(self.path)
        return make_url(self._url).render_as_string() if self._url else "this database"

    def exists(self) -> bool:
        """True when there is a catalog here; opens it, and upgrades an SQLite one if need be.

        ``Corrupt`` where bytes lie without one: it was lost.
        """
        if self._opened():
            return True
        if not self._occupied() or self._opened():
            return self._ready
        raise Corrupt(
            f"The catalog {self.name} is lost or empty, but {self.backend_url} holds files; "
            "nothing was changed.",
            hint="If it was moved, move it back: what lies beside it as -wal belongs to it. To use "
            "a copy instead (an upgrade leaves one as .schema*), move -wal and -shm away first.",
        )

    def _opened(self) -> bool:
        self._same_process()
        if self.path is not None:
            with translated():
                if not self._same_file(self.path):
                    return False
        if self._ready:
            return True
        with translated(), self._only_reader(), self.engine.connect() as connection:
            number = schema.number(connection)
            if number is None:
                return False
            self.store_id = connection.scalar(schema.STORE_ID)
            found = connection.scalar(schema.BACKEND_URL)
        schema.require_current(number, self)
        schema.require_backend(found, self)
        self._ready = True
        return True

    def _same_file(self, path: Path) -> bool:
        """True when the file is there; one that was put in place of it is opened anew.

        What is written to a file that was removed would be lost without a word.
        """
        try:
            facts = os.stat(path)  # noqa: PTH116 - pathlib costs more, at every transaction
        except (FileNotFoundError, NotADirectoryError):
            facts = None
        found = (facts.st_dev, facts.st_ino) if facts is not None else None
        if found != self._file:
            with self._setup:
                if found != self._file:
                    self._ready = False
                    if self._engine is not None and self._given is None and self._file is not None:
                        self._engine.dispose()
                        self._engine = None
                    self._file = found
        return found is not None

    def require(self) -> None:
        """Raise ``NoStore`` unless there is a catalog here."""
        if not self.exists():
            raise NoStore(
                f"No store here ({self.name}).",
                hint="Run 'calotype init', pass --store, or put something first.",
            )

    def ensure(self) -> None:
        """Make the catalog unless it is there; any number of processes may do so at once."""
        if self.exists():
            return
        with translated():
            if self.own and self.path is not None and not self.path.exists():
                sqlite.create(self.path, self._fill)
                reserve.keep(self.path)
            else:
                if self.own and self.path is not None:
                    sqlite.use_wal(self.engine, self.path)
                self._fill(self.engine)
        self.exists()

    def _fill(self, engine: Engine) -> None:
        with self._writing(engine) as connection:
            if schema.number(connection) is None:
                schema.create(connection, self.backend_url, self.clock())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the catalog; ``NoStore`` where there is none."""
        self.require()
        with translated(), self._only_reader(), self._connected() as connection:
            connection.begin()
            if self.is_sqlite and not sqlite.in_transaction(connection):
                sqlite.tell(connection, "BEGIN")
            yield connection
            at_rest.require_unchanged(connection)

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
        self._settle()
        if self._log is not None:
            self._log.before(rows, freeing)
        hasty = sqlite.HASTY if not durable and self._log is not None else None
        with translated(), self._writing(self.engine, hasty, patience) as connection:
            ahead = self._log.ahead(connection, freeing) if self._log is not None else None
            yield connection
            if self._log is not None and ahead is not None:
                self._log.require_short(connection, ahead)
        if self._log is not None:
            self._log.after(freeing)
        if durable and self._log is not None:
            with suppress(CalotypeError):  # else before the next write, which then begins nothing
                self._settle()

    def _settle(self) -> None:
        """Write again what a failed sync may have left in the page cache alone.

        SQLite reads such a commit back from its log as if it were durable, and no later sync of
        the log would tell. So the log is moved into the file, which is synced by itself. What
        SQLite opened read-only stays so until every connection of the process is closed.
        """
        if not self._doubtful or not self.own or self.path is None:
            return
        with translated(), self._turn(self._patience):
            if self._doubtful:
                self.engine.dispose()
                with reserve.lent(self.path, reserve.log_size(self.path)):
                    sqlite.move_wal_into_file(self.engine, self.path)
                self._doubtful = False

    @contextmanager
    def rebuilding(self) -> Iterator[Connection]:
        """A write transaction in which SQLite lets tables be replaced that others point at."""
        unbound = sqlite.UNBOUND if self.is_sqlite else None
        with translated(), self._writing(self.engine, unbound) as connection:
            yield connection

    @contextmanager
    def _writing(
        self,
        engine: Engine,
        special: tuple[str, str] | None = None,
        patience: float | None = None,
    ) -> Iterator[Connection]:
        """``special`` is a setting of SQLite's for this transaction alone, and its usual value."""
        patience = self._patience if patience is None else patience
        with self._turn(patience), self._connected(engine) as connection:
            if special is not None:
                sqlite.tell(connection, special[0])
            try:
                with self._strict(connection):
                    begin(connection, self.name, self.path, patience, ours=self._given is None)
                    yield connection
                    connection.commit()
            finally:
                connection.rollback()
                if special is not None:
                    sqlite.tell(connection, special[1])

    @contextmanager
    def _strict(self, connection: Connection) -> Iterator[None]:
        """On an application's engine its own settings are set aside for the transaction."""
        if self._given is None or connection.dialect.name != "sqlite":
            yield
            return
        with sqlite.strictly(connection):
            try:
                yield
            finally:
                connection.rollback()

    @contextmanager
    def _turn(self, patience: float) -> Iterator[None]:
        """Threads of one process queue here, which is fairer than polling for SQLite's lock."""
        gate = self._gate
        if not gate.acquire(timeout=patience):
            raise Locked(
                f"The catalog {self.name} is locked by another thread of this process.",
                hint="End the transaction that the other thread holds.",
            )
        try:
            yield
        finally:
            gate.release()

    def _only_reader(self) -> threading.Lock | nullcontext[None]:
        return self._gate if self.memory else nullcontext()

    @contextmanager
    def _connected(self, engine: Engine | None = None) -> Iterator[Connection]:
        with (engine or self.engine).connect() as connection:
            try:
                yield connection
            except Exception as error:
                if spoils_connection(error):
                    self._doubtful = True
                    connection.invalidate()
                raise

    def sweep(self, older_than: Instant) -> int:
        """Remove files that killed makers of the catalog left; how many there were.

        The room that is kept back for a full disk is taken again, once there is plenty.
        """
        if not self.own or self.path is None or not self.exists():
            return 0
        with translated():
            reserve.keep(self.path)
            return sqlite.sweep_drafts(self.path, older_than)

    def close(self) -> None:
        """Close every connection; the next use opens again. One in memory stays as it is."""
        if self.memory or self._given is not None or self._pid != os.getpid():
            return
        with self._setup:
            if self._engine is not None:
                self._engine.dispose()
            self._forget()
