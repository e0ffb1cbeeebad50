"""Where a QUIC endpoint listens and what it dials: "ip:port" texts, relay URLs, and whether a port can be had."""

import errno
import ipaddress
import itertools
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.net.home_networks import is_home
from coterie.texts import tr

ANY_IP = "0.0.0.0"  # noqa: S104  (to be reached by others is the purpose)
RELAY_URL_CHARS_MAX = 200  # guess: a host name has 253 at most, an address 39


def is_relay_url(address: str) -> bool:
    """Whether `address` names a relay rather than an "ip:port"."""
    return "://" in address


@decoder(UsageError, "this address of a relay")
def relay_url(text: str) -> str:
    """The one form of a relay's URL: "http://host:port", lower case, without a path.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(text.strip())
        usual = {"http": 80, "https": 443}[parts.scheme]
        port = usual if parts.port is None else parts.port
    except (KeyError, ValueError):
        raise UsageError(
            tr("{text!r} is not a relay: http://host:port is", text=text[:RELAY_URL_CHARS_MAX])
        ) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if not parts.hostname or extra or len(text) > RELAY_URL_CHARS_MAX:
        raise UsageError(tr("{text!r} is not a relay: http://host:port is", text=text[:RELAY_URL_CHARS_MAX]))
    return f"{parts.scheme}://{join(parts.hostname, port)}"


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0])


def join(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def is_own_ip(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether `ip` is one of this machine's: the system lets a socket have it."""
    if ip.is_loopback or ip.is_link_local:
        return True
    try:
        _try_bind(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, str(ip), 0)
    except OSError:
        return False
    return True


def spread(addresses: Sequence[str]) -> list[str]:
    """`addresses` with families and kinds taking turns, so that the first few have some of each; loopback last."""
    kinds: dict[tuple[bool, int], list[str]] = {(True, 4): [], (False, 4): [], (False, 6): [], (True, 6): []}
    last: list[str] = []
    for address in addresses:
        ip = ip_of(address)
        (last if ip.is_loopback or ip.is_link_local else kinds[is_home(ip), ip.version]).append(address)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds.values()))
    last.sort(key=lambda a: (ip_of(a).is_loopback, ip_of(a).version))
    return [*(a for a in turns if a is not None), *last]


def check_port(ip: str, port: int) -> None:
    """Raise `UsageError` unless a UDP socket can be had there: the wheel does not say why it cannot bind."""
    places = [(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)]
    if ":" not in ip and has_ipv6():
        places.append((socket.AF_INET6, "::" if ip == ANY_IP else "::1"))
    for family, place in places:
        try:
            _try_bind(family, place, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"UDP port {port} is taken by another program: stop it, or choose another port"
                raise UsageError(text) from None
            raise UsageError(
                tr("cannot listen on {place}: {strerror}", place=join(place, port), strerror=error.strerror)
            ) from None


def has_ipv6() -> bool:
    try:
        _try_bind(socket.AF_INET6, "::1", 0)
    except OSError:
        return False
    return True


def _try_bind(family: socket.AddressFamily, ip: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((ip, port))
