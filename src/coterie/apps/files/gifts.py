"""Content that is given to certain computers only, for another app: it is no share, and no list shows it.

Who offers it keeps it: `add` it anew before the apps start, `forget` it when it is over.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import msgspec

from coterie.access.names import TICKET
from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.apps.command import Progress
from coterie.apps.context import Context
from coterie.apps.files.offer import Offer
from coterie.apps.files.records import ShareRecord
from coterie.apps.files.shares import OWNER, reading
from coterie.apps.files.sweeping import check_sweeping
from coterie.content import import_path
from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.transfer.proof import Shown
from coterie.transfer.records import TransferRecord
from coterie.transfer.results import Received
from coterie.transfer.states import TransferState
from coterie.transfer.stoppable import in_thread
from coterie.transfer.transfer import Transfer
from coterie.transfer.wanted import patiently
from coterie.wire import Ticket
from coterie.wire.ticket import SECRET_BYTES, TicketKind

KIND = "gift"
PIN = "gift/"  # before the id, in the names under which the store keeps it
Report = Callable[[Progress], None]


class Content(msgspec.Struct, frozen=True):
    """What a gift is, with the secret that opens it for those to whom it is given."""

    name: str
    path: str
    kind: int
    files: int
    size: int
    root: bytes
    secret: bytes
    mtime_ns: int = 0
    executable: bool = False


class _Gift:
    def __init__(self, contents: Collection[Content]) -> None:
        self.contents = contents
        self.to: dict[PeerId, bool] = {}  # and whether it has the secret as its only right


class Gifts:
    """Belongs to the event loop; the heavy parts run in threads."""

    def __init__(
        self,
        context: Context,
        begin: Callable[..., Awaitable[Transfer]],
        transfers: Records[TransferRecord],
        under_way: Callable[[str], Transfer | None],
        *,
        is_moving: Callable[[bytes, PeerId], bool],
    ) -> None:
        """`begin` starts a download, `under_way` gives the one that runs under an id.

        `is_moving`: whether bytes of a content go to a peer now.
        """
        self._is_moving = is_moving
        self._context = context
        self._begin = begin
        self._transfers = transfers
        self._under_way = under_way
        self._gifts: dict[str, _Gift] = {}
        self._is_started = False

    def roots(self) -> set[bytes]:
        """The contents of all gifts."""
        return {content.root for gift in self._gifts.values() for content in gift.contents}

    async def start(self) -> None:
        """Have the store keep what was added before the apps started; what it kept before stays, until `forget`."""
        self._is_started = True
        for gift in list(self._gifts):
            await self._pin(gift)

    async def _pin(self, gift: str) -> None:
        held = self._gifts.get(gift)
        roots = [content.root for content in held.contents] if held is not None else []
        await asyncio.to_thread(self._context.blobs.store.pins.set, OWNER, PIN + gift, roots)

    # ---- giving

    async def read(self, path: Path, *, everything: bool = False, progress: Report | None = None) -> Content:
        """Take in what is at `path`, which stays where it is. Nobody is given it yet: `add`.

        Raises:
            NotFound: there is nothing.
            Sweeping: it is a home folder, or has home folders in it, and `everything` was not said.
            UsageError, StorageError: it cannot be read.
        """
        place = Path(os.path.abspath(path))
        if not everything:
            await asyncio.to_thread(check_sweeping, place)
        store = self._context.blobs.store
        imported = await in_thread(
            lambda stop: import_path(store, place, progress=reading(progress), cancel=stop)
        )
        return Content(
            name=imported.name,
            path=str(place),
            kind=int(imported.kind),
            files=imported.files,
            size=imported.bytes,
            root=imported.root,
            secret=os.urandom(SECRET_BYTES),
            mtime_ns=imported.mtime_ns,
            executable=imported.executable,
        )

    def add(self, gift: str, contents: Collection[Content]) -> None:
        """Keep these contents as the gift of this id, and let nobody have them yet."""
        self._gifts[gift] = _Gift(contents)
        if self._is_started:
            self._context.jobs.start(self._pin(gift), "keeping what is given")

    def give(self, gift: str, to: Collection[PeerId], strangers: Collection[PeerId] = ()) -> None:
        """From now on those in `to` may have it, while they are known here, and `strangers`; nobody else."""
        held = self._gifts[gift]
        wanted = {**dict.fromkeys(to, False), **dict.fromkeys(strangers, True)}
        if wanted == held.to:
            return
        held.to = wanted
        policy, resource = self._context.access.policy, f"{KIND}/{gift}"
        policy.withdraw(resource)
        for peer, is_stranger in wanted.items():
            policy.permit(_secret_of(gift) if is_stranger else of_peer(peer), Verb.READ, resource)
        self._context.access.review()

    async def forget(self, gift: str) -> None:
        """Give it to nobody any more, and keep its contents no longer, where nothing else needs them."""
        held = self._gifts.pop(gift, None)
        if held is None:
            return
        self._context.access.policy.withdraw(f"{KIND}/{gift}")
        self._context.access.review()
        await self._pin(gift)
        for root in {content.root for content in held.contents}:
            await asyncio.to_thread(self._context.blobs.store.forget_root, root)

    def ask(self, shown: Shown) -> Offer | None:
        """What a peer opens with what it showed; the policy is still to be asked."""
        found: Offer | None = None
        for gift, held in self._gifts.items():
            for content in held.contents:
                is_meant = content.root == shown.root and shown.asker in held.to
                if shown.proves(content.secret if is_meant else None):
                    also = (_secret_of(gift),) if held.to[shown.asker] else ()
                    record = _as_share(gift, content)
                    found = Offer(self._context.blobs.store, record, f"{KIND}/{gift}", also=also)
        return found

    def is_given_now(self, gift: str, to: PeerId) -> bool:
        """Whether bytes of it go there now."""
        held = self._gifts.get(gift)
        return held is not None and any(self._is_moving(content.root, to) for content in held.contents)

    # ---- fetching

    def is_coming(self, transfer_id: str) -> bool:
        """Whether bytes of what is fetched under this id come now."""
        running = self._under_way(transfer_id)
        return running is not None and not running.is_still()

    async def fetch(
        self,
        content: Content,
        giver: PeerId,
        addresses: Collection[str],
        *,
        transfer_id: str,
        progress: Report,
    ) -> Received:
        """Fetch what a peer gives to `content.path`, beside what may be there; goes on with what began under this id.

        Cancelling leaves the transfer to the node: the same call later goes on from there.

        Raises:
            PeerError: it is not what was announced.
            CoterieError: as `FilesService.get`.
        """
        ticket = Ticket(TicketKind(content.kind), giver, content.root, content.secret, tuple(addresses))

        async def begin() -> Transfer | Received:
            if (running := self._under_way(transfer_id)) is not None:
                return running
            record = next((record for record in self._transfers if record.id == transfer_id), None)
            if record is not None and record.state == TransferState.DONE and not record.missing:
                return Received(record.id, record.target, record.files, record.size, 0, record.seconds)
            return await self._begin(ticket, content.path, on_existing="keep-both", transfer_id=transfer_id)

        def say(note: str) -> None:
            progress(Progress(phase="waiting", done=0, note=note))

        transfer = await patiently(begin, say)
        if isinstance(transfer, Received):
            return transfer
        if (transfer.record.files, transfer.record.size) != (content.files, content.size):
            await transfer.stop()
            raise PeerError(f"what {giver.short} gives is not what it offered")
        transfer.listen(progress)
        return await asyncio.shield(transfer.result)


def _secret_of(gift: str) -> str:
    """The subject of a stranger who was given the gift and proved to have its secret."""
    return f"{TICKET}:{KIND}-{gift}"


def _as_share(gift: str, content: Content) -> ShareRecord:
    return ShareRecord(
        id=gift,
        root=content.root,
        kind=content.kind,
        secret=content.secret,
        name=content.name,
        path=content.path,
        files=content.files,
        size=content.size,
        created=0.0,
        mtime_ns=content.mtime_ns,
        executable=content.executable,
    )
