"""Lookups as an app sees them: calls that wait, iterators that yield. The shell of the table."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

from coterie.errors import LimitExceeded, NotFound, TransportError
from coterie.identity import PeerId
from coterie.overlay.kademlia.events import (
    Cancel,
    Finished,
    Found,
    LookUp,
    Outcome,
    Provide,
    Put,
    SeekProviders,
    SeekValue,
)
from coterie.overlay.kademlia.keys import Item
from coterie.texts import tr

_Events = asyncio.Queue[Found | Finished]


class Lookups:
    """Gives commands to a table and hands its answers to who asked.

    Args:
        feed: takes a command; None while the table does not run.
    """

    def __init__(self, feed: Callable[[Any], None]) -> None:
        self._feed = feed
        self._names = count(1)
        self._waiting: dict[Any, _Events] = {}

    def told(self, event: Any) -> None:
        """The table emitted `event`."""
        if isinstance(event, Found | Finished) and (queue := self._waiting.get(event.lookup)) is not None:
            queue.put_nowait(event)  # bounded by `votes_max` of the table

    async def provide(self, key: bytes) -> Finished:
        """Announce `key`, now and again until withdrawn. Raises as `_finished`."""
        return await self._finished(lambda name: Provide(lookup=name, key=key))

    async def put(self, item: Item) -> Finished:
        """Store `item`. Raises as `_finished`."""
        return await self._finished(lambda name: Put(lookup=name, item=item))

    async def get(self, key: bytes) -> Item:
        """What stands under `key`, the newest. Raises NotFound, and as `_finished`."""
        finished = await self._finished(lambda name: SeekValue(lookup=name, key=key))
        if finished.item is None:
            raise NotFound(tr("nobody who was asked keeps anything under that key"))
        return finished.item

    async def providers(self, key: bytes) -> AsyncIterator[PeerId]:
        """Who provides `key`, each once, as they are found. Ends when nobody more is to be expected."""
        seen: dict[PeerId, None] = {}
        async for event in self._run(lambda name: SeekProviders(lookup=name, key=key)):
            if isinstance(event, Found):
                if event.provider is not None and event.provider not in seen:
                    seen[event.provider] = None
                    yield event.provider
            elif not seen:
                _raise_unless_done(event)

    async def _finished(self, command: Callable[[int], LookUp]) -> Finished:
        """Run a lookup to its end.

        Raises:
            TransportError: there is nobody to ask.
            LimitExceeded: too many lookups at once.
        """
        async for event in self._run(command):
            if isinstance(event, Finished):
                _raise_unless_done(event)
                return event
        raise TransportError(tr("the table was stopped"))

    async def _run(self, command: Callable[[int], LookUp]) -> AsyncIterator[Found | Finished]:
        name = next(self._names)
        queue = self._waiting[name] = _Events()
        is_over = False
        try:
            self._feed(command(name))
            while not is_over:
                event = await queue.get()
                is_over = isinstance(event, Finished)
                yield event
        finally:
            del self._waiting[name]
            if not is_over:
                self._feed(Cancel(name))


def _raise_unless_done(finished: Finished) -> None:
    match finished.outcome:
        case Outcome.ALONE:
            raise TransportError(tr("there is no other node to ask: connect to one first"))
        case Outcome.BUSY:
            raise LimitExceeded(tr("too many lookups at once (lookups_max)"))
