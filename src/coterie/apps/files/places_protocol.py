"""Both sides of `places`: answering what peers may see here, and asking others."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from coterie.access.policy import QuotaUsedUp
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.files.places import Places, Spot
from coterie.apps.files.places_messages import (
    ENTRIES_MAX,
    PATH_BYTES_MAX,
    PLACES,
    USED_UP_SINCE,
    Entry,
    List,
    Listed,
    Locate,
    Located,
    NotThere,
)
from coterie.content.manifest import ID_BYTES
from coterie.errors import NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.texts import tr
from coterie.transfer.messages import UsedUp
from coterie.transfer.used_up import denial, used_up
from coterie.wire import Ticket
from coterie.wire.frames import Bulk, Message
from coterie.wire.ticket import SECRET_BYTES, TicketKind

ANSWER_S = 10.0  # a folder of thousands is read from a slow disk
SILENCE_S = 60.0  # between questions
ENTRIES_SHOWN_MAX = 100_000  # guess: more in one folder nobody reads; 200 answers


class Visits:
    """Answers `places` for this node."""

    def __init__(self, places: Places, executor: Executor, settle: Callable[[str], Awaitable[bool]]) -> None:
        """`settle` takes in what was changed of a share over a drive; whether there was anything."""
        self._places = places
        self._settle = settle
        self._executor = executor

    async def handle(self, stream: Stream) -> None:
        """One visitor with its questions."""
        while (question := await stream.receive(SILENCE_S)) is not None:
            try:
                answer = await self._answer(stream.peer, question)
            except NotFound:
                answer = NotThere()
            except QuotaUsedUp as error:
                answer = NotThere() if stream.version < USED_UP_SINCE else used_up(error.link)
            await stream.send(answer)

    async def _answer(self, peer: PeerId, question: Message | Bulk) -> Message:
        loop = asyncio.get_running_loop()
        match question:
            case List(path="", after=after):
                entries = [entry for entry in self._places.top(peer) if entry.name > after]
                return Listed(entries[:ENTRIES_MAX], len(entries) > ENTRIES_MAX)
            case List(path, after):
                spot = await self._spot(peer, Verb.LIST, path)
                return await loop.run_in_executor(self._executor, self._places.entries, spot, after)
            case Locate(path):
                spot = await self._spot(peer, Verb.READ, path)
                found = await loop.run_in_executor(self._executor, self._places.found, spot)
                return Located(int(found.kind), found.id, self._places.secret_for(peer, spot, found))
        raise PeerError("places are listed and located, nothing else")

    async def _spot(self, peer: PeerId, verb: Verb, path: str) -> Spot:
        spot = self._places.choose(peer, verb, path)
        return self._places.choose(peer, verb, path) if await self._settle(spot.share.id) else spot


async def list_place(context: Context, peer: PeerId, path: str) -> list[Entry]:
    """What is in `path` of `peer`'s shares, as far as we may see it.

    Raises:
        NotFound: nothing, or not for us.
        AccessDenied: the amount of our grant for it is used up.
        TransportError, PeerError: not reached, or not understood.
    """
    found: list[Entry] = []
    async with await _visit(context, peer) as stream:
        while True:
            answer = await _ask(stream, List(path, found[-1].name if found else ""), path)
            if not isinstance(answer, Listed) or len(answer.entries) > ENTRIES_MAX:
                raise PeerError(f"{peer.short} did not answer as coterie does")
            found += answer.entries
            if not answer.more or not answer.entries or len(found) >= ENTRIES_SHOWN_MAX:
                return found


async def locate_place(context: Context, peer: PeerId, path: str) -> Ticket:
    """A ticket for `path` of `peer`'s shares, of use to this node only. Errors as `list_place`."""
    async with await _visit(context, peer) as stream:
        answer = await _ask(stream, Locate(path), path)
    if (
        not isinstance(answer, Located)
        or answer.kind not in set(TicketKind)
        or (len(answer.content_id), len(answer.secret)) != (ID_BYTES, SECRET_BYTES)
    ):
        raise PeerError(f"{peer.short} did not answer as coterie does")
    return Ticket(TicketKind(answer.kind), peer, answer.content_id, answer.secret)


async def _visit(context: Context, peer: PeerId) -> Stream:
    connection = await context.net.connect(peer)
    return await connection.open_stream(PLACES)


async def _ask(stream: Stream, question: List | Locate, path: str) -> Message:
    if len(path.encode(errors="replace")) > PATH_BYTES_MAX:
        raise NotFound(tr("a path so long is none"))
    try:
        await stream.send(question)
        answer = await stream.receive(ANSWER_S)
    except TimeoutError:
        raise TransportError(
            tr("{short} is connected but does not answer", short=stream.peer.short)
        ) from None
    if isinstance(answer, NotThere):
        raise NotFound(
            tr(
                "there is no '{path}' there, or it is not shared with this computer; `coterie ls` shows "
                "what is",
                path=path,
            )
        )
    if isinstance(answer, UsedUp):
        raise denial(stream.peer, answer)
    if not isinstance(answer, Message):
        raise PeerError(f"{stream.peer.short} did not answer as coterie does")
    return answer
