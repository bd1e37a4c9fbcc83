"""Room kept back on the catalog's disk, so that letting go works when the disk is full."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from calotype.errors import Unavailable

SIZE = 1 << 20
"""Enough for the rows of many releases and of a run of gc that frees more."""

ENOUGH = SIZE + SIZE // 2
"""Free room from which on it is taken."""


def place(catalog: Path) -> Path:
    """The file that holds the room."""
    return Path(f"{catalog}-reserve")


def keep(catalog: Path) -> bool:
    """Take the room unless it is taken; False, and no failure, where the disk is short."""
    file = place(catalog)
    with suppress(OSError):
        room = shutil.disk_usage(catalog.parent)
        if not _taken(file) and (room.free >= ENOUGH or room.total == 0):  # ramfs says nothing
            handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                _allocate(handle)
            finally:
                os.close(handle)
    return _taken(file)


def is_short(catalog: Path) -> bool:
    """True without the room, and where the disk could not take the log into the catalog's file."""
    if not keep(catalog):
        return True
    try:
        log = os.stat(f"{catalog}-wal").st_size  # noqa: PTH116 - pathlib costs more, at every write
        return log > 0 and shutil.disk_usage(catalog.parent).free < log
    except OSError:
        return False


def require(catalog: Path) -> None:
    """Raise ``Unavailable`` where it is short: what is kept now could not be let go of."""
    if is_short(catalog):
        raise Unavailable(
            f"The disk that holds {str(catalog)!r} is full.",
            hint="Free 2 MiB there: 'calotype release' and 'calotype gc --now' still work.",
        )


def _taken(file: Path) -> bool:
    """A full disk or a kill may have left the file without its room."""
    try:
        return os.stat(file).st_size >= SIZE  # noqa: PTH116 - pathlib costs more, at every write
    except OSError:
        return False


def _allocate(handle: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, SIZE)
    else:
        os.write(handle, bytes(SIZE))


def open_when_full(catalog: Path) -> bool:
    """Give the room back to the disk if less than half of it is free there; True if so."""
    with suppress(OSError):
        if shutil.disk_usage(catalog.parent).free < SIZE // 2:
            place(catalog).unlink(missing_ok=True)
            return True
    return False
