"""The styles that a picture can be had in; the same picture gives the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

LONGEST = 1200
"""Pixels of a staged picture's longer side, at most."""


class NoPicture(ValueError):
    """These bytes cannot be drawn: cut off, damaged, or far too large."""


def make(style: str, original: bytes) -> bytes:
    """The original in a style, as a JPEG; ``NoPicture`` where nothing can be made of it."""
    try:
        with Image.open(io.BytesIO(original)) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever they like: RuntimeError, struct.error
        raise NoPicture(f"{type(error).__name__}: {error}") from error
    picture.thumbnail((LONGEST, LONGEST))
    staged = io.BytesIO()
    STYLES[style](picture).save(staged, "JPEG", quality=88)
    return staged.getvalue()


def _bright(picture: Image.Image) -> Image.Image:
    lit = ImageEnhance.Brightness(picture).enhance(1.25)
    return ImageEnhance.Contrast(lit).enhance(1.1)


def _warm(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB", (1.12, 0, 0, 0, 0, 1.02, 0, 0, 0, 0, 0.86, 0))


def _monochrome(picture: Image.Image) -> Image.Image:
    return ImageOps.autocontrast(picture.convert("L"), cutoff=1)


STYLES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "bright": _bright,
    "warm": _warm,
    "monochrome": _monochrome,
}
