"""What a file is shown as: told by its beginning, never by what its owner calls it. Pure.

Only types of the table are ever named to a browser. SVG and HTML can run, so they are text; what is none of these is a
download.
"""

from typing import Literal

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError

HEAD_BYTES = 4_096  # of a file, that tell its kind
TEXT_BYTES_MAX = 2 << 20  # shown of a text; guess: nobody reads more in a page

Sort = Literal["picture", "audio", "film", "pdf", "text", "other"]


class Kind(msgspec.Struct, frozen=True):
    """How a file is shown, and the media type that is named to the browser."""

    sort: Sort
    media: str


OTHER = Kind("other", "application/octet-stream")
TEXT = Kind("text", "text/plain; charset=utf-8")
_BEGINNINGS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Kind("picture", "image/png")),
    (0, b"\xff\xd8\xff", Kind("picture", "image/jpeg")),
    (0, b"GIF87a", Kind("picture", "image/gif")),
    (0, b"GIF89a", Kind("picture", "image/gif")),
    (0, b"BM", Kind("picture", "image/bmp")),
    (8, b"WEBP", Kind("picture", "image/webp")),
    (4, b"ftypavif", Kind("picture", "image/avif")),
    (0, b"%PDF-", Kind("pdf", "application/pdf")),
    (4, b"ftypM4A", Kind("audio", "audio/mp4")),
    (4, b"ftyp", Kind("film", "video/mp4")),
    (0, b"\x1aE\xdf\xa3", Kind("film", "video/webm")),
    (0, b"ID3", Kind("audio", "audio/mpeg")),
    (0, b"\xff\xfb", Kind("audio", "audio/mpeg")),
    (0, b"\xff\xf3", Kind("audio", "audio/mpeg")),
    (0, b"fLaC", Kind("audio", "audio/flac")),
    (8, b"WAVE", Kind("audio", "audio/wav")),
    (28, b"\x01vorbis", Kind("audio", "audio/ogg")),
    (28, b"OpusHead", Kind("audio", "audio/ogg")),
    (0, b"OggS", Kind("film", "video/ogg")),
)  # fmt: skip
"""Where what stands: the file formats' own specifications; also https://mimesniff.spec.whatwg.org, section 6."""


def kind_of(head: bytes) -> Kind:
    """By the first HEAD_BYTES of a file."""
    for at, beginning, kind in _BEGINNINGS:
        if head[at : at + len(beginning)] == beginning:
            return kind
    return TEXT if _is_text(head) else OTHER


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; where the file goes on, perhaps cut within a character."""
    for cut in range(4 if len(head) == HEAD_BYTES else 1):
        try:
            text = read_text(head[: len(head) - cut])
        except UsageError:
            continue
        return not any(char < " " and char not in "\t\n\r\f\x1b" for char in text)
    return False


@decoder(UsageError, "a text")
def read_text(raw: bytes) -> str:
    """UTF-8. Raises `UsageError`."""
    return raw.decode("utf-8")


def policy(kind: Kind) -> str:
    """The Content-Security-Policy that a file is served with.

    `sandbox` takes scripts, forms, plugins and the origin from it. Browsers' own viewers of PDF do not start in a
    sandbox; they run no script of the file in a page, and nothing of the origin is worth having.
    """
    bounds = (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'"
    )
    return bounds + "; form-action 'none'" + ("" if kind.sort == "pdf" else "; sandbox")
