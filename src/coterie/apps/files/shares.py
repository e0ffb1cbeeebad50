"""What a node shares: files and folders that stay where they are, each with the ticket that opens it."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from coterie.access.names import TICKET
from coterie.access.policy import ANYONE
from coterie.apps.app import Context
from coterie.apps.command import Progress
from coterie.apps.files.places import Places
from coterie.apps.files.records import ShareRecord
from coterie.apps.files.results import MagnetLink, Problem, Removed, SharedItem, ShareLine, ShareTicket
from coterie.apps.files.stoppable import in_thread
from coterie.apps.files.torrents import Torrents
from coterie.apps.records import Records
from coterie.content import Imported, ImportProgress, import_path
from coterie.content.names import name_fault
from coterie.errors import NotFound, UsageError
from coterie.quantity import say_bytes
from coterie.wire import Ticket
from coterie.wire.ticket import SECRET_BYTES, TicketKind

OPEN_TO_ALL = frozenset({ANYONE, TICKET})  # whom a share is for that may have a torrent
Report = Callable[[Progress], None]


class Shares:
    """All shares of the node. All methods belong to its event loop; the heavy parts run in threads."""

    def __init__(self, context: Context, records: Records[ShareRecord], places: Places) -> None:
        self._context = context
        self._records = records
        self._places = places
        self.torrents = Torrents(context, records, self.share_received)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(list(self._records))

    def permit(self) -> None:
        """Let those fetch each share whom it is for; once, at the start."""
        for share in self._records:
            self._places.permit(share)

    async def share(
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
    ) -> SharedItem:
        """Share a file or folder: it is read once, stays where it is, and is served from there.

        The same content shared again gives the same ticket. Cancelling leaves nothing behind. `to`: whom it is for, see
        `access.people`; nobody named: those who have the ticket, or whom this path was shared with before.

        Args:
            bittorrent: make a torrent of it too, and seed that from the same files.
            public: its magnet link carries the ticket: who has the one has the other.
            trackers: URLs of trackers for the torrent.
            v1: the torrent is of version 1 alone, for programs that do not take one of both.

        Raises:
            NotFound: there is nothing at `path`.
            UsageError: it cannot be shared (a device, a socket).
            StorageError: it cannot be read.
        """
        fault = name_fault(name) if name else None
        if fault:
            raise UsageError(f"a share cannot be called {name!r}: the name {fault}")
        if (public or trackers or v1) and not bittorrent:
            raise UsageError("--public, --tracker and --v1 say how to share by BitTorrent: add --bittorrent")
        subjects = [self._context.people.subject(who) for who in to]
        place = Path(os.path.abspath(path))

        def tell(step: ImportProgress) -> None:
            if progress is not None:
                progress(
                    Progress(
                        phase="reading",
                        done=step.bytes,
                        total=step.bytes_total,
                        note=os.path.basename(step.path),
                    )
                )

        store = self._context.store
        imported = await in_thread(lambda stop: import_path(store, place, progress=tell, cancel=stop))
        record = self._keep(imported, place, name, subjects)
        if not OPEN_TO_ALL.issuperset(record.to):
            await self.torrents.withdraw(record.id)
            if bittorrent:
                raise UsageError(
                    "shared, but not by BitTorrent: whoever has the link could fetch it; add --to ticket or anyone"
                )
        if bittorrent:
            await self.torrents.offer(
                record, trackers=trackers, public=public, hybrid=not v1, progress=progress
            )
        return await self._describe(record, imported)

    def _keep(self, imported: Imported, place: Path, name: str, subjects: Sequence[str]) -> ShareRecord:
        """The share of this content at this place: the one there is, or a new one."""
        known = [r for r in self._records if r.root == imported.root and r.path == str(place)]
        record = (
            known[0]
            if known
            else ShareRecord(
                id=self._records.new_id(),
                root=imported.root,
                kind=int(imported.kind),
                secret=secrets.token_bytes(SECRET_BYTES),
                name=name or imported.name,
                path=str(place),
                files=imported.files,
                size=imported.bytes,
                created=time.time(),
                mtime_ns=imported.mtime_ns,
                executable=imported.executable,
            )
        )
        record.name = name or record.name
        before = [r for r in self._records if r.path == str(place)]
        record.to = list(dict.fromkeys(subjects)) or (before[-1].to if before else record.to)
        self._records.save(record)
        self._places.permit(record)
        return record

    async def share_received(self, path: Path) -> ShareRecord:
        """Share what came in by BitTorrent."""
        return self._records.get((await self.share(path)).id)

    async def unshare(self, share: str, here: Path = Path()) -> Removed:
        """End the share with this id, name or path; its ticket is void at once."""
        record = self._choose(share, here)
        self._records.remove(record.id)
        await self.torrents.withdraw(record.id)
        self._places.withdraw(record)
        if not any(r.root == record.root for r in self._records):
            await asyncio.to_thread(self._context.store.forget_root, record.root)
        return Removed(record.id, record.path)

    async def ticket(self, share: str, here: Path = Path()) -> ShareTicket:
        """The ticket of the share with this id, name or path."""
        record = self._choose(share, here)
        await self._context.settled()
        return ShareTicket(record.id, record.name, str(self._ticket(record)))

    async def magnet(self, share: str, here: Path = Path()) -> MagnetLink:
        """The magnet link of the share with this id, name or path, and where its torrent file is."""
        record = self._choose(share, here)
        await self._context.settled()
        link = await self.torrents.magnet(record, str(self._ticket(record)))
        return MagnetLink(record.id, record.name, link, str(self.torrents.torrent_path(record.id)))

    async def lines(self) -> list[ShareLine]:
        """Everything shared, with what changed on disk since."""
        lines = []
        for r in self._records:
            changed = await asyncio.to_thread(self._context.store.changed_files, r.root)
            state = f"{len(changed)} changed; share again" if changed else "ready"
            state += self.torrents.state_of(r.id)
            to = ", ".join(map(self._context.people.say, r.to))
            lines.append(ShareLine(r.id, r.name, r.path, r.files, say_bytes(r.size), state, to))
        return lines

    def resolve_name(self, path: str) -> str:
        """The path of a resource as it is stored, from the name or path that somebody wrote."""
        name, slash, rest = path.partition("/")
        return self._choose(name).id + slash + rest

    def say_name(self, path: str) -> str:
        """The reverse of `resolve_name`."""
        share, slash, rest = path.partition("/")
        return next((r.name for r in self._records if r.id == share), share) + slash + rest

    def _choose(self, share: str, here: Path = Path("/")) -> ShareRecord:
        path = os.path.abspath(here / share)
        found = [r for r in self._records if share in (r.id, r.name) or r.path == path]
        if not found:
            raise NotFound(f"nothing is shared as '{share}'; `coterie shares` lists what is")
        if len(found) > 1:
            raise UsageError(
                f"'{share}' is {len(found)} shares; name one by its id: {', '.join(r.id for r in found)}"
            )
        return found[0]

    def _ticket(self, record: ShareRecord) -> Ticket:
        addresses = self._context.ticket_addresses()
        return Ticket(TicketKind(record.kind), self._context.peer_id, record.root, record.secret, addresses)

    async def _describe(self, record: ShareRecord, imported: Imported) -> SharedItem:
        await self._context.settled()
        ticket, seeded = str(self._ticket(record)), self.torrents.is_seeded(record.id)
        outside = self._context.outside()
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
            created=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
            skipped=[Problem(s.path, s.reason, s.is_lost) for s in imported.skipped],
            skipped_more=imported.skipped_more,
            magnet=await self.torrents.magnet(record, ticket) if seeded else "",
            torrent=str(self.torrents.torrent_path(record.id)) if seeded else "",
            to=[self._context.people.say(subject) for subject in record.to],
        )

    def roots(self) -> set[bytes]:
        """The content ids of all that is shared."""
        return {share.root for share in self._records}


def current(records: Records[ShareRecord]) -> list[ShareRecord]:
    """Every share but those whose path was shared again since, with other content."""
    return list({share.path: share for share in records}.values())
