"""SVG by its root element, found without an XML parser."""

from __future__ import annotations

import re

from calotype.media.window import LIMIT, Window

_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]{0,63}:)?svg(?=[\s/>])", re.ASCII)
_DOCTYPE = re.compile(r"<!DOCTYPE\s+(?:[A-Za-z_][\w.-]{0,63}:)?svg(?=[\s\[>])", re.ASCII)
_PIECE = re.compile(r"<!--|<\?|[\"'\[\]>]")
_CLOSING = {"<!--": "-->", "<?": "?>", '"': '"', "'": "'"}
_BEFORE_MARKUP = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"


def is_svg(head: bytes, window: Window) -> bool:
    """True when the content, which starts with ``head``, has the root element ``svg``.

    The root may carry a namespace prefix. Before it only white space, an XML declaration,
    ``xml-`` instructions, comments and a document type of that name may stand, all within the
    first 64 KiB, in UTF-8 or UTF-16. A page in HTML is not SVG, whatever it contains.
    """
    if not head.lstrip(_BEFORE_MARKUP).startswith(b"<"):
        return False
    text = _decode(window.at(0, LIMIT))
    return _ROOT.match(text, _prologue(text)) is not None


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if content.startswith(b"<\0"):
        return content.decode("utf-16-le", "replace")
    if content.startswith(b"\0<"):
        return content.decode("utf-16-be", "replace")
    return content.decode("utf-8-sig", "replace")


def _prologue(text: str) -> int:
    """Where all that may stand before the root element ends; the end of text if it is open."""
    at = 0
    while True:
        at = _past_space(text, at)
        if text.startswith("<?xml", at):
            at = _past(text, "?>", at)
        elif text.startswith("<!--", at):
            at = _past(text, "-->", at + 4)
        elif doctype := _DOCTYPE.match(text, at):
            at = _past_doctype(text, doctype.end())
        else:
            return at


def _past_doctype(text: str, at: int) -> int:
    depth = 0
    while piece := _PIECE.search(text, at):
        at = piece.end()
        found = piece.group()
        if found in _CLOSING:
            at = _past(text, _CLOSING[found], at)
        elif found != ">":
            depth += 1 if found == "[" else -1
        elif depth == 0:
            return at
    return len(text)


def _past(text: str, closing: str, at: int) -> int:
    found = text.find(closing, at)
    return len(text) if found < 0 else found + len(closing)


def _past_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at
