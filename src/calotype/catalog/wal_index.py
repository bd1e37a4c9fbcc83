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
import shutil
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

from calotype.catalog import reserve

SIZE = 256 << 10
"""Bytes of the index for 32,000 pages in the log, which is emptied at 2,000."""

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE: SQLite finds the file as long as it made it."""


def has_holes(path: Path) -> bool:
    """True where the disk of the catalog at ``path`` has blocks smaller than a page of memory."""
    if sys.platform != "linux":
        return False
    try:
        return os.statvfs(path.parent).f_frsize < mmap.PAGESIZE
    except OSError:
        return False


def make_room(path: Path) -> None:
    """On a full disk let the first touch of the index have the room that is kept back."""
    with suppress(OSError):
        if shutil.disk_usage(path.parent).free < SIZE:
            reserve.give_back(path)


def fill(connection: sqlite3.Connection, path: Path) -> None:
    """Ask for the blocks of the index that ``connection`` has open; as many as there are.

    By SQLite's own descriptor: to close another one would end the locks of the whole process.
    """
    connection.execute("SELECT count(*) FROM sqlite_master").close()
    index = os.path.realpath(f"{path}-shm")
    libc = ctypes.CDLL(None, use_errno=True)
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(each) == index:  # noqa: PTH115 - as text
                libc.fallocate(
                    int(each.name), _KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(SIZE)
                )
