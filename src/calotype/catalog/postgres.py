"""The catalog in PostgreSQL: any number of processes, on any number of machines.

Writers do not wait for each other but where rows or advisory locks meet. They run at READ
COMMITTED, as the protocol was proven; what is read together shares a snapshot.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.schema import CreateSchema

from calotype.backends import Stand
from calotype.catalog import borrowing
from calotype.catalog.columns import OURS
from calotype.catalog.failures import translated
from calotype.catalog.moving import STILL_HERE
from calotype.catalog.repeating import repeatable
from calotype.catalog.reserve import Freeing
from calotype.errors import MissingExtra
from calotype.quantities import Instant

DIALECT = "postgresql"
DRIVER = "psycopg"

MAKING = 0x63616C6F74797065
"""The advisory lock of whoever makes or changes the tables: "calotype"."""

POOL = 8
"""Connections kept open for threads; as many more are opened while they are needed."""

_MAY_ASK = text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
_SYSTEM = text("SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()")
_WHERE = text(
    "SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE"
    " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,"
    " (SELECT oid FROM pg_database WHERE datname = current_database()), current_schema()"
)
_IS_THERE = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
_SEARCH_PATH = text("SELECT current_setting('search_path')")
_LEAD_BACK = text("SELECT set_config('search_path', :path, true)")
_HASTY = "SET LOCAL synchronous_commit = off"
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
"""Whoever set it to less for the role or the database: what is acknowledged is kept."""

SECRETS = ("password", "sslpassword", "passfile")
"""Options of a URL that nobody is shown."""

_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def missing(what: str) -> MissingExtra:
    """The error of ``what`` where the driver is not installed."""
    return MissingExtra(f"{what} needs psycopg.", hint="Run pip install 'calotype[postgres]'.")


def parsed(url: str) -> URL:
    """The URL, also where it begins as PostgreSQL's own programs write it."""
    return make_url(re.sub("^postgres://", "postgresql://", url))


class Postgres:
    """A catalog in PostgreSQL, at ``url`` or on an application's own ``engine``.

    Its tables are in ``schema``, or else where the connections' search_path leads first.
    """

    path = None
    own = False
    memory = False
    catalogued = True

    def __init__(
        self, url: URL, *, engine: Engine | None, schema: str | None, patience: float
    ) -> None:
        self._given = engine
        self._url = url
        self.schema = schema
        shown = url.set(drivername=DIALECT).difference_update_query(SECRETS)
        where = shown._replace(password=None).render_as_string()
        self._name = where if schema is None else f"{where} (schema {schema})"
        self._patience = patience
        self._pid = os.getpid()
        self._engine: Engine | None = None

    @property
    def name(self) -> str:
        """Where it is, for people and to be noted: with or without a password it is one place."""
        return self._name

    @property
    def _place(self) -> str:
        """What errors call it; a backend's own begin with its URL."""
        return self._name if self.catalogued else ""

    @property
    def path_setting(self) -> str:
        """The statement that leads a transaction to the schema; empty where none was chosen."""
        if self.schema is None:
            return ""
        quoted = self.engine.dialect.identifier_preparer.quote_identifier(self.schema)
        return f"SET LOCAL search_path = {quoted}; "

    @property
    def engine(self) -> Engine:
        """The engine, made on first use; a forked child opens connections of its own."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if self._engine is not None:
                self._engine.dispose(close=False)
        if self._engine is None:
            made = self._given if self._given is not None else self._made()
            self._engine = made.execution_options(**{OURS: True})
        return self._engine

    def _made(self) -> Engine:
        try:
            made = create_engine(
                self._url.set(drivername=f"{DIALECT}+{DRIVER}"),
                pool_size=POOL,
                max_overflow=POOL,
                pool_timeout=self._patience,
                pool_pre_ping=True,
            )
        except ImportError as error:
            raise missing("A catalog in PostgreSQL") from error
        weakref.finalize(self, _dispose, made, os.getpid())
        return made

    def identity(self) -> str:
        """The database that the URL names."""
        return self.name

    def stand(self) -> Stand | None:
        """The server's own id, its timeline, the database and the schema; no timeline on a standby.

        None where this user may not ask for the id: without it two servers may look the same.
        """
        with self.reading() as connection:
            if not connection.scalar(_MAY_ASK):
                return None
            whose = connection.scalar(_SYSTEM)
            timeline, database, schema = connection.execute(_WHERE).one()
        return Stand(f"{whose}:{timeline}:{database}:{schema}")

    def create(self, fill: Callable[[Connection], None]) -> None:
        """Have the tables made, by one process at a time, and before them the schema."""
        with self._changing() as connection:
            if self.schema is not None and not connection.scalar(_IS_THERE, {"name": self.schema}):
                connection.execute(CreateSchema(self.schema))
            fill(connection)

    def rehearse(self, fill: Callable[[Connection], None]) -> None:
        """The same, rolled back by an exception of ``fill``."""
        self.create(fill)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view: every statement sees the same snapshot."""
        with (
            translated(self._place),
            self.engine.connect().execution_options(**_SNAPSHOT) as connection,
            borrowing.left_if_busy(connection),
        ):
            if self.schema is not None:
                connection.exec_driver_sql(self.path_setting)
            yield connection

    @contextmanager
    def writing(
        self,
        *,
        durable: bool,
        freeing: Freeing,  # noqa: ARG002 - room on its disk is the server's affair
        rows: int,  # noqa: ARG002 - the same
        patience: float | None,
    ) -> Iterator[Connection]:
        """One transaction at READ COMMITTED that waits ``patience`` seconds for a lock."""
        patience = self._patience if patience is None else patience
        limit = f"SET LOCAL lock_timeout = {max(1, round(patience * 1000))}"
        commit = _DURABLE if durable else _HASTY
        still = f"; {STILL_HERE}" if self.catalogued else ""
        with self._begun(f"{limit}; {commit}{still}") as connection:
            yield connection

    @contextmanager
    def rebuilding(self) -> Iterator[Connection]:
        """A transaction in which tables are changed, by one process at a time."""
        with self._changing() as connection:
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self._begun(f"{_DURABLE}; SELECT pg_advisory_xact_lock({MAKING})") as connection:
            yield connection

    @contextmanager
    def _begun(self, first: str) -> Iterator[Connection]:
        """A transaction that begins with the statement ``first``."""
        with (
            repeatable(),
            translated(self._place),
            self.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
            borrowing.left_if_busy(connection),
        ):
            connection.exec_driver_sql(self.path_setting + first)
            yield connection

    @contextmanager
    def joining(self, connection: Connection) -> Iterator[None]:
        """Lead an application's transaction to the schema for the length of the block."""
        if self.schema is None:
            yield
            return
        before = connection.scalar(_SEARCH_PATH)
        connection.exec_driver_sql(self.path_setting)
        try:
            yield
        except Exception:  # no other: what is cancelled is only rolled back, which sets it back
            _lead_back(connection, before)
            raise
        _lead_back(connection, before)

    def sweep(self, older_than: Instant) -> int:  # noqa: ARG002 - it is the port's
        """Nothing lies beside it."""
        return 0

    def close(self) -> None:
        """Close every connection; the next use opens again."""
        if self._engine is not None and self._given is None and self._pid == os.getpid():
            self._engine.dispose()


def _lead_back(connection: Connection, path: object) -> None:
    if not borrowing.failed(connection):  # else what rolls it back sets this back too
        connection.execute(_LEAD_BACK, {"path": path})


def _dispose(made: Engine, pid: int) -> None:
    """Close an engine's connections, but not a parent's at the end of a forked child."""
    if pid == os.getpid():
        made.dispose()
