"""The wire types of `circles`; see docs/protocol/circle.md.

Each side sends on a stream of its own. Anybody may open one; who is no member of a circle gets the same silence for a
circle that is here as for one that is not.
"""

from coterie.access.circle_ops import ID_BYTES
from coterie.errors import CloseCode, PeerError
from coterie.identity.keys import SIGNATURE_BYTES
from coterie.identity.peer_id import KEY_BYTES
from coterie.wire.frames import Message, Protocol

HEADS_MAX = 64  # guess: a circle of 50 that all write at once
KNOWN_MAX = (
    64  # heads and a sample of the past, each twice as far back as the last: enough for 2^30 operations
)
OPS_PER_MESSAGE_MAX = 256  # 25 ms of checking signatures at 100 us each (measured)
FRAME_BYTES_MAX = 600_000  # OPS_PER_MESSAGE_MAX operations of OP_BYTES_MAX
KEEPSAKE_BYTES_MAX = 262_144  # guess: 1,000 contacts with addresses and a person's own log
CARDS_MAX = 64  # in one message; guess
CARD_BYTES_MAX = 4_096  # a name, 8 addresses and a record at their bounds


class Have(Message, frozen=True):
    """The newest operations that the sender has of a circle. Sent to members only, on meeting and after changes."""

    circle: bytes
    heads: list[bytes]


class Want(Message, frozen=True):
    """Ask for `wanted` and all before them, less what comes before `known`."""

    circle: bytes
    wanted: list[bytes]
    known: list[bytes]


class Ops(Message, frozen=True):
    """Operations, parents first. `more`: the rest comes when asked for again."""

    circle: bytes
    ops: list[bytes]
    more: bool = False


class Belong(Message, frozen=True):
    """From a computer that was let in as a device: it agrees to belong to `person`."""

    person: bytes
    consent: bytes


class Deposit(Message, frozen=True):
    """Keep this for whoever comes with the phrase of `paper`: sealed, `version` grows. Signed by a device."""

    paper: bytes
    version: int
    sealed: bytes


class Recall(Message, frozen=True):
    """Ask for what was deposited for `paper`; `proof`: its signature over both ends of this connection."""

    paper: bytes
    proof: bytes


class Recalled(Message, frozen=True):
    """What is deposited. `more`: another one follows. To anybody else, and where nothing is: version 0 and nothing."""

    version: int
    sealed: bytes
    more: bool = False


class Cards(Message, frozen=True):
    """To another computer of the same person: contacts, each a `recovery.Card` in msgpack; what seals deposits."""

    cards: list[bytes]
    paper: bytes = b""
    sealing_key: bytes = b""


class Prove(Message, frozen=True):
    """The sender acts for the paper key of a member of `circle`, until the connection ends; `proof` as in `Recall`."""

    circle: bytes
    paper: bytes
    proof: bytes


PROTOCOL = Protocol(
    name="circles",
    versions=(1,),
    kinds={1: Have, 2: Want, 3: Ops, 4: Belong, 5: Deposit, 6: Recall, 7: Recalled, 8: Prove, 9: Cards},
    frame_bytes_max=FRAME_BYTES_MAX,
)


def check(message: Message) -> None:
    """Raise `PeerError` unless a message is within its bounds."""
    match message:
        case Have(circle, heads):
            sound = len(circle) == ID_BYTES and _are_ids(heads, HEADS_MAX)
        case Want(circle, wanted, known):
            sound = len(circle) == ID_BYTES and _are_ids(wanted, HEADS_MAX) and _are_ids(known, KNOWN_MAX)
        case Ops(circle, ops):
            sound = len(circle) == ID_BYTES and len(ops) <= OPS_PER_MESSAGE_MAX
        case Belong(person, consent):
            sound = len(person) == KEY_BYTES and len(consent) == SIGNATURE_BYTES
        case Deposit(paper, version, sealed):
            sound = (
                len(paper) == KEY_BYTES and 0 < version < 1 << 63 and 0 < len(sealed) <= KEEPSAKE_BYTES_MAX
            )
        case Recall(paper, proof):
            sound = len(paper) == KEY_BYTES and len(proof) == SIGNATURE_BYTES
        case Recalled(version, sealed):
            sound = 0 <= version < 1 << 63 and len(sealed) <= KEEPSAKE_BYTES_MAX
        case Cards(cards, paper, key):
            sound = len(cards) <= CARDS_MAX and all(len(card) <= CARD_BYTES_MAX for card in cards)
            sound = sound and (len(paper), len(key)) in ((0, 0), (KEY_BYTES, KEY_BYTES))
        case Prove(circle, paper, proof):
            sound = (len(circle), len(paper), len(proof)) == (ID_BYTES, KEY_BYTES, SIGNATURE_BYTES)
        case _:
            sound = False
    if not sound:
        raise PeerError(f"a {type(message).__name__} out of bounds", CloseCode.LIMIT)


def _are_ids(ids: list[bytes], most: int) -> bool:
    return len(ids) <= most and all(len(one) == ID_BYTES for one in ids)
