"""The wire types of `disks`; see docs/protocol/disks.md.

A computer that uses a disk opens a stream and says `Open`; the owner answers `Opened` or `Refused`. Then the user asks
many questions at once, each under a number of its own, and each is answered when it is done, in any order.
Readers of one image open such streams to each other with `Join`.
"""

import struct

import msgspec

from coterie.decoding import decoder
from coterie.errors import PeerError
from coterie.wire.frames import Message, Protocol

NAME_CHARS_MAX = 63
PIECE_BYTES_MAX = 512 << 10  # read, or written, by one question
REASON_CHARS_MAX = 500
ADDRESSES_MAX = 16  # of one reader
READERS_MAX = 64  # of one image at once
EXTENTS_MAX = 4_096  # in one answer
ASKED_MAX = 1_024  # questions of one stream that are not answered yet
_DATA = struct.Struct(">Q")
_WRITE = struct.Struct(">QQB")
DATA, WRITE = 32, 33  # bulk kinds
FUA, NO_HOLE = 1, 2  # flags of changes


class Open(Message, frozen=True):
    """From the user: this disk, to write it too or only to read it.

    `kind`: "read", "write", or "ask": only say what it is. `addresses`: where other readers may reach the user.
    """

    name: str
    kind: str = "read"
    addresses: tuple[str, ...] = ()


class Opened(Message, frozen=True):
    """It is open.

    Fields:
        size: in bytes.
        can_write: whether this stream may change it.
        root: the Merkle root of its content, where that is known and stays; else empty.
        boot: changes when what was answered and not flushed may be lost: with a new start of the owner's system.
        form: "image", "disk" or "disc".
        may_write: whether the user may open it to write.
        is_same: to a writer: no other computer wrote since this one did.
    """

    size: int
    can_write: bool = False
    root: bytes = b""
    boot: bytes = b""
    form: str = "image"
    may_write: bool = False
    is_same: bool = False


class Refused(Message, frozen=True):
    """It is not open: `reason` for people. `is_failed`: it is there for you, and cannot be had now."""

    reason: str
    is_failed: bool = False


class Read(Message, frozen=True):
    """`size` bytes from `offset` on, at most PIECE_BYTES_MAX; answered by the bulk frame DATA, or `Failed`."""

    id: int
    offset: int
    size: int


class Flush(Message, frozen=True):
    """Answered by `Done` when all changes that were answered before it was asked are on the disk."""

    id: int


class Trim(Message, frozen=True):
    """These bytes are of no use any more."""

    id: int
    offset: int
    size: int
    flags: int = 0


class Zero(Message, frozen=True):
    """These bytes are to be zero."""

    id: int
    offset: int
    size: int
    flags: int = 0


class Extents(Message, frozen=True):
    """Which of these bytes are holes; answered by `ExtentsAre`."""

    id: int
    offset: int
    size: int


class ExtentsAre(Message, frozen=True):
    """(bytes, whether they are a hole) one behind the other, from the beginning of what was asked for."""

    id: int
    extents: list[tuple[int, bool]]


class Done(Message, frozen=True):
    """A change or flush is done."""

    id: int


class Failed(Message, frozen=True):
    """`errno` is one of those that NBD knows; `reason` is for people."""

    id: int
    errno: int
    reason: str = ""


class Beat(Message, frozen=True):
    """Answered by `Done`: still here."""

    id: int


class GetPage(Message, frozen=True):
    """A page of the Merkle tree, `PAGES` for the digests of all pages; answered by DATA, or `Failed`."""

    id: int
    page: int


class Want(Message, frozen=True):
    """A whole block; answered by DATA, `Elsewhere` or `Failed`.

    `insist`: give it yourself. `failed`: the reader that did not give it.
    """

    id: int
    block: int
    insist: bool = False
    failed: bytes = b""


class Elsewhere(Message, frozen=True):
    """Ask this reader, whom `Readers` named, for the block."""

    id: int
    peer: bytes


class Readers(Message, frozen=True):
    """From the owner, whenever it changes: who reads the image now, and may be asked and answered."""

    readers: list[tuple[bytes, list[str]]]


class Join(Message, frozen=True):
    """From a reader to another: I read this image too. Answered by `Opened` or `Refused`; only `Want` follows."""

    root: bytes


class Eject(Message, frozen=True):
    """First on a stream: open the drive of this disc. Answered by `Done` or `Refused`."""

    name: str


class List(Message, frozen=True):
    """First on a stream: which disks of yours may I read? Answered by `Listed`."""


class Listed(Message, frozen=True):
    """(name, form, size in bytes, whether it may be written), at most LISTED_MAX."""

    disks: list[tuple[str, str, int, bool]]


class Shared(Message, frozen=True):
    """First on a stream: this disk of mine is there for you from now on. Answered by `Done`."""

    name: str
    form: str
    size: int
    write: bool = False


PAGES = 0xFFFFFFFF
LISTED_MAX = 256

PROTOCOL = Protocol(
    name="disks",
    versions=(1,),
    kinds={
        1: Open,
        2: Opened,
        3: Refused,
        4: Read,
        5: Flush,
        6: Trim,
        7: Zero,
        8: Extents,
        9: ExtentsAre,
        10: Done,
        11: Failed,
        12: Beat,
        13: GetPage,
        14: Want,
        15: Elsewhere,
        16: Readers,
        17: Join,
        18: List,
        19: Listed,
        20: Eject,
        21: Shared,
    },
    bulk_kinds=frozenset((DATA, WRITE)),
)


class Written(msgspec.Struct, frozen=True):
    """What a bulk frame WRITE says: `data` to `offset`."""

    id: int
    offset: int
    flags: int
    data: bytes | memoryview


def pack_data(number: int, data: bytes | memoryview) -> bytes:
    """A whole frame DATA."""
    return b"".join((PROTOCOL.bulk_header(DATA, _DATA.size + len(data)), _DATA.pack(number), data))


def data_frame(number: int, size: int) -> tuple[memoryview, memoryview]:
    """A whole frame DATA, and in it the room for the data: to be filled before it is sent."""
    head = PROTOCOL.bulk_header(DATA, _DATA.size + size) + _DATA.pack(number)
    frame = memoryview(bytearray(len(head) + size))
    frame[: len(head)] = head
    return frame, frame[len(head) :]


def pack_write(number: int, offset: int, flags: int, data: bytes | memoryview) -> bytes:
    """A whole frame WRITE."""
    head = PROTOCOL.bulk_header(WRITE, _WRITE.size + len(data))
    return b"".join((head, _WRITE.pack(number, offset, flags), data))


@decoder(PeerError, "data of a disk")
def read_data(body: bytes | memoryview) -> tuple[int, bytes | memoryview]:
    """The number and the data of a frame DATA."""
    (number,) = _DATA.unpack_from(body)
    return number, body[_DATA.size :]


@decoder(PeerError, "a write to a disk")
def read_write(body: bytes | memoryview) -> Written:
    """What a frame WRITE says. Raises `PeerError`: too much of it."""
    number, offset, flags = _WRITE.unpack_from(body)
    data = body[_WRITE.size :]
    if len(data) > PIECE_BYTES_MAX:
        raise PeerError(f"a write of {len(data)} bytes")
    return Written(number, offset, flags, data)
