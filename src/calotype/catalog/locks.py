"""Advisory locks on files: one process at a time, and none after a kill."""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWN_FILE = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
"""How what lies beside a database is opened: a link there is nobody's whom we trust."""

TRIES = 20
"""How often a file that comes and goes is looked for."""

STEP = 0.01
"""Seconds between two looks at a lock that another has."""


@contextmanager
def waiting_for(lock: Path, at_most: float = math.inf) -> Iterator[bool]:
    """Hold the lock once nobody else does; False where that took ``at_most`` seconds."""
    end = time.monotonic() + at_most
    while True:
        with only_one(lock) as mine:
            if mine or time.monotonic() >= end:
                yield mine
                return
        time.sleep(STEP)


@contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold an advisory lock on ``path``, DATABASE-LOCK, among all; False where another has it.

    It ends with the block, also in a child that was forked meanwhile. ``OSError`` where the file
    cannot be opened or made.
    """
    handle = _opened(path)
    try:
        mine = _try_lock(handle)
        try:
            yield mine
        finally:
            if mine:
                _unlock(handle)
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """The file, made where it is not there; no link is followed, wherever it leads."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            return os.open(path, OWN_FILE)
        with suppress(FileExistsError):
            handle = os.open(path, OWN_FILE | os.O_CREAT | os.O_EXCL, 0o600)
            _hand_over(handle, path)
            return handle
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _hand_over(handle: int, path: Path) -> None:
    """Have what was just made be the database's owner's, as SQLite does: root locks nobody out."""
    if sys.platform != "win32" and os.geteuid() == 0:
        with suppress(OSError):  # there is no database yet
            owner = os.stat(str(path).rpartition("-")[0])  # noqa: PTH116 - never opened
            os.fchown(handle, owner.st_uid, owner.st_gid)


if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """The byte that is locked: nobody else could write the bytes that the file has."""

    def _try_lock(handle: int) -> bool:
        os.lseek(handle, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
