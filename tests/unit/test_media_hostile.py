"""No content, however hostile, makes reading raise, hang, or take memory."""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from struct import pack

import pillow_heif
import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from calotype import media
from calotype.model import Facts

pillow_heif.register_heif_opener()
DICOM = Path(pydicom.__file__).parent / "data" / "test_files"
MIB = 1 << 20
SIGNATURES = [
    b"",
    b"\xff\xd8\xff",
    b"\xff\xd8\xff\xc0\0\x0b\x08",
    b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
    b"GIF89a",
    b"%PDF-",
    b"RIFF\0\0\0\0WEBP",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f",
    b"RIFF\0\0\0\0WEBPVP8X",
    b"\0\0\0\x10ftypavif\0\0\0\0",
    b"\0\0\0\x10ftypheic\0\0\0\0\0\0\1\0meta\0\0\0\0",
    b"\0\0\0\x10ftypmif1\0\0\0\0\0\0\0\0meta\0\0\0\0\0\0\0\x0epitm\0\0\0\0\0\1",
    b"\x1a\x45\xdf\xa3",
    b"II*\0",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0",
    bytes(128) + b"DICM",
    bytes(128) + b"DICM\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0",
    bytes(128) + b"DICM\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0",
    b"BM" + bytes(12) + b"\x28\0\0\0",
    b"<svg",
    b"<!DOCTYPE svg [",
    b"<?xml ",
    b"\xff\xfe<\0",
]


@cache
def samples() -> tuple[bytes, ...]:
    pictures = []
    for form in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "HEIF"):
        file = io.BytesIO()
        Image.effect_noise((24, 18), 80).convert("RGB").save(file, form)
        pictures.append(file.getvalue())
    scans = [(DICOM / name).read_bytes() for name in ("CT_small.dcm", "MR_small_implicit.dcm")]
    return (*pictures, *scans)


def check(content: bytes) -> Facts:
    """Read from memory and from a file; the facts agree, and agree with each other."""
    found = media.read(content, len(content))
    assert media.read(io.BytesIO(content), len(content)) == found
    assert found.extension == media.EXTENSIONS.get(found.media_type, "")
    assert found.media_type in media.EXTENSIONS or found.media_type == media.OCTET_STREAM
    if found.width is None or found.height is None:
        assert found.width is found.height
    else:
        assert not found.bomb
        assert 0 < found.width * found.height <= media.PIXEL_LIMIT
    return found


@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
@settings(max_examples=400, deadline=None)
@example(b"", b"")
def test_random_bytes_after_any_signature_are_read(signature: bytes, rest: bytes) -> None:
    check(signature + rest)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_and_truncated_pictures_are_read(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(samples()))[:4096])
    place = st.integers(0, min(len(content), 1500) - 1)
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8)):
        content[at] = value
    check(bytes(content[: data.draw(st.integers(0, len(content)))]))


