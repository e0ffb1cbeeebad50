"""What two drives say to each other about changes: the wire types of `drive`; docs/protocol/drive.md.

One stream is any number of orders, each answered before the next. A path is "share/folder/file", as `places` has it for
this asker. Whoever owns the share does what is ordered, within its folder, if the policy lets the asker `write` there.
"""

from coterie.wire.frames import FRAME_BYTES_MAX, Message, Protocol

PATH_BYTES_MAX = 4_096  # as long as a path of a file system
TEXT_CHARS_MAX = 500  # of the reason of a failure
DATA_BYTES_MAX = (
    256 << 10
)  # in an order; what is larger is fetched from the asker. Guess: three round trips spared
CODES = ("not-found", "denied", "cannot-be", "full", "disk", "unreached")


class Ask(Message, frozen=True):
    """May the asker change what is at `path`, and how much room is there?"""

    path: str


class Room(Message, frozen=True):
    """The answer: `free_bytes` is 0 where nothing may be changed."""

    may_write: bool
    free_bytes: int


class Put(Message, frozen=True):
    """Make a file of `size` bytes at `path`, instead of one that is there: of `data`, or else of `content`.

    `content` is a content id, which the asker gives by `blobs` as the app `drive`. `mtime_ns` 0: now.
    """

    path: str
    size: int
    mtime_ns: int
    content: bytes = b""
    data: bytes = b""


class MakeFolder(Message, frozen=True):
    """Make the folder `path`, in one that is there."""

    path: str


class Delete(Message, frozen=True):
    """Put what is at `path` into the trash of its owner."""

    path: str


class Move(Message, frozen=True):
    """Call what is at `path` `to`, where nothing is."""

    path: str
    to: str


class Copy(Message, frozen=True):
    """Make `to` of the file at `path`, instead of one that is there."""

    path: str
    to: str


class Done(Message, frozen=True):
    """What was ordered is done."""


class Failed(Message, frozen=True):
    """It is not: one of CODES, and why in words."""

    code: str
    text: str


class Working(Message, frozen=True):
    """It is being worked at: there are `done` bytes. More follows."""

    done: int


PROTOCOL = Protocol(
    name="drive",
    versions=(1,),
    kinds={
        1: Ask, 2: Room, 3: Put, 4: MakeFolder, 5: Delete, 6: Move, 7: Copy, 8: Done, 9: Failed, 10: Working
    },
    frame_bytes_max=FRAME_BYTES_MAX,
)  # fmt: skip
