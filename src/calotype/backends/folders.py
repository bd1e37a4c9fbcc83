"""Folders and files as the system has them: held open by descriptor, synced, failing in words.

Names are looked up from a root downwards without following a symbolic link.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Self

from calotype.backends import Listed
from calotype.errors import Unavailable

if TYPE_CHECKING:
    import ctypes

# pathlib knows no directory descriptors:
# ruff: noqa: PTH118

DESCRIPTORS = os.open in os.supports_dir_fd
"""False on Windows: paths serve instead, and directories are neither held nor synced."""

_LOCAL_DISKS = frozenset((0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994, 0x794C7630))
"""ext4, XFS, Btrfs, F2FS, tmpfs, overlayfs; servers behind FUSE and NFS never hear of a syncfs."""

_XFS_GEOMETRY = 0x80705864
"""XFS_IOC_FSGEOMETRY_V1: 112 bytes of facts, with the file system's UUID from 64 on."""

_GENERATION = 0x80007601 | struct.calcsize("l") << 16
"""FS_IOC_GETVERSION: 4 bytes, though its number says a long. Each folder that is made has others,
also where the number of an inode is used again. tmpfs, overlayfs and NFS do not tell."""

_NOT_KNOWN = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system answers to a question that it does not know."""

_FULL_SYNC = 51 if sys.platform == "darwin" else None
"""F_FULLFSYNC: on macOS fsync alone stops at the drive's cache."""

_NO_OBJECTS = frozenset(("tmp/", "spare/", "lost+found/"))

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FILE = _NOFOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0)
_WAY = getattr(os, "O_PATH", 0) | _FOLDER
READ = _FILE | os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
CREATE = _FILE | os.O_RDWR | os.O_CREAT | os.O_EXCL

NO_LINKS = "Below the root only real folders are entered: no symbolic links, no files."
_NO_LEAVE = "Give this user permission to read and write there."
_HINTS = {
    errno.ENOSPC: "Free some space on that disk and try again.",
    errno.EDQUOT: "The disk quota is used up: free some space and try again.",
    errno.EACCES: _NO_LEAVE,
    errno.EPERM: _NO_LEAVE,
    errno.EROFS: "The file system is read-only: see in the kernel's log (dmesg) why, and remount.",
    errno.EIO: "The disk failed: the kernel's log (dmesg) says more. Check it before going on.",
    errno.ENOENT: "Something removed it meanwhile: keep other programs away, and try again.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENAMETOOLONG: "Choose a root with a shorter path.",
    errno.ENOTDIR: NO_LINKS,
    errno.ELOOP: NO_LINKS,
}


