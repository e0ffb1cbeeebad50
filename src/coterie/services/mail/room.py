"""The mail of a node: one protocol for all apps, each of which has a box of its own.

A computer can be sent to when our stream to it is open, so that a letter is not bound to a computer that has no mail.
Letters of known senders are taken from whoever brings them; strangers are not served.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from coterie.access.people import People
from coterie.driver import Driver
from coterie.errors import CloseCode, CoterieError, PeerError
from coterie.identity import PeerId, SecretKey
from coterie.machine import Emit, PeerDown, PeerUp, Send
from coterie.net import Connection, Endpoint, Stream
from coterie.services.mail.box import MailBox
from coterie.services.mail.events import Answered, Arrived
from coterie.services.mail.messages import PROTOCOL, Envelope, Outcome, Receipt
from coterie.services.mail.sealing import Seals
from coterie.tasks import Tasks
from coterie.wire.frames import Message

FILE = "mail.db"
WAITING_MAX = 1_024  # messages for one slow peer; every app has IN_FLIGHT_MAX of them at most
REFUSED_MAX = 1_024  # computers that take no letters, remembered to say so; guess
LOOK_S = 5.0  # guess: who has come home expects what waited within seconds
IDLE_S = 60.0  # guess: then our stream is finished, so that the connection can become idle

log = logging.getLogger(__name__)


class MailRoom:
    """Made when the first app asks for mail. All methods belong to the node's event loop."""

    protocol = PROTOCOL  # to be opened to those who are known

    def __init__(
        self,
        key: SecretKey,
        people: People,
        endpoint: Endpoint | None,
        *,
        connect: Callable[[PeerId], Awaitable[Connection]],
        clock: Callable[[], float],
        tasks: Tasks,
        opened: asyncio.Event | None = None,
    ) -> None:
        """`endpoint` None: offline; letters are kept and not sent. `clock`: unix seconds that never go back.

        `opened`: set when all apps have started; until then letters wait at the door, for those to an app that takes
        none yet would come again much later.
        """
        self._opened = opened
        self.seals = Seals(key)
        self.now = clock
        self._people = people
        self._endpoint = endpoint
        self._connect = connect
        self._tasks = tasks
        self._boxes: dict[str, MailBox] = {}
        self._streams: dict[
            PeerId, tuple[Stream, float]
        ] = {}  # and when it was last used, by the loop's clock
        self._dialling: dict[PeerId, None] = {}
        self._refused: dict[PeerId, None] = {}  # who was reached and took no letters, in order
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self._sender = Driver(_Passing(), send=self._write, on_output=self._heard, send_queue_max=WAITING_MAX)
        self._were_here: set[PeerId] = set()
        self._looking: asyncio.TimerHandle | None = None
        if endpoint is not None:
            self._looking = self._loop.call_later(LOOK_S, self._look_again)
            endpoint.register(PROTOCOL, self._serve)
            endpoint.watch(up=self._up, down=self._down)

    def box(self, app: str, folder: Path, tasks: Tasks, tell: Callable[[str], None]) -> MailBox:
        """The mail of `app`, whose folder this is; the same each time. `tell`: for the owner."""
        if app not in self._boxes:
            self._boxes[app] = MailBox(app, folder / FILE, self, tasks, tell)
        return self._boxes[app]

    async def close_box(self, app: str) -> None:
        """The app has ended."""
        if box := self._boxes.pop(app, None):
            await box.close()

    def status(self, app: str) -> dict[str, Any]:
        """What `coterie status` says of the mail of `app`."""
        return self._boxes[app].status() if app in self._boxes else {}

    async def close(self) -> None:
        """Stop everything; letters are on disk."""
        for app in list(self._boxes):
            await self.close_box(app)
        for timer in (self._sweeping, self._looking):
            if timer is not None:
                timer.cancel()
        self._sender.close()
        await self._tasks.close()
        streams, self._streams = list(self._streams.values()), {}
        for stream, _ in streams:
            await stream.reset()

    # ---- for the boxes

    def send(self, peer: PeerId, message: Message) -> None:
        """Behind what already waits for `peer`."""
        if self._endpoint is not None:
            self._sender.feed(Send(peer, message))

    def dial(self, peer: PeerId) -> None:
        """Try to reach `peer` in the background; the boxes hear how that ends."""
        if self._endpoint is not None and peer not in self._dialling:
            self._dialling[peer] = None
            self._tasks.start(self._reach(peer), "reaching a computer for which letters wait")

    def is_refused(self, peer: PeerId) -> bool:
        """Whether `peer` was reached lately and takes no letters of this computer."""
        return peer in self._refused

    def is_known(self, peer: PeerId) -> bool:
        """Whether letters of `peer` are taken."""
        return self._people.is_known(peer)

    def reachable(self) -> Sequence[PeerId]:
        """To whom our stream is open."""
        return list(self._streams)

    def devices_of(self, peer: PeerId) -> Sequence[PeerId]:
        """All computers of the person of whom `peer` is one, but this one."""
        return [p for p in self._people.computers_of(peer) if p != self.seals.peer_id]

    # ---- the network

    def look(self) -> None:
        """Dial whom letters wait for, and who has appeared on the local network since the last look."""
        here = set(self._people.here() or ()) - set(self._dialling)  # those again the next time
        for peer in here - self._were_here:
            if peer not in self._streams and any(box.is_writing_to(peer) for box in self._boxes.values()):
                self.dial(peer)
        self._were_here = here

    def _look_again(self) -> None:
        self._looking = self._loop.call_later(LOOK_S, self._look_again)
        self.look()

    def _up(self, connection: Connection) -> None:
        known = self._streams.get(connection.peer)
        if known is not None and known[0].link is not connection:  # it takes the place of one that was lost
            del self._streams[connection.peer]
            self._tell(PeerDown(connection.peer, "connected anew"))
        if any(box.is_writing_to(connection.peer) for box in self._boxes.values()):
            self.dial(connection.peer)

    def _down(self, connection: Connection) -> None:
        known = self._streams.get(connection.peer)
        if known is not None and known[0].link is not connection:
            return  # another connection has taken its place
        self._streams.pop(connection.peer, None)
        self._tell(PeerDown(connection.peer, "disconnected"))

    async def _reach(self, peer: PeerId) -> None:
        try:
            await self._stream_to(peer)
        except (CoterieError, TimeoutError) as error:
            log.debug("letters to %s wait: %s", peer.short, error)
            if isinstance(error, PeerError) and error.close_code == CloseCode.REFUSED:
                self._refused[peer] = None
                while len(self._refused) > REFUSED_MAX:
                    del self._refused[next(iter(self._refused))]
            self._tell(PeerDown(peer, str(error)))
            if isinstance(error, PeerError) and error.close_code == CloseCode.REFUSED:
                for box in self._boxes.values():
                    box.tell_refused(peer)
        else:
            self._refused.pop(peer, None)
            self._tell(PeerUp(peer))
        finally:
            self._dialling.pop(peer, None)

    async def _stream_to(self, peer: PeerId) -> Stream:
        known = self._streams.get(peer)
        if known is None:
            connection = await self._connect(peer)
            stream = await connection.open_stream(PROTOCOL)
            if peer in self._streams:  # opened meanwhile by another caller
                await stream.reset()
                stream = self._streams[peer][0]
        else:
            stream = known[0]
        self._streams[peer] = stream, self._loop.time()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(IDLE_S, self._sweep)
        return stream

    async def _write(self, peer: Hashable, message: Any) -> None:
        assert isinstance(peer, PeerId)  # noqa: S101  (`send` takes nothing else)
        stream = await self._stream_to(peer)
        try:
            await stream.send(message)
        except BaseException:  # a cancelled send too: half a message may be on its way
            self._streams.pop(peer, None)
            await stream.reset()
            raise

    def _sweep(self) -> None:
        self._sweeping = None
        for peer, (stream, used_at) in list(self._streams.items()):
            if used_at <= self._loop.time() - IDLE_S and not self._sender.is_sending(peer):
                del self._streams[peer]
                self._tasks.start(_finish(stream), "finishing a stream")
        if self._streams:
            self._sweeping = self._loop.call_later(IDLE_S, self._sweep)

    def _heard(self, output: Emit) -> None:
        if isinstance(output.event, PeerDown):  # it could not be written to
            self._tell(output.event)

    def _tell(self, event: PeerUp | PeerDown) -> None:
        for box in self._boxes.values():
            box.feed_peer(event)

    async def _serve(self, stream: Stream) -> None:
        if self._opened is not None:
            await self._opened.wait()
        while (message := await stream.receive()) is not None:
            match message:
                case Envelope():
                    self._take(stream.peer, message)
                case Receipt():
                    if self.seals.is_sound(message):
                        for box in self._boxes.values():
                            box.feed_other(Answered(stream.peer, message))

    def _take(self, bringer: PeerId, envelope: Envelope) -> None:
        try:
            opened = self.seals.open(envelope)
        except PeerError as error:
            log.info("%s brought %s", bringer.short, error)
            return
        if not self._people.is_known(opened.sender):
            log.info("%s brought a letter of %s, who is not known here", bringer.short, opened.sender.short)
            return
        box = self._boxes.get(opened.letter.app)
        if box is None or not box.is_taking:
            self.send(bringer, self.seals.receipt(opened, Outcome.AWAY))
        else:
            box.feed_other(Arrived(bringer, opened))


class _Passing:
    """No core: the driver's queues for each peer are all that is wanted."""

    def handle(self, event: Any, now: float) -> list[Any]:
        return [event] if isinstance(event, Send) else [Emit(event)]


async def _finish(stream: Stream) -> None:
    try:
        await stream.end()
    except CoterieError as error:
        log.debug("a stream to %s ended: %s", stream.peer.short, error)
