"""Room kept back on the catalog's disk, so that letting go works when the disk is full.

Whatever lets go of something writes to the log first, and the log has to find room in the file in
the end. So what is kept back has three parts, and nobody takes the part of those who come after.
Only in a ``turn`` is any of it given back or taken, so no two reckon with the same room.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

from calotype.catalog.failures import disk_full
from calotype.catalog.locks import OWN_FILE, waiting_for
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

BLOCK = 64 << 10
"""It is lent in such blocks."""

_BESIDE = "-reserve"

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

TURN = 1.0
"""Seconds to wait for another's turn, by those who may have the writer's lock that it waits for."""


def place(catalog: Path) -> Path:
    """The file that holds the room."""
    return Path(f"{catalog}{_BESIDE}")


def keep(catalog: Path) -> bool:
    """Take the room unless it is taken; False, and no failure, where the disk is short.

    Only where some is left besides, and nobody has just given it back to let go of something.
    Where it may not be written, for another reason than a full disk, the store does without.
    """
    there = taken(catalog)
    if there > SIZE and not log_size(catalog):
        shorten(catalog)
    if there >= SIZE:
        return True
    if has_less_than(catalog, SIZE - there + FOR_LOG):
        return False
    with turn(catalog, 0) as mine:
        return not mine or refill(catalog, SIZE)


def keep_for_log(catalog: Path) -> bool:
    """Keep back as much more as a long log may need to be moved in; False where there is none."""
    log, there = log_size(catalog), taken(catalog)
    if log < FOR_LOG or there >= SIZE + log:
        return True
    size = SIZE + (log // PART + 1) * PART
    if not has_less_than(catalog, size - there + FOR_LOG):
        with turn(catalog, 0) as mine:
            if mine:
                refill(catalog, size)
    return taken(catalog) >= SIZE + log


def shorten(catalog: Path) -> None:
    """Give back what was kept for a long log that is empty now."""
    if taken(catalog) > SIZE:
        with turn(catalog, 0) as mine:
            if mine:
                _give_back(catalog, SIZE)


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
        room = shutil.disk_usage(os.path.dirname(catalog))  # noqa: PTH120 - as in log_size
        return room.total > 0 and room.free < size  # a ramfs says nothing
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
        return os.stat(f"{catalog}{_BESIDE}").st_size  # noqa: PTH116 - as in log_size
    except OSError:
        return 0


class _Held(threading.local):
    def __init__(self) -> None:
        self.catalogs: set[Path] = set()


_held = _Held()


@contextmanager
def turn(catalog: Path, patience: float = TURN) -> Iterator[bool]:
    """Be the only one who gives back and takes; False where that needs more than ``patience``.

    Afterwards what is missing is taken again, as much of it as there is: whoever had given it
    back has ended, killed or not. Within a turn of this thread's it is the same one.
    """
    if catalog in _held.catalogs:
        yield True
        return
    with ExitStack() as stack:
        mine = False
        with suppress(OSError):  # a folder that may only be read, say
            mine = stack.enter_context(waiting_for(place(catalog), patience))
        if mine:
            _held.catalogs.add(catalog)
            stack.callback(_held.catalogs.remove, catalog)
            stack.callback(refill, catalog, SIZE)
        yield mine


def mend(catalog: Path) -> None:
    """Take what is missing, if somebody ever kept something back there; as much as there is.

    What SQLite removes when the last connection is closed had its room from there.
    """
    if taken(catalog) < SIZE and _is_there(catalog):
        with turn(catalog, 0):
            pass


def _is_there(catalog: Path) -> bool:
    """True where something was kept back once, even if nothing is left of it."""
    return os.path.exists(place(catalog))  # noqa: PTH110 - pathlib raises what a dead disk says


@contextmanager
def lent(catalog: Path, needed: int) -> Iterator[bool]:
    """Where the disk has less than ``needed`` bytes left, so much of what is kept back is its.

    False where that is too little as well.
    """
    if needed <= 0 or not has_less_than(catalog, needed):
        yield True
        return
    if not _is_there(catalog):
        yield False
        return
    with turn(catalog) as mine:
        there = taken(catalog)
        if mine:
            _give_back(catalog, max(0, there - _whole(needed)))
        given = there - taken(catalog)
        try:
            yield given >= needed or not has_less_than(catalog, needed)
        finally:
            if mine:
                refill(catalog, there)


def share(catalog: Path, freeing: Freeing) -> None:
    """In a turn: give back what is for ``freeing``, and have what is for those who come after.

    What is kept for a long log besides stays.
    """
    for_long_log = max(0, taken(catalog) - SIZE)
    _give_back(catalog, freeing + for_long_log)
    refill(catalog, for_others(freeing))


def for_others(freeing: Freeing) -> int:
    """How many bytes are for those who come after, besides those for the log."""
    return freeing - FOR_LOG


def refill(catalog: Path, size: int) -> bool:
    """In a turn: take ``size`` bytes in all, or as many as there are; False where it is full."""
    if taken(catalog) >= size:
        return True
    try:
        _take(catalog, size)
    except OSError as error:
        return error.errno not in _FULL
    return True


def _give_back(catalog: Path, but: int) -> None:
    if taken(catalog) > but:
        with suppress(OSError), _opened(catalog) as file:
            file.truncate(but)


def _whole(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _take(catalog: Path, size: int) -> None:
    """Write where the system cannot promise it all: what there is, to the last byte."""
    with _opened(catalog) as file:
        if hasattr(os, "posix_fallocate"):
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, size)
        there = file.seek(0, os.SEEK_END)
        while there < size:
            there += file.write(bytes(min(BLOCK, size - there)))


def _opened(catalog: Path) -> io.FileIO:
    """What is kept back, to be changed; it was made when the turn began."""
    return io.FileIO(os.open(place(catalog), OWN_FILE), "r+")
