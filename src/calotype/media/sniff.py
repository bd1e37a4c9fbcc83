"""The media type that content begins like, whatever its file name says.

Signatures follow the WHATWG MIME Sniffing standard where it has one and are stricter where it is
loose. The table is fixed: a type once given to bytes stays theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from calotype.media.brands import media_type_of_brands
from calotype.media.ebml import is_webm
from calotype.media.svg import is_svg
from calotype.media.window import Window

OCTET_STREAM = "application/octet-stream"
"""The type of everything that is not recognised; it has no extension."""

EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "image/jpeg": "jpg",
        "image/png": "png",
        "image/gif": "gif",
        "image/webp": "webp",
        "image/avif": "avif",
        "image/tiff": "tiff",
        "image/bmp": "bmp",
        "image/heic": "heic",
        "image/svg+xml": "svg",
        "application/dicom": "dcm",
        "application/pdf": "pdf",
        "video/mp4": "mp4",
        "video/quicktime": "mov",
        "video/webm": "webm",
    }
)
"""Media type -> extension, without a dot; every type that is recognised is here."""

HEAD = 1 << 12
"""Bytes that decide on every type but SVG, which may follow a long comment."""

_FIRST_BYTES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def sniff(window: Window) -> str:
    """The media type of the content: a key of ``EXTENSIONS``, or ``OCTET_STREAM``.

    The first bytes win over anything further in, so a polyglot is what it begins as. Only DICOM
    goes before TIFF, because its preamble may lawfully be a TIFF header (PS3.10, 7.1).
    """
    head = window.at(0, HEAD)
    for prefix, media_type in _FIRST_BYTES:
        if head.startswith(prefix):
            return media_type
    return _structured(head) or _loose(head, window) or OCTET_STREAM


def _structured(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return media_type_of_brands(head)
    if is_webm(head):
        return "video/webm"
    if head[128:132] == b"DICM":
        return "application/dicom"
    return "image/tiff" if head.startswith(_TIFF) else None


def _loose(head: bytes, window: Window) -> str | None:
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return "image/svg+xml" if is_svg(head, window) else None
