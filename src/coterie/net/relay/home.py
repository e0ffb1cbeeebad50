"""Keeps a transport reachable through its home relays: the shell around `relay/home_core`."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from coterie.errors import CoterieError, TransportError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, SetTimer, TimerFired
from coterie.net.quic.addresses import ANY_IP
from coterie.net.relay.home_core import (
    Candidates,
    HomeRelayCore,
    HomeRelayLimits,
    Lost,
    Probe,
    Probed,
    UseHomes,
)
from coterie.net.relay.probe import probe_relay
from coterie.tasks import Tasks

if TYPE_CHECKING:  # imported when a relay begins: with the protocol that it speaks it is large
    from coterie.net.relay.server import RelayServer
    from coterie.net.relay.server_core import RelayLimits

_log = logging.getLogger(__name__)

Listener = Callable[[tuple[str, ...]], None]


class Reachable(Protocol):
    """What is needed of a transport: `QuicTransport` has it."""

    async def set_relays(self, urls: Sequence[str]) -> None: ...


class HomeRelays:
    """Two or three relays out of the candidates, one of them in use by `transport`. Until `close`.

    Args:
        on_change: called with the homes, the one in use first, when others are to hear of them (our record).
        probe: seconds that the relay at a URL takes to answer; raises `TransportError`.
    """

    def __init__(
        self,
        transport: Reachable,
        *,
        on_change: Listener | None = None,
        limits: HomeRelayLimits | None = None,
        probe: Callable[[str], Awaitable[float]] = probe_relay,
        rng: random.Random | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        self._transport = transport
        self._on_change = on_change
        self._probe = probe
        self._core = HomeRelayCore(limits or HomeRelayLimits(), rng or random.Random())  # noqa: S311
        self._loop = asyncio.get_running_loop()
        self._timers: dict[object, asyncio.TimerHandle] = {}
        self._tasks = tasks or Tasks("home relays")
        self._in_use: str | None = None
        self._applying: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def homes(self) -> tuple[str, ...]:
        """Our home relays, the one in use first: what goes into our record."""
        return self._core.homes

    def round_trip_s(self, url: str) -> float | None:
        """Of the last answered probe of a candidate."""
        return self._core.round_trip_s(url)

    def set_candidates(self, urls: Sequence[str]) -> None:
        """The relays of peers that we know, best first; those that are gone are left."""
        self._feed(Candidates(tuple(urls)))

    def lost(self, url: str) -> None:
        """A connection found the relay at `url` dead: `QuicTransport.watch(relay_lost=...)`."""
        self._feed(Lost(url))

    async def close(self) -> None:
        """Stop asking; the transport keeps the relay that it has."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        await self._tasks.close()

    def _feed(self, event: Any) -> None:
        if self._is_closed:
            return
        for output in self._core.handle(event, self._loop.time()):
            match output:
                case SetTimer(key, at):
                    self._cancel(key)
                    self._timers[key] = self._loop.call_at(at, self._fire, key)
                case CancelTimer(key):
                    self._cancel(key)
                case Probe(url):
                    self._tasks.start(self._ask(url), "asking a relay")
                case UseHomes(urls):
                    if self._applying is None:
                        self._applying = self._tasks.start(self._apply(), "using a relay")
                    if self._on_change is not None:
                        self._on_change(urls)

    def _fire(self, key: object) -> None:
        self._timers.pop(key, None)
        self._feed(TimerFired(str(key)))

    def _cancel(self, key: object) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def _ask(self, url: str) -> None:
        try:
            rtt_s = await self._probe(url)
        except TransportError as error:
            _log.debug("%s", error)
            self._feed(Probed(url, None))
        else:
            self._feed(Probed(url, rtt_s))

    async def _apply(self) -> None:
        """Have the transport use the first home; again, when that has changed meanwhile."""
        try:
            while (wanted := next(iter(self._core.homes), None)) != self._in_use:
                await self._transport.set_relays([] if wanted is None else [wanted])
                self._in_use = wanted
        except CoterieError as error:
            _log.warning("the home relay cannot be used: %s", error)
        finally:
            self._applying = None


async def serve_relay(
    knows: Callable[[PeerId], bool] | None,
    *,
    host: str = ANY_IP,
    port: int = 0,
    limits: "RelayLimits | None" = None,
) -> "RelayServer | None":
    """A started relay for the peers that `knows` says yes to; nothing when there is no such predicate.

    Raises:
        UsageError: the port is taken.
    """
    if knows is None:
        return None
    from coterie.net.relay.server import RelayServer

    server = RelayServer(may_use=knows, host=host, port=port, limits=limits)
    await server.start()
    return server
