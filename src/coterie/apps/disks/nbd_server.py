"""Serves one NBD client: agrees on an export in order, then reads commands and answers each when it is done.

A client has a thread that reads what it asks; answers are sent by whoever has them, and wait in a queue where the
client does not take them.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from coterie.apps.disks import nbd
from coterie.apps.disks.asking import Fault
from coterie.apps.disks.blocks import Got, Habit
from coterie.apps.disks.nbd import Command, Errno, Export, Flag, Option, Reply, Request
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.net.lanes.bridge import call_soon
from coterie.texts import tr

OPTIONS_MAX = 100  # of one client before it begins; guess: clients ask for five
NEGOTIATION_S = (
    60.0  # guess: to look up an export may take some seconds, people with a telnet have no business here
)
OPEN_S = 45.0  # for the owner; above what `attached.open_stream` waits
REQUESTS_MAX = 1_024  # of one client without an answer
RECEIVE_BYTES = 256 << 10

log = logging.getLogger(__name__)


class Volume(Protocol):
    """What an export leads to; see `attached.Attached`, whose methods these are."""

    def push(self) -> None: ...
    def read(self, habit: Habit, offset: int, size: int, got: Got) -> None: ...
    def write(
        self, offset: int, data: bytes | memoryview, *, fua: bool, finished: "Callable[[Fault | None], None]"
    ) -> None: ...
    def trim(
        self, offset: int, size: int, *, fua: bool, finished: "Callable[[Fault | None], None]"
    ) -> None: ...
    def zero(
        self,
        offset: int,
        size: int,
        *,
        fua: bool,
        no_hole: bool,
        finished: "Callable[[Fault | None], None]",
    ) -> None: ...
    def flush(self, finished: "Callable[[Fault | None], None]") -> None: ...
    def extents(
        self, offset: int, size: int, got: "Callable[[list[tuple[int, bool]] | Fault], None]"
    ) -> None: ...


class Exports(Protocol):
    """What this server has. On the loop."""

    def names(self) -> Sequence[str]:
        """Of all exports."""
        ...

    async def open(self, name: str) -> tuple[Export, Volume]:
        """What an export is, ready to be used; "" where there is one only. Raises `CoterieError`."""
        ...

    def used(self, volume: Volume, by: int) -> None:
        """One client more or less uses it."""
        ...


async def serve(exports: Exports, client: socket.socket) -> None:
    """Serve one client until it has gone; the socket is the caller's to close."""
    loop = asyncio.get_running_loop()
    one = _Client(exports, client, loop)
    done: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        try:
            one.work()
        except (OSError, UsageError) as error:
            log.info("an NBD client ended: %s", error)
        finally:
            call_soon(loop, lambda: done.set_result(None))

    client.setblocking(True)
    thread = threading.Thread(target=work, name="nbd client")
    thread.start()
    try:
        await asyncio.shield(done)
    finally:
        one.end()
        if not done.done():
            await asyncio.wait([done])
        thread.join()


