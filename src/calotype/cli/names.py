"""Names as people see them: no file name can break a line, move the cursor or hide its ending."""

from __future__ import annotations

import unicodedata


def shown(text: str) -> str:
    """``text`` with everything that is not plainly visible written as an escape.

    Control characters, line ends, bytes that are no UTF-8 (``\\xff``) and the marks that reverse
    or join writing are escaped; letters of every script and spaces stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _visible(each) else _escaped(each) for each in text)


def _visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def width(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
