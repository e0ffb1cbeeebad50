"""What a node shares: files and folders that stay where they are, each with the ticket that opens it."""

import asyncio
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from msgspec.structs import replace

from coterie.access.names import TICKET
from coterie.access.policy import ANYONE
from coterie.apps.command import Progress
from coterie.apps.context import Context
from coterie.apps.files.offer import Offer
from coterie.apps.files.places import Places
from coterie.apps.files.records import ShareRecord, Version
from coterie.apps.files.registry import Registry
from coterie.apps.files.results import Removed, SharedItem, ShareLine, ShareTicket, Updated
from coterie.apps.files.share_changes import ShareChanges
from coterie.apps.files.sweeping import check_sweeping
from coterie.content import Imported, ImportProgress, import_path
from coterie.content import manifest as m
from coterie.content.changes import Changes, changes_since
from coterie.content.names import name_fault
from coterie.content.whole import is_whole
from coterie.errors import CoterieError, LimitExceeded, UsageError
from coterie.moments import iso
from coterie.services.data.records import Records
from coterie.texts import tr
from coterie.transfer.giver import Giver
from coterie.transfer.results import Problem
from coterie.transfer.stoppable import in_thread
from coterie.which_one import the_one
from coterie.wire import Ticket
from coterie.wire.ticket import SECRET_BYTES, TicketKind

EARLIER_MAX = 4  # versions kept of one share, for peers until version 0.1 and downloads under way; guess
LOOK_S = 5.0  # for what changed of one share in the list; guess: 100,000 files, a cold disk shows fewer
LOOK_ONE_S = 60.0  # of one that was asked for
SECRETS_MAX = 64  # of doubles that version 0.1 made of one share; guess
OPEN_TO_ALL = frozenset({ANYONE, TICKET})  # whom a share is for that may have a torrent
OWNER, PIN = "files", "share/"  # of what the store keeps for shares: the name ends with the id
SETTLE_S = 1.0  # after the first change over a drive; guess: programs write several files one after the other
Report = Callable[[Progress], None]

log = logging.getLogger(__name__)


