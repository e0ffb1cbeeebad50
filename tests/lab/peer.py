"""A coterie node as a program: takes commands as JSON lines, prints events as JSON lines.

    python -m tests.lab.peer '{"number": 3, "relays": ["http://198.51.100.2:8080"], "mdns": true}'

Settings: `number` (which key), `port`, `relays` (URLs to be reachable through), `serves` (the TCP port of a relay of
its own), `alone` (it has neither, knows nobody, and binds by itself: then `maps` says whether its router may map its
port; `directory`: first nodes of a DHT that it uses; `looks_s`: how often it looks there for knocks), `mdns` (whether
to be found on the local network), `folder` (where its files and its key are, instead of a temporary one), `follows`
(false: it says nothing of paths, for looking 50 times a second at each of many connections takes a processor).

Commands, with "peer" each: {"do": "connect", "addresses": [...]} ("by_right": as one who may ask the peer to dial
back), {"do": "fetch", "addresses": [...], "bytes": ...} (one stream; "bulk": the same in a thread, over lanes where
they can be; "fetched" says how many bytes came which way), {"do": "close"}; with the files app {"do": "share",
"bytes": ...} (or "path"), {"do": "get", "ticket": ...}, {"do": "limit", "up": bytes/s}; and {"do": "status"}.
It ends when its input ends.

Events: "ready" with the peer's id and addresses; "up" and "down" for connections; "path" whenever a connection's path
changes; "observed" when it believes other addresses of itself; "found" for peers on the local network; "connected",
"closed"; "status"; "first_byte", "progress" and "fetched" for a fetch or a get; "shared" with a ticket; "failed".
Every event has `s`, seconds since the program began, and `at`, the machine's monotonic clock; those of a command have
its `id`.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import blake3

from coterie.apps.command import Progress
from coterie.errors import CoterieError
from coterie.identity import PeerId, SecretKey
from coterie.net import BulkStream, Connection, Endpoint
from coterie.net.find import knocks, mainline
from coterie.net.find.mainline import MainlineResolver
from coterie.net.find.mdns import MdnsResolver
from coterie.net.quic.transport import QuicTransport
from coterie.net.relay.home import HomeRelays
from coterie.net.relay.server import RelayServer
from coterie.net.stream import Stream
from coterie.node import Node
from coterie.reach import WATCH_EVERY_S, Reach
from coterie.wire import Protocol
from coterie.wire.frames import Bulk, Message
from coterie.wire.knock import REFERENCE_BYTES, Right

PATH_POLL_S = 0.02
SELDOM_S = 0.5  # how often one that does not follow paths looks around
PROGRESS_S = 0.2
DIRECTORY_S = 80.0  # two records after each other, and each takes 15 s with dead nodes about
RIGHT = Right(
    bytes(REFERENCE_BYTES), b"laboratory, here"
)  # of a ticket that every peer has given to every other
PIECE_BYTES = 64 * 1024


class Ask(Message, frozen=True):
    """Send me so many bytes."""

    size: int


BYTES = Protocol("lab-bytes", (1,), {1: Ask}, frozenset({2}))


def key_of(number: int) -> SecretKey:
    """The key of the numbered peer: the same in every process, so that ids need not be exchanged."""
    return SecretKey(number.to_bytes(32, "big"))


def piece(offset: int, size: int) -> bytes:
    """What belongs at `offset`: no two places alike, so that a lost or doubled piece is noticed."""
    return offset.to_bytes(8, "big") * (size // 8) + bytes(size % 8)


def digest_of(size: int) -> str:
    """BLAKE3 of the first `size` bytes that every peer serves."""
    hasher = blake3.blake3()
    for offset in range(0, size, PIECE_BYTES):
        hasher.update(piece(offset, min(PIECE_BYTES, size - offset)))
    return hasher.hexdigest()


class Peer:
    """The endpoint and what is said about it."""

    def __init__(self, node: Node, folder: Path, *, follows_paths: bool = True) -> None:
        assert node.endpoint is not None
        assert node.reach is not None
        self._node = node
        self._folder = folder
        self._follows_paths = follows_paths
        self._endpoint: Endpoint = node.endpoint
        self._reach: Reach = node.reach
        self._since = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        node.knock_rights.append(lambda reference: [RIGHT.secret] if reference == RIGHT.reference else [])
        self._endpoint.register(BYTES, self._serve, strangers=True)
        self._endpoint.watch(up=self._on_up, down=lambda c: self.say("down", peer=str(c.peer)))

    def say(self, event: str, **facts: Any) -> None:
        """Print one event."""
        facts = {
            "event": event,
            "s": round(time.monotonic() - self._since, 4),
            "at": time.monotonic(),
            **facts,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    async def obey(self, lines: asyncio.StreamReader) -> None:
        """Carry out commands until there are no more."""
        while line := await lines.readline():
            command = json.loads(line)
            self._start(self._carry_out(command))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, command: dict[str, Any]) -> None:
        begun = time.monotonic()
        tag = {"id": command.get("id")}
        try:
            match command.pop("do"):
                case "connect":
                    peer = PeerId.parse(command["peer"])
                    right = RIGHT if command.get("by_right") else None
                    connection = await self._reach.connect(peer, command.get("addresses", ()), right=right)
                    self.say("connected", took_s=time.monotonic() - begun, **tag, **_path(connection))
                case "status":
                    self.say("status", text=self._node.status().text(), **tag)
                case "fetch":
                    await self._fetch(command, begun)
                case "bulk":
                    await self._bulk(command, begun)
                case "share":
                    await self._share(command, tag)
                case "get":
                    await self._get(command["ticket"], begun, tag)
                case "limit":
                    self._node.files.limits.change(
                        up=command["up"], down=None, up_hours=None, down_hours=None
                    )
                    self.say("limited", **tag)
                case "close":
                    for connection in self._endpoint.connections:
                        if str(connection.peer) == command["peer"]:
                            connection.close()
                            await connection.closed()
                    self.say("closed", **tag)
        except (CoterieError, TimeoutError) as error:
            self.say(
                "failed", error=f"{type(error).__name__}: {error}", took_s=time.monotonic() - begun, **tag
            )

    async def _fetch(self, command: dict[str, Any], begun: float) -> None:
        peer, size, tag = PeerId.parse(command["peer"]), int(command["bytes"]), {"id": command.get("id")}
        connection = await self._reach.connect(peer, command.get("addresses", ()))
        hasher, got, said = blake3.blake3(), 0, begun
        async with await connection.open_stream(BYTES) as stream:
            await stream.send(Ask(size))
            while got < size and (batch := await stream.receive_batch()):
                for frame in batch:
                    assert isinstance(frame, Bulk)
                    hasher.update(frame.data)
                    got += len(frame.data)
                now = time.monotonic()
                if got and said == begun:
                    said = now
                    self.say("first_byte", took_s=now - begun, **tag, **_path(connection))
                if now - said > PROGRESS_S:
                    said = now
                    self.say("progress", bytes=got, took_s=now - begun, **tag, **_path(connection))
        took_s = time.monotonic() - begun
        self.say("fetched", bytes=got, digest=hasher.hexdigest(), took_s=took_s, **tag, **_path(connection))

    async def _bulk(self, command: dict[str, Any], begun: float) -> None:
        peer, size, tag = PeerId.parse(command["peer"]), int(command["bytes"]), {"id": command.get("id")}
        connection = await self._reach.connect(peer, command.get("addresses", ()))
        hasher, ways = blake3.blake3(), dict[str, int]()

        def take(bulk: BulkStream) -> None:
            bulk.send(Ask(size))
            got = 0
            while got < size and (batch := bulk.receive_batch(20.0)):
                way = "lane" if bulk.is_on_lane else "stream"
                for frame in batch:
                    assert isinstance(frame, Bulk)
                    hasher.update(frame.data)
                    got += len(frame.data)
                    ways[way] = ways.get(way, 0) + len(frame.data)

        await BulkStream(await connection.open_stream(BYTES), takes_bulk=True).drive(take)
        self.say(
            "fetched",
            took_s=time.monotonic() - begun,
            bytes=sum(ways.values()),
            digest=hasher.hexdigest(),
            ways=ways,
            **tag,
        )

    async def _share(self, command: dict[str, Any], tag: dict[str, Any]) -> None:
        path = Path(command.get("path") or self._folder / "shared")
        if "path" not in command:
            size = int(command["bytes"])
            with path.open("wb") as file:
                for offset in range(0, size, PIECE_BYTES):
                    file.write(piece(offset, min(PIECE_BYTES, size - offset)))
        item = await self._node.files.share(path)
        self.say("shared", ticket=item.ticket, **tag)

    async def _get(self, ticket: str, begun: float, tag: dict[str, Any]) -> None:
        said = 0.0

        def tell(progress: Progress) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said > PROGRESS_S:
                said = now
                self.say("progress", bytes=progress.done, note=progress.note, took_s=now - begun, **tag)

        received = await self._node.files.get(ticket, self._folder / "received", progress=tell)
        done_at = time.monotonic()
        path = Path(received.path)
        digest = "" if path.is_dir() else blake3.blake3().update_mmap(path).hexdigest()
        size = path.stat().st_size
        facts = {"bytes": size, "digest": digest, "took_s": done_at - begun, "done_at": done_at}
        self.say("fetched", **facts, **tag)

    async def _serve(self, stream: Stream) -> None:
        ask = await stream.receive()
        assert isinstance(ask, Ask)
        for offset in range(0, ask.size, PIECE_BYTES):
            body = piece(offset, min(PIECE_BYTES, ask.size - offset))
            await stream.write(BYTES.bulk_header(2, len(body)) + body)
        await stream.finish()
        await stream.receive()  # the receiver's end: closing earlier could discard the last bytes

    def _on_up(self, connection: Connection) -> None:
        self.say("up", peer=str(connection.peer), dialled=connection.is_dialled, **_path(connection))
        if self._follows_paths:
            self._start(self._follow(connection))

    async def _follow(self, connection: Connection) -> None:
        """Say so whenever the path changes."""
        last: dict[str, Any] = {}
        while not connection.is_closed:
            now = _path(connection)
            if (now["kind"], now["remote"]) != (last.get("kind"), last.get("remote")):
                self.say("path", peer=str(connection.peer), **now)
            last = now
            await asyncio.sleep(PATH_POLL_S)

    async def look_around(self, neighbours: MdnsResolver | None) -> None:
        """Say so when we believe other addresses of ourselves, and when somebody appears on the local network."""
        observed: list[str] = []
        found: set[PeerId] = set()
        while True:
            if list(self._reach.observed.believed) != observed:
                observed = list(self._reach.observed.believed)
                self.say("observed", addresses=observed)
            for peer in neighbours.seen if neighbours else ():
                if peer not in found:
                    found.add(peer)
                    self.say("found", peer=str(peer))
            await asyncio.sleep(PATH_POLL_S if self._follows_paths else SELDOM_S)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.say("broken", error=repr(error))
            raise error


def _path(connection: Connection) -> dict[str, Any]:
    path = connection.path
    return {"kind": path.kind, "remote": path.remote, "rtt_s": path.rtt_s}


async def run(settings: dict[str, Any]) -> None:
    """Be the peer of `settings` until standard input ends."""
    key = key_of(settings["number"])
    relays: list[str] = settings.get("relays", [])
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncExitStack() as stack:
        if port := settings.get("serves"):
            await stack.enter_async_context(RelayServer(may_use=lambda peer: True, port=port))
        folder = Path(
            settings.get("folder") or stack.enter_context(tempfile.TemporaryDirectory(prefix="coterie-lab-"))
        )
        home = folder / "home"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "key").write_bytes(key.seed)
        (home / "key").chmod(0o600)
        config = ['relay = "off"']  # the settings here say which relays there are
        transport: QuicTransport | None = None
        neighbours: MdnsResolver | None = None
        if settings.get("alone"):
            config += ["discovery = false", f"port_mapping = {str(bool(settings.get('maps'))).lower()}"]
            if looks_s := settings.get("looks_s"):
                knocks.BUSY_S = mainline.PUT_EVERY_S = looks_s
            if directory := settings.get("directory"):
                config += ['reach = "internet"', "dht_private = true", f'dht_bootstrap = "{directory}"']
        else:
            transport = await QuicTransport.bind(key, settings.get("port", 0), relays=relays[:1])
        (home / "config.toml").write_text("\n".join(config) + "\n")
        node = await stack.enter_async_context(Node.open(home, transport=transport))
        peer = Peer(node, folder, follows_paths=settings.get("follows", True))
        if transport is not None:
            neighbours = MdnsResolver(key.peer_id) if settings.get("mdns") else None
            await stack.enter_async_context(reaching(node, transport, relays, neighbours))
        await node.settled()
        if settings.get("directory"):
            await _known_to_directory(node)
        peer.say("ready", peer=str(node.peer_id), addresses=node.addresses)
        looking = loop.create_task(peer.look_around(neighbours))
        await peer.obey(lines)
        looking.cancel()


async def _known_to_directory(node: Node) -> None:
    """Wait until the directory has our record with the address that it sees, for `DIRECTORY_S` at most."""
    assert node.reach is not None
    (directory,) = (r for r in node.reach.resolvers if isinstance(r, MainlineResolver))
    with suppress(TimeoutError):
        async with asyncio.timeout(DIRECTORY_S):
            while not directory.seen_at:
                await asyncio.sleep(SELDOM_S)
            await asyncio.sleep(WATCH_EVERY_S)
            while not directory.is_current:
                await asyncio.sleep(SELDOM_S)


@asynccontextmanager
async def reaching(
    node: Node, transport: QuicTransport, relays: list[str], neighbours: MdnsResolver | None
) -> AsyncIterator[None]:
    """Join the node to its home relays and to the local network."""
    reach = node.reach
    assert reach is not None
    if neighbours is not None:
        await reach.add_resolver(neighbours)
    homes = HomeRelays(transport, on_change=reach.set_relays)
    transport.watch(relay_lost=homes.lost)
    homes.set_candidates(relays)
    try:
        yield
    finally:
        await homes.close()


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
