"""The default router, in the system's own table of routes: Linux by /proc, macOS and Windows by `netstat -rn`."""

import ipaddress
import re
import struct

TABLE_CHARS_MAX = 1_000_000  # a table beyond this is a backbone's, not a home's

_UP, _GATEWAY = 1, 2  # Linux, include/uapi/linux/route.h: RTF_UP, RTF_GATEWAY
_NETSTAT4 = re.compile(
    r"^\s*(?:default|0\.0\.0\.0\s+0\.0\.0\.0)\s+(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})\s", re.MULTILINE
)
_NETSTAT6 = re.compile(r"^\s*default\s+(fe80:[0-9a-f:]+%[a-z0-9]+)\s", re.MULTILINE)


def router_of_proc4(table: str) -> str:
    """The IPv4 router of the default route with the lowest metric in /proc/net/route; empty when there is none."""
    found: list[tuple[int, str]] = []
    for line in table[:TABLE_CHARS_MAX].splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        try:
            flags, metric, gateway = int(fields[3], 16), int(fields[6]), int(fields[2], 16)
        except ValueError:
            continue
        if flags & _UP and flags & _GATEWAY:
            found.append((metric, str(ipaddress.IPv4Address(struct.pack("=I", gateway)))))
    return min(found)[1] if found else ""


def router_of_proc6(table: str) -> str:
    """The same of /proc/net/ipv6_route, with the device behind a link-local address: "fe80::1%eth0"."""
    found: list[tuple[int, str]] = []
    for line in table[:TABLE_CHARS_MAX].splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[0].strip("0") or fields[1] != "00":
            continue
        try:
            gateway = ipaddress.IPv6Address(bytes.fromhex(fields[4]))
            metric, flags = int(fields[5], 16), int(fields[8], 16)
        except ValueError:
            continue
        if flags & _UP and flags & _GATEWAY:
            found.append((metric, f"{gateway}%{fields[9]}" if gateway.is_link_local else str(gateway)))
    return min(found)[1] if found else ""


def routers_of_netstat(text: str) -> tuple[str, str]:
    """The IPv4 and the IPv6 router in what `netstat -rn` of macOS or Windows prints; empty when there is none."""
    kept = text[:TABLE_CHARS_MAX]
    four, six = _NETSTAT4.search(kept), _NETSTAT6.search(kept)
    return (four[1] if four else ""), (six[1] if six else "")
