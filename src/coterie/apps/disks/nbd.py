"""The protocol of network block devices, the side of the server: bytes in, values out, and back. Pure.

Source: doc/proto.md of the project nbd; fixed newstyle with structured replies, without extended headers.
"""

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum, IntFlag

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

GREETING_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
STRUCTURED_MAGIC = 0x668E33EF

OPTION_BYTES_MAX = 65_536  # of the data of one option; two names of 4,096 bytes and some numbers are less
NAME_BYTES_MAX = 4_096  # of an export; the specification's own bound for strings
QUERIES_MAX = 32  # of one question for meta contexts; guess: we have one
REQUEST_BYTES_MAX = (
    32 << 20
)  # of one read or write: what the specification says that every server should take
PREFERRED_BYTES = 4_096
EXTENTS_MAX = 4_096  # in one answer: 32 KiB
MESSAGE_BYTES_MAX = 4_096  # of an error's text, as the specification bounds strings

HANDSHAKE = struct.Struct(">8s8sH")
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">8sII")
REQUEST = struct.Struct(">IHHQQI")
_OPTION_REPLY = struct.Struct(">QIII")
_SIMPLE = struct.Struct(">IIQ")
_CHUNK = struct.Struct(">IHHQI")
_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_INFO_EXPORT = struct.Struct(">HQH")
_INFO_BLOCKS = struct.Struct(">HIII")
_EXPORT = struct.Struct(">QH")
_EXTENT = struct.Struct(">II")

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
CONTEXT, CONTEXT_ID = "base:allocation", 1
HOLE_AND_ZERO = 3  # of base:allocation; 0: data


class Option(IntEnum):
    """What a client may ask before it uses an export."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    """How an option is answered."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_TOO_BIG = (1 << 31) + 9


class Feature(IntFlag):
    """What an export can do, as it is told to the client."""

    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_FUA = 8
    ROTATIONAL = 16
    SEND_TRIM = 32
    SEND_WRITE_ZEROES = 64
    SEND_DF = 128
    CAN_MULTI_CONN = 256
    SEND_CACHE = 1024


class Command(IntEnum):
    """What a client asks of an export."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Flag(IntFlag):
    """Said with a command."""

    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8
    FAST_ZERO = 16


class Errno(IntEnum):
    """The errors of the protocol; the same on every system."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108


class _Chunk(IntEnum):
    NONE = 0
    OFFSET_DATA = 1
    BLOCK_STATUS = 5
    ERROR = (1 << 15) + 1


_DONE = 1


class Request(msgspec.Struct, frozen=True):
    """One command: `cookie` is the client's own number for it, `size` in bytes. The data of a write follows."""

    command: int
    flags: int
    cookie: int
    offset: int
    size: int


class Export(msgspec.Struct, frozen=True):
    """What a client is told of an export: `size` in bytes."""

    name: str
    size: int
    features: Feature
    note: str = ""


# ---- before an export is used


def greeting() -> bytes:
    """What the server says first."""
    return HANDSHAKE.pack(GREETING_MAGIC, OPTION_MAGIC, FIXED_NEWSTYLE | NO_ZEROES)


@decoder(UsageError, "the flags of an NBD client")
def read_client_flags(raw: bytes) -> bool:
    """Whether the client wants no zeroes after the answer to EXPORT_NAME. Raises `UsageError`: an unknown flag."""
    (flags,) = CLIENT_FLAGS.unpack(raw)
    if flags & ~(FIXED_NEWSTYLE | NO_ZEROES):
        raise UsageError(tr("an NBD client with flags that are not known: {flags}", flags=flags))
    return bool(flags & NO_ZEROES)


@decoder(UsageError, "an option of an NBD client")
def read_option(raw: bytes) -> tuple[int, int]:
    """The number of an option, and how many bytes of data follow.

    Raises:
        UsageError: it is none, or too long.
    """
    magic, number, size = OPTION.unpack(raw)
    if magic != OPTION_MAGIC:
        raise UsageError(tr("what an NBD client says is no option"))
    if size > OPTION_BYTES_MAX:
        raise UsageError(tr("an NBD option of {size} bytes", size=size))
    return number, size


@decoder(UsageError, "the name of an NBD export")
def read_name(raw: bytes) -> str:
    """The data of EXPORT_NAME."""
    if len(raw) > NAME_BYTES_MAX:
        raise UsageError(tr("the name of an NBD export of {size} bytes", size=len(raw)))
    return raw.decode()


@decoder(UsageError, "an NBD option GO or INFO")
def read_go(raw: bytes) -> str:
    """The name of the export in the data of GO or INFO; what it wants to know besides is always told."""
    (size,) = _U32.unpack_from(raw)
    name = raw[4 : 4 + size]
    (count,) = _U16.unpack_from(raw, 4 + size)
    if len(name) != size or len(raw) != 6 + size + 2 * count:
        raise ValueError("its lengths do not fit")
    return read_name(name)


@decoder(UsageError, "an NBD option about meta contexts")
def read_meta(raw: bytes) -> tuple[str, list[str]]:
    """The name of the export and the questions in the data of LIST_META_CONTEXT or SET_META_CONTEXT."""
    parts: list[bytes] = []
    (size,) = _U32.unpack_from(raw)
    parts.append(raw[4 : 4 + size])
    at = 4 + size
    (count,) = _U32.unpack_from(raw, at)
    if count > QUERIES_MAX:
        raise ValueError(f"{count} questions")
    at += 4
    for _ in range(count):
        (size,) = _U32.unpack_from(raw, at)
        parts.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(raw):
        raise ValueError("its lengths do not fit")
    name, *queries = parts
    return read_name(name), [read_name(query) for query in queries]


