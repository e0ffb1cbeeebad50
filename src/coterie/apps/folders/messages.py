"""The wire types of `folders`; see docs/protocol/folders.md.

Each side says what it says on the stream that it opened, about any of the folders that both have, in any order. `Want`
is asked on a stream of its own, and answered there by `Wanted`.
"""

from typing import Protocol as Shape
from typing import cast

from coterie.apps.folders.folder_keys import KEYS_BYTES_MAX
from coterie.apps.folders.folder_move import DIGEST_BYTES, PATHS_MAX, FolderMove
from coterie.apps.folders.membership import FOLDER_ID_BYTES, RECORD_BYTES_MAX
from coterie.apps.folders.register import COUNTER_MAX, MS_MAX
from coterie.content.manifest import ID_BYTES, TOTAL_MAX
from coterie.errors import CloseCode, PeerError
from coterie.identity.peer_id import KEY_BYTES
from coterie.wire.frames import Message, Protocol

REPLICA_BYTES = 16
ENTRIES_MAX = 2_000  # registers in one message; guess: about 400 kB
ENTRIES_BYTES_MAX = 768 << 10  # of paths and registers in one message: it fits a frame
PATH_BYTES_MAX = 4_096  # of one path; as Linux has it
REGISTER_BYTES_MAX = 64 << 10  # of one register: some hundred siblings
RECORDS_MAX = 16  # in one message: 16 of the longest fit a frame
SMALL_BYTES = 64 << 10  # of a content that is given at once, in the answer
SMALL_BYTES_MAX = 512 << 10  # of all that are given so in one answer: it fits a frame
HAVE_MAX = 2_000  # files that are asked about together; guess
HAVE_BYTES_MAX = 384 << 10  # of their paths and contents: it fits a frame
NONCE_BYTES = 32
WANTED_MAX = 4_096  # contents that are asked for together; as `content.WANTED_MAX`


class Hello(Message, frozen=True):
    """I have this folder.

    Fields:
        replica: the copy of the folder on this computer. `seq`: of what changed last in it.
        yours: your replica, as far as is known here, or empty; `known`: up to which of its numbers I have everything.
        is_answer: said because you said hello: you need not begin anew.
        moves_behind: I take `Moved` for what changed behind this number of yours; -1: never.
    """

    folder: bytes
    replica: bytes
    seq: int
    yours: bytes
    known: int
    is_answer: bool = False
    moves_behind: int = -1


class Changes(Message, frozen=True):
    """All that changed here behind number `first` up to `last`, but for what came from you: (path, packed register).

    `seq`: of what changed last here: behind `last` more comes.
    """

    folder: bytes
    replica: bytes
    first: int
    last: int
    entries: list[tuple[str, bytes]]
    seq: int = 0


class Moved(Message, frozen=True):
    """As `Changes`, where all that changed behind `first` up to `last` is a folder that moved as a whole."""

    folder: bytes
    replica: bytes
    first: int
    last: int
    move: FolderMove
    seq: int = 0


class Seen(Message, frozen=True):
    """Of your `replica` I have everything up to this number, on disk."""

    folder: bytes
    replica: bytes
    seq: int


class Records(Message, frozen=True):
    """Signed records of folders (`signed_body.packed`), whoever wrote them."""

    records: list[bytes]


class Want(Message, frozen=True):
    """Make ready to be given: contents of a folder, by id. Answered by `Wanted`."""

    folder: bytes
    contents: list[bytes]


class Wanted(Message, frozen=True):
    """They are in the tree `root`, to be fetched by the protocol `folder-contents`; not the `missing`.

    `small`: (content id, its bytes) of those that are given at once; they are not in the tree.
    """

    root: bytes
    files: int
    size: int
    missing: list[bytes]
    small: tuple[tuple[bytes, bytes], ...] = ()


class Keys(Message, frozen=True):
    """Signed keys of folders (`signed_body.packed`), to who may read them: they open what keepers have."""

    keys: list[bytes]


class Without(Message, frozen=True):
    """I do not follow this folder now: it is paused here, or was left. Said to who speaks of it, on that stream."""

    folder: bytes


class Have(Message, frozen=True):
    """Do you have these files, (path, content), on your disk, and do they stay there for now? Answered by `Has`.

    `nonce`: then prove it by BLAKE3 of each file with it as key. I let go of what you prove, so you may be the last.
    """

    folder: bytes
    files: list[tuple[str, bytes]]
    nonce: bytes = b""


