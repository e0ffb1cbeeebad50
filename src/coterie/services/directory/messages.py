"""The wire types of `directory`: what a computer offers to the asker, of every kind; docs/protocol/directory.md.

One stream is any number of questions, each answered before the next.
"""

from typing import Annotated

import msgspec

from coterie.access.resource import RESOURCE_BYTES_MAX
from coterie.wire.frames import Message, Protocol

OFFERS_MAX = 500  # in one answer; the next question goes on behind the last
KIND_CHARS_MAX = 64
FORM_CHARS_MAX = 32
NOTE_CHARS_MAX = 100
NAME_CHARS_MAX = 2 * RESOURCE_BYTES_MAX  # a label of a share, and the path of the part of it that was granted
FRAME_BYTES_MAX = 1 << 20  # 500 offers of 700 characters, all beyond ASCII: below 1 MiB

Kind = Annotated[str, msgspec.Meta(max_length=KIND_CHARS_MAX, pattern=r"^[a-z0-9-]*$")]
Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Ask(Message, frozen=True):
    """What do you offer me, from behind this kind and name on?"""

    kind: Kind = ""
    name: Name = ""


class Offer(Message, frozen=True):
    """Something that the asker may list.

    Fields:
        kind: of resources, as the app declares it: "files", "service".
        name: what it is called to this asker.
        form: what lists call it, where that says more than the kind: "folder".
        size: bytes, and `files` of which it consists; None where that means nothing or is not known.
        mtime_ns: when it changed last, nanoseconds since 1970; 0: not known.
        note: a few words for people.
    """

    kind: Kind
    name: Name
    form: Annotated[str, msgspec.Meta(max_length=FORM_CHARS_MAX)] = ""
    size: Number | None = None
    files: Number | None = None
    mtime_ns: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0
    note: Annotated[str, msgspec.Meta(max_length=NOTE_CHARS_MAX)] = ""


class Offers(Message, frozen=True):
    """What is offered, ordered by kind and name; `more`: there is further."""

    offers: Annotated[list[Offer], msgspec.Meta(max_length=OFFERS_MAX)]
    more: bool = False


DIRECTORY = Protocol(
    name="directory", versions=(1,), kinds={1: Ask, 2: Offers}, frame_bytes_max=FRAME_BYTES_MAX
)
