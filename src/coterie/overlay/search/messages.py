"""What nodes say to each other to search: protocol `search`, version 1. See docs/protocol/search.md.

A question is signed by its asker, so that nobody lets answers rain on somebody else. How far it still goes is not
signed: every node on the way lowers it, and charges for it the peer it has it from.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from coterie.identity.keys import SIGNATURE_BYTES
from coterie.identity.peer_id import KEY_BYTES
from coterie.wire.frames import Message, Protocol

QUERY_ID_BYTES = 16  # random: 128 bits cannot be guessed by who has not seen the question
TOPIC_CHARS_MAX = 32  # the name of an app, and some more
BODY_BYTES_MAX = 512  # guess: a line of search terms, or a content id and conditions
ITEMS_MAX = 16  # in one answer; guess: a screen of results
ITEM_BYTES_MAX = 1024  # guess: a name, a size, a content id, a ticket
WANTED_MAX = 255  # answers that end a search; guess
FLOOD_HOPS_MAX = 7  # Gnutella 0.4's usual TTL, and the paper's bound of a flood (Lv et al. 2002, section 4)
RINGS_MAX = 7  # one per hop at most
WALKERS_MAX = 64  # Lv et al. 2002, section 4.2: 16 to 64 walkers
WALK_HOPS_MAX = 1024  # the paper's bound on a walker, there against lost ones only
FRAME_BYTES_MAX = 20 * 1024  # the largest answer: 16 items of 1 KiB, and their headers

SIGNED_FOR = b"coterie search question v1\0"  # no signature for another purpose fits

QueryId = Annotated[bytes, Meta(min_length=QUERY_ID_BYTES, max_length=QUERY_ID_BYTES)]
Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Topic = Annotated[str, Meta(max_length=TOPIC_CHARS_MAX)]
Body = Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
Item = Annotated[bytes, Meta(max_length=ITEM_BYTES_MAX)]
Items = Annotated[tuple[Item, ...], Meta(min_length=1, max_length=ITEMS_MAX)]
Wanted = Annotated[int, Meta(ge=1, le=WANTED_MAX)]
UnixTime = Annotated[int, Meta(ge=0, le=2**40)]
Walker = Annotated[int, Meta(ge=0, lt=2 * WALKERS_MAX)]  # a lost walker's successor has a new number


class Question(Message, frozen=True):
    """What is asked, by whom, until when. `is_direct`: the asker can be dialled and wants answers straight.

    `wanted` is how many answering peers are enough; `expires` is in unix seconds; `topic` says which app is to answer;
    `body` is that app's.
    """

    id: QueryId
    asker: Key
    is_direct: bool
    wanted: Wanted
    expires: UnixTime
    topic: Topic
    body: Body
    signature: Signature = bytes(SIGNATURE_BYTES)

    @property
    def signed_bytes(self) -> bytes:
        """What the asker signs: all but the signature."""
        return SIGNED_FOR + _ENCODER.encode(
            (self.id, self.asker, self.is_direct, self.wanted, self.expires, self.topic, self.body)
        )


class Flooded(Message, frozen=True):
    """A question that goes to all neighbours; rings of one search are numbered from 0."""

    question: Question
    ring: Annotated[int, Meta(ge=0, lt=RINGS_MAX)]
    hops_left: Annotated[int, Meta(ge=0, lt=FLOOD_HOPS_MAX)]


class Walking(Message, frozen=True):
    """A question that goes from neighbour to neighbour at random."""

    question: Question
    walker: Walker
    hops_left: Annotated[int, Meta(ge=0, lt=WALK_HOPS_MAX)]


class Answer(Message, frozen=True):
    """What `responder` has: straight to the asker, or back along the way of a question that is not direct."""

    id: QueryId
    responder: Key
    items: Items


class Check(Message, frozen=True):
    """From who holds a walker to the asker: is it to go on? `is_end`: it has no hops left; no answer is expected."""

    id: QueryId
    walker: Walker
    is_end: bool


class Verdict(Message, frozen=True):
    """The asker's word to a `Check`."""

    id: QueryId
    walker: Walker
    goes_on: bool


SEARCH = Protocol(
    name="search",
    versions=(1,),
    kinds={1: Flooded, 2: Walking, 3: Answer, 4: Check, 5: Verdict},
    frame_bytes_max=FRAME_BYTES_MAX,
)

_ENCODER = msgspec.msgpack.Encoder()
