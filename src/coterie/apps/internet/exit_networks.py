"""On which network this computer is now: the interface of its default route, and the gateway's hardware address."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from coterie.apps.internet.exit_rules import DEVICE
from coterie.errors import UsageError
from coterie.texts import tr

NETWORKS_MAX = 64  # of one exit; guess: more than anybody moves between
LOOK_S = 5.0  # at the latest; changes of routes and addresses are told by the kernel
SETTLE_S = 0.2  # after the kernel told of one: several come together
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # linux/rtnetlink.h: links, IPv4 and IPv6 addresses and routes


class Here(msgspec.Struct, frozen=True):
    """The interface, and the hardware address of the gateway; "" where it is not known."""

    interface: str = ""
    gateway: str = ""

    def is_one_of(self, networks: Sequence[str]) -> bool:
        """Whether one of `networks` is here. A gateway that is not known yet counts as any: rather closed than open."""
        if not self.interface:
            return True
        return any(
            network == self.interface or (":" in network and self.gateway in ("", network))
            for network in networks
        )


def read_network(text: str) -> str:
    """`text`: an interface like wlan0, or the hardware address of a gateway. Raises `UsageError`."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) == 6 and all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts):
        return ":".join(parts)
    if 0 < len(text) < 16 and text.isprintable() and not set(text) & set(" /:"):
        return text
    raise UsageError(
        tr(
            "'{text}' is no network: write an interface like wlan0, or the hardware address of the router "
            "(`ip neighbour` shows it)",
            text=text[:100],
        )
    )


def here_in(routes: str, neighbours: str) -> Here:
    """From the texts of /proc/net/route and /proc/net/arp."""
    best: tuple[int, str, str] | None = None
    for line in routes.splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "00000000" and words[0] != DEVICE:
            route = int(words[6]), words[0], words[2]
            best = route if best is None else min(best, route)
    if best is None:
        return Here()
    address = str(ipaddress.IPv4Address(int(best[2], 16).to_bytes(4, "little")))
    for line in neighbours.splitlines()[1:]:
        words = line.split()
        if len(words) > 5 and (words[0], words[5]) == (address, best[1]) and words[3] != "00:00:00:00:00:00":
            return Here(best[1], words[3])
    return Here(best[1])


def here() -> Here:
    """Now."""
    try:
        return here_in(Path("/proc/net/route").read_text(), Path("/proc/net/arp").read_text())
    except (OSError, ValueError):
        return Here()


@contextlib.contextmanager
def changes() -> Iterator[asyncio.Event]:
    """An event that is set whenever the kernel tells of a change; without such news it never is."""
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as news:
        news.setblocking(False)
        news.bind((0, _GROUPS))

        def read() -> None:
            with contextlib.suppress(OSError):  # nothing more, or more than fits: it has changed all the same
                while news.recv(65_536):
                    pass
            changed.set()

        loop.add_reader(news, read)
        try:
            yield changed
        finally:
            loop.remove_reader(news)