@contextmanager
def telling(doing: str, root: str, name: str = "") -> Iterator[None]:
    """Turn any OSError into ``Unavailable``: what could not be done, where, why, and a way out."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"Cannot {doing} {os.path.join(root, name).rstrip('/')!r}: {error.strerror or error}.",
            hint=_HINTS.get(error.errno or 0, "Look after that disk and try again."),
        ) from error


class Folder:
    """A directory held open, so that no link can be slipped into the way to its entries."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def opened(cls, root: str, place: str = "") -> Self:
        """Open ``root``, and ``place`` below it without following a link."""
        if not DESCRIPTORS:
            return cls(os.path.join(root, place), None)
        if not place:
            return cls(root, os.open(root, _FOLDER))
        *way, last = place.split("/")
        descriptor = os.open(root, _WAY)
        for part in way:
            descriptor = _stepped(descriptor, part, _WAY)
        return cls(root, _stepped(descriptor, last, _FOLDER))

    def inner(self, name: str) -> Self:
        """Open the directory ``name`` in it."""
        path = os.path.join(self.path, name)
        if self.descriptor is None:
            return type(self)(path, None)
        return type(self)(path, os.open(name, _FOLDER | _NOFOLLOW, dir_fd=self.descriptor))

    def make(self, name: str) -> None:
        """Make the directory ``name`` in it, for its owner alone, unless it is there."""
        if make_folder(self.at(name), self.descriptor):
            self.hand_over(name)

    def hand_over(self, name: str) -> None:
        """Have what was made in it be its owner's: the administrator's gc locks nobody out."""
        if self.descriptor is None or os.geteuid() != 0:
            return
        owner = os.fstat(self.descriptor)
        if (owner.st_uid, owner.st_gid) == (0, os.getegid()):
            return
        with suppress(OSError):  # a server that squashes root, and has it be another's anyway
            os.chown(
                name, owner.st_uid, owner.st_gid, dir_fd=self.descriptor, follow_symlinks=False
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold it open no longer."""
        if self.descriptor is not None:
            os.close(self.descriptor)

    def at(self, name: str) -> str:
        """``name`` as calls with this descriptor take it."""
        return os.path.join(self.path, name) if self.descriptor is None else name

    def open(self, name: str, flags: int) -> int:
        """A descriptor of the file ``name``; a new one is for this user alone."""
        return os.open(self.at(name), flags, 0o600, dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        """Remove the file ``name``."""
        os.unlink(self.at(name), dir_fd=self.descriptor)

    def take(self, path: str, name: str) -> None:
        """Move the file at ``path`` here as ``name``, in place of what has that name.

        ``path`` may go through links: its last part is random, so there is nothing else to hit.
        """
        os.replace(path, self.at(name), dst_dir_fd=self.descriptor)

    def sync(self) -> None:
        """Make its entries durable, where the system knows of such a thing."""
        if self.descriptor is not None:
            sync(self.descriptor)

    def listed(self, place: str, prefix: str) -> list[Listed | str]:
        """Its files and, ending in a slash, its directories whose names fit ``prefix``."""
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as entries:
            found = [_listed(entry, place, prefix) for entry in entries]
        return [each for each in found if each is not None]


class Way:
    """The folders from a root down to one of them, held open while neighbours are visited."""

    def __init__(self, root: str) -> None:
        self._root = Folder.opened(root)
        self._inner: list[tuple[str, Folder]] = []

    def to(self, place: str, enter: Callable[[Folder, str, str], None]) -> Folder:
        """The folder ``place``; ``enter(outer, name, place)`` is called before each on the way.

        Not for those that are held open since the last time. No link is followed.
        """
        parts = place.split("/")
        steps = list(accumulate(parts, "{}/{}".format))
        while self._inner and self._inner[-1][0] not in steps:
            self._inner.pop()[1].close()
        for part, step in list(zip(parts, steps, strict=True))[len(self._inner) :]:
            outer = self._inner[-1][1] if self._inner else self._root
            enter(outer, part, step)
            self._inner.append((step, outer.inner(part)))
        return self._inner[-1][1]

    def close(self) -> None:
        """Hold none of them open any longer."""
        for _, folder in self._inner:
            folder.close()
        self._inner.clear()
        self._root.close()


def _stepped(outer: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | _NOFOLLOW, dir_fd=outer)
    finally:
        os.close(outer)


def hold(descriptor: int) -> None:
    """Show other processes that the file is being written, for as long as it is open."""
    _lock(descriptor, "LOCK_EX")


def hold_no_more(descriptor: int) -> None:
    """End ``hold`` or ``wait_alone``, also where a copy of the descriptor stays open in a child."""
    _lock(descriptor, "LOCK_UN")


def is_held(descriptor: int) -> bool:
    """True for a file that its writer, still alive, holds."""
    return not _lock(descriptor, "LOCK_SH")


def wait_alone(descriptor: int) -> None:
    """Wait until nobody else holds the file or folder, and hold it until ``hold_no_more``."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def mark_of(path: str) -> str:
    """What tells a folder from any other: its disk's own id, its inode, and the inode's generation.

    All stay when the disk is mounted elsewhere or the machine starts anew; a copy has others, and
    so has what is made after this one was removed. Left out is what the file system does not tell.
    """
    if sys.platform != "linux":
        return f"0:{os.stat(path).st_ino:x}"  # noqa: PTH116
    descriptor = os.open(path, _FOLDER)
    try:
        generation = _asked(descriptor, _GENERATION, 8) or b""
        number = os.fstat(descriptor).st_ino
        return f"{_disk_of(descriptor)}:{number:x}:{generation[:4].hex()}"
    finally:
        os.close(descriptor)


def _disk_of(descriptor: int) -> str:
    """The file system's own id; that of XFS in statvfs is but its device's number."""
    facts = _asked(descriptor, _XFS_GEOMETRY, 112)
    if facts is not None:
        return facts[64:80].hex()
    return f"{os.fstatvfs(descriptor).f_fsid & 0xFFFFFFFFFFFFFFFF:x}"


def _asked(descriptor: int, question: int, room: int) -> bytes | None:
    """What the file system answers; None where it does not know the question.

    Other errors come out: for who may not ask a place would seem to be another one.
    """
    import fcntl

    try:
        return fcntl.ioctl(descriptor, question, bytes(room))
    except OSError as error:
        if error.errno in _NOT_KNOWN:
            return None
        raise


def is_same_mount(one: str, other: str) -> bool:
    """True where nothing is mounted between two folders or files, no disk, folder or file.

    False where that cannot be told.
    """
    with suppress(OSError, StopIteration):
        return _mount_of(one) == _mount_of(other)
    return False


def mounted_over(path: str) -> str:
    """What tells a file that is mounted by itself over one of its folder; empty for any other.

    It is not opened: closing a database would end the locks that this process has on it.
    """
    with suppress(FileNotFoundError, PermissionError, StopIteration):  # it cannot be told
        if sys.platform == "linux" and _mount_of(path) != _mount_of(os.path.dirname(path)):  # noqa: PTH120
            return f"{os.statvfs(path).f_fsid & 0xFFFFFFFFFFFFFFFF:x}:{os.stat(path).st_ino:x}"  # noqa: PTH116
    return ""


def _mount_of(path: str) -> str:
    """The mount's own id on Linux, where one folder may be mounted in several places; else a disk.

    A descriptor by O_PATH opens nothing, and so its end leaves the locks of a file alone.
    """
    if sys.platform != "linux":
        return str(os.stat(path).st_dev)  # noqa: PTH116
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as facts:  # noqa: PTH123
            return next(line for line in facts if line.startswith("mnt_id:"))
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: str) -> bool:
    """False where another has it; a file system that knows no locks leaves it to a file's age."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, getattr(fcntl, kind) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def sync_folder(path: str) -> None:
    """Make the entries of the directory durable."""
    with Folder.opened(path) as folder:
        folder.sync()


def make_folder(path: str, descriptor: int | None = None) -> bool:
    """Make the directory, for this user alone; False where it is there."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700, dir_fd=descriptor)
        return True
    return False


