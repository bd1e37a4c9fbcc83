"""DICOM files have the Columns and Rows that pydicom reads, or no size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from struct import pack

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from calotype import media
from calotype.model import Facts

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SIZELESS = {
    "image_dfl.dcm": "its data set is deflated",
    "SC_rgb_jpeg.dcm": "its data set is not written in the syntax that it names",
}
PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def facts(content: bytes) -> Facts:
    found = media.read(content, len(content))
    assert media.read(io.BytesIO(content), len(content)) == found
    return found


def size_by_pydicom(path: Path) -> tuple[int | None, int | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        return dataset.get("Columns"), dataset.get("Rows")


@pytest.mark.parametrize("path", sorted(FILES.glob("*.dcm")), ids=lambda path: path.name)
def test_a_published_file_has_the_size_that_pydicom_reads(path: Path) -> None:
    found = facts(path.read_bytes())
    try:
        expected = size_by_pydicom(path)
    except InvalidDicomError:
        assert found == Facts("application/octet-stream", "")
        return
    assert found == Facts(
        "application/dicom", "dcm", *((None, None) if path.name in SIZELESS else expected)
    )


def test_enough_published_files_have_a_size() -> None:
    found = [facts(path.read_bytes()).width for path in FILES.glob("*.dcm")]
    assert len([width for width in found if width]) >= 50


def written(syntax: str, *, columns: int = 300, rows: int = 200, **options: bool) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=bytes(128),
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )
    dataset.PatientName = "Nobody"
    dataset.ReferencedStudySequence = Sequence([nested(), nested()])
    dataset.ReferencedStudySequence.is_undefined_length = options.get("undefined", False)
    for item in dataset.ReferencedStudySequence:
        item.is_undefined_length_sequence_item = options.get("undefined", False)
    if options.get("sized", True):
        dataset.Columns, dataset.Rows = columns, rows
    dataset.IconImageSequence = Sequence([nested()])
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def nested() -> Dataset:
    inner = Dataset()
    inner.Columns, inner.Rows = 11, 7
    inner.ReferencedImageSequence = Sequence([Dataset()])
    inner.ReferencedImageSequence.is_undefined_length = True
    return inner


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [*PLAIN, JPEGBaseline8Bit], ids=lambda syntax: syntax.name)
def test_the_size_inside_a_sequence_is_not_taken_for_the_picture(
    syntax: str, undefined: bool
) -> None:
    assert facts(written(syntax, undefined=undefined)) == Facts(
        "application/dicom", "dcm", 300, 200
    )
    assert facts(written(syntax, undefined=undefined, sized=False)).width is None


def test_a_deflated_data_set_has_no_size() -> None:
    assert facts(written(DeflatedExplicitVRLittleEndian)) == Facts("application/dicom", "dcm")


@pytest.mark.parametrize("syntax", PLAIN, ids=lambda syntax: syntax.name)
def test_a_picture_over_the_pixel_limit_is_a_bomb(syntax: str) -> None:
    assert facts(written(syntax, columns=65_535, rows=65_535)) == Facts(
        "application/dicom", "dcm", bomb=True
    )


@pytest.mark.parametrize("syntax", PLAIN, ids=lambda syntax: syntax.name)
def test_a_truncated_file_never_has_a_false_size(syntax: str) -> None:
    content = written(syntax, undefined=True)
    widths = [facts(content[:end]).width for end in range(132, len(content))]
    assert set(widths) == {None, 300}
    assert widths == sorted(widths, key=bool)


def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    stated = len(value) if length is None else length
    shape = "<HH2sHI" if kind in (b"SQ", b"UN", b"OB") else "<HH2sH"
    return pack(shape, group, number, kind, *((0, stated) if len(shape) > 6 else (stated,))) + value


def file_of(*elements: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    return bytes(128) + b"DICM" + element(2, 0x10, b"UI", syntax) + b"".join(elements)


ROWS = element(0x28, 0x10, b"US", b"\x07\0")
COLUMNS = element(0x28, 0x11, b"US", b"\x09\0")
UNDEFINED = 0xFFFFFFFF


def test_a_sequence_of_unknown_type_is_passed_over() -> None:
    items = pack("<HHI", 0xFFFE, 0xE000, 8) + bytes(8) + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    unknown = element(9, 0x10, b"UN", items, UNDEFINED)
    assert facts(file_of(unknown, ROWS, COLUMNS)) == Facts("application/dicom", "dcm", 9, 7)


def test_a_file_of_two_elements_has_its_size() -> None:
    assert facts(file_of(ROWS, COLUMNS)) == Facts("application/dicom", "dcm", 9, 7)


@pytest.mark.parametrize(
    "content",
    [
        file_of(ROWS),
        file_of(COLUMNS),
        file_of(ROWS, element(0x28, 0x11, b"US", b"\x09\0\x09\0")),
        file_of(ROWS, element(0x28, 0x11, b"US", b"\0\0")),
        file_of(element(0x28, 0x10, b"US", b"", 2)),
        file_of(element(8, 0x60, b"??", b"CT"), ROWS, COLUMNS),
        file_of(element(8, 0x60, b"cs", b"CT"), ROWS, COLUMNS),
        file_of(element(8, 0x60, b"CS", b"CT", 0xFFFF), ROWS, COLUMNS),
        file_of(element(9, 0x10, b"UN", b"", UNDEFINED), ROWS, COLUMNS),
        file_of(element(8, 0x1140, b"SQ", b"", UNDEFINED), ROWS, COLUMNS),
        file_of(pack("<HHI", 0xFFFE, 0xE0DD, 0), ROWS, COLUMNS),
        file_of(element(0x29, 0, b"UL", bytes(4)), ROWS, COLUMNS),
        file_of(ROWS, COLUMNS, syntax=b""),
        file_of(ROWS, COLUMNS, syntax=b"1.2.840.10008.1.2.1.99"),
        file_of(*[element(8, 0x60, b"CS", b"CT")] * 4096, ROWS, COLUMNS),
        file_of(*[element(8, 0x1140, b"SQ", b"", UNDEFINED)] * 5000),
        file_of(*[element(2, 0x13, b"SH", b"")] * 5000),
        bytes(128) + b"DICM" + ROWS + COLUMNS,
        bytes(128) + b"DICM\x02\0",
    ],
)
def test_anything_odd_leaves_the_type_without_a_size(content: bytes) -> None:
    assert facts(content) == Facts("application/dicom", "dcm")
