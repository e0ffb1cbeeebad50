"""How far an IP address means the same: on one machine, on one link, in one home, or everywhere. Pure."""

import ipaddress
from enum import IntEnum

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Zone(IntEnum):
    """How far an address means the same."""

    NOWHERE = 0  # unspecified, multicast, broadcast, reserved
    MACHINE = 1
    LINK = 2
    HOME = 3  # one home or provider
    INTERNET = 4


_ZONES = tuple(
    (ipaddress.ip_network(text), zone)
    for zone, texts in (
        (Zone.NOWHERE, ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")),
        (Zone.MACHINE, ("127.0.0.0/8", "::1/128")),
        (Zone.NOWHERE, ("::/96",)),  # RFC 4291, 2.5.5.1: given up
        (Zone.LINK, ("169.254.0.0/16", "fe80::/10")),  # RFC 3927
        (
            Zone.HOME,
            # RFC 1918; RFC 6598 (between provider and home); RFC 4193; RFC 8215 (translators of one network)
            (
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "100.64.0.0/10",
                "fc00::/7",
                "fec0::/10",
                "64:ff9b:1::/48",
            ),
        ),
    )
    for text in texts
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052


def zone_of(ip: Ip) -> Zone:
    """The zone of `ip`; of an IPv6 address that stands for an IPv4 one, of that."""
    plain = plain_ip(ip)
    return next(
        (z for network, z in _ZONES if network.version == plain.version and plain in network), Zone.INTERNET
    )


def is_home(ip: Ip) -> bool:
    """Whether `ip` means something on one machine, in one home or at one provider only."""
    return zone_of(ip) is not Zone.INTERNET


def plain_ip(ip: Ip) -> Ip:
    """The IPv4 address that an IPv6 address stands for; else `ip`."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
