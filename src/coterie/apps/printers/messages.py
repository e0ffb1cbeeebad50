"""The wire types of `printers`, on streams and in letters; see docs/protocol/printers.md.

On a stream: `Look` is answered by `Offers`, `Describe` by `Described` or `Refused`, `Identify` by `Heard` or `Refused`,
`News` by `Heard`. As letters, in order, from who prints: `Job` and `Change`; from who has the printer: `State`.
"""

from typing import Annotated, Literal

import msgspec

from coterie.wire.frames import Message, Protocol

TITLE_CHARS_MAX = 255  # job-name of IPP (RFC 8011, 5.1.3)
ATTRIBUTES_BYTES_MAX = 48_000  # of a job: a letter has 64 KiB
PRINTER_BYTES_MAX = 900_000  # of what a printer says of itself; a frame has 1 MiB
PRINTERS_MAX = 256  # of one computer
NOTE_CHARS_MAX = 500

JobId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Short = Annotated[str, msgspec.Meta(max_length=TITLE_CHARS_MAX)]
Note = Annotated[str, msgspec.Meta(max_length=NOTE_CHARS_MAX)]
What = Literal["cancel", "hold", "release"]


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """A printer that the asker may use. `pages_max`: sides in a month, 0: any; `pages_used`: of the asker's person.

    `has_page`: its own web page may be opened, too, under its name in `expose`.
    """

    id: Short
    name: Short
    model: Short = ""
    state: Note = ""
    is_asking: bool = False
    pages_max: int = 0
    pages_used: int = 0
    has_page: bool = False


class Look(Message, frozen=True):
    """Which printers are there for me?"""


class Offers(Message, frozen=True):
    """These."""

    printers: Annotated[list[Offer], msgspec.Meta(max_length=PRINTERS_MAX)]


class Describe(Message, frozen=True):
    """What does this printer say of itself?"""

    printer: Short


class Described(Message, frozen=True):
    """IPP attributes of the printer itself: groups and the tag that ends them."""

    offer: Offer
    attributes: Annotated[bytes, msgspec.Meta(max_length=PRINTER_BYTES_MAX)]


class Refused(Message, frozen=True):
    """There is no such printer for you, or it was never reached: `reason` for people."""

    reason: Note


class Identify(Message, frozen=True):
    """Let this printer blink or beep; answered by `Heard` or `Refused`."""

    printer: Short


class News(Message, frozen=True):
    """My printers that are for you have changed."""


class Heard(Message, frozen=True):
    """Good to know."""


class Job(Message, frozen=True):
    """A letter: print this. The document is content `content` (root), which the sender gives under `blobs`.

    `id` is the sender's, of 16 random bytes: the same job never comes to the printer twice. `attributes`: one IPP job
    group; `sides`: of one copy, as the sender counted; `expires`: unix seconds, not printed after.
    """

    id: JobId
    printer: Short
    title: Short
    user: Short
    format: Short
    size: int
    content: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    attributes: Annotated[bytes, msgspec.Meta(max_length=ATTRIBUTES_BYTES_MAX)]
    sides: int
    expires: float


class Change(Message, frozen=True):
    """A letter: do this to my job."""

    id: JobId
    what: What


class State(Message, frozen=True):
    """A letter: where a job stands (`state` is IPP's job-state). `sides`: printed so far, of all copies."""

    id: JobId
    state: Annotated[int, msgspec.Meta(ge=3, le=9)]
    reasons: Annotated[list[Short], msgspec.Meta(max_length=16)]
    note: Note = ""
    sides: int = 0


PROTOCOL = Protocol(
    name="printers",
    versions=(1,),
    kinds={
        1: Look,
        2: Offers,
        3: Describe,
        4: Described,
        5: Refused,
        6: News,
        7: Heard,
        8: Job,
        9: Change,
        10: State,
        11: Identify,
    },
)
