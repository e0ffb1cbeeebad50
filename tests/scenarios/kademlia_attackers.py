"""Hostile Kademlia nodes: they answer with each other or themselves, say nothing, or lie about what they keep.

They are machines of their own, know the whole network, and agree with each other. Whom they name was seen just now,
as they say.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.machine import Received, Send
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.keys import ID_BYTES, node_id, plain_item
from coterie.sim.adversary import scramble

WINDOW = 40  # neighbours in numeric order among which the nearest are looked for
LIES = plain_item(b"not what you asked for")


class Ring:
    """All hostile nodes, to find those nearest to any key."""

    def __init__(self, names: Sequence[PeerId]) -> None:
        self._places = sorted((node_id(name), name) for name in names)
        self._contacts = {name: wire.Contact(bytes(name), b"", 0) for name in names}

    def nearest(self, key: bytes) -> list[wire.Contact]:
        """The k of them nearest to `key`."""
        place = int.from_bytes(key, "big")
        at = bisect_left(self._places, (place,))
        near = self._places[max(0, at - WINDOW) : at + WINDOW]
        near.sort(key=lambda entry: entry[0] ^ place)
        return [self._contacts[name] for _, name in near[: wire.CONTACTS_MAX]]


class Colluding:
    """Answers with the hostile nodes nearest to what is asked for; its values and providers are lies."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def contacts(self, key: bytes) -> list[wire.Contact]:
        """Who is said to be near `key`."""
        return self._ring.nearest(key)

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        if type(event) is not Received:
            return []
        answer = self._answer(event.message)
        return [] if answer is None else [Send(event.peer, answer)]

    def _answer(self, message: Any) -> Any:
        match message:
            case wire.Ping():
                return wire.Pong(message.request, True)
            case wire.FindNode():
                return wire.Nodes(message.request, self.contacts(message.target))
            case wire.FindProviders():
                near = self.contacts(message.key)
                return wire.Providers(message.request, near, near)
            case wire.FindValue():
                return wire.Value(message.request, LIES.raw, self.contacts(message.key))
            case wire.AddProvider() | wire.Store():
                return wire.Stored(message.request, True)
        return None


class Selfish(Colluding):
    """Answers everything with itself."""

    def __init__(self, own: PeerId) -> None:
        self._own = [wire.Contact(bytes(own), b"", 0)]

    def contacts(self, key: bytes) -> list[wire.Contact]:
        """Only itself."""
        return self._own


class Withholding(Colluding):
    """As `Colluding`, but keeps nothing and knows no values: no lie that could be seen."""

    def _answer(self, message: Any) -> Any:
        match message:
            case wire.FindProviders():
                return wire.Providers(message.request, [], self.contacts(message.key))
            case wire.FindValue():
                return wire.Value(message.request, b"", self.contacts(message.key))
        return super()._answer(message)


def garbled(send: Send, random: Any) -> list[Send]:
    """What a receiver gets of a message with wrong fields: what does not decode never reaches its core."""
    frame_of = wire.KADEMLIA
    try:
        frame = frame_of.encode(scramble(send.message, random))
        message = frame_of.decode(frame[4], frame[5:])
    except (CoterieError, OverflowError):
        return []
    return [Send(send.peer, message)]


def random_find(random: Any) -> wire.FindNode:
    """A request for some random place."""
    return wire.FindNode(random.getrandbits(32), True, random.randbytes(ID_BYTES))
