"""The local network as a resolver: DNS-SD (RFC 6763) over multicast DNS (RFC 6762), with the `zeroconf` library.

Every node is an instance `<peer id>._coterie._udp.local.` whose TXT carries its signed record, cut into the strings
`r0=`, `r1=`, ... What is not signed by the peer it names is ignored. Besides it only `i=` is read, the public numbers
of open invitations: a hint that anybody can fake, and that leads to no more than a connection attempt.
A peer that was killed stays announced for minutes: this is discovery, not liveness.
"""

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from coterie.errors import LimitExceeded, UsageError
from coterie.identity import PeerId
from coterie.net.find.resolver import LINK_NAME, Found
from coterie.rate import Rate
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.record import PeerRecord, RecordRefused, split_address

SERVICE_TYPE = "_coterie._udp.local."
INTERFACES_EVERY_S = 5.0  # guess: a cable that was plugged in is noticed before its owner wonders
RETRY_FIRST_S = 2.0  # guess: where multicast DNS could not start, as before a network is up; doubles up to
RETRY_MAX_S = 60.0  # one attempt a minute
RESOLVE_S = 2.0  # measured: answers take 0.1 s; a responder holds back what it said within the last second
QUERY_EVERY_S = 0.9  # so that one packet may be lost
CLOSE_S = 1.0  # measured: the goodbye takes 0.25 s
PEERS_SEEN_MAX = 512  # guess: ten times a large office
ASKS_MAX = 32  # guess: announcements without their TXT being asked for at once
RECORDS_PER_S = 50.0  # guess: 100 us each to verify, so 0.5 % of a core
RECORDS_BURST = 256  # guess: everybody on a large network answers at once
INVITATIONS_MAX = 16  # guess: open invitations of one node
INVITATION_CHARS_MAX = 200  # so that they fit one TXT string
WAITING_MAX = 8  # records of one peer waiting for one `resolve`

_TXT_BYTES = 250  # of a TXT string's 255, besides "rN="
_TYPE_TXT = 16  # RFC 1035
_CLASS_IN = 1
_FLAGS_QUERY = 0

_log = logging.getLogger(__name__)


