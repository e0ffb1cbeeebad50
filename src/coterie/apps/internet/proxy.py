"""The port for programs of this computer: SOCKS5, SOCKS4a and HTTP, told apart by the first byte."""

import asyncio
import socket

from coterie.apps.internet.exits import ExitRefused, Exits
from coterie.apps.internet.messages import DATA
from coterie.apps.internet.socks import (
    GREETING_BYTES_MAX,
    NO_AUTHENTICATION,
    NO_METHOD,
    REPLIES,
    REQUEST_BYTES_MAX,
    SOCKS4,
    SOCKS5,
    Request,
    read_greeting,
    read_request,
    read_request4,
    reply,
    reply4,
)
from coterie.errors import CoterieError, UsageError
from coterie.services.carry.framed import Framed
from coterie.services.carry.splice import break_off, splice
from coterie.texts import tr

HANDSHAKE_S = 10.0  # for a program to say what it wants; guess


class Proxy:
    """Serves the programs that connect."""

    def __init__(self, exits: Exits) -> None:
        self._exits = exits

    async def serve(self, program: socket.socket) -> None:
        """One connection of a program."""
        client = _Client(program)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                kind = await client.first()
                request = await client.request(kind)
        except (UsageError, TimeoutError):
            return
        if request is not None:
            await self._connect(client, kind, request)

    async def _connect(self, client: "_Client", kind: int, request: Request) -> None:
        answer = reply if kind == SOCKS5 else lambda code: reply4(is_granted=code == 0)
        is_answered = False
        try:
            async with self._exits.stream(request.host, request.port) as call:
                await client.send(answer(0))
                is_answered = True
                call.stream.unread(call.rest)
                way = Framed(call.stream, DATA)
                if rest := client.rest():
                    await way.write(rest)
                await splice(way, client.program, heard=call.heard)
        except ExitRefused as refused:
            await client.send(answer(REPLIES.get(refused.why, 1)))
        except CoterieError:
            if is_answered:
                break_off(client.program)
            else:
                await client.send(answer(1))


class _Client:
    """A program's connection, and what it sent that is not used yet."""

    def __init__(self, program: socket.socket) -> None:
        self.program = program
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    async def first(self) -> int:
        """The first byte, which stays."""
        await self._more()
        return self._buffer[0]

    async def request(self, kind: int) -> Request | None:
        """What it wants; None: it was told that this is not to be had. Raises `UsageError`."""
        if kind == SOCKS4:
            while (found := read_request4(self._buffer)) is None:
                await self._more()
        elif kind == SOCKS5:
            while (greeting := read_greeting(self._buffer)) is None:
                await self._more(GREETING_BYTES_MAX)
            is_open, size = greeting
            self._buffer = self._buffer[size:]
            await self.send(NO_AUTHENTICATION if is_open else NO_METHOD)
            if not is_open:
                return None
            while (found := read_request(self._buffer)) is None:
                await self._more(REQUEST_BYTES_MAX)
        else:
            return None
        request, size = found
        self._buffer = self._buffer[size:]
        if request is None:
            await self.send(reply(7) if kind == SOCKS5 else reply4(is_granted=False))
        return request

    def rest(self) -> bytes:
        """What came behind the request."""
        rest, self._buffer = self._buffer, b""
        return rest

    async def send(self, data: bytes) -> None:
        """To the program; nothing where it has gone."""
        try:
            await self._loop.sock_sendall(self.program, data)
        except OSError:
            return

    async def _more(self, size_max: int = 4_096) -> None:
        try:
            data = await self._loop.sock_recv(self.program, size_max)
        except OSError:
            data = b""
        if not data:
            raise UsageError(tr("the program went away"))
        self._buffer += data
