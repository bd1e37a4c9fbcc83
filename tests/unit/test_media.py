"""calotype.media reads type and dimensions from real files, and from nothing but their bytes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pillow_heif
import pytest
import skimage
import tifffile
from PIL import Image

from calotype import media
from calotype.model import Facts

pillow_heif.register_heif_opener()
WIDTH, HEIGHT = 61, 47
SKIMAGE = Path(skimage.__file__).parent / "data"


def picture(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    return Image.effect_noise(size, 90).convert(mode)


def encoded(
    mode: str, form: str, size: tuple[int, int] = (WIDTH, HEIGHT), **options: object
) -> bytes:
    file = io.BytesIO()
    picture(mode, size).save(file, form, **options)
    return file.getvalue()


def animation(form: str) -> bytes:
    file = io.BytesIO()
    frames = [picture() for _ in range(3)]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def tiff(**options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, [[[0, 1, 2]] * WIDTH] * HEIGHT, photometric="rgb", dtype="u1", **options)
    return file.getvalue()


ENCODED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg": ("image/jpeg", lambda: encoded("RGB", "JPEG")),
    "jpeg-grey": ("image/jpeg", lambda: encoded("L", "JPEG")),
    "jpeg-cmyk": ("image/jpeg", lambda: encoded("CMYK", "JPEG")),
    "jpeg-progressive": ("image/jpeg", lambda: encoded("RGB", "JPEG", progressive=True)),
    "jpeg-rotated": ("image/jpeg", lambda: encoded("RGB", "JPEG", exif=rotated())),
    "jpeg-profile": ("image/jpeg", lambda: encoded("RGB", "JPEG", icc_profile=bytes(300_000))),
    "jpeg-comment": ("image/jpeg", lambda: encoded("RGB", "JPEG", comment=b"\xff\xc0" * 9000)),
    "png": ("image/png", lambda: encoded("RGB", "PNG")),
    "png-palette": ("image/png", lambda: encoded("P", "PNG")),
    "png-one-bit": ("image/png", lambda: encoded("1", "PNG")),
    "png-alpha": ("image/png", lambda: encoded("RGBA", "PNG")),
    "png-animated": ("image/png", lambda: animation("PNG")),
    "gif": ("image/gif", lambda: encoded("P", "GIF")),
    "gif-animated": ("image/gif", lambda: animation("GIF")),
    "webp": ("image/webp", lambda: encoded("RGB", "WEBP")),
    "webp-lossless": ("image/webp", lambda: encoded("RGB", "WEBP", lossless=True)),
    "webp-alpha": ("image/webp", lambda: encoded("LA", "WEBP")),
    "webp-profile": ("image/webp", lambda: encoded("RGB", "WEBP", icc_profile=bytes(90_000))),
    "webp-animated": ("image/webp", lambda: animation("WEBP")),
    "avif": ("image/avif", lambda: encoded("RGB", "AVIF", speed=10)),
    "avif-alpha": ("image/avif", lambda: encoded("RGBA", "AVIF", speed=10)),
    "avif-rotated": ("image/avif", lambda: encoded("RGB", "AVIF", speed=10, exif=rotated())),
    "avif-animated": ("image/avif", lambda: animation("AVIF")),
    "tiff": ("image/tiff", lambda: encoded("RGB", "TIFF")),
    "tiff-packed": ("image/tiff", lambda: encoded("RGB", "TIFF", compression="tiff_lzw")),
    "tiff-big-endian": ("image/tiff", lambda: tiff(byteorder=">")),
    "bigtiff": ("image/tiff", lambda: tiff(bigtiff=True)),
    "bigtiff-big-endian": ("image/tiff", lambda: tiff(bigtiff=True, byteorder=">")),
    "bmp": ("image/bmp", lambda: encoded("RGB", "BMP")),
    "bmp-grey": ("image/bmp", lambda: encoded("L", "BMP")),
    "heic": ("image/heic", lambda: encoded("RGB", "HEIF")),
    "heic-grey": ("image/heic", lambda: encoded("L", "HEIF")),
    "heic-alpha": ("image/heic", lambda: encoded("RGBA", "HEIF")),
}
EXTENSION = dict(
    [
        line.split()
        for line in """
    image/jpeg jpg
    image/png png
    image/gif gif
    image/webp webp
    image/avif avif
    image/tiff tiff
    image/bmp bmp
    image/heic heic
    image/svg+xml svg
    application/dicom dcm
    application/pdf pdf
    video/mp4 mp4
    video/quicktime mov
    video/webm webm
