"""Notes beside the objects of a folder: replaced as a whole, one writer at a time, durable.

Some files of zeros are kept back in ``spare/``, so that what is about to be erased can be told on a
full disk, too: one of them is written over in place, and renamed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from calotype.backends import Listed, folders
from calotype.backends.folders import Folder, hold_no_more, mark_of, telling, wait_alone
from calotype.backends.staged import LocalStaged
from calotype.backends.window import open_file, window
from calotype.errors import Unavailable

SPARE = "spare"
SIZES = (4 << 10, 64 << 10)
"""Room for a marker, and for the note of a batch."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_OVERWRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def write(
    root: str,
    stage: Callable[[], LocalStaged],
    name: str,
    content: bytes,
    instead_of: bytes | None,
) -> bool:
    """Write a note, if what is there is ``instead_of``; True also where it is this one already.

    Whoever compares and replaces holds the root meanwhile, which a kill ends.
    """
    with telling("put", root, name), _alone_in(root) as outer:
        there = read(root, name)
        if there == content:
            return True
        if there != instead_of:
            return False
        place, _, last = name.rpartition("/")
        if place and not os.path.isdir(f"{root}/{place}"):  # noqa: PTH112
            outer.make(place)
            outer.sync()
        with Folder.opened(root, place) as folder:
            try:
                _stage(stage, folder, last, content)
            except (Unavailable, OSError) as error:
                if not _is_full(error) or not _overwrite(root, folder, last, content):
                    raise
            folder.sync()
        return True


@contextmanager
def _alone_in(root: str) -> Iterator[Folder]:
    """The root, which nobody else holds meanwhile.

    A child that was forked meanwhile has the descriptor for as long as it lives, but not the lock.
    """
    with Folder.opened(root) as outer:
        if outer.descriptor is None:
            yield outer
            return
        wait_alone(outer.descriptor)
        try:
            yield outer
        finally:
            hold_no_more(outer.descriptor)


def _stage(
    stage: Callable[[], LocalStaged],
    folder: Folder,
    last: str,
    content: bytes,
    *,
    sealed: bool = True,
) -> None:
    staged = stage()
    try:
        staged.write(content)
        if sealed:
            staged.seal()
        staged.sync()
        staged.rename(folder, last)
    finally:
        staged.discard()


def _is_full(error: BaseException) -> bool:
    return _errno(error) in _FULL


def _errno(error: BaseException) -> int | None:
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause.errno if isinstance(cause, OSError) else None


def _overwrite(root: str, folder: Folder, last: str, content: bytes) -> bool:
    """Write into the smallest spare file that has room, and rename it; False where none has."""
    for size in SIZES:
        if len(content) > size:
            continue
        with suppress(FileNotFoundError), Folder.opened(root, SPARE) as spare:
            descriptor = os.open(spare.at(str(size)), _OVERWRITE, dir_fd=spare.descriptor)
            try:
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))
                if folders.DESCRIPTORS:
                    os.fchmod(descriptor, 0o444)
                folders.sync(descriptor)
            finally:
                os.close(descriptor)
            folder.take(f"{root}/{SPARE}/{size}", last)
            return True
    return False


def keep_spare(root: str, stage: Callable[[], LocalStaged]) -> bool:
    """Have all of the spare files again, and whole; False where they cannot be made.

    They are made under other names, and while nobody writes a note: no note becomes zeros.
    """
    try:
        with telling("write in", root, SPARE):
            with Folder.opened(root) as outer:
                outer.make(SPARE)
                outer.make("erased")
            if _missing(root):
                with _alone_in(root), Folder.opened(root, SPARE) as spare:
                    for size in _missing(root):
                        _stage(stage, spare, str(size), bytes(size), sealed=False)
                        spare.hand_over(str(size))
    except Unavailable as error:
        if _errno(error) == errno.EIO:  # nothing more may be acknowledged on such a disk
            raise
        return False
    return True


def _missing(root: str) -> list[int]:
    """Those that are not there, or that a kill has left too short."""
    with Folder.opened(root, SPARE) as spare:
        sizes = {each.name: each.size for each in spare.listed("", "") if isinstance(each, Listed)}
    return [size for size in SIZES if sizes.get(str(size)) != size]


def read(root: str, name: str) -> bytes | None:
    """The note of that name, or None."""
    place, _, last = name.rpartition("/")
    with telling("read", root, name), suppress(FileNotFoundError, NotADirectoryError):
        with Folder.opened(root, place) as folder:
            descriptor = open_file(folder, last, f"{root}/{name}")
        with window(descriptor, f"{root}/{name}", 0, None) as file:
            return file.read()
    return None


def delete(root: str, name: str) -> None:
    """Remove a note, durably; nothing happens where there is none."""
    place, _, last = name.rpartition("/")
    with (
        telling("delete", root, name),
        suppress(FileNotFoundError, NotADirectoryError),
        Folder.opened(root, place) as folder,
    ):
        folder.unlink(last)
        folder.sync()


def mark(root: str) -> str | None:
    """The root's own mark; None where it is not there."""
    with telling("look at", root), suppress(FileNotFoundError, NotADirectoryError):
        return mark_of(root)
    return None
