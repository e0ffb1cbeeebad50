"""PortMapper: the shell around the core. Keeps the wanted ports mapped while the node runs, and says how it went."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from coterie.errors import CoterieError
from coterie.machine import CancelTimer, Emit, SetTimer, TimerFired
from coterie.net.port_mapping.core import (
    NAMES,
    Ask,
    Granted,
    Links,
    Mapped,
    MappingCore,
    Port,
    Refused,
    Release,
    Want,
)
from coterie.net.port_mapping.router import ask_nat_pmp, ask_pcp, find_links, release_by_datagram
from coterie.net.port_mapping.upnp import Upnp
from coterie.tasks import Tasks

LOOK_S = 5.0  # guess: another network is noticed within this; a look costs 0.1 ms
LEFTOVERS_MAX = 64  # guess: the transport asks once, and again in another network
ASKS_MAX = 16  # requests to routers under way

log = logging.getLogger(__name__)


class PortMapper:
    """Made by the node; `start()`, `want`, and `await close()` before the network goes.

    Args:
        secret: bytes that nobody else knows; see `MappingCore`.
        bind_ip: what the node is bound to.
        on_change: called when `mapped` has changed.
        udp_port: the transport's, of IPv4.
        tasks: the node's part for this, ended by `close`.
        leftovers: outside ports that the transport itself had mapped to `udp_port` by UPnP. It leaves them behind, so
            they are taken away: when ours stand, or none is wanted; and the last at the end.
    """

    def __init__(
        self,
        secret: bytes,
        bind_ip: str,
        *,
        on_change: Callable[[], None],
        udp_port: int = 0,
        leftovers: Callable[[], Iterable[int]] = tuple,
        tasks: Tasks | None = None,
    ) -> None:
        self._tasks = tasks if tasks is not None else Tasks("port mapping")
        self._core = MappingCore(secret)
        self._upnp = Upnp()
        self._askers = {"pcp": ask_pcp, "nat-pmp": ask_nat_pmp, "upnp": self._upnp.ask}
        self._bind_ip = bind_ip
        self._on_change = on_change
        self._udp_port = udp_port
        self._leftovers = leftovers
        self._loop = asyncio.get_running_loop()
        self._taken: set[int] = set()  # outside ports of the transport's, taken away already
        self._wanted: dict[str, list[Port]] = {}
        self._timers: dict[object, asyncio.TimerHandle] = {}
        self._news = asyncio.Event()
        self._has_looked = self._is_closed = False

    @property
    def mapped(self) -> dict[Port, str]:
        """The outside address ("ip:port") of every port that is mapped now."""
        return {port: held.address for port, held in self._core.mapped.items()}

    def start(self) -> None:
        """Begin; waits for nothing."""
        self._tasks.keep(self._look_often, "looking for the home router")

    def want(self, protocol: str, numbers: Mapping[int, int]) -> None:
        """Keep these ports of "udp" or "tcp" mapped, by family (4 or 6), and no others of the protocol."""
        self._wanted[protocol] = [Port(protocol, family, number) for family, number in numbers.items()]
        self._feed(Want(tuple(sorted(port for ports in self._wanted.values() for port in ports))))

    async def settled(self, timeout_s: float) -> None:
        """Wait until every port is mapped or refused, for `timeout_s` at most."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (self._has_looked and self._core.is_settled):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def describe(self) -> str:
        """What is mapped, or why nothing is, in words."""
        held = self._core.mapped
        if held:
            return ", ".join(
                f"{m.port.protocol.upper()} {m.address} by {NAMES[m.method]}" for m in held.values()
            )
        link = self._core.links.get(4) or self._core.links.get(6)
        if link is None:
            return "no router to ask" if self._has_looked else "not known yet"
        refusals = self._core.refusals(link.family)
        if not refusals:
            return f"asking the router {link.router}"
        whys = ", ".join(f"{NAMES[method]}: {why}" for method, why in refusals.items())
        return f"none: the router {link.router} maps no port ({whys})"

    async def close(self) -> None:
        """Have the router take every mapping away, ours and the transport's own; bounded by `upnp.RELEASE_S`."""
        if self._is_closed:
            return
        for timer in self._timers.values():
            timer.cancel()
        await self._tasks.close()
        if not self._has_looked and self._leftovers():  # it was not started, or just now
            self._core.handle(Links(await find_links(self._bind_ip)), self._loop.time())
        releases = [o for o in self._core.handle(Want(()), self._loop.time()) if isinstance(o, Release)]
        # Where the transport had the same outside port, ours stands in the router's table in its place.
        same = [r.outside_port for r in releases if r.port.protocol == "udp" and r.method != "upnp"]
        left = [port for port in self._leftovers() if port not in self._taken]
        releases += self._of_transport([*left, *(same if self._wanted else ())])
        self._is_closed = True
        for release in releases:
            if release.method != "upnp":
                release_by_datagram(release)
        await asyncio.gather(*(self._upnp.release(r) for r in releases if r.method == "upnp"))

    # ---- inside

    def _of_transport(self, outside_ports: Iterable[int]) -> list[Release]:
        """How to take away what the transport had mapped by UPnP."""
        link = self._core.links.get(4)
        if link is None or not self._udp_port:
            return []
        port = Port("udp", 4, self._udp_port)
        return [Release(port, link, "upnp", b"", outside) for outside in dict.fromkeys(outside_ports)]

    async def _take_away_leftovers(self) -> None:
        """Each once, as soon as the transport's own mapping is not needed."""
        for release in self._of_transport(self._leftovers()):
            if release.outside_port in self._taken or len(self._taken) >= LEFTOVERS_MAX:
                continue
            if await self._upnp.release(release):
                self._taken.add(release.outside_port)

    async def _look_often(self) -> None:
        while True:
            self._feed(Links(await find_links(self._bind_ip)))
            self._has_looked = True
            self._news.set()
            if not self._wanted or self.mapped:
                await self._take_away_leftovers()
            await asyncio.sleep(LOOK_S)

    def _feed(self, event: Any) -> None:
        if self._is_closed:
            return
        has_changed = False
        for output in self._core.handle(event, self._loop.time()):
            match output:
                case SetTimer(key, at):
                    self._cancel(key)
                    self._timers[key] = self._loop.call_at(at, self._fire, key)
                case CancelTimer(key):
                    self._cancel(key)
                case Ask():
                    self._ask(output)
                case Release(method="upnp"):
                    self._tasks.start(self._upnp.release(output), "taking a mapping away")
                case Release():
                    release_by_datagram(output)
                case Emit(event):
                    has_changed = True
                    said = f"mapped to {event.address}" if isinstance(event, Mapped) else "mapped no longer"
                    log.info("%s port %d: %s", event.port.protocol.upper(), event.port.number, said)
        self._news.set()
        if has_changed:
            self._on_change()

    def _fire(self, key: object) -> None:
        self._timers.pop(key, None)
        self._feed(TimerFired(key))

    def _cancel(self, key: object) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _ask(self, ask: Ask) -> None:
        if len(self._tasks) >= ASKS_MAX:
            self._loop.call_soon(self._feed, Refused(ask.number, "too many requests are under way"))
        else:
            self._tasks.start(self._carry_out(ask), "asking the home router")

    async def _carry_out(self, ask: Ask) -> None:
        try:
            ip, port, lifetime_s = await self._askers[ask.method](ask)
        except CoterieError as error:
            self._feed(Refused(ask.number, str(error)))
        else:
            self._feed(Granted(ask.number, ip, port, lifetime_s))
