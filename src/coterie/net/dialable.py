"""Which addresses this node dials, by how far they reach and by where they came from. Pure.

Peers name addresses in records, tickets, hints and circles. What they name is never this computer itself, nor a place
that only the system knows (link-local addresses, metadata services of a cloud): a node that dialled those would send
requests of others' choosing to programs that trust this computer. A relay is asked over HTTP: relays are judged harder.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from enum import StrEnum

from coterie.errors import UsageError
from coterie.net.home_networks import Ip, Zone, plain_ip, zone_of
from coterie.wire.record import is_address, is_relay, split_address

RELAY_PORT_MIN = 1024  # below are other services' ports, but for the two that people open for a relay
RELAY_PORTS_LOW = (80, 443)
USUAL_PORTS = {"http": 80, "https": 443}

_NAME = re.compile(r"\w+(:\d+)?\Z", re.ASCII)


class Source(StrEnum):
    """Where an address came from."""

    OWN = "own"  # settings of this node, or typed by its owner
    PROVEN = "proven"  # the peer was reached there: it showed its key
    LINK = "link"  # heard on the local network itself
    OTHERS = "others"  # records, tickets, hints, the word of a peer or a relay


_METADATA = frozenset(  # services that answer the machines of a cloud
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # Amazon, Azure, Google and others
            "fd00:ec2::254",  # Amazon
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
        ),
    )
)


class Dialling:
    """The rules of one node. `relays_known` are URLs whose owners were reached at that very address.

    `machine` gives the addresses of this machine itself, where `own` has outside ones too: a relay there would be any
    program of this computer, reached past its firewall.

    Args:
        own: addresses of this node now. While all are loopback, peers are on this machine too, and loopback is dialled.
        uses_relays: whether the node's reach goes through relays.
    """

    def __init__(self, own: Callable[[], Sequence[str]], *, uses_relays: bool = True) -> None:
        self.uses_relays = uses_relays
        self.relays_known: frozenset[str] = frozenset()
        self.machine: Callable[[], Sequence[str]] = tuple
        self._own = own

    def refusal(self, address: str, source: Source = Source.OTHERS) -> str:
        """Why `address` is not dialled, in words; empty when it is."""
        if is_relay(address):
            is_sound = is_address(address)
            return self._refusal_of_relay(address, source) if is_sound else "no address that can be dialled"
        if _NAME.match(address):
            return ""  # of a transport without IP; no other can read it
        try:
            ip = split_address(address)[0]
        except UsageError:
            return "no address that can be dialled"
        return self._refusal_of_ip(ip, source)

    def usable(self, addresses: Sequence[str], source: Source = Source.OTHERS) -> tuple[str, ...]:
        """Those that are dialled."""
        return tuple(address for address in addresses if not self.refusal(address, source))

    def _refusal_of_ip(self, ip: Ip, source: Source) -> str:
        zone = zone_of(ip)
        if zone is Zone.NOWHERE:
            return "nobody's address"
        if source is Source.OWN:
            return ""
        if plain_ip(ip) in _METADATA:
            return "the address of a cloud's metadata service"
        if zone is Zone.MACHINE:
            return "" if self._is_on_loopback() else "an address of this computer itself"
        if zone is Zone.LINK and source is Source.OTHERS:
            return "an address of one cable or radio only, which was not heard there"
        return ""

    def _refusal_of_relay(self, url: str, source: Source) -> str:
        if not self.uses_relays:
            return "relays are not used at this reach"
        if source is Source.OWN or url in self.relays_known:
            return ""
        place = _place_of(url)
        if place is None:
            return "a relay that is not named by its IP address and port"
        ip, port = place
        if port < RELAY_PORT_MIN and port not in RELAY_PORTS_LOW:
            return f"a relay at port {port}, which is another service's"
        if zone_of(ip) in (Zone.LINK, Zone.HOME) and source is not Source.PROVEN:
            return "a relay in a private network whose owner was not met there"
        if source is not Source.PROVEN and plain_ip(ip) in map(plain_ip, _ips(self.machine())):
            return "" if self._is_on_loopback() else "a relay at an address of this computer itself"
        return self._refusal_of_ip(ip, source)

    def _is_on_loopback(self) -> bool:
        own = _ips(self._own())
        return bool(own) and all(zone_of(ip) is Zone.MACHINE for ip in own)


def _ips(addresses: Sequence[str]) -> list[Ip]:
    return [split_address(a)[0] for a in addresses if is_address(a) and not is_relay(a)]


def ip_of_relay(url: str) -> str:
    """The IP address in a relay's URL; empty when it has a name instead."""
    place = _place_of(url)
    return str(place[0]) if place is not None else ""


def _place_of(url: str) -> tuple[Ip, int] | None:
    scheme, _, rest = url.partition("://")
    with_port = rest if rest.rpartition("]")[2].count(":") == 1 else f"{rest}:{USUAL_PORTS.get(scheme, 0)}"
    try:
        return split_address(with_port)
    except UsageError:
        return None


def ip_text(address: str) -> str:
    """The IP address in "ip:port"; empty when `address` is none."""
    try:
        return str(split_address(address)[0])
    except UsageError:
        return ""
