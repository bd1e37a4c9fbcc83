"""The brands of an ISO base media file: which of the family it is (ISO/IEC 14496-12, 4.3)."""

from __future__ import annotations

_STILL = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"hevm": "image/heic",
    b"hevs": "image/heic",
}
_MP4 = frozenset(
    [*b"isom iso2 iso3 iso4 iso5 iso6 iso7 iso8 iso9 avc1 dash M4VH M4VP MSNV".split(), b"M4V "]
)
_AUDIO = frozenset([b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "])
_LONGEST = 1024


def media_type_of_brands(head: bytes) -> str | None:
    """The media type by the ``ftyp`` box that ``head`` begins with, or None for other families."""
    length = int.from_bytes(head[:4], "big")
    if not 16 <= length <= _LONGEST or length % 4:
        return None
    box = head[:length]
    major = box[8:12]
    if major in _AUDIO:
        return None
    return _still(major, box) or _moving(major, box)


def _still(major: bytes, box: bytes) -> str | None:
    if major in _STILL:
        return _STILL[major]
    if major in _MP4 or major == b"qt  ":
        return None
    for brand in _compatible(box):
        if brand in _STILL:
            return _STILL[brand]
    return "image/heic" if major in (b"mif1", b"msf1") else None


def _moving(major: bytes, box: bytes) -> str | None:
    if major == b"qt  ":
        return "video/quicktime"
    if major in _MP4 or any(brand.startswith(b"mp4") for brand in (major, *_compatible(box))):
        return "video/mp4"
    return None


def _compatible(box: bytes) -> list[bytes]:
    return [box[at : at + 4] for at in range(16, len(box), 4)]
