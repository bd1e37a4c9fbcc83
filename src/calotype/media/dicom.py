"""Columns and Rows of a DICOM file, by a bounded walk over its data elements (PS3.5, PS3.10)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack

from calotype.media.extent import Extent
from calotype.media.window import Broken, Window

_AFTER_PREAMBLE = 132
_ELEMENTS = 4096
_UNDEFINED = 0xFFFFFFFF
_META_GROUP = 0x0002
_TRANSFER_SYNTAX = 0x0002_0010
_ROWS, _COLUMNS = 0x0028_0010, 0x0028_0011
_DELIMITERS = 0xFFFE
_ENDS = (0xFFFE_E00D, 0xFFFE_E0DD)
_LONG_FORM = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_IMPLICIT = b"1.2.840.10008.1.2"
_BIG_ENDIAN = b"1.2.840.10008.1.2.2"
_DEFLATED = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.4.95")


@dataclass(frozen=True, slots=True)
class _Syntax:
    """How elements are written: byte order, and whether each tells its type (VR)."""

    order: str
    explicit: bool


@dataclass(frozen=True, slots=True)
class _Element:
    """A data element: its tag, where its value starts, and the value's length in bytes."""

    tag: int
    start: int
    length: int


_META = _Syntax("<", explicit=True)


def columns_and_rows(window: Window) -> Extent:
    """The extent of the image; ``Broken`` for anything unusual.

    Unusual is: no transfer syntax, a deflated one, a data set that is not written as it says, and
    more than 4,096 elements before the image's own.
    """
    syntax, at = _file_meta(window)
    found: dict[int, int] = {}
    depth = 0
    for _ in range(_ELEMENTS):
        element = _element(window, at, syntax)
        if depth == 0 and element.tag > _COLUMNS:
            break
        if depth == 0 and element.tag in (_ROWS, _COLUMNS):
            found[element.tag] = _short(window, element, syntax)
        depth, at = _onward(element, depth)
        if len(found) == 2:
            return Extent(found[_COLUMNS], found[_ROWS])
    raise Broken


def _file_meta(window: Window) -> tuple[_Syntax, int]:
    """The transfer syntax, and where the data set starts."""
    uid = b""
    at = _AFTER_PREAMBLE
    for _ in range(_ELEMENTS):
        if window.take(at, 2) != b"\x02\0":
            return _syntax(uid), at
        element = _element(window, at, _META)
        if element.tag == _TRANSFER_SYNTAX:
            uid = window.take(element.start, element.length).rstrip(b"\0 ")
        at = element.start + element.length
    raise Broken


def _syntax(uid: bytes) -> _Syntax:
    if not uid or uid in _DEFLATED:
        raise Broken
    return _Syntax(">" if uid == _BIG_ENDIAN else "<", explicit=uid != _IMPLICIT)


def _element(window: Window, at: int, syntax: _Syntax) -> _Element:
    group, number = unpack(syntax.order + "HH", window.take(at, 4))
    tag = group << 16 | number
    if not syntax.explicit or group == _DELIMITERS:
        (length,) = unpack(syntax.order + "I", window.take(at + 4, 4))
        return _Element(tag, at + 8, length)
    kind, short = unpack(syntax.order + "2sH", window.take(at + 4, 4))
    if kind in _LONG_FORM:
        (length,) = unpack(syntax.order + "I", window.take(at + 8, 4))
        return _Element(tag, at + 12, length)
    if not (kind.isalpha() and kind.isupper()):
        raise Broken
    return _Element(tag, at + 8, short)


def _onward(element: _Element, depth: int) -> tuple[int, int]:
    """The depth of nesting, and the place of the next element, which may be inside this one."""
    if element.tag in _ENDS:
        return depth - 1, element.start
    if element.length == _UNDEFINED:
        return depth + 1, element.start
    return depth, element.start + element.length


def _short(window: Window, element: _Element, syntax: _Syntax) -> int:
    if element.length != 2:
        raise Broken
    return int(unpack(syntax.order + "H", window.take(element.start, 2))[0])
