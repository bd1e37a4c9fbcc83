"""HEIC files have the size of their primary item, found by walking the boxes."""

from __future__ import annotations

import io
from pathlib import Path
from struct import pack

import pytest

from calotype import media
from calotype.model import Facts


def box(kind: bytes, *content: bytes) -> bytes:
    inside = b"".join(content)
    return pack(">I4s", 8 + len(inside), kind) + inside


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", bytes(4), pack(">II", width, height))


def clap(*fractions: int) -> bytes:
    return box(b"clap", pack(">8I", *fractions, 0, 1, 0, 1))


def ipma(*items: tuple[int, list[int]]) -> bytes:
    """Associations of 16-bit items with properties by 7-bit numbers."""
    rows = [pack(">HB", item, len(numbers)) + bytes(numbers) for item, numbers in items]
    return box(b"ipma", bytes(4), pack(">I", len(rows)), *rows)


def meta(properties: list[bytes], *tables: bytes, item: bytes = b"\0\0\0\0\0\1") -> bytes:
    inside = box(b"iprp", box(b"ipco", *properties), *tables)
    return box(b"meta", bytes(4), box(b"pitm", item), inside)


HEIC = box(b"ftyp", b"heic\0\0\0\0")
SIZED = meta([ispe(30, 20)], ipma((1, [1])))


def size(*boxes: bytes) -> tuple[int | None, int | None]:
    content = HEIC + b"".join(boxes)
    found = media.read(content, len(content))
    assert media.read(io.BytesIO(content), len(content)) == found
    assert found.media_type == "image/heic"
    return found.width, found.height


def test_the_primary_item_decides_among_several() -> None:
    properties = [ispe(1, 1), box(b"hvcC", bytes(20)), ispe(2, 3), ispe(5, 8)]
    table = ipma((1, [1, 2]), (2, [2, 0x80 | 3]), (3, [2, 4]))
    sizes = [size(meta(properties, table, item=pack(">IH", 0, item))) for item in (1, 2, 3, 4)]
    assert sizes == [(1, 1), (2, 3), (5, 8), (None, None)]


def test_items_and_properties_may_have_wide_numbers() -> None:
    wide = pack(">II", 0x01_00_00_01, 1) + pack(">IBHH", 70_000, 2, 0x8000 | 201, 202)
    properties = [box(b"free")] * 200 + [box(b"hvcC"), ispe(7, 9)]
    primary = b"\1\0\0\0" + pack(">I", 70_000)
    assert size(meta(properties, box(b"ipma", wide), item=primary)) == (7, 9)
    essential = pack(">II", 0x01_00_00_01, 1) + pack(">IBH", 70_000, 1, 0x8000 | 202)
    assert size(meta(properties, box(b"ipma", essential), item=primary)) == (7, 9)


@pytest.mark.parametrize(
    "boxes",
    [
        [box(b"free", bytes(50)), SIZED],
        [pack(">I4sQ", 1, b"free", 40) + bytes(24), SIZED],
        [box(b"mdat", bytes(9000)), SIZED, b"trailing junk"],
        [pack(">I", 0) + SIZED[4:]],
        [meta([ispe(30, 20)], ipma((9, [1])), ipma((8, [1])), ipma((7, [1])), ipma((1, [1])))],
    ],
)
def test_the_boxes_may_be_laid_out_otherwise(boxes: list[bytes]) -> None:
    assert size(*boxes) == (30, 20)


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [SIZED[:-1]],
        [box(b"free") * 1023, SIZED],
        [meta([ispe(30, 20)])],
        [meta([ispe(30, 20)], ipma((2, [1])))],
        [meta([ispe(30, 20)], ipma((1, [0])))],
        [meta([ispe(30, 20)], ipma((1, [2])))],
        [meta([ispe(30, 0)], ipma((1, [1])))],
        [meta([ispe(0, 20)], ipma((1, [1])))],
        [meta([box(b"ispe")], ipma((1, [1])))],
        [meta([ispe(30, 20)], *[ipma((9, [1]))] * 4, ipma((1, [1])))],
        [meta([ispe(30, 20)], ipma((1, [1])), item=b"")],
        [meta([ispe(30, 20)], box(b"ipma", b"\0\0"))],
        [box(b"meta", bytes(4), box(b"pitm", b"\0\0\0\0\0\1"))],
        [box(b"meta", bytes(4), box(b"iprp"))],
        [pack(">I4sQ", 1, b"free", 15), SIZED],
        [pack(">I4s", 7, b"free"), SIZED],
    ],
)
def test_boxes_that_do_not_tell_the_size_leave_it_out(boxes: list[bytes]) -> None:
    assert size(*boxes) == (None, None)


def test_a_file_of_a_tebibyte_is_read_at_its_header(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(HEIC + pack(">I4sQ", 1, b"mdat", 1 << 40))
        file.truncate(len(HEIC) + (1 << 40))
        file.seek(0, io.SEEK_END)
        file.write(SIZED)
    with path.open("rb") as file:
        assert media.read(file, path.stat().st_size) == Facts("image/heic", "heic", 30, 20)


@pytest.mark.parametrize(
    ("stored", "crop", "expected"),
    [
        ((64, 64), (61, 1, 47, 1), (61, 47)),
        ((64, 64), (122, 2, 47, 1), (61, 47)),
        ((64, 64), (64, 1, 64, 1), (64, 64)),
        ((64, 64), (65, 1, 10, 1), (64, 64)),
        ((64, 64), (10, 1, 65, 1), (64, 64)),
        ((64, 64), (10, 0, 10, 1), (64, 64)),
        ((64, 64), (10, 1, 10, 0), (64, 64)),
        ((64, 64), (0, 1, 10, 1), (64, 64)),
        ((64, 64), (1, 2, 10, 1), (64, 64)),
        ((0, 64), (1, 1, 1, 1), (None, None)),
    ],
)
def test_a_heic_is_cropped_to_its_clean_aperture_unless_that_is_nonsense(
    stored: tuple[int, int], crop: tuple[int, ...], expected: tuple[int | None, int | None]
) -> None:
    assert size(meta([ispe(*stored), clap(*crop)], ipma((1, [2, 1])))) == expected


def test_a_bomb_cannot_hide_behind_a_crop() -> None:
    properties = [ispe(30_000, 30_000), clap(10, 1, 10, 1)]
    content = HEIC + meta(properties, ipma((1, [1, 2])))
    assert media.read(content, len(content)) == Facts("image/heic", "heic", bomb=True)
    assert size(meta([ispe(9_000, 9_000), properties[1]], ipma((1, [1, 2])))) == (10, 10)
