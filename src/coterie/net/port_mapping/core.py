"""Which ports are mapped, by which protocol, when to renew, and what of a router's word is believed. A pure core.

For each wanted port the ways are tried in order (the one that worked last first) until the router grants one. A grant
is asked for again every `CHECK_S`: that renews it, and notices a router that was restarted or got another address. When
the router or this computer's own address changes everything is asked anew. What all ways refuse is tried again later.

A grant is believed only when it can be true: the outside address must be one of the internet and of the same family,
the lifetime is cut to what was asked for. The shell vouches that the answer came from the router, and compares nonce
and port.
"""

import ipaddress
from collections.abc import Hashable
from typing import Any, Literal

import msgspec
from blake3 import blake3

from coterie.machine import CancelTimer, Emit, SetTimer, TimerFired
from coterie.net.port_mapping.pcp import NONCE_BYTES
from coterie.wire.record import join_address

LIFETIME_S = (
    1_200  # guess: what a killed node leaves behind is gone in 20 min; PCP routers give 120 s at least
)
CHECK_S = 60.0  # guess: a router's new address is told within a minute; costs 60 bytes, by UPnP 2 kB
RENEW_MIN_S = 15.0  # guess: a router that grants seconds is not asked more often
RETRY_MIN_S = 60.0  # guess; doubles after each round of refusals
RETRY_MAX_S = 1_800.0
PORTS_MAX = 8  # guess: UDP and the relay's TCP port, of both families, and as many again

Method = Literal["pcp", "nat-pmp", "upnp"]
METHODS: dict[int, tuple[Method, ...]] = {4: ("pcp", "nat-pmp", "upnp"), 6: ("pcp",)}
NAMES: dict[Method, str] = {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}


class Port(msgspec.Struct, frozen=True, order=True):
    """One port of this computer that others shall reach. `protocol` is "udp" or "tcp", `family` 4 or 6."""

    protocol: str
    family: int
    number: int


class Link(msgspec.Struct, frozen=True):
    """The default router of a family, and this computer's address on the way to it."""

    family: int
    router: str
    local: str


class Links(msgspec.Struct, frozen=True):
    """The routers there are now; at most one of each family."""

    links: tuple[Link, ...]


class Want(msgspec.Struct, frozen=True):
    """Exactly these ports shall be mapped."""

    ports: tuple[Port, ...]


class Ask(msgspec.Struct, frozen=True):
    """Ask the router. To be answered by `Granted` or `Refused` with the same `number`."""

    number: int
    port: Port
    link: Link
    method: Method
    nonce: bytes
    outside_port: int
    lifetime_s: int = LIFETIME_S


class Release(msgspec.Struct, frozen=True):
    """Have the router take the mapping away. Nothing is answered."""

    port: Port
    link: Link
    method: Method
    nonce: bytes
    outside_port: int


class Granted(msgspec.Struct, frozen=True):
    """The router said yes."""

    number: int
    outside_ip: str
    outside_port: int
    lifetime_s: int


class Refused(msgspec.Struct, frozen=True):
    """The router said no, or nothing; `why` in words that follow a colon."""

    number: int
    why: str


class Mapped(msgspec.Struct, frozen=True):
    """Others reach `port` at `address` ("ip:port") from now on."""

    port: Port
    address: str
    method: Method


class Unmapped(msgspec.Struct, frozen=True):
    """And no longer."""

    port: Port
    address: str


