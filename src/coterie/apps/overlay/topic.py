"""One topic as an app sees it: publish, listen, join."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from blake3 import blake3

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.wire.broadcast import PAYLOAD_BYTES_MAX

WAITING_MAX = 1_000  # messages that an app has not taken yet: the oldest goes; guess
NAME_BYTES_MAX = 256  # guess
_CONTEXT = "coterie broadcast topic v1"


def topic_id(name: str | bytes) -> bytes:
    """The 32 bytes of a topic's name, which is no secret: a closed group needs a predicate."""
    raw = name.encode() if isinstance(name, str) else name
    if not 0 < len(raw) <= NAME_BYTES_MAX:
        raise UsageError(
            tr(
                "the name of a topic has 1 to {name_bytes_max} bytes, not {raw}",
                name_bytes_max=NAME_BYTES_MAX,
                raw=len(raw),
            )
        )
    return blake3(raw, derive_key_context=_CONTEXT).digest()


class TopicCalls(msgspec.Struct, frozen=True):
    """What the service does for its topics."""

    publish: Callable[[bytes, bytes], None]
    join: Callable[[bytes, Sequence[PeerId]], None]
    close: Callable[[bytes], None]
    neighbours: Callable[[bytes], list[PeerId]]


class Topic:
    """Made by `OverlayService.topic`. Iterate over it for (author, payload); each message comes once, in any order.

    Also `async with`: left when the block ends.
    """

    def __init__(self, name: str, id_: bytes, calls: TopicCalls) -> None:
        self.name = name
        self.id = id_
        self.missed = 0
        """Messages that came while `WAITING_MAX` others waited to be taken; those stay with whoever published them."""
        self._calls = calls
        self._waiting: deque[tuple[PeerId, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False

    @property
    def neighbours(self) -> list[PeerId]:
        """Whom this node exchanges messages of the topic with."""
        return [] if self._is_closed else self._calls.neighbours(self.id)

    def publish(self, payload: bytes) -> None:
        """Tell all members; returns at once. Raises UsageError when it is too long, or the topic is closed."""
        self._check_open()
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise UsageError(
                tr(
                    "a message has at most {payload_bytes_max} bytes, not {payload}",
                    payload_bytes_max=PAYLOAD_BYTES_MAX,
                    payload=len(payload),
                )
            )
        self._calls.publish(self.id, payload)

    def join(self, peers: Sequence[PeerId]) -> None:
        """Find the others through these members; returns at once."""
        self._check_open()
        self._calls.join(self.id, peers)

    def close(self) -> None:
        """Tell the neighbours and leave. Who iterates gets what has come, then the end. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._calls.close(self.id)
            self._arrived.set()

    def deliver(self, author: PeerId, payload: bytes) -> None:
        """For the service: a message came."""
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self.missed += 1
        self._waiting.append((author, payload))
        self._arrived.set()

    def __aiter__(self) -> "Topic":
        return self

    async def __anext__(self) -> tuple[PeerId, bytes]:
        while not self._waiting:
            if self._is_closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    async def __aenter__(self) -> "Topic":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(tr("the topic {name} was closed", name=self.name))
