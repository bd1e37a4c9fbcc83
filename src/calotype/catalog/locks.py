"""Advisory locks on files: one process at a time, and none after a kill."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calotype.errors import Unavailable

STEP = 0.01
"""Seconds between two looks at a lock that another has."""


@contextmanager
def waiting_for(lock: Path, at_most: float = math.inf) -> Iterator[None]:
    """Hold the lock, however long another has it; after ``at_most`` seconds do without."""
    end = time.monotonic() + at_most
    while True:
        with only_one(lock) as mine:
            if mine or time.monotonic() >= end:
                yield
                return
        time.sleep(STEP)


@contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold an advisory lock on ``path`` among all processes; False where another has it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise Unavailable(
            f"Cannot open the lock file {path}: {error.strerror}.",
            hint="Check the permissions of the catalog's folder.",
        ) from error
    try:
        yield _try_lock(handle)
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
