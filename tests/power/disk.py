"""A disk in a file, whose power can be cut: what was not synced is gone when it is mounted again."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = ("ext4", "xfs")
SIZES = {"ext4": 256 << 20, "xfs": 320 << 20}
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}

_SHUTDOWN = 0x8004587D
"""The ioctl of ext4, XFS and F2FS that stops a file system at once."""

_NO_LOG_FLUSH = 2
"""Not even the log is written: as if the power went."""

LIMIT = 60


class Disk:
    """A file system of one kind in an image, mounted at ``at``."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._image = folder / f"{kind}.img"
        self.at = folder / "disk"
        self.at.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SIZES[kind])
        _run(*MAKE[kind], str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it: the file system replays its own log."""
        _run("mount", "-o", "loop", str(self._image), str(self.at))

    def cut(self) -> None:
        """Cut the power: from now on every call fails, and nothing more reaches the disk."""
        descriptor = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount it; nobody may have a file of it open."""
        _run("umount", str(self.at))

    def remove(self) -> None:
        """Unmount it whoever uses it, and forget it."""
        subprocess.run(["umount", "--lazy", str(self.at)], capture_output=True, check=False)
        self._image.unlink()


def missing() -> str:
    """What keeps this machine from cutting a disk's power, or an empty string: it is tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "power cuts: they need Linux and root (mount -o loop)"
    for kind in KINDS:
        if shutil.which(MAKE[kind][0]) is None:
            return f"power cuts: {MAKE[kind][0]} is missing (apt install e2fsprogs xfsprogs)"
    try:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                disk = Disk(kind, Path(folder))
                try:
                    disk.cut()
                    disk.unmount()
                finally:
                    disk.remove()
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()[0]
        return f"power cuts: a disk in a file cannot be mounted here (CAP_SYS_ADMIN?): {said}"
    return ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT)


MISSING = missing()
