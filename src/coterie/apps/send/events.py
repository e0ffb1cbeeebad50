"""What goes into the core of `send`, and what comes out of it."""

from typing import NamedTuple

from coterie.apps.send.records import InboxRecord, Part, SentRecord
from coterie.identity import PeerId
from coterie.wire.frames import Message

# ---- events


class Make(NamedTuple):
    """Command: offer this."""

    record: SentRecord


class Cancel(NamedTuple):
    """Command: offer it no longer."""

    id: str


class Accept(NamedTuple):
    """Command: take the offer `id` of the inbox, into `folder`."""

    id: str
    folder: str


class Decline(NamedTuple):
    """Command: do not take it, or no longer."""

    id: str


class Heard(NamedTuple):
    """`message` came from `peer`, within its bounds (`messages.check`)."""

    peer: PeerId
    message: Message
    is_stranger: bool = False
    addresses: tuple[str, ...] = ()
    dials: bool = False


class StreamOpened(NamedTuple):
    """A stream for this offer to or from the stranger `peer` is open: it hears our half again, whole."""

    peer: PeerId
    offer: bytes


class Told(NamedTuple):
    """Our half with this serial is on its way, and will arrive."""

    id: str
    peer: PeerId
    serial: int


class Fetching(NamedTuple):
    """Of the offer `id`, so much is here."""

    id: str
    percent: int


class Placed(NamedTuple):
    """This item of the offer `id` goes to `path`, by the transfer of this id."""

    id: str
    item: int
    path: str
    transfer: str


class ItemHere(NamedTuple):
    """Of the offer `id`, this item is here, at `path`."""

    id: str
    item: int
    path: str


class Broke(NamedTuple):
    """It could not be fetched."""

    id: str
    reason: str


# ---- outputs


class Keep(NamedTuple):
    """Write this record to the disk before anything of the same turn is told."""

    record: SentRecord | InboxRecord


class Drop(NamedTuple):
    """Forget this record."""

    record: SentRecord | InboxRecord


class Reply(NamedTuple):
    """Send this once, whether or not it arrives."""

    peer: PeerId
    message: Message


class News(NamedTuple):
    """Emitted: the word about this record is another one now (`part`: about which computer of an offer of ours)."""

    record: SentRecord | InboxRecord
    part: Part | None
    word: str


class Unsent(NamedTuple):
    """What is to be told to `peer`, in this order: our half of the record `id`; `Told` when it is on its way."""

    id: str
    offer: bytes
    peer: PeerId
    serial: int
    is_stranger: bool
    messages: tuple[Message, ...]
    lasts_s: float


class Call(NamedTuple):
    """A stream that we are to open to `peer` about an offer, and what is said on it first."""

    peer: PeerId
    offer: bytes
    first: Message
    addresses: tuple[str, ...]
