"""QUIC between authenticated peers, through the `iroh` wheel; this and `quic/connection` alone know it.

What the wheel (1.2.0) does that its signatures do not say, all measured:

- Cancelling one of its futures drops the Rust future; what it had just finished is lost (39 of 301 bytes in a
  test that cancelled reads). So reads, writes and accepts run in tasks of ours that outlive their caller: the
  next call takes the pending result.
- A stream half is behind a lock that a pending read or write holds: `stop` and `reset` would wait for
  ever. So the pending task is cancelled first.
- It calls back from threads of its own while it holds a connection's lock. Should Python collect garbage
  there, and with it a stream of the wheel, whose end takes the same lock, all stands still. So the connection
  holds every stream's halves, and they go on the loop's thread only.
- It frees its port when the last of its objects has gone, not on `close`.
- Why a stream or connection ended comes as text; the patterns below take the code from it. A peer's own words
  stand last in it, behind the code or before a fixed end, and so cannot imitate one.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import iroh

from coterie.errors import CloseCode, TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net.admission import Admission, network_of
from coterie.net.interfaces import PathInfo, RawConnection
from coterie.net.quic.addresses import (
    ANY_IP,
    check_port,
    has_ipv6,
    ip_of,
    is_own_ip,
    is_relay_url,
    join,
    relay_url,
    spread,
)
from coterie.net.quic.cables import Cable, Cables, is_on_cable, with_scope
from coterie.net.quic.connection import QuicConnection, TransportStats
from coterie.net.quic.errors import WHEEL_ERRORS, last_line, text_of
from coterie.net.quic.repair import repair
from coterie.net.quic.watch import AddressListener, PathListener, QuicWatch, RelayListener
from coterie.net.relay.probe import probe_relay
from coterie.rate import Rate, RateTable
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.handshake import ALPN

T = TypeVar("T")

_REFUSED = "aborted by peer: the server refused to accept a new connection"

ACCEPTORS = 16  # guess: answered at once; each word of the wheel costs a turn of the loop, and waiting is a lost packet
HANDSHAKES_MAX = 256  # guess: QUIC handshakes under way at once; of more, the oldest is given up
NETWORK_HANDSHAKES_MAX = 64  # guess: of them from one IPv4 address or IPv6 /64
NETWORK_HANDSHAKES_PER_S = 100.0  # measured: one costs 3 ms of the processor
NETWORK_HANDSHAKES_BURST = 200  # guess
NETWORKS_TRACKED_MAX = 4_096  # guess: below 1 MB
PROVE_ADDRESS_FROM = (
    32  # guess: with so many under way, who comes proves its address first: a round trip more
)
ACCEPT_QUEUE_MAX = HANDSHAKES_MAX  # done with their handshake, and nobody accepted them yet
RELAY_STAGGER_S = 0.4  # guess: how long a dial by one relay may take before the next is tried as well
RELAYS_PER_DIAL_MAX = 4  # guess: a node has two or three home relays
REFUSED_AGAIN_S = (0.03, 0.15)  # guess: first and longest pause before who was refused unheard comes again
REFUSED_TRIES_MAX = 30  # within about 4 s; measured: docs/threat-model.md, the storm
REST_S = (
    1.0  # guess: for the wheel to clear the dead path; a longer rest (2.5 s) was measured to help no more
)
LOST_RELAY_S = 30.0  # guess: a relay that was seen dead is not dialled for so long, if there are others
SEEK_S = 2.0  # guess: an answer on a direct path takes one round trip
SEEK_AGAIN_S = (2.0, 60.0)  # guess: first and longest wait between attempts to have a direct path back
HANDSHAKE_TURN_S = (
    1.0  # guess: three round trips of a bad link; younger ones do not give way to their own network
)
HANDSHAKE_S = 10.0  # guess: a QUIC handshake takes two round trips
END_S = 0.05  # guess: one more turn for what is ending by itself
CLOSE_S = 1.0  # guess: for close messages to be sent; the user waits for this at Ctrl-C


class QuicTransport:
    """A bound QUIC endpoint. Make one with `await QuicTransport.bind(...)`."""

    def __init__(
        self, endpoint: Any, secret_key: SecretKey, tasks: Tasks | None = None, *, at_cables: bool = False
    ) -> None:
        self._endpoint: Any = endpoint
        self._secret_key = secret_key
        self._peer_id = secret_key.peer_id
        self._tasks = tasks or Tasks("quic")
        self._accepted: asyncio.Queue[QuicConnection | None] = asyncio.Queue(ACCEPT_QUEUE_MAX)
        self._handshakes: Admission[int] = Admission(
            places_max=HANDSHAKES_MAX,
            strangers_max=HANDSHAKES_MAX,
            network_max=NETWORK_HANDSHAKES_MAX,
            may_go=lambda number: self._now() - self._shaking[number][0] >= HANDSHAKE_TURN_S,
        )
        self._shaking: dict[int, tuple[float, asyncio.Task[None]]] = {}  # since when
        self._numbers = count()
        self._rates: RateTable[str, Rate] = RateTable(
            NETWORKS_TRACKED_MAX, lambda _: Rate(NETWORK_HANDSHAKES_PER_S, NETWORK_HANDSHAKES_BURST)
        )
        self._is_closed = False
        self._live: dict[QuicConnection, None] = {}
        self._sent_bytes = self._received_bytes = 0
        self._relays: list[str] = []
        self._addresses: list[str] = []
        self._external: dict[str, None] = {}
        self._rest_until: dict[PeerId, float] = {}  # of peers whose connection was given up just now
        self._cables: Cables | None = None
        self._watcher = QuicWatch(lambda: self._live, lambda: self.addresses, probe_relay, self._tasks)
        self._lost_relays: dict[str, float] = {}
        self._watcher.on_path.append(self._path_changed)
        self._watcher.on_relay_lost.append(self._relay_lost)
        if at_cables:
            self._cables = Cables(self._bind_at, in_use=lambda: [c.scope for c in self._live])
            self._tasks.keep(self._cables.run, "watching cables")
        for _ in range(ACCEPTORS):
            self._tasks.keep(lambda: self._accept_all(endpoint), "accepting")
        self._tasks.keep(self._watcher.run, "watching paths")

    @classmethod
    async def bind(
        cls,
        secret_key: SecretKey,
        port: int = 0,
        bind_ip: str = ANY_IP,
        *,
        relays: Sequence[str] = (),
        tasks: Tasks | None = None,
    ) -> "QuicTransport":
        """Listen on UDP `port` (0: any free one) of `bind_ip`, and on the same of IPv6 where there is one.

        `relays` as for `set_relays`. No relay but these and those in addresses that are dialled is ever used.

        Raises:
            UsageError: the port is taken, or the address is not this machine's; the text says what to do.
            TransportError: the system does not let us.
        """
        wanted = [relay_url(url) for url in relays]
        repair()
        check_port(bind_ip, port)
        ips = [bind_ip]
        if ":" not in bind_ip and has_ipv6():
            # Left to itself the wheel listens on every IPv6 address, whatever IPv4 address was asked for.
            ips.append("::" if bind_ip == ANY_IP else "::1")
        endpoint = await _bound_at([join(ip, port) for ip in ips], secret_key)
        transport = cls(endpoint, secret_key, tasks, at_cables=bind_ip == ANY_IP and has_ipv6())
        await transport.set_relays(wanted)
        return transport

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def addresses(self) -> list[str]:
        """Every "ip:port" of this machine under which we listen, then `add_external_address`'s, loopback last.

        Families and kinds take turns: who keeps only the first few has some of each.
        """
        usable = [a for a in self._listed() if a in self._external or is_own_ip(ip_of(a))]
        return spread([*usable, *(self._cables.addresses if self._cables is not None else ())])

    @property
    def mapped_by_wheel(self) -> list[str]:
        """Outside addresses that the wheel had a router map, once and for good: see `net.port_mapping`."""
        listed = [*self._listed(), *(self._cables.listed if self._cables is not None else ())]
        return [a for a in dict.fromkeys(listed) if a not in self._external and not is_own_ip(ip_of(a))]

    def _listed(self) -> list[str]:
        if self._endpoint is None:
            return []
        with suppress(*WHEEL_ERRORS):  # then they are what they were
            found = self._endpoint.addr().direct_addresses() + self._endpoint.bound_sockets()
            self._addresses = [a for a in dict.fromkeys(found) if not ip_of(a).is_unspecified]
        return self._addresses

    def stats(self) -> TransportStats:
        """What went over UDP since the start."""
        sent, received = self._sent_bytes, self._received_bytes
        for connection in self._live:
            now = connection.stats()
            sent, received = sent + now.sent_bytes, received + now.received_bytes
        return TransportStats(sent, received)

    @property
    def relays(self) -> list[str]:
        """The relays of `set_relays`."""
        return list(self._relays)

    @property
    def home_relay(self) -> str | None:
        """The relay through which others reach us now; of several, the wheel keeps to the nearest."""
        url = None
        with suppress(*WHEEL_ERRORS):  # then it is not known
            url = self._endpoint.addr().relay_url() if self._endpoint is not None and self._relays else None
        return url.rstrip("/") if url else None

    async def set_relays(self, urls: Sequence[str]) -> None:
        """Be reachable through these relays ("http://host:port"), and leave all others.

        The wheel stays connected to one of them only, and does not leave it by itself when it dies: name the one
        to use, or replace the dead one (`home_relay.py` does). Given none, it stays connected to the last.

        Raises:
            UsageError: a text is no relay.
        """
        wanted = list(dict.fromkeys(relay_url(url) for url in urls))
        endpoint = self._bound()
        try:
            for url in wanted:
                if url not in self._relays:
                    await endpoint.insert_relay(iroh.RelayConfig(url=url))
            for url in self._relays:
                if url not in wanted:
                    await endpoint.remove_relay(url)
        except WHEEL_ERRORS as error:
            raise UsageError(
                tr("the relays cannot be used: {last_line}", last_line=last_line(text_of(error)))
            ) from None
        self._relays = wanted

    async def add_external_address(self, address: str) -> None:
        """Tell peers that we are reached at "ip:port" too; not for addresses of this machine itself."""
        try:
            await self._bound().add_external_addr(address)
        except WHEEL_ERRORS as error:
            raise UsageError(
                tr(
                    "{address!r} is not an address: {last_line}",
                    address=address,
                    last_line=last_line(text_of(error)),
                )
            ) from None
        self._external[address] = None

    async def remove_external_address(self, address: str) -> bool:
        """Take back `add_external_address`; whether there was anything to take back."""
        try:
            await self._bound().remove_external_addr(address)
        except WHEEL_ERRORS as error:
            raise UsageError(
                tr(
                    "{address!r} is not an address: {last_line}",
                    address=address,
                    last_line=last_line(text_of(error)),
                )
            ) from None
        return self._external.pop(address, address) is None

    def watch(
        self,
        *,
        path: PathListener | None = None,
        addresses: AddressListener | None = None,
        relay_lost: RelayListener | None = None,
    ) -> None:
        """Call `path` with (connection, its path) when one becomes direct or goes through a relay, `addresses`
        with our addresses when they change, `relay_lost` with the URL of a relay in use that has died."""
        if path is not None:
            self._watcher.on_path.append(path)
        if addresses is not None:
            self._watcher.on_addresses.append(addresses)
        if relay_lost is not None:
            self._watcher.on_relay_lost.append(relay_lost)

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> RawConnection:
        """As `Transport.connect`; relays ("http://host:port") may stand among the addresses.

        Several relays are tried one after the other, each without giving up those before. The wheel finds a
        direct path by itself later, where there is one. Answers of anybody but `peer` do not count: its
        key is checked.
        """
        if peer == self._peer_id:
            raise UsageError(tr("a node cannot connect to itself"))
        endpoint = self._bound()
        await self._rest(peer)
        relays = list(dict.fromkeys(relay_url(a) for a in addresses if is_relay_url(a)))
        direct = [a for a in addresses if not is_relay_url(a) and not is_on_cable(a)]
        # A dial by a relay known to be dead can only wait; docs/protocol/relay.md says what this does not mend.
        relays = [r for r in relays if r not in self._lost_relays] or relays
        try:
            identity = iroh.EndpointId.from_bytes(bytes(peer))
            if not addresses and await endpoint.remote_addr(identity) is None:
                raise TransportError(tr("no address of {short} is known", short=peer.short))
            targets = await self._at_cables(identity, [a for a in addresses if is_on_cable(a)])
            if direct or relays or not targets:
                aim = iroh.EndpointAddr(identity, next(iter(relays), None), direct)
                targets.append(_Target(endpoint, aim))
            more = [iroh.EndpointAddr(identity, r, []) for r in relays[1:RELAYS_PER_DIAL_MAX]]
            targets += [_Target(endpoint, aim) for aim in more]
            raw, scope = await self._dial(targets)
            return self._adopt(raw, scope)
        except WHEEL_ERRORS as error:
            raise TransportError(_connect_text(text_of(error), peer)) from None

    async def _at_cables(self, identity: Any, addresses: Sequence[str]) -> "list[_Target]":
        """One target for each cable: which of them leads to these link-local addresses nobody knows."""
        ends = await self._cables.ends() if self._cables is not None and addresses else []
        aims = [(scope, end, [with_scope(a, scope) for a in addresses]) for scope, end in ends]
        return [_Target(end, iroh.EndpointAddr(identity, None, at), scope) for scope, end, at in aims]

    async def _bind_at(self, cable: Cable) -> Any:
        """An endpoint at `cable`, which accepts. Its IPv4 socket, which the wheel must have, is on loopback."""
        places = [f"[{cable.ip}%{cable.scope}]:0", "127.0.0.1:0"]
        endpoint = await _bound_at(places, self._secret_key)
        self._tasks.keep(lambda: self._accept_all(endpoint, cable.scope), "accepting at a cable")
        return endpoint

    def _relay_lost(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        self._lost_relays[url] = loop.time()
        loop.call_later(LOST_RELAY_S, self._lost_relays.pop, url, None)

    async def _rest(self, peer: PeerId) -> None:
        """Wait until the wheel has forgotten the dead path of a connection to `peer` that was given up just now."""
        for connection in list(self._live):
            if connection.peer == peer and connection.was_given_up:
                await connection.closed()
        rest_s = self._rest_until.get(peer, 0.0) - asyncio.get_running_loop().time()
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    async def seek_direct(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Have the connection to `peer` look for a direct path at `addresses` ("ip:port") now.

        By itself the wheel may wait (measured: 2 s once, over 10 s once). A second dial makes it look; the connection
        that this dial may bring about is closed, and the one that there is moves.
        """
        with suppress(*WHEEL_ERRORS, TimeoutError):  # not reached: it stays on the relay
            identity = iroh.EndpointId.from_bytes(bytes(peer))
            target = iroh.EndpointAddr(identity, None, [a for a in addresses if not is_relay_url(a)])
            async with asyncio.timeout(SEEK_S):
                (await self._bound().connect(target, ALPN)).close(int(CloseCode.DUPLICATE), b"")

    def _path_changed(self, connection: QuicConnection, path: PathInfo) -> None:
        if path.kind == "relay" and connection.last_direct is not None:
            self._tasks.start(self._regain(connection, connection.last_direct), "regaining a path")

    async def _regain(self, connection: QuicConnection, address: str) -> None:
        """The direct path was lost: ask for it until it is back."""
        wait_s, longest_s = SEEK_AGAIN_S
        while True:
            await asyncio.sleep(wait_s)
            if connection.is_closed or connection.path.kind == "direct":
                return
            await self.seek_direct(connection.peer, [address])
            wait_s = min(longest_s, wait_s * 2)

    async def _dial(self, targets: "Sequence[_Target]") -> tuple[Any, int]:
        """The first connection to any of `targets`, and its scope. Relays have a target each: a dial takes one."""
        dials: list[asyncio.Task[tuple[Any, int]]] = []
        chosen: tuple[Any, int] | None = None
        self._bound()
        try:
            for at, target in enumerate(targets):
                dials.append(self._tasks.start(target.dial(), "dialling", is_awaited=True))
                is_last = at == len(targets) - 1
                chosen = await _first(dials, None if is_last else RELAY_STAGGER_S)
                if chosen is not None:
                    return chosen
            return await dials[-1]  # all have failed: its error
        finally:
            for dial in dials:
                dial.add_done_callback(lambda done: _close_unwanted(done, chosen))
                dial.cancel()

    async def accept(self) -> RawConnection:
        connection = None if self._is_closed else await self._accepted.get()
        if connection is None:
            self._accepted.put_nowait(None)
            raise TransportError(tr("this node's network is closed"))
        return connection

    async def close(self) -> None:
        """Close every connection with SHUTDOWN and leave nothing running."""
        if self._is_closed:
            return
        self._is_closed = True
        for connection in list(self._live):
            connection.close(CloseCode.SHUTDOWN, "")
        with suppress(TimeoutError, *WHEEL_ERRORS):  # then the sockets go with the process
            async with asyncio.timeout(CLOSE_S):
                await self._endpoint.close()
        await self._tasks.close(END_S)
        if self._cables is not None:
            await self._cables.close()
            self._cables = None
        self._endpoint = None  # the wheel frees the port when nobody holds its objects
        while not self._accepted.empty():
            self._accepted.get_nowait()
        self._accepted.put_nowait(None)

    def _bound(self) -> Any:
        if self._endpoint is None:
            raise TransportError(tr("this node's network is closed"))
        return self._endpoint

    async def _accept_all(self, endpoint: Any, scope: int = 0) -> None:
        while (incoming := await endpoint.accept_next()) is not None:
            with suppress(*WHEEL_ERRORS):  # who asked has gone
                await self._answer(incoming, scope)

    async def _answer(self, incoming: Any, scope: int) -> None:
        """Begin a handshake. Who it is shows at its end only, so here no network may take the room of others."""
        network = await _network_of(incoming)
        if len(self._handshakes) >= PROVE_ADDRESS_FROM and not await incoming.remote_addr_validated():
            await incoming.retry()  # before it is counted: anybody may write another's address on a packet
            return
        number = next(self._numbers)
        is_due = self._rates.of(network).take(self._now())
        going = self._handshakes.enter(number, network, is_known=False) if is_due else None
        if going is None:
            await incoming.refuse()  # it may come again at once: `_Target.dial`
            return
        for other in going:
            self._shaking[other][1].cancel()
        handshake = self._tasks.start(self._handshake(incoming, number, scope), "greeting")
        self._shaking[number] = self._now(), handshake

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _handshake(self, incoming: Any, number: int, scope: int) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                raw = await (await incoming.accept()).connect()
            connection = self._adopt(raw, scope)
        except (*WHEEL_ERRORS, TimeoutError):
            return  # a stranger who did not get through: nothing of ours has begun
        finally:
            self._handshakes.leave(number)
            del self._shaking[number]
        if self._is_closed or self._accepted.full():
            connection.close(CloseCode.LIMIT, "too many connections at once")
        else:
            self._accepted.put_nowait(connection)

    def _adopt(self, raw: Any, scope: int) -> "QuicConnection":
        connection = QuicConnection(raw, self._tasks, scope)
        self._live[connection] = None
        self._watcher.begin(connection)
        self._tasks.start(self._watch(connection), "watching a connection")
        return connection

    async def _watch(self, connection: "QuicConnection") -> None:
        await connection.watch()
        if connection.was_given_up:
            loop = asyncio.get_running_loop()
            self._rest_until[connection.peer] = loop.time() + REST_S
            loop.call_later(2 * REST_S, self._rest_until.pop, connection.peer, None)
        if self._live.pop(connection, connection) is None:
            last = connection.stats()
            self._sent_bytes += last.sent_bytes
            self._received_bytes += last.received_bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """Where one dial goes, from which endpoint."""

    endpoint: Any
    aim: Any
    scope: int = 0

    async def dial(self) -> tuple[Any, int]:
        """The connection, and its scope.

        A node under a storm refuses whoever comes from an address that comes too often, before anybody could say who it
        is. That costs both sides next to nothing, so who is refused comes again: one of a few times is a turn.
        """
        pause_s, longest_s = REFUSED_AGAIN_S
        for _ in range(REFUSED_TRIES_MAX - 1):
            try:
                return await self.endpoint.connect(self.aim, ALPN), self.scope
            except WHEEL_ERRORS as error:
                if last_line(text_of(error)) != _REFUSED:
                    raise
            # At random, so that those who were refused together do not come again together.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            pause_s = min(longest_s, 1.5 * pause_s)
        return await self.endpoint.connect(self.aim, ALPN), self.scope


