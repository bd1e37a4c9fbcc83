"""The media type comes from the first bytes: signatures, brands, document types, root elements."""

from __future__ import annotations

import io
import zipfile
from struct import pack

import pytest
from PIL import Image

from calotype import media

OCTET_STREAM = "application/octet-stream"


def media_type(content: bytes) -> str:
    found = media.read(content, len(content))
    assert media.read(io.BytesIO(content), len(content)) == found
    assert found.extension == media.EXTENSIONS.get(found.media_type, "")
    return found.media_type


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    return pack(">I4s4sI", 16 + 4 * len(compatible), b"ftyp", major, 0) + b"".join(compatible)


def ebml(doctype: bytes, *before: bytes) -> bytes:
    inside = b"".join(before) + b"\x42\x82" + bytes([0x80 | len(doctype)]) + doctype
    return (
        b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(inside)]) + inside + b"\x18\x53\x80\x67" + bytes(20)
    )


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 8)).save(file, "JPEG", **options)
    return file.getvalue()


def gif() -> bytes:
    file = io.BytesIO()
    Image.new("P", (9, 8)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"%PDF-", "application/pdf"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"II+\0\x08\0\0\0", "image/tiff"),
        (b"MM\0+\0\x08\0\0", "image/tiff"),
        (bytes(128) + b"DICM", "application/dicom"),
    ],
)
def test_a_signature_alone_gives_the_type(content: bytes, expected: str) -> None:
    assert media_type(content) == expected
    assert media_type(content[:-1]) == OCTET_STREAM


@pytest.mark.parametrize(
    "content",
    [
        b"GIF88a\0\0\0\0",
        b"\x89PNG\n\x1a\n",
        b" %PDF-1.7",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"RIFF\0\0\0\0AVI LIST",
        b"BM is how this letter to the Board of Management begins.",
        b"II*\x01",
        b"II+\0\x04\0\0\0",
        b"MZ" + bytes(200),
        b"PK\x03\x04" + bytes(60),
        b"\x1f\x8b\x08" + bytes(60),
        b"\0\0\x01\0\x01\0\x10\x10" + bytes(60),
        b"\0\0\0\x0cJXL \r\n\x87\n",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"plain text",
        b"\0" * 5000,
        b"\xff" * 5000,
    ],
)
def test_anything_else_is_an_octet_stream(content: bytes) -> None:
    assert media_type(content) == OCTET_STREAM


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        ([b"avif", b"mif1", b"miaf"], "image/avif"),
        ([b"avis", b"msf1", b"iso8", b"avif"], "image/avif"),
        ([b"mif1", b"avif", b"miaf"], "image/avif"),
        ([b"heic", b"mif1", b"heic"], "image/heic"),
        ([b"heix", b"mif1"], "image/heic"),
        ([b"hevc", b"msf1", b"iso8"], "image/heic"),
        ([b"mif1", b"heic"], "image/heic"),
        ([b"mif1"], "image/heic"),
        ([b"msf1"], "image/heic"),
        ([b"isom", b"isom", b"iso2", b"avc1", b"mp41"], "video/mp4"),
        ([b"iso5", b"dash"], "video/mp4"),
        ([b"mp42", b"isom"], "video/mp4"),
        ([b"mp41"], "video/mp4"),
        ([b"M4V ", b"M4V ", b"isom"], "video/mp4"),
        ([b"XAVC", b"XAVC", b"mp42"], "video/mp4"),
        ([b"qt  ", b"qt  "], "video/quicktime"),
        ([b"qt  ", b"mp42"], "video/quicktime"),
        ([b"M4A ", b"isom", b"mp42"], OCTET_STREAM),
        ([b"M4B ", b"mp42"], OCTET_STREAM),
        ([b"crx ", b"crx ", b"isom"], OCTET_STREAM),
        ([b"3gp4", b"isom"], OCTET_STREAM),
        ([b"jp2 ", b"jp2 "], OCTET_STREAM),
        ([b"????"], OCTET_STREAM),
    ],
    ids=lambda value: b"-".join(value).decode() if isinstance(value, list) else "",
)
def test_the_brands_tell_the_formats_of_one_family_apart(
    brands: list[bytes], expected: str
) -> None:
    found = media.read(ftyp(*brands), 1000)
    assert (found.media_type, found.width, found.height) == (expected, None, None)
    assert media_type(ftyp(*brands) + pack(">I4s", 8, b"free")) == expected


@pytest.mark.parametrize("length", [0, 1, 8, 12, 15, 18, 1028, 2**31])
def test_a_brand_box_of_a_wrong_length_is_no_type(length: int) -> None:
    assert media_type(pack(">I", length) + ftyp(b"isom", b"mp42")[4:] + bytes(2000)) == OCTET_STREAM


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (ebml(b"webm"), "video/webm"),
        (ebml(b"webm\0\0"), "video/webm"),
        (ebml(b"webm", b"\x42\x86\x81\x01", b"\x42\xf7\x81\x01"), "video/webm"),
        (ebml(b"webm", b"\xec\x40\x05 void"), "video/webm"),
        (ebml(b"matroska"), OCTET_STREAM),
        (ebml(b"webmx"), OCTET_STREAM),
        (ebml(b"matroska", b"\xec\x84webm"), OCTET_STREAM),
        (b"\x1a\x45\xdf\xa3\x80" + b"\x42\x82\x84webm", OCTET_STREAM),
        (b"\x1a\x45\xdf\xa3" + bytes(4000), OCTET_STREAM),
        (b"\x1a\x45\xdf\xa3", OCTET_STREAM),
        (b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff\x42\x82\x84webm", "video/webm"),
    ],
)
def test_webm_is_told_from_matroska_by_its_document_type(content: bytes, expected: str) -> None:
    assert media_type(content) == expected


NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'
ILLUSTRATOR = """<?xml version="1.0" encoding="utf-8"?>
<!-- Generator: an editor > with "odd' comments -->
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" [
    <!-- it's > a [comment -->
    <?odd ]> ?>
    <!ENTITY ns_svg "http://www.w3.org/2000/svg">
    <!ENTITY tricky "]>">
]>
<svg xmlns="&ns_svg;" width="3" height="2"/>"""
SVG = {
    "bare": "<svg/>",
    "attributes": f'<svg {NAMESPACE} width="10">',
    "new line": f"<svg\n{NAMESPACE}>",
    "prefix": '<s:svg xmlns:s="http://www.w3.org/2000/svg">',
    "declaration": f'<?xml version="1.0"?><svg {NAMESPACE}>',
    "instruction": f'<?xml version="1.0"?>\n<?xml-stylesheet href="a.css"?>\n<svg {NAMESPACE}>',
    "comment": f"<!-- <html> --><svg {NAMESPACE}>",
    "comments": "<!---->" * 100 + f"\n<svg {NAMESPACE}>",
    "long comment": f"<!--{'x' * 60_000}--><svg {NAMESPACE}>",
    "white space": f"\r\n\t  <svg {NAMESPACE}>",
    "doctype": f"<!DOCTYPE svg>\n<svg {NAMESPACE}>",
    "doctype prefix": '<!DOCTYPE s:svg>\n<s:svg xmlns:s="http://www.w3.org/2000/svg">',
    "illustrator": ILLUSTRATOR,
    "foreign comment": f"<!-- Größe 📷 --><svg {NAMESPACE}>",
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", SVG)
def test_an_svg_root_is_recognised(name: str, mark: bytes) -> None:
    content = mark + SVG[name].encode()
    assert media_type(content) == "image/svg+xml"
    assert media.read(content, len(content)).is_image
    assert media.read(content, len(content)).width is None


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_an_svg_in_utf_16_is_recognised(mark: bytes, encoding: str) -> None:
    assert media_type(mark + ILLUSTRATOR.encode(encoding)) == "image/svg+xml"


def test_an_svg_root_beyond_64_kib_is_not_looked_for() -> None:
    comment = f"<!--{'x' * (65_536 - 12)}-->"
    assert media_type(f"{comment}<svg/>".encode()) == "image/svg+xml"
    assert media_type(f" {comment}<svg/>".encode()) == OCTET_STREAM


def test_an_svg_in_latin_1_is_recognised() -> None:
    content = '<?xml version="1.0" encoding="ISO-8859-1"?><!-- Größe --><svg/>'.encode("latin-1")
    assert media_type(content) == "image/svg+xml"


@pytest.mark.parametrize(
    "text",
    [
        f"<html><body><svg {NAMESPACE}></svg></body></html>",
        f"<!DOCTYPE html><svg {NAMESPACE}></svg>",
        f"<!doctype html>\n<svg {NAMESPACE}></svg>",
        f"<!-- svg --><p><svg {NAMESPACE}></svg>",
        f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><svg {NAMESPACE}/>',
        "<!DOCTYPE svg><html><svg/></html>",
        f"<?php echo 1 ?><svg {NAMESPACE}>",
        f"text <svg {NAMESPACE}>",
        "<svgx>",
        "<svg",
        "<SVG>",
        "< svg>",
        "</svg>",
        "<a:b:svg>",
        "<1:svg>",
        "<:svg>",
        "<!-- <svg>",
        "<!--><svg>",
        "<?xml <svg>",
        "<!DOCTYPE svg <svg>",
        "<!DOCTYPE svg [ <svg>",
        "<!DOCTYPE svgs><svg>",
        '<!DOCTYPE svg "><svg>',
        "<![CDATA[<svg>]]>",
        "<script>'<svg>'</script>",
        f"<!--{'x' * 70_000}--><svg>",
        '{"svg": "<svg>"}',
        "\0<svg>",
        "<",
        "",
    ],
)
def test_what_merely_contains_svg_is_not_svg(text: str) -> None:
    assert media_type(text.encode()) == OCTET_STREAM


def jpeg_with_document() -> bytes:
    return jpeg(comment=b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj")


def gif_with_script() -> bytes:
    return gif() + b"/*<script>*/=1"


def archive_after_picture() -> bytes:
    file = io.BytesIO(jpeg())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("payload.html", "<html>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (jpeg_with_document(), "image/jpeg"),
        (gif_with_script(), "image/gif"),
        (archive_after_picture(), "image/jpeg"),
        (b"%PDF-1.4\n" + jpeg(), "application/pdf"),
        (b"<!--" + jpeg() + b"--><html>", OCTET_STREAM),
        (jpeg(comment=bytes(98) + b"DICM" * 20), "image/jpeg"),
        ((b"MZ" + bytes(126)) + b"DICM", "application/dicom"),
        ((b"II*\0" + bytes(124)) + b"DICM", "application/dicom"),
        ((b"MM\0*" + bytes(124)) + b"DICM", "application/dicom"),
        ((b"<svg>" + bytes(123)) + b"DICM", "application/dicom"),
        ((b"%PDF-" + bytes(123)) + b"DICM", "application/pdf"),
    ],
)
def test_a_polyglot_is_what_it_begins_as(content: bytes, expected: str) -> None:
    assert media_type(content) == expected
