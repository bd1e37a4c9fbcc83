"""The sides of ingest: the floor in C, Calotype, and its peers, each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.places import BENCH, ROOT, cached

HERE = Path(__file__).parent
HASHFS = "hashfs==0.7.2"
DVC = "dvc==3.67.1"
BORG = {
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}


def floor(folder: Path, files: Sequence[Path], *, durable: bool = False) -> float:
    """Read, SHA-256, write unique, rename, on 2 threads; ``durable`` adds one syncfs."""
    command = [str(_floor_program()), "2", str(folder), *(["sync"] if durable else [])]
    started = perf_counter()
    run(command, files)
    return perf_counter() - started


def calotype(folder: Path, files: Sequence[Path]) -> dict[str, float]:
    """Seconds and peak memory of one ``put_many``."""
    command = [sys.executable, "-m", "benchmarks.load", str(folder)]
    answer: dict[str, float] = json.loads(run(command, files))
    return answer


def hashfs(folder: Path, files: Sequence[Path]) -> float:
    """Seconds of one put a file."""
    answer = json.loads(
        run([python_with(HASHFS), str(HERE / "peer_hashfs.py"), str(folder)], files)
    )
    return float(answer["seconds"])


def import_(folder: Path, tree: Path) -> float:
    """Seconds of a whole ``calotype import``."""
    command = [Path(sys.executable).with_name("calotype"), "import", tree, "--owner", "bench/1"]
    return _timed([*command, "--store", folder / "store", "-q"])


def import_into(catalog: str, backend: str, tree: Path) -> float:
    """Seconds of a whole ``calotype import`` into a catalog and a backend."""
    command = [Path(sys.executable).with_name("calotype"), "import", tree, "--owner", "bench/1"]
    named = {"CALOTYPE_CATALOG": catalog, "CALOTYPE_BACKENDS__MAIN__URL": backend}
    return _timed([*command, "-q"], env={**os.environ, **named})


def rsync(folder: Path, tree: Path) -> float:
    """Seconds of a whole ``rsync -a``, which hashes nothing."""
    return _timed(["rsync", "-a", f"{tree}/", folder / "copy"])


def borg(folder: Path, tree: Path) -> float:
    """Seconds of a whole ``borg create`` without encryption and compression."""
    store = folder / "repo"
    environment = {**os.environ, "BORG_BASE_DIR": str(folder), **BORG}
    if not store.exists():
        _quiet(["borg", "init", "--encryption=none", store], env=environment)
    name = f"{store}::{len(list(folder.iterdir()))}-{perf_counter()}"
    return _timed(["borg", "create", "--compression=none", name, tree], env=environment)


def restic(folder: Path, tree: Path) -> float:
    """Seconds of a whole ``restic backup`` without compression."""
    store = folder / "repo"
    environment = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(folder / "c")}
    if not store.exists():
        _quiet(["restic", "init", "-q", "-r", store], env=environment)
    command = ["restic", "backup", "-q", "-r", store, "--compression=off", tree]
    return _timed(command, env=environment)


def dvc(folder: Path, tree: Path) -> float:
    """Seconds of a whole ``dvc add`` of a copy of the tree."""
    program = _environment(DVC) / "bin" / "dvc"
    work = folder / "work"
    if not work.exists():
        work.mkdir()
        _quiet([program, "init", "-q", "--no-scm"], cwd=work)
        _quiet(["cp", "-a", tree, work / "data"])
        os.sync()
    else:
        _quiet(["rsync", "-a", f"{tree}/", work / "data"])
    return _timed([program, "add", "-q", "data"], cwd=work)


def _timed(command: Sequence[str | Path], **more: Any) -> float:
    started = perf_counter()
    _quiet(command, **more)
    return perf_counter() - started


def _quiet(command: Sequence[str | Path], **more: Any) -> None:
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} is missing: apt install borgbackup restic rsync.")
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **more)


def run(command: Sequence[str], files: Sequence[Path]) -> str:
    """What a program prints that is given the files' names."""
    names = "".join(f"{path}\n" for path in files)
    done = subprocess.run(
        command, input=names, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def _floor_program() -> Path:
    program = cached("floor")
    source = HERE / "floor.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        command = ["gcc", "-O2", "-o", str(program), str(source), "-lcrypto", "-lpthread"]
        subprocess.run(command, check=True)
    return program


def python_with(package: str) -> str:
    """The Python of a virtual environment with just this peer."""
    return str(_environment(package) / "bin" / "python")


def _environment(package: str) -> Path:
    where = BENCH / f"venv-{package.partition('=')[0]}"
    if not (where / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(where)], check=True)
        install = [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", package]
        subprocess.run(install, check=True)
        (where / "made").touch()
    return where
