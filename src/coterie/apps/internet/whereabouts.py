"""Where this computer is: its own addresses, those under which others know it, and the networks it is in."""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence

import msgspec

from coterie.apps.internet.addresses import Place, networks_of
from coterie.decoding import FAULTS

KEPT_S = 5.0  # guess: computers change networks seldom


class Whereabouts:
    """Looks every KEPT_S at most, when it is asked."""

    def __init__(self, known_as: Callable[[], Sequence[str]]) -> None:
        """`known_as`: where peers may dial this computer, "ip:port"."""
        self._known_as = known_as
        self._until = 0.0
        self._place = Place()

    async def place(self) -> Place:
        """Now."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            found = await asyncio.to_thread(_interfaces)
            place = networks_of(found)
            self._place = msgspec.structs.replace(place, own=place.own | set(self._outside()))
            self._until = loop.time() + KEPT_S
        return self._place

    def _outside(self) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        found = []
        for address in self._known_as():
            try:
                found.append(ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0]))
            except FAULTS:
                continue
        return found


def _interfaces() -> list[tuple[str, int]]:
    import ifaddr  # 30 ms

    return [
        (ip.ip if isinstance(ip.ip, str) else ip.ip[0], ip.network_prefix)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]
