"""Asks the default router: finds it, and exchanges datagrams of PCP and NAT-PMP with it.

The sockets are connected, so the system lets in only what comes from the router's own address and port.
"""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from coterie.errors import TransportError
from coterie.net.home_networks import is_home
from coterie.net.port_mapping import nat_pmp, pcp
from coterie.net.port_mapping.core import Ask, Link, Release
from coterie.net.port_mapping.routes import router_of_proc4, router_of_proc6, routers_of_netstat
from coterie.texts import tr

T = TypeVar("T")

TRIES_S = (0.3, 0.7)  # guess: a router on the local network answers within 50 ms; one datagram may be lost
NETSTAT_S = 2.0  # guess; it reads a table
STRAYS_MAX = 8  # answers that are not ours, looked at in one try
_ELSEWHERE = "2400::1"  # nothing is sent there: the system is asked from which of our addresses it would go


async def find_links(bind_ip: str, families: frozenset[int] = frozenset({4, 6})) -> tuple[Link, ...]:
    """The default routers, with our address on the way to each; none where a mapping is of no use."""
    four, six = await _routers()
    found = []
    for family, router in ((4, four), (6, six)):
        local = _local_ip(family, router) if router and family in families else ""
        bound = ipaddress.ip_address(bind_ip)
        # IPv4 needs a mapping in a home only; IPv6 a hole in the router's firewall for an address of the internet.
        is_useful = bool(local) and is_home(ipaddress.ip_address(local)) is (family == 4)
        if is_useful and (bound.is_unspecified or bound == ipaddress.ip_address(local)):
            found.append(Link(family, router, local))
    return tuple(found)


async def ask_pcp(ask: Ask) -> tuple[str, int, int]:
    """Outside address, port and lifetime (s) that the router granted.

    Raises:
        PeerError: the router refuses, or answers nonsense.
        TransportError: it does not answer.
    """
    port = ask.port
    request = pcp.encode_map(
        ask.nonce,
        ask.link.local,
        port.protocol,
        port.number,
        outside_port=ask.outside_port,
        lifetime_s=ask.lifetime_s,
    )

    def read(datagram: bytes) -> pcp.PcpAnswer | None:
        answer = pcp.decode_map(datagram)
        ours = (answer.nonce, answer.protocol, answer.internal_port) == (
            ask.nonce,
            port.protocol,
            port.number,
        )
        return answer if ours else None

    answer = await _exchange(ask.link, pcp.PORT, request, read)
    return answer.outside_ip, answer.outside_port, answer.lifetime_s


async def ask_nat_pmp(ask: Ask) -> tuple[str, int, int]:
    """As `ask_pcp`; the address is asked for first, and both by one socket."""
    protocol, number = ask.port.protocol, ask.port.number
    ip = await _exchange(ask.link, nat_pmp.PORT, nat_pmp.encode_address_request(), nat_pmp.decode_address)
    request = nat_pmp.encode_map(protocol, number, outside_port=ask.outside_port, lifetime_s=ask.lifetime_s)

    def read(datagram: bytes) -> nat_pmp.NatPmpMapping | None:
        mapping = nat_pmp.decode_map(datagram, protocol)
        return mapping if mapping.internal_port == number else None

    mapping = await _exchange(ask.link, nat_pmp.PORT, request, read)
    return ip, mapping.outside_port, mapping.lifetime_s


def release_by_datagram(release: Release) -> None:
    """Send the request to delete, once, and wait for nothing."""
    port = release.port
    if release.method == "pcp":
        request = pcp.encode_map(
            release.nonce,
            release.link.local,
            port.protocol,
            port.number,
            outside_port=release.outside_port,
            lifetime_s=0,
        )
    else:
        request = nat_pmp.encode_map(port.protocol, port.number, outside_port=0, lifetime_s=0)
    try:
        with _connected(release.link, pcp.PORT) as sock:
            sock.send(request)
    except OSError:
        pass  # the network is gone already: the mapping ends by itself


async def _exchange(link: Link, port: int, request: bytes, read: Callable[[bytes], T | None]) -> T:
    """What `read` makes of the answer: None when that was to another request."""
    loop = asyncio.get_running_loop()
    try:
        with _connected(link, port) as sock:
            for wait_s in TRIES_S:
                await loop.sock_sendall(sock, request)
                try:
                    async with asyncio.timeout(wait_s):
                        for _ in range(STRAYS_MAX):
                            answer = read(await loop.sock_recv(sock, pcp.DATAGRAM_BYTES_MAX + 1))
                            if answer is not None:
                                return answer
                except TimeoutError:
                    pass
    except ConnectionRefusedError:
        raise TransportError(tr("not there")) from None
    except OSError as error:
        raise TransportError(tr("cannot be asked ({strerror})", strerror=error.strerror or error)) from None
    raise TransportError(tr("no answer"))


def _connected(link: Link, port: int) -> socket.socket:
    """A UDP socket between our address and the router's port, and nobody else."""
    family = socket.AF_INET6 if link.family == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((link.local, 0))
        sock.connect(socket.getaddrinfo(link.router, port, family, socket.SOCK_DGRAM)[0][4])
    except OSError:
        sock.close()
        raise
    return sock


async def _routers() -> tuple[str, str]:
    """The IPv4 and the IPv6 default router; empty when there is none."""
    if sys.platform == "linux":
        return router_of_proc4(_read("/proc/net/route")), router_of_proc6(_read("/proc/net/ipv6_route"))
    try:
        process = await asyncio.create_subprocess_exec(
            "netstat",
            "-rn",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return "", ""
    try:
        async with asyncio.timeout(NETSTAT_S):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        return "", ""
    return routers_of_netstat(printed.decode("ascii", "replace"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _local_ip(family: int, router: str) -> str:
    """Our address on the way out by `router`; empty when there is none. Nothing is sent."""
    towards = router if family == 4 else _ELSEWHERE  # a router's IPv6 address is mostly link-local
    try:
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            local = str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""
    return "" if ipaddress.ip_address(local).is_link_local else local
