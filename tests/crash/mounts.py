"""Small disks in memory, and folders that may only be read: what takes root to make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def missing() -> str:
    """What keeps this machine from mounting, or an empty string."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a small disk of its own needs Linux and root (mount -t tmpfs)"
    if shutil.which("mount") is None:
        return "a small disk of its own needs the 'mount' command"
    return ""


needs_mounts = pytest.mark.skipif(bool(missing()), reason=missing())


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A disk of ``size`` (``8m``) at ``path`` while the block lasts."""
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "calotype-test", str(path))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(path))


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
    subprocess.run(command, check=True, capture_output=True, text=True)
