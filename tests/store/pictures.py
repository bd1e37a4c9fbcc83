"""Contents for tests: real little images, and bytes that are none."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import Image


def picture(number: int = 0, *, size: tuple[int, int] = (8, 6), format: str = "PNG") -> bytes:
    """A real image; another one for each number."""
    image = Image.new("RGB", size, (number % 256, number // 256 % 256, 77))
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that are no known file."""
    return random.Random(seed).randbytes(size)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces its dimensions and has no pixels: small, yet a bomb when decoded."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
