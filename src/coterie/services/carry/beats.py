"""Whether a peer is still there, while connections run: both sides learn of its end within 5 s.

QUIC itself notices a killed process only after half a minute. So the asker sends a beat every half second on a stream
of its own while it uses something of the peer, and the other side answers each. Any byte of that peer counts as well.
Silence is counted in waits of a second, so that a loop that stood still itself does not take the peer for gone.
"""

import asyncio
from collections.abc import Callable

from coterie.errors import CloseCode, TransportError
from coterie.net import Connection, Stream
from coterie.services.carry.messages import Beat
from coterie.texts import tr

BEAT_S = 0.5
WAIT_S = 1.0
ASKER_WAITS_MAX = (
    3  # 3.5 s with the pause before: half a second below the other side, which has no such pause
)
ANSWERER_WAITS_MAX = 4


class Pulse:
    """What was heard of one peer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._heard = 0
        self._is_watched = False

    def heard(self) -> None:
        """Bytes of the peer came."""
        self._heard += 1

    async def ask(self, stream: Stream, is_used: Callable[[], bool]) -> None:
        """Send beats until `is_used` says no; close the connection when the peer is silent."""
        while is_used():
            await stream.send(Beat())
            if not await self._answers(stream, ASKER_WAITS_MAX):
                return
            await asyncio.sleep(BEAT_S)

    async def answer(self, stream: Stream) -> None:
        """Answer beats until the peer finishes; close the connection when it is silent."""
        self._is_watched = True
        while await self._answers(stream, ANSWERER_WAITS_MAX):
            await stream.send(Beat())

    async def _answers(self, stream: Stream, waits_max: int) -> bool:
        """Whether a beat came; False: the peer ended its beats."""
        silent = 0
        while silent < waits_max:
            before = self._heard
            try:
                return await stream.receive(WAIT_S) is not None
            except TimeoutError:
                silent = silent + 1 if self._heard == before else 0
        self.lost(waits_max * WAIT_S)
        raise TransportError(
            tr(
                "{short} has been silent for {waits_max:g} s",
                short=stream.peer.short,
                waits_max=waits_max * WAIT_S,
            )
        )

    def lost(self, silent_s: float) -> None:
        """The peer is gone: everything with it ends."""
        self.connection.close(CloseCode.TIMEOUT, f"silent for {silent_s:g} s")

    async def expect(self, is_used: Callable[[], bool]) -> None:
        """Close the connection when the peer does not begin with beats, or was gone before it could."""
        for _ in range(ANSWERER_WAITS_MAX):
            await asyncio.sleep(WAIT_S)
            if self._is_watched or not is_used():
                return
        self.lost(ANSWERER_WAITS_MAX * WAIT_S)
