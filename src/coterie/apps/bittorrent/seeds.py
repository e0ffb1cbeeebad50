"""Shares that are seeded from where their files are: a kind of transfers, and another way to give shares."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from coterie.apps.bittorrent.engine import Engine
from coterie.apps.bittorrent.file_watch import WATCH_PART, WATCH_S, Seen, as_shared, first_changed
from coterie.apps.bittorrent.peers import askers_of
from coterie.apps.bittorrent.records import SeedRecord
from coterie.apps.command import Progress
from coterie.apps.files.api import FilesApi, Link, ShareRecord, is_open_to_all
from coterie.content import Store
from coterie.content.bittorrent.hashing import hash_files
from coterie.content.bittorrent.magnet import Hint, magnet_link
from coterie.content.bittorrent.read import Source, read_torrent
from coterie.content.bittorrent.session import Failed, Task, TorrentEvent
from coterie.content.bittorrent.torrent_file import TorrentEntry, in_order, piece_size, torrent_file
from coterie.content.listing import list_files
from coterie.content.writer import Partial
from coterie.errors import CoterieError, NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.texts import tr
from coterie.transfer.describe import plain_detail
from coterie.transfer.records import Kept
from coterie.transfer.results import TransferDetail, TransferLine
from coterie.transfer.states import WEIGHTS, TransferState
from coterie.transfer.stoppable import in_thread
from coterie.wire.ticket import TicketKind

log = logging.getLogger(__name__)

SEEDS_MAX = 1_000  # guess: each takes some 50 kB of memory and an announcement every quarter of an hour

PREFIX = "seed "  # of what the session knows them by

Report = Callable[[Progress], None]
Start = Callable[..., None]


class Seeds:
    """All of them (`table.Kind`, `files.api.Seeding`). Belongs to the event loop; the heavy parts run in threads."""

    begins_as = TransferState.SEEDING
    running = 0

    def __init__(
        self, engine: Engine, records: Kept[SeedRecord], files: FilesApi, store: Store, start: Start
    ) -> None:
        """`start` runs work in the background."""
        self._engine = engine
        self._records = records
        self._files = files
        self._store = store
        self._start = start
        self._seeding: dict[str, str] = {}  # share by the torrent's root
        self._watched: dict[str, dict[Path, Seen | None]] = {}  # files as they were shared, by root
        self._is_watching = self._is_closed = False
        engine.own(PREFIX, self._take)

    def start(self) -> None:
        """Go on with what was seeded when the node last ran."""
        if len(self._records):
            self._start(self._seed_all(), "seeding")

    def close(self) -> None:
        """Look at the files no more."""
        self._is_closed = True

    # -- for `files` --

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
        seed = self._find(share.id)
        is_of_this = seed is not None and share.updated <= seed.created
        if seed is not None and is_of_this and (seed.trackers, bool(seed.v2)) == (list(trackers), hybrid):
            seed.public = public
            self._set(seed, TransferState.SEEDING, "")
            await self._seed(seed)
            return seed
        source = await in_thread(
            lambda stop: self._make_torrent(share, tuple(trackers), progress, stop, hybrid=hybrid)
        )
        return await self.keep(share, source, public=public, trackers=trackers)

    async def follow(self, share: ShareRecord, *, progress: Report | None = None) -> None:
        """Make the torrent of a share anew, where it has one of other content. Errors as `offer`."""
        seed = self._find(share.id)
        if seed is None or share.updated <= seed.created:
            return
        await self.withdraw(share.id)
        await self.offer(
            share, trackers=seed.trackers, public=seed.public, hybrid=bool(seed.v2), progress=progress
        )

    async def withdraw(self, share_id: str) -> None:
        """Stop seeding a share; nothing when it is not seeded."""
        seed = self._find(share_id)
        if seed is None:
            return
        self._records.remove(share_id)
        self._metainfo(share_id).unlink(missing_ok=True)
        await self._leave(seed)

    def state_of(self, share_id: str) -> str:
        """What the list of shares adds to the state of this one; empty when it has no torrent."""
        seed = self._find(share_id)
        if seed is None:
            return ""
        if seed.state == TransferState.SEEDING:
            return ", BitTorrent"
        return f"; not on BitTorrent: {seed.note or seed.state}"

    async def link(self, share: ShareRecord, ticket: str) -> Link:
        """The magnet link of a share, and where its torrent file is; empty when it has no torrent."""
        seed = self._find(share.id)
        if seed is None:
            return Link()
        magnet = magnet_link(
            bytes.fromhex(seed.v1),
            bytes.fromhex(seed.v2),
            share.name,
            size=share.size,
            trackers=seed.trackers,
            peers=await self._engine.addresses(),
            hint=Hint(ticket=ticket) if seed.public else Hint(content_id=share.root),
        )
        return Link(magnet, str(self._metainfo(share.id)))

    # -- for downloads --

    async def keep(
        self,
        share: ShareRecord,
        source: Source,
        *,
        public: bool = False,
        trackers: Sequence[str] = (),
        renamed: dict[int, str] | None = None,
    ) -> SeedRecord:
        """Seed a share by the torrent `source` from now on. Errors as `offer`."""
        if len(self._records) >= SEEDS_MAX:
            raise UsageError(
                tr("{seeds_max} shares are seeded already: unshare one first", seeds_max=SEEDS_MAX)
            )
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
        self._records.save(seed)
        await self._seed(seed)
        return seed

    def of(self, roots: Sequence[str]) -> SeedRecord | None:
        """What is seeded by a torrent with one of these hashes."""
        return next((s for s in self._records if s.v1 in roots or s.v2 in roots), None)

    def refuse_own(self, roots: Sequence[str]) -> None:
        """Raise `UsageError` where a torrent with one of these hashes is seeded."""
        seed = self.of(roots)
        if seed is not None:
            raise UsageError(tr("this torrent is here already, shared from {path}", path=seed.path))

    # -- as a kind of the table --

    def entries(self) -> Kept[SeedRecord]:
        """See `table.Kind`, as all of the following."""
        return self._records

    def save(self, transfer: str) -> None:
        self._records.save(self._records.get(transfer))

    def under_way(self, transfer: str) -> None:
        return None

    def line(self, transfer: str) -> TransferLine:
        seed = self._records.get(transfer)
        size = next((share.size for share in self._files.shared() if share.id == seed.id), 0)
        peers = self._engine.peers.get(PREFIX + seed.id, 0)
        ways = {"BitTorrent": peers} if peers else {}
        return TransferLine(
            seed.id, seed.state, size, size, seed.path, "BitTorrent", ways=ways, note=seed.note
        )

    async def detail(self, transfer: str) -> TransferDetail:
        seen, _, _ = await self._engine.seen(PREFIX + transfer)
        return plain_detail(self._records.get(transfer), self.line(transfer), askers=askers_of(seen))

    async def halt(self, transfer: str, note: str) -> None:
        seed = self._records.get(transfer)
        if seed.state == TransferState.SEEDING:
            self._set(seed, TransferState.PAUSED, "")
        await self._leave(seed)

    def go_on(self, transfer: str) -> None:
        self._start(self._try(self._records.get(transfer)), f"seeding {transfer}")

    async def drop(self, transfer: str) -> str:
        await self.withdraw(transfer)
        return "ended"

    def adjust(self, transfer: str) -> None:
        seed = self._records.get(transfer)
        self._engine.limit(PREFIX + transfer, down=seed.down, up=seed.up, weight=WEIGHTS[seed.priority])

    def partials(self) -> Sequence[Partial]:
        return ()

    # -- inside --

    def _find(self, share_id: str) -> SeedRecord | None:
        return next((seed for seed in self._records if seed.id == share_id), None)

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
            listed = list_files(share.root, self._store.manifest)
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

    async def _seed_all(self) -> None:
        shared = {share.id for share in self._files.shared()}
        for seed in self._records:
            if seed.id not in shared:  # unshared while this app did not run
                await self.withdraw(seed.id)
            elif seed.state != TransferState.PAUSED:
                await self._try(seed)

    async def _try(self, seed: SeedRecord) -> None:
        """Seed it, or keep why it is not."""
        try:
            await self._seed(seed)
        except CoterieError as error:
            self._set(seed, TransferState.FAILED, str(error))
            log.warning("share %s is not seeded: %s", seed.id, error)

    async def _seed(self, seed: SeedRecord) -> None:
        """Seed it from where it is; what is seeded already under the same hash serves for both."""
        root = seed.v2 or seed.v1
        if self._engine.network is None or root in self._seeding:
            return
        session = await self._engine.opened()
        source = await asyncio.to_thread(lambda: read_torrent(self._metainfo(seed.id).read_bytes()))
        top = Path(os.path.realpath(seed.path))
        places = {
            file.index: os.path.join(top.name, *[seed.renamed.get(file.index) or os.path.join(*file.path)])
            if file.path
            else top.name
            for file in source.files
            if not file.hidden and not file.is_link
        }
        paths = [top.parent / place for place in places.values()]
        files = await asyncio.to_thread(as_shared, self._store, paths)
        if (changed := await asyncio.to_thread(first_changed, files)) is not None:
            raise StorageError(tr("{changed} changed after it was shared: share it again", changed=changed))
        is_wanted = self._find(seed.id) is seed and seed.state != TransferState.PAUSED
        if root in self._seeding or not is_wanted:
            return
        if seed.state != TransferState.SEEDING:
            self._set(seed, TransferState.SEEDING, "")
        session.fetch(PREFIX + seed.id, source, Task(folder=str(top.parent), places=places, is_complete=True))
        self._seeding[root] = seed.id
        self._watched[root] = files
        self.adjust(seed.id)
        if not self._is_watching:
            self._is_watching = True
            self._start(self._watch(), "seeded files")

    async def _watch(self) -> None:
        """Stop seeding what was edited: the library checks each piece once, and would serve what is there later."""
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            began = loop.time()
            for root, files in list(self._watched.items()):
                changed = await asyncio.to_thread(first_changed, files)
                if changed is not None and root in self._seeding:
                    seed = self._records.get(self._seeding[root])
                    self._set(
                        seed, TransferState.FAILED, f"{changed} changed after it was shared: share it again"
                    )
                    await self._let_go(root)
            await asyncio.sleep(max(WATCH_S, (loop.time() - began) / WATCH_PART))

    async def _leave(self, seed: SeedRecord) -> None:
        """Stop seeding this; another share of the same content takes its place."""
        root = seed.v2 or seed.v1
        if self._seeding.get(root) != seed.id:
            return
        await self._let_go(root)
        others = [s for s in self._records if (s.v2 or s.v1) == root and s.state == TransferState.SEEDING]
        if others:
            await self._seed(others[0])

    async def _let_go(self, root: str) -> None:
        self._watched.pop(root, None)
        await self._engine.remove(PREFIX + self._seeding.pop(root))

    def _take(self, event: TorrentEvent) -> None:
        if isinstance(event, Failed):
            seed = self._find(event.key.removeprefix(PREFIX))
            if seed is not None:
                self._set(seed, TransferState.FAILED, event.what)
            log.warning("a share is not seeded any more: %s", event.what)

    def _set(self, seed: SeedRecord, state: TransferState, note: str) -> None:
        seed.state, seed.note = state, note
        self._records.save(seed)

    def _metainfo(self, share_id: str) -> Path:
        return self._engine.folder / f"{share_id}.share.torrent"


def no_torrent(share: ShareRecord) -> NotFound:
    """What to say where a share has no torrent."""
    if not is_open_to_all(share):
        return NotFound(
            tr(
                "'{share}' has no torrent, for it is for some people only: `coterie share --bittorrent --to ticket "
                "{path}` opens it to everybody who has the link",
                share=share.name,
                path=share.path,
            )
        )
    return NotFound(
        tr("'{share}' has no torrent: coterie share --bittorrent {path}", share=share.name, path=share.path)
    )