class Shares:
    """All shares of the node. All methods belong to its event loop; the heavy parts run in threads."""

    def __init__(
        self,
        context: Context,
        records: Records[ShareRecord],
        places: Places,
        registry: Registry,
        *,
        end: Callable[[Callable[[Giver], bool]], None],
    ) -> None:
        """`registry`: how else shares are given; `end` ends the sessions about what is given no more (`Server.end`)."""
        self._end = end
        self._context = context
        self._records = records
        self._places = places
        self._registry = registry
        self._keeping = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._touched: dict[str, None] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(list(self._records))

    def all(self) -> list[ShareRecord]:
        """Every one of them."""
        return list(self._records)

    async def start(self) -> None:
        """Forget what is gone from the disk, and let those fetch each share whom it is for."""
        wanted = {PIN + share.id: share.roots() for share in self._records}
        await asyncio.to_thread(self._context.blobs.store.pins.replace, OWNER, wanted, PIN)
        await self._join_doubles()
        await asyncio.to_thread(self._context.blobs.store.forget_gone)
        for share in self._records:
            self._places.permit(share)
        self._context.net.admit_knocks(self._secrets_of)

    def _secrets_of(self, root: bytes) -> list[bytes]:
        """What tickets for the content `root` show."""
        found = [share for share in self._records if root in share.roots()]
        return [secret for share in found for secret in (share.secret, *share.more_secrets)]

    async def _join_doubles(self) -> None:
        """Make one share of those of one path, as version 0.1 made when it was shared again: all tickets are good."""
        by_path: dict[str, list[ShareRecord]] = {}
        for record in self._records:
            by_path.setdefault(record.path, []).append(record)
        for *older, newest in by_path.values():
            if not older:
                continue
            secrets_of = [secret for old in older for secret in (old.secret, *old.more_secrets)]
            newest.more_secrets = [*newest.more_secrets, *secrets_of][-SECRETS_MAX:]
            self._records.save(newest)
            for old in older:
                self._records.remove(old.id)
                await self._pin(old.id, ())
                await self._forget(old.roots())

    async def _pin(self, share: str, roots: Collection[bytes]) -> None:
        await asyncio.to_thread(self._context.blobs.store.pins.set, OWNER, PIN + share, roots)

    async def _forget(self, roots: Collection[bytes]) -> None:
        """Keep these contents no longer, but for what other shares, or other apps, have pinned."""
        for root in dict.fromkeys(roots):
            await asyncio.to_thread(self._context.blobs.store.forget_root, root)

    async def share(  # noqa: PLR0913 - all but one are named options
        self,
        path: Path | str,
        *,
        name: str = "",
        to: Sequence[str] = (),
        progress: Report | None = None,
        bittorrent: bool = False,
        public: bool = False,
        trackers: Sequence[str] = (),
        v1: bool = False,
        reread: bool = False,
        everything: bool = False,
        write: bool = False,
    ) -> SharedItem:
        """Share a file or folder: it is read once, stays where it is, and is served from there.

        The same path shared again takes in what has changed: it stays the same share, with its tickets, its place and
        its grants. A torrent of it is made anew, for its link names the bytes. Cancelling leaves nothing behind.
        `to`: whom it is for, see `access.people`; nobody named: those who have the ticket, or whom this path was shared
        with before.

        Args:
            bittorrent: make a torrent of it too, and seed that from the same files.
            public: its magnet link carries the ticket: who has the one has the other.
            trackers: URLs of trackers for the torrent.
            v1: the torrent is of version 1 alone, for programs that do not take one of both.
            reread: read files too whose size and date are as they were.
            everything: share a home folder, or one with home folders in it, too.
            write: those of `to` may also change what is in it, over a drive; named without it, they no longer may.

        Raises:
            NotFound: there is nothing at `path`.
            UsageError: it cannot be shared (a device, a socket), or not by BitTorrent, for it is for some people only.
            Sweeping: it is a home folder, or has home folders in it, and `everything` was not said.
            StorageError: it cannot be read.
        """
        _check_wanted(name, bittorrent=bittorrent, is_said_how=bool(public or trackers or v1))
        if bittorrent:
            self._registry.check_seeding()
        subjects = [self._context.people.subject(who) for who in to]
        _check_writers(subjects, write=write)
        place = Path(os.path.abspath(path))
        before = self._at(place)
        if bittorrent:
            self._check_open(place, subjects or (before.to if before else ()))
        if not everything and self._at(place) is None:
            await asyncio.to_thread(check_sweeping, place)

        store = self._context.blobs.store
        imported = await in_thread(
            lambda stop: import_path(store, place, progress=reading(progress), cancel=stop, reread=reread)
        )
        async with self._keeping:  # a path is one share, whoever shares it at the same time
            record = await self._keep(imported, place, name, subjects, write=write)
        if not is_open_to_all(record):
            await self._registry.seeding.withdraw(record.id)
        if bittorrent:
            self._check_open(place, record.to)  # another order may have said for whom meanwhile
            await self._registry.seeding.offer(
                record, trackers=trackers, public=public, hybrid=not v1, progress=progress
            )
        else:
            await self._registry.seeding.follow(record, progress=progress)
        return await self._describe(record, imported)

    async def _keep(
        self, imported: Imported, place: Path, name: str, subjects: Sequence[str], *, write: bool
    ) -> ShareRecord:
        """The share of this place, with this content: the one there is, or a new one."""
        now = Version(
            imported.root,
            int(imported.kind),
            imported.files,
            imported.bytes,
            imported.mtime_ns,
            imported.executable,
        )
        before = self._at(place)
        earlier = await self._still_whole(before, now.root) if before else []
        before = self._at(place)  # it may have been ended meanwhile
        if before is None:
            fresh = (self._records.new_id(), secrets.token_bytes(SECRET_BYTES), str(place), time.time())
            record = _new_record(now, imported.name, *fresh)
        else:  # a new object: sessions go on with the version that they began with
            record = replace(before.at(now), earlier=earlier)
            record.updated = before.updated if before.root == now.root else time.time()
        record.name = name or record.name
        record.to = list(dict.fromkeys(subjects)) or record.to
        if subjects:
            record.writers = list(record.to) if write else []
        await self._pin(record.id, record.roots())  # before the record: what it names is kept
        self._records.save(record)
        self._places.permit(record)
        if before is not None and before.root != now.root:
            kept = set(record.roots())
            self._end(lambda g: isinstance(g, Offer) and g.share_id == record.id and g.share_root not in kept)
            await self._forget(before.roots())
        return record

    def _check_open(self, place: Path, to: Collection[str]) -> None:
        """Raise `UsageError` where a share for these subjects cannot have a torrent."""
        if OPEN_TO_ALL.issuperset(to):
            return
        who = ", ".join(self._context.people.say(one) for one in to if one not in OPEN_TO_ALL)
        raise UsageError(
            tr(
                "not by BitTorrent: {path} is for {who}, and whoever has the link of a torrent can fetch it. Leave "
                "out --bittorrent, or share it with everybody: --to ticket",
                path=place,
                who=who,
            )
        )

    def _at(self, place: Path) -> ShareRecord | None:
        """The share of this path."""
        return next((record for record in self._records if record.path == str(place)), None)

    async def _still_whole(self, before: ShareRecord, root: bytes) -> list[Version]:
        """The versions of a share before `root` of which everything is still on the disk, the newest last."""
        candidates = [v for v in (*before.earlier, before.version()) if v.root != root][-EARLIER_MAX:]
        if before.root == root:
            return before.earlier
        store = self._context.blobs.store
        return await in_thread(
            lambda stop: [v for v in candidates if is_whole(store, v.root, stop, beside=root)]
        )

    def touched(self, share: str) -> None:
        """Something was changed in what is shared, by its id: it is taken in soon, or as soon as somebody looks."""
        if share not in self._touched:
            self._context.jobs.start(self._settle_soon(share), "taking in what was changed over a drive")
        self._touched[share] = None

    async def _settle_soon(self, share: str) -> None:
        await asyncio.sleep(SETTLE_S)
        await self.settle(share)

    async def settle(self, share: str) -> bool:
        """Take in what was changed of this share over a drive; whether there was anything."""
        if share not in self._touched and not self._settling.locked():
            return False
        async with self._settling:  # what another one takes in now is waited for
            if share not in self._touched:
                return True
            del self._touched[share]
            if (record := self._of(share)) is not None:
                try:
                    await self.share(record.path)
                except CoterieError as error:
                    log.warning("what was changed in %s is not taken in: %s", record.path, error)
        return True

    def _of(self, share: str) -> ShareRecord | None:
        return next((record for record in self._records if record.id == share), None)

    async def share_received(self, path: Path) -> ShareRecord:
        """Share what came in."""
        return self._records.get((await self.share(path)).id)

    async def update(
        self, path: Path | str | None = None, *, reread: bool = False, progress: Report | None = None
    ) -> list[Updated]:
        """Take in what changed of the share of this path, or of every share; one that fails stops no other.

        Raises:
            NotFound: nothing is shared from `path`.
        """
        chosen = list(self._records) if path is None else [self.find(str(path))]
        updated = []
        for record in chosen:
            changes = await self._look(record, LOOK_ONE_S)
            if path is None and changes is not None and not (changes or reread):
                continue
            try:
                shared = await self.share(record.path, reread=reread, progress=progress)
                updated.append(Updated(record.path, shared, changes=changes.text() if changes else ""))
            except CoterieError as error:
                updated.append(Updated(record.path, problem=str(error)))
        return updated

    async def changes(self, share: str, here: Path = Path()) -> ShareChanges:
        """What changed on disk since the share with this id, name or path was taken in, by names."""
        record = self.find(share, here)
        changes = await self._look(record, LOOK_ONE_S)
        if changes is None:
            raise LimitExceeded(
                tr(
                    "{path} has more in it than can be looked through in {look_one_s:.0f} s",
                    path=record.path,
                    look_one_s=LOOK_ONE_S,
                )
            )
        return ShareChanges(record.id, record.name, record.path, changes)

    async def _look(self, record: ShareRecord, most_s: float) -> Changes | None:
        """What changed on disk; None when that takes too long."""
        single = m.FileEntry("", record.executable, record.mtime_ns, record.size, b"")
        shared = single if record.kind == TicketKind.BLOB else None
        until = time.monotonic() + most_s

        def work(stop: threading.Event) -> Changes | None:
            def check() -> None:
                if stop.is_set() or time.monotonic() > until:
                    raise TimeoutError

            try:
                return changes_since(self._context.blobs.store, record.root, shared, record.path, check)
            except TimeoutError:
                return None

        return await in_thread(work)

    async def unshare(self, share: str, here: Path = Path()) -> Removed:
        """End the share with this id, name or path; its ticket is void at once."""
        record = self.find(share, here)
        self._records.remove(record.id)
        await self._registry.seeding.withdraw(record.id)
        self._places.withdraw(record)
        await self._pin(record.id, ())
        await self._forget(record.roots())
        return Removed(record.id, record.path)

    async def ticket(self, share: str, here: Path = Path()) -> ShareTicket:
        """The ticket of the share with this id, name or path."""
        record = self.find(share, here)
        return ShareTicket(record.id, record.name, await self.ticket_of(record))

    async def ticket_of(self, record: ShareRecord) -> str:
        """Its ticket, with where this node may be reached."""
        await self._context.me.settled()
        addresses = self._context.me.ticket_addresses()
        kind = TicketKind(record.kind)
        return str(Ticket(kind, self._context.me.peer_id, record.root, record.secret, addresses))

    async def lines(self, only: Collection[str] | None = None) -> list[ShareLine]:
        """Everything shared, with what changed on disk since: nobody has to fetch it first.

        only: the ids of those that are looked at; all where nothing is said.
        """
        lines = []
        for r in self._records:
            if only is not None and r.id not in only:
                continue
            changes = await self._look(r, LOOK_S)
            state = "ready" if changes is not None else "ready (too large to look for changes)"
            if changes:
                state = f"{changes.text()} since: `coterie share --update`"
            state += self._registry.seeding.state_of(r.id)
            to = list(map(self._context.people.say, r.to))
            lines.append(ShareLine(r.id, r.name, r.path, r.files, r.size, state, to))
        return lines

    def resolve_name(self, path: str) -> str:
        """The path of a resource as it is stored, from the name or path that somebody wrote."""
        name, slash, rest = path.partition("/")
        return self.find(name).id + slash + rest

    def say_name(self, path: str) -> str:
        """The reverse of `resolve_name`."""
        share, slash, rest = path.partition("/")
        return next((r.name for r in self._records if r.id == share), share) + slash + rest

    def find(self, share: str, here: Path = Path("/")) -> ShareRecord:
        """The share with this id, name or path. Raises NotFound, and UsageError where it is several."""
        path = os.path.abspath(here / share)
        found = [r for r in self._records if share in (r.id, r.name) or r.path == path]
        nothing = tr("nothing is shared as '{share}'; `coterie shares` lists what is", share=share)
        return the_one(share, [(r.id, r) for r in found], nothing)

    async def _describe(self, record: ShareRecord, imported: Imported) -> SharedItem:
        ticket = await self.ticket_of(record)
        link = await self._registry.seeding.link(record, ticket)
        outside = self._context.me.outside()
        return SharedItem(
            id=record.id,
            name=record.name,
            path=record.path,
            kind=TicketKind(record.kind).name.lower(),
            files=record.files,
            size=record.size,
            ticket=ticket,
            outside="" if outside.reached == "yes" else outside.text(),
            offers_internet=outside.offers,
            note=self._context.me.outside_note(),
            created=iso(record.created),
            skipped=[Problem(s.path, s.reason, s.is_lost) for s in imported.skipped],
            skipped_more=imported.skipped_more,
            magnet=link.magnet,
            torrent=link.torrent,
            to=[self._context.people.say(subject) for subject in record.to],
        )