""".strip().splitlines()
    ]
)


def facts(content: bytes, **options: int) -> Facts:
    return media.read(content, len(content), **options)


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + pack(">I", 13) + header + pack(">I", zlib.crc32(header))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("name", ENCODED)
def test_an_encoded_picture_has_its_type_and_size(name: str) -> None:
    media_type, make = ENCODED[name]
    assert facts(make()) == Facts(media_type, EXTENSION[media_type], WIDTH, HEIGHT)


@pytest.mark.parametrize("name", ENCODED)
def test_a_file_says_the_same_as_its_bytes_wherever_it_stands(name: str, tmp_path: Path) -> None:
    content = ENCODED[name][1]()
    path = tmp_path / "misleading.txt"
    path.write_bytes(content)
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        buffered.seek(0, io.SEEK_END)
        raw.seek(5)
        assert media.read(buffered, len(content)) == facts(content)
        assert media.read(raw, len(content)) == facts(content)
        assert not raw.closed


@pytest.mark.parametrize("name", ENCODED)
def test_a_truncated_picture_never_has_a_false_size(name: str) -> None:
    media_type, make = ENCODED[name]
    content = make()
    whole = facts(content)
    header = bytes_needed(content, whole)
    assert header < len(content)
    for end in range(0, len(content), 1 if len(content) < 4096 else 97):
        part = facts(content[:end])
        if end >= header:
            assert part == whole
        else:
            assert (part.width, part.bomb) == (None, False)
            assert part.media_type in (media_type, "application/octet-stream")


def bytes_needed(content: bytes, whole: Facts) -> int:
    """The shortest beginning that has all the facts, by bisection."""
    low, high = 0, len(content)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if facts(content[:middle]) == whole else (middle + 1, high)
    return low


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(SKIMAGE.iterdir()) if p.suffix in (".png", ".jpg", ".gif")],
    ids=lambda p: p.name,
)
def test_a_published_picture_has_the_size_that_pillow_reads(path: Path) -> None:
    with Image.open(path) as image, path.open("rb") as file:
        assert image.format is not None
        expected = Facts(
            f"image/{image.format.lower()}", EXTENSION[f"image/{image.format.lower()}"], *image.size
        )
        assert media.read(file, path.stat().st_size) == expected


def test_a_multipage_tiff_has_the_size_of_its_first_page() -> None:
    content = (SKIMAGE / "multipage.tif").read_bytes()
    with tifffile.TiffFile(io.BytesIO(content)) as pages:
        height, width = pages.pages[0].shape[:2]
    assert facts(content) == Facts("image/tiff", "tiff", width, height)


@pytest.mark.parametrize("primary", [0, 1, 2])
def test_a_heic_of_several_pictures_has_the_size_of_the_primary_one(primary: int) -> None:
    sizes = [(64, 32), (96, 80), (48, 112)]
    heif = pillow_heif.HeifFile()
    for size in sizes:
        heif.add_from_pillow(picture(size=size))
    file = io.BytesIO()
    heif.save(file, primary_index=primary)
    assert facts(file.getvalue()) == Facts("image/heic", "heic", *sizes[primary])


def test_a_thumbnail_in_the_metadata_is_not_taken_for_the_picture() -> None:
    exif = Image.Exif()
    exif[0x010E] = encoded("RGB", "JPEG", size=(16, 16))
    assert facts(encoded("RGB", "JPEG", exif=exif)).width == WIDTH


@pytest.mark.parametrize("filling", [b"\xff" * 7, b"\0junk", b"\xff\x01", b"\xff\xd0", b"\xff\0"])
def test_a_jpeg_may_have_filling_between_its_segments(filling: bytes) -> None:
    content = encoded("RGB", "JPEG")
    assert facts(content[:20] + filling + content[20:]).width == WIDTH


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC, 0xDB, 0xDD, 0xE1, 0xFE])
def test_a_table_before_the_frame_of_a_jpeg_is_not_taken_for_it(marker: int) -> None:
    table = bytes([0xFF, marker, 0, 9]) + bytes(7)
    content = encoded("RGB", "JPEG")
    assert facts(content[:2] + table + content[2:]).width == WIDTH


def test_a_bitmap_whose_rows_run_from_the_top_has_a_positive_height() -> None:
    content = bytearray(encoded("RGB", "BMP"))
    content[22:26] = pack("<i", -HEIGHT)
    assert facts(bytes(content)).height == HEIGHT


def test_a_bitmap_of_the_old_kind_has_its_size() -> None:
    content = b"BM" + pack("<IHHI", 26 + 24, 0, 0, 26) + pack("<IHHHH", 12, 3, 2, 1, 24) + bytes(24)
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (3, 2)
    assert facts(content) == Facts("image/bmp", "bmp", 3, 2)


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("image/png", png_header(0, 9)),
        ("image/png", png_header(9, 0)),
        ("image/png", png_header(9, 9)[:-1] + b"?"),
        ("image/png", png_header(9, 9).replace(b"IHDR", b"CgBI")),
        ("image/gif", b"GIF89a" + pack("<HH", 0, 4)),
        ("image/jpeg", b"\xff\xd8\xff\xc0\0\x0b\x08" + pack(">HH", 0, 9) + b"\x01\x01\x11\0"),
        ("image/jpeg", b"\xff\xd8\xff\xe0\0\x01" + encoded("RGB", "JPEG")[2:]),
        ("image/jpeg", b"\xff\xd8\xff\xda\0\x02" + encoded("RGB", "JPEG")[2:]),
        ("image/jpeg", b"\xff\xd8\xff\xd9" + encoded("RGB", "JPEG")[2:]),
        ("image/webp", b"RIFF" + pack("<I", 26) + b"WEBPVP8L" + pack("<I", 9) + b"?" + bytes(9)),
        ("image/webp", b"RIFF" + pack("<I", 26) + b"WEBPVP8 " + pack("<I", 10) + b"\1" * 10),
        ("image/webp", b"RIFF" + pack("<I", 26) + b"WEBPICCP" + pack("<I", 10) + bytes(10)),
        ("image/bmp", b"BM" + bytes(12) + pack("<Iii", 40, -4, 4)),
        ("image/tiff", b"II*\0" + pack("<I", 8) + b"\0\0"),
        ("image/tiff", b"II*\0" + pack("<IHHHIIHHII", 8, 2, 256, 3, 1, 7, 257, 2, 1, 7)),
        ("image/tiff", b"II*\0" + pack("<IHHHIIHHII", 8, 2, 256, 3, 1, 7, 257, 4, 2, 7)),
        ("image/tiff", b"II*\0" + pack("<IHHHIIHHII", 8, 2, 256, 3, 1, 7, 257, 16, 1, 7)),
        ("image/avif", pack(">I", 16) + b"ftypavif\0\0\0\0" + pack(">I", 12) + b"meta\0\0\0\0"),
    ],
)
def test_a_broken_header_leaves_the_type_without_a_size(media_type: str, content: bytes) -> None:
    assert facts(content) == Facts(media_type, EXTENSION[media_type])


def test_a_tiff_directory_is_read_for_512_entries() -> None:
    other = pack("<HHII", 254, 4, 1, 0)
    size = pack("<HHIIHHII", 256, 4, 1, 7, 257, 4, 1, 5)
    start = b"II*\0" + pack("<IH", 8, 600)
    assert facts(start + other * 510 + size).width == 7
    assert facts(start + other * 511 + size).width is None


def test_an_entry_of_a_tiff_directory_is_read_whatever_its_integer_type() -> None:
    directory = pack("<IHHHIIHHII", 8, 2, 256, 3, 1, 7, 257, 4, 1, 70_000)
    assert facts(b"II*\0" + directory) == Facts("image/tiff", "tiff", 7, 70_000)


def test_no_bytes_are_an_octet_stream() -> None:
    assert facts(b"") == Facts("application/octet-stream", "")
    assert media.read(io.BytesIO(), 0) == Facts("application/octet-stream", "")


def test_a_picture_of_nine_hundred_million_pixels_is_a_bomb() -> None:
    packer = zlib.compressobj(1)
    rows = [packer.compress(bytes(30 * 3751)) for _ in range(1000)] + [packer.flush()]
    content = (
        png_header(30_000, 30_000) + png_chunk(b"IDAT", b"".join(rows)) + png_chunk(b"IEND", b"")
    )
    assert facts(content) == Facts("image/png", "png", bomb=True)
    assert not facts(content).is_image
    assert facts(content, pixel_limit=900_000_000) == Facts("image/png", "png", 30_000, 30_000)


@pytest.mark.parametrize(
    ("width", "height", "bomb"),
    [
        (20_000, 10_000, False),
        (20_001, 10_000, True),
        (1, 200_000_000, False),
        (2**31, 2**31, True),
    ],
)
def test_the_pixel_limit_itself_is_allowed(width: int, height: int, bomb: bool) -> None:
    found = facts(png_header(width, height))
    size = (None, None) if bomb else (width, height)
    assert (found.width, found.height, found.bomb) == (*size, bomb)


def test_the_pixel_limit_can_be_lowered() -> None:
    assert facts(png_header(10, 10), pixel_limit=99).bomb
    assert not facts(png_header(10, 10), pixel_limit=100).bomb


def test_only_the_announced_bytes_of_a_source_count() -> None:
    content = encoded("RGB", "PNG")
    assert media.read(content, 20) == Facts("image/png", "png")
    assert media.read(io.BytesIO(content), 20) == Facts("image/png", "png")
    assert media.read(io.BytesIO(content[:20]), len(content)) == Facts("image/png", "png")


def test_a_spooled_temporary_file_is_a_source() -> None:
    content = encoded("RGB", "JPEG")
    with tempfile.SpooledTemporaryFile() as file:
        file.write(content)
        assert media.read(file, len(content)) == facts(content)


class Dribbling(io.BytesIO):
    """A file that returns less than was asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 7))