class MdnsResolver:
    """Announces this node on the local network and hears who else is there. See `net.resolver.Resolver`."""

    name = LINK_NAME
    is_public = False

    def __init__(
        self,
        peer: PeerId,
        *,
        bind_ip: str = "0.0.0.0",  # noqa: S104 - as peers are to reach us
        tasks: Tasks | None = None,
    ) -> None:
        """`bind_ip`: the address for peers; one of loopback keeps announcements on loopback too."""
        self._peer = peer
        self._ip = ipaddress.ip_address(bind_ip)
        self._found: Found = lambda raw: None
        self._record: bytes | None = None
        self._fresh = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tasks = tasks or Tasks(self.name)
        self._asks = 0
        self._zeroconf: Any = None
        self._browser: Any = None
        self._service: Any = None
        self._repeats: asyncio.Future[Any] | None = None
        self._numbers: tuple[int, ...] = ()
        self._changes = 0
        self._inviting: dict[PeerId, tuple[int, ...]] = {}
        self._news = asyncio.Event()
        self._seen: OrderedDict[PeerId, bytes] = OrderedDict()
        self._waiting: dict[PeerId, list[asyncio.Queue[bytes]]] = {}
        self._rate = Rate(RECORDS_PER_S, RECORDS_BURST)
        self.problem = ""

    @property
    def seen(self) -> list[PeerId]:
        """Peers announced now, the newest announcement last; those killed lately are still among them."""
        return list(self._seen)

    async def start(self, found: Found) -> None:
        """Begin in the background; `problem` says what stands in the way, if anything does."""
        if self._task is not None:
            raise UsageError(tr("the local network is being watched already"))
        self._found = found
        self._task = self._tasks.keep(self._run, "multicast DNS")

    async def publish(self, record: bytes) -> None:
        """Announce `record`, in the background."""
        if record != self._record:
            self._record = record
            self._fresh.set()

    def announce_invitations(self, numbers: Sequence[int]) -> None:
        """Announce that this node invites under these public `numbers` from now on; none: it does not.

        Raises:
            LimitExceeded: more than `INVITATIONS_MAX`.
        """
        if len(numbers) > INVITATIONS_MAX:
            raise LimitExceeded(
                tr(
                    "{invitations_max} invitations are open already (INVITATIONS_MAX)",
                    invitations_max=INVITATIONS_MAX,
                )
            )
        if tuple(numbers) != self._numbers:
            self._numbers = tuple(numbers)
            self._changes += 1
            self._fresh.set()

    async def find_inviters(self, number: int) -> AsyncGenerator[tuple[PeerId, Sequence[str]], None]:
        """Peers that announce an invitation under `number`, with their addresses, as they are found; endless."""
        given: dict[PeerId, tuple[str, ...]] = {}
        while True:
            self._news.clear()
            for peer, numbers in list(self._inviting.items()):
                raw = self._seen.get(peer)
                addresses = PeerRecord.read(raw).direct if raw is not None else ()
                if number in numbers and addresses and given.get(peer) != addresses:
                    given[peer] = addresses
                    yield peer, addresses
            await self._news.wait()

    async def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        """What is announced for `peer`, and what its answers bring within `RESOLVE_S`."""
        if peer in self._seen:
            yield self._seen[peer]
        queue: asyncio.Queue[bytes] = asyncio.Queue(WAITING_MAX)
        self._waiting.setdefault(peer, []).append(queue)
        loop = asyncio.get_running_loop()
        end = loop.time() + RESOLVE_S
        try:
            while (left := end - loop.time()) > 0:
                self._query(peer)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(QUERY_EVERY_S, left)):
                        yield await queue.get()
        finally:
            self._waiting[peer].remove(queue)
            if not self._waiting[peer]:
                del self._waiting[peer]

    async def close(self) -> None:
        """Say goodbye and stop."""
        await self._tasks.close()
        self._task = None
        await self._end()

    # ---- running

    async def _run(self) -> None:
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._end()  # what a failure left open
                await self._begin()
                self.problem, wait_s = "", RETRY_FIRST_S
                await self._follow()
            except OSError as error:
                self.problem = f"multicast DNS does not work here: {error.strerror or error}"
            except RuntimeError as error:  # the library's word for "no usable interface"
                self.problem = f"multicast DNS does not work here: {error}"
            _log.info("%s; trying again in %g s", self.problem, wait_s)
            await self._end()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_MAX_S)

    async def _begin(self) -> None:
        """Open the sockets and browse."""
        zeroconf = await asyncio.to_thread(_load)  # 0.1 s, off the start of the node
        self._service = None
        self._zeroconf = self._open(zeroconf)
        made = self._zeroconf.zeroconf
        self._browser = zeroconf.asyncio.AsyncServiceBrowser(made, [SERVICE_TYPE], handlers=[self._changed])
        if self._record is not None:
            self._fresh.set()

    def _open(self, zeroconf: Any) -> Any:
        interfaces: Any = zeroconf.InterfaceChoice.All
        if self._ip.is_loopback:
            interfaces = ["127.0.0.1"] if self._ip.version == 4 else ["::1"]
        elif not self._ip.is_unspecified:
            interfaces = [str(self._ip)]
        versions = zeroconf.IPVersion
        one = versions.V4Only if self._ip.version == 4 else versions.V6Only
        if not self._ip.is_unspecified:
            return zeroconf.asyncio.AsyncZeroconf(interfaces=interfaces, ip_version=one)
        try:
            return zeroconf.asyncio.AsyncZeroconf(interfaces=interfaces, ip_version=versions.All)
        except OSError:  # a system without IPv6
            return zeroconf.asyncio.AsyncZeroconf(interfaces=interfaces, ip_version=versions.V4Only)

    async def _follow(self) -> None:
        """Announce every new record, and follow the interfaces that come and go."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERFACES_EVERY_S):
                    await self._fresh.wait()
            if self._fresh.is_set():
                self._fresh.clear()
                await self._announce()
            elif self._ip.is_unspecified:
                await self._zeroconf.zeroconf.async_update_interfaces()

    async def _announce(self) -> None:
        if self._record is None:
            return
        info = self._describe(self._record)
        if self._service is None:
            # A peer id is nobody else's name: no probing, which would take a second.
            announcing = self._zeroconf.async_register_service(info, cooperating_responders=True)
        else:
            announcing = self._zeroconf.async_update_service(info)
        await self._stop_repeating()
        self._service = info
        self._repeats = await announcing

    def _describe(self, record: bytes) -> Any:
        """The service instance that carries `record`; its host name and addresses are for other tools."""
        from zeroconf.asyncio import AsyncServiceInfo

        pieces = [record[at : at + _TXT_BYTES] for at in range(0, len(record), _TXT_BYTES)]
        properties: dict[str, bytes] = {f"r{number}": piece for number, piece in enumerate(pieces)}
        if self._numbers:
            properties["i"] = ",".join(map(str, self._numbers)).encode()
        if self._changes:  # caches of others take an earlier text that comes again for the old one
            properties["c"] = str(self._changes).encode()
        addresses, port = _announced(record)
        return AsyncServiceInfo(
            SERVICE_TYPE,
            _instance(self._peer),
            port=port,
            properties=properties,
            server=f"{self._peer}.local.",
            parsed_addresses=addresses,
        )

    async def _end(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        await self._stop_repeating()
        if zeroconf is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                if browser is not None:
                    await browser.async_cancel()
                await zeroconf.async_close()
        except (TimeoutError, OSError):
            _log.debug("no goodbye on the local network: others will notice later")
        finally:
            zeroconf.zeroconf.close()  # the sockets, however far the goodbye came; does nothing the second time
            await asyncio.sleep(0)

    async def _stop_repeating(self) -> None:
        """The library says everything three times; what is out of date need not be said again."""
        repeats, self._repeats = self._repeats, None
        if repeats is not None:
            repeats.cancel()
            await asyncio.gather(repeats, return_exceptions=True)

    # ---- hearing

    def _changed(self, *, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        """Something was announced, changed or withdrawn."""
        peer = _peer_of(name)
        if peer is None:
            return
        if peer == self._peer:
            self._hear_own(zeroconf, service_type, name)
            return
        if state_change.name == "Removed":
            self._seen.pop(peer, None)
            self._inviting.pop(peer, None)
            return
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(service_type, name)
        info.load_from_cache(zeroconf)
        if not self._take(peer, info.properties) and self._asks < ASKS_MAX and peer not in self._seen:
            self._asks += 1
            self._tasks.start(self._ask(peer, info, zeroconf), "asking for a record")

    def _hear_own(self, zeroconf: Any, service_type: str, name: str) -> None:
        """Under our name: what we said ourselves, or what a computer with a copy of our key says."""
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(service_type, name)
        info.load_from_cache(zeroconf)
        raw = _join(info.properties)
        if raw and raw != self._record and self._rate.take(asyncio.get_running_loop().time()):
            self._found(raw)

    async def _ask(self, peer: PeerId, info: Any, zeroconf: Any) -> None:
        """For the TXT that did not come with the announcement."""
        try:
            with suppress(OSError):
                await info.async_request(zeroconf, RESOLVE_S * 1000)
        finally:
            self._asks -= 1
        self._take(peer, info.properties)

    def _take(self, peer: PeerId, properties: Any) -> bool:
        """Whether `properties` hold a record; a sound one of `peer` is noted and handed on."""
        raw = _join(properties)
        if not raw:
            return False
        if self._seen.get(peer) != raw:
            if not self._rate.take(asyncio.get_running_loop().time()) or self._found(raw) != peer:
                return True
            for queue in self._waiting.get(peer, ()):
                if not queue.full():
                    queue.put_nowait(raw)
        self._seen[peer] = raw
        self._seen.move_to_end(peer)
        self._inviting[peer] = _numbers(properties.get(b"i"))
        while len(self._seen) > PEERS_SEEN_MAX:
            leaving, _ = self._seen.popitem(last=False)
            self._inviting.pop(leaving, None)
        self._news.set()
        return True

    def _query(self, peer: PeerId) -> None:
        if self._zeroconf is None:
            return
        zeroconf = _load()
        out = zeroconf.DNSOutgoing(_FLAGS_QUERY)
        out.add_question(zeroconf.DNSQuestion(_instance(peer), _TYPE_TXT, _CLASS_IN))
        self._zeroconf.zeroconf.async_send(out)


def _load() -> Any:
    """The library's names, imported where it is really used: it takes a tenth of a second."""
    import zeroconf
    import zeroconf.asyncio

    return zeroconf


def _instance(peer: PeerId) -> str:
    return f"{peer}.{SERVICE_TYPE}"


def _peer_of(name: str) -> PeerId | None:
    label, _, rest = name.partition(".")
    if rest.lower() != SERVICE_TYPE:
        return None
    try:
        return PeerId.parse(label)
    except UsageError:
        return None


def _join(properties: Any) -> bytes:
    """The record from its TXT strings; empty when the first is not there."""
    pieces = []
    for number in range(len(properties)):
        piece = properties.get(f"r{number}".encode())
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


def _numbers(text: bytes | None) -> tuple[int, ...]:
    """The numbers of "7,12"; none for anything else."""
    if not text or len(text) > INVITATION_CHARS_MAX:
        return ()
    numbers = text.split(b",")
    if len(numbers) > INVITATIONS_MAX or not all(n.isdigit() for n in numbers):
        return ()
    return tuple(map(int, numbers))


def _announced(record: bytes) -> tuple[list[str], int]:
    """IPs and port for the host's address and service records, which only other tools look at."""
    try:
        mine = PeerRecord.read(record)
    except RecordRefused:
        return [], 0
    split = [split_address(address) for address in mine.direct]
    return [str(ip) for ip, _ in split], split[0][1] if split else 0
