"""The sides of ingest: the floor in C, Calotype, and hashfs, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.places import BENCH, ROOT, cached

HERE = Path(__file__).parent
HASHFS = "hashfs==0.7.2"


def floor(folder: Path, files: Sequence[Path], *, durable: bool = False) -> float:
    """Read, SHA-256, write unique, rename, on 2 threads; ``durable`` adds one syncfs."""
    command = [str(_floor_program()), "2", str(folder), *(["sync"] if durable else [])]
    started = perf_counter()
    _run(command, files)
    return perf_counter() - started


def calotype(folder: Path, files: Sequence[Path]) -> dict[str, float]:
    """Seconds and peak memory of one ``put_many``."""
    command = [sys.executable, "-m", "benchmarks.load", str(folder)]
    answer: dict[str, float] = json.loads(_run(command, files))
    return answer


def hashfs(folder: Path, files: Sequence[Path]) -> float:
    """Seconds of one put a file."""
    python = _environment(HASHFS) / "bin" / "python"
    answer = json.loads(_run([str(python), str(HERE / "peer_hashfs.py"), str(folder)], files))
    return float(answer["seconds"])


def _run(command: Sequence[str], files: Sequence[Path]) -> str:
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


def _environment(package: str) -> Path:
    """A virtual environment with just this peer."""
    where = BENCH / f"venv-{package.partition('=')[0]}"
    if not (where / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(where)], check=True)
        install = [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", package]
        subprocess.run(install, check=True)
        (where / "made").touch()
    return where
