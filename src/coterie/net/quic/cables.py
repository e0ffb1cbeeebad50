"""Cables and radios on which nobody gives out addresses: computers there have link-local ones only, [fe80::...].

The wheel (1.2.0) drops the interface from an address before it sends, and the system does not know where [fe80::1] is
without one: from a socket at every address nothing arrives. A socket bound to an interface's own link-local address
sends there. So every interface that has no better address gets an endpoint of its own, with the node's key.

Addresses carry no interface anywhere else: its number means something on this machine only. A dial tries each.
"""

import asyncio
import ipaddress
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie.errors import TransportError
from coterie.net.home_networks import Zone, zone_of
from coterie.net.quic.addresses import ip_of, join
from coterie.net.quic.errors import WHEEL_ERRORS

LOOK_S = 3.0  # guess: a cable that was plugged in is noticed before its owner wonders; a look costs 0.4 ms
SETTLED_LOOKS = 2  # guess: where other interfaces have addresses, this one may be about to get one
CABLES_MAX = 4  # guess: an endpoint each, 0.8 MB

_SCOPE = re.compile(r"%[^\]]*(?=\]:)")


@dataclass(frozen=True, slots=True)
class Cable:
    """An interface with nothing better than the link-local address `ip`; `scope` is its number on this machine."""

    scope: int
    ip: str


@dataclass(slots=True)
class _End:
    endpoint: Any
    port: int


Bind = Callable[[Cable], Awaitable[Any]]


class Cables:
    """The endpoints of one node at its cables. `run` keeps them; `close` frees their ports.

    Args:
        bind: makes an endpoint at a cable, which accepts.
        in_use: the scopes through which connections go now.
        look: gives the cables and whether there is nothing but loopback beside them; called in a thread.
    """

    def __init__(
        self,
        bind: Bind,
        *,
        in_use: Callable[[], Iterable[int]],
        look: "Callable[[], tuple[list[Cable], bool]] | None" = None,
    ) -> None:
        self._bind = bind
        self._in_use = in_use
        self._look = look or (lambda: link_only(adapters()))
        self._ends: dict[Cable, _End] = {}
        self._seen: dict[Cable, int] = {}
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.follow()
            finally:
                self._looked.set()
            await asyncio.sleep(LOOK_S)

    @property
    def addresses(self) -> list[str]:
        """ "[fe80::...]:port" for each."""
        return [join(cable.ip, end.port) for cable, end in self._ends.items()]

    @property
    def listed(self) -> list[str]:
        """Every address that the wheel names for them, those that it had a router map included."""
        found: list[str] = []
        for end in self._ends.values():
            with suppress(*WHEEL_ERRORS):
                found += end.endpoint.addr().direct_addresses()
        return found

    async def ends(self) -> list[tuple[int, Any]]:
        """(scope, endpoint) of each; waits for the first look."""
        await self._looked.wait()
        return [(cable.scope, end.endpoint) for cable, end in self._ends.items()]

    async def close(self) -> None:
        """Free the ports."""
        for cable in list(self._ends):
            await self._leave(cable)

    async def follow(self) -> None:
        """Look once: bind at what has come, leave what has gone."""
        cables, is_all = await asyncio.to_thread(self._look)
        self._seen = {cable: self._seen.get(cable, 0) + 1 for cable in cables}
        in_use = frozenset(self._in_use())
        for cable in [c for c in self._ends if c not in self._seen and c.scope not in in_use]:
            await self._leave(cable)
        for cable, looks in self._seen.items():
            is_due = cable not in self._ends and (is_all or looks >= SETTLED_LOOKS)
            if is_due and len(self._ends) < CABLES_MAX:
                with suppress(
                    TransportError
                ):  # it has gone already, or the address is not settled: next time
                    endpoint = await self._bind(cable)
                    self._ends[cable] = _End(endpoint, _port_at(endpoint, cable.ip))

    async def _leave(self, cable: Cable) -> None:
        end = self._ends.pop(cable)
        with suppress(*WHEEL_ERRORS):
            await end.endpoint.close()


def adapters() -> Sequence[Any]:
    """The interfaces of this machine, as `ifaddr` (which `zeroconf` needs) lists them, those of bridges left out."""
    import ifaddr  # 30 ms

    found: Sequence[Any] = list(ifaddr.get_adapters())
    if sys.platform != "linux":
        return found
    return [a for a in found if not Path(f"/sys/class/net/{a.name}/master").exists()]


def link_only(found: Iterable[Any]) -> tuple[list[Cable], bool]:
    """The cables among interfaces as `ifaddr` lists them, and whether there is nothing else but loopback."""
    cables, is_all = [], True
    for adapter in found:
        ips = [ipaddress.ip_address((i.ip[0] if i.is_IPv6 else i.ip).partition("%")[0]) for i in adapter.ips]
        own = [ip for ip in ips if zone_of(ip) is not Zone.MACHINE]
        is_cable = all(zone_of(ip) is Zone.LINK for ip in own)
        is_all &= is_cable
        scopes = {i.ip[0].partition("%")[0]: i.ip[2] for i in adapter.ips if i.is_IPv6}
        local = next((ip for ip in own if ip.version == 6), None)
        if is_cable and local is not None:
            cables.append(Cable(scopes[str(local)] or adapter.index, str(local)))
    return sorted(cables, key=lambda c: c.scope), is_all


def is_on_cable(address: str) -> bool:
    """Whether `address` is an IPv6 link-local "[ip]:port"."""
    return address.lower().startswith("[fe") and ip_of(address).is_link_local


def with_scope(address: str, scope: int) -> str:
    """ "[fe80::1]:4000" as this machine dials it through the interface `scope`: "[fe80::1%2]:4000"."""
    return address.replace("]:", f"%{scope}]:")


def without_scope(address: str) -> str:
    """The same for everybody."""
    return _SCOPE.sub("", address)


def _port_at(endpoint: Any, ip: str) -> int:
    bound = [without_scope(a) for a in endpoint.bound_sockets()]
    return next(int(a.rpartition(":")[2]) for a in bound if str(ip_of(a)) == ip)
