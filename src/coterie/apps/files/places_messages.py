"""The wire types of `places`: what of a node's shares the asker may see, by readable paths; docs/protocol/places.md.

One stream is any number of questions, each answered before the next. A path is "share/folder/file" as the giver
names it to this asker; the empty one is the list of shares.
"""

from coterie.transfer.messages import UsedUp
from coterie.wire.frames import Message, Protocol

USED_UP_SINCE = 2  # the version in which an asker may hear that the amount of its grant is used up
PATH_BYTES_MAX = 4_096  # as long as a path of a file system
ENTRIES_MAX = 500  # in one answer; the next question goes on behind the last
FRAME_BYTES_MAX = 256 << 10  # 500 names of 255 bytes with their figures

FOLDER, FILE, LINK = 1, 2, 3
FORMS = {FOLDER: "folder", FILE: "file", LINK: "link"}


class List(Message, frozen=True):
    """What is in `path`, from behind the name `after` on?"""

    path: str
    after: str = ""


class Entry(Message, frozen=True):
    """One name in a folder. `kind`: 1 folder, 2 file, 3 symbolic link. `size` in bytes."""

    name: str
    kind: int
    files: int
    size: int
    mtime_ns: int = 0


class Listed(Message, frozen=True):
    """Names in order; `more`: there are further ones."""

    entries: list[Entry]
    more: bool = False


class Locate(Message, frozen=True):
    """By what content id, and with what secret, can `path` be fetched?"""

    path: str


class Located(Message, frozen=True):
    """`path` is this content (`kind`: 1 blob, 2 tree), to be opened with `secret` by this asker and nobody else."""

    kind: int
    content_id: bytes
    secret: bytes


class NotThere(Message, frozen=True):
    """No such place, or none that the asker may know of: there is one answer for both."""


PLACES = Protocol(
    name="places",
    versions=(1, USED_UP_SINCE),
    kinds={1: List, 2: Listed, 3: Locate, 4: Located, 5: NotThere, 6: UsedUp},
    frame_bytes_max=FRAME_BYTES_MAX,
)
