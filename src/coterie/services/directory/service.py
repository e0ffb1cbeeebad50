"""The directory of a node: tells peers what the apps here offer them, and asks peers what they offer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from coterie.access.enforcer import Enforcer
from coterie.access.people import People
from coterie.errors import CloseCode, LimitExceeded, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.rate import Rate, RateTable
from coterie.services.directory.core import Catalogue, Offered, Provider
from coterie.services.directory.messages import DIRECTORY, NAME_CHARS_MAX, OFFERS_MAX, Ask, Offer, Offers
from coterie.services.directory.results import PlaceLine
from coterie.texts import tr
from coterie.wire.pasted import bare

ANSWER_S = 10.0  # guess: a computer with thousands of shares that is busy
SILENCE_S = 60.0  # between questions
ANSWERS_MAX = 200  # to one question of `ls`: 100,000 offers; guess: more in one list nobody reads
ASKED_PER_S = (
    4.0  # answers to one peer in the long run; who may list little of much pays by what is looked at
)
ASKED_BURST = 40  # two whole lists of 10,000
WEIGHED_IN_ROW_MAX = 100  # things looked at before others have their turn; measured: 40 us each
ASKERS_MAX = 1_024  # guess: peers whose rate is remembered

Inside = Callable[[PeerId, str], Awaitable[Sequence[PlaceLine]]]
"""What is in a place of a peer, by its path ("" : all that it offers of this kind). Raises `NotFound`."""


class Directory:
    """Made by the node. All methods belong to its event loop."""

    def __init__(
        self,
        access: Enforcer,
        people: People,
        *,
        connect: Callable[[PeerId], Awaitable[Connection]],
    ) -> None:
        self._people = people
        self._connect = connect
        self._catalogue = Catalogue(access)
        self._inside: dict[str, Inside] = {}
        self._rates: RateTable[PeerId, Rate] = RateTable(
            ASKERS_MAX, lambda peer: Rate(ASKED_PER_S, ASKED_BURST)
        )

    # ---- what apps here offer

    def add(self, kind: str, provider: Provider, inside: Inside | None = None) -> None:
        """List what `provider` gives for a peer and that peer may list; look into places of others with `inside`.

        Raises:
            UsageError: the kind is not declared, or is offered already.
        """
        self._catalogue.add(kind, provider)
        if inside is not None:
            self._inside[kind] = inside

    def remove(self, kind: str) -> None:
        """The app of this kind has ended."""
        self._catalogue.remove(kind)
        self._inside.pop(kind, None)

    def offered(self, peer: PeerId, kind: str) -> list[Offered]:
        """What of `kind` the peer may list here; this node itself: all."""
        return list(self._catalogue.offered(peer, kind))

    async def handle(self, stream: Stream) -> None:
        """One asker with its questions; who asks much waits for its answers."""
        while (question := await stream.receive(SILENCE_S)) is not None:
            if not isinstance(question, Ask):
                raise PeerError("a directory is asked, nothing else")
            wait_s = self._rates.of(stream.peer).spend(asyncio.get_running_loop().time())
            if wait_s > ANSWER_S:
                raise LimitExceeded(tr("this computer asks too often what is offered"))
            await asyncio.sleep(wait_s)
            await stream.send(await self._answer(stream.peer, question))

    async def _answer(self, peer: PeerId, question: Ask) -> Offers:
        """Looked at in short steps, and paid for by whoever asks: OFFERS_MAX as one more question."""
        weighed = 0
        for weighed, answer in enumerate(self._catalogue.weigh(peer, question)):
            if answer is not None:
                break
            if not weighed % WEIGHED_IN_ROW_MAX:
                await asyncio.sleep(0)
        self._rates.of(peer).spend(asyncio.get_running_loop().time(), weighed / OFFERS_MAX)
        assert answer is not None  # noqa: S101  (the last one is the answer)
        return answer

    # ---- what others offer

    async def look(self, place: str = "") -> Sequence[PlaceLine]:
        """Who is known here; or what a peer offers to us, like "anna"; or what is in a place, like "anna/photos".

        Raises:
            NotFound: nobody of that name, or no such place for us.
            AccessDenied: the amount of our grant for it is used up.
            TransportError, PeerError: not reached, or not understood.
        """
        name, _, path = bare(place).strip("/").partition("/")
        if not name:
            return self._computers()
        peer = self._people.find(name)
        return await (self._look_inside(peer, path) if path else self._offers_of(peer))

    def _computers(self) -> Sequence[PlaceLine]:
        here = self._people.here()
        return [
            PlaceLine(label, "computer", here=None if here is None else known.peer in here, known=known.of)
            for label, known in self._people.names().items()
        ]

    async def _offers_of(self, peer: PeerId) -> Sequence[PlaceLine]:
        """All of it; a computer that knows no directory, or not us, is asked for each kind in the way of that kind."""
        offers = await self._offers_if_known(peer)
        if offers is not None:
            return [PlaceLine.of(offer) for offer in offers]
        return [line for inside in list(self._inside.values()) for line in await inside(peer, "")]

    async def _look_inside(self, peer: PeerId, path: str) -> Sequence[PlaceLine]:
        """By the app of what the path begins with; what is in no list is known by name to an app that looks inside."""
        offers = await self._offers_if_known(peer) or ()
        named = [offer for offer in offers if f"{path}/".startswith(f"{offer.name}/")]
        if inside := next((self._inside[offer.kind] for offer in named if offer.kind in self._inside), None):
            return await inside(peer, path)
        if lines := [PlaceLine.of(offer) for offer in named if offer.name == path]:
            return lines
        missing = NotFound(
            tr("there is no '{path}' there, or it is not for this computer", path=path[:NAME_CHARS_MAX])
        )
        for inside in list(self._inside.values()):
            try:
                return await inside(peer, path)
            except NotFound as error:
                missing = error
        raise missing

    async def _offers_if_known(self, peer: PeerId) -> Sequence[Offer] | None:
        """All that it offers; None where it knows no directory, or not us, and somebody else is to be asked."""
        try:
            return await self._ask(peer)
        except PeerError as error:
            if error.close_code != CloseCode.REFUSED or not self._inside:
                raise
        return None

    async def _ask(self, peer: PeerId) -> Sequence[Offer]:
        found: list[Offer] = []
        connection = await self._connect(peer)
        try:
            async with await connection.open_stream(DIRECTORY) as stream:
                for _ in range(ANSWERS_MAX):
                    last = (found[-1].kind, found[-1].name) if found else ("", "")
                    await stream.send(Ask(*last))
                    answer = await stream.receive(ANSWER_S)
                    if not isinstance(answer, Offers):
                        raise PeerError(f"{peer.short} did not answer as coterie does")
                    found += answer.offers
                    if not answer.more or not answer.offers:
                        break
        except TimeoutError:
            raise TransportError(tr("{short} is connected but does not answer", short=peer.short)) from None
        return found
