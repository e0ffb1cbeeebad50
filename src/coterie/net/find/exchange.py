"""`peer-record/1`: on each new connection both sides tell their newest record and the address they see.

The dialler tells first and is answered on the same stream; after that either side tells again when something
changed. A contact may also be asked for the record of another peer.
"""

import asyncio
import logging
from typing import Protocol

from coterie.errors import CloseCode, CoterieError, LimitExceeded, PeerError, TransportError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES
from coterie.net.connection import Connection
from coterie.net.endpoint import Endpoint
from coterie.net.find.observed import Reported
from coterie.net.stream import Stream
from coterie.rate import Rate, RateTable
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire import Protocol as WireProtocol
from coterie.wire.frames import Message
from coterie.wire.record import ADDRESS_CHARS_MAX, RECORD_BYTES_MAX

ANSWER_S = 3.0  # guess: three round trips of a bad satellite link
TELLS_PER_S = 0.1  # guess: addresses of one peer change less often than every ten seconds,
TELLS_BURST = 10  # but several times while paths settle
ASKS_PER_S = 2.0  # guess: a contact that looks for others of the circle
ASKS_BURST = 50
PEERS_TRACKED_MAX = 1_024  # guess: peers whose rates are kept; a forgotten one starts with a full bucket

_log = logging.getLogger(__name__)


class Tell(Message, frozen=True):
    """The sender's newest record (may be empty), and where it sees the receiver ("ip:port" or empty)."""

    record: bytes = b""
    observed: str = ""


class Ask(Message, frozen=True):
    """For the record of `peer`."""

    peer: bytes


class Answer(Message, frozen=True):
    """The record asked for; empty when the sender has none, or none for us: it does not say which."""

    record: bytes = b""


PEER_RECORD = WireProtocol(
    name="peer-record", versions=(1,), kinds={1: Tell, 2: Ask, 3: Answer}, frame_bytes_max=2048
)


class RecordKeeper(Protocol):
    """Whoever owns the book: what the exchange asks it and tells it."""

    def own_record(self, connection: Connection) -> bytes:
        """This node's signed record as the other side of `connection` may see it."""
        ...

    def learn(self, raw: bytes, source: str) -> PeerId | None:
        """Verify and keep a record; whose it is, or None when it is refused."""
        ...

    def reported(self, report: Reported) -> None:
        """A peer told what it sees."""
        ...

    def is_chosen(self, connection: Connection) -> bool:
        """Whether we had a reason of our own to have this connection: we dialled it, or a contact did."""
        ...

    def record_for(self, asker: PeerId, about: PeerId) -> bytes | None:
        """The record of `about`, if `asker` may have it."""
        ...


class RecordExchange:
    """Speaks `peer-record/1` on all connections of `endpoint`."""

    def __init__(self, endpoint: Endpoint, keeper: RecordKeeper, *, tasks: Tasks | None = None) -> None:
        self._endpoint = endpoint
        self._keeper = keeper
        self._told: dict[PeerId, tuple[bytes, str]] = {}
        self._rates: RateTable[PeerId, tuple[Rate, Rate]] = RateTable(
            PEERS_TRACKED_MAX, lambda _: (Rate(TELLS_PER_S, TELLS_BURST), Rate(ASKS_PER_S, ASKS_BURST))
        )
        self._tasks = tasks or Tasks("records")

    def start(self) -> None:
        """Answer others, and tell every peer that we dial."""
        self._endpoint.register(PEER_RECORD, self._serve, strangers=True)
        self._endpoint.watch(up=self._up, down=self._down)

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.close()

    def refresh(self) -> None:
        """Tell every connected peer whose last word from us is out of date."""
        for connection in self._endpoint.connections:
            told = self._told.get(connection.peer)
            if told is not None and told != self._news(connection):
                self._tasks.start(self._tell(connection), "telling our record")

    async def ask(self, connection: Connection, about: PeerId) -> bytes:
        """The record of `about` that the other side has for us; empty when it has none.

        Raises:
            PeerError, TransportError: it does not answer as it should.
        """
        try:
            async with await connection.open_stream(PEER_RECORD) as stream:
                await stream.send(Ask(bytes(about)))
                reply = await stream.receive(ANSWER_S)
        except TimeoutError:
            raise TransportError(tr("{short} does not answer", short=connection.peer.short)) from None
        if not isinstance(reply, Answer):
            raise PeerError(f"{connection.peer.short} did not answer what it was asked")
        return reply.record

    # ---- telling

    def _up(self, connection: Connection) -> None:
        if connection.is_dialled:
            self._tasks.start(self._tell(connection), "telling our record")

    def _down(self, connection: Connection) -> None:
        if not any(c.peer == connection.peer for c in self._endpoint.connections):
            self._told.pop(connection.peer, None)

    async def _tell(self, connection: Connection) -> None:
        """Tell, and hear the other side's word."""
        try:
            news = self._told[connection.peer] = self._news(connection)
            async with await connection.open_stream(PEER_RECORD) as stream:
                await stream.send(Tell(*news))
                reply = await stream.receive(ANSWER_S)
                if isinstance(reply, Tell):
                    self._hear(reply, connection)
        except (CoterieError, TimeoutError) as error:
            _log.debug("no exchange of records with %s: %s", connection.peer.short, error)

    def _news(self, connection: Connection) -> tuple[bytes, str]:
        path = connection.path
        observed = path.remote if path.kind == "direct" and len(path.remote) <= ADDRESS_CHARS_MAX else ""
        return self._keeper.own_record(connection), observed

    # ---- hearing

    async def _serve(self, stream: Stream) -> None:
        connection = next((c for c in self._endpoint.connections if c.peer == stream.peer), None)
        if connection is None:
            raise TransportError(tr("the connection has ended"))
        tells, asks = self._rates.of(stream.peer)
        now = asyncio.get_running_loop().time()
        message = await stream.receive(ANSWER_S)
        if isinstance(message, Ask):
            if not asks.take(now):
                raise LimitExceeded(tr("{short} asks for too many records", short=stream.peer.short))
            await stream.send(Answer(self._answer(stream.peer, message)))
        elif isinstance(message, Tell):
            if not tells.take(now):
                raise LimitExceeded(tr("{short} tells its record too often", short=stream.peer.short))
            self._hear(message, connection)
            news = self._told[stream.peer] = self._news(connection)
            await stream.send(Tell(*news))

    def _answer(self, asker: PeerId, ask: Ask) -> bytes:
        if len(ask.peer) != KEY_BYTES:
            raise PeerError("asked for the record of nobody")
        return self._keeper.record_for(asker, PeerId(ask.peer)) or b""

    def _hear(self, told: Tell, connection: Connection) -> None:
        """Take the word of the other side: its own record only, and what it sees of us."""
        if len(told.record) > RECORD_BYTES_MAX or len(told.observed) > ADDRESS_CHARS_MAX:
            raise PeerError("a record or an address that is too long", CloseCode.LIMIT)
        if told.record:
            if told.record[1 : 1 + KEY_BYTES] != connection.peer:
                raise PeerError("a record of somebody else")
            if self._keeper.learn(told.record, "connected") is None:
                raise PeerError("a record that cannot be accepted")
        path = connection.path
        if told.observed and path.kind == "direct":
            chosen = self._keeper.is_chosen(connection)
            self._keeper.reported(Reported(connection.peer, told.observed, path.remote, chosen))
