"""One content fetched from computers that give it: verified as it comes, in a folder of its own until it is kept."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import SystemRandom

from coterie.errors import CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.progress import Progress
from coterie.services.blobs.exchange import BLOBS
from coterie.texts import tr
from coterie.transfer.arrival import Arrival
from coterie.transfer.discretion import Discretion
from coterie.transfer.fetch import Fetch, ShareMoved, open_share, opening
from coterie.transfer.receive import Receiver
from coterie.transfer.records import TransferRecord
from coterie.transfer.sources import Session, Sources
from coterie.transfer.states import WEIGHTS
from coterie.transfer.surroundings import Surroundings
from coterie.wire import Protocol, Ticket
from coterie.wire.ticket import TicketKind

TELL_S = 0.2  # between two steps of progress, as a transfer's
Report = Callable[[Progress], None]


class BlobFetch:
    """From one or several `peers`, into `folder`, which is made for it."""

    def __init__(
        self,
        around: Surroundings,
        root: bytes,
        secret: bytes,
        peers: Sequence[PeerId],
        folder: Path,
        *,
        kind: TicketKind = TicketKind.BLOB,
        protocol: Protocol = BLOBS,
    ) -> None:
        """`protocol`: by which `peers` give it, with the messages of `files`."""
        self._around = around
        self._peers = peers
        self._protocol = protocol
        self._tickets = {peer: Ticket(kind, peer, root, secret, ()) for peer in peers}
        self._folder = folder
        self._waits = ""
        self._first: Session | None = None
        self.size = 0  # bytes; known once somebody has said yes

    async def open(self) -> None:
        """Ask one after the other until somebody gives it.

        Raises:
            NotFound, AccessDenied: nobody gives it to us.
            TransportError, PeerError: nobody was reached or understood.
        """
        errors: list[CoterieError] = []
        for peer in self._peers:
            try:
                self._first = await self._open_at(peer, (), asks_root=True)
            except (CoterieError, TimeoutError) as error:
                errors.append(error if isinstance(error, CoterieError) else TransportError(str(error)))
            else:
                self.size = self._first[2].size
                return
        unreached = [error for error in errors if isinstance(error, TransportError)]
        raise (unreached or errors or [NotFound(tr("say from whom to fetch"))])[0]

    async def run(self, report: Report) -> Path:
        """Fetch all of it, through any number of broken links; where it lies then.

        Raises:
            NotFound, AccessDenied, PeerError: everybody refuses by now, or gives what it is not.
            StorageError: the disk.
        """
        assert self._first is not None  # noqa: S101  (opened before)
        peer, opened = self._first[1].peer, self._first[2]
        ticket, target = self._tickets[peer], self._folder / "content"
        staging, files = os.urandom(16), opened.files
        record = TransferRecord("", "", str(target), 0.0, files=files, size=opened.size, staging=staging)
        discretion = Discretion(is_giver_known=all(map(self._around.access.policy.is_known, self._peers)))
        store, versions = self._around.blobs.store, self._around.blobs.versions
        arrival = Arrival(target, versions, None, None, source="")
        receiver = Receiver(ticket, record, store=store, discretion=discretion, arrival=arrival)
        nobody = lambda *_: None  # noqa: E731  (to hear of others, or of who gave how much)
        portion = self._around.blobs.rates.down_shares.portion(WEIGHTS["normal"])
        fetch = Fetch(ticket, receiver, SystemRandom(), hint=nobody, gave=nobody, buckets=(portion,))
        sources = Sources(fetch, self._open_at, self._say)
        for other in self._peers:
            sources.met(other, (), is_hint=other != peer)
        telling = asyncio.ensure_future(self._tell(receiver, report))
        try:
            first, self._first = self._first, None
            await sources.run(first)
            return (await asyncio.to_thread(receiver.finish, "fail")).path
        except ShareMoved:
            raise PeerError("content that is named by its id does not move") from None
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await fetch.close()
            await asyncio.to_thread(receiver.close)
            portion.close()

    async def close(self) -> None:
        """Let go of a session that was opened and not used."""
        if self._first is not None:
            await self._first[1].reset(0)

    async def _open_at(self, peer: PeerId, addresses: Sequence[str], *, asks_root: bool = False) -> Session:
        ticket = self._tickets[peer]
        own = self._around.me.peer_id
        ahead = opening(ticket, own, peer, protocol=self._protocol, asks_root=asks_root)
        connection = await self._around.net.connect(peer, addresses, ahead=ahead)
        stream, opened = await open_share(connection, ticket, ahead)
        return connection, stream, opened

    def _say(self, note: str) -> None:
        self._waits = self._around.people.in_names(note)

    async def _tell(self, receiver: Receiver, report: Report) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            phase = "waiting" if self._waits else "receiving"
            report(
                Progress(
                    phase=phase, done=receiver.done_bytes, total=self.size, unit="bytes", note=self._waits
                )
            )
