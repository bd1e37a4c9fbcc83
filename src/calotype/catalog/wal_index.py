"""The index of SQLite's log, which processes share as memory that is backed by the ``-shm`` file.

SQLite makes the file with holes. Memory over a hole gets its block when it is first written to,
and where the disk has none left the system ends the process (SIGBUS). A page of memory that lies in
one block was given it with its last byte; on file systems with smaller blocks (small ext4 ones have
1 KiB) all blocks are asked for beforehand.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

from calotype.catalog import reserve

SIZE = 256 << 10
"""Bytes of the index for 32,000 pages in the log, which is emptied at 2,000."""

REGION = 32 << 10
"""By so many bytes SQLite makes it longer, for each 16 MiB of the log."""

NEW_FILES = 512 << 10
"""With less than that left XFS makes no file; SQLite needs two, the log and its index."""

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE: SQLite finds the file as long as it made it."""


def settle(connection: sqlite3.Connection, path: Path) -> None:
    """Let a new connection to the catalog at ``path`` have its index, whatever the disk has left.

    Where there is none yet and the disk is full, its room is lent from what is kept back.
    """
    holes = _has_holes(path)
    needed = SIZE if holes else 2 * REGION + reserve.log_size(path) // 512
    if not holes and (not reserve.has_less_than(path, NEW_FILES) or _failure(connection) is None):
        return
    failure = None
    for room in (needed, NEW_FILES):
        with reserve.lent(path, room) as enough:
            failure = _failure(connection)
            if failure is None:
                if holes:
                    _fill(path)
                return
    if not enough or failure is None:
        raise sqlite3.OperationalError("database or disk is full")
    raise failure


_NO_ROOM = ("disk I/O error", "unable to open database file")


def _failure(connection: sqlite3.Connection) -> sqlite3.OperationalError | None:
    """Let SQLite open the index, or make it; what it says where it may have found no room."""
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").close()
    except sqlite3.OperationalError as error:
        if not any(sign in str(error) for sign in _NO_ROOM):
            raise
        return error
    return None


def _has_holes(path: Path) -> bool:
    """True where the disk of the catalog has blocks smaller than a page of memory."""
    if sys.platform != "linux":
        return False
    try:
        return os.statvfs(path.parent).f_frsize < mmap.PAGESIZE
    except OSError:
        return False


def _fill(path: Path) -> None:
    """Ask for the blocks of the index that is open; as many as there are.

    By SQLite's own descriptor: to close another one would end the locks of the whole process.
    """
    index = os.path.realpath(f"{path}-shm")
    libc = ctypes.CDLL(None, use_errno=True)
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(each) == index:  # noqa: PTH115 - as text
                libc.fallocate(
                    int(each.name), _KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(SIZE)
                )
