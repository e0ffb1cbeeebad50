"""Who with a live folder is connected, and what is said to them: over one stream to each, and tried again."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection

from coterie.apps.context import Context
from coterie.apps.folders.messages import PROTOCOL
from coterie.errors import CoterieError, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.texts import tr
from coterie.wire.frames import Message

AGAIN_S = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0)  # guess: at once for a restart, then gently
LOOK_S = 1.0  # so often, while members are away, who is here now is looked at; nobody is asked
QUEUE_MAX = 1_024  # messages that wait for one computer; the core asks for acknowledgements far before that
TOGETHER_MAX = 64  # messages in one write; guess
AT_ONCE_MAX = 8  # computers that are dialled together; guess


class Links:
    """One stream to each computer that is a member; each side says what it says on the stream that it opened."""

    def __init__(
        self,
        context: Context,
        *,
        members: Callable[[], Collection[PeerId]],
        up: Callable[[PeerId], None],
        down: Callable[[PeerId], None],
        said: Callable[[PeerId, Message], None],
    ) -> None:
        """`members()`: who is to be connected. `up`: a peer can be told something from now on; `down`: no longer.

        `said(peer, message)`: an answer to what it was told.
        """
        self._context = context
        self._members = members
        self._on_up = up
        self._on_down = down
        self._on_said = said
        self._links: dict[PeerId, _Link] = {}
        self._tries: dict[PeerId, int] = {}
        self._next: dict[PeerId, float] = {}
        self._present: set[PeerId] = set()
        self._wake = asyncio.Event()

    @property
    def up(self) -> list[PeerId]:
        """Who is connected."""
        return list(self._links)

    def start(self) -> None:
        """Follow who comes and goes, and dial members that are away."""
        self._context.net.watch(self._came, self._went)
        self._context.jobs.keep(self._keep_dialling, "meeting members of folders")

    def send(self, peer: PeerId, message: Message) -> None:
        """Say `message` to `peer` when it can be; forgotten where it is not connected."""
        link = self._links.get(peer)
        if link is not None:
            link.put(message)

    def begin_anew(self, peer: PeerId) -> None:
        """Something was not said to `peer`: end its stream, and greet it again a little later."""
        link = self._links.get(peer)
        if link is not None:
            self._put_off(peer)
            link.end()

    def look_again(self) -> None:
        """Who is a member has changed."""
        members = dict.fromkeys(self._members())
        for peer in [peer for peer in self._links if peer not in members]:
            self._drop(peer)
        for peer in members:
            if peer not in self._links and peer in self._connected():
                self._begin(peer)
        self._tries.clear()
        self._next.clear()
        self._wake.set()

    def close(self) -> None:
        """End every stream."""
        for peer in list(self._links):
            self._drop(peer)

    def _connected(self) -> Collection[PeerId]:
        overlay = self._context.net.overlay
        return [connection.peer for connection in overlay.connections] if overlay is not None else []

    def _came(self, peer: PeerId) -> None:
        self._tries.pop(peer, None)
        if peer in self._members():
            self._begin(peer)

    def _went(self, peer: PeerId) -> None:
        self._drop(peer)
        self._wake.set()

    def _begin(self, peer: PeerId) -> None:
        if peer in self._links:
            return
        link = _Link(self._context, peer, self._on_said)
        self._links[peer] = link
        link.task = asyncio.ensure_future(self._run(link))
        self._on_up(peer)

    async def _run(self, link: "_Link") -> None:
        try:
            await link.run()
        except (CoterieError, TimeoutError) as error:
            self._put_off(link.peer, more=2 * isinstance(error, PeerError))
        finally:
            if self._links.get(link.peer) is link:
                del self._links[link.peer]
                self._on_down(link.peer)
            self._wake.set()

    def _put_off(self, peer: PeerId, *, more: int = 0) -> None:
        """Dial `peer` later, each time later than before; as if it was tried `more` times before."""
        tries = self._tries[peer] = self._tries.get(peer, 0) + 1
        wait_s = AGAIN_S[min(tries + more, len(AGAIN_S)) - 1]
        self._next[peer] = asyncio.get_running_loop().time() + wait_s

    def _drop(self, peer: PeerId) -> None:
        link = self._links.pop(peer, None)
        if link is not None:
            link.end()
            self._on_down(peer)

    async def _keep_dialling(self) -> None:
        chance = random.SystemRandom()
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            away = [peer for peer in self._members() if peer not in self._links]
            here = self._context.people.here() or ()
            for peer in away:
                if peer in here and peer not in self._present:  # it has just come
                    self._next.pop(peer, None)
            self._present = {peer for peer in away if peer in here}
            due = [peer for peer in away if self._next.get(peer, 0.0) <= now]
            chosen = chance.sample(due, min(AT_ONCE_MAX, len(due)))
            await asyncio.gather(*(self._dial(peer) for peer in chosen))
            times = [self._next.get(peer, 0.0) for peer in away if peer not in self._links]
            wait_s = min(LOOK_S, max(0.05, min(times) - loop.time())) if times else None
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _dial(self, peer: PeerId) -> None:
        try:
            await self._context.net.connect(peer)
        except (CoterieError, TimeoutError):
            self._put_off(peer)
        else:
            if peer in self._members():
                self._begin(peer)


class _Link:
    """What waits for one computer, and the task that says it."""

    def __init__(self, context: Context, peer: PeerId, said: Callable[[PeerId, Message], None]) -> None:
        self.peer = peer
        self._said = said
        self.task: asyncio.Task[None] | None = None
        self._context = context
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)

    def put(self, message: Message) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.end()  # begun anew by whoever watches: what was not heard is asked for again

    def end(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Until the stream breaks. Raises what connecting and sending raise."""
        first = await self._queue.get()
        stream = await self._context.net.open(self.peer, PROTOCOL)
        tasks = [asyncio.ensure_future(self._say(stream, first)), asyncio.ensure_future(self._ended(stream))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            raise TransportError(tr("the other computer ended the stream"))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await stream.reset()

    async def _say(self, stream: Stream, first: Message) -> None:
        """What waits, all together: many small messages are one write."""
        waiting = [first]
        while True:
            while not self._queue.empty() and len(waiting) < TOGETHER_MAX:
                waiting.append(self._queue.get_nowait())
            await stream.write(b"".join(map(PROTOCOL.encode, waiting)))
            waiting = [await self._queue.get()]

    async def _ended(self, stream: Stream) -> None:
        """The other side answers little on this stream: in the end what comes is its end."""
        while (message := await stream.receive()) is not None:
            if isinstance(message, Message):
                self._said(self.peer, message)
