"""Searches as an app sees them: iterate over the answers, stop when there are enough. The shell of `Search`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from random import Random
from typing import Any

import msgspec

from coterie.apps.context import PeerNetwork
from coterie.apps.overlay.topic import topic_id
from coterie.driver import NetDriver
from coterie.errors import LimitExceeded, TransportError, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit
from coterie.overlay.search.asker import Ask, Cancel, Ended, Found
from coterie.overlay.search.machine import Neighbours, Search
from coterie.overlay.search.messages import ITEM_BYTES_MAX, ITEMS_MAX, TOPIC_CHARS_MAX
from coterie.texts import tr

ANSWERING_MAX = 64  # kinds of questions that apps answer; guess


class SearchHit(msgspec.Struct, frozen=True):
    """What one node has. `is_direct`: it said so itself; else nodes on the way claim that it did."""

    peer: str
    items: list[bytes]
    is_direct: bool


class Searches:
    """The searches of a node, its own and those that it answers."""

    def __init__(self, peer: PeerId, network: PeerNetwork, random: Random) -> None:
        self.topic = topic_id("coterie search neighbours")
        """Its members are the neighbours that questions are passed to; nothing is published in it."""
        self.core = Search(
            peer,
            sign=network.sign,
            random=random,
            answer=self._answers,
            is_direct=network.is_reachable(),
            follows_connections=False,
        )
        self.handlers: dict[type, Callable[[Any], None]] = {Emit: self._told}
        self._driver: NetDriver | None = None
        self._functions: dict[str, Callable[[bytes], Sequence[bytes]]] = {}
        self._waiting: dict[Any, asyncio.Queue[Found | Ended]] = {}
        self._keys = count(1)

    def start(self, driver: NetDriver) -> None:
        """From now on searches run."""
        self._driver = driver

    def close(self) -> None:
        """End all searches."""
        self._driver = None
        for key, queue in self._waiting.items():
            queue.put_nowait(Ended(key, "cancelled", 0))

    def set_neighbours(self, peers: Sequence[PeerId]) -> None:
        """Whom questions are passed to from now on."""
        self._feed(Neighbours(tuple(peers)))

    def answer(self, kind: str, function: Callable[[bytes], Sequence[bytes]] | None) -> None:
        """See `OverlayService.answer`."""
        if function is None:
            self._functions.pop(kind, None)
            return
        if not 0 < len(kind) <= TOPIC_CHARS_MAX:
            raise UsageError(
                tr("a kind of search has 1 to {topic_chars_max} characters", topic_chars_max=TOPIC_CHARS_MAX)
            )
        if kind not in self._functions and len(self._functions) >= ANSWERING_MAX:
            raise LimitExceeded(
                tr("{answering_max} kinds of searches are answered here already", answering_max=ANSWERING_MAX)
            )
        self._functions[kind] = function

    async def search(
        self, kind: str, query: bytes, *, wanted: int, deadline_s: float
    ) -> AsyncIterator[SearchHit]:
        """See `OverlayService.search`."""
        key = next(self._keys)
        queue = self._waiting[key] = asyncio.Queue()
        is_over = False
        try:
            self._feed(Ask(key, kind, query, wanted=wanted, deadline_s=deadline_s))
            while not is_over:
                event = await queue.get()
                if isinstance(event, Found):
                    yield SearchHit(str(event.responder), list(event.items), event.is_direct)
                    continue
                is_over = True
                _raise_if_not_begun(event)
        finally:
            del self._waiting[key]
            if not is_over:
                self._feed(Cancel(key))

    def _answers(self, kind: str, query: bytes) -> Sequence[bytes]:
        function = self._functions.get(kind)
        if function is None:
            return ()
        return [item for item in function(query) if len(item) <= ITEM_BYTES_MAX][:ITEMS_MAX]

    def _told(self, output: Emit) -> None:
        event: Found | Ended = output.event
        if (queue := self._waiting.get(event.key)) is not None:
            queue.put_nowait(event)  # bounded by what was wanted

    def _feed(self, event: Any) -> None:
        if self._driver is not None:
            self._driver.feed(event)


def _raise_if_not_begun(ended: Ended) -> None:
    if ended.reason == "alone":
        raise TransportError(tr("there are no neighbours to ask: connect to other nodes first"))
    if ended.reason == "busy":
        raise LimitExceeded(tr("too many searches at once (searches_max)"))
