"""Offers to and from strangers: over a stream for each, opened by whoever met the other, and again until it is over.

A stranger gets a stream for an offer that was made to it over a code, and, while the owner takes offers from the local
network, for one that it makes from there. Everybody else hears `Gone`, whatever is asked.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coterie.apps.context import Context
from coterie.apps.send import core as c
from coterie.apps.send import events as e
from coterie.apps.send.messages import PROTOCOL, Gone, Hello, Here, Offer, Take, check
from coterie.errors import CloseCode, CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.net.home_networks import is_home
from coterie.rate import Rate
from coterie.texts import tr
from coterie.wire.frames import Message

FIRST_S = 10.0  # for the first message of a stream
SEND_S = 20.0  # for one message to be taken
RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # guess: at once for a restart, then gently
MESSAGES_PER_S = 2.0  # of one stranger about one offer; guess: each is written to the disk
MESSAGES_BURST = 64
STREAMS_MAX = 64  # of strangers who are served; guess
STREAMS_OF_ONE_MAX = 8  # guess
Key = tuple[PeerId, bytes]

log = logging.getLogger(__name__)


class Direct:
    """All such streams of a node. All methods belong to its event loop."""

    def __init__(self, context: Context, core: c.SendCore, feed: Callable[[Any], None]) -> None:
        self._context = context
        self._core = core
        self._feed = feed
        self._streams: dict[Key, tuple[Stream, asyncio.Event]] = {}
        self._calls: dict[Key, None] = {}
        self.near = 0  # how many of the owner's commands take offers from the local network now

    @contextlib.contextmanager
    def open_to_near(self) -> Iterator[None]:
        """While the block runs, offers from the local network are taken into the inbox."""
        self.near += 1
        try:
            yield
        finally:
            self.near -= 1

    def follow(self) -> None:
        """The states have changed: tell it, call whom we have to, end what is over."""
        for _, fresh in self._streams.values():
            fresh.set()
        wanted = {(call.peer, call.offer): call for call in self._wanted()}
        for key, call in wanted.items():
            if key not in self._calls:
                self._calls[key] = None
                self._context.jobs.start(self._call(call), f"an offer to or from {call.peer.short}")
        for key, (stream, _) in list(self._streams.items()):
            if key in self._calls and key not in wanted:
                self._context.jobs.start(_finish(stream), "ending a stream about an offer")

    def _wanted(self) -> list[e.Call]:
        return list(self._core.calls(self._context.access.now)) if self._context.me.addresses() else []

    # ---- their streams

    async def serve(self, stream: Stream) -> None:
        """One stream that somebody opened."""
        first = await stream.receive(FIRST_S)
        if first is not None and isinstance(first, Message):
            check(first)
        peer = stream.peer
        match first:
            case Take(offer) if self._core.is_for(peer, offer):
                self._check_room(peer)
                stream.welcome()
                await self._talk(stream, offer)
            case Offer() if self._may_offer(stream, first):
                self._check_room(peer)
                self._feed(e.Heard(peer, first, is_stranger=True))
                if self._core.find(peer, first.id) is None:
                    await stream.send(Gone(first.id))
                else:
                    stream.welcome()
                    await self._talk(stream, first.id)
            case Hello() if self.near and _is_near(stream):
                await stream.send(Here(self._context.me.name))
            case Take(offer) | Offer(offer):
                await stream.send(Gone(offer))
            case _:
                await stream.send(Gone(bytes(16)))
        await stream.finish()

    def _check_room(self, peer: PeerId) -> None:
        """Raise `PeerError` when too much is served: the other side comes again, and does not hear that it is over."""
        of_one = sum(known == peer for known, _ in self._streams)
        if len(self._streams) >= STREAMS_MAX or of_one >= STREAMS_OF_ONE_MAX:
            raise PeerError(
                f"too many streams about offers are open, {of_one} of {peer.short}", CloseCode.LIMIT
            )

    def _may_offer(self, stream: Stream, offer: Offer) -> bool:
        got = self._core.find(stream.peer, offer.id)
        if got is not None:
            return got.is_stranger  # of others the mail brings what is new, while they are known
        return self.near > 0 and _is_near(stream)

    # ---- our streams

    async def ask(self, peer: PeerId, offer: bytes, addresses: Sequence[str]) -> None:
        """Ask one whom we met over a code for its offer, which is in the inbox then.

        Raises:
            NotFound: it is gone.
            TransportError, PeerError: the other side is, or answers wrongly.
        """
        async with await self._open(peer, addresses) as stream:
            await stream.send(Take(offer))
            answer = await _receive(stream)
        if not isinstance(answer, Offer) or answer.id != offer:
            raise NotFound(tr("the other side does not offer it any more: ask for a new code"))
        heard = e.Heard(peer, answer, is_stranger=True, addresses=tuple(addresses), dials=True)
        self._feed(heard)

    async def name_of(self, peer: PeerId, addresses: Sequence[str]) -> str:
        """What a computer on the local network calls itself; errors as `ask`."""
        async with await self._open(peer, addresses) as stream:
            await stream.send(Hello())
            answer = await _receive(stream)
        if not isinstance(answer, Here):
            raise NotFound(tr("{short} takes nothing from strangers now", short=peer.short))
        return answer.name

    async def _open(self, peer: PeerId, addresses: Sequence[str]) -> Stream:
        connection = await self._context.net.connect(peer, addresses)
        return await connection.open_stream(PROTOCOL)

    async def _call(self, call: e.Call) -> None:
        """Speak with a stranger, again and again, until the offer is over for both."""
        key, tries = (call.peer, call.offer), 0
        try:
            while any((wanted.peer, wanted.offer) == key for wanted in self._wanted()):
                try:
                    async with await self._open(call.peer, call.addresses) as stream:
                        await stream.send(call.first)
                        if await self._talk(stream, call.offer):
                            tries = 0
                except (CoterieError, TimeoutError) as error:
                    log.debug("an offer to or from %s waits: %s", call.peer.short, error)
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
        finally:
            self._calls.pop(key, None)

    # ---- both

    async def _talk(self, stream: Stream, offer: bytes) -> bool:
        """Say our half and hear theirs until the stream ends; whether anything came."""
        key, fresh, has_heard = (stream.peer, offer), asyncio.Event(), False
        before = self._streams.get(key)
        self._streams[key] = stream, fresh
        if before is not None:
            await before[0].reset(CloseCode.CANCELLED)
        rate = Rate(MESSAGES_PER_S, MESSAGES_BURST)
        writer = asyncio.ensure_future(self._write(stream, offer, fresh))
        try:
            self._feed(e.StreamOpened(stream.peer, offer))
            while (message := await stream.receive()) is not None:
                if not isinstance(message, Message):
                    continue
                check(message)
                if not rate.take(asyncio.get_running_loop().time()):
                    raise PeerError(
                        f"too many messages of {stream.peer.short} about an offer", CloseCode.LIMIT
                    )
                has_heard = True
                self._hear(stream.peer, offer, message)
            return has_heard
        finally:
            if self._streams.get(key) == (stream, fresh):
                del self._streams[key]
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _hear(self, peer: PeerId, offer: bytes, message: Message) -> None:
        if getattr(message, "id", offer) == offer and not isinstance(message, Take | Hello | Here):
            self._feed(e.Heard(peer, message, is_stranger=True))

    async def _write(self, stream: Stream, offer: bytes, fresh: asyncio.Event) -> None:
        """Send our half whenever it changed."""
        while True:
            fresh.clear()
            for unsent in list(self._core.unsent()):
                if unsent.is_stranger and unsent.peer == stream.peer and unsent.offer == offer:
                    async with asyncio.timeout(SEND_S):
                        for message in unsent.messages:
                            await stream.send(message)
                    self._feed(e.Told(unsent.id, unsent.peer, unsent.serial))
            await fresh.wait()


async def _receive(stream: Stream) -> Message:
    try:
        answer = await stream.receive(FIRST_S)
    except TimeoutError:
        raise TransportError(
            tr("{short} is connected but does not answer", short=stream.peer.short)
        ) from None
    if not isinstance(answer, Message):
        raise PeerError(f"{stream.peer.short} did not answer")
    check(answer)
    return answer


async def _finish(stream: Stream) -> None:
    with contextlib.suppress(CoterieError):
        await stream.finish()


def _is_near(stream: Stream) -> bool:
    """Whether the other side speaks from an address of the local network, or of this machine."""
    if stream.link is None:
        return False
    path = stream.link.path
    if path.kind == "memory":
        return True
    try:
        return path.kind == "direct" and is_home(
            ipaddress.ip_address(path.remote.rpartition(":")[0].strip("[]"))
        )
    except ValueError:
        return False
