"""The document type of an EBML file: WebM, or some other Matroska (RFC 8794)."""

from __future__ import annotations

_HEADER = b"\x1a\x45\xdf\xa3"
_DOCTYPE = 0x4282


def is_webm(head: bytes) -> bool:
    """True when ``head`` begins with an EBML header whose document type is ``webm``."""
    if not head.startswith(_HEADER):
        return False
    length, at = _number(head, 4, marker=False)
    stop = min(at + length, len(head))
    while at < stop:
        name, at = _number(head, at, marker=True)
        length, at = _number(head, at, marker=False)
        if name == _DOCTYPE:
            return head[at : at + length].rstrip(b"\0") == b"webm"
        at += length
    return False


def _number(head: bytes, at: int, *, marker: bool) -> tuple[int, int]:
    """The variable-length number at ``at``, and where it ends: always further on."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(head[at : at + width], "big")
    return (value if marker else value & ~(1 << 7 * width)), at + width
