"""The system calls that touch files on x86-64 Linux: their numbers, and what they may do to them.

``CHANGES`` is what leaves another disk behind, ``SYNCS`` and ``LOCKS`` leave the same one, ``READS``
only look. ``GROWS`` are the calls that fail on a disk without room.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

Kind = Literal["change", "sync", "lock", "read"]

_CREATES = os.O_CREAT | os.O_TRUNC
_LOCKING = frozenset((5, 6, 7, 36, 37, 38))
"""F_GETLK, F_SETLK, F_SETLKW, and the same for open file descriptions."""


@dataclass(frozen=True, slots=True)
class Shape:
    """``fds`` and ``paths`` say which arguments name files; a path is (directory fd or None, text)."""

    name: str
    kind: Kind
    fds: tuple[int, ...] = ()
    paths: tuple[tuple[int | None, int], ...] = ()
    grows: bool = False


def _fd(name: str, kind: Kind, *fds: int, grows: bool = False) -> Shape:
    return Shape(name, kind, fds or (0,), (), grows)


def _path(name: str, kind: Kind, *paths: tuple[int | None, int], grows: bool = False) -> Shape:
    return Shape(name, kind, (), paths, grows)


BARE = (None, 0)
AT = (0, 1)

SHAPES: dict[int, Shape] = {
    0: _fd("read", "read"),
    1: _fd("write", "change", grows=True),
    2: _path("open", "read", BARE),
    4: _path("stat", "read", BARE),
    5: _fd("fstat", "read"),
    6: _path("lstat", "read", BARE),
    17: _fd("pread64", "read"),
    18: _fd("pwrite64", "change", grows=True),
    19: _fd("readv", "read"),
    20: _fd("writev", "change", grows=True),
    21: _path("access", "read", BARE),
    40: _fd("sendfile", "change", 0, 1, grows=True),
    72: _fd("fcntl", "lock"),
    73: _fd("flock", "lock"),
    74: _fd("fsync", "sync"),
    75: _fd("fdatasync", "sync"),
    76: _path("truncate", "change", BARE, grows=True),
    77: _fd("ftruncate", "change", grows=True),
    82: _path("rename", "change", BARE, (None, 1), grows=True),
    83: _path("mkdir", "change", BARE, grows=True),
    84: _path("rmdir", "change", BARE),
    85: _path("creat", "change", BARE, grows=True),
    86: _path("link", "change", BARE, (None, 1), grows=True),
    87: _path("unlink", "change", BARE),
    88: _path("symlink", "change", (None, 1), grows=True),
    90: _path("chmod", "change", BARE),
    91: _fd("fchmod", "change"),
    93: _fd("fchown", "change"),
    217: _fd("getdents64", "read"),
    257: _path("openat", "read", AT),
    258: _path("mkdirat", "change", AT, grows=True),
    262: _path("newfstatat", "read", AT),
    263: _path("unlinkat", "change", AT),
    264: _path("renameat", "change", AT, (2, 3), grows=True),
    265: _path("linkat", "change", AT, (2, 3), grows=True),
    266: _path("symlinkat", "change", (1, 2), grows=True),
    268: _path("fchmodat", "change", AT),
    269: _path("faccessat", "read", AT),
    277: _fd("sync_file_range", "sync"),
    280: _path("utimensat", "change", AT),
    285: _fd("fallocate", "change", grows=True),
    296: _fd("pwritev", "change", grows=True),
    306: _fd("syncfs", "sync"),
    316: _path("renameat2", "change", AT, (2, 3), grows=True),
    326: _fd("copy_file_range", "change", 0, 2, grows=True),
    332: _path("statx", "read", AT),
}

OPENS = {2: 1, 257: 2}
"""open and openat, and which argument holds their flags."""

TRUNCATES = (76, 77)
"""truncate and ftruncate; their second argument is the size."""


def kind(number: int, arguments: tuple[int, ...]) -> tuple[Kind, bool] | None:
    """What this call may do, and whether it may need room; None for one that does not matter."""
    shape = SHAPES[number]
    if number in OPENS and arguments[OPENS[number]] & _CREATES:
        return "change", True
    if number == 72 and arguments[1] not in _LOCKING:
        return None
    return shape.kind, shape.grows
