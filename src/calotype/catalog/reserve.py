"""Room kept back on the catalog's disk, so that letting go works when the disk is full.

Whatever lets go of something writes to the log first, and the log has to find room in the file in
the end. So what is kept back has three parts, and nobody takes the part of those who come after.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

from calotype.catalog.failures import disk_full
from calotype.catalog.locks import waiting_for
from calotype.errors import Unavailable

T = TypeVar("T")

FOR_LOG = 512 << 10
"""With it the log can be moved into the file: a transaction on a full disk grows it by less."""

FOR_GC = 768 << 10
"""Enough for the log of a small step of gc, which then frees more."""

FOR_RELEASE = 768 << 10
"""Enough for the rows of some thousand releases, which gc can free."""

SIZE = FOR_LOG + FOR_GC + FOR_RELEASE


class Freeing(IntEnum):
    """What a transaction lets go of, and so how much it leaves of what is kept back."""

    NOTHING = SIZE
    REFERENCES = FOR_LOG + FOR_GC
    BYTES = FOR_LOG


SHORT_LOG = 256 << 10
"""A log below that is left as it is."""

NEARLY_FULL = 2 * FOR_GC
"""With less than that left on the disk the log is emptied after each letting go."""

PLENTY = 32 << 20
"""With less than that left on the disk the log is kept short."""

ROW = 16 << 10
"""Room for an asset more: its rows' pages in the log, and then in the file."""

PART = 1 << 20
"""In such parts more is kept back for a long log."""

ENOUGH = SIZE + FOR_LOG
"""Free room from which on it is taken."""

BLOCK = 64 << 10
"""It is lent in such blocks."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

TURN = 1.0
"""Seconds to wait for another borrower; a checkpoint's own connection does not wait for ever."""


def place(catalog: Path) -> Path:
    """The file that holds the room."""
    return Path(f"{catalog}-reserve")


def keep(catalog: Path) -> bool:
    """Take the room unless it is taken; False, and no failure, where the disk is short.

    Only where there is plenty: somebody may just have given it back, to let go of something. Where
    it may not be written, for another reason than a full disk, the store does without.
    """
    there = taken(catalog)
    if there > SIZE and not log_size(catalog):
        give_back(catalog, SIZE)
    if there >= SIZE:
        return True
    try:
        room = shutil.disk_usage(catalog.parent)
        if room.free >= ENOUGH or room.total == 0:  # ramfs says nothing
            _take(catalog, SIZE)
    except OSError as error:
        return error.errno not in _FULL
    return taken(catalog) >= SIZE


def keep_for_log(catalog: Path) -> bool:
    """Keep back as much more as a long log may need to be moved in; False where there is none."""
    log = log_size(catalog)
    if log < FOR_LOG or taken(catalog) >= SIZE + log:
        return True
    with suppress(OSError):
        _take(catalog, SIZE + (log // PART + 1) * PART)
    return taken(catalog) >= SIZE + log


def shorten(catalog: Path) -> None:
    """Give back what was kept for a long log that is empty now."""
    if taken(catalog) > SIZE:
        give_back(catalog, SIZE)


def is_tight(catalog: Path) -> bool:
    """True where the log takes much of what the disk has left: it had better be emptied."""
    log = log_size(catalog)
    return log >= SHORT_LOG and has_less_than(catalog, PLENTY + log)


def is_short(catalog: Path, rows: int) -> bool:
    """True without the room, or with too little for the log and so many rows more."""
    needed = min(log_size(catalog), PLENTY // 2) + rows * ROW
    return not keep(catalog) or has_less_than(catalog, needed)


def has_less_than(catalog: Path, size: int) -> bool:
    """True where the disk has less than ``size`` bytes left."""
    with suppress(OSError):
        room = shutil.disk_usage(catalog.parent)
        return room.total > 0 and room.free < size
    return False


def log_size(catalog: Path) -> int:
    """Bytes of the log, which the catalog's file has to take in one day."""
    try:
        return os.stat(f"{catalog}-wal").st_size  # noqa: PTH116 - pathlib costs more, at every write
    except OSError:
        return 0


def in_parts(
    items: Sequence[T],
    work: Callable[[Sequence[T]], None],
    alone: Callable[[T], None] | None = None,
) -> None:
    """Do ``work`` for all together, or in halves where the disk is too full for its log.

    What was done of ``items`` before it failed may be done again. ``alone`` has an item for which
    there is no room even by itself; else the error passes.
    """
    try:
        work(items)
    except Unavailable as error:
        if not disk_full(error) or (len(items) < 2 and alone is None):
            raise
        if len(items) < 2 and alone is not None:
            alone(items[0])
            return
        half = len(items) // 2
        in_parts(items[:half], work, alone)
        in_parts(items[half:], work, alone)


def require(catalog: Path, rows: int) -> None:
    """Raise ``Unavailable`` where it is short: what is kept now could not be let go of."""
    if is_short(catalog, rows):
        raise Unavailable(
            f"The disk that holds {str(catalog)!r} is full.",
            hint="Free 4 MiB there: 'calotype release' and 'calotype gc --now' still work.",
        )


def taken(catalog: Path) -> int:
    """How many bytes are kept back; a full disk or a kill may have left some of them."""
    try:
        return os.stat(place(catalog)).st_size  # noqa: PTH116 - pathlib costs more, at every write
    except OSError:
        return 0


def give_back(catalog: Path, but: int) -> int:
    """Give the room back to the disk, ``but`` so many bytes of it; how many that were."""
    there = taken(catalog)
    if there <= but:
        return 0
    with suppress(OSError):
        os.truncate(place(catalog), but)
    return max(0, there - taken(catalog))


@contextmanager
def lent(catalog: Path, needed: int) -> Iterator[None]:
    """Where the disk has less than ``needed`` bytes left, so much of what is kept back is its.

    Afterwards it is taken again, as much of it as there is. Borrowers take turns, or one would
    take what another was lent.
    """
    if needed <= 0 or not has_less_than(catalog, needed) or not taken(catalog):
        yield
        return
    with ExitStack() as turn:
        with suppress(Unavailable):  # a folder that may only be read: nothing is taken there
            turn.enter_context(waiting_for(place(catalog), TURN))
        given = give_back(catalog, max(0, taken(catalog) - _whole(needed)))
        try:
            yield
        finally:
            take_back(catalog, given)


def take_back(catalog: Path, given: int) -> None:
    """Take again what was given back, or as much of it as there is."""
    if not given:
        return
    with suppress(OSError):
        there, free = taken(catalog), shutil.disk_usage(catalog.parent).free
        size = min(there + given, (there + free) // BLOCK * BLOCK)
        if size > there:
            _take(catalog, size)


def _whole(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _take(catalog: Path, size: int) -> None:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(place(catalog), flags, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:
            there = os.lseek(handle, 0, os.SEEK_END)
            os.write(handle, bytes(max(0, size - there)))
    finally:
        os.close(handle)
