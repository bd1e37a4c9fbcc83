"""Root may write where nobody else may: its powers are laid down, to see what others see."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def without_powers(work: Callable[..., None], *arguments: object) -> None:
    """Do ``work`` with no capability left. For a process of its own: they do not come back.

    The user stays the same, so that Python still finds its own files.
    """
    if sys.platform == "linux":
        header, none = _Header(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(header), none) != 0:
            raise OSError(ctypes.get_errno(), "cannot lay down capabilities")
    work(*arguments)


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """``path`` and all below it, which nobody may write to while the block lasts."""
    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in (path, *path.rglob("*"))}
    for each, mode in modes.items():
        os.chmod(each, mode & ~0o222)
    try:
        yield
    finally:
        for each, mode in modes.items():
            if each.exists():
                os.chmod(each, mode)
