"""Printing: JSON lines for programs, aligned lines for people, and nothing where told so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TextIO

from calotype.cli.names import shown, width
from calotype.cli.wire import Json
from calotype.quantities import human_size

CHUNK = 500
"""Rows that are aligned with one another; later rows only ever widen a column."""

_STYLES = {"good": "32", "bad": "31", "odd": "33", "faint": "2", "strong": "1"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list: its cells for people, its object for programs.

    ``style`` colours the first cell: good, bad, odd, faint or strong.
    """

    cells: Sequence[str]
    json: Mapping[str, Json]
    style: str = ""


@dataclass(slots=True)
class Printer:
    """Where a command's answer goes. ``quiet`` prints nothing at all, ``exact`` sizes in bytes.

    ``above`` prints lines while a bar stands below them.
    """

    json: bool = False
    quiet: bool = False
    exact: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    above: Callable[[str], None] | None = None

    def record(self, value: Mapping[str, Json], text: str) -> None:
        """One thing: an object for programs, or lines for people."""
        if self.json:
            self.object(value)
        else:
            self.line(text)

    def object(self, value: Mapping[str, Json]) -> None:
        """A line of JSON, where JSON was asked for."""
        if self.json and not self.quiet:
            print(json.dumps(value), file=self.out, flush=True)

    def failure(self, value: Mapping[str, Json]) -> None:
        """A line of JSON about what failed: among the answers, or on stderr where they are not."""
        print(json.dumps(value), file=self.err if self.quiet else self.out, flush=True)

    def line(self, text: str) -> None:
        """Lines for people. Names in them went through ``shown`` before."""
        if not (self.json or self.quiet):
            self.above(text) if self.above is not None else print(text, file=self.out)

    def note(self, text: str) -> None:
        """A line for people beside the answer, on stderr."""
        if not (self.json or self.quiet):
            self.out.flush()
            print(text, file=self.err)

    def rows(self, rows: Iterable[Row], *, right: Sequence[int] = ()) -> int:
        """A list, as it comes; ``right`` are the columns that end flush. How many there were."""
        widths: list[int] = []
        count = 0
        for chunk in _chunks(rows):
            count += len(chunk)
            _widen(widths, chunk)
            for row in chunk:
                self.record(row.json, self._aligned(row, widths, right))
            self.out.flush()
        return count

    def _aligned(self, row: Row, widths: Sequence[int], right: Sequence[int]) -> str:
        cells = []
        for number, cell in enumerate(row.cells):
            gap = " " * (widths[number] - width(cell))
            styled = self.styled(cell, row.style) if number == 0 else cell
            cells.append(gap + styled if number in right else styled + gap)
        return "  ".join(cells).rstrip()

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and what they are, one a line; empty ones are left out."""
        kept = [(name, text) for name, text in pairs if text]
        edge = max((len(name) for name, _ in kept), default=0)
        for name, text in kept:
            self.line(f"{self.styled(name.ljust(edge), 'faint')}  {text}")

    def styled(self, text: str, style: str) -> str:
        """``text`` in a style, where a terminal shows styles and nobody forbade them."""
        code = _STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if code and text and colours(self.out) else text

    def size(self, number: int) -> str:
        """Bytes as people read them, or exactly."""
        return f"{number} B" if self.exact else human_size(number)


def colours(stream: TextIO) -> bool:
    """True for a terminal, unless NO_COLOR or TERM=dumb says otherwise."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def instant(moment: datetime | None) -> str:
    """``2026-01-31 12:00:00Z``, or nothing."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if moment is not None else ""


def name_of(filename: str | None) -> str:
    """A file name for a line; a dash where there is none."""
    return shown(filename) if filename else "-"


def plural(count: int, noun: str, many: str = "") -> str:
    """``1 blob``, ``2 blobs``; ``many`` where an s would not do."""
    return f"{count} {noun}" if count == 1 else f"{count} {many or f'{noun}s'}"


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _widen(widths: list[int], chunk: Sequence[Row]) -> None:
    for row in chunk:
        for number, cell in enumerate(row.cells):
            if number == len(widths):
                widths.append(0)
            widths[number] = max(widths[number], width(cell))
