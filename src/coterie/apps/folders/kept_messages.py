"""The wire types of `folder-keeping`: contents to keepers, and from them; see docs/protocol/folders.md.

Each message is asked on a stream of its own, and answered there. Readers ask and keepers answer. Registers travel by
`folders`, as those of any replica: the folder has another id there.
"""

from coterie.apps.folders.membership import FOLDER_ID_BYTES
from coterie.content.manifest import TOTAL_MAX
from coterie.content.sealed import SEALED_BYTES_MAX, TAG_BYTES
from coterie.errors import CloseCode, PeerError
from coterie.wire.frames import Message, Protocol

IDS_MAX = 4_096  # contents or chunks in one question
TEXTS_BYTES_MAX = 768 << 10  # of sealed chunks in one message: it fits a frame
LISTED_MAX = 16_384  # chunks of all contents in one message: 512 KiB of ids
ID_BYTES = 32


class Lack(Message, frozen=True):
    """Which of these chunks are not there? Without any: which contents are, that registers need? Answer: `Lacking`."""

    folder: bytes
    chunks: list[bytes]


class Lacking(Message, frozen=True):
    """These are not there. `room`: bytes that may still come."""

    ids: list[bytes]
    room: int


class Keep(Message, frozen=True):
    """Keep these sealed chunks. Answered by `Lacking`: those that were not taken, for want of room."""

    folder: bytes
    chunks: list[bytes]


class KeepLists(Message, frozen=True):
    """Of which chunks contents are made: (tag, first, total, ids of the chunks from number `first` on, together).

    Their chunks are there. Answered by `Lacking`: contents that are not whole yet.
    """

    folder: bytes
    lists: list[tuple[bytes, int, int, bytes]]


class AskLists(Message, frozen=True):
    """Of which chunks are these contents made, from number `first` on? Answered by `Lists`."""

    folder: bytes
    contents: list[bytes]
    first: int = 0


class Lists(Message, frozen=True):
    """As in `KeepLists`: of contents that are there whole, as many as fit."""

    lists: list[tuple[bytes, int, int, bytes]]


class AskChunks(Message, frozen=True):
    """Give me these chunks. Answered by `Chunks`."""

    folder: bytes
    ids: list[bytes]


class Chunks(Message, frozen=True):
    """Sealed chunks in the order in which they were asked for, as many as fit; empty where one is not there."""

    chunks: list[bytes]


KEEPING = Protocol(
    name="folder-keeping",
    versions=(1,),
    kinds={1: Lack, 2: Lacking, 3: Keep, 4: KeepLists, 5: AskLists, 6: Lists, 7: AskChunks, 8: Chunks},
)
Asked = Lack | Keep | KeepLists | AskLists | AskChunks
ASKED = (Lack, Keep, KeepLists, AskLists, AskChunks)


def check(message: Message) -> None:
    """Raise `PeerError` unless a message is within its bounds."""
    match message:
        case Lack(folder, ids) | AskChunks(folder, ids):
            sound = _is_folder(folder) and _are_ids(ids)
        case Lacking(ids, room):
            sound = _are_ids(ids) and 0 <= room <= TOTAL_MAX
        case Keep(folder, chunks):
            sound = _is_folder(folder) and _are_texts(chunks) and b"" not in chunks
        case Chunks(chunks):
            sound = _are_texts(chunks)
        case KeepLists(folder, lists):
            sound = _is_folder(folder) and _are_lists(lists)
        case Lists(lists):
            sound = _are_lists(lists)
        case AskLists(folder, contents, first):
            sound = _is_folder(folder) and _are_ids(contents) and 0 <= first <= TOTAL_MAX
        case _:
            sound = False
    if not sound:
        raise PeerError(f"a {type(message).__name__} out of bounds", CloseCode.LIMIT)


def _is_folder(folder: bytes) -> bool:
    return len(folder) == FOLDER_ID_BYTES


def _are_ids(ids: list[bytes]) -> bool:
    return len(ids) <= IDS_MAX and all(len(one) == ID_BYTES for one in ids)


def _are_texts(chunks: list[bytes]) -> bool:
    return len(chunks) <= IDS_MAX and all(len(one) <= SEALED_BYTES_MAX for one in chunks)


def _are_lists(lists: list[tuple[bytes, int, int, bytes]]) -> bool:
    return (
        len(lists) <= IDS_MAX
        and sum(len(ids) for *_, ids in lists) <= LISTED_MAX * ID_BYTES
        and all(
            len(tag) == TAG_BYTES
            and not len(ids) % ID_BYTES
            and 0 <= first <= total <= TOTAL_MAX
            and first + len(ids) // ID_BYTES <= total
            for tag, first, total, ids in lists
        )
    )
