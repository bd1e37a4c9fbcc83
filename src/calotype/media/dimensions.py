"""Width and height, in pixels, as an image's header states them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import unpack
from zlib import crc32

from calotype.media import boxes, dicom, tiff
from calotype.media.extent import Extent
from calotype.media.window import Broken, Window

_SEGMENTS = 2048
_STANDS_ALONE = frozenset([0x00, 0x01, *range(0xD0, 0xD9)])
_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def dimensions(media_type: str, window: Window) -> Extent | None:
    """Width and height above zero; None where there are none or the header is broken."""
    reader = _READERS.get(media_type)
    if reader is None:
        return None
    try:
        extent = reader(window)
    except Broken:
        return None
    return extent if extent.width > 0 and extent.height > 0 else None


def _jpeg(window: Window) -> Extent:
    """The first frame header (ITU-T T.81, B.2.2), past at most ``_SEGMENTS`` segments."""
    at = 2
    for _ in range(_SEGMENTS):
        fill, marker, length = unpack(">BBH", window.take(at, 4))
        if fill != 0xFF:
            at = _next_marker(window, at)
        elif marker == 0xFF:
            at += 1
        elif marker in _STANDS_ALONE:
            at += 2
        elif marker in _FRAME:
            height, width = unpack(">HH", window.take(at + 5, 4))
            return Extent(width, height)
        elif marker in (0xD9, 0xDA) or length < 2:
            break
        else:
            at += 2 + length
    raise Broken


def _next_marker(window: Window, at: int) -> int:
    junk = window.at(at, 4096)
    found = junk.find(b"\xff")
    return at + (found if found >= 0 else len(junk))


def _png(window: Window) -> Extent:
    """IHDR, the first chunk, with its check sum (PNG 11.2.1)."""
    length, header, check = unpack(">I17sI", window.take(8, 25))
    if length != 13 or header[:4] != b"IHDR" or crc32(header) != check:
        raise Broken
    width, height = unpack(">II", header[4:12])
    return Extent(width, height)


def _gif(window: Window) -> Extent:
    """The logical screen."""
    width, height = unpack("<HH", window.take(6, 4))
    return Extent(width, height)


def _bmp(window: Window) -> Extent:
    """Either kind of header; a negative height means that rows run from the top."""
    if window.take(14, 4) == b"\x0c\0\0\0":
        width, height = unpack("<HH", window.take(18, 4))
    else:
        width, height = unpack("<ii", window.take(18, 8))
    return Extent(width, abs(height))


def _webp(window: Window) -> Extent:
    """The canvas (VP8X), or the one frame (RFC 9649, 2.5 to 2.7)."""
    chunk = window.take(12, 4)
    if chunk == b"VP8X":
        canvas = window.take(24, 6)
        return Extent(_little(canvas[:3]) + 1, _little(canvas[3:]) + 1)
    if chunk == b"VP8L" and window.take(20, 1) == b"\x2f":
        packed = _little(window.take(21, 4))
        return Extent((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
    if chunk == b"VP8 " and window.take(23, 3) == b"\x9d\x01\x2a":
        width, height = unpack("<HH", window.take(26, 4))
        return Extent(width & 0x3FFF, height & 0x3FFF)
    raise Broken


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")


_READERS: Mapping[str, Callable[[Window], Extent]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/webp": _webp,
    "image/tiff": tiff.first_directory,
    "image/avif": boxes.primary_item,
    "image/heic": boxes.primary_item,
    "application/dicom": dicom.columns_and_rows,
}
