"""What tus 1.0.0 says of requests, and how long, many and large uploads may be. Pure.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0: the core protocol with the extensions in EXTENSIONS.
"""

import base64
import re
from collections.abc import Mapping

import msgspec

from coterie.content.names import is_reserved, name_fault
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,checksum,expiration"
ALGORITHMS = {"sha1": 20, "sha256": 32}  # bytes of each checksum; the first is the one that servers must know
MEDIA = "application/offset+octet-stream"

UPLOAD_BYTES_MAX = 1 << 40  # of one upload; guess: a film of a day in the best quality of a phone
UPLOADS_MAX = 2_000  # unfinished ones, of everybody; guess: all pictures of a long journey at once
UPLOADS_OF_ONE_MAX = 1_000  # of one browser or phone
UPLOADS_FEW_MAX = 1_000  # of all that have few rights together: the owner always finds a place
AGE_S_MAX = 7 * 86_400.0  # since the last byte; guess: a phone comes home within a week
METADATA_BYTES_MAX = 8_192  # of the header; below what the server takes for all headers together
DEPTH_MAX = 32  # folders in a path
PATH_BYTES_MAX = 4_096  # PATH_MAX of Linux
DIGITS_MAX = 15  # of a number; more is none that we could keep
BATCH_CHARS_MAX = 64
_BATCH = re.compile(rf"[A-Za-z0-9_-]{{8,{BATCH_CHARS_MAX}}}\Z")
_NUMBER = re.compile(rf"\d{{1,{DIGITS_MAX}}}\Z", re.ASCII)

PRECONDITION_FAILED, CHECKSUM_MISMATCH = 412, 460


class Refused(UsageError):
    """A request that is not carried out: the status that tus wants for it, and the sentence for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Checksum(msgspec.Struct, frozen=True):
    """What a client says of the bytes that it sends."""

    algorithm: str
    value: bytes


class Named(msgspec.Struct, frozen=True):
    """What a client says of a file: `path` are the names of its folders and its own, `batch` is what it belongs to."""

    path: tuple[str, ...]
    batch: str
    media: str = ""


def number(headers: Mapping[str, str], name: str) -> int:
    """The number in a header. Raises `Refused` (400) where it is not there, or none."""
    text = headers.get(name, "")
    if not _NUMBER.match(text):
        raise Refused(400, tr("the header {name} is to be a number of bytes", name=name))
    return int(text)


def check_version(headers: Mapping[str, str]) -> None:
    """Raises `Refused` (412) where the client does not speak our version."""
    if headers.get("tus-resumable") != VERSION:
        raise Refused(PRECONDITION_FAILED, tr("uploads are by tus {version} here", version=VERSION))


def length(headers: Mapping[str, str]) -> int:
    """How many bytes an upload is to have.

    Raises:
        Refused: it is not said, or is above UPLOAD_BYTES_MAX (413).
    """
    if "upload-length" not in headers:
        raise Refused(400, tr("the length of an upload is to be known at its beginning (Upload-Length)"))
    size = number(headers, "upload-length")
    if size > UPLOAD_BYTES_MAX:
        raise Refused(
            413, tr("one file has at most {upload_bytes_max:,} bytes", upload_bytes_max=UPLOAD_BYTES_MAX)
        )
    return size


@decoder(UsageError, "the description of an upload")
def read_metadata(header: str) -> dict[str, str]:
    """`Upload-Metadata`: pairs of a key and base 64 of a text, which may be left out. Raises `UsageError`."""
    if len(header) > METADATA_BYTES_MAX:
        raise UsageError(
            tr(
                "the description of an upload has at most {metadata_bytes_max} bytes",
                metadata_bytes_max=METADATA_BYTES_MAX,
            )
        )
    found: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        key, _, value = pair.strip().partition(" ")
        if not key or key in found:
            raise UsageError(tr("the description of an upload names a key twice, or none"))
        found[key] = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    return found


def named(metadata: Mapping[str, str]) -> Named:
    """What a description says of the file: `relativePath` or `filename`, `filetype`, and `batch`.

    Raises:
        UsageError: a name that could mean another path, or that coterie keeps for itself; no batch.
    """
    said = metadata.get("relativePath") or metadata.get("filename", "")
    path = tuple(said.split("/"))
    if len(said.encode()) > PATH_BYTES_MAX or len(path) > DEPTH_MAX:
        raise UsageError(tr("the path of an upload is too long: {said}", said=said[:80]))
    for name in path:
        if fault := name_fault(name):
            raise UsageError(tr("a file cannot be called so: '{name}' {fault}", name=name[:80], fault=fault))
        if is_reserved(name):
            raise UsageError(tr("coterie keeps the name '{name}' for its own data", name=name[:80]))
    batch = metadata.get("batch", "")
    if not _BATCH.match(batch):
        raise UsageError(
            tr("an upload names its batch: 8 to {most} letters and digits", most=BATCH_CHARS_MAX)
        )
    return Named(path, batch, metadata.get("filetype", "")[:100])


@decoder(UsageError, "the checksum of an upload")
def read_checksum(header: str) -> Checksum:
    """`Upload-Checksum`: an algorithm of ALGORITHMS and its value in base 64. Raises `UsageError`."""
    algorithm, _, value = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise UsageError(tr("checksums are {known} here", known=", ".join(ALGORITHMS)))
    raw = base64.b64decode(value.strip(), validate=True)
    if len(raw) != ALGORITHMS[algorithm]:
        raise UsageError(tr("this is no checksum of {algorithm}", algorithm=algorithm))
    return Checksum(algorithm, raw)


def check_part(headers: Mapping[str, str], has: int, size: int) -> None:
    """Whether the bytes of a PATCH fit to what is there.

    Raises:
        Refused: 415 for another media type, 409 for another offset, 413 for more than the file has.
    """
    if headers.get("content-type") != MEDIA:
        raise Refused(415, tr("bytes of an upload come as {media}", media=MEDIA))
    offset = number(headers, "upload-offset")
    if offset != has:
        raise Refused(409, tr("the upload goes on at byte {has}, not {offset}", has=has, offset=offset))
    if "content-length" in headers and offset + number(headers, "content-length") > size:
        raise Refused(413, tr("the upload has {size} bytes, and this would be more", size=size))
