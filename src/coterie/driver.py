"""Runs any core on asyncio: events in, outputs out, in order, with every queue bounded.

The driver owns the core's timers and its outgoing queues. What the core asks of others (`Emit`, typed
requests) goes to the handlers it was given. A core that raises has a bug: the driver stops, and `wait_closed`
tells its owner.
"""

import asyncio
import inspect
import logging
import typing
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any

from coterie.errors import CloseCode, CoterieError, LimitExceeded, UsageError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Machine, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.net import Connection, Endpoint, Stream
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire import Protocol

EVENTS_MAX = 10_000  # waiting events; guess: far above what one turn of any core feeds back
EVENTS_PER_TURN_MAX = 1_000  # handled before other tasks of the loop get their turn; guess: some milliseconds
SEND_QUEUE_MAX = 256  # messages waiting for one slow peer; guess
TIMERS_MAX = 100_000  # guess: a million-node overlay keeps a few per peer it knows

Sender = Callable[[Hashable, Any], Awaitable[None] | None]
Handler = Callable[[Any], None]

_log = logging.getLogger(__name__)


class _Outbox:
    """What waits for one peer, and the task that is sending it."""

    __slots__ = ("first", "queue", "task")

    def __init__(self, task: "asyncio.Task[None]", first: Awaitable[None]) -> None:
        self.queue: deque[Any] = deque()
        self.task = task
        self.first = first

    def cancel(self) -> None:
        self.task.cancel()
        if inspect.iscoroutine(self.first) and inspect.getcoroutinestate(self.first) == inspect.CORO_CREATED:
            self.first.close()


