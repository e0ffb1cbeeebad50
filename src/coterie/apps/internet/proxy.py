"""The port for programs of this computer: SOCKS5, SOCKS4a and HTTP, told apart by the first byte."""

import asyncio
import contextlib
import socket

from coterie.apps.internet.exits import ExitRefused, Exits
from coterie.apps.internet.messages import DATA
from coterie.apps.internet.proxy_head import pac_file, target_of, to_origin
from coterie.apps.internet.socks import (
    NO_AUTHENTICATION,
    NO_METHOD,
    NOT_SERVED,
    REPLIES,
    REQUEST_BYTES_MAX,
    SOCKS4,
    SOCKS5,
    UDP_HEAD,
    Request,
    read_greeting,
    read_request,
    read_request4,
    reply,
    reply4,
)
from coterie.errors import CoterieError, UsageError
from coterie.services.carry.bulk_splice import splice_bulk
from coterie.services.carry.framed import Framed
from coterie.services.carry.http_head import Head, refusal
from coterie.services.carry.http_requests import HEAD_S, Requests
from coterie.services.carry.splice import break_off
from coterie.services.local import Flow, Port
from coterie.services.local.web_pages import is_own_host
from coterie.texts import tr

HANDSHAKE_S = 10.0  # for a program to say what it wants; guess
PAC_PATHS = ("/proxy.pac", "/wpad.dat")
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_STATUS = {"access": "403 Forbidden", "host": "403 Forbidden", "silent": "504 Gateway Timeout"}
_BUSY = "503 Service Unavailable"


class Proxy:
    """Serves the programs that connect. `port` and `datagrams` are its own, set when they are open."""

    def __init__(self, exits: Exits) -> None:
        self._exits = exits
        self._associations = 0
        self._alone = asyncio.Event()  # no association is left
        self.port: Port | None = None
        self.datagrams: Port | None = None

    async def serve(self, program: socket.socket) -> None:
        """One connection of a program."""
        client = _Client(program)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                kind = await client.first()
                if kind not in (SOCKS4, SOCKS5):
                    request = None
                elif (request := await client.request(kind)) is None:
                    return
        except (UsageError, TimeoutError):
            return
        if request is None:
            await self._serve_http(Requests(program, client.rest(), is_proxy=True), program)
        elif request.command == "associate":
            await self._associate(client)
        else:
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
                await splice_bulk(way, client.program, heard=call.heard)
        except ExitRefused as refused:
            await client.send(answer(REPLIES.get(refused.why, 1)))
        except CoterieError:
            if is_answered:
                break_off(client.program)
            else:
                await client.send(answer(1))

    # ---- datagrams

    async def _associate(self, client: "_Client") -> None:
        """Until the program closes the connection, its datagrams are carried (RFC 1928, 7)."""
        if self.datagrams is None or not self.datagrams.number:
            await client.send(reply(NOT_SERVED))
            return
        host, _, number = self.datagrams.address.rpartition(":")
        self._associations += 1
        self._alone.clear()
        try:
            await client.send(reply(0, host, int(number)))
            await client.until_closed()
        finally:
            self._associations -= 1
            if not self._associations:
                self._alone.set()

    async def serve_flow(self, flow: Flow) -> None:
        """One program that sends datagrams to the port for them."""
        if not self._associations:
            return
        carrying = asyncio.ensure_future(self._exits.carry_flow(_SocksFlow(flow)))
        ending = asyncio.ensure_future(self._alone.wait())
        try:
            await asyncio.wait([carrying, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (carrying, ending):
                task.cancel()
            await asyncio.gather(carrying, ending, return_exceptions=True)

    # ---- HTTP

    async def _serve_http(self, requests: Requests, program: socket.socket) -> None:
        try:
            async with asyncio.timeout(HEAD_S):
                head = await requests.head()
            while head is not None:
                requests.is_answered = False
                if head.method == "CONNECT":
                    await self._tunnel(requests, program, head)
                    return
                if head.target.startswith("/"):
                    await self._answer_own(requests, head)
                    return
                head = await self._forward(requests, head)
        except (CoterieError, TimeoutError) as error:
            if requests.is_answered:
                break_off(program)
            elif isinstance(error, ExitRefused):
                status = _BUSY if error.why == "busy" else _STATUS.get(error.why, "502 Bad Gateway")
                await requests.send(refusal(status, str(error)))
            else:
                await requests.refuse(error, str(error))

    async def _forward(self, requests: Requests, head: Head) -> Head | None:
        """Requests for one host; the head of the first that is for another."""
        target = target_of(head)

        def judge(following: Head) -> bytes | None:
            if following.method == "CONNECT" or following.target.startswith("/"):
                return None
            return to_origin(following) if target_of(following) == target else None

        async with self._exits.stream(*target) as call:
            call.stream.unread(call.rest)
            return await requests.pass_on(Framed(call.stream, DATA), head, judge, heard=call.heard)

    async def _tunnel(self, requests: Requests, program: socket.socket, head: Head) -> None:
        async with self._exits.stream(*target_of(head)) as call:
            await requests.send(_ESTABLISHED)
            requests.is_answered = True
            call.stream.unread(call.rest)
            way = Framed(call.stream, DATA)
            if rest := requests.take_rest():
                await way.write(rest)
            await splice_bulk(way, program, heard=call.heard)

    async def _answer_own(self, requests: Requests, head: Head) -> None:
        """The file by which browsers find the proxy."""
        port = self.port
        if port is None or not is_own_host(head.host, port.number, is_lan=False):
            raise UsageError(tr("this is a proxy: a program asks it for http://HOST/..."))
        if head.target.partition("?")[0] not in PAC_PATHS or head.method not in ("GET", "HEAD"):
            raise UsageError(tr("this proxy has one page of its own: /proxy.pac"))
        body = pac_file(port.address).encode("ascii")
        kind = "application/x-ns-proxy-autoconfig"
        told = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await requests.send(told.encode("ascii") + (body if head.method == "GET" else b""))


class _SocksFlow:
    """A program's datagrams: behind the heads of SOCKS5 there, without them on their way."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def receive(self) -> bytes:
        """The next one; fragments are lost, as RFC 1928 lets them be."""
        while True:
            data = await self._flow.receive()
            if data[: len(UDP_HEAD)] == UDP_HEAD:
                return data[len(UDP_HEAD) :]

    def send(self, data: bytes) -> None:
        """To the program."""
        self._flow.send(UDP_HEAD + data)


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
        else:
            while (greeting := read_greeting(self._buffer)) is None:
                await self._more()
            is_open, size = greeting
            self._buffer = self._buffer[size:]
            await self.send(NO_AUTHENTICATION if is_open else NO_METHOD)
            if not is_open:
                return None
            while (found := read_request(self._buffer)) is None:
                await self._more()
        request, size = found
        self._buffer = self._buffer[size:]
        if request is None:
            await self.send(reply(NOT_SERVED) if kind == SOCKS5 else reply4(is_granted=False))
        return request

    def rest(self) -> bytes:
        """What came behind the request."""
        rest, self._buffer = self._buffer, b""
        return rest

    async def send(self, data: bytes) -> None:
        """To the program; nothing where it has gone."""
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self.program, data)

    async def until_closed(self) -> None:
        """Until the program ends the connection; what it says meanwhile is lost."""
        with contextlib.suppress(OSError):
            while await self._loop.sock_recv(self.program, REQUEST_BYTES_MAX):
                continue

    async def _more(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = await self._loop.sock_recv(self.program, REQUEST_BYTES_MAX)
        if not data:
            raise UsageError(tr("the program went away"))
        self._buffer += data
