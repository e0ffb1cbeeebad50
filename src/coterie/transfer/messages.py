"""The wire types of `files`. One stream is one session about one share; see docs/protocol/files.md.

The asker sends `Open` first, then any number of requests. Answers come in the order of the requests: one frame for a
`GetManifest`; for a `GetChunks` as many as hold its `count` chunks, each of them one or several whole ones, or fewer
with a `Skipped` as the last. Between answers the giver may say what it has, what it gave to others, and who else holds
this content.
"""

from enum import IntEnum

from coterie.wire.frames import FRAME_BYTES_MAX, Message, Protocol

MANIFEST = 16  # bulk: the bytes of the manifest asked for
CHUNKS = 17  # bulk: the bytes of one chunk, or of several that follow each other in the request

JOINED_SINCE = 2  # the version in which a frame may hold several chunks
MOVED_SINCE = 3  # the version in which an asker may hear that a share has other content now
USED_UP_SINCE = 3  # the version in which an asker may hear that the amount of its grant is used up
MANY_SINCE = 4  # the version in which an asker may ask for several things at once

NAME_CHARS_MAX = 255
CHUNKS_PER_REQUEST_MAX = 4096  # as many as a manifest page has entries
REQUESTS_TOGETHER_MAX = 256  # in one `GetMany`; guess: with so many the message itself costs nothing any more
ADDRESSES_MAX = 8  # of one peer, as in a ticket
PEERS_MAX = 50  # told at once; as BEP 11 has it
PIECES_BYTES_MAX = 1024  # a node has at most 8,192 chunks, so no more pieces


class Unavailable(IntEnum):
    """Why a chunk cannot be had."""

    CHANGED = 1  # the file is no longer what was shared
    GONE = 2
    UNREADABLE = 3


class Skip(IntEnum):
    """Why the rest of a request is not answered."""

    CANCELLED = 1
    ELSEWHERE = 2  # others were given it; ask them, or insist
    NOT_HERE = 3  # not now: a giver that is still fetching does not have it, or not where it looked


class Open(Message, frozen=True):
    """From the asker: the content id of a share (32 bytes), and the proof that it has the secret (see `proof`).

    `serves`: it gives to others what it has of this content, where `addresses` say ("ip:port", at most 8).
    """

    root: bytes
    proof: bytes
    serves: bool = False
    addresses: tuple[str, ...] = ()


class Opened(Message, frozen=True):
    """The share is open to you. `name` is a suggestion, the totals are for progress; the manifest decides.

    `mtime_ns` and `executable` are those of a single file; those inside a folder stand in its manifest. `whole`: all
    of it is here, else `Has` says what is; `askers` is how many others have a session about it. `of`: who opens it
    with the same secret and may give it to each other: "ticket" (who has that), a subject of the policy, or "": nobody.
    """

    kind: int
    name: str
    files: int
    size: int
    mtime_ns: int = 0
    executable: bool = False
    whole: bool = True
    askers: int = 0
    of: str = "ticket"


class Refused(Message, frozen=True):
    """No such share, or not with this secret: there is one answer for both."""


class GetManifest(Message, frozen=True):
    """Ask for one manifest node of the share (32-byte id)."""

    manifest: bytes


class GetChunks(Message, frozen=True):
    """Ask for `count` chunks of a manifest node, from index `first` on. `insist`: even what others were given."""

    manifest: bytes
    first: int
    count: int
    insist: bool = False


class GetMany(Message, frozen=True):
    """Ask for several things at once; the answers are those to each of them, in their order.

    `requests`: (manifest, first, count, insist) as in `GetChunks`; with `count` 0 the node itself. At most
    `REQUESTS_TOGETHER_MAX`.
    """

    requests: list[tuple[bytes, int, int, bool]]


class Pace(Message, frozen=True):
    """From the asker: send no more than so many bytes a second from now on; 0: as many as you like."""

    bytes_per_s: int


class NoManifest(Message, frozen=True):
    """The node asked for is not part of this share."""

    manifest: bytes


class ChunkUnavailable(Message, frozen=True):
    """In place of a chunk: it cannot be had here (`reason`: see `Unavailable`)."""

    reason: int


class Skipped(Message, frozen=True):
    """In place of the chunks still to come of a request (`reason`: see `Skip`)."""

    reason: int


class Cancel(Message, frozen=True):
    """From the asker: the request that began with this chunk is not needed any more; `Skipped` may answer it."""

    manifest: bytes
    first: int


class Has(Message, frozen=True):
    """From the giver: it has this node and these pieces of it (a bitmap, little-endian), besides those said before."""

    manifest: bytes
    pieces: bytes


class HasAll(Message, frozen=True):
    """From the giver: by now it has everything."""


class Given(Message, frozen=True):
    """From the giver: these pieces others were given already, and will pass on."""

    manifest: bytes
    pieces: bytes


class Peers(Message, frozen=True):
    """From the giver: others that give this content, as (peer id, addresses). A hint: whoever dials verifies the id."""

    peers: list[tuple[bytes, list[str]]]


class Moved(Message, frozen=True):
    """Instead of `Opened`: the share has other content now, to be opened with the same secret (`kind`: as there)."""

    kind: int
    root: bytes


class UsedUp(Message, frozen=True):
    """Instead of `Opened`, or at the end of a session: of the grant that the asker presented, no more can be had.

    `granted`: bytes, all of which are used; `by`: who granted so much (a peer id).
    """

    granted: int
    by: bytes


PROTOCOL = Protocol(
    name="files",
    versions=(1, JOINED_SINCE, MOVED_SINCE, MANY_SINCE),
    kinds={
        1: Open,
        2: Opened,
        3: Refused,
        4: GetManifest,
        5: GetChunks,
        6: NoManifest,
        7: ChunkUnavailable,
        8: Skipped,
        9: Cancel,
        10: Has,
        11: HasAll,
        12: Given,
        13: Peers,
        14: Moved,
        15: UsedUp,
        18: GetMany,
        19: Pace,
    },
    bulk_kinds=frozenset({MANIFEST, CHUNKS}),
    frame_bytes_max=FRAME_BYTES_MAX,
)