class Driver:
    """One core, running. Make it inside a running event loop; all calls are from that loop's thread.

    Args:
        core: the machine.
        send: takes (peer, message). When it returns an awaitable, the next message to that peer waits for its
            end. When it raises a `CoterieError`, what waits is dropped and the core gets `PeerDown`. It is
            cancelled when the peer's queue overflows.
        on_output: for all outputs but `Send` and timers: one callable, or a table by the output's exact type.
        clock: seconds, the `now` of the core; the loop's own clock when None.
        events_max: events that may wait; `feed` raises LimitExceeded beyond.
        send_queue_max: messages that may wait for one peer; one more, and the peer is down.
        timers_max: timers that the core may have pending; one more is a bug of the core.
    """

    def __init__(
        self,
        core: Machine,
        *,
        send: Sender,
        on_output: Handler | Mapping[type, Handler],
        clock: Callable[[], float] | None = None,
        events_max: int = EVENTS_MAX,
        send_queue_max: int = SEND_QUEUE_MAX,
        timers_max: int = TIMERS_MAX,
    ) -> None:
        self._core = core
        self._send = send
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._now = self._clock()
        self._events_max = events_max
        self._send_queue_max = send_queue_max
        self._timers_max = timers_max
        self._events: deque[Any] = deque()
        self._timers: dict[Hashable, asyncio.Handle] = {}
        self._outboxes: dict[Hashable, _Outbox] = {}
        self._ending: list[asyncio.Task[None]] = []
        self._is_running = False
        self._closed = self._loop.create_future()

    @property
    def is_closed(self) -> bool:
        """Whether the driver has stopped, on purpose or for an error."""
        return self._closed.done()

    def feed(self, event: Any) -> None:
        """Let the core handle `event`, and do what it asks, before this returns.

        Called from within a handler, the event waits its turn behind the outputs that come before it. After
        `close` it is ignored: what the network still had under way concerns nobody. Raises LimitExceeded when
        `events_max` events already wait.
        """
        if self._closed.done():
            return
        if len(self._events) >= self._events_max:
            raise LimitExceeded(
                tr(
                    "{name} does not keep up: {events_max} events wait (events_max)",
                    name=self._name,
                    events_max=self._events_max,
                )
            )
        self._events.append(event)
        if not self._is_running:
            self._run()

    def close(self) -> None:
        """Stop at once: no more events, timers or sends. Idempotent."""
        self._stop(None)

    async def wait_closed(self) -> None:
        """Wait for the end of the driver and of its sends. Raises what the core or a handler raised."""
        await asyncio.wait([self._closed])
        await asyncio.gather(*self._ending, return_exceptions=True)
        self._closed.result()

    def is_sending(self, peer: Hashable) -> bool:
        """Whether something for `peer` is under way or waits."""
        return peer in self._outboxes

    async def flush(self) -> None:
        """Wait until everything sent so far has been taken by the sender, or given up."""
        while self._outboxes:
            await asyncio.wait([box.task for box in self._outboxes.values()])

    @property
    def _name(self) -> str:
        return type(self._core).__name__

    def _run(self) -> None:
        """Handle the waiting events, then leave the rest of a long chain to the loop's next turn."""
        if self._closed.done() or self._is_running:
            return
        self._is_running = True
        try:
            for _ in range(EVENTS_PER_TURN_MAX):
                if not self._events:
                    return
                self._handle(self._events.popleft())
            if self._events:
                self._loop.call_soon(self._run)
        except Exception as error:  # noqa: BLE001 - any error of a core ends its driver; the owner gets it
            self._stop(error)
        finally:
            self._is_running = False

    def _handle(self, event: Any) -> None:
        self._now = max(self._now, self._clock())  # `now` does not go back, whatever the clock does
        for output in self._core.handle(event, self._now):
            if self._closed.done():
                return
            self._dispatch(output)

    def _dispatch(self, output: Any) -> None:
        match output:
            case Send(peer, message):
                self._post(peer, message)
            case SetTimer(key, at):
                self._set_timer(key, at)
            case CancelTimer(key):
                if timer := self._timers.pop(key, None):
                    timer.cancel()
            case _:
                self._handler_of(output)(output)

    def _handler_of(self, output: Any) -> Handler:
        if not isinstance(self._on_output, Mapping):
            return self._on_output
        try:
            return self._on_output[type(output)]
        except KeyError:
            raise UsageError(
                tr(
                    "{name} asks for {name2}, which nobody here handles",
                    name=self._name,
                    name2=type(output).__name__,
                )
            ) from None

    # ---- timers

    def _set_timer(self, key: Hashable, at: float) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if len(self._timers) >= self._timers_max:
            raise LimitExceeded(
                tr(
                    "{name} has {timers_max} timers pending (timers_max)",
                    name=self._name,
                    timers_max=self._timers_max,
                )
            )
        due = self._loop.time() + (at - self._clock())
        self._timers[key] = self._loop.call_at(due, self._fire, key, at)

    def _fire(self, key: Hashable, at: float) -> None:
        if len(self._events) >= self._events_max:  # busy: the timer is late, not lost
            self._timers[key] = self._loop.call_soon(self._fire, key, at)
            return
        del self._timers[key]
        self._now = max(self._now, at)  # the loop may fire a clock tick early; the core never sees that
        self.feed(TimerFired(key))

    # ---- sending

    def _post(self, peer: Hashable, message: Any) -> None:
        """Hand `message` to the sender, behind what already waits for `peer`."""
        box = self._outboxes.get(peer)
        if box is None:
            self._start(peer, message)
        elif len(box.queue) < self._send_queue_max:
            box.queue.append(message)
        else:
            self._drop(peer)
            self._peer_down(peer, f"{self._send_queue_max} messages wait for it (send_queue_max)")

    def _start(self, peer: Hashable, message: Any) -> None:
        try:
            sending = self._send(peer, message)
        except CoterieError as error:
            self._peer_down(peer, str(error))
            return
        if sending is not None:
            task = self._loop.create_task(self._drain(peer, sending), name=f"{self._name} sends")
            self._outboxes[peer] = _Outbox(task, sending)

    async def _drain(self, peer: Hashable, sending: Awaitable[None]) -> None:
        """Send to `peer`, one message after the other, until nothing waits."""
        box = self._outboxes[peer]
        try:
            await sending
            while box.queue and self._outboxes.get(peer) is box:
                following = self._send(peer, box.queue.popleft())
                if following is not None:
                    await following
            self._forget(peer, box)
        except CoterieError as error:
            if self._forget(peer, box):
                self._peer_down(peer, str(error))
        except Exception as error:  # noqa: BLE001 - a bug of the sender ends the driver; the owner gets it
            self._stop(error)

    def _peer_down(self, peer: Hashable, reason: str) -> None:
        """Tell the core, past the bound: one event a peer, and the core must not go on believing in it."""
        if self._closed.done():
            return
        self._events.append(PeerDown(peer, reason))
        if not self._is_running:
            self._run()

    def _drop(self, peer: Hashable) -> None:
        box = self._outboxes.pop(peer)
        box.cancel()
        self._ending = [task for task in self._ending if not task.done()]
        self._ending.append(box.task)

    def _forget(self, peer: Hashable, box: _Outbox) -> bool:
        """Whether `box` was still the peer's; a sender may have swallowed its cancellation."""
        if self._outboxes.get(peer) is not box:
            return False
        del self._outboxes[peer]
        return True

    # ---- the end

    def _stop(self, error: Exception | None) -> None:
        if self._closed.done():
            return
        if error is None:
            self._closed.set_result(None)
        else:
            _log.error("%s stopped by an error", self._name, exc_info=error)
            self._closed.set_exception(error)
            self._closed.exception()  # seen: it is logged, and `wait_closed` raises it
        self._events.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        current = asyncio.current_task(self._loop) if self._loop.is_running() else None
        for peer, box in list(self._outboxes.items()):
            if box.task is current:
                del self._outboxes[peer]
            else:
                self._drop(peer)


class Links(typing.Protocol):
    """What a `NetDriver` needs of an `Endpoint`; see there."""

    @property
    def connections(self) -> Sequence[Connection]: ...

    def register(
        self, protocol: Protocol, handler: Callable[[Stream], Awaitable[None]], *, strangers: bool = False
    ) -> None: ...

    def watch(
        self,
        *,
        up: Callable[[Connection], None] | None = None,
        down: Callable[[Connection], None] | None = None,
    ) -> None: ...

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection: ...


