"""BitTorrent beside the node's own transfers: downloads from links and torrent files, and shares that are seeded too.

One session serves all; it starts when first needed, for `libtorrent` is large and opens a port of its own.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from coterie.apps.app import Context, Network
from coterie.apps.command import Progress
from coterie.apps.files.records import ShareRecord
from coterie.apps.files.seed_watch import WATCH_PART, WATCH_S, Seen, as_shared, first_changed
from coterie.apps.files.source import MagnetSource, TorrentFileSource
from coterie.apps.files.torrent_records import SeedRecord, TorrentRecord
from coterie.apps.files.torrent_transfer import TorrentTransfer, change_of, root_of
from coterie.content.bittorrent.hashing import hash_files
from coterie.content.bittorrent.layout import METAINFO_BYTES_MAX, Layout
from coterie.content.bittorrent.magnet import Hint, hint_of, magnet_link
from coterie.content.bittorrent.plain import plain_metainfo
from coterie.content.bittorrent.read import Source, named_in, read_torrent
from coterie.content.bittorrent.session import (
    BitTorrentSession,
    Event,
    Failed,
    Listening,
    Removed,
    SessionOptions,
    Task,
)
from coterie.content.bittorrent.torrent_file import TorrentEntry, in_order, piece_size, torrent_file
from coterie.content.listing import list_files
from coterie.content.writer import Partial, partials, staging_path
from coterie.errors import CoterieError, NotFound, StorageError, TransportError, UsageError
from coterie.private_file import write_private
from coterie.services.data.records import Records
from coterie.transfer.describe import bytes_done, state_of
from coterie.transfer.results import TransferChange, TransferLine
from coterie.transfer.stoppable import in_thread
from coterie.transfer.target import whole_target
from coterie.transfer.transfer import OnExisting, TransferState
from coterie.wire import Ticket
from coterie.wire.ticket import TicketKind

log = logging.getLogger(__name__)

SEEDS_MAX = 1_000  # guess: each takes some 50 kB of memory and an announcement every quarter of an hour
RUNNING_MAX = 50  # guess: downloads at once; beyond it they only take from each other
DONE_MAX = 100  # finished downloads that stay in the list, the newest
REMOVED_S = 10.0  # measured: 0.1 s
REACH = {
    "local": "At the reach level 'local' only computers of the local network are found",
    "circle": "At the reach level 'circle' BitTorrent finds computers of the local network only; "
    "`coterie config set reach internet`, then `coterie down` and `coterie up`, lets it use trackers and the DHT",
    "internet": "Trackers, the DHT and the local network were asked",
}

_SEED, _GET = "seed ", "get "  # what the session knows them by

Report = Callable[[Progress], None]
Received = Callable[[Path], Awaitable[ShareRecord]]


def ticket_in(link: str) -> str:
    """The ticket that a magnet link carries, where it is a public share; empty when there is none."""
    hint = hint_of(link)
    if hint is None or not hint.ticket:
        return ""
    try:
        return str(Ticket.parse(hint.ticket))
    except UsageError:  # the link is good without it
        return ""


class Torrents:
    """All torrents of the node. All methods belong to its event loop; the heavy parts run in threads."""

    def __init__(self, context: Context, shares: Records[ShareRecord], share: Received) -> None:
        """`share` makes a share of what was received, for a download that is to be shared."""
        self._context = context
        self._folder = context.home / "torrents"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._records: Records[TorrentRecord] = context.data.records("downloads", TorrentRecord, "transfer")
        self._seeds: Records[SeedRecord] = context.data.records("seeds", SeedRecord, "share")
        self._shares = shares
        self._share = share
        self._active: dict[str, TorrentTransfer] = {}
        self._seeding: dict[str, str] = {}  # key in the session by the torrent's root
        self._faults: dict[str, str] = {}
        self._watched: dict[
            str, dict[Path, Seen | None]
        ] = {}  # files as they were shared, by the torrent's root
        self._is_watching = False
        self._session: BitTorrentSession | None = None
        self._opening = asyncio.Lock()
        self._gone: dict[str, asyncio.Event] = {}
        self._is_closed = False

    @property
    def running(self) -> int:
        """How many downloads are under way."""
        return len(self._active)

    async def start(self) -> None:
        """Go on with what was under way when the node last stopped."""
        if self._context.network is None:
            return
        for record in self._records:
            if record.state in (TransferState.RUNNING, TransferState.WAITING):
                self._launch(record)
        if list(self._seeds):
            self._context.start(self._seed_all(), "seeding")

    async def close(self) -> None:
        """Stop; running downloads go on at the next start."""
        self._is_closed = True
        await asyncio.gather(*(t.stop(keep_state=True) for t in list(self._active.values())))
        async with self._opening:
            if self._session is not None:
                session, self._session = self._session, None
                await asyncio.to_thread(session.close)

    # -- downloads --

    async def begin(
        self,
        source: MagnetSource | TorrentFileSource,
        target: Path | str,
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        share: bool = False,
    ) -> TorrentTransfer:
        """Start a download in the background, or join or resume the same one.

        Raises:
            UsageError: the link or file is wrong, or the node is offline.
            NotFound: there is no such file.
        """
        if self._context.network is None:
            raise UsageError("this node is offline")
        metainfo, link = b"", ""
        peers: list[str] = []
        if isinstance(source, MagnetSource):
            link = source.link
            roots, peers = await asyncio.to_thread(named_in, link)
        else:
            metainfo = await asyncio.to_thread(_read_file, source.path)
            roots = [root_of(await asyncio.to_thread(read_torrent, metainfo))]
        self._refuse_own(roots)
        wanted_at = whole_target(target)
        record = self._known(roots, link, wanted_at)
        if record is not None and record.id in self._active:
            await self._active[record.id].meet(peers)
            return self._active[record.id]
        for other in self._active.values():
            if other.record.root in roots:
                where = other.record.target or other.record.wanted_at
                raise UsageError(f"transfer {other.record.id} is fetching this torrent to {where}")
        if len(self._active) >= RUNNING_MAX:
            raise UsageError(f"{RUNNING_MAX} torrents are being fetched already: wait for one, or pause it")
        if record is None:
            record = TorrentRecord(self._records.new_id(), link, wanted_at, time.time())
        record.on_existing, record.only, record.share = on_existing, list(only), share
        if metainfo:
            record.root = roots[0]
            await asyncio.to_thread(write_private, self._folder / f"{record.id}.torrent", metainfo)
        self._records.save(record)
        return self._launch(record)

    async def pause(self, transfer: str) -> TransferChange:
        """Stop a download and keep what arrived."""
        record = self._records.get(transfer)
        if (running := self._active.get(transfer)) is not None:
            await self._stop(running, "paused")
        elif record.state in (TransferState.RUNNING, TransferState.WAITING):
            record.state = TransferState.PAUSED
            self._records.save(record)
        elif record.state == TransferState.DONE:
            raise UsageError(f"transfer {transfer} is done: {record.target}")
        return change_of(record, "paused")

    async def resume(self, transfer: str) -> TransferChange:
        """Go on with a paused or failed download."""
        record = self._records.get(transfer)
        if record.state == TransferState.DONE:
            raise UsageError(f"transfer {transfer} is done: {record.target}")
        if transfer not in self._active:
            self._launch(record)
        return change_of(record, "resumed")

    async def cancel(self, transfer: str) -> TransferChange:
        """End a download for good: what arrived of an unfinished one is removed, and it leaves the list."""
        record = self._records.get(transfer)
        if (running := self._active.get(transfer)) is not None:
            await self._stop(running, "cancelled")
        done = record.state == TransferState.DONE
        if not done:
            await asyncio.to_thread(self._make(record).discard)
        self._records.remove(transfer)
        return change_of(record, "forgotten" if done else "cancelled")

    def lines(self) -> list[tuple[float, TransferLine]]:
        """Every download that is not forgotten, each with when it was made."""
        return [(record.created, self._line(record)) for record in self._records]

    def has(self, transfer: str) -> bool:
        """Whether `transfer` is a download of ours."""
        return any(record.id == transfer for record in self._records)

    def partials(self) -> list[Partial]:
        """What unfinished downloads have on disk so far."""
        found: list[Partial] = []
        for r in self._records:
            if r.state != TransferState.DONE and r.target and r.root:
                target = Path(r.target)
                path = staging_path(target.parent, target.name, r.staging or bytes.fromhex(r.root))
                with contextlib.suppress(OSError):  # a disk that is not there now
                    found += [one for one in partials(target.parent) if one.path == path]
        return found

    # -- seeds --

    async def offer(
        self,
        share: ShareRecord,
        *,
        trackers: Sequence[str] = (),
        public: bool = False,
        hybrid: bool = True,
        progress: Report | None = None,
    ) -> SeedRecord:
        """Make a torrent of a share, if it has none, and seed it from where the files are.

        Raises:
            StorageError: a file changed since it was shared.
            LimitExceeded: it has too many files for a torrent, or there are `SEEDS_MAX` already.
        """
        seed = self._seeds.get(share.id) if self.is_seeded(share.id) else None
        is_of_this = seed is not None and share.updated <= seed.created
        if seed is not None and is_of_this and (seed.trackers, bool(seed.v2)) == (list(trackers), hybrid):
            seed.public = public
            self._seeds.save(seed)
            await self._seed(seed)
            return seed
        source = await in_thread(
            lambda stop: self._make_torrent(share, tuple(trackers), progress, stop, hybrid=hybrid)
        )
        return await self._keep_seed(share, source, public=public, trackers=trackers)

    async def follow(self, share: ShareRecord, *, progress: Report | None = None) -> None:
        """Make the torrent of a share anew, where it has one of other content. Errors as `offer`."""
        seed = self._seeds.get(share.id) if self.is_seeded(share.id) else None
        if seed is None or share.updated <= seed.created:
            return
        await self.withdraw(share.id)
        await self.offer(
            share, trackers=seed.trackers, public=seed.public, hybrid=bool(seed.v2), progress=progress
        )

    async def withdraw(self, share_id: str) -> None:
        """Stop seeding a share; nothing when it is not seeded."""
        if not self.is_seeded(share_id):
            return
        seed = self._seeds.get(share_id)
        self._seeds.remove(share_id)
        self._metainfo(share_id).unlink(missing_ok=True)
        root = seed.v2 or seed.v1
        if self._seeding.get(root) != share_id:
            return
        await self._let_go(root)
        heir = next((s for s in self._seeds if (s.v2 or s.v1) == root), None)
        if heir is not None:
            await self._seed(heir)

    def is_seeded(self, share_id: str) -> bool:
        """Whether the share has a torrent."""
        return any(seed.id == share_id for seed in self._seeds)

    def state_of(self, share_id: str) -> str:
        """What the list of shares adds to the state of this one; empty when it has no torrent."""
        if not self.is_seeded(share_id):
            return ""
        fault = self._faults.get(share_id)
        return f"; not on BitTorrent: {fault}" if fault else ", BitTorrent"

    async def magnet(self, share: ShareRecord, ticket: str) -> str:
        """The magnet link of a share.

        Raises:
            NotFound: it has no torrent.
        """
        if not self.is_seeded(share.id):
            raise NotFound(f"'{share.name}' has no torrent: coterie share --bittorrent {share.path}")
        seed = self._seeds.get(share.id)
        hint = Hint(ticket=ticket) if seed.public else Hint(content_id=share.root)
        port = (await self._opened()).port if self._context.network is not None else 0
        hosts = _hosts(self._context.network, self._context.addresses())
        return magnet_link(
            bytes.fromhex(seed.v1),
            bytes.fromhex(seed.v2),
            share.name,
            size=share.size,
            trackers=seed.trackers,
            peers=[f"{host}:{port}" for host in hosts] if port else [],
            hint=hint,
        )

    def torrent_path(self, share_id: str) -> Path:
        """Where the torrent file of a share is."""
        return self._metainfo(share_id)

    # -- inside --

    def _make_torrent(
        self,
        share: ShareRecord,
        trackers: tuple[str, ...],
        report: Report | None,
        stop: threading.Event,
        *,
        hybrid: bool,
    ) -> Source:
        top, is_folder = Path(os.path.realpath(share.path)), share.kind == TicketKind.TREE
        entries = [TorrentEntry((share.name,), share.size, share.executable)]
        if is_folder:
            listed = list_files(share.root, self._context.store.manifest)
            entries = in_order([TorrentEntry(path, e.size, e.executable) for path, e in listed])
        piece = piece_size([entry.size for entry in entries])

        def tell(done: int) -> None:
            if report is not None:
                report(Progress(phase="hashing for BitTorrent", done=done, total=share.size))

        hashes = hash_files(top, entries, piece, is_folder=is_folder, progress=tell, cancel=stop)
        made = torrent_file(
            share.name, entries, hashes, piece, is_folder=is_folder, trackers=trackers, hybrid=hybrid
        )
        return read_torrent(made.metainfo)

    async def _keep_seed(
        self,
        share: ShareRecord,
        source: Source,
        *,
        public: bool = False,
        trackers: Sequence[str] = (),
        renamed: dict[int, str] | None = None,
    ) -> SeedRecord:
        if len(list(self._seeds)) >= SEEDS_MAX:
            raise UsageError(f"{SEEDS_MAX} shares are seeded already: unshare one first")
        if self.is_seeded(share.id):
            await self.withdraw(share.id)
        seed = SeedRecord(
            id=share.id,
            created=time.time(),
            path=share.path,
            v1=source.v1.hex(),
            v2=source.v2.hex(),
            trackers=list(trackers),
            renamed=renamed or {},
            public=public,
        )
        await asyncio.to_thread(write_private, self._metainfo(share.id), source.metainfo)
        self._seeds.save(seed)
        await self._seed(seed)
        return seed

    async def _seed_all(self) -> None:
        shared = {share.id for share in self._shares}
        for seed in self._seeds:
            if seed.id not in shared:  # unshared while no node ran
                await self.withdraw(seed.id)
                continue
            try:
                await self._seed(seed)
            except CoterieError as error:
                self._faults[seed.id] = str(error)
                log.warning("share %s is not seeded: %s", seed.id, error)

    async def _seed(self, seed: SeedRecord) -> None:
        """Seed it from where it is; what is seeded already under the same hash serves for both."""
        root = seed.v2 or seed.v1
        if self._context.network is None or root in self._seeding:
            return
        session = await self._opened()
        source = await asyncio.to_thread(lambda: read_torrent(self._metainfo(seed.id).read_bytes()))
        top = Path(os.path.realpath(seed.path))
        places = {
            file.index: os.path.join(top.name, *[seed.renamed.get(file.index) or os.path.join(*file.path)])
            if file.path
            else top.name
            for file in source.files
            if not file.hidden and not file.is_link
        }
        self._faults.pop(seed.id, None)
        paths = [top.parent / place for place in places.values()]
        files = await asyncio.to_thread(as_shared, self._context.store, paths)
        if (changed := await asyncio.to_thread(first_changed, files)) is not None:
            raise StorageError(f"{changed} changed after it was shared: share it again")
        if root in self._seeding:
            return
        session.fetch(
            _seed_key(seed.id), source, Task(folder=str(top.parent), places=places, is_complete=True)
        )
        self._seeding[root] = seed.id
        self._watched[root] = files
        if not self._is_watching:
            self._is_watching = True
            self._context.start(self._watch(), "seeded files")

    async def _watch(self) -> None:
        """Stop seeding what was edited: the library checks each piece once, and would serve what is there later."""
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            began = loop.time()
            for root, files in list(self._watched.items()):
                changed = await asyncio.to_thread(first_changed, files)
                if changed is not None and root in self._seeding:
                    self._faults[self._seeding[root]] = (
                        f"{changed} changed after it was shared: share it again"
                    )
                    await self._let_go(root)
            await asyncio.sleep(max(WATCH_S, (loop.time() - began) / WATCH_PART))

    async def _let_go(self, root: str) -> None:
        self._watched.pop(root, None)
        key = _seed_key(self._seeding.pop(root))
        if self._session is not None and self._session.has(key):
            gone = self._gone[key] = asyncio.Event()
            self._session.remove(key)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMOVED_S):
                    await gone.wait()
            self._gone.pop(key, None)

    async def _opened(self) -> BitTorrentSession:
        """The session, started now if it was not yet."""
        async with self._opening:
            network = self._context.network
            if network is None or self._is_closed:
                raise TransportError("this node is offline")
            if self._session is None:
                loop = asyncio.get_running_loop()

                def tell(event: Event) -> None:
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        loop.call_soon_threadsafe(self._take, event)

                options = SessionOptions(
                    is_open=network.level == "internet",
                    bind_ip=network.bind,
                    port=_remembered(self._folder / "port"),
                    dht_nodes=network.dht_nodes,
                    dht_private=network.dht_private,
                )
                self._session = await asyncio.to_thread(BitTorrentSession, options, tell)
            return self._session

    def _take(self, event: Event) -> None:
        match event:
            case Listening(port):
                with contextlib.suppress(StorageError):
                    write_private(self._folder / "port", str(port).encode())
            case Removed(key) if key in self._gone:
                self._gone[key].set()
            case Failed(key, what) if key.startswith(_SEED):
                self._faults[key.removeprefix(_SEED)] = what
                log.warning("a share is not seeded any more: %s", what)
            case _:
                transfer = self._active.get(event.key.removeprefix(_GET))
                if transfer is not None and event.key == transfer.key:
                    transfer.tell(event)

    async def _received(self, record: TorrentRecord, path: Path, source: Source, layout: Layout) -> None:
        """Share and seed what came, if that was asked for; a part of a torrent is shared, not seeded."""
        if not record.share:
            return
        share = await self._share(path)
        if len(layout.wanted) == len(layout.places) and not layout.left_out:
            renamed = {
                file.index: os.path.join(*layout.places[file.index])
                for file in source.files
                if file.index in layout.places and layout.places[file.index] != file.path
            }
            await self._keep_seed(share, source, trackers=source.trackers, renamed=renamed)

    def _known(self, roots: Sequence[str], link: str, wanted_at: str) -> TorrentRecord | None:
        """The record of an unfinished download of the same torrent to the same place."""
        for record in self._records:
            same = record.root in roots or (link and record.source == link)
            if same and record.wanted_at == wanted_at and record.state != TransferState.DONE:
                return record
        return None

    def _refuse_own(self, roots: Sequence[str]) -> None:
        seed = next((s for s in self._seeds if s.v1 in roots or s.v2 in roots), None)
        if seed is not None:
            raise UsageError(f"this torrent is here already, shared from {seed.path}")

    def _make(self, record: TorrentRecord) -> TorrentTransfer:
        network = self._context.network

        async def received(path: Path, source: Source, layout: Layout) -> None:
            await self._received(record, path, source, layout)

        return TorrentTransfer(
            record,
            self._folder,
            self._opened,
            self._records.save,
            received,
            versions=self._context.versions,
            reach=REACH[network.level if network is not None else "local"],
        )

    def _launch(self, record: TorrentRecord) -> TorrentTransfer:
        transfer = self._make(record)
        record.state, record.note = TransferState.RUNNING, ""
        done = [r for r in self._records if r.state == TransferState.DONE]
        for old in done[: max(0, len(done) - DONE_MAX)]:
            self._records.remove(old.id)
        self._active[record.id] = transfer
        transfer.result.add_done_callback(lambda _: self._done_with(transfer))
        self._context.start(transfer.run(), f"torrent {record.id}")
        return transfer

    async def _stop(self, transfer: TorrentTransfer, note: str) -> None:
        await transfer.stop(note=note)
        self._done_with(transfer)

    def _done_with(self, transfer: TorrentTransfer) -> None:
        if self._active.get(transfer.record.id) is transfer:
            del self._active[transfer.record.id]

    def _line(self, record: TorrentRecord) -> TransferLine:
        active = self._active.get(record.id) if record.state == TransferState.RUNNING else None
        return TransferLine(
            id=record.id,
            state=state_of(record),
            done=bytes_done(record),
            size=record.size,
            path=record.target or record.wanted_at,
            peer="BitTorrent",
            rate=round(active.rate) if active else 0,
            ways={"BitTorrent": active.peers} if active else {},
            note=record.note,
        )

    def _metainfo(self, share_id: str) -> Path:
        return self._folder / f"{share_id}.share.torrent"


def _seed_key(share_id: str) -> str:
    return _SEED + share_id


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


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return plain_metainfo(file.read(METAINFO_BYTES_MAX + 1), METAINFO_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
