"""The catalog in SQLite: a file of our own, a file that an application shares, or memory."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import StatementError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from calotype.backends import Stand
from calotype.backends.folders import mark_of, mounted_over, telling
from calotype.catalog import at_rest, health, reserve, sqlite
from calotype.catalog.columns import OURS
from calotype.catalog.failures import folder_failed, spoils_connection, translated
from calotype.catalog.log import Log, SharedLog
from calotype.catalog.moving import require_here
from calotype.catalog.reserve import Freeing
from calotype.catalog.waiting import begin, blaming
from calotype.errors import CalotypeError, Locked, Misconfigured
from calotype.quantities import Instant

_ODD = (ValueError, TypeError, LookupError, AttributeError)
"""What rows may lead to that no one of ours wrote."""

EVERYWHERE = (0, 0)
"""The identity of a database that is no file."""


class Embedded:
    """A catalog in SQLite.

    ``own`` when no application shares it; ``engine`` is an application's own. Without a file and
    an engine it is in memory.
    """

    catalogued = True

    def __init__(
        self, path: Path | None, *, own: bool, engine: Engine | None, patience: float
    ) -> None:
        sqlite.require_version()
        self.path = path
        self.own = own
        self.memory = path is None and engine is None
        self._given = engine
        self._patience = patience
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._setup = threading.Lock()
        self._forked_in_use: Engine | None = None
        self._doubtful = False
        self._log = self._log_of(self.path) if self.path is not None else None
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._with_log: tuple[int, int] | None = None

    def _log_of(self, path: Path) -> Log:
        return (Log if self.own else SharedLog)(sqlite.real(path), self._connected)

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return str(self.path) if self.path is not None else "this database"

    @property
    def _place(self) -> str:
        return "" if self.path is None else str(self.path)

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
        if self._given is not None:
            if isinstance(self._given.pool, StaticPool | SingletonThreadPool):
                raise Misconfigured(
                    "The engine has one connection for everything, so the store's transactions "
                    "and the application's would be one.",
                    hint="Use the pool that create_engine() gives a file, or NullPool.",
                )
            return self._given
        if self.path is not None:
            return sqlite.engine(self.path, own=self.own)
        made = sqlite.memory_engine()
        weakref.finalize(self, made.dispose)  # lists and plans may outlive the store
        return made

    def identity(self) -> tuple[int, int] | None:
        """Which file it is, or None where there is none; another in its place is opened anew.

        What is written to a file that was removed would be lost without a word.
        """
        self._same_process()
        if self.path is None:
            return EVERYWHERE
        try:
            facts = os.stat(self.path)  # noqa: PTH116 - pathlib costs more, at every transaction
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except OSError as error:
            raise folder_failed(error) from error
        else:
            found = (facts.st_dev, facts.st_ino)
        if found != self._file:
            with self._setup:
                if found != self._file:
                    if self._engine is not None and self._given is None and self._file is not None:
                        self._engine.dispose()
                        self._engine = None
                    self._file = found
        return found

    def stand(self) -> Stand | None:
        """The folder and the file's name in it: a copy put back in its place has the same.

        One that is mounted over it, as a file, is a place of its own.
        """
        if self.path is None:
            return Stand("memory")
        file = sqlite.real(self.path)
        with telling("look at", str(file.parent)), suppress(FileNotFoundError):
            named = f"{mark_of(str(file.parent))}/{file.name}"
            over = mounted_over(str(file))
            return Stand(f"{named}/{over}" if over else named, str(file))
        return None

    def create(self, fill: Callable[[Connection], None]) -> None:
        """Make the file unless it is there, and have it filled."""
        if self.own and self.path is not None and not self.path.exists():
            sqlite.create(self.path, partial(self._fill, fill))
        else:
            if self.own and self.path is not None:
                sqlite.use_wal(self.engine, self.path)
            self._fill(fill, self.engine)
        if self.path is not None:
            reserve.keep(sqlite.real(self.path))

    def rehearse(self, fill: Callable[[Connection], None]) -> None:
        """The same in a file that is removed again, where none is there."""
        if self.path is None:
            return
        if self.path.exists() or not (self.own or self.path.parent.is_dir()):
            self._fill(fill, self.engine)
        else:
            sqlite.rehearse(self.path, partial(self._fill, fill))

    def _fill(self, fill: Callable[[Connection], None], engine: Engine) -> None:
        with self._writing(engine) as connection:
            fill(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view."""
        with translated(self._place), self._only_reader(), self._connected() as connection:
            connection.begin()
            if not sqlite.in_transaction(connection):
                sqlite.tell(connection, "BEGIN")
            with blaming(self.name, self.path):
                yield connection
            at_rest.require_unchanged(connection)

    @contextmanager
    def writing(
        self, *, durable: bool, freeing: Freeing, rows: int, patience: float | None
    ) -> Iterator[Connection]:
        """One transaction, the only writer from the start (BEGIN IMMEDIATE)."""
        self._settle()
        self._have_log()
        patience = self._patience if patience is None else patience
        log = self._log
        special = [sqlite.HASTY] if self.own and not durable else []
        if self.own and rows > 1:
            special.append(sqlite.AT_HAND)
        with (
            log.room(rows, freeing, patience) if log is not None else nullcontext(),
            translated(self._place),
            self._writing(self.engine, special, patience) as connection,
            log.within(connection, freeing) if log is not None else nullcontext(),
        ):
            if self.catalogued:
                require_here(connection)
            yield connection
        if durable:
            with suppress(CalotypeError):  # else before the next write, which then begins nothing
                self._settle()

    def _have_log(self) -> None:
        """Before the first write to a file of our own: have it in WAL mode."""
        if self.own and self.path is not None and self._with_log != self._file:
            with translated(self._place):
                sqlite.have_wal(self.engine, self.path)
            self._with_log = self._file

    def _settle(self) -> None:
        """Write again what a failed sync may have left in the page cache alone.

        SQLite reads such a commit back from its log as if it were durable, and no later sync of
        the log would tell. So the log is moved into the file, which is synced by itself. What
        SQLite opened read-only stays so until every connection of the process is closed.
        """
        if not self._doubtful or not self.own or self.path is None:
            return
        with translated(self._place), self._turn(self._patience):
            if self._doubtful:
                self.engine.dispose()
                file = sqlite.real(self.path)
                with reserve.lent(file, reserve.log_size(file)):
                    sqlite.move_wal_into_file(self.engine, file)
                self._doubtful = False

    @contextmanager
    def rebuilding(self) -> Iterator[Connection]:
        """A transaction in which tables may be replaced that others point at."""
        with translated(self._place), self._writing(self.engine, [sqlite.UNBOUND]) as connection:
            yield connection

    @contextmanager
    def _writing(
        self,
        engine: Engine,
        special: Sequence[tuple[str, str]] = (),
        patience: float | None = None,
    ) -> Iterator[Connection]:
        """``special`` are settings of SQLite's for this transaction alone, and the usual ones."""
        patience = self._patience if patience is None else patience
        with self._turn(patience), self._connected(engine) as connection:
            for setting, _ in special:
                sqlite.tell(connection, setting)
            try:
                with self._strict(connection):
                    begin(connection, self.name, self.path, patience, ours=self._given is None)
                    yield connection
                    connection.commit()
            finally:
                connection.rollback()
                for _, usual in special:
                    sqlite.tell(connection, usual)

    @contextmanager
    def _strict(self, connection: Connection) -> Iterator[None]:
        """On an application's engine its own settings are set aside for the transaction."""
        if self._given is None:
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
            raise Locked.out(
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
                elif isinstance(error, _ODD) or type(error) is StatementError:
                    health.blame(connection, error)
                raise

    def joining(self, connection: Connection) -> AbstractContextManager[None]:  # noqa: ARG002
        """A file has one place for tables."""
        return nullcontext()

    def sweep(self, older_than: Instant) -> int:
        """Remove files that killed makers of the catalog left; how many there were.

        The room that is kept back for a full disk is taken again, once there is plenty.
        """
        if self.path is None:
            return 0
        reserve.keep(sqlite.real(self.path))
        return 0 if not self.own else sqlite.sweep_drafts(self.path, older_than)

    def close(self) -> None:
        """Close every connection; the next use opens again. One in memory stays as it is."""
        if self.memory or self._given is not None or self._pid != os.getpid():
            return
        with self._setup:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = self._file = self._with_log = None
                if self.path is not None:
                    reserve.mend(sqlite.real(self.path))