class Has(Message, frozen=True):
    """Of each file in its order: its proof, or without a nonce its content; empty: no."""

    proofs: list[bytes]


PROTOCOL = Protocol(
    name="folders",
    versions=(1,),
    kinds={
        1: Hello,
        2: Changes,
        3: Seen,
        4: Records,
        5: Want,
        6: Wanted,
        7: Have,
        8: Has,
        9: Moved,
        10: Without,
        20: Keys,
    },
)


class _OfFolder(Shape):
    folder: bytes


def folder_of(message: Message) -> bytes:
    """Which folder `message` is about; empty: none."""
    return (
        cast(_OfFolder, message).folder
        if isinstance(message, Hello | Changes | Moved | Seen | Want | Without)
        else b""
    )


def check(message: Message) -> None:
    """Raise `PeerError` unless a message is within its bounds. Registers are read where they are merged."""
    match message:
        case Hello(folder, replica, seq, yours, known):
            sound = _is_folder(folder) and len(replica) == REPLICA_BYTES and len(yours) in (0, REPLICA_BYTES)
            sound = sound and 0 <= seq <= TOTAL_MAX and 0 <= known <= TOTAL_MAX
            sound = sound and -1 <= message.moves_behind <= TOTAL_MAX
        case Changes(folder, replica, first, last, entries, seq):
            sound = (
                _is_folder(folder)
                and len(replica) == REPLICA_BYTES
                and 0 <= first <= last <= TOTAL_MAX >= seq >= 0
            )
            sound = sound and len(entries) <= ENTRIES_MAX and all(_is_entry(*entry) for entry in entries)
        case Moved(folder, replica, first, last, move, seq):
            sound = _is_folder(folder) and len(replica) == REPLICA_BYTES and _is_move(move)
            sound = sound and 0 <= first <= last <= TOTAL_MAX >= seq >= 0
        case Seen(folder, replica, seq):
            sound = _is_folder(folder) and len(replica) == REPLICA_BYTES and 0 <= seq <= TOTAL_MAX
        case Without(folder):
            sound = _is_folder(folder)
        case Records(records):
            sound = len(records) <= RECORDS_MAX and all(len(raw) <= RECORD_BYTES_MAX for raw in records)
        case Keys(keys):
            sound = len(keys) <= RECORDS_MAX and all(len(raw) <= KEYS_BYTES_MAX for raw in keys)
        case Want(folder, contents):
            sound = _is_folder(folder) and len(contents) <= WANTED_MAX
            sound = sound and all(len(content) == ID_BYTES for content in contents)
        case Wanted(root, files, size, missing, small):
            sound = len(root) == ID_BYTES and 0 <= files <= WANTED_MAX and 0 <= size <= TOTAL_MAX
            sound = sound and len(missing) <= WANTED_MAX and len(small) <= WANTED_MAX
            sound = sound and all(len(data) <= SMALL_BYTES for _, data in small)
        case Have(folder, files, nonce):
            sound = _is_folder(folder) and len(files) <= HAVE_MAX and len(nonce) in (0, NONCE_BYTES)
            sound = sound and all(
                _is_entry(path, content) and len(content) == ID_BYTES for path, content in files
            )
        case Has(proofs):
            sound = len(proofs) <= HAVE_MAX and all(len(proof) in (0, ID_BYTES) for proof in proofs)
        case _:
            sound = False
    if not sound:
        raise PeerError(f"a {type(message).__name__} out of bounds", CloseCode.LIMIT)


def _is_folder(folder: bytes) -> bool:
    return len(folder) == FOLDER_ID_BYTES


def _is_move(move: FolderMove) -> bool:
    is_sound = (
        len(move.replica) == REPLICA_BYTES and len(move.by) == KEY_BYTES and len(move.digest) == DIGEST_BYTES
    )
    is_sound = is_sound and 0 < len(move.source) <= PATH_BYTES_MAX >= len(move.target) > 0
    return (
        is_sound
        and 0 < move.counter <= COUNTER_MAX
        and 0 < move.count <= PATHS_MAX
        and 0 <= move.at_ms <= MS_MAX
    )


def _is_entry(path: str, register: bytes) -> bool:
    return 0 < len(path) <= PATH_BYTES_MAX and 0 < len(register) <= REGISTER_BYTES_MAX
