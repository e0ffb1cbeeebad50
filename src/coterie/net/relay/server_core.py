"""What a relay does with its clients: who is let in, what is forwarded, what is dropped. Pure.

A *link* is one TCP connection. Each goes one way through these states:

    OPEN      connected; speaks HTTP
    ASKED     upgraded to a WebSocket, the challenge sent
    CLIENT    its signature is right, `may_use` said yes, the table had room
    gone      left, replaced by a newer link of the same key, silent, stalled or in breach of the protocol

Nothing waits for a client: what its queue or a rate has no room for is dropped, for the traffic is datagrams and
QUIC above them sends again what it must. A client that goes on sending over its rate is not read for a while.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from coterie.identity import PeerId
from coterie.machine import PeerDown, Received, Send, TimerFired
from coterie.net.admission import Admission
from coterie.rate import Rate
from coterie.wire import relay as wire

_log = logging.getLogger(__name__)

Link = Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """The bounds of one relay. Times are seconds of the clock of `now`."""

    clients_max: int = 256  # guess: everybody whom a household or a small office knows
    handshakes_max: int = 64  # guess: links that have not authenticated yet; one more, and the oldest goes
    handshakes_network_max: int = 32  # guess: of them from one network
    handshake_s: float = 5.0  # guess: five round trips of a bad satellite link
    handshake_bytes_max: int = (
        16 << 10
    )  # measured: 0.5 KB of HTTP, 100 bytes of authentication; browsers send 2 KB
    frame_bytes_max: int = wire.DATAGRAM_FRAME_BYTES_MAX  # nothing that a client sends is larger
    queue_bytes_max: int = 1 << 20  # 80 ms at 100 Mbit/s; upstream keeps 512 datagrams
    bytes_per_s_max: float = 125e6  # of one client; guess: a home network's gigabit
    total_bytes_per_s_max: float = 125e6  # of all clients together
    guests_max: int = 0  # strangers, who exchange with clients only, never with each other; 0: nobody
    guests_network_max: int = 4  # of them from one network; guess: two people behind one router, twice
    guest_bytes_per_s_max: float = (
        500e3  # each way together, of one guest; guess: a call, or a folder of papers
    )
    guests_bytes_per_s_max: float = 2e6  # of all guests; guess: a fifth of a home's uplink of 100 Mbit/s
    burst_s: float = 0.25  # guess: how long a client may send at twice its rate
    excess: float = 2.0  # guess: a client is read at up to this many times its rate; the excess is dropped
    frames_per_s_max: float = 20_000.0  # of one client; measured: 100 MB/s through the wheel is 8,000
    control_frames_per_s_max: float = 200.0  # of one client: pings, pongs and the like; upstream: one in 15 s
    ping_s: float = 15.0  # upstream: PING_INTERVAL
    pong_s: float = 5.0  # upstream: silence after a ping before the link counts as dead
    stall_s: float = 10.0  # guess: a client that takes nothing for so long is dropped; upstream 2 s
    destinations_max: int = 1_024  # guess: peers that hear of a client's end; of more, those it sent to last


@dataclass(slots=True)
class RelayMetrics:
    """Counters since the start, but for `clients`, `guests` and `handshakes`, which are now."""

    clients: int = 0
    guests: int = 0  # of the clients
    handshakes: int = 0
    links: int = 0
    admitted: int = 0
    denied: int = 0
    replaced: int = 0
    handshakes_failed: int = 0  # timed out, pushed out by others, wrong signature
    ended_for_breach: int = 0
    ended_for_silence: int = 0
    forwarded_datagrams: int = 0  # a batch counts as one
    forwarded_bytes: int = 0
    dropped_queue_full: int = 0
    dropped_over_rate: int = 0
    dropped_no_such_client: int = 0
    pauses: int = 0


class Opened(msgspec.Struct, frozen=True):
    """A new link, from `network`: an IPv4 address or an IPv6 /64."""

    link: Link
    network: str = ""


class Upgraded(msgspec.Struct, frozen=True):
    """The link speaks WebSocket now, in `version` of the relay protocol (1 or 2)."""

    link: Link
    version: int


class Malformed(msgspec.Struct, frozen=True):
    """The link sent what does not decode."""

    link: Link
    reason: str


class Control(msgspec.Struct, frozen=True):
    """The link sent `frames` frames that are no messages: pings and pongs of the WebSocket, parts, unknown kinds.

    `reply` is what the WebSocket would answer.
    """

    link: Link
    frames: int
    size: int
    reply: bytes = b""


class Raw(msgspec.Struct, frozen=True):
    """Send `data` as it is."""

    link: Link
    data: bytes


class Drop(msgspec.Struct, frozen=True):
    """End the link: what was sent before is still to go out."""

    link: Link
    reason: str


class Pause(msgspec.Struct, frozen=True):
    """Do not read from the link for `for_s`."""

    link: Link
    for_s: float


SWEEP_S = 1.0  # how often `TimerFired("sweep")` is wanted while there is any link
SWEEP = TimerFired("sweep")


@dataclass(slots=True)
class _Handshake:
    opened_at: float
    network: str = ""
    version: int = 0
    challenge: wire.Challenge | None = None
    control_bytes: int = 0


@dataclass(slots=True)
class _Client:
    link: Link
    peer: PeerId
    version: int
    heard_at: float
    checked_at: float
    rate: Rate
    is_guest: bool
    reading: Rate  # seconds of its allowance: what reading costs; in debt, it is not read
    stalled_at: float | None = None
    pinged_at: float | None = None
    told_of_limit_at: float = float("-inf")
    destinations: dict[PeerId, None] = field(default_factory=dict)


class RelayCore:
    """The relay's machine: `handle(event, now)`.

    Args:
        may_use: whether a peer, authenticated, may use this relay; asked again every `ping_s`.
        backlog: bytes that wait to be sent on a link.
        random_bytes: as `os.urandom`, for challenges.
    """

    def __init__(
        self,
        *,
        may_use: Callable[[PeerId], bool],
        backlog: Callable[[Link], int],
        random_bytes: Callable[[int], bytes],
        limits: RelayLimits,
        now: float,
    ) -> None:
        self._may_use = may_use
        self._backlog = backlog
        self._random_bytes = random_bytes
        self._limits = limits
        self._handshakes: dict[Link, _Handshake] = {}
        self._places: Admission[Link] = Admission(
            places_max=limits.handshakes_max,
            strangers_max=limits.handshakes_max,
            network_max=limits.handshakes_network_max,
        )
        self._by_link: dict[Link, _Client] = {}
        self._by_peer: dict[PeerId, _Client] = {}
        self._guests: Admission[Link] = Admission(
            places_max=limits.guests_max,
            strangers_max=limits.guests_max,
            network_max=limits.guests_network_max,
        )
        self._guests_total = _rate(limits.guests_bytes_per_s_max, limits)
        self._total = _rate(limits.total_bytes_per_s_max, limits)
        self._metrics = RelayMetrics()

    @property
    def clients(self) -> list[PeerId]:
        """Who is connected now."""
        return list(self._by_peer)

    def metrics(self) -> RelayMetrics:
        """A copy of the counters."""
        self._metrics.clients = len(self._by_peer)
        self._metrics.guests = len(self._guests)
        self._metrics.handshakes = len(self._handshakes)
        return RelayMetrics(**{f.name: getattr(self._metrics, f.name) for f in fields(RelayMetrics)})

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (s) and return what is to be done, in order."""
        match event:
            case Received(link, message):
                client = self._by_link.get(link)
                if client is not None:
                    return self._from_client(client, message, now)
                return self._authenticate(link, message, now)
            case Opened(link, network):
                return self._open(link, network, now)
            case Upgraded(link, version):
                return self._challenge(link, version)
            case Malformed(link, reason):
                self._metrics.ended_for_breach += 1
                return [*self._forget(link, now), Drop(link, reason)]
            case Control(link):
                return self._control(event, now)
            case PeerDown(link):
                return self._forget(link, now)
            case TimerFired("sweep"):
                return self._sweep(now)
        return []

    # Coming in

    def _open(self, link: Link, network: str, now: float) -> list[Any]:
        self._metrics.links += 1
        outputs: list[Any] = []
        # An older one goes, not this: whoever opens links and leaves them must not keep others out.
        for other in self._places.enter(link, network, is_known=False) or ():
            outputs += self._fail_handshake(other, "too many handshakes at once")
        self._handshakes[link] = _Handshake(now, network)
        return outputs

    def _challenge(self, link: Link, version: int) -> list[Any]:
        handshake = self._handshakes.get(link)
        if handshake is None:
            return []
        handshake.version = version
        handshake.challenge = wire.Challenge(self._random_bytes(wire.CHALLENGE_BYTES))
        return [Send(link, handshake.challenge)]

    def _authenticate(self, link: Link, message: wire.ToRelay, now: float) -> list[Any]:
        handshake = self._handshakes.get(link)
        if handshake is None or handshake.challenge is None:
            return []
        if not isinstance(message, wire.Authentication):
            self._metrics.ended_for_breach += 1
            return self._fail_handshake(link, "an authentication was expected first")
        if not wire.is_answer(message, handshake.challenge):
            return self._deny(link, "the signature is wrong")
        peer = message.peer
        is_guest = not self._allows(peer)
        if is_guest and not self._limits.guests_max:
            return self._deny(link, "this relay serves only those whom its owner knows")
        known = len(self._by_peer) - len(self._guests)
        if not is_guest and peer not in self._by_peer and known >= self._limits.clients_max:
            return self._deny(link, "this relay is full")
        outputs = self._replace(peer)
        if is_guest:
            outputs += self._let_in_guest(link, handshake.network, now)
        self._end_handshake(link)
        client = _Client(
            link,
            peer,
            handshake.version,
            now,
            checked_at=now,
            rate=_rate(
                self._limits.guest_bytes_per_s_max if is_guest else self._limits.bytes_per_s_max, self._limits
            ),
            is_guest=is_guest,
            reading=Rate(1.0, self._limits.burst_s),
        )
        self._by_link[link] = self._by_peer[peer] = client
        self._metrics.admitted += 1
        return [*outputs, Send(link, wire.Confirmed())]

    def _let_in_guest(self, link: Link, network: str, now: float) -> list[Any]:
        """Give a stranger a place among the guests; an older guest goes where there is none."""
        outputs: list[Any] = []
        for other in self._guests.enter(link, network, is_known=False) or ():
            outputs += [*self._forget(other, now), Drop(other, "its place as a guest is another's")]
        return outputs

    def _deny(self, link: Link, reason: str) -> list[Any]:
        self._metrics.denied += 1
        return [Send(link, wire.Denied(reason)), *self._fail_handshake(link, reason)]

    def _fail_handshake(self, link: Link, reason: str) -> list[Any]:
        self._end_handshake(link)
        self._metrics.handshakes_failed += 1
        return [Drop(link, reason)]

    def _end_handshake(self, link: Link) -> None:
        del self._handshakes[link]
        self._places.leave(link)

    def _replace(self, peer: PeerId) -> list[Any]:
        """The newest link of a key counts: the older is most often one that its owner has lost."""
        old = self._by_peer.pop(peer, None)
        if old is None:
            return []
        del self._by_link[old.link]
        self._guests.leave(old.link)
        self._metrics.replaced += 1
        return [*_status(old, wire.StatusCode.REPLACED), Drop(old.link, "replaced by a newer connection")]

    def _allows(self, peer: PeerId) -> bool:
        try:
            return bool(self._may_use(peer))
        except Exception:  # noqa: BLE001  (the predicate is not ours; denying is the safe answer)
            _log.exception("may_use failed for %s: denied", peer.short)
            return False

    # What clients send

    def _from_client(self, client: _Client, message: wire.ToRelay, now: float) -> list[Any]:
        client.heard_at = now
        client.pinged_at = None
        match message:
            case wire.Outbound():
                return self._forward(client, message, now)
            case wire.Ping(echo):
                paused = self._read(client, 2 * (1 + wire.ECHO_BYTES), now, control=1)  # it and its answer
                return [*paused, *self._tell(client.link, wire.Pong(echo), now)]
            case wire.Authentication():
                self._metrics.ended_for_breach += 1
                return [*self._forget(client.link, now), Drop(client.link, "authenticated twice")]
        return self._read(client, 1 + wire.ECHO_BYTES, now, control=1)

    def _control(self, event: Control, now: float) -> list[Any]:
        """Every frame is paid for, and an answer waits like everything else: within the bound, or not at all."""
        link = event.link
        client = self._by_link.get(link)
        if client is None:
            handshake = self._handshakes.get(link)
            if handshake is None:
                return []
            handshake.control_bytes += event.size + len(event.reply)
            if handshake.control_bytes > self._limits.handshake_bytes_max:
                self._metrics.ended_for_breach += 1
                return self._fail_handshake(link, "too much before its authentication")
            return [Raw(link, event.reply)] if event.reply else []
        outputs = self._read(client, event.size + len(event.reply), now, control=event.frames)
        if not event.reply:
            return outputs
        if self._backlog(link) + len(event.reply) > self._limits.queue_bytes_max:
            self._note_full(client, now)
            return outputs
        return [*outputs, Raw(link, event.reply)]

    def _forward(self, client: _Client, message: wire.Outbound, now: float) -> list[Any]:
        size = len(message.contents)
        outputs = self._read(client, size, now)
        target = self._by_peer.get(message.peer)
        if target is not None and client.is_guest and target.is_guest:
            target = None  # guests are here for those whom the owner knows
        if not self._has_allowance(client, target, size, now):
            self._metrics.dropped_over_rate += 1
            if now - client.told_of_limit_at >= self._limits.ping_s:
                client.told_of_limit_at = now
                outputs += _status(client, wire.StatusCode.RATE_LIMITED)
            return outputs
        if target is None:
            self._metrics.dropped_no_such_client += 1
            return outputs
        if self._backlog(target.link) + size > self._limits.queue_bytes_max:
            self._note_full(target, now)
            return outputs
        target.stalled_at = None
        self._note_destination(client, message.peer)
        self._metrics.forwarded_datagrams += 1
        self._metrics.forwarded_bytes += size
        frame = wire.Inbound(client.peer, message.ecn, message.contents, message.segment_bytes)
        outputs.append(Send(target.link, frame))
        return outputs

    def _has_allowance(self, client: _Client, target: _Client | None, size: int, now: float) -> bool:
        """Whether `size` bytes are within every rate that counts here: what goes to a guest is the guest's too."""
        rates = [client.rate]
        if target is not None and target.is_guest:
            rates.append(target.rate)
        if client.is_guest or len(rates) > 1:
            rates.append(self._guests_total)
        return all(rate.take(now, size) for rate in [*rates, self._total])

    def _note_full(self, client: _Client, now: float) -> None:
        """Something is dropped because too much waits for `client`: it goes when that lasts."""
        self._metrics.dropped_queue_full += 1
        if client.stalled_at is None:
            client.stalled_at = now

    def _read(self, client: _Client, size: int, now: float, *, control: int = 0) -> list[Any]:
        """Count what was read, forwarded or not: dropping costs time as well. `control`: frames that carry nothing."""
        debt_s = client.reading.spend(now, _reading_s(size, control, self._limits))
        if debt_s <= 0:
            return []
        self._metrics.pauses += 1
        return [Pause(client.link, debt_s)]

    def _note_destination(self, client: _Client, peer: PeerId) -> None:
        if peer in client.destinations:
            return
        client.destinations[peer] = None
        if len(client.destinations) > self._limits.destinations_max:
            del client.destinations[next(iter(client.destinations))]

    def _tell(self, link: Link, message: wire.ToClient, now: float) -> list[Any]:
        """`message`, unless so much waits for the link that it would grow without bound."""
        if self._backlog(link) > self._limits.queue_bytes_max:
            if (client := self._by_link.get(link)) is not None:
                self._note_full(client, now)
            return []
        return [Send(link, message)]

    # Going

    def _forget(self, link: Link, now: float) -> list[Any]:
        if link in self._handshakes:
            self._end_handshake(link)
            return []
        client = self._by_link.pop(link, None)
        if client is None:
            return []
        del self._by_peer[client.peer]
        self._guests.leave(link)
        outputs: list[Any] = []
        for peer in client.destinations:
            other = self._by_peer.get(peer)
            if other is not None:
                outputs += self._tell(other.link, wire.PeerGone(client.peer), now)
        return outputs

    def _sweep(self, now: float) -> list[Any]:
        outputs: list[Any] = []
        for link, handshake in list(self._handshakes.items()):
            if now - handshake.opened_at >= self._limits.handshake_s:
                outputs += self._fail_handshake(link, "the handshake took too long")
        for client in list(self._by_link.values()):
            outputs += self._check(client, now)
        return outputs

    def _check(self, client: _Client, now: float) -> list[Any]:
        if client.stalled_at is not None and self._backlog(client.link) < self._limits.queue_bytes_max // 2:
            client.stalled_at = None
        is_stalled = client.stalled_at is not None and now - client.stalled_at >= self._limits.stall_s
        is_dead = client.pinged_at is not None and now - client.pinged_at >= self._limits.pong_s
        if is_stalled or is_dead:
            self._metrics.ended_for_silence += 1
            return [*self._forget(client.link, now), Drop(client.link, "no sign of life")]
        if client.is_guest:
            self._welcome(client)
        elif now - client.checked_at >= self._limits.ping_s:
            client.checked_at = now
            if not self._allows(client.peer):
                self._metrics.denied += 1
                return [*self._forget(client.link, now), Drop(client.link, "no longer permitted")]
        if client.pinged_at is None and now - client.heard_at >= self._limits.ping_s:
            client.pinged_at = now
            return self._tell(client.link, wire.Ping(self._random_bytes(wire.ECHO_BYTES)), now)
        return []

    def _welcome(self, client: _Client) -> None:
        """A guest whom the owner knows meanwhile is one no longer."""
        if self._allows(client.peer) and len(self._by_peer) - len(self._guests) < self._limits.clients_max:
            client.is_guest = False
            client.rate = _rate(self._limits.bytes_per_s_max, self._limits)
            self._guests.leave(client.link)


def _rate(per_s: float, limits: RelayLimits) -> Rate:
    return Rate(per_s, max(per_s * limits.burst_s, limits.frame_bytes_max))


def _reading_s(size: int, control: int, limits: RelayLimits) -> float:
    """What reading a datagram, or `control` frames, of `size` bytes costs, in seconds of a client's allowance."""
    frames_s = control / limits.control_frames_per_s_max if control else 1 / limits.frames_per_s_max
    return size / (limits.bytes_per_s_max * limits.excess) + frames_s


def _status(client: _Client, code: wire.StatusCode) -> list[Any]:
    return [Send(client.link, wire.Status(code))] if client.version >= 2 else []
