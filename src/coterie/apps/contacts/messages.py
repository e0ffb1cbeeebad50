"""The wire types of `invite`. One stream is one attempt to join one invitation; see docs/protocol/invite.md.

The joiner opens the stream: Knock, Answer, Confirm, Accept, Introduce, Done; or the inviter ends it with Refused or
Over.
"""

from enum import IntEnum

from coterie.errors import CloseCode, PeerError
from coterie.wire.frames import Message, Protocol

ELEMENT_BYTES = 33  # a side byte and an Ed25519 point, as the library `spake2` writes them
PROOF_BYTES = 32  # BLAKE3
NAME_CHARS_MAX = 64  # as a node's own name
ADDRESSES_MAX = 8  # as a ticket
ADDRESS_CHARS_MAX = 64  # "[IPv6 with a zone]:port"
PURPOSE_BYTES_MAX = 512  # what another app says with an invitation: a circle, a role and two names
RECORD_BYTES_MAX = 2048  # guess: a signed record is a few hundred bytes
FRAME_BYTES_MAX = 4096  # a card at all its bounds fits


class Right(IntEnum):
    """By what a joiner may come in."""

    CODE = 1  # the words of the short code
    SECRET = 2  # the secret of the long form


class Reason(IntEnum):
    """Why an invitation is over."""

    USED = 1
    EXPIRED = 2
    WITHDRAWN = 3


class Knock(Message, frozen=True):
    """From the joiner: the public number of the invitation, the kind of right (`Right`), its SPAKE2 element."""

    number: int
    right: int
    element: bytes


class Answer(Message, frozen=True):
    """From the inviter: its SPAKE2 element. Sent for numbers that do not exist, too."""

    element: bytes


class Confirm(Message, frozen=True):
    """From the joiner: proof that it knows the right. Only after this does the inviter prove anything."""

    proof: bytes


class Accept(Message, frozen=True):
    """From the inviter, who has checked the proof: its own proof, who it is, and to what it invites (an app knows)."""

    proof: bytes
    name: str
    addresses: list[str]
    record: bytes = b""
    purpose: bytes = b""


class Introduce(Message, frozen=True):
    """From the joiner, who has checked the proof: who it is."""

    name: str
    addresses: list[str]
    record: bytes = b""


class Done(Message, frozen=True):
    """From the inviter: the joiner is among its contacts now, the invitation is used."""


class Refused(Message, frozen=True):
    """The proof was wrong. The same for a wrong right, a burnt code and an invitation that never was."""


class Over(Message, frozen=True):
    """The proof was right, but the invitation is over (`reason`: see `Reason`)."""

    reason: int


PROTOCOL = Protocol(
    name="invite",
    versions=(1,),
    kinds={1: Knock, 2: Answer, 3: Confirm, 4: Accept, 5: Introduce, 6: Done, 7: Refused, 8: Over},
    frame_bytes_max=FRAME_BYTES_MAX,
)


def check_card(card: Accept | Introduce) -> None:
    """Raise `PeerError` unless what a peer says of itself is within its bounds."""
    if (
        len(card.name) > NAME_CHARS_MAX
        or len(card.addresses) > ADDRESSES_MAX
        or any(len(address) > ADDRESS_CHARS_MAX for address in card.addresses)
        or len(card.record) > RECORD_BYTES_MAX
        or len(getattr(card, "purpose", b"")) > PURPOSE_BYTES_MAX
    ):
        raise PeerError("an introduction over its bounds", CloseCode.LIMIT)