def sync(descriptor: int) -> None:
    """Make a file or directory durable."""
    if _FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        import fcntl

        fcntl.fcntl(descriptor, _FULL_SYNC)


def sync_disk(descriptor: int) -> bool:
    """Make the whole file system durable; False, and nothing done, where fsync says more."""
    libc = _libc()
    if libc is None or _file_system(libc, descriptor) not in _LOCAL_DISKS:
        return False
    if libc.syncfs(descriptor):
        import ctypes

        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return True


@functools.cache
def _libc() -> ctypes.CDLL | None:
    """The C library where its syncfs reports failed writes: on Linux 5.8 and later."""
    release = [int(number) for number in re.findall(r"\d+", os.uname().release)]
    if sys.platform != "linux" or release < [5, 8]:
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _file_system(libc: ctypes.CDLL, descriptor: int) -> int:
    """The number of the kind of file system: the first field of struct statfs."""
    import ctypes

    facts = (ctypes.c_ulong * 64)()
    return facts[0] if libc.fstatfs(descriptor, facts) == 0 else 0


def _listed(entry: os.DirEntry[str], place: str, prefix: str) -> Listed | str | None:
    name = place + entry.name
    if entry.is_dir(follow_symlinks=False):
        name += "/"
        fits = name.startswith(prefix) or prefix.startswith(name)
        return name if fits and name not in _NO_OBJECTS else None
    if name.startswith(prefix):
        with suppress(FileNotFoundError):
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(facts.st_mode):
                return Listed(name, facts.st_size, facts.st_mtime_ns // 1000)
    return None
