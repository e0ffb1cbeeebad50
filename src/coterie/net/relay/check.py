"""`relay-check/1`: ask somebody elsewhere whether our relay's TCP port is open from there.

That UDP came through a firewall says nothing of TCP. Whoever is asked dials the address at which it sees the asker, at
a port that relays use, and none other: nobody can send it anywhere else.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable

from coterie.errors import CoterieError, LimitExceeded, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net.connection import Connection
from coterie.net.endpoint import Endpoint
from coterie.net.home_networks import Ip, Zone, zone_of
from coterie.net.relay.probe import PROBE_S, probe_relay
from coterie.net.stream import Stream
from coterie.rate import Rate, RateTable
from coterie.texts import tr
from coterie.wire import Protocol
from coterie.wire.frames import Message
from coterie.wire.record import is_address, is_relay, join_address, split_address

ANSWER_S = PROBE_S + 3.0  # the probe, and three round trips of a bad satellite link
CHECKS_PER_S = 1 / 60  # guess: for one peer; each asks about every half hour
CHECKS_BURST = 3
PEERS_TRACKED_MAX = 1_024  # guess: a forgotten one starts with a full bucket
SITE_BITS = 48  # of IPv6: what one person is given at most (RFC 6177); a firewall may stand around all of it

_log = logging.getLogger(__name__)


class Check(Message, frozen=True):
    """Does a relay answer at this port of the address where you see me?"""

    port: int


class Checked(Message, frozen=True):
    """The "ip:port" where a relay answered; empty when none did."""

    address: str = ""


RELAY_CHECK = Protocol(name="relay-check", versions=(1,), kinds={1: Check, 2: Checked}, frame_bytes_max=256)


class RelayChecks:
    """Answers those who are known, and asks them. `probe` is that of `relay/probe.py`."""

    def __init__(self, endpoint: Endpoint, *, probe: Callable[[str], Awaitable[float]] = probe_relay) -> None:
        self._endpoint = endpoint
        self._probe = probe
        self._rates: RateTable[PeerId, Rate] = RateTable(
            PEERS_TRACKED_MAX, lambda _: Rate(CHECKS_PER_S, CHECKS_BURST)
        )

    def start(self) -> None:
        """Answer from now on."""
        self._endpoint.register(RELAY_CHECK, self._serve)

    async def ask(self, connection: Connection, port: int) -> Ip | None:
        """The address at which the other side reached a relay at our TCP `port`; None when it did not, or did not
        try."""
        try:
            async with await connection.open_stream(RELAY_CHECK) as stream:
                await stream.send(Check(port))
                reply = await stream.receive(ANSWER_S)
        except (
            CoterieError,
            TimeoutError,
        ) as error:  # a computer with version 0.1 does not know the question
            _log.debug("%s did not check our relay: %s", connection.peer.short, error)
            return None
        if not isinstance(reply, Checked) or is_relay(reply.address) or not is_address(reply.address):
            return None
        ip, at = split_address(reply.address)
        return ip if at == port else None

    async def _serve(self, stream: Stream) -> None:
        asked = await stream.receive(ANSWER_S)
        if not isinstance(asked, Check):
            return
        if not self._rates.of(stream.peer).take(asyncio.get_running_loop().time()):
            raise LimitExceeded(
                tr("{short} asks too often whether its relay is reached", short=stream.peer.short)
            )
        await stream.send(Checked(await self._reached(stream.peer, asked.port)))

    async def _reached(self, peer: PeerId, port: int) -> str:
        """Where a relay answers at the address of `peer`; empty when none does."""
        connection = next((c for c in self._endpoint.connections if c.peer == peer), None)
        ip = seen_at(connection) if connection is not None else None
        if ip is None:
            return ""
        if not 0 < port < 65536:
            raise PeerError(f"{peer.short} asks about port {port}")
        address = join_address(ip, port)
        if self._endpoint.dialling.refusal(f"http://{address}"):
            return ""
        try:
            await self._probe(f"http://{address}")
        except TransportError as error:
            _log.debug("%s asked: %s", peer.short, error)
            return ""
        return address


def seen_at(connection: Connection) -> Ip | None:
    """The address of the internet at which the other side is reached directly; None when there is none."""
    path = connection.path
    if path.kind != "direct" or is_relay(path.remote) or not is_address(path.remote):
        return None
    ip = split_address(path.remote)[0]
    return ip if zone_of(ip) is Zone.INTERNET else None


def is_elsewhere(ip: Ip, own: list[Ip]) -> bool:
    """Whether the IPv6 address `ip` is of another site than every one of `own`: it comes through their firewall."""
    sites = [ipaddress.ip_network((o, SITE_BITS), strict=False) for o in own if o.version == 6]
    return ip.version == 6 and bool(sites) and not any(ip in site for site in sites)