class _Client:
    def __init__(self, exports: Exports, client: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._exports = exports
        self._socket = client
        self._loop = loop
        self._answers = _Answers(client)
        self._buffer = bytearray()
        self._is_structured = False
        self._context = ""  # the export for which base:allocation was chosen
        self._export: Export | None = None
        self._volume: Volume | None = None
        self._room = threading.Semaphore(REQUESTS_MAX)
        self._habit = Habit()

    def end(self) -> None:
        """From any thread: `work` returns soon."""
        self._answers.end()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def work(self) -> None:
        """In a thread of its own. Raises `OSError`, `UsageError`: the client has gone, or is none."""
        self._socket.settimeout(NEGOTIATION_S)
        if not self._agree() or self._volume is None:
            return
        self._socket.settimeout(None)
        volume = self._volume
        self._note_use(volume, 1)
        try:
            self._transmit()
        finally:
            volume.push()
            self._answers.end()
            self._note_use(volume, -1)

    def _note_use(self, volume: Volume, by: int) -> None:
        """On the loop: one client more or less; a client that begins is counted before it asks anything."""
        noted = threading.Event()

        def note() -> None:
            self._exports.used(volume, by)
            noted.set()

        call_soon(self._loop, note)
        if by > 0:
            noted.wait(OPEN_S)

    # ---- to agree on an export

    def _agree(self) -> bool:
        """Whether the client goes on to use an export."""
        self._socket.sendall(nbd.greeting())
        no_zeroes = nbd.read_client_flags(self._take(nbd.CLIENT_FLAGS.size))
        for _ in range(OPTIONS_MAX):
            number, size = nbd.read_option(self._take(nbd.OPTION.size))
            data = self._take(size)
            if number == Option.EXPORT_NAME:
                try:
                    export = self._open(nbd.read_name(data))
                except CoterieError as error:
                    log.info("an NBD client was refused: %s", error)
                    return False
                self._socket.sendall(nbd.export_begun(export, no_zeroes=no_zeroes))
                return True
            answer, is_over = self._option(number, data)
            self._socket.sendall(answer)
            if is_over:
                return number == Option.GO
        return False

    def _option(self, number: int, data: bytes) -> tuple[bytes, bool]:
        """The answer to an option, and whether nothing else is to be agreed on."""
        try:
            match number:
                case Option.ABORT:
                    return nbd.option_reply(number, Reply.ACK), True
                case Option.LIST if not data:
                    return nbd.listing(number, self._exports.names()), False
                case Option.STRUCTURED_REPLY if not data:
                    self._is_structured = True
                    return nbd.option_reply(number, Reply.ACK), False
                case Option.INFO | Option.GO:
                    return self._go(number, nbd.read_go(data))
                case Option.LIST_META_CONTEXT | Option.SET_META_CONTEXT:
                    name, queries = nbd.read_meta(data)
                    if not self._is_structured:
                        raise UsageError(tr("structured replies come first"))
                    answer, is_chosen = nbd.contexts(number, queries)
                    if number == Option.SET_META_CONTEXT:
                        self._context = name if is_chosen else "\0"
                    return answer, False
                case Option.LIST | Option.STRUCTURED_REPLY:
                    raise UsageError(tr("this option has no data"))
        except UsageError as error:
            return nbd.refusal(number, Reply.ERR_INVALID, str(error)), False
        return nbd.refusal(number, Reply.ERR_UNSUP, "not known here"), False

    def _go(self, number: int, name: str) -> tuple[bytes, bool]:
        try:
            export = self._open(name)
        except NotFound as error:
            return nbd.refusal(number, Reply.ERR_UNKNOWN, str(error)), False
        except CoterieError as error:
            return nbd.refusal(number, Reply.ERR_POLICY, str(error)), False
        if number == Option.INFO:
            self._volume = None
        if self._context != name:
            self._context = "\0"
        return nbd.export_info(number, export), number == Option.GO

    def _open(self, name: str) -> Export:
        opening = asyncio.run_coroutine_threadsafe(self._exports.open(name), self._loop)
        try:
            self._export, self._volume = opening.result(OPEN_S)
        except TimeoutError:
            opening.cancel()
            raise UsageError(tr("its computer does not answer")) from None
        return self._export

    # ---- to use it

    def _transmit(self) -> None:
        """Until the client has gone."""
        export, volume = self._export, self._volume
        assert export is not None and volume is not None  # noqa: S101, PT018 - agreed on before
        has_context = self._is_structured and self._context not in ("", "\0")
        while True:
            if len(self._buffer) < nbd.REQUEST.size:
                volume.push()
                self._fill(nbd.REQUEST.size)
            request = nbd.read_request(memoryview(self._buffer)[: nbd.REQUEST.size])
            del self._buffer[: nbd.REQUEST.size]
            if request.command == Command.DISC:
                return
            data = b""
            if request.command == Command.WRITE:
                if len(self._buffer) < request.size:
                    volume.push()
                data = self._take(request.size)
            if not self._room.acquire(blocking=False):
                volume.push()
                self._room.acquire()
            error = nbd.fault_of(request, export, has_context=has_context)
            if error is not None:
                self._refuse(request, Fault(error, "that cannot be done to this disk"))
            else:
                self._do(volume, request, data)

    def _do(self, volume: Volume, request: Request, data: bytes) -> None:
        offset, size, fua = request.offset, request.size, bool(request.flags & Flag.FUA)

        def finished(fault: Fault | None) -> None:
            if fault is not None:
                self._refuse(request, fault)
            else:
                self._say(self._done(request))

        if not size and request.command != Command.FLUSH:
            finished(None)
            return
        match request.command:
            case Command.READ:
                volume.read(self._habit, offset, size, lambda got: self._read(request, got))
            case Command.CACHE:
                part = min(size, nbd.REQUEST_BYTES_MAX)
                volume.read(
                    self._habit, offset, part, lambda got: finished(got if isinstance(got, Fault) else None)
                )
            case Command.WRITE:
                volume.write(offset, data, fua=fua, finished=finished)
            case Command.FLUSH:
                volume.flush(finished)
            case Command.TRIM:
                volume.trim(offset, size, fua=fua, finished=finished)
            case Command.WRITE_ZEROES if request.flags & Flag.FAST_ZERO:
                self._refuse(request, Fault(Errno.ENOTSUP, "zeroes may be slow here"))
            case Command.WRITE_ZEROES:
                no_hole = bool(request.flags & Flag.NO_HOLE)
                volume.zero(offset, size, fua=fua, no_hole=no_hole, finished=finished)
            case Command.BLOCK_STATUS:
                volume.extents(offset, size, lambda got: self._status(request, got))

    def _read(self, request: Request, got: "bytes | memoryview | Fault") -> None:
        if isinstance(got, Fault):
            self._refuse(request, got)
        elif self._is_structured:
            self._say(nbd.data_head(request.cookie, request.offset, len(got)), got)
        else:
            self._say(nbd.simple_reply(request.cookie), got)

    def _status(self, request: Request, got: "list[tuple[int, bool]] | Fault") -> None:
        if isinstance(got, Fault):
            self._refuse(request, got)
            return
        found = got[:1] if request.flags & Flag.REQ_ONE else got[: nbd.EXTENTS_MAX]
        self._say(nbd.status_chunk(request.cookie, found))

    def _done(self, request: Request) -> bytes:
        is_read = request.command in (Command.READ, Command.BLOCK_STATUS)
        if self._is_structured and is_read:
            return nbd.done_chunk(request.cookie)
        return nbd.simple_reply(request.cookie)

    def _refuse(self, request: Request, fault: Fault) -> None:
        if self._is_structured:
            self._say(nbd.error_chunk(request.cookie, fault.errno, fault.reason))
        else:
            self._say(nbd.simple_reply(request.cookie, fault.errno))

    def _say(self, head: bytes, data: bytes | memoryview = b"") -> None:
        self._room.release()
        self._answers.send(head, data)

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        self._fill(size)
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes in the buffer."""
        while len(self._buffer) < size:
            data = self._socket.recv(max(RECEIVE_BYTES, size - len(self._buffer)))
            if not data:
                raise OSError("the client has gone")
            self._buffer += data


class _Answers:
    """What a client is told, whole and one behind the other, from any thread, without waiting for the client."""

    def __init__(self, client: socket.socket) -> None:
        self._socket = client
        self._changed = threading.Condition()
        self._waiting: deque[bytes | memoryview] = deque()
        self._thread: threading.Thread | None = None
        self._is_over = False

    def send(self, head: bytes, data: bytes | memoryview = b"") -> None:
        """Send at once what the system takes; the rest later. What is queued is copied."""
        with self._changed:
            if self._is_over:
                return
            if not self._waiting:
                parts = [memoryview(head), memoryview(data)] if data else [memoryview(head)]
                try:
                    sent = self._socket.sendmsg(parts, [], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self._is_over = True
                    return
                if sent == len(head) + len(data):
                    return
                if sent < len(head):
                    head = head[sent:]
                else:
                    head, data = b"", memoryview(data)[sent - len(head) :]
            self._waiting += [part for part in (head, bytes(data)) if part]
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="nbd answers", daemon=True)
                self._thread.start()
            self._changed.notify()

    def end(self) -> None:
        """Send nothing any more."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def _drain(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_over)
                if self._is_over:
                    return
                part = self._waiting[0]
            try:
                self._socket.sendall(part)
            except OSError:
                self.end()
                return
            with self._changed:
                self._waiting.popleft()
