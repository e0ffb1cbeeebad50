"""Pool: exactly one connection per peer, however many callers ask and even when both sides dial at once.

When both dial, the connection that the smaller PeerId dialled stays. What becomes of an incoming connection,
by what this side has with the peer already:

    nothing                                     accepted
    a connection, other boot nonce              replaces it: the peer restarted
    a connection that the peer dialled          replaces it: a node that has one does not dial
    a connection that we dialled, young         closed with DUPLICATE: both dialled, and ours was first
    a connection that we dialled, old           replaces it: the peer lost it and we have not noticed yet
    our own dial, and our id is the larger      accepted; our dial is given up
    our own dial, and our id is the smaller     held: DUPLICATE once our dial succeeds, accepted once it fails

"Young" is below `dial_s`: no dial that raced with it can still be on its way after that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import Any

from coterie.errors import CloseCode, CoterieError, LimitExceeded, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import greeting
from coterie.net.admission import Admission, network_of_path
from coterie.net.ahead import Ahead
from coterie.net.connection import Connection
from coterie.net.guard import Guard
from coterie.net.interfaces import RawConnection, Transport
from coterie.net.limits import NetLimits
from coterie.net.stream import close_code_for
from coterie.tasks import Tasks
from coterie.texts import tr

_log = logging.getLogger(__name__)

Adopt = Callable[[RawConnection, bytes, bool], Connection]
Accepted = Callable[[Connection], None]
Prepare = Callable[[RawConnection, Ahead], Awaitable[tuple[list[Ahead], Accepted]]]
"""All that is to be said ahead on a connection, and what is to be told when it is accepted."""


class _Stage(Enum):
    REACHING = auto()  # nobody has answered yet
    GREETING = auto()  # the peer was reached and may have accepted us
    DUPLICATE = auto()  # the peer said so: its own connection is about to appear


class _Dial:
    """An attempt to reach a peer. `result` is the connection of the pair, whichever side dialled it."""

    def __init__(self, peer: PeerId, addresses: tuple[str, ...], ahead: Ahead | None) -> None:
        self.peer = peer
        self.ahead = ahead
        self.addresses = addresses
        self.stage = _Stage.REACHING
        self.is_revoked = False
        self.extended = asyncio.Event()
        self.result: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def add(self, addresses: tuple[str, ...]) -> None:
        """Try these as well."""
        new = tuple(a for a in addresses if a not in self.addresses)
        if new:
            self.addresses += new
            self.extended.set()


class Pool:
    """The connections of one endpoint."""

    def __init__(
        self,
        transport: Transport,
        *,
        boot: bytes,
        guard: Guard,
        limits: NetLimits,
        adopt: Adopt,
        prepare: Prepare,
        has_lanes: bool,
        tasks: Tasks | None = None,
    ) -> None:
        self._transport = transport
        self._boot = boot
        self._guard = guard
        self._limits = limits
        self._adopt = adopt
        self._prepare = prepare
        self._has_lanes = has_lanes
        self._live: dict[PeerId, Connection] = {}
        self._known_at: dict[PeerId, tuple[str, ...]] = {}
        self._dials: dict[PeerId, _Dial] = {}
        self._tasks = tasks or Tasks("network")
        self._greeted: Admission[Any] = Admission(
            places_max=limits.handshakes_max,
            strangers_max=limits.handshakes_strangers_max,
            network_max=limits.handshakes_network_max,
            is_known=lambda raw: guard.knows(raw.peer),
        )
        self._places: Admission[PeerId] = Admission(  # of connections and of our own dials
            places_max=limits.connections_max,
            strangers_max=limits.connections_strangers_max,
            network_max=limits.connections_network_max,
            is_known=guard.knows,
        )
        self._is_closed = False

    @property
    def connections(self) -> list[Connection]:
        """The established connections."""
        return [c for c in self._live.values() if not c.is_closed]

    async def get(self, peer: PeerId, addresses: Sequence[str], ahead: Ahead | None = None) -> Connection:
        """The connection to `peer`, dialled if there is none; a dial under way tries `addresses` as well.

        `ahead`: the stream that will be opened then; it goes out with the greeting, if this call dials.

        Raises:
            AccessDenied: `peer` is blocked here.
            TransportError: it cannot be reached; the text says what was tried.
            PeerError: it refuses.
            LimitExceeded: `connections_max` are open.
        """
        wanted = tuple(addresses)
        while True:
            self._guard.require_unblocked(peer)
            live = self._live.get(peer)
            if live is not None and not live.is_closed:
                return live
            dial = self._dials.get(peer)
            is_ours = dial is None
            if dial is None:
                dial = self._start_dial(peer, wanted, ahead)
            else:
                dial.add(wanted)
            try:
                return await asyncio.shield(dial.result)
            except TransportError:
                if is_ours or set(wanted) <= set(dial.addresses):
                    raise

    def admit(self, raw: RawConnection) -> None:
        """Take an incoming connection through its handshake, in the background."""
        if self._is_closed:
            raw.close(CloseCode.SHUTDOWN, "")
            return
        if self._guard.blocks(raw.peer):
            raw.close(CloseCode.REFUSED, "")
            return
        if not self._guard.admit_connection(raw.peer, asyncio.get_running_loop().time()):
            raw.close(CloseCode.LIMIT, "too many connections in a short time")
            return
        network = network_of_path(raw.path, str(raw.peer))
        going = self._greeted.enter(raw, network, is_known=self._guard.knows(raw.peer))
        if going is None:
            raw.close(CloseCode.LIMIT, "too many handshakes at once")
            return
        for other in going:
            other.close(CloseCode.LIMIT, "too many handshakes at once")
        task = self._tasks.start(self._receive(raw), "greeting who connects")
        task.add_done_callback(lambda _: self._greeted.leave(raw))

    def review(self) -> None:
        """The guard may answer otherwise now: end connections with blocked peers, and dials to them."""
        for connection in self.connections:
            if self._guard.blocks(connection.peer):
                connection.close(CloseCode.REVOKED, "")
        for dial in list(self._dials.values()):
            if self._guard.blocks(dial.peer) and dial.task is not None:
                dial.is_revoked = True
                dial.task.cancel()

    def forget(self, connection: Connection) -> None:
        """`connection` has ended."""
        if self._live.get(connection.peer) is connection:
            del self._live[connection.peer]
            if connection.peer not in self._dials:
                self._places.leave(connection.peer)

    async def close(self) -> None:
        """Give up dials and handshakes, close connections with SHUTDOWN."""
        self._is_closed = True
        await self._tasks.close()
        for connection in list(self._live.values()):
            connection.close(CloseCode.SHUTDOWN, "the node is stopping")

    # Dialling

    def has_reached(self, peer: PeerId) -> bool:
        """Whether a dial of `peer` is under way that something answers."""
        dial = self._dials.get(peer)
        return dial is not None and dial.stage is not _Stage.REACHING

    def _start_dial(self, peer: PeerId, addresses: tuple[str, ...], ahead: Ahead | None) -> _Dial:
        if self._is_closed:
            raise TransportError(tr("this node is stopping"))
        if not self._take_place(peer, "", is_known=True):
            raise LimitExceeded(
                tr(
                    "{connections_max} connections are open (connections_max)",
                    connections_max=self._limits.connections_max,
                )
            )
        dial = self._dials[peer] = _Dial(peer, addresses or self._known_at.get(peer, ()), ahead)
        dial.result.add_done_callback(_retrieve)
        dial.task = self._tasks.start(self._run_dial(dial), "dialling")
        return dial

    async def _run_dial(self, dial: _Dial) -> None:
        limit = asyncio.timeout(self._limits.dial_s)
        try:
            async with limit:
                while not dial.result.done():
                    await self._try(dial, limit)
        except TimeoutError:
            self._fail(dial, TransportError(self._unreachable(dial)))
        except TransportError as error:
            self._fail(dial, TransportError(f"{error}{_tried(dial)}"))
        except CoterieError as error:
            self._fail(dial, error)
        except asyncio.CancelledError:
            blocked = self._guard.refusal(dial.peer) if dial.is_revoked else None
            self._fail(dial, blocked or TransportError(tr("this node is stopping")))
            raise
        finally:
            if self._dials.get(dial.peer) is dial:
                del self._dials[dial.peer]
                if dial.peer not in self._live:
                    self._places.leave(dial.peer)
            if not dial.result.done():
                dial.result.cancel()

    async def _try(self, dial: _Dial, limit: asyncio.Timeout) -> None:
        """One attempt. Who was reached over a long path has longer than `limit`.

        After DUPLICATE the other connection of the pair is about to appear here.
        """
        dial.stage = _Stage.REACHING
        raw = await self._reach(dial)
        try:
            if raw.peer != dial.peer:
                raise TransportError(tr("somebody else than {short} answers there", short=dial.peer.short))
            dial.stage = _Stage.GREETING
            until = asyncio.get_running_loop().time() + self._limits.patient(0.0, raw.path.rtt_s)
            limit.reschedule(max(until, limit.when() or 0.0))
            ahead: list[Ahead] = []
            accepted: Accepted | None = None
            if dial.ahead is not None:
                ahead, accepted = await self._prepare(raw, dial.ahead)
            boot, begun = await greeting.greet(raw, self._boot, self._limits, ahead, follows=self._has_lanes)
            connection = self._establish(raw, boot, is_dialled=True)
            connection.keep_begun(begun)
            if accepted is not None:
                accepted(connection)
        except BaseException as error:
            code = CloseCode.DUPLICATE if dial.result.done() else close_code_for(error)
            raw.close(code, "")
            if not isinstance(error, PeerError) or error.close_code != CloseCode.DUPLICATE:
                raise
        dial.stage = _Stage.DUPLICATE
        await asyncio.wait([dial.result], timeout=self._limits.survivor_s)

    async def _reach(self, dial: _Dial) -> RawConnection:
        """The raw connection; the attempt begins anew when further addresses become known meanwhile."""
        for _ in range(self._limits.dial_restarts_max):
            dial.extended.clear()
            attempt = asyncio.ensure_future(self._transport.connect(dial.peer, dial.addresses))
            extended = asyncio.ensure_future(dial.extended.wait())
            try:
                await asyncio.wait([attempt, extended], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                attempt.add_done_callback(_close_late)
                raise
            finally:
                extended.cancel()
                if not attempt.done():
                    attempt.cancel()
                    await asyncio.wait([attempt])
            failed = attempt.cancelled() or attempt.exception() is not None
            if not (failed and dial.extended.is_set()):
                return attempt.result()
        return await self._transport.connect(dial.peer, dial.addresses)

    def _fail(self, dial: _Dial, error: CoterieError) -> None:
        if not dial.result.done():
            dial.result.set_exception(error)

    def _unreachable(self, dial: _Dial) -> str:
        return (
            f"{dial.peer.short} did not answer within {self._limits.dial_s:g} s{_tried(dial)}; "
            "is that computer on, connected, and coterie running there?"
        )

    # Accepting

    async def _receive(self, raw: RawConnection) -> None:
        try:
            stream, boot = await greeting.hear(raw, self._limits)
            while self._transport.peer_id < raw.peer and await self._hold(raw):
                pass
            self._guard.require_unblocked(raw.peer)
            if not self._is_wanted(raw, boot):
                return
            self._establish(raw, boot, is_dialled=False)
            await greeting.welcome(stream, self._boot)
        except CoterieError as error:
            _log.debug("handshake with %s failed: %s", raw.peer.short, error)
            raw.close(close_code_for(error), "")
        except BaseException:
            raw.close(CloseCode.SHUTDOWN, "")
            raise

    async def _hold(self, raw: RawConnection) -> bool:
        """Wait for our own dial, which takes precedence; False once there is none that could still win."""
        dial = self._dials.get(raw.peer)
        if dial is None or dial.stage is _Stage.DUPLICATE:
            return False
        ended = asyncio.get_running_loop().create_task(raw.closed())
        try:
            waited: list[asyncio.Future[Any]] = [dial.result, ended]
            await asyncio.wait(waited, timeout=self._limits.hold_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if raw.is_closed:
            raise TransportError(tr("{short} gave up", short=raw.peer.short))
        return dial.stage is _Stage.GREETING or dial.result.done()

    def _is_wanted(self, raw: RawConnection, boot: bytes) -> bool:
        live = self._live.get(raw.peer)
        if live is None or live.is_closed:
            is_known = raw.peer in self._dials or self._guard.knows(raw.peer)
            if not self._take_place(raw.peer, network_of_path(raw.path, str(raw.peer)), is_known=is_known):
                raw.close(CloseCode.LIMIT, "too many connections")
                return False
            return True
        age_s = asyncio.get_running_loop().time() - live.established_at
        if live.boot == boot and live.is_dialled and age_s < self._limits.dial_s:
            raw.close(CloseCode.DUPLICATE, "")
            return False
        return True

    # Both

    def _take_place(self, peer: PeerId, network: str, *, is_known: bool) -> bool:
        """Whether there is room for a connection with `peer`; a stranger that has to go for it is closed."""
        going = self._places.enter(peer, network, is_known=is_known)
        for other in going or ():
            if (connection := self._live.get(other)) is not None:
                _log.debug("%s makes room for others", other.short)
                connection.close(CloseCode.LIMIT, "others need the place")
        return going is not None

    def _establish(self, raw: RawConnection, boot: bytes, *, is_dialled: bool) -> Connection:
        """From here on `raw` is the connection of the pair; everybody who waits for one gets it."""
        connection = self._adopt(raw, boot, is_dialled)
        old = self._live.pop(raw.peer, None)
        self._live[raw.peer] = connection
        if old is not None:
            old.close(CloseCode.DUPLICATE, "")
        dial = self._dials.pop(raw.peer, None)
        if dial is None:
            return connection
        if is_dialled:
            self._known_at[raw.peer] = dial.addresses
        if not dial.result.done():
            dial.result.set_result(connection)
        if dial.task is not None and dial.task is not asyncio.current_task():
            dial.task.cancel()
        return connection


def _tried(dial: _Dial) -> str:
    return f" (tried {', '.join(dial.addresses)})" if dial.addresses else " (no address is known)"


def _close_late(attempt: "asyncio.Future[RawConnection]") -> None:
    """A connection that came just when its dial was given up is not to stay."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close(CloseCode.CANCELLED, "")


def _retrieve(result: "asyncio.Future[Connection]") -> None:
    """A dial may fail when all its callers have gone: nobody is left to be told."""
    if not result.cancelled():
        result.exception()