class _Entry:
    """One wanted port."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.asking: Ask | None = None
        self.held: Mapped | None = None
        self.held_by: Ask | None = None
        self.ends_at = 0.0
        self.refusals: dict[Method, str] = {}  # of the round under way
        self.told: dict[Method, str] = {}  # of the last whole round
        self.failures = 0


class MappingCore:
    """The machine. `secret` (any bytes) makes the nonces, so that a restarted node may renew its own mappings."""

    def __init__(self, secret: bytes) -> None:
        self._secret = blake3(secret).digest()
        self._links: dict[int, Link] = {}
        self._entries: dict[Port, _Entry] = {}
        self._works: dict[int, Method] = {}
        self._next_number = 1

    @property
    def mapped(self) -> dict[Port, Mapped]:
        """What is mapped now."""
        return {entry.port: entry.held for entry in self._entries.values() if entry.held is not None}

    @property
    def links(self) -> dict[int, Link]:
        """The routers in use, by family."""
        return dict(self._links)

    @property
    def is_settled(self) -> bool:
        """Whether every wanted port has been granted or refused by all ways."""
        return all(e.held or e.told or e.port.family not in self._links for e in self._entries.values())

    def refusals(self, family: int = 4) -> dict[Method, str]:
        """Why ports of `family` are not mapped, by the way that was tried."""
        lacking = [e for e in self._entries.values() if e.port.family == family and e.held is None]
        return dict(lacking[0].told) if lacking else {}

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take `Links`, `Want`, `Granted`, `Refused` or a timer."""
        match event:
            case Links(links):
                return self._relink({link.family: link for link in links}, now)
            case Want(ports):
                return self._want(ports[:PORTS_MAX], now)
            case Granted(number):
                found = self._asking(number)
                return self._granted(*found, event, now) if found is not None else []
            case Refused(number, why):
                found = self._asking(number)
                return self._refused(*found, why, now) if found is not None else []
            case TimerFired((_, Port() as port)) if port in self._entries:
                return self._due(self._entries[port], event.key, now)
        return []

    # ---- what is wanted, and where

    def _relink(self, links: dict[int, Link], now: float) -> list[Any]:
        changed = [f for f in (4, 6) if self._links.get(f) != links.get(f)]
        self._links = links
        outputs: list[Any] = []
        for entry in self._entries.values():
            if entry.port.family in changed:
                self._works.pop(entry.port.family, None)
                # The old router is out of reach, or knows us by another address: its mapping ends by itself.
                outputs += self._drop(entry)
                entry.asking, entry.failures, entry.told = None, 0, {}
                outputs += self._begin(entry)
        return outputs

    def _want(self, ports: tuple[Port, ...], now: float) -> list[Any]:
        outputs: list[Any] = []
        for entry in [e for p, e in self._entries.items() if p not in ports]:
            outputs += self._release(entry)
            outputs += [*self._drop(entry), CancelTimer(("ask", entry.port))]
            del self._entries[entry.port]
        for port in ports:
            if port not in self._entries:
                entry = self._entries[port] = _Entry(port)
                outputs += self._begin(entry)
        return outputs

    def _release(self, entry: _Entry) -> list[Any]:
        """Also of what is being asked for: the answer may come after we stopped listening."""
        by = entry.held_by or entry.asking
        if by is None:
            return []
        outside = int(entry.held.address.rpartition(":")[2]) if entry.held else by.outside_port
        return [Release(by.port, by.link, by.method, by.nonce, outside)]

    # ---- asking

    def _begin(self, entry: _Entry) -> list[Any]:
        """Ask by the way that worked last, else by the first."""
        link = self._links.get(entry.port.family)
        entry.refusals = {}
        if link is None:
            return [CancelTimer(("ask", entry.port))]
        methods = METHODS[link.family]
        return [self._ask(entry, link, self._works.get(link.family, methods[0]))]

    def _ask(self, entry: _Entry, link: Link, method: Method) -> Ask:
        port = entry.port
        outside = int(entry.held.address.rpartition(":")[2]) if entry.held else port.number
        told = f"{link.router} {port.protocol} {port.family} {port.number}".encode()
        nonce = blake3(told, key=self._secret).digest(NONCE_BYTES)
        entry.asking = Ask(self._next_number, port, link, method, nonce, outside)
        self._next_number += 1
        return entry.asking

    def _asking(self, number: int) -> tuple[_Entry, Ask] | None:
        """Who waits for the answer with `number`: nobody when it comes too late."""
        waiting = [(e, e.asking) for e in self._entries.values() if e.asking is not None]
        return next(((entry, ask) for entry, ask in waiting if ask.number == number), None)

    def _granted(self, entry: _Entry, ask: Ask, grant: Granted, now: float) -> list[Any]:
        if wrong := what_is_wrong(grant, ask.link):
            # Nobody will be told of it: it must not stay in the router.
            useless = Release(ask.port, ask.link, ask.method, ask.nonce, grant.outside_port)
            return [useless, *self._refused(entry, ask, wrong, now)]
        address = join_address(ipaddress.ip_address(grant.outside_ip), grant.outside_port)
        lifetime_s = float(min(grant.lifetime_s, LIFETIME_S))
        fresh = Mapped(entry.port, address, ask.method)
        outputs: list[Any] = []
        if entry.held is not None and entry.held.address != address:
            outputs += self._drop(entry)
        if entry.held != fresh:
            outputs.append(Emit(fresh))
        entry.held, entry.held_by, entry.asking = fresh, ask, None
        entry.ends_at = now + lifetime_s
        entry.told, entry.failures = {}, 0
        self._works[ask.link.family] = ask.method
        renew_at = now + max(RENEW_MIN_S, min(CHECK_S, lifetime_s / 2))
        return [
            *outputs,
            SetTimer(("ask", entry.port), renew_at),
            SetTimer(("end", entry.port), entry.ends_at),
        ]

    def _refused(self, entry: _Entry, ask: Ask, why: str, now: float) -> list[Any]:
        entry.asking = None
        entry.refusals[ask.method] = why
        for method in METHODS[ask.link.family]:
            if method not in entry.refusals:
                return [self._ask(entry, ask.link, method)]
        self._works.pop(ask.link.family, None)
        wait_s = min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** min(entry.failures, 10))
        if entry.held is not None:  # as long as the mapping lives it may come back any time
            wait_s = RETRY_MIN_S
        entry.told = dict(entry.refusals)
        entry.failures += 1
        return [SetTimer(("ask", entry.port), now + wait_s)]

    def _due(self, entry: _Entry, key: Hashable, now: float) -> list[Any]:
        if key == ("end", entry.port):
            return self._drop(entry) if now >= entry.ends_at else []
        if entry.asking is not None:
            return []
        return self._begin(entry)

    def _drop(self, entry: _Entry) -> list[Any]:
        """The mapping counts no longer."""
        held, entry.held, entry.held_by = entry.held, None, None
        return [Emit(Unmapped(held.port, held.address)), CancelTimer(("end", held.port))] if held else []


def what_is_wrong(grant: Granted, link: Link) -> str:
    """Why a grant cannot be true, in words; empty when it can."""
    try:
        ip = ipaddress.ip_address(grant.outside_ip)
    except ValueError:
        return "its answer names no address"
    if ip.version != link.family:
        return "its answer names an address of another family"
    if not 0 < grant.outside_port < 65536 or grant.lifetime_s <= 0:
        return "its answer names no port or no time"
    if not ip.is_global or ip.is_multicast:
        return f"it has no address of the internet itself ({ip}): another router or the provider stands before it"
    if ip.version == 6 and ip != ipaddress.ip_address(link.local):
        return f"it names another computer's address ({ip})"
    return ""
