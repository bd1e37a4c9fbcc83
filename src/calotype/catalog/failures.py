"""What a database's exceptions mean in Calotype's words."""

from __future__ import annotations

import errno
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from calotype.catalog.moving import SIGN, moved_away
from calotype.errors import CalotypeError, Corrupt, Locked, Misconfigured, NoStore, Unavailable

_WITHOUT_ANY = (
    "Without any, move what is left of it away: 'calotype fsck --rebuild' makes one from the "
    "bytes alone."
)

DAMAGED = (
    "Look at the system's log (dmesg) first: a disk that fails to read looks the same, and "
    "trying again may do. Else restore a copy, or use sqlite3's .recover; the blobs are "
    f"untouched. {_WITHOUT_ANY}"
)
"""What to do about a damaged catalog."""

_DAMAGED = (Corrupt, "The catalog is damaged", DAMAGED)

_SIGNS: tuple[tuple[str, type[CalotypeError], str, str], ...] = (
    (
        "database is locked",
        Locked,
        "The catalog is locked by another writer",
        "End the transaction that holds it, or start yours with BEGIN IMMEDIATE before it reads.",
    ),
    (
        "database table is locked",
        Locked,
        "The catalog is locked by another statement of this connection",
        "Finish reading before writing.",
    ),
    (
        "database or disk is full",
        Unavailable,
        "The disk that holds the catalog is full",
        "Free some space; nothing was lost.",
    ),
    (
        "attempt to write a readonly",
        Unavailable,
        "The catalog cannot be written",
        "Check the permissions of the catalog file and its folder, and that its disk is not "
        "mounted read-only.",
    ),
    (
        "unable to open database",
        Unavailable,
        "The catalog cannot be opened",
        "Check that the folder exists and may be read and written, and that its disk can take "
        "another file (df -i).",
    ),
    (
        "disk I/O error",
        Unavailable,
        "The disk that holds the catalog failed",
        "Look at the system's log; nothing that was acknowledged is lost by trying again.",
    ),
    (
        "locking protocol",
        Unavailable,
        "The locks of the catalog failed",
        "Try again. Keep the catalog on a local disk.",
    ),
    (
        "closed database",
        Misconfigured,
        "The connection is closed",
        "Pass one that is open.",
    ),
    (
        "not a database",
        Corrupt,
        "The catalog is not an SQLite database",
        f"Restore it from a copy; the blobs are untouched. {_WITHOUT_ANY}",
    ),
    ("disk image is malformed", *_DAMAGED),
    ("malformed database schema", *_DAMAGED),
    ("unsupported file format", *_DAMAGED),
    ("no such column: calotype_", *_DAMAGED),
    ('foreign key mismatch - "calotype_', *_DAMAGED),
    (
        "Could not decode to UTF-8",
        Corrupt,
        "The catalog is damaged",
        f"'calotype fsck' tells in which rows. {DAMAGED}",
    ),
    (
        "no such table: calotype_meta",
        NoStore,
        "There are no Calotype tables in this database",
        "Put something, or run 'calotype upgrade'; or pass a connection to the store's database.",
    ),
    (
        "no such table: calotype_",
        Corrupt,
        "A table of the catalog is lost",
        "Run 'calotype fsck': it says which, and what mends it. The files under blobs/ are "
        "untouched.",
    ),
)


_DENIED = "42501"
_PERMISSION = re.compile(r"permission denied for .*")

