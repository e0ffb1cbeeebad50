"""As `splice`, over a `Framed` way of which much may go over lanes: then threads move the bytes.

Towards the peer the lane's own thread takes from the program as long as it says much (`Stream.pour`). From the peer a
thread takes over once much has come, as a `BulkStream`, which tells the peer that a lane will be followed.
"""

import asyncio
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from coterie.errors import PeerError, TransportError
from coterie.net import BulkStream
from coterie.net.lanes.write_path import Write
from coterie.services.carry.framed import Framed
from coterie.services.carry.splice import READ_BYTES, break_off, wait_both
from coterie.texts import tr
from coterie.wire.frames import HEADER, Bulk

BULK_AFTER_BYTES = 1 << 20  # from the peer; guess: 5 ms of the stream, many times what a thread costs
POUR_BYTES_MAX = 32 << 20  # before the loop, and who judges the lane, have their turn
POUR_WAIT_S = 0.02  # for a program that pauses; guess: below what a lane is judged by
LOOK_S = 1.0  # how often a thread that waits looks whether it is over
TAKING_MAX = 16  # connections of this process at once from whose peer a thread takes

Count = Callable[[int], None]
"""Counts bytes before they go on, from any thread; raises where they must not."""


def _free(_: int) -> None:
    """Nothing is counted."""


class _Threads:
    """How many take now."""

    taking = 0


async def splice_bulk(
    way: Framed,
    program: socket.socket,
    *,
    count_inward: Count = _free,
    count_outward: Count = _free,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Until both sides have finished. Errors as `splice`, and what counting raises."""
    both = _Both(way, program, count_inward, count_outward, heard)
    try:
        await wait_both(both.outward(), both.inward())
    except BaseException:
        break_off(program)
        raise
    finally:
        both.is_over.set()


class _Both:
    """The two ways of one connection."""

    def __init__(
        self, way: Framed, program: socket.socket, inward: Count, outward: Count, heard: Callable[[], None]
    ) -> None:
        self.is_over = threading.Event()
        self._way = way
        self._program = program
        self._count_inward = inward
        self._count_outward = outward
        self._heard = heard
        self._bulk: BulkStream | None = None
        self._has_said_all = threading.Event()  # outward is at its end

    async def outward(self) -> None:
        """From the program to the peer."""
        loop = asyncio.get_running_loop()
        way = self._way
        while True:
            try:
                data = await loop.sock_recv(self._program, READ_BYTES)
            except OSError as error:
                raise _broken(error) from None
            if not data:
                break
            self._count_outward(len(data))
            await way.write(data)
            if way.stream.is_on_lane:
                await way.stream.pour(self._pour)
        if self._bulk is not None:
            self._bulk.finish()  # behind what it has still to say
        else:
            await way.finish()
        self._has_said_all.set()

    def _pour(self, write: Write) -> None:
        """In the lane's thread: what the program says, until it pauses or ends."""
        room = bytearray(HEADER.size + READ_BYTES)
        view, left = memoryview(room), POUR_BYTES_MAX
        while left > 0 and not self.is_over.is_set():
            try:
                size = self._program.recv_into(view[HEADER.size :])
            except BlockingIOError:
                if not _wait(self._program, POUR_WAIT_S):
                    return
                continue
            except OSError as error:
                raise _broken(error) from None
            if not size:
                return  # the loop will find the same
            self._count_outward(size)
            room[: HEADER.size] = self._way.stream.protocol.bulk_header(self._way.kind, size)
            write(view[: HEADER.size + size])
            left -= size

    async def inward(self) -> None:
        """From the peer to the program."""
        loop, came = asyncio.get_running_loop(), 0
        while data := await self._way.read_bytes():
            self._heard()
            self._count_inward(len(data))
            try:
                await loop.sock_sendall(self._program, data)
            except OSError as error:
                raise _broken(error) from None
            came += len(data)
            if came >= BULK_AFTER_BYTES and _Threads.taking < TAKING_MAX and not self._has_said_all.is_set():
                await self._take()
                return
        with suppress(OSError):  # it has closed already
            self._program.shutdown(socket.SHUT_WR)

    async def _take(self) -> None:
        """A thread does the rest."""
        _Threads.taking += 1
        self._bulk = BulkStream(self._way.stream, takes_bulk=True)
        try:
            await self._bulk.drive(self._taken)
        finally:
            self.is_over.set()
            _Threads.taking -= 1

    def _taken(self, bulk: BulkStream) -> None:
        while batch := bulk.receive_batch():
            self._heard()
            for frame in batch:
                if not (isinstance(frame, Bulk) and frame.kind == self._way.kind):
                    raise PeerError("a connection carries its bytes, and nothing else")
                self._count_inward(len(frame.data))
                self._give(memoryview(frame.data))
        with suppress(OSError):
            self._program.shutdown(socket.SHUT_WR)
        while not (self._has_said_all.wait(LOOK_S) or self.is_over.is_set()):
            continue

    def _give(self, data: memoryview) -> None:
        at = 0
        while at < len(data):
            try:
                at += self._program.send(data[at:])
            except BlockingIOError:
                _wait(self._program, LOOK_S, is_write=True)
                if self.is_over.is_set():
                    raise TransportError(tr("given up here")) from None
            except OSError as error:
                raise _broken(error) from None


def _wait(program: socket.socket, wait_s: float, *, is_write: bool = False) -> bool:
    """Whether it may be read or written within that time."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(program, select.POLLOUT if is_write else select.POLLIN)
        return bool(poll.poll(wait_s * 1_000))
    one = [program]
    return any(select.select([] if is_write else one, one if is_write else [], [], wait_s))


def _broken(error: OSError) -> TransportError:
    return TransportError(tr("the program here broke off: {strerror}", strerror=error.strerror))