async def _bound_at(places: Sequence[str], secret_key: SecretKey) -> Any:
    """An endpoint of the wheel with a socket at each of `places` ("ip:port").

    Raises:
        TransportError: the system does not let us.
    """
    builder: Any = iroh.EndpointBuilder()  # type: ignore[no-untyped-call]
    builder.apply_minimal()
    builder.relay_mode(iroh.RelayMode.custom_from_urls([]))
    builder.alpns([ALPN])
    builder.secret_key(secret_key.seed)
    try:
        for place in places:
            builder.bind_addr(place)
        return await builder.bind()
    except WHEEL_ERRORS as error:
        raise TransportError(
            tr(
                "cannot listen on {places}: {last_line}",
                places=places[0],
                last_line=last_line(text_of(error)),
            )
        ) from None


async def _network_of(incoming: Any) -> str:
    """Where a connection comes from; by a relay: whose it claims to be, which the relay has checked."""
    address = await incoming.remote_addr()
    if address.is_ip():
        return network_of(address.addr)
    return str(address.endpoint_id) if address.is_relay() else str(address)


def _connect_text(text: str, peer: PeerId) -> str:
    if "UnknownIssuer" in text or "certificate" in text:
        return f"somebody else than {peer.short} answers there"
    return f"cannot connect to {peer.short}: {last_line(text)}"


async def _first(dials: "Iterable[asyncio.Task[T]]", timeout_s: float | None) -> T | None:
    """What the first of `dials` that succeeds returns; None when all failed or the time is up."""
    pending = set(dials)
    loop = asyncio.get_running_loop()
    until = None if timeout_s is None else loop.time() + timeout_s
    while pending:
        left_s = None if until is None else until - loop.time()
        done, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        for dial in done:
            if not dial.cancelled() and dial.exception() is None:
                return dial.result()
        if not done:
            return None
    return None


def _close_unwanted(dial: "asyncio.Task[Any]", chosen: Any) -> None:
    """A dial that succeeded beside the chosen one: its connection must not stay."""
    if not dial.cancelled() and dial.exception() is None and dial.result() is not chosen:
        dial.result()[0].close(int(CloseCode.DUPLICATE), b"")
