"""The one session that moves the bytes of all torrents of the node. It starts when first needed: it opens a port."""

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path

from coterie.apps.context import Context, Network
from coterie.content.bittorrent.session import (
    BitTorrentSession,
    Event,
    Listening,
    Moved,
    PeerSeen,
    Removed,
    TorrentEvent,
)
from coterie.content.bittorrent.settings import SessionOptions
from coterie.errors import StorageError, TransportError
from coterie.private_file import write_private
from coterie.texts import tr
from coterie.transfer.limits import Limits

REMOVED_S = 10.0  # measured: 0.1 s
BEAT_S = 0.5  # between two looks at how torrents stand
WITH_OTHERS = 0.5  # of the limit for what goes to others, while shares are given in other ways too; guess


class Engine:
    """Opens the session, closes it, and hands what it tells to whose torrent it is. Belongs to the event loop."""

    def __init__(self, context: Context, limits: Limits, is_giving: Callable[[], bool]) -> None:
        """`limits` of all transfers together; `is_giving`: whether shares are given in other ways now."""
        self.folder = context.data.folder / "torrents"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._context = context
        self._limits = limits
        self._is_giving = is_giving
        self._owners: dict[
            str, Callable[[TorrentEvent], None]
        ] = {}  # by what the keys of their torrents begin with
        self._session: BitTorrentSession | None = None
        self._opening = asyncio.Lock()
        self._gone: dict[str, asyncio.Event] = {}
        self._sent: dict[str, int] = {}  # bytes so far, by key
        self.peers: dict[str, int] = {}
        """How many computers each torrent is connected with, by its key."""
        self._hastened: set[str] = set()  # keys of torrents that are played
        self._is_closed = False
        context.local.claim(self._ports)

    def _ports(self) -> dict[tuple[str, int], str]:
        with contextlib.suppress(TransportError):  # it is stopping
            number = self._session.port if self._session is not None else 0
            return dict.fromkeys((("tcp", number), ("udp", number)), "BitTorrent") if number else {}
        return {}

    def own(self, prefix: str, take: Callable[[TorrentEvent], None]) -> None:
        """`take` gets what is told of torrents whose keys begin with `prefix`."""
        self._owners[prefix] = take

    @property
    def is_open(self) -> bool:
        """Whether the session runs."""
        return self._session is not None

    @property
    def network(self) -> Network | None:
        """None while the node is offline."""
        return self._context.net.reach

    async def close(self) -> None:
        """End the session, and open none any more."""
        self._is_closed = True
        async with self._opening:
            if self._session is not None:
                session, self._session = self._session, None
                await asyncio.to_thread(session.close)

    async def opened(self) -> BitTorrentSession:
        """The session, started now if it was not yet.

        Raises:
            TransportError: the node is offline, or it cannot start.
        """
        async with self._opening:
            network = self._context.net.reach
            if network is None or self._is_closed:
                raise TransportError(tr("this node is offline"))
            if self._session is None:
                loop = asyncio.get_running_loop()

                def tell(event: Event) -> None:
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        loop.call_soon_threadsafe(self._take, event)

                options = SessionOptions(
                    is_open=network.level == "internet",
                    bind_ip=network.bind,
                    port=_remembered(self.folder / "port"),
                    dht_nodes=network.dht_nodes,
                    dht_private=network.dht_private,
                )
                self._session = await asyncio.to_thread(BitTorrentSession, options, tell)
                self._context.jobs.start(self._beat(self._session), "how torrents stand")
            return self._session

    async def remove(self, key: str) -> None:
        """Leave a torrent, and wait until the session has let go of its files."""
        self.peers.pop(key, None)
        self._sent.pop(key, None)
        if self._session is not None and self._session.has(key):
            gone = self._gone[key] = asyncio.Event()
            self._session.remove(key)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMOVED_S):
                    await gone.wait()
            self._gone.pop(key, None)

    def limit(self, key: str, *, down: float, up: float, weight: float) -> None:
        """Limit a torrent, bytes a second (0: no limit), and give it its part of connections."""
        if self._session is not None:
            self._session.limit(key, down=down, up=up, weight=weight)

    def hasten(self, key: str, *, is_on: bool) -> None:
        """Whether somebody reads of a torrent while it arrives: then what is wanted now is to come soon."""
        was_on = bool(self._hastened)
        if is_on:
            self._hastened.add(key)
        else:
            self._hastened.discard(key)
        if self._session is not None and was_on != bool(self._hastened):
            self._session.hasten(is_on=not was_on)

    async def seen(self, key: str) -> tuple[list[PeerSeen], int, tuple[int, int]]:
        """See `BitTorrentSession.seen`."""
        if self._session is None:
            return [], 0, (0, 0)
        return await asyncio.to_thread(self._session.seen, key)

    async def addresses(self) -> list[str]:
        """Where programs reach us, "host:port"; none while offline."""
        port = (await self.opened()).port if self._context.net.reach is not None else 0
        hosts = _hosts(self._context.net.reach, self._context.me.addresses())
        return [f"{host}:{port}" for host in hosts] if port else []

    async def _beat(self, session: BitTorrentSession) -> None:
        limit_now = 0.0
        while self._session is session:
            up = self._limits.up.bytes_per_s
            wanted = up * WITH_OTHERS if up and self._is_giving() else up
            if wanted != limit_now:
                limit_now = wanted
                session.limit_all(wanted)
            session.look()
            await asyncio.sleep(BEAT_S)

    def _take(self, event: Event) -> None:
        match event:
            case Listening(port):
                with contextlib.suppress(StorageError):
                    write_private(self.folder / "port", str(port).encode())
                return
            case Removed(key) if key in self._gone:
                self._gone[key].set()
                return
            case Moved(key, peers=peers, sent=sent):
                more = sent - self._sent.get(key, sent)
                self._sent[key], self.peers[key] = sent, peers
                if more > 0:
                    self._limits.up.take(more, asyncio.get_running_loop().time())
        for prefix, take in self._owners.items():
            if event.key.startswith(prefix):
                take(event)


def _hosts(network: Network | None, addresses: Sequence[str]) -> list[str]:
    """Where this computer is, for other programs; loopback only where there is nothing else."""
    if network is not None and not ipaddress.ip_address(network.bind).is_unspecified:
        return [f"[{network.bind}]" if ":" in network.bind else network.bind]
    hosts = list(dict.fromkeys(address.rpartition(":")[0] for address in addresses))
    outside = [host for host in hosts if not ipaddress.ip_address(host.strip("[]")).is_loopback]
    return outside or hosts


def _remembered(path: Path) -> int:
    """The port of last time, which links name; 0 when there is none."""
    with contextlib.suppress(OSError, ValueError):
        port = int(path.read_text(encoding="ascii"))
        return port if 0 < port < 65536 else 0
    return 0
