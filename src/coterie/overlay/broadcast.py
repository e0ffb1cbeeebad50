"""Broadcast in many topics: for each a HyParView for who is a neighbour and a Plumtree for what is said.

Topics know nothing of each other: who is a member of one does not learn who is in another, and a closed group stays
among those whom its predicate lets in. What two nodes share is their connection.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from coterie.errors import LimitExceeded, NotFound
from coterie.identity import PeerId
from coterie.identity.keys import verify as verify_ed25519
from coterie.machine import PeerDown, Received, TimerFired
from coterie.overlay import plumtree
from coterie.overlay.hyparview import (
    Enter,
    HyParView,
    HyParViewLimits,
    Leave,
    NeighbourDown,
    NeighbourUp,
)
from coterie.overlay.plumtree import Delivered, Misbehaved, Plumtree, PlumtreeLimits
from coterie.texts import tr
from coterie.wire.broadcast import Entry, Gossip, Graft, Holds, Ihave, Prune, Summary, Want

TOPICS_MAX = 256  # guess; a topic takes some 100 KB when quiet

__all__ = [
    "Broadcast",
    "CloseTopic",
    "Delivered",
    "NeighbourDown",
    "NeighbourUp",
    "OpenTopic",
    "Publish",
]


def _anybody(_peer: PeerId) -> bool:
    return True


class OpenTopic(msgspec.Struct, frozen=True):
    """A command: take part in `topic`, through `contacts`; again: try these contacts too.

    `may_join` says who may be a member; only of those anything is taken, and only to those anything is sent.
    `record` is what others get to reach us.
    """

    topic: bytes
    contacts: tuple[Entry, ...] = ()
    record: bytes = b""
    may_join: Callable[[PeerId], bool] = _anybody


class CloseTopic(msgspec.Struct, frozen=True):
    """A command: take part no more."""

    topic: bytes


class Publish(msgspec.Struct, frozen=True):
    """A command: tell all members of `topic`."""

    topic: bytes
    payload: bytes


class _Topic(msgspec.Struct, frozen=True):
    membership: HyParView
    messages: Plumtree


_OF_MESSAGES = (Gossip, Ihave, Graft, Prune, Summary, Holds, Want)


class Broadcast:
    """The machine: `handle(event, now)`, `now` in unix seconds: messages have a time.

    Outputs besides sends and timers: NeighbourUp, NeighbourDown, Delivered.

    Args:
        me: this node.
        rng: for every random choice.
        sign: 64 bytes, our signature.
        verify: whether a peer signed something so.
        is_record: whether a record is sound and of that peer.
        membership, messages: bounds of each topic.
        topics_max: topics taken part in at once.
    """

    def __init__(
        self,
        me: PeerId,
        *,
        rng: Random,
        sign: Callable[[bytes], bytes],
        verify: Callable[[PeerId, bytes, bytes], bool] = verify_ed25519,
        is_record: Callable[[PeerId, bytes], bool] = lambda peer, record: True,
        membership: HyParViewLimits | None = None,
        messages: PlumtreeLimits | None = None,
        topics_max: int = TOPICS_MAX,
    ) -> None:
        self._me = me
        self._rng = rng
        self._sign = sign
        self._verify = verify
        self._is_record = is_record
        self._membership_limits = membership or HyParViewLimits()
        self._messages_limits = messages or PlumtreeLimits()
        self._topics_max = topics_max
        self._topics: dict[bytes, _Topic] = {}
        self.ignored = 0

    # ---- to look at

    @property
    def topics_max(self) -> int:
        """How many topics this node may take part in."""
        return self._topics_max

    @property
    def topics(self) -> list[bytes]:
        """Those taken part in."""
        return list(self._topics)

    def membership(self, topic: bytes) -> HyParView:
        """Who is a neighbour in `topic`; to be looked at only. Raises NotFound."""
        return self._topic(topic).membership

    def messages(self, topic: bytes) -> Plumtree:
        """How messages go in `topic`; to be looked at only. Raises NotFound."""
        return self._topic(topic).messages

    def is_neighbour(self, peer: PeerId) -> bool:
        """Whether `peer` is a neighbour in any topic: its connection is to be kept."""
        return any(topic.membership.is_neighbour(peer) for topic in self._topics.values())

    def record_of(self, peer: PeerId) -> bytes:
        """The record of `peer` as any topic brought it; empty when none did."""
        for topic in self._topics.values():
            if record := topic.membership.record_of(peer):
                return record
        return b""

    # ---- events

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (unix s) and return what is to be done, in order. Raises for bad commands."""
        match event:
            case Received(_, message):
                return self._received(event, message, now)
            case TimerFired((bytes() as topic, "shuffle" | "ask", *_)):
                return self._of_membership(topic, event, now)
            case TimerFired((bytes() as topic, *_)):
                found = self._topics.get(topic)
                return found.messages.handle(event, now) if found is not None else []
            case PeerDown():
                outputs: list[Any] = []
                for topic in self._topics:
                    outputs += self._of_membership(topic, event, now)
                return outputs
            case Publish(topic, payload):
                return self._topic(topic).messages.handle(plumtree.Publish(payload), now)
            case OpenTopic():
                return self._open(event, now)
            case CloseTopic(topic):
                return self._close(topic, now)
        return []

    def _received(self, event: Received, message: Any, now: float) -> list[Any]:
        topic = self._topics.get(message.topic)
        if topic is None:
            self.ignored += 1
            return []
        if not isinstance(message, _OF_MESSAGES):
            return self._of_membership(message.topic, event, now)
        outputs = topic.messages.handle(event, now)
        for output in outputs:
            if type(output) is Misbehaved:
                return self._told(topic, topic.membership.ban(output.peer, now), now)
        return outputs

    def _of_membership(self, topic: bytes, event: Any, now: float) -> list[Any]:
        found = self._topics.get(topic)
        return self._told(found, found.membership.handle(event, now), now) if found is not None else []

    def _told(self, topic: _Topic, outputs: list[Any], now: float) -> list[Any]:
        """The outputs of membership, and what messages have to do about new and lost neighbours."""
        more: list[Any] = []
        for output in outputs:
            if type(output) is NeighbourUp or type(output) is NeighbourDown:
                more += topic.messages.handle(output, now)
        return outputs + more

    def _open(self, command: OpenTopic, now: float) -> list[Any]:
        if command.topic not in self._topics:
            if len(self._topics) >= self._topics_max:
                raise LimitExceeded(
                    tr(
                        "this node takes part in {topics_max} topics already (topics_max)",
                        topics_max=self._topics_max,
                    )
                )
            self._topics[command.topic] = self._make(command)
        return self._of_membership(command.topic, Enter(command.contacts, command.record), now)

    def _make(self, command: OpenTopic) -> _Topic:
        membership = HyParView(
            self._me,
            command.topic,
            rng=self._rng,
            limits=self._membership_limits,
            may_join=command.may_join,
            is_record=self._is_record,
        )
        messages = Plumtree(
            self._me,
            command.topic,
            rng=self._rng,
            sign=self._sign,
            verify=self._verify,
            may_publish=command.may_join,
            limits=self._messages_limits,
        )
        return _Topic(membership, messages)

    def _close(self, name: bytes, now: float) -> list[Any]:
        topic = self._topic(name)
        outputs = [*self._told(topic, topic.membership.handle(Leave(), now), now), *topic.messages.close()]
        del self._topics[name]
        return outputs

    def _topic(self, name: bytes) -> _Topic:
        try:
            return self._topics[name]
        except KeyError:
            raise NotFound(tr("this node takes no part in that topic")) from None
