"""The boxes of a HEIF file (HEIC, AVIF): the size of its primary item (ISO/IEC 23008-12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import unpack

from calotype.media.extent import Extent
from calotype.media.window import LIMIT, Broken, Window

_BOXES = 1024
_ASSOCIATIONS = 4
_VERSION_AND_FLAGS = 4


@dataclass(frozen=True, slots=True)
class _Box:
    """A box by its kind, and where its content starts and stops."""

    kind: bytes
    start: int
    stop: int


def primary_item(window: Window) -> Extent:
    """The image size of the primary item (``ispe``), cropped (``clap``) but not rotated.

    Encoders pad a picture to the block size of their codec and crop it again by ``clap``. Looks
    at 1,024 boxes of each level and at 64 KiB of each of four tables of associations (the
    standard allows no more); ``Broken`` where those do not tell it.
    """
    meta = _only(b"meta", _boxes(window, 0, window.size))
    inner = list(_boxes(window, meta.start + _VERSION_AND_FLAGS, meta.stop))
    item = _primary(window, _only(b"pitm", inner))
    properties = list(_properties(window, _only(b"iprp", inner), item))
    size = _only(b"ispe", properties)
    width, height = unpack(">II", window.take(size.start + _VERSION_AND_FLAGS, 8))
    for crop in (each for each in properties if each.kind == b"clap"):
        return _cropped(width, height, window.take(crop.start, 16))
    return Extent(width, height)


def _cropped(width: int, height: int, aperture: bytes) -> Extent:
    """The clean aperture, given as two fractions; a nonsensical one crops nothing."""
    across, by, down, over = unpack(">4I", aperture)
    if not (by and over and by <= across <= width * by and over <= down <= height * over):
        return Extent(width, height)
    inner = Extent(across // by, down // over)
    return Extent(inner.width, inner.height, width * height - inner.pixels)


def _properties(window: Window, box: _Box, item: int) -> Iterator[_Box]:
    """The properties associated with an item, in their order."""
    tables = list(_boxes(window, box.start, box.stop))
    container = _only(b"ipco", tables)
    shared = list(_boxes(window, container.start, container.stop))
    associations = [table for table in tables if table.kind == b"ipma"]
    for table in associations[:_ASSOCIATIONS]:
        for index in _associated(window, table, item):
            if 1 <= index <= len(shared):
                yield shared[index - 1]


def _boxes(window: Window, start: int, stop: int) -> Iterator[_Box]:
    """The boxes from ``start`` to ``stop``, up to the first one that is not whole."""
    for _ in range(_BOXES):
        if start + 8 > stop:
            return
        length, kind = unpack(">I4s", window.take(start, 8))
        content = start + 8
        if length == 1:
            (length,) = unpack(">Q", window.take(content, 8))
            content += 8
        end = start + length if length else stop
        if not content <= end <= stop:
            return
        yield _Box(kind, content, end)
        start = end


def _only(kind: bytes, among: Iterable[_Box]) -> _Box:
    for box in among:
        if box.kind == kind:
            return box
    raise Broken


def _primary(window: Window, box: _Box) -> int:
    width = 4 if window.take(box.start, 1) > b"\0" else 2
    return int.from_bytes(window.take(box.start + _VERSION_AND_FLAGS, width), "big")


def _associated(window: Window, box: _Box, item: int) -> list[int]:
    """The properties, counted from 1, that an ``ipma`` box associates with an item."""
    table = window.at(box.start, min(box.stop - box.start, LIMIT))
    item_width = 4 if table[:1] > b"\0" else 2
    width, index = (2, 0x7FFF) if table[3:4] and table[3] & 1 else (1, 0x7F)
    at = 8
    while at + item_width < len(table):
        found = int.from_bytes(table[at : at + item_width], "big")
        first = at + item_width + 1
        at = first + table[first - 1] * width
        if found == item:
            entries = (table[entry : entry + width] for entry in range(first, at, width))
            return [int.from_bytes(entry, "big") & index for entry in entries]
    return []
