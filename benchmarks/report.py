"""RESULTS.md: one section a row of benchmarks, replaced when that row is run again."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")

HEAD = """# Results

Written by `python -m benchmarks`, one section a row; a section is replaced when its row is run
again. Every ratio was taken in one run on the same work, rounds interleaved; figures are
`median (min-max)` of the rounds. The machine is a shared virtual one: compare ratios, not times.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """What one comparison found. ``cells`` are rows of text below ``columns``."""

    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        """As Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.cells]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{text}\n\n{self.note}\n" if self.note else f"{text}\n"


@dataclass(frozen=True, slots=True)
class Section:
    """A row of benchmarks: its name on the command line, its title, its tables."""

    name: str
    title: str
    tables: Sequence[Table]

    def __str__(self) -> str:
        """As Markdown, with the command and the machine it ran on."""
        tables = "\n".join(map(str, self.tables))
        return (
            f"## {self.name}: {self.title}\n\n"
            f"`python -m benchmarks {self.name}` · {machine()}\n\n{tables}"
        )


def write(section: Section) -> None:
    """Put a section into RESULTS.md in place of its predecessor."""
    sections = {section.name: str(section)}
    if RESULTS.exists():
        _, *old = re.split(r"^(?=## )", RESULTS.read_text(), flags=re.MULTILINE)
        sections = {_name(text): text for text in old} | sections
    RESULTS.write_text("\n".join([HEAD, *(text.rstrip() + "\n" for text in sections.values())]))


def _name(section: str) -> str:
    return section.removeprefix("## ").partition(":")[0]


def machine() -> str:
    """What it ran on, and how busy that was."""
    return ", ".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z",
            f"{os.cpu_count()} x {_processor()}",
            f"Linux {platform.release().partition('-')[0]}",
            f"Python {platform.python_version()}",
            f"SQLite {sqlite3.sqlite_version}",
            f"SQLAlchemy {version('sqlalchemy')}",
            " ".join(ssl.OPENSSL_VERSION.split()[:2]),
            f"load {os.getloadavg()[0]:.1f}",
        )
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()