@given(st.text(alphabet="<!-?>svgDOCTYPExml[]\"' :/a", max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_markup_is_svg_or_nothing(text: str) -> None:
    assert check(text.encode()).media_type in ("image/svg+xml", media.OCTET_STREAM)


@pytest.mark.parametrize("number", range(10))
def test_every_single_damaged_byte_of_a_header_is_survived(number: int) -> None:
    content = samples()[number]
    whole = media.read(content, len(content))
    assert whole.width
    for at in range(min(len(content), 400)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            damaged = content[:at] + bytes([value]) + content[at + 1 :]
            found = media.read(damaged, len(damaged))
            assert found.media_type in media.EXTENSIONS or not found.extension


def box(kind: bytes, *content: bytes) -> bytes:
    inside = b"".join(content)
    return pack(">I4s", 8 + len(inside), kind) + inside


HEIC = box(b"ftyp", b"heic\0\0\0\0")
PRIMARY = box(b"pitm", b"\0\0\0\0\xff\xff")
ASSOCIATIONS = b"\0\0\0\0" + pack(">I", 20_000) + b"\0\1\0" * 21_000


def many_small_boxes() -> bytes:
    return HEIC + box(
        b"meta", bytes(4), PRIMARY, box(b"iprp", box(b"ipco", box(b"ispe") * 300_000))
    )


def many_associations() -> bytes:
    tables = [box(b"ipma", ASSOCIATIONS)] * 40
    return HEIC + box(b"meta", bytes(4), PRIMARY, box(b"iprp", box(b"ipco"), *tables))


def directory(order: str) -> bytes:
    entries = pack(order + "HHI4s", 270, 2, 2**32 - 1, b"\0\0\0\x20") * 65_535
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + pack(order + "IH", 8, 65_535) + entries


def big_directory() -> bytes:
    return b"II+\0\x08\0\0\0" + pack("<QQ", 16, 2**64 - 1) + bytes(3 * MIB)


def explicit(*elements: bytes) -> bytes:
    syntax = b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    return bytes(128) + b"DICM" + syntax + b"".join(elements)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "jpeg of endless profiles": lambda: b"\xff\xd8" + (b"\xff\xe2\xff\xff" + bytes(65_533)) * 200,
    "jpeg of empty segments": lambda: b"\xff\xd8" + b"\xff\xfe\0\x02" * MIB,
    "jpeg of filling": lambda: b"\xff\xd8" + b"\xff" * 4 * MIB,
    "jpeg of junk": lambda: b"\xff\xd8\xff\xe0\0\x02" + bytes(12 * MIB),
    "jpeg of markers": lambda: b"\xff\xd8" + b"\xff\x01\0" * MIB,
    "png of a huge header": lambda: b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(4 * MIB),
    "tiff of many tags": lambda: directory("<"),
    "tiff of many tags, big endian": lambda: directory(">"),
    "bigtiff of endless tags": big_directory,
    "tiff directory nowhere": lambda: b"II*\0\xff\xff\xff\xff" + bytes(MIB),
    "bigtiff directory nowhere": lambda: b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(MIB),
    "heic of small boxes": many_small_boxes,
    "heic of associations": many_associations,
    "heic of top-level boxes": lambda: HEIC + box(b"free") * 300_000,
    "heic of endless boxes": lambda: HEIC + pack(">I4sQ", 1, b"free", 2**64 - 1) + bytes(MIB),
    "heic of a box within itself": lambda: HEIC + pack(">I4sQ", 1, b"free", 0) + bytes(MIB),
    "dicom of elements": lambda: explicit(b"\x08\0\x60\0CS\0\0" * 200_000),
    "dicom of nesting": lambda: explicit(b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" * 100_000),
    "dicom of meta": lambda: bytes(128) + b"DICM" + b"\x02\0\x13\0SH\0\0" * 200_000,
    "dicom of long values": lambda: explicit((b"\x08\0\x60\0CS\xf8\xff" + bytes(65_528)) * 100),
    "webm of voids": lambda: b"\x1a\x45\xdf\xa3\x01\0\0\0\0\xff\xff\xff" + b"\xec\x80" * MIB,
    "svg of comments": lambda: b"<!---->" * 300_000,
    "svg of open comments": lambda: b"<!DOCTYPE svg [" + b"<!--" * 300_000,
    "svg of quotes": lambda: b"<!DOCTYPE svg [" + b"\"'" * 300_000,
    "svg of brackets": lambda: b"<!DOCTYPE svg " + b"[" * MIB,
    "svg of spaces": lambda: b"<!DOCTYPE" + b" " * MIB,
    "svg of white space": lambda: b" " * 5000 + b"<" + b" " * MIB,
    "svg of an endless prefix": lambda: b"<" + b"a" * MIB + b":svg>",
    "svg of nul in utf-16": lambda: b"\xff\xfe" + b"<\0!\0" * MIB,
    "svg of broken utf-8": lambda: b"<!--" + b"\xf0\x9f" * MIB,
    "svg of entities": lambda: b"<!DOCTYPE svg [" + b'<!ENTITY a "&a;&a;">' * 50_000 + b"]><svg/>",
}


class Watched(io.BytesIO):
    """A file that remembers how it was read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.largest = self.total = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size >= 0
        self.largest = max(self.largest, size)
        piece = super().read(size)
        self.total += len(piece)
        return piece


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_costs_little_time_and_reading(name: str) -> None:
    file = Watched(HOSTILE[name]())
    start = time.process_time()
    found = media.read(file, len(file.getvalue()))
    assert time.process_time() - start < 1
    assert file.largest <= 65_536
    assert file.total <= 20 * MIB
    assert found.width is None
    assert not found.bomb
    assert check(file.getvalue()) == found


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("traced")
def test_hostile_content_costs_little_memory(name: str, tmp_path: Path) -> None:
    content = HOSTILE[name]()
    path = tmp_path / "hostile"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        for source in (content, file):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            media.read(source, len(content))
            assert tracemalloc.get_traced_memory()[1] - before < MIB
