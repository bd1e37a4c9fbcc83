"""The facts that bytes state about themselves: media type, extension, pixels.

Facts are written once, beside the digest, and never again; so they are a function of the bytes
alone. The headers are read here rather than by Pillow, whose answers also depend on its version,
on the plug-ins that are installed and on its process-wide pixel limit (beyond 179 million pixels
it raises without saying how many there are), and which keeps a hostile file's metadata in
memory. Pillow remains the judge of this room's tests.
"""

from __future__ import annotations

from typing import BinaryIO

from calotype.media.dimensions import dimensions
from calotype.media.sniff import EXTENSIONS, OCTET_STREAM, sniff
from calotype.media.window import Window
from calotype.model import Facts

__all__ = ["EXTENSIONS", "OCTET_STREAM", "PIXEL_LIMIT", "read"]

PIXEL_LIMIT = 200_000_000
"""Pixels of the largest image that is not called a decompression bomb."""


def read(source: bytes | BinaryIO, size: int, *, pixel_limit: int = PIXEL_LIMIT) -> Facts:
    """The facts of ``source``: all the content, or a seekable binary file of ``size`` bytes.

    A file is read from its beginning wherever it stands, in pieces of at most 64 KiB; where it
    stands afterwards is not specified, and it is not closed. What the content is can make it
    neither raise nor work without bound: what is not understood is ``application/octet-stream``,
    or has no dimensions. Errors of the file itself (``OSError``) come out. Safe to call from any
    number of threads, each with a file of its own.
    """
    window = Window(source, size)
    media_type = sniff(window)
    extension = EXTENSIONS.get(media_type, "")
    extent = dimensions(media_type, window)
    if extent is None:
        return Facts(media_type, extension)
    if extent.pixels > pixel_limit:
        return Facts(media_type, extension, bomb=True)
    return Facts(media_type, extension, extent.width, extent.height)
