"""Router: each stream that a peer opens goes past the guard to its handler, alone with its faults."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from coterie.errors import CloseCode, CoterieError, PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import greeting
from coterie.net.budget import Budget, Meter
from coterie.net.connection import Connection
from coterie.net.guard import Guard, Verdict
from coterie.net.interfaces import RawConnection, RawStream
from coterie.net.limits import NetLimits
from coterie.net.stream import Stream, close_code_for
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Protocol
from coterie.wire.handshake import PROTOCOL_NAME_CHARS_MAX, common_version

_log = logging.getLogger(__name__)

OPENED_S = 4.0  # for apps that start: less than `header_s` of who asks

Handler = Callable[[Stream], Awaitable[None]]


class _Route(msgspec.Struct, frozen=True):
    protocol: Protocol
    handler: Handler


class Router:
    """The handlers of one endpoint, and the tasks that run them."""

    def __init__(
        self,
        guard: Guard,
        limits: NetLimits,
        tasks: Tasks | None = None,
        opened: asyncio.Event | None = None,
    ) -> None:
        """`opened`: set once all is registered; None: it is."""
        self._opened = opened
        self._guard = guard
        self._limits = limits
        self._budget = Budget(limits, guard.knows)
        self._routes: dict[str, _Route] = {}
        self._tasks = tasks or Tasks("network")
        self._running: dict[asyncio.Task[None], tuple[PeerId, str]] = {}  # those that the guard let through
        self._revoked: set[asyncio.Task[None]] = set()

    def register(self, protocol: Protocol, handler: Handler, *, strangers: bool) -> None:
        """Give streams of `protocol` to `handler`."""
        if not 0 < len(protocol.name) <= PROTOCOL_NAME_CHARS_MAX:
            raise UsageError(
                tr(
                    "a protocol's name has 1 to {protocol_name_chars_max} characters",
                    protocol_name_chars_max=PROTOCOL_NAME_CHARS_MAX,
                )
            )
        if protocol.name in self._routes:
            raise UsageError(tr("the protocol {protocol} is registered already", protocol=protocol.name))
        self._routes[protocol.name] = _Route(protocol, handler)
        if strangers:
            self._guard.open_to_strangers(protocol.name)

    def unregister(self, name: str) -> None:
        """Give streams of that protocol to nobody from now on, and end those that run."""
        self._routes.pop(name, None)
        for task, (_, protocol) in self._running.items():
            if protocol == name:
                task.cancel()

    @property
    def protocols(self) -> list[str]:
        """The names of all that is registered."""
        return list(self._routes)

    def may_open(self, peer: PeerId, name: str) -> bool:
        """Whether `peer` may have streams and datagrams of `name`. A guard that fails has not allowed it."""
        try:
            return self._guard.allows(peer, name)
        except Exception:  # noqa: BLE001  (the predicate is not ours; denying is the safe answer)
            _log.exception("the guard failed for %s and %s: refused", peer.short, name)
            return False

    async def serve(self, raw: RawConnection, connection: Connection) -> None:
        """Take the streams that the peer opens, until the connection ends."""
        running: dict[asyncio.Task[None], None] = {}
        loop = asyncio.get_running_loop()
        while True:
            meter = self._budget.meter(raw.peer)
            try:
                if meter is not None:
                    await meter.turn(0.0)
                stream = await raw.accept_stream()
            except CoterieError:
                return
            verdict = self._guard.admit_stream(raw.peer, loop.time())
            if verdict is Verdict.EXPEL:
                _log.warning("%s opens too many streams: connection closed", raw.peer.short)
                connection.close(CloseCode.LIMIT, "too many streams")
                return
            if verdict is Verdict.EXCESS or len(running) >= connection.streams_max:
                await stream.reset(CloseCode.LIMIT)
                continue
            meter = self._budget.meter(raw.peer)
            work = self._handle(stream, connection, meter)
            task = self._tasks.start(work if meter is None else meter.run(work), "answering a stream")
            running[task] = None
            task.add_done_callback(running.pop)

    def review(self) -> None:
        """Ask the guard again for every stream under way; what it no longer allows ends with REVOKED."""
        for task, (peer, name) in list(self._running.items()):
            if task not in self._revoked and not self.may_open(peer, name):
                self._revoked.add(task)
                task.cancel()

    async def close(self) -> None:
        """Cancel every handler and wait for it."""
        await self._tasks.close()

    async def _handle(self, raw: RawStream, connection: Connection, meter: Meter | None) -> None:
        """One incoming stream from its header to its end. Nothing that happens here reaches anything else."""
        connection.hold()
        name = "?"
        stream: Stream | None = None
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine runs in one)
        try:
            if meter is not None:
                await meter.turn(self._limits.stranger_stream_frames)
            header, rest = await greeting.asked(raw, self._limits)
            name = header.protocol
            await self._registered(name)
            route, version = self._choose(connection.peer, name, header.versions)
            self._running[task] = connection.peer, name
            await greeting.answer(raw, version)
            stream = Stream(
                raw,
                peer=connection.peer,
                protocol=route.protocol,
                version=version,
                limits=self._limits,
                received=rest,
                link=connection,
            )
            stream.is_ours = False
            stream.meter = meter
            await route.handler(stream)
            await stream.end()
        except (CoterieError, TimeoutError) as error:  # a peer that breaks the protocol, or is silent
            _log.debug("stream %s of %s ended: %s", name, connection.peer.short, error)
            await raw.reset(close_code_for(error))
        except asyncio.CancelledError:
            await raw.reset(CloseCode.REVOKED if task in self._revoked else CloseCode.SHUTDOWN)
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  (a handler may fail in any way; its stream alone ends)
            _log.exception("the handler of %s failed for %s", name, connection.peer.short)
            await raw.reset(close_code_for(error))
        finally:
            if stream is not None:
                stream.drop_lane()
            self._running.pop(task, None)
            self._revoked.discard(task)
            connection.release()

    async def _registered(self, name: str) -> None:
        """Wait while apps are still starting: one of them may bring the protocol."""
        if name not in self._routes and self._opened is not None and not self._opened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OPENED_S):
                    await self._opened.wait()

    def _choose(self, peer: PeerId, name: str, versions: list[int]) -> tuple[_Route, int]:
        """The route and version for a header. An unknown protocol and a refusal look alike from outside."""
        route = self._routes.get(name)
        if not self.may_open(peer, name) or route is None:
            raise PeerError(f"{name} is not open to {peer.short}", CloseCode.REFUSED)
        version = common_version(route.protocol.versions, versions)
        if version is None:
            raise PeerError(f"no common version of {name} with {peer.short}", CloseCode.VERSION)
        return route, version
