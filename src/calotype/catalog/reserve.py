"""Room kept back on the catalog's disk, so that letting go works when the disk is full."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

SIZE = 1 << 20
"""Enough for the rows of many releases and of a run of gc that frees more."""

PLENTY = 8 * SIZE


def place(catalog: Path) -> Path:
    """The file that holds the room."""
    return Path(f"{catalog}-reserve")


def keep(catalog: Path) -> None:
    """Take the room unless it is taken or the disk is short; failing to is no failure."""
    file = place(catalog)
    with suppress(OSError):
        if not _taken(file) and shutil.disk_usage(catalog.parent).free > PLENTY:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                _allocate(handle)
            finally:
                os.close(handle)


def _taken(file: Path) -> bool:
    """A full disk or a kill may have left the file without its room."""
    return file.exists() and file.stat().st_size >= SIZE


def _allocate(handle: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, SIZE)
    else:
        os.write(handle, bytes(SIZE))


def open_when_full(catalog: Path) -> None:
    """Give the room back to the disk if less than half of it is free there."""
    with suppress(OSError):
        if shutil.disk_usage(catalog.parent).free < SIZE // 2:
            place(catalog).unlink()
