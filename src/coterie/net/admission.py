"""Admission: who has a place where places are few. Room is kept for those who are known. Pure.

Places have a bound; strangers have a part of them, and of that part each network (an IPv4 address, an IPv6 /64) a part
again. Where there is no room for one more, a stranger goes: the oldest of the network of the newcomer, if that has its
part, else the oldest of the network that has most. So a storm from one place pushes out itself, and one from many
places leaves every stranger some time; those who are known are pushed out by nobody.
"""

import ipaddress
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from coterie.crowd import Crowd
from coterie.net.interfaces import PathInfo

IPV6_NETWORK_BITS = 64  # what one household or one server has at least: RFC 6177

T = TypeVar("T", bound=Hashable)


class Admission(Generic[T]):
    """Who has a place now.

    Args:
        places_max: of all.
        strangers_max: of them for strangers.
        network_max: of these for strangers of one network.
        is_known: asked before a stranger has to go: it may have become known meanwhile.
        may_go: whether a stranger's place may be given to another one of its own network; else the newcomer gets none.
    """

    def __init__(
        self,
        *,
        places_max: int,
        strangers_max: int,
        network_max: int,
        is_known: Callable[[T], bool] = lambda who: False,
        may_go: Callable[[T], bool] = lambda who: True,
    ) -> None:
        self._places_max = places_max
        self._strangers_max = min(strangers_max, places_max)
        self._network_max = network_max
        self._is_known = is_known
        self._may_go = may_go
        self._known: dict[T, None] = {}
        self._strangers: Crowd[T, str] = Crowd()

    def __len__(self) -> int:
        return len(self._known) + len(self._strangers)

    def __contains__(self, who: T) -> bool:
        return who in self._known or who in self._strangers

    @property
    def strangers(self) -> int:
        """How many places strangers have."""
        return len(self._strangers)

    def enter(self, who: T, network: str, *, is_known: bool) -> tuple[T, ...] | None:
        """Give `who` a place, or the same again: who has to go for that; None when there is no room at all."""
        self.leave(who)
        going = self._who_goes(network, is_known=is_known)
        if going is None:
            return None
        for other in going:
            self.leave(other)
        if is_known:
            self._known[who] = None
        else:
            self._strangers.add(who, network)
        return going

    def leave(self, who: T) -> None:
        """The place of `who` is free, if it had one."""
        if who in self._strangers:
            self._strangers.remove(who)
        self._known.pop(who, None)

    def _who_goes(self, network: str, *, is_known: bool) -> tuple[T, ...] | None:
        while True:
            strangers = self._strangers
            is_crowded = not is_known and strangers.count_of(network) >= self._network_max
            is_full = len(self) >= self._places_max
            if not is_known:
                is_full = is_full or len(strangers) >= self._strangers_max
            if not is_crowded and not is_full:
                return ()
            if not strangers:
                return None
            first = strangers.oldest_of(network) if is_crowded else strangers.next_to_go()
            if not self._is_known(first):
                return None if is_crowded and not self._may_go(first) else (first,)
            self._strangers.remove(first)
            self._known[first] = None


def network_of(address: str) -> str:
    """To which network "ip:port" belongs: an IPv4 address for itself, of IPv6 the first 64 bits; else the text."""
    text = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, IPV6_NETWORK_BITS), strict=False))
    return str(ip)


def network_of_path(path: PathInfo, peer: str) -> str:
    """The same of a path. Who comes by a relay counts by its id (`peer`), not by the relay's address."""
    return network_of(path.remote) if path.kind == "direct" else peer
