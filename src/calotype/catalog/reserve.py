"""Room kept back on the catalog's disk, so that letting go works when the disk is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from calotype.catalog.failures import disk_full
from calotype.errors import Unavailable

T = TypeVar("T")

SIZE = 1 << 20
"""Enough for the rows of many releases and of a run of gc that frees more."""

SHORT_LOG = SIZE // 4
"""A log below that is left as it is."""

PLENTY = 32 << 20
"""With less than that left on the disk the log is kept short."""

ROW = 16 << 10
"""Room for an asset more: its rows' pages in the log, and then in the file."""

ENOUGH = SIZE + SIZE // 2
"""Free room from which on it is taken."""


def place(catalog: Path) -> Path:
    """The file that holds the room."""
    return Path(f"{catalog}-reserve")


def keep(catalog: Path) -> bool:
    """Take the room unless it is taken; False, and no failure, where the disk is short."""
    file = place(catalog)
    if _taken(file):
        return True
    with suppress(OSError):
        room = shutil.disk_usage(catalog.parent)
        if room.free >= ENOUGH or room.total == 0:  # ramfs says nothing
            handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                _allocate(handle)
            finally:
                os.close(handle)
    return _taken(file)


def is_tight(catalog: Path) -> bool:
    """True where the log takes much of what the disk has left: it had better be emptied."""
    with suppress(OSError):
        log = _log(catalog)
        room = shutil.disk_usage(catalog.parent)
        return log >= SHORT_LOG and room.free < PLENTY + log and room.total > 0
    return False


def is_short(catalog: Path, rows: int) -> bool:
    """True without the room, or with too little for the log and so many rows more."""
    if not keep(catalog):
        return True
    with suppress(OSError):
        room = shutil.disk_usage(catalog.parent)
        return room.total > 0 and room.free < min(_log(catalog), PLENTY // 2) + rows * ROW
    return False


def _log(catalog: Path) -> int:
    """Bytes of the log, which the catalog's file has to take in one day."""
    try:
        return os.stat(f"{catalog}-wal").st_size  # noqa: PTH116 - pathlib costs more, at every write
    except FileNotFoundError:
        return 0


def in_parts(items: Sequence[T], work: Callable[[Sequence[T]], None]) -> None:
    """Do ``work`` for all together, or in halves where the disk is too full for its log.

    What was done of ``items`` before it failed may be done again.
    """
    try:
        work(items)
    except Unavailable as error:
        if len(items) < 2 or not disk_full(error):
            raise
        half = len(items) // 2
        in_parts(items[:half], work)
        in_parts(items[half:], work)


def require(catalog: Path, rows: int) -> None:
    """Raise ``Unavailable`` where it is short: what is kept now could not be let go of."""
    if is_short(catalog, rows):
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
            give_back(catalog)
            return True
    return False


def give_back(catalog: Path) -> None:
    """Give the room back to the disk."""
    with suppress(OSError):
        place(catalog).unlink(missing_ok=True)
