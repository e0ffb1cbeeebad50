"""What a document is, by its first bytes, and how many printed sides it has."""

import mmap
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

PDF, PWG, URF, JPEG = "application/pdf", "image/pwg-raster", "image/urf", "image/jpeg"
ANY = "application/octet-stream"
UNDERSTOOD = (PDF, PWG, URF, JPEG)
BEGIN_BYTES = (
    1_024  # of a document are looked at; PDF readers accept its mark so far behind (ISO 32000-1, H.3.4.1)
)
PAGES_MAX = 100_000  # guess: no printer has so much paper
OBJECTS_BYTES_MAX = 64 << 20  # of the unpacked lists of objects of a PDF; guess: 1 MB for 1,000 pages
LOOKED_BYTES_MAX = 1 << 30  # for the ends of such lists
_ENTRIES_BYTES_MAX = 4_096  # between the type of a list and its stream
LINE_BYTES_MAX = 1 << 20  # of one line of a raster: 16 bit CMYK, A0 at 1,200 dpi is 0.4 MB
_PWG_HEADER_BYTES = 1_796  # PWG 5102.4, 4.3
_URF_HEADER_BYTES = 32
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_OBJECTS = re.compile(rb"/Type\s*/ObjStm(?![A-Za-z])")
_STREAM = re.compile(rb"stream\r?\n")


def format_of(begin: bytes) -> str:
    """The format of a document that begins so; ANY: none of UNDERSTOOD."""
    if b"%PDF-" in begin[:BEGIN_BYTES]:
        return PDF
    if begin.startswith(b"RaS2"):
        return PWG
    if begin.startswith(b"UNIRAST\0"):
        return URF
    if begin.startswith(b"\xff\xd8\xff"):
        return JPEG
    return ANY


def count_sides(path: Path) -> int:
    """Printed sides of one copy of the document at `path`; 0: nobody can say.

    Raises:
        UsageError: it is damaged.
    """
    with path.open("rb") as file:
        kind = format_of(file.read(BEGIN_BYTES))
        file.seek(0)
        match kind:
            case "application/pdf":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                    return pdf_pages(raw)
            case "image/pwg-raster":
                return pwg_pages(file)
            case "image/urf":
                return urf_pages(file)
            case "image/jpeg":
                return 1
    return 0


@decoder(UsageError, "this PDF")
def pdf_pages(raw: bytes | mmap.mmap) -> int:
    """Pages: objects of that type, those in packed lists of objects too. Old versions of a page count again.

    A document that hides its pages (encrypted lists) gives 0.
    """
    pages, unpacked, looked = sum(1 for _ in _PAGE.finditer(raw)), 0, 0
    view = memoryview(raw)
    try:
        for found in _OBJECTS.finditer(raw):
            begins = _STREAM.search(raw, found.end(), found.end() + _ENTRIES_BYTES_MAX)
            if begins is None:
                continue
            ends = raw.find(b"endstream", begins.end(), begins.end() + OBJECTS_BYTES_MAX)
            looked += (ends if ends >= 0 else len(raw)) - begins.end()
            if looked > LOOKED_BYTES_MAX:
                raise UsageError(tr("this PDF has too many lists of objects to count its pages"))
            if ends < 0:
                continue
            try:
                with view[begins.end() : ends] as packed:
                    objects = zlib.decompressobj().decompress(packed, OBJECTS_BYTES_MAX - unpacked)
            except zlib.error:
                continue  # of another filter, or encrypted
            unpacked += len(objects)
            if unpacked >= OBJECTS_BYTES_MAX:
                raise UsageError(tr("this PDF is packed too tightly to count its pages"))
            pages += sum(1 for _ in _PAGE.finditer(objects))
    finally:
        view.release()
    return min(pages, PAGES_MAX)


@decoder(UsageError, "this PWG raster")
def pwg_pages(file: BinaryIO) -> int:
    """Pages of a PWG raster (PWG 5102.4). Raises `UsageError` where it is cut off."""
    file.read(4)
    pages = 0
    while header := file.read(_PWG_HEADER_BYTES):
        (height,) = struct.unpack_from(">I", header, 376)
        bits, line_bytes = struct.unpack_from(">II", header, 388)
        _skip_lines(file, max(1, bits // 8), line_bytes, height)
        pages = _one_more(pages)
    return pages


@decoder(UsageError, "this URF raster")
def urf_pages(file: BinaryIO) -> int:
    """Pages of an Apple raster. Raises `UsageError` where it is cut off."""
    file.read(12)
    pages = 0
    while header := file.read(_URF_HEADER_BYTES):
        bits = header[0]
        width, height = struct.unpack_from(">II", header, 12)
        _skip_lines(file, max(1, bits // 8), max(1, bits * width // 8), height)
        pages = _one_more(pages)
    return pages


def _one_more(pages: int) -> int:
    if pages >= PAGES_MAX:
        raise UsageError(tr("a document of more than {pages_max} pages", pages_max=PAGES_MAX))
    return pages + 1


def _skip_lines(file: BinaryIO, unit: int, line_bytes: int, height: int) -> None:
    """Go past the packed lines of a page (PWG 5102.4, 4.4): repeats of a line, in it runs of `unit` bytes."""
    if not 0 < line_bytes <= LINE_BYTES_MAX:
        raise UsageError(tr("a raster with lines of {line_bytes} bytes", line_bytes=line_bytes))
    data = _Bytes(file)
    line = 0
    while line < height:
        line += data.byte() + 1
        left = line_bytes
        while left > 0:
            code = data.byte()
            if code == 128:
                break
            length = code + 1 if code < 128 else 257 - code
            data.skip(unit if code < 128 else unit * length)
            left -= unit * length
    data.done()


class _Bytes:
    """Bytes of a file, one after another, quickly."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._block = b""
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._block):
            self._more()
        self._at += 1
        return self._block[self._at - 1]

    def skip(self, count: int) -> None:
        self._at += count
        while self._at > len(self._block):
            self._at -= len(self._block)
            self._more(self._at)

    def done(self) -> None:
        """The file stands behind the last byte that was taken."""
        self._file.seek(self._at - len(self._block), 1)

    def _more(self, at: int = 0) -> None:
        self._block = self._file.read(65_536)
        self._at = at
        if not self._block:
            raise UsageError(tr("this raster is cut off"))
