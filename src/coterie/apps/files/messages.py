"""The wire types of `files`. One stream is one session about one share; see docs/protocol/files.md.

The asker sends `Open` first, then any number of requests. Answers come in the order of the requests: one frame for a
`GetManifest`, exactly `count` frames for a `GetChunks`.
"""

from enum import IntEnum

from coterie.wire.frames import FRAME_BYTES_MAX, Message, Protocol

MANIFEST = 16  # bulk: the bytes of the manifest asked for
CHUNK = 17  # bulk: the bytes of one chunk

NAME_CHARS_MAX = 255
CHUNKS_PER_REQUEST_MAX = 4096  # as many as a manifest page has entries


class Unavailable(IntEnum):
    """Why a chunk cannot be had."""

    CHANGED = 1  # the file is no longer what was shared
    GONE = 2
    UNREADABLE = 3


class Open(Message, frozen=True):
    """From the asker: the content id of a share (32 bytes) and its secret (16 bytes)."""

    root: bytes
    secret: bytes


class Opened(Message, frozen=True):
    """The share is open to you. `name` is a suggestion, the totals are for progress; the manifest decides.

    `mtime_ns` and `executable` are those of a single file; those inside a folder stand in its manifest.
    """

    kind: int
    name: str
    files: int
    size: int
    mtime_ns: int = 0
    executable: bool = False


class Refused(Message, frozen=True):
    """No such share, or not with this secret: there is one answer for both."""


class GetManifest(Message, frozen=True):
    """Ask for one manifest node of the share (32-byte id)."""

    manifest: bytes


class GetChunks(Message, frozen=True):
    """Ask for `count` chunks of a manifest node, from index `first` on."""

    manifest: bytes
    first: int
    count: int


class NoManifest(Message, frozen=True):
    """The node asked for is not part of this share."""

    manifest: bytes


class ChunkUnavailable(Message, frozen=True):
    """In place of a chunk: it cannot be had here (`reason`: see `Unavailable`)."""

    reason: int


PROTOCOL = Protocol(
    name="files",
    versions=(1,),
    kinds={1: Open, 2: Opened, 3: Refused, 4: GetManifest, 5: GetChunks, 6: NoManifest, 7: ChunkUnavailable},
    bulk_kinds=frozenset({MANIFEST, CHUNK}),
    frame_bytes_max=FRAME_BYTES_MAX,
)
