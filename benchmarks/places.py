"""Where benchmarks work: new folders for every run under .bench/, removed when all is done."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
GIB = 1 << 30

_runs: list[Path] = []


def fresh(name: str) -> Path:
    """A new empty folder. It is removed at exit only: deletions slow later creations down."""
    if not _runs:
        (BENCH / "runs").mkdir(parents=True, exist_ok=True)
        _runs.append(Path(tempfile.mkdtemp(dir=BENCH / "runs")))
        atexit.register(shutil.rmtree, _runs[0])
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_runs[0]))


def cached(name: str) -> Path:
    """The path of something that is made once and kept between runs."""
    (BENCH / "cache").mkdir(parents=True, exist_ok=True)
    return BENCH / "cache" / name


def require_room(gib: float, what: str) -> None:
    """Stop before a disk is filled: ``what`` needs so many GiB."""
    BENCH.mkdir(exist_ok=True)
    free = shutil.disk_usage(BENCH).free / GIB
    if free < gib + 2:
        raise SystemExit(f"{what} needs {gib:.1f} GiB and 2 to spare; {BENCH} has {free:.1f}.")


def settle() -> None:
    """Write out what earlier rounds left dirty, so that no round pays for another."""
    os.sync()


def warm(paths: Iterable[Path]) -> None:
    """Read files, so that every side finds them in the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