def is_open_to_all(share: ShareRecord) -> bool:
    """Whether a share may have a torrent: it is for nobody in particular."""
    return OPEN_TO_ALL.issuperset(share.to)


def _check_wanted(name: str, *, bittorrent: bool, is_said_how: bool) -> None:
    """Raise `UsageError` for a name that cannot be, or a way to share by BitTorrent without that."""
    fault = name_fault(name) if name else None
    if fault:
        raise UsageError(tr("a share cannot be called {name!r}: the name {fault}", name=name, fault=fault))
    if is_said_how and not bittorrent:
        raise UsageError(tr("--public, --tracker and --v1 say how to share by BitTorrent: add --bittorrent"))


def _check_writers(subjects: Sequence[str], *, write: bool) -> None:
    """Raise `UsageError` where everybody could write, or nobody is named."""
    if write and (not subjects or not OPEN_TO_ALL.isdisjoint(subjects)):
        raise UsageError(tr("--write is for somebody: name whom with --to, and not anyone or ticket"))


def reading(progress: Report | None) -> Callable[[ImportProgress], None]:
    """What tells how far an import is."""

    def tell(step: ImportProgress) -> None:
        if progress is not None:
            name = os.path.basename(step.path)
            progress(Progress(phase="reading", done=step.bytes, total=step.bytes_total, note=name))

    return tell


def _new_record(
    now: Version, name: str, new_id: str, secret: bytes, path: str, created: float
) -> ShareRecord:
    return ShareRecord(
        id=new_id,
        root=now.root,
        kind=now.kind,
        secret=secret,
        name=name,
        path=path,
        files=now.files,
        size=now.size,
        created=created,
        mtime_ns=now.mtime_ns,
        executable=now.executable,
    )
