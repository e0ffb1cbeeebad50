"""The wire types of `send`; see docs/protocol/send.md.

An offer has two halves. The sender's says what it offers and whether that still holds (`Offer`, `Stands`), the other
side's what it answers (`Said`). Each half is numbered, and sent whole whenever it changed: what is doubled, late or
out of order does no harm, and both sides read the same word off the same two halves (`core.word`).

Between people who know each other the messages are letters (`services/mail`), each one `pack`ed. Otherwise they go over
a stream of this protocol, which whoever met the other opens; each side says its half, then every change of it.
"""

import msgspec

from coterie.content.manifest import ID_BYTES, TOTAL_MAX
from coterie.content.names import name_fault
from coterie.decoding import decoder
from coterie.errors import PeerError
from coterie.wire.frames import LENGTH_BYTES, Message, Protocol
from coterie.wire.ticket import SECRET_BYTES, TicketKind

OFFER_ID_BYTES = 16
ITEMS_MAX = 64  # of one offer; guess: more is a folder
NOTE_CHARS_MAX = 200
REASON_CHARS_MAX = 300
NAME_CHARS_MAX = 64  # as a node's own name
FRAME_BYTES_MAX = 32_768  # an offer of ITEMS_MAX names of 255 bytes fits; less than a letter may have
SERIAL_MAX = 2**32  # of a half; far more than it changes
UNTIL_MAX = 2**40  # unix seconds


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One file or folder of an offer: `kind` as in tickets, how many files and bytes."""

    name: str
    kind: int
    files: int
    size: int


class Key(msgspec.Struct, frozen=True, array_like=True):
    """What opens an item: its content id and the secret of the gift, for this computer only."""

    root: bytes
    secret: bytes


class Offer(Message, frozen=True):
    """From the sender: what it offers, until when (unix seconds), a word with it; `name`: what it calls itself."""

    id: bytes
    items: list[Item]
    until: int
    note: str = ""
    name: str = ""


class Stands(Message, frozen=True):
    """From the sender: its half, `serial` higher with each change. `stand`: see `core.Stand`.

    `keys`: one for each item, once it is granted. `heard`: the serial of the other half that it knows.
    """

    id: bytes
    serial: int
    stand: str
    until: int
    keys: list[Key]
    heard: int = 0


class Said(Message, frozen=True):
    """From the one it is offered to: the other half. `answer`: see `core.Answer`; `reason` is for people."""

    id: bytes
    serial: int
    answer: str
    percent: int = 0
    reason: str = ""
    heard: int = 0


class Take(Message, frozen=True):
    """First on a stream, from one who has met the sender over a code: give me the offer with this id."""

    id: bytes


class Gone(Message, frozen=True):
    """There is no such offer here (any more), or not for you."""

    id: bytes


class Hello(Message, frozen=True):
    """First on a stream, from one on the local network: who are you, and do you take files from strangers?"""


class Here(Message, frozen=True):
    """The answer to `Hello`, while the owner takes files from strangers: what this computer calls itself."""

    name: str


PROTOCOL = Protocol(
    name="send",
    versions=(1,),
    kinds={1: Offer, 2: Stands, 3: Said, 4: Take, 5: Gone, 6: Hello, 7: Here},
    frame_bytes_max=FRAME_BYTES_MAX,
)


def pack(message: Message) -> bytes:
    """A message as the body of a letter: a frame without its length."""
    return PROTOCOL.encode(message)[LENGTH_BYTES:]


@decoder(PeerError, "a letter about files that are sent")
def unpack(body: bytes) -> Message | None:
    """The message in a letter, within its bounds; None for a kind that is not known here. Raises `PeerError`."""
    if not 0 < len(body) <= FRAME_BYTES_MAX:
        raise PeerError(f"a letter of {len(body)} bytes")
    message = PROTOCOL.decode(body[0], body[1:])
    if not isinstance(message, Message):
        return None
    check(message)
    return message


def check(message: Message) -> None:
    """Raise `PeerError` unless what a peer sent is within its bounds."""
    fault = _fault(message)
    if fault:
        raise PeerError(f"a message about files that are sent with {fault}")


def _fault(message: Message) -> str:
    if isinstance(message, Offer | Stands | Said | Take | Gone) and len(message.id) != OFFER_ID_BYTES:
        return f"an id of {len(message.id)} bytes"
    match message:
        case Offer():
            return _fault_of_offer(message)
        case Stands() | Said() if not (0 < message.serial <= SERIAL_MAX and 0 <= message.heard <= SERIAL_MAX):
            return "a number that cannot be"
        case Stands() if len(message.keys) > ITEMS_MAX or not all(map(_is_key, message.keys)):
            return "keys that cannot be"
        case Stands() if not 0 < message.until <= UNTIL_MAX:
            return "a time that cannot be"
        case Said() if not 0 <= message.percent <= 100 or len(message.reason) > REASON_CHARS_MAX:
            return f"{message.percent} percent, and a reason of {len(message.reason)} characters"
        case Here() if len(message.name) > NAME_CHARS_MAX:
            return "a name that is too long"
    return ""


def _is_key(key: Key) -> bool:
    return len(key.root) == ID_BYTES and len(key.secret) == SECRET_BYTES


def _fault_of_offer(offer: Offer) -> str:
    if not 0 < len(offer.items) <= ITEMS_MAX:
        return f"{len(offer.items)} items"
    for item in offer.items:
        if name_fault(item.name):
            return f"an item whose name {name_fault(item.name)}"
        if item.kind not in set(TicketKind):
            return f"an item of the kind {item.kind}"
        if not (0 <= item.files <= TOTAL_MAX and 0 <= item.size <= TOTAL_MAX):
            return "a number of files or bytes that cannot be"
    if not 0 < offer.until <= UNTIL_MAX:
        return "a time that cannot be"
    if len(offer.note) > NOTE_CHARS_MAX or len(offer.name) > NAME_CHARS_MAX:
        return "words that are too long"
    return ""
