"""What Kademlia nodes say to each other: protocol `kademlia`, version 1. See docs/protocol/kademlia.md.

Each request is answered by one message with the same number. `serves` says whether the sender answers others: who
does not (it cannot be reached from outside) is never put into a table. Who sent a message is known from the
connection, so no message names its sender, and an announcement is always about the sender itself.
"""

from typing import Annotated

from msgspec import Meta

from coterie.overlay.kademlia.keys import ID_BYTES, ITEM_BYTES_MAX
from coterie.wire.frames import Message, Protocol
from coterie.wire.record import RECORD_BYTES_MAX

CONTACTS_MAX = 20  # in one answer: k
PROVIDERS_MAX = 20  # in one answer
LIFETIME_MAX_S = 7 * 86_400  # that may be asked for; holders cut it to their own limit
FRAME_BYTES_MAX = 40_960  # two full lists with the largest records: 2 * 20 * 940 bytes

Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Key = Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
Record = Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
RawItem = Annotated[bytes, Meta(max_length=ITEM_BYTES_MAX)]
Age = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Lifetime = Annotated[int, Meta(ge=0, le=LIFETIME_MAX_S)]


class Contact(Message, frozen=True):
    """A peer, and its signed `PeerRecord` if the sender has one: nobody else's word about addresses counts.

    `age_s`: how long ago the sender had a sign of life of it; None from nodes that do not say it.
    """

    peer: Key
    record: Record = b""
    age_s: Age | None = None


Contacts = Annotated[list[Contact], Meta(max_length=CONTACTS_MAX)]


class Ping(Message, frozen=True):
    """Are you there?"""

    request: Number
    serves: bool


class Pong(Message, frozen=True):
    """The answer to a `Ping`; with `serves` false to any request: ask others, not me."""

    request: Number
    serves: bool


class FindNode(Message, frozen=True):
    """Which peers do you know nearest to `target`?"""

    request: Number
    serves: bool
    target: Key


class Nodes(Message, frozen=True):
    """The answer to a `FindNode`, nearest first."""

    request: Number
    contacts: Contacts


class FindProviders(Message, frozen=True):
    """Who provides `key`?"""

    request: Number
    serves: bool
    key: Key


class Providers(Message, frozen=True):
    """The answer to a `FindProviders`: those who said so themselves, and who is nearer to the key."""

    request: Number
    providers: Annotated[list[Contact], Meta(max_length=PROVIDERS_MAX)]
    contacts: Contacts


class FindValue(Message, frozen=True):
    """Which item stands under `key`?"""

    request: Number
    serves: bool
    key: Key


class Value(Message, frozen=True):
    """The answer to a `FindValue`: the item, or none (empty), and who is nearer to the key."""

    request: Number
    item: RawItem
    contacts: Contacts


class AddProvider(Message, frozen=True):
    """I provide `key`, for so many seconds."""

    request: Number
    serves: bool
    key: Key
    lifetime_s: Lifetime


class Store(Message, frozen=True):
    """Keep this item, for so many seconds. Its key follows from it."""

    request: Number
    serves: bool
    item: RawItem
    lifetime_s: Lifetime


class Stored(Message, frozen=True):
    """The answer to an `AddProvider` or a `Store`: whether it is kept now."""

    request: Number
    accepted: bool


KADEMLIA = Protocol(
    name="kademlia",
    versions=(1,),
    kinds={
        1: Ping,
        2: Pong,
        3: FindNode,
        4: Nodes,
        5: FindProviders,
        6: Providers,
        7: FindValue,
        8: Value,
        9: AddProvider,
        10: Store,
        11: Stored,
    },
    frame_bytes_max=FRAME_BYTES_MAX,
)
