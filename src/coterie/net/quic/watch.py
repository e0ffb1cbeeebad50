"""Watches a QUIC transport's connections and addresses: which path they take now, and whether it still carries.

The wheel can call back, but from threads of its own, on whichever event loop was named last in the process; so
this looks, a few times a second at what may change soon and rarely at what is settled.

Measured with 1.2.0: a connection whose only path is a relay that has died stays open for good (50 s and more), and
as long as it is open a new dial of that peer takes the dead path as well. So such a connection is ended here;
whoever uses it then dials again, and gets through by another relay at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from coterie.errors import TransportError
from coterie.net.interfaces import PathInfo
from coterie.net.quic.connection import QuicConnection
from coterie.tasks import Tasks

LOOK_S = 0.25  # guess: a change to a direct path is told within this
SETTLED_LOOKS = 8  # guess: direct paths and our own addresses are looked at every 2 s
SILENCE_S = 1.5  # guess: sent without an answer, or amid a transfer, for so long: is the relay still there?
IDLE_S = 6.0  # the wheel's heartbeat is 5 s: an idle connection that is silent for longer
BUSY_BYTES = 20_000  # guess: more than this received between two looks is a transfer
LOST_S = 15.0  # three heartbeats of the wheel (5 s each) unanswered, though the relay is there

_log = logging.getLogger(__name__)

PathListener = Callable[[QuicConnection, PathInfo], None]
AddressListener = Callable[[list[str]], None]
RelayListener = Callable[[str], None]
Probe = Callable[[str], Awaitable[float]]


@dataclass(slots=True)
class _Seen:
    kind: str
    received_bytes: int
    sent_bytes: int
    heard_at: float
    probed_at: float = float("-inf")
    is_busy: bool = False


class QuicWatch:
    """One task per transport. Listeners are called on the loop; what they raise is logged."""

    def __init__(
        self,
        live: Callable[[], Iterable[QuicConnection]],
        addresses: Callable[[], list[str]],
        probe: Probe,
        tasks: Tasks,
    ) -> None:
        self._live = live
        self._addresses = addresses
        self._probe = probe
        self._seen: dict[QuicConnection, _Seen] = {}
        self._known = addresses()
        self._tasks = tasks
        self._probes: dict[str, asyncio.Task[None]] = {}
        self.on_path: list[PathListener] = []
        self.on_addresses: list[AddressListener] = []
        self.on_relay_lost: list[RelayListener] = []

    def begin(self, connection: QuicConnection) -> None:
        """`connection` is new: changes count from here."""
        self._look_at(connection, None, asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_S)
            looks += 1
            self._look(is_full=looks % SETTLED_LOOKS == 0)

    def _look(self, *, is_full: bool) -> None:
        now = asyncio.get_running_loop().time()
        live = dict.fromkeys(self._live())
        for connection in list(self._seen):
            if connection not in live:
                del self._seen[connection]
        for connection in live:
            seen = self._seen.get(connection)
            if seen is None or seen.kind != "direct" or is_full:
                self._look_at(connection, seen, now)
        if is_full:
            addresses = self._addresses()
            if addresses != self._known:
                self._known = addresses
                self._tell(self.on_addresses, addresses)

    def _look_at(self, connection: QuicConnection, seen: _Seen | None, now: float) -> None:
        path, stats = connection.path, connection.stats()
        if seen is None:
            self._seen[connection] = _Seen(path.kind, stats.received_bytes, stats.sent_bytes, now)
            return
        if path.kind != seen.kind:
            seen.kind = path.kind
            self._tell(self.on_path, connection, path)
        if stats.received_bytes != seen.received_bytes or path.kind != "relay":
            seen.is_busy = seen.is_busy or stats.received_bytes - seen.received_bytes > BUSY_BYTES
            seen.received_bytes = stats.received_bytes
            seen.sent_bytes = stats.sent_bytes
            seen.heard_at = now
            return
        silence_s = now - seen.heard_at
        is_asking = seen.is_busy or stats.sent_bytes != seen.sent_bytes
        patience_s = SILENCE_S if is_asking else IDLE_S
        if silence_s >= LOST_S:
            connection.give_up("the peer does not answer through its relay any more")
        elif (
            silence_s >= patience_s and now - seen.probed_at >= patience_s and path.remote not in self._probes
        ):
            seen.probed_at = now
            seen.is_busy = False
            self._probes[path.remote] = self._tasks.start(self._check_relay(path.remote), "asking a relay")

    async def _check_relay(self, url: str) -> None:
        try:
            await self._probe(url)
        except TransportError as error:
            self._relay_lost(url, str(error))
        finally:
            self._probes.pop(url, None)

    def _relay_lost(self, url: str, reason: str) -> None:
        """End every silent connection through `url`: another dial may take another relay."""
        now = asyncio.get_running_loop().time()
        for connection, seen in self._seen.items():
            path = connection.path
            if path.kind == "relay" and path.remote == url and now - seen.heard_at >= SILENCE_S:
                connection.give_up(reason)
        self._tell(self.on_relay_lost, url)

    @staticmethod
    def _tell(listeners: "list[Callable[..., None]]", *what: object) -> None:
        for listener in listeners:
            try:
                listener(*what)
            except Exception:  # noqa: BLE001  (a listener may fail in any way; the others are told all the same)
                _log.exception("a listener of the transport failed")