def test_a_file_of_short_reads_is_a_source() -> None:
    content = encoded("RGB", "JPEG")
    assert media.read(Dribbling(content), len(content)) == facts(content)


def test_a_closed_file_is_the_caller_s_error() -> None:
    file = io.BytesIO(b"\xff\xd8\xff")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        media.read(file, 3)


def test_a_failing_disk_is_not_taken_for_an_unknown_type(tmp_path: Path) -> None:
    with (tmp_path / "write-only").open("wb") as file, pytest.raises(OSError):
        media.read(file, 10)


def test_the_extensions_are_fixed() -> None:
    assert dict(media.EXTENSIONS) == EXTENSION
    with pytest.raises(TypeError):
        media.EXTENSIONS["image/jpeg"] = "jpeg"  # type: ignore[index]


def test_every_extension_fits_a_key_and_belongs_to_one_type() -> None:
    assert all(re.fullmatch(r"[a-z0-9]{1,8}", extension) for extension in media.EXTENSIONS.values())
    assert len(set(media.EXTENSIONS.values())) == len(media.EXTENSIONS)


def test_reading_a_header_does_not_load_pillow() -> None:
    program = f"""
import sys
from calotype import media
assert media.read({png_header(3, 2)!r}, 33).width == 3
sys.exit(any(name.partition(".")[0] in ("PIL", "numpy") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
