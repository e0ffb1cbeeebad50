"""The side that is asked: the first message of a stream, and whether peers whose streams are served are still there."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.services.carry.beats import Pulse
from coterie.services.carry.messages import FIRST_BYTES_MAX, Opening
from coterie.wire.frames import Message

STREAMS_MAX = 2_200  # of one peer at once: 2,000 connections, and what browsers leave open


class Answers:
    """The peers whose streams of one protocol are served now. All methods belong to the event loop."""

    def __init__(self, start: Callable[..., None]) -> None:
        """`start` runs work in the background, under a name."""
        self._start = start
        self._pulses: dict[PeerId, Pulse] = {}
        self._used: Counter[PeerId] = Counter()

    @contextlib.asynccontextmanager
    async def serve(self, stream: Stream) -> AsyncIterator[Callable[[], None]]:
        """While the block runs, a connection of the peer is served: whom to tell of bytes that come.

        The peer may have STREAMS_MAX, and is lost when it does not begin with beats.
        """
        peer, link = stream.peer, stream.link
        assert isinstance(link, Connection)  # noqa: S101  (the router gives every stream its connection)
        link.widen(STREAMS_MAX)
        pulse = self._pulses.get(peer)
        if pulse is None or pulse.connection is not link:
            pulse = self._pulses[peer] = Pulse(link)
            is_used = lambda: self._pulses.get(peer) is pulse  # noqa: E731
            self._start(pulse.expect(is_used), "expecting the beats of a computer")
        self._used[peer] += 1
        try:
            yield pulse.heard
        finally:
            self._used[peer] -= 1
            if not self._used[peer]:
                del self._used[peer], self._pulses[peer]

    async def beat(self, stream: Stream, yes: Message) -> None:
        """Answer `Watch` with `yes`, then each beat. Raises `PeerError` where nothing of the peer is served."""
        pulse = self._pulses.get(stream.peer)
        if pulse is None:
            raise PeerError("nothing of this computer is served here")
        await stream.send(yes)
        await pulse.answer(stream)


async def read_opening(stream: Stream) -> tuple[Message, bytes]:
    """The next message, of FIRST_BYTES_MAX at most, and the bytes that came behind it.

    Raises:
        PeerError: none came, or no whole one.
    """
    opening = Opening(stream.protocol)
    while data := await stream.read_bytes(FIRST_BYTES_MAX):
        found = opening.feed(data)
        if found is not None:
            return found
    raise PeerError(f"{stream.peer.short} ended the connection before its first message")
