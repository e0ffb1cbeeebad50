"""A UDP port for programs of this machine: one flow for each address that sends, let in by whose socket it is.

The kernel is asked at every datagram, both ways, whether the socket is still the one of the flow: another user may
bind the same port as soon as its program has ended.
"""

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from functools import partial

from coterie.services.local.callers import is_trusted, sender_of, socket_of
from coterie.services.local.listeners import address_of, bound
from coterie.tasks import Tasks

FLOWS_MAX = 1_000  # of one port; then the one that was quiet longest ends. Each may be a stream to a peer
WAITING_MAX = (
    256  # datagrams of one flow that nobody took yet; then the oldest is lost. As `NetLimits` has it
)
WAITING_BYTES_MAX = 256 << 10  # of them; about what Linux keeps for a socket. With all flows 256 MB
DATAGRAM_BYTES_MAX = 65_507  # of UDP over IPv4
IN_ROW_MAX = 64  # datagrams read before others have their turn
BUFFER_BYTES = 1 << 20  # of the kernel, each way: 15 of the largest

Address = tuple[str, int]
ServeFlow = Callable[["Flow"], Awaitable[None]]
"""Gets one flow until it returns; a later datagram from the same address begins another."""

log = logging.getLogger(__name__)


class Inbox:
    """Datagrams that nobody took yet: WAITING_MAX, WAITING_BYTES_MAX; of more the oldest are lost."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._came = asyncio.Event()

    async def receive(self) -> bytes:
        """The next one."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        return self._taken()

    def arrive(self, data: bytes) -> None:
        """One came."""
        self._waiting.append(data)
        self._bytes += len(data)
        while len(self._waiting) > WAITING_MAX or self._bytes > WAITING_BYTES_MAX:
            self._taken()
        self._came.set()

    def _taken(self) -> bytes:
        data = self._waiting.popleft()
        self._bytes -= len(data)
        return data


class Flow:
    """Datagrams with the program at one address of this machine."""

    def __init__(self, say: Callable[[bytes], None]) -> None:
        self.came = Inbox()  # for the listener
        self.socket: bytes | None = None  # which one it is, as the kernel says; None: it does not
        self._say = say

    async def receive(self) -> bytes:
        """The next datagram of the program."""
        return await self.came.receive()

    def send(self, data: bytes) -> None:
        """Send a datagram to the program; it is lost where it is too long, or the program has gone."""
        self._say(data)


class UdpListener:
    """The flows of one UDP port."""

    kind = "udp"
    secret = ""

    def __init__(self, name: str, serve: ServeFlow, tasks: Tasks, *, is_lan: bool = False) -> None:
        self.users = "everybody on the local network" if is_lan else "you"
        self.refused = 0
        self._name = name
        self._serve = serve
        self._tasks = tasks
        self._is_lan = is_lan
        self._server: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._flows: OrderedDict[Address, tuple[Flow, asyncio.Task[None]]] = (
            OrderedDict()
        )  # quiet longest first

    @property
    def connections(self) -> int:
        return len(self._flows)

    @property
    def number(self) -> int:
        return self._server.getsockname()[1] if self._server is not None else 0

    @property
    def address(self) -> str:
        return address_of(self._server) if self._server is not None else ""

    def start(self, number: int) -> None:
        """Raises `UsageError` when the port is not to be had."""
        self._server = bound(number, is_lan=self._is_lan, sort=socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._server.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._reading = self._tasks.keep(partial(self._read, self._server), f"the port {self._name}")

    async def stop(self) -> None:
        """Listen no more, end every flow."""
        if self._server is None:
            return
        server, self._server = self._server, None
        ending = [task for task in (self._reading, *(task for _, task in self._flows.values())) if task]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        server.close()

    async def _read(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        in_row = 0
        while True:
            in_row = (in_row + 1) % IN_ROW_MAX
            if not in_row:
                await asyncio.sleep(0)
            try:
                data, sender = await loop.sock_recvfrom(server, DATAGRAM_BYTES_MAX)
            except OSError as error:  # what was sent before had no taker
                log.debug("port %s: %s", self._name, error)
                continue
            flow = self._flow_of(sender[:2])
            if flow is not None:
                flow.came.arrive(data)

    def _flow_of(self, sender: Address) -> Flow | None:
        """The flow of who sends; None: not for this user."""
        known = self._flows.get(sender)
        if known is not None and self._is_still(known[0], sender):
            self._flows.move_to_end(sender)
            return known[0]
        if known is not None:
            self._end(sender)
        if not (self._is_lan or is_trusted(sender_of(sender))):
            self.refused += 1
            return None
        if len(self._flows) >= FLOWS_MAX:
            self._end(next(iter(self._flows)))
        flow = Flow(partial(self._answer, sender))
        flow.socket = None if self._is_lan else self._socket_of(sender)
        task = self._tasks.start(self._run(flow), f"datagrams to {self._name}")
        self._flows[sender] = flow, task
        task.add_done_callback(partial(self._ended, sender, flow))
        return flow

    async def _run(self, flow: Flow) -> None:
        await self._serve(flow)

    def _answer(self, sender: Address, data: bytes) -> None:
        known = self._flows.get(sender)
        if self._server is None or known is None or not self._is_still(known[0], sender):
            return
        with contextlib.suppress(OSError):  # its buffer is full, or the program has gone: as with UDP itself
            self._server.sendto(data, sender)

    def _is_still(self, flow: Flow, sender: Address) -> bool:
        """Whether the socket at that address is the one for which the flow was let in."""
        if self._is_lan:
            return True
        if flow.socket is None:
            return is_trusted(sender_of(sender))
        return self._socket_of(sender) == flow.socket

    def _socket_of(self, sender: Address) -> bytes | None:
        return socket_of(sender, self._server.getsockname()) if self._server is not None else None

    def _end(self, sender: Address) -> None:
        _, task = self._flows.pop(sender)
        task.cancel()

    def _ended(self, sender: Address, flow: Flow, _: "asyncio.Task[None]") -> None:
        known = self._flows.get(sender)
        if known is not None and known[0] is flow:
            del self._flows[sender]
