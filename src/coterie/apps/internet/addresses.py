"""Which addresses an exit connects to for others: those of the internet, and never what only the exit can reach. Pure.

What is asked about is always the very address that will be connected to, after names were resolved. Private ranges and
the exit's own networks may be opened by name (`hosts`); loopback, link-local, multicast and the exit itself never.
"""

import ipaddress
from collections.abc import Iterable

import msgspec

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# IANA IPv4 and IPv6 Special-Purpose Address Registries, RFC 6890; and addresses at which clouds tell their secrets.
NEVER = _networks(
    "0.0.0.0/8",  # "this host": systems connect it to themselves
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local; 169.254.169.254 tells secrets of virtual machines
    "168.63.129.16/32",  # the same of one cloud, in the middle of public addresses
    "100.100.100.200/32",  # the same of another
    "192.0.0.192/32",  # the same of a third
    "192.88.99.0/24",  # relays of 6to4, RFC 7526
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",  # unspecified, loopback, and IPv4 in IPv6 as it was once ("compatible", RFC 4291)
    "64:ff9b:1::/48",  # NAT64 into networks of the exit, RFC 8215
    "100::/64",
    "2001::/23",  # Teredo among them
    "2002::/16",  # 6to4: IPv4 in IPv6
    "fd00:ec2::254/128",  # tells secrets of virtual machines
    "fd20:ce::254/128",
    "fe80::/10",
    "ff00::/8",
)
PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # of providers, RFC 6598
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
    "3fff::/20",
    "fc00::/7",
    "fec0::/10",
)
_INTERNET_V6 = ipaddress.IPv6Network("2000::/3")  # RFC 4291, 2.4: what IANA gives out
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Place(msgspec.Struct, frozen=True):
    """Where the exit is: its own addresses, also those under which others know it, and the networks it is in."""

    own: frozenset[IP] = frozenset()
    networks: tuple[Network, ...] = ()


def inner(ip: IP) -> IP:
    """What systems really connect to: the IPv4 address inside one that stands for it (mapped, NAT64); else `ip`."""
    if isinstance(ip, ipaddress.IPv6Address) and (ip in _MAPPED or ip in _NAT64):
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def is_never(ip: IP, place: Place) -> bool:
    """Whether nobody gets there through an exit, whatever its owner opens: itself, its links, metadata, multicast."""
    ip = inner(ip)
    if ip in place.own or any(ip in network for network in NEVER):
        return True
    return isinstance(ip, ipaddress.IPv6Address) and bool(ip.scope_id)


def is_closed(ip: IP, place: Place) -> bool:
    """Whether an exit does not connect to `ip` unless its owner opened it by name."""
    real = inner(ip)
    if is_never(ip, place) or any(real in network for network in (*PRIVATE, *place.networks)):
        return True
    return isinstance(real, ipaddress.IPv6Address) and real not in _INTERNET_V6


def networks_of(found: Iterable[tuple[str, int]]) -> Place:
    """The place of a computer whose interfaces have these addresses with these lengths of prefixes."""
    own, networks = set[IP](), set[Network]()
    for text, length in found:
        ip = ipaddress.ip_address(text.partition("%")[0])
        own.add(ip)
        networks.add(ipaddress.ip_network((ip, length), strict=False))
    return Place(frozenset(own), tuple(sorted(networks, key=str)))
