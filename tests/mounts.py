"""Small disks in memory, and folders that may only be read: what takes root to make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT = 30
"""Seconds after which a mount counts as hung."""


def missing() -> str:
    """What keeps this machine from mounting, or an empty string: it is tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "tests with a small disk of their own: they need Linux and root (mount -t tmpfs)"
    if shutil.which("mount") is None or shutil.which("umount") is None:
        return "tests with a small disk of their own: they need the commands 'mount' and 'umount'"
    try:
        with tempfile.TemporaryDirectory() as folder:
            disk, view = Path(folder, "disk"), Path(folder, "view")
            with small_disk(disk, "1m"), read_only(disk, view):
                pass
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()[0]
        return (
            f"tests with a small disk of their own: it cannot be mounted (CAP_SYS_ADMIN?): {said}"
        )
    return ""


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A disk of ``size`` (``8m``) at ``path`` while the block lasts."""
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "calotype-test", str(path))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(path))


def fill_up(path: Path) -> None:
    """Write zeros into ``path`` until the disk takes not one byte more, or not even a file."""
    try:
        with path.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
    except OSError:
        return


@contextmanager
def read_only(path: Path, view: Path) -> Iterator[None]:
    """``path`` seen at ``view``, where nothing can be written; at ``path`` all stays as it is."""
    view.mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", str(path), str(view))
    try:
        _run("mount", "-o", "remount,bind,ro", str(view))
        yield
    finally:
        _run("umount", "--lazy", str(view))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT)


MISSING = missing()

needs_mounts = pytest.mark.mounts
"""A test that is collected only where nothing is ``MISSING``; the line at the end says so."""