class NetDriver:
    """A core whose peers are nodes: runs it over an `Endpoint`, speaking one protocol.

    Each side sends on a stream of its own, opened by its first message and kept; what arrives on the other
    side's stream is `Received`. Every connection of the endpoint is `PeerUp`, its end `PeerDown`. A message to a
    peer without a connection dials first; when that fails the core gets `PeerDown`.

    Args:
        core: the machine; its peers are `PeerId`s, its messages are of `protocol`.
        endpoint: started already, or started later.
        protocol: typed kinds only: bulk bytes do not pass through cores.
        on_output: see `Driver`.
        addresses: where a peer may be dialled, for peers that the endpoint has not met.
        strangers: whether peers that the guard does not know may speak to this core.
        stream_idle_s: a stream on which nothing was sent for so long is finished, so that its connection can become
            idle; None keeps all: right for a core that knows few peers.
        keeps: peers whose stream stays all the same.
        driver_options: further options of `Driver`, for its clock and bounds.
    """

    def __init__(
        self,
        core: Machine,
        endpoint: Endpoint | Links,
        protocol: Protocol,
        *,
        on_output: Handler | Mapping[type, Handler],
        addresses: Callable[[PeerId], Sequence[str]] = lambda peer: (),
        strangers: bool = False,
        stream_idle_s: float | None = None,
        keeps: Callable[[PeerId], bool] = lambda peer: False,
        **driver_options: Any,
    ) -> None:
        if protocol.bulk_kinds:
            raise UsageError(
                tr(
                    "{protocol} has bulk kinds, and bulk bytes do not pass through cores",
                    protocol=protocol.name,
                )
            )
        self._endpoint = endpoint
        self._protocol = protocol
        self._addresses = addresses
        self._streams: dict[Hashable, Stream] = {}
        self._stream_idle_s = stream_idle_s
        self._keeps = keeps
        self._used_at: dict[PeerId, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._finishing = Tasks()
        self._loop = asyncio.get_running_loop()
        self._driver = Driver(core, send=self._send, on_output=on_output, **driver_options)
        endpoint.register(protocol, self._receive, strangers=strangers)
        endpoint.watch(up=self._up, down=self._down)
        for connection in endpoint.connections:
            self._up(connection)

    @property
    def is_closed(self) -> bool:
        """Whether the core has stopped."""
        return self._driver.is_closed

    def feed(self, event: Any) -> None:
        """See `Driver.feed`."""
        self._driver.feed(event)

    async def flush(self) -> None:
        """See `Driver.flush`."""
        await self._driver.flush()

    async def close(self) -> None:
        """Stop the core and end its streams. Raises what the core raised before."""
        self._driver.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            await stream.reset(CloseCode.SHUTDOWN)
        await self._driver.wait_closed()

    async def wait_closed(self) -> None:
        """See `Driver.wait_closed`."""
        await self._driver.wait_closed()

    async def _send(self, peer: Hashable, message: Any) -> None:
        if not isinstance(peer, PeerId):
            raise UsageError(tr("a core over a network sends to PeerIds, not to {peer!r}", peer=peer))
        stream = self._streams.get(peer)
        if stream is None:
            connection = await self._endpoint.connect(peer, self._addresses(peer))
            stream = self._streams[peer] = await connection.open_stream(self._protocol)
        self._note_used(peer)
        try:
            await stream.send(message)
        except BaseException:  # a cancelled send too: half a message may be on its way
            self._streams.pop(peer, None)
            await stream.reset()
            raise

    def _note_used(self, peer: PeerId) -> None:
        if self._stream_idle_s is None:
            return
        self._used_at[peer] = self._loop.time()
        if self._sweeping is None and not self.is_closed:
            self._sweeping = self._loop.call_later(self._stream_idle_s / 2, self._sweep)

    def _sweep(self) -> None:
        """Finish the streams that nobody needs any more."""
        assert self._stream_idle_s is not None  # noqa: S101  (only then is there a sweep)
        self._sweeping = None
        limit = self._loop.time() - self._stream_idle_s
        for peer, used_at in list(self._used_at.items()):
            if peer not in self._streams:
                del self._used_at[peer]
            elif used_at <= limit and not self._keeps(peer) and not self._driver.is_sending(peer):
                del self._used_at[peer]
                self._finishing.start(self._finish(self._streams.pop(peer)), "finishing a stream")
        if self._used_at and not self.is_closed:
            self._sweeping = self._loop.call_later(self._stream_idle_s / 2, self._sweep)

    async def _finish(self, stream: Stream) -> None:
        try:
            await stream.end()
        except CoterieError as error:
            _log.debug("a stream to %s ended: %s", stream.peer.short, error)

    async def _receive(self, stream: Stream) -> None:
        while (message := await stream.receive()) is not None:
            self._driver.feed(Received(stream.peer, message))

    def _up(self, connection: Connection) -> None:
        self._driver.feed(PeerUp(connection.peer))

    def _down(self, connection: Connection) -> None:
        self._streams.pop(connection.peer, None)
        self._driver.feed(PeerDown(connection.peer, "disconnected"))
