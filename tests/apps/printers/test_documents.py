"""What a document is, and how many sides it has."""

import io
import struct
import zlib
from pathlib import Path

import pytest

from coterie.apps.printers import documents
from coterie.apps.printers.documents import (
    ANY,
    JPEG,
    PDF,
    PWG,
    URF,
    count_sides,
    format_of,
    pdf_pages,
    pwg_pages,
    urf_pages,
)
from coterie.errors import UsageError
from tests.apps.printers.fake_printer import a_pdf


def pwg(pages: int, *, width: int = 40, height: int = 3) -> bytes:
    """A PWG raster of white pages: one line, repeated."""
    header = bytearray(1_796)
    header[:9] = b"PwgRaster"
    struct.pack_into(">II", header, 372, width, height)
    struct.pack_into(">III", header, 384, 8, 24, width * 3)
    line = bytes([height - 1, (width - 1) % 128]) + b"\xff\xff\xff"
    return b"RaS2" + (bytes(header) + line) * pages


def urf(pages: int, *, width: int = 40) -> bytes:
    """An Apple raster: a line of single pixels, one that is blank from the second pixel on."""
    header = bytes([8, 0, 1, 4]) + bytes(8) + struct.pack(">II", width, 2) + bytes(12)
    lines = bytes([0, 257 - width]) + bytes(width) + bytes([0, 0, 7, 128])
    return b"UNIRAST\0" + struct.pack(">I", 99) + (header + lines) * pages


@pytest.mark.parametrize(
    ("raw", "kind", "sides"),
    [
        (a_pdf(7), PDF, 7),
        (pwg(3), PWG, 3),
        (urf(4), URF, 4),
        (b"\xff\xd8\xff\xe0 and so on", JPEG, 1),
        (b"%!PS-Adobe", ANY, 0),
        (b"", ANY, 0),
    ],
)
def test_formats_and_their_sides(raw: bytes, kind: str, sides: int, tmp_path: Path) -> None:
    assert format_of(raw) == kind
    (tmp_path / "document").write_bytes(raw)
    assert count_sides(tmp_path / "document") == sides


def test_pages_in_packed_lists_of_objects_are_counted() -> None:
    packed = zlib.compress(b"<</Type/Page/Parent 1 0 R>> <</Type/Pages>> << /Type /Page >>")
    raw = b"%%PDF-1.5\n1 0 obj <</Type/ObjStm/Length %d>> stream\r\n%s\nendstream endobj" % (
        len(packed),
        packed,
    )
    assert pdf_pages(raw) == 2
    assert pdf_pages(b"%PDF-1.5 /Type/ObjStm stream\nno zlib\nendstream") == 0


def test_what_is_packed_too_tightly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "OBJECTS_BYTES_MAX", 100_000)
    packed = zlib.compress(bytes(100_001))
    with pytest.raises(UsageError, match="too tightly"):
        pdf_pages(b"%PDF /Type/ObjStm stream\n" + packed + b"endstream")
    monkeypatch.setattr(documents, "LOOKED_BYTES_MAX", 50)
    with pytest.raises(UsageError, match="too many"):
        pdf_pages(b"%PDF " + (b"/Type/ObjStm stream\n" + bytes(30) + b"endstream") * 2)


@pytest.mark.parametrize("cut", [5, 500, 1_799, 1_801])
def test_a_raster_that_is_cut_off_is_damaged(cut: int) -> None:
    with pytest.raises(UsageError):
        pwg_pages(io.BytesIO(pwg(1)[:cut]))


def test_bounds_of_rasters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PAGES_MAX", 3)
    assert urf_pages(io.BytesIO(urf(3))) == 3
    with pytest.raises(UsageError, match="more than 3"):
        urf_pages(io.BytesIO(urf(4)))
    with pytest.raises(UsageError, match="lines"):
        pwg_pages(io.BytesIO(pwg(1, width=documents.LINE_BYTES_MAX // 3 + 1)))
