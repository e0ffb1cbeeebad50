"""The wire types of `broadcast`: membership (HyParView) and dissemination (Plumtree), each for one topic.

Every message begins with its topic, 32 bytes. A published message is signed by its author, so that whoever passes it
on need not be trusted:

    signed = "coterie broadcast" | 0 | topic 32 | author 32 | at u64, big-endian | payload         (Ed25519)
    id     = the first 16 bytes of BLAKE2b(signed)

`at` is in milliseconds of unix time and grows with every message of an author, so no two have the same id.
"""

from enum import IntEnum
from hashlib import blake2b
from typing import Annotated

from msgspec import Meta

from coterie.identity.peer_id import KEY_BYTES
from coterie.wire.frames import Message, Protocol
from coterie.wire.record import RECORD_BYTES_MAX

TOPIC_BYTES = 32
ID_BYTES = 16  # 2^64 messages for a likely collision: a forger needs as many signatures
SIGNATURE_BYTES = 64
PAYLOAD_BYTES_MAX = 16_384  # guess: news and small records; what is larger is shared and its ticket published
IDS_MAX = 128  # guess: in one message, 2 KiB
SHUFFLED_MAX = 8  # HyParView 5.1: ourselves, k_a = 3 of the active view, k_p = 4 of the passive one
HOPS_MAX = 255  # of a payload: far above the diameter of any tree here; it only helps to choose between links
TTL_MAX = 16  # of a random walk; HyParView uses 6
FRAME_BYTES_MAX = (
    20_480  # a payload with all around it; eight entries of a shuffle with whole records: 7.6 KB
)
CONTEXT = b"coterie broadcast\x00"  # no other signature of ours begins so

Topic = Annotated[bytes, Meta(min_length=TOPIC_BYTES, max_length=TOPIC_BYTES)]
Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Id = Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
Ids = Annotated[list[Id], Meta(max_length=IDS_MAX)]
Record = Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
Ttl = Annotated[int, Meta(ge=0, le=TTL_MAX)]
Hops = Annotated[int, Meta(ge=0, le=HOPS_MAX)]
Millis = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Entry(Message, frozen=True):
    """A peer and its signed record, which may be empty."""

    peer: Key
    record: Record = b""


Entries = Annotated[list[Entry], Meta(max_length=SHUFFLED_MAX)]


class Need(IntEnum):
    """Why somebody wants to be a neighbour."""

    SPARE = 0  # it has a place free; refused when the other has none. The paper's low priority
    URGENT = 1  # it has nobody: not to be refused. The paper's high priority
    MIXING = (
        2  # it exchanges one neighbour for another at random, as an urgent one; messages go on as they went
    )


class Join(Message, frozen=True):
    """From a newcomer to a member it knows: take me in."""

    topic: Topic
    record: Record = b""


class ForwardJoin(Message, frozen=True):
    """A newcomer on a random walk through the members."""

    topic: Topic
    newcomer: Entry
    ttl: Ttl


class Neighbour(Message, frozen=True):
    """Let us be in each other's active view; `need` is a `Need`, a number that is none counts as the least."""

    topic: Topic
    need: Annotated[int, Meta(ge=0, le=255)]
    record: Record = b""


class Answer(Message, frozen=True):
    """To a `Neighbour`."""

    topic: Topic
    is_accepted: bool
    record: Record = b""


class Disconnect(Message, frozen=True):
    """We are not in each other's active view any more; `is_leaving`: nor in the topic."""

    topic: Topic
    is_leaving: bool = False


class Shuffle(Message, frozen=True):
    """A sample of the origin's views on a random walk; where it ends, `ShuffleReply` goes to the origin."""

    topic: Topic
    origin: Entry
    number: Annotated[int, Meta(ge=0, lt=2**32)]
    entries: Entries
    ttl: Ttl


class ShuffleReply(Message, frozen=True):
    """A sample in exchange; `number` is that of the shuffle."""

    topic: Topic
    number: Annotated[int, Meta(ge=0, lt=2**32)]
    entries: Entries


class Gossip(Message, frozen=True):
    """A published message, whole. `hops` is how far it has come, and not signed."""

    topic: Topic
    author: Key
    at: Millis
    payload: Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
    hops: Hops = 0


class Ihave(Message, frozen=True):
    """We have these, `hops` from their authors at most."""

    topic: Topic
    ids: Ids
    hops: Hops = 0


class Graft(Message, frozen=True):
    """Send these, and from now on push to us. Without ids: only push."""

    topic: Topic
    ids: Ids


class Prune(Message, frozen=True):
    """From now on do not push to us: announce."""

    topic: Topic


class Summary(Message, frozen=True):
    """What the sender holds of the time from `since` to `until`: how many, and the sum of their ids."""

    topic: Topic
    since: Millis
    until: Millis
    count: Annotated[int, Meta(ge=0, lt=2**32)]
    total: Id
    is_answer: bool = False


class Holds(Message, frozen=True):
    """What the sender holds of that time; `is_whole`: all of it, else some at random. `is_answer`: no answer please."""

    topic: Topic
    since: Millis
    until: Millis
    ids: Ids
    is_whole: bool
    is_answer: bool = False


class Want(Message, frozen=True):
    """Send these once more; nothing changes in the tree."""

    topic: Topic
    ids: Ids


PROTOCOL = Protocol(
    name="broadcast",
    versions=(1,),
    kinds={
        1: Join,
        2: ForwardJoin,
        3: Neighbour,
        4: Answer,
        5: Disconnect,
        6: Shuffle,
        7: ShuffleReply,
        16: Gossip,
        17: Ihave,
        18: Graft,
        19: Prune,
        20: Summary,
        21: Holds,
        22: Want,
    },
    frame_bytes_max=FRAME_BYTES_MAX,
)


def signed_part(topic: bytes, author: bytes, at: int, payload: bytes) -> bytes:
    """What the author of a message signs."""
    return b"".join((CONTEXT, topic, author, at.to_bytes(8, "big"), payload))


def id_of(signed: bytes) -> bytes:
    """The id of a message, 16 bytes, from what its author signed."""
    return blake2b(signed, digest_size=ID_BYTES).digest()