_STATES: tuple[tuple[str, type[CalotypeError], str, str], ...] = (
    (
        "55P03",
        Locked,
        "Another transaction holds what this one needs",
        "End that transaction, or wait for it, and try again.",
    ),
    (
        "40",
        Locked,
        "The database gave up this transaction for another one; nothing was changed",
        "Try again. In a transaction of yours, roll it back and run it again.",
    ),
    (
        "53100",
        Unavailable,
        "The disk that holds the catalog is full",
        "Free some space on the database's server; nothing was lost.",
    ),
    (
        "53",
        Unavailable,
        "The database has no room for more connections or locks",
        "Raise max_connections or max_locks_per_transaction, or run fewer processes.",
    ),
    (
        "25006",
        Unavailable,
        "The database is read-only",
        "Connect to the primary server, not to a standby, as a role that may write.",
    ),
    (
        _DENIED,
        Unavailable,
        "The database's role may not do this",
        "Grant it the rights on the calotype_ tables and on their schema.",
    ),
    (
        "28",
        Misconfigured,
        "The database refused the role or its password",
        "Check the URL of the catalog.",
    ),
    (
        "3D000",
        Misconfigured,
        "There is no such database",
        "Check the URL of the catalog, or create the database.",
    ),
    (
        "3F000",
        Misconfigured,
        "The role's search_path leads to no schema that it may use",
        "Give schema=, check the search_path in the URL, or grant the role the rights on one.",
    ),
    (
        "57014",
        Unavailable,
        "The database ended the statement (statement_timeout)",
        "Give the store's role more time, or none: ALTER ROLE ... SET statement_timeout = 0.",
    ),
    (
        "57",
        Unavailable,
        "The database ended the connection",
        "Try again when the server is up. What was acknowledged is kept.",
    ),
    (
        "08",
        Unavailable,
        "The database cannot be reached",
        "Try again when the server is up. What was acknowledged is kept.",
    ),
)
"""What PostgreSQL's SQLSTATEs, or their classes, mean."""

_CONNECTING: tuple[tuple[str, str], ...] = (
    ("authentication failed", "28"),
    ("role ", "28"),
    ("no pg_hba.conf entry", "28"),
    ("does not exist", "3D000"),
    ("too many clients", "53"),
    ("connection failed", "08"),
    ("failed to resolve host", "08"),
    ("connection is bad", "08"),
    ("connection is lost", "08"),
    ("server closed the connection", "08"),
)
"""What psycopg says without an SQLSTATE: a connection was not made, or lost."""


_OF_A_PLACE = ("08", "28", "3D000", "3F000")
"""Those that say which database it is: the URL may be wrong, or its server away."""


def _meaning_of_state(error: BaseException, place: str) -> CalotypeError | None:
    """The error of ours for one of psycopg's."""
    state = getattr(error, "sqlstate", None)
    if state is None:
        ours = type(error).__module__.startswith("psycopg")
        state = next((code for sign, code in _CONNECTING if ours and sign in str(error)), None)
    if state is None:
        return None
    if state == "0A000" and "during recovery" in str(error):  # how a standby refuses READ WRITE
        state = "25006"
    for begin, kind, message, hint in _STATES:
        if state.startswith(begin):
            which = f": {place}" if place and begin in _OF_A_PLACE else ""
            if begin == _DENIED and (denied := _PERMISSION.search(str(error))):
                which = f": {denied[0]}"
            return kind(f"{message}{which}.", hint=hint)
    if state == "42P01" and "calotype_" in str(error):
        return _meaning_of(str(error).replace('relation "', "no such table: "))
    return None


def meaning(
    error: BaseException, *, committing: bool = False, place: str = ""
) -> CalotypeError | None:
    """The error of ours that a driver's one stands for, or None; it names the ``place`` it is of.

    Only in a file that is not in WAL mode is a commit locked out: by those who read.
    """
    text = str(error)
    if SIGN in text:
        return moved_away(text.partition(f"{SIGN}<")[2].rpartition(">")[0])
    if (known := _meaning_of_state(error, place)) is not None:
        return known
    if committing and "database is locked" in text:
        return Locked.out(
            "Another transaction reads the catalog, and its file lets nobody commit meanwhile; "
            "nothing was changed.",
            hint="End that transaction, or let the file be in WAL mode: PRAGMA journal_mode=WAL.",
        )
    return _meaning_of(text, place)


