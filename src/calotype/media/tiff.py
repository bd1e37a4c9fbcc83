"""Width and height in the first directory of a TIFF file (TIFF 6.0, and BigTIFF)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import calcsize, unpack, unpack_from

from calotype.media.extent import Extent
from calotype.media.window import Broken, Window

_WIDTH, _LENGTH = 256, 257
_ENTRIES = 512
_NUMBERS = {3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a directory is laid out: where it starts is told at ``first``."""

    first: int
    offset: str
    count: str
    entry: int


_CLASSIC = _Layout(first=4, offset="I", count="H", entry=12)
_BIG = _Layout(first=8, offset="Q", count="Q", entry=20)


def first_directory(window: Window) -> Extent:
    """ImageWidth and ImageLength; ``Broken`` without them among the first 512 entries."""
    head = window.take(0, 4)
    order = "<" if head.startswith(b"I") else ">"
    layout = _BIG if b"+" in head else _CLASSIC
    (at,) = unpack(order + layout.offset, window.take(layout.first, calcsize(layout.offset)))
    width = calcsize("=" + layout.count)
    (count,) = unpack(order + layout.count, window.take(at, width))
    table = window.at(at + width, min(count, _ENTRIES) * layout.entry)
    return Extent(_value(table, _WIDTH, order, layout), _value(table, _LENGTH, order, layout))


def _value(table: bytes, wanted: int, order: str, layout: _Layout) -> int:
    """The one number of a tag, which stands in the entry itself."""
    room = calcsize("=" + layout.offset)
    for start in range(0, len(table) - layout.entry + 1, layout.entry):
        tag, kind, many = unpack_from(order + "HH" + layout.offset, table, start)
        if tag == wanted and many == 1 and kind in _NUMBERS:
            number = _NUMBERS[kind]
            if calcsize("=" + number) <= room:
                at = start + layout.entry - room
                return int(unpack_from(order + number, table, at)[0])
    raise Broken
