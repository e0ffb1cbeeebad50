"""The TUN device of a whole-system exit: packets of all programs of this computer, one flow for each that sends.

A flow is who sends: an address and port here (of an echo its identifier). `serve` carries it as datagrams behind where
they go to or come from, as in `messages.pack_addressed`; of an echo the port is its sequence number.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from coterie.apps.internet.exit_packets import (
    PACKET_BYTES_MAX,
    Packet,
    answer,
    read_packet,
    refusal,
)
from coterie.errors import AccessDenied, CoterieError, UsageError
from coterie.services.local.flows import WAITING_BYTES_MAX, WAITING_MAX
from coterie.texts import tr

FLOWS_MAX = 1_000  # then the one that was quiet longest ends. As a UDP port of `services.local` has it
IN_ROW_MAX = 64  # packets before others have their turn
_SET_NAME = 0x400454CA  # linux/if_tun.h: TUNSETIFF
_TUN, _NO_HEADER = 0x0001, 0x1000  # IFF_TUN, IFF_NO_PI
_KINDS = {4: b"\x01", 16: b"\x04"}  # RFC 1928, 5: ATYP
_ENDS = {1: 5, 4: 17}

log = logging.getLogger(__name__)

Key = tuple[bytes, int, bool]


class TunFlow:
    """Packets from one address and port here: a `Program` of `carry_datagrams`."""

    def __init__(self, write: Callable[[bytes], None], first: Packet) -> None:
        self._write = write
        self._first = first
        self._waiting: deque[Packet] = deque()
        self._bytes = 0
        self._came = asyncio.Event()

    @property
    def is_echo(self) -> bool:
        """Whether it is of echo requests."""
        return self._first.is_echo

    async def receive(self) -> bytes:
        """The next datagram, behind where it goes."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        packet = self._taken()
        port = packet.sequence if packet.is_echo else packet.port
        return _KINDS[len(packet.destination)] + packet.destination + port.to_bytes(2, "big") + packet.data

    def send(self, data: bytes) -> None:
        """Bring a datagram, behind where it is from, to the program; lost where it is malformed or fits no packet."""
        end = _ENDS.get(data[0], 0) if data else 0
        if not end or len(data) < end + 2 or end - 1 != len(self._first.source):
            return
        port, first = int.from_bytes(data[end : end + 2], "big"), self._first
        if first.is_echo:
            first = Packet(first.source, data[1:end], first.source_port, 0, b"", True, port)
        with contextlib.suppress(UsageError):
            self._write(answer(first, data[end + 2 :], address=data[1:end], port=port))

    def arrive(self, packet: Packet) -> None:
        """One came; of more than WAITING_MAX or WAITING_BYTES_MAX the oldest are lost."""
        self._waiting.append(packet)
        self._bytes += len(packet.data)
        while len(self._waiting) > WAITING_MAX or self._bytes > WAITING_BYTES_MAX:
            self._taken()
        self._came.set()

    def _taken(self) -> Packet:
        taken = self._waiting.popleft()
        self._bytes -= len(taken.data)
        return taken


Serve = Callable[[TunFlow], Awaitable[None]]


class Device:
    """The device while it exists. All methods belong to the event loop."""

    def __init__(
        self, name: str, serve: Serve, start: Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
    ) -> None:
        """Raises `UsageError`: the kernel gives no such device. `start` runs work in the background."""
        self._serve = serve
        self._start = start
        self._flows: OrderedDict[Key, tuple[TunFlow, asyncio.Task[None]]] = (
            OrderedDict()
        )  # quiet longest first
        self.carried = 0  # packets, both ways
        try:
            self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                tr("/dev/net/tun cannot be opened: {strerror}", strerror=error.strerror)
            ) from None
        try:
            fcntl.ioctl(self._file, _SET_NAME, struct.pack("16sH22x", name.encode(), _TUN | _NO_HEADER))
        except OSError as error:
            os.close(self._file)
            raise UsageError(
                tr("the device {name} cannot be made: {strerror}", name=name, strerror=error.strerror)
            ) from None
        asyncio.get_running_loop().add_reader(self._file, self._read)

    @property
    def flows(self) -> int:
        """How many there are now."""
        return len(self._flows)

    async def close(self) -> None:
        """The device is gone, and its routes; flows end."""
        asyncio.get_running_loop().remove_reader(self._file)
        ending = [task for _, task in self._flows.values()]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        os.close(self._file)

    def write(self, packet: bytes) -> None:
        """Give a packet to the kernel; it is lost while the kernel's queue is full."""
        self.carried += 1
        with contextlib.suppress(OSError):
            os.write(self._file, packet)

    def _read(self) -> None:
        for _ in range(IN_ROW_MAX):
            try:
                raw = os.read(self._file, PACKET_BYTES_MAX)
            except OSError:  # nothing more is there, or the device goes down
                return
            self.carried += 1
            try:
                packet = read_packet(raw)
            except UsageError as error:
                log.debug("%s", error)
                continue
            if packet is None:
                self._refuse(raw, is_closed=True)
            else:
                self._flow_of(packet, raw).arrive(packet)

    def _refuse(self, raw: bytes, *, is_closed: bool) -> None:
        with contextlib.suppress(UsageError):
            self.write(refusal(raw, is_closed=is_closed))

    def _flow_of(self, packet: Packet, raw: bytes) -> TunFlow:
        key = packet.source, packet.source_port, packet.is_echo
        known = self._flows.get(key)
        if known is not None:
            self._flows.move_to_end(key)
            return known[0]
        if len(self._flows) >= FLOWS_MAX:
            _, (_, quiet) = self._flows.popitem(last=False)
            quiet.cancel()
        flow = TunFlow(self.write, packet)
        task = self._start(self._run(key, flow, raw), "packets to the exit")
        self._flows[key] = flow, task
        return flow

    async def _run(self, key: Key, flow: TunFlow, first: bytes) -> None:
        try:
            await self._serve(flow)
        except (CoterieError, TimeoutError) as error:
            log.info("packets to the exit: %s", error)
            self._refuse(first, is_closed=isinstance(error, AccessDenied))
        finally:
            known = self._flows.get(key)
            if known is not None and known[0] is flow:
                del self._flows[key]
