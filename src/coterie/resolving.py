"""Starts the resolvers of a node, and publishes its record through them."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from coterie.errors import TransportError
from coterie.net.find.resolver import Found, Resolver

log = logging.getLogger(__name__)


class Resolving:
    """`resolvers` may grow; `found_by` takes what one brings, `record_for` is what one publishes (b"": nothing).

    `ready`: whether they have begun.
    """

    def __init__(
        self,
        resolvers: Sequence[Resolver],
        found_by: Callable[[Resolver], Found],
        record_for: Callable[[Resolver], bytes],
    ) -> None:
        self.ready = asyncio.Event()
        self._resolvers = resolvers
        self._found_by = found_by
        self._record_for = record_for

    async def start(self, later_s: float = 0.0) -> None:
        """Begin with all of them, `later_s` from now."""
        if later_s:
            await asyncio.sleep(later_s)
        try:
            for resolver in self._resolvers:
                await self.start_one(resolver)
        finally:
            self.ready.set()

    async def start_one(self, resolver: Resolver) -> None:
        """Begin with one of them, and publish through it."""
        try:
            await resolver.start(self._found_by(resolver))
            if record := self._record_for(resolver):
                await resolver.publish(record)
        except (TransportError, OSError) as error:
            log.warning("%s: %s", resolver.name, error)

    async def publish(self) -> None:
        """Publish through all that have begun."""
        for resolver in self._resolvers if self.ready.is_set() else ():
            if record := self._record_for(resolver):
                try:
                    await resolver.publish(record)
                except (TransportError, OSError) as error:
                    log.info("%s: not published: %s", resolver.name, error)
