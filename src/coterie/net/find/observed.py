"""ObservedAddresses: which of the addresses that peers say they see us at are to be believed.

A peer may lie, and behind some routers every peer sees another port. So an address is

    confirmed    when `OBSERVERS_MIN` peers in different networks report it;
    unconfirmed  when every peer that we chose ourselves (dialled, or a contact) reports the same one, of its
                 family: with a single peer known there is nobody else to ask;
    nothing      otherwise: strangers who dial us and agree with nobody change nothing.

Both kinds are used; strangers of one network count as one. Times are seconds of the caller's clock.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from coterie.errors import UsageError
from coterie.machine import CancelTimer, Emit, PeerDown, SetTimer, TimerFired
from coterie.wire.record import is_address, is_relay, split_address

OBSERVERS_MIN = 2  # two independent peers; the plan of the house: several, not one
REPORTS_MAX = 256  # guess: peers whose last word is kept, in each family
CONFIRMED_MAX = 4  # guess: a router has one address, two at a change; agreeing liars add no more than this
STALE_S = 600.0  # guess: a router keeps an unused mapping for minutes; then nobody vouches for it any more
PREFIX_BITS = {4: 24, 6: 48}  # what one person is given: a small IPv4 network, an IPv6 site

_STALE = "stale"

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reported(msgspec.Struct, frozen=True):
    """`peer`, whom we reach at `via` ("ip:port"), says that it sees us at `address`. `chosen`: dialled by us, or
    a contact."""

    peer: Hashable
    address: str
    via: str
    chosen: bool


class OwnAddresses(msgspec.Struct, frozen=True):
    """The addresses of this machine itself: there is nothing to learn about these."""

    addresses: tuple[str, ...]


class AddExternal(msgspec.Struct, frozen=True):
    """Others may reach us at `address`."""

    address: str
    confirmed: bool


class RemoveExternal(msgspec.Struct, frozen=True):
    """Nobody vouches for `address` any more."""

    address: str


@dataclass(slots=True)
class _Report:
    address: str
    prefix: str
    chosen: bool
    is_up: bool
    at: float


class ObservedAddresses:
    """The machine. Outputs: `Emit(AddExternal)`, `Emit(RemoveExternal)` and one timer."""

    def __init__(self, *, reports_max: int = REPORTS_MAX, stale_s: float = STALE_S) -> None:
        self._reports_max = reports_max
        self._stale_s = stale_s
        self._reports: dict[int, OrderedDict[Hashable, _Report]] = {4: OrderedDict(), 6: OrderedDict()}
        self._own: frozenset[str] = frozenset()
        self._believed: dict[str, bool] = {}

    @property
    def believed(self) -> dict[str, bool]:
        """External addresses in use, and whether each is confirmed."""
        return dict(self._believed)

    def observers(self, address: str) -> int:
        """How many networks report `address` now."""
        return len(self._prefixes(address))

    def mapping(self, version: int = 4) -> str:
        """How peers see this node, in IP `version`: "unknown" (nobody said), "none" (an address of this machine),
        "same" (one address for all who count) or "varies" (a port for each: a symmetric NAT)."""
        reports = self._reports[version].values()
        counted = {r.address: None for r in reports if r.chosen} or {r.address: None for r in reports}
        if not counted:
            return "unknown"
        if any(address in self._own for address in counted):
            return "none"
        return "same" if len(counted) == 1 else "varies"

    def reports(self, version: int = 4) -> dict[Hashable, str]:
        """The address that each peer saw us at last, in IP `version`; of those that left, for `STALE_S`."""
        return {peer: r.address for peer, r in self._reports[version].items()}

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take `Reported`, `OwnAddresses`, `PeerDown` or the timer."""
        match event:
            case Reported(peer, address, via, chosen):
                self._note(peer, address, via, chosen, now)
            case OwnAddresses(addresses):
                # The transport lists what it was told; only the machine's own are nothing to learn.
                self._own = frozenset(a for a in addresses if a not in self._believed)
            case PeerDown(peer):
                for reports in self._reports.values():
                    if report := reports.get(peer):
                        report.is_up, report.at = False, now
            case TimerFired(key) if key == _STALE:
                self._drop_stale(now)
        return [*self._decide(), self._timer()]

    def _note(self, peer: Hashable, address: str, via: str, chosen: bool, now: float) -> None:
        seen, from_ip = _parse(address), _parse(via)
        if seen is None or from_ip is None or (seen.is_loopback and not from_ip.is_loopback):
            return
        reports = self._reports[seen.version]
        reports[peer] = _Report(address, _prefix(from_ip), chosen, True, now)
        reports.move_to_end(peer)
        if len(reports) > self._reports_max:
            leaving = next((p for p, r in reports.items() if not r.chosen), next(iter(reports)))
            del reports[leaving]

    def _drop_stale(self, now: float) -> None:
        for reports in self._reports.values():
            for peer, report in list(reports.items()):
                if not report.is_up and report.at + self._stale_s <= now:
                    del reports[peer]

    def _timer(self) -> SetTimer | CancelTimer:
        ends = [r.at for reports in self._reports.values() for r in reports.values() if not r.is_up]
        return SetTimer(_STALE, min(ends) + self._stale_s) if ends else CancelTimer(_STALE)

    def _decide(self) -> list[Emit]:
        """What has changed between what is believed and what now should be."""
        wanted: dict[str, bool] = {}
        for reports in self._reports.values():
            wanted |= self._to_believe(reports.values())
        changes = [Emit(RemoveExternal(a)) for a in self._believed if a not in wanted]
        changes += [Emit(AddExternal(a, sure)) for a, sure in wanted.items() if self._believed.get(a) != sure]
        self._believed = wanted
        return changes

    def _to_believe(self, reports: Iterable[_Report]) -> dict[str, bool]:
        useful = [r for r in reports if r.address not in self._own]
        votes: dict[str, dict[str, None]] = {}
        for report in useful:
            votes.setdefault(report.address, {})[report.prefix] = None
        by_votes = sorted(votes, key=lambda a: -len(votes[a]))
        confirmed = {a: True for a in by_votes[:CONFIRMED_MAX] if len(votes[a]) >= OBSERVERS_MIN}
        chosen = list(dict.fromkeys(r.address for r in useful if r.chosen))
        if len(chosen) != 1 or any(a in confirmed for a in chosen):
            return confirmed
        return {chosen[0]: False} | confirmed

    def _prefixes(self, address: str) -> dict[str, None]:
        reports = [r for table in self._reports.values() for r in table.values()]
        return {r.prefix: None for r in reports if r.address == address}


def _parse(address: str) -> IpAddress | None:
    """The IP of a dialable "ip:port"; None for anything else."""
    if is_relay(address) or not is_address(address):
        return None
    try:
        ip = split_address(address)[0]
    except UsageError:
        return None
    return None if ip.is_link_local else ip


def _prefix(ip: IpAddress) -> str:
    return str(ipaddress.ip_network((ip, PREFIX_BITS[ip.version]), strict=False))