def option_reply(option: int, kind: Reply, data: bytes = b"") -> bytes:
    """One answer to an option."""
    return _OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def refusal(option: int, kind: Reply, reason: str) -> bytes:
    """An error as the answer to an option, with a text for people."""
    return option_reply(option, kind, _text(reason))


def listing(option: int, names: Iterable[str]) -> bytes:
    """The answer to LIST."""
    told = b"".join(
        option_reply(option, Reply.SERVER, _U32.pack(len(raw)) + raw)
        for raw in (name.encode() for name in names)
    )
    return told + option_reply(option, Reply.ACK)


def export_info(option: int, export: Export) -> bytes:
    """The answer to INFO or GO."""
    infos = [
        _INFO_EXPORT.pack(0, export.size, export.features),
        _U16.pack(1) + export.name.encode(),
        _U16.pack(2) + _text(export.note or export.name),
        _INFO_BLOCKS.pack(3, 1, PREFERRED_BYTES, REQUEST_BYTES_MAX),
    ]
    told = b"".join(option_reply(option, Reply.INFO, info) for info in infos)
    return told + option_reply(option, Reply.ACK)


def export_begun(export: Export, *, no_zeroes: bool) -> bytes:
    """The answer to EXPORT_NAME."""
    return _EXPORT.pack(export.size, export.features) + (b"" if no_zeroes else bytes(124))


def contexts(option: int, queries: Sequence[str]) -> tuple[bytes, bool]:
    """The answer to a question for meta contexts, and whether ours was among what it chose."""
    is_ours = CONTEXT in queries
    if option == Option.LIST_META_CONTEXT:
        is_ours = is_ours or not queries or "base:" in queries
    number = CONTEXT_ID if option == Option.SET_META_CONTEXT else 0
    told = option_reply(option, Reply.META_CONTEXT, _U32.pack(number) + CONTEXT.encode()) if is_ours else b""
    return told + option_reply(option, Reply.ACK), is_ours and option == Option.SET_META_CONTEXT


# ---- while it is used


@decoder(UsageError, "an NBD request")
def read_request(raw: bytes | memoryview) -> Request:
    """One command. Raises `UsageError`: it is none, and what follows cannot be told."""
    magic, flags, command, cookie, offset, size = REQUEST.unpack(raw)
    if magic != REQUEST_MAGIC:
        raise UsageError(tr("what an NBD client says is no request"))
    if command == Command.WRITE and size > REQUEST_BYTES_MAX:
        raise UsageError(tr("an NBD write of {size} bytes", size=size))
    return Request(command, flags, cookie, offset, size)


def fault_of(request: Request, export: Export, *, has_context: bool) -> Errno | None:
    """Why a request cannot be, or None."""
    command, end = request.command, request.offset + request.size
    if command not in set(Command):
        return Errno.EINVAL
    is_change = command in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)
    if is_change and export.features & Feature.READ_ONLY:
        return Errno.EPERM
    if command == Command.FLUSH:
        return Errno.EINVAL if request.size or request.offset else None
    if end > export.size:
        return Errno.ENOSPC if is_change and command != Command.TRIM else Errno.EINVAL
    if command == Command.READ and request.size > REQUEST_BYTES_MAX:
        return Errno.EOVERFLOW
    if command == Command.BLOCK_STATUS and not (has_context and request.size):
        return Errno.EINVAL
    allowed = Flag.FUA
    if command == Command.READ:
        allowed |= Flag.DF
    elif command == Command.WRITE_ZEROES:
        allowed |= Flag.NO_HOLE | Flag.FAST_ZERO
    elif command == Command.BLOCK_STATUS:
        allowed |= Flag.REQ_ONE
    return Errno.EINVAL if request.flags & ~allowed else None


def simple_reply(cookie: int, error: int = 0) -> bytes:
    """The answer to anything but a read of a client with structured replies; the data of a read follows."""
    return _SIMPLE.pack(SIMPLE_MAGIC, error, cookie)


def data_head(cookie: int, offset: int, size: int) -> bytes:
    """Before the data of a whole read, as the one chunk of its structured reply."""
    return _CHUNK.pack(STRUCTURED_MAGIC, _DONE, _Chunk.OFFSET_DATA, cookie, 8 + size) + _U64.pack(offset)


def done_chunk(cookie: int) -> bytes:
    """A structured reply that says nothing but that all went well."""
    return _CHUNK.pack(STRUCTURED_MAGIC, _DONE, _Chunk.NONE, cookie, 0)


def error_chunk(cookie: int, error: int, reason: str) -> bytes:
    """An error as a structured reply, with a text for people."""
    text = _text(reason)
    head = _CHUNK.pack(STRUCTURED_MAGIC, _DONE, _Chunk.ERROR, cookie, 6 + len(text))
    return head + _U32.pack(error) + _U16.pack(len(text)) + text


def status_chunk(cookie: int, extents: Sequence[tuple[int, bool]]) -> bytes:
    """The answer to BLOCK_STATUS: (bytes, whether they are a hole) one behind the other."""
    told = b"".join(_EXTENT.pack(size, HOLE_AND_ZERO if is_hole else 0) for size, is_hole in extents)
    head = _CHUNK.pack(STRUCTURED_MAGIC, _DONE, _Chunk.BLOCK_STATUS, cookie, 4 + len(told))
    return head + _U32.pack(CONTEXT_ID) + told


def _text(text: str) -> bytes:
    return text.encode()[:MESSAGE_BYTES_MAX].decode(errors="ignore").encode()