def _meaning_of(text: str, place: str = "") -> CalotypeError | None:
    """The error of ours for one of SQLite's, whose file is locked as a whole."""
    for sign, kind, message, hint in _SIGNS:
        if sign in text:
            make = Locked.out if kind is Locked else kind
            named = message.replace("he catalog", f"he catalog {place}") if place else message
            return make(f"{named}.", hint=hint)
    return None


_FAILING = ("disk I/O error", "locking protocol")
_SPOILING = ("attempt to write a readonly", *_FAILING)


def gave_up(error: CalotypeError) -> bool:
    """True where PostgreSQL rolled a transaction back for another one: run it again."""
    return str(getattr(getattr(error.__cause__, "orig", None), "sqlstate", "")).startswith("40")


def disk_full(error: CalotypeError) -> bool:
    """True where a commit found no room for its log."""
    return "database or disk is full" in str(error.__cause__)


def disk_failed(error: CalotypeError) -> bool:
    """True where the disk did; not where it is full or may not be written."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.EIO:
        return True
    return any(sign in str(cause) for sign in _FAILING)


def spoils_connection(error: BaseException) -> bool:
    """True where the connection itself may stay bad: opened read-only, or I/O or locks failed."""
    text = str(error)
    return any(sign in text for sign in _SPOILING)


@contextmanager
def translated(place: str = "") -> Iterator[None]:
    """Raise driver exceptions as ours; broken constraints stay ``IntegrityError`` for callers.

    What concerns the database as a whole names its ``place``.
    Where Ctrl-C comes in the middle of a statement, it is raised, and not what the driver says of
    the cleaning up after it.
    """
    before = sys.exception()
    try:
        yield
    except Exception as error:
        interruption = _interruption(error, before)
        if interruption is not None:
            raise interruption from None
        ours = _translation(error, place)
        if ours is None:
            raise
        raise ours from error


def _interruption(error: BaseException, before: BaseException | None) -> BaseException | None:
    """What is no error and was raised in the block, before its cleaning up failed with ``error``.

    ``before`` was being handled when the block began: whatever led to that is the caller's.
    """
    earlier: BaseException | None = error
    while earlier is not None and earlier is not before:
        if not isinstance(earlier, Exception):
            return earlier
        earlier = earlier.__context__
    return None


def _translation(error: Exception, place: str) -> CalotypeError | None:
    match error:
        case IntegrityError():
            return None
        case DBAPIError():
            return _ours(error, error.orig or error, place)
        case sqlite3.Error():
            return _ours(error, error, place)
        case PoolTimeoutError():
            return Locked.out(
                "Every connection of the engine's pool is in use.",
                hint="End the transactions that have them, or give the engine a larger pool.",
            )
        case OSError():
            return folder_failed(error)
        case UnicodeDecodeError():  # names of tables and columns, which fsck cannot read either
            which = f"The catalog {place}" if place else "The catalog"
            return Corrupt(f"{which} is damaged: a name in it is no text.", hint=DAMAGED)
    return None


def folder_failed(error: OSError) -> Unavailable:
    """The error of ours where the catalog's file or folder cannot be used."""
    link = Path(error.filename2 or "")
    if link.is_symlink() and not link.exists():
        return Unavailable(
            f"The catalog {link} is a link to {link.readlink()}, where no file is; nothing was "
            "changed.",
            hint="Mount or put back what it leads to, or remove the link.",
        )
    return Unavailable(
        f"The catalog's folder failed: {error}.",
        hint="Check its permissions, its free space and the system's log (dmesg).",
    )


def _ours(error: Exception, cause: BaseException, place: str) -> CalotypeError:
    committing = isinstance(error, DBAPIError) and error.statement is None
    if (known := meaning(cause, committing=committing, place=place)) is not None:
        return known
    if isinstance(error, DatabaseError | sqlite3.DatabaseError):
        return Unavailable(f"The catalog failed: {cause}.", hint="Run 'calotype doctor'.")
    return Misconfigured(f"The catalog refused: {cause}.", hint="Run 'calotype doctor'.")
