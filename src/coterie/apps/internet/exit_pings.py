"""The exit's end of a flow of echo requests: what `ping` sends, by sockets that need no privilege.

Each is behind where it goes; its port there is its sequence number.
"""

import asyncio
import socket
import struct
from collections import OrderedDict
from contextlib import suppress

from coterie.apps.internet.addresses import IP
from coterie.apps.internet.dialling import Dialling
from coterie.apps.internet.messages import pack_addressed, read_addressed
from coterie.apps.internet.rules import Rules
from coterie.errors import AccessDenied, CoterieError
from coterie.services.local.flows import Inbox
from coterie.texts import tr

LOOKING_UP_MAX = 32  # requests of one flow whose host is judged; more are lost
HOSTS_MAX = 64  # of one flow; then the one that was asked longest ago is forgotten
ECHO_BYTES_MAX = 65_507
_ECHO = struct.Struct(">BBHHH")
_KINDS = {4: (8, 0), 6: (128, 129)}  # RFC 792, 4443: echo request, echo reply
_SORTS = {4: (socket.AF_INET, socket.IPPROTO_ICMP), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6)}


class OutsidePings:
    """A `Program` of `carry_datagrams`, while the block runs."""

    def __init__(self, dialling: Dialling, rules: Rules) -> None:
        """Raises `AccessDenied` where this computer lets nobody send echo requests so."""
        self._dialling = dialling
        self._rules = rules
        self._came = Inbox()
        self._known: OrderedDict[str, IP | None] = OrderedDict()  # None: closed
        self._looking_up: set[asyncio.Task[None]] = set()
        self._ends: dict[int, socket.socket] = {}
        for version, (family, protocol) in _SORTS.items():
            with suppress(OSError):
                self._ends[version] = socket.socket(family, socket.SOCK_DGRAM, protocol)
                self._ends[version].setblocking(False)
        if not self._ends:
            raise AccessDenied(
                tr("the exit's computer lets it send no echo requests (net.ipv4.ping_group_range)")
            )

    async def __aenter__(self) -> "OutsidePings":
        for version, end in self._ends.items():
            asyncio.get_running_loop().add_reader(end, self._read, version, end)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._looking_up:
            task.cancel()
        for end in self._ends.values():
            asyncio.get_running_loop().remove_reader(end)
            end.close()

    async def receive(self) -> bytes:
        """The next reply, behind where it is from."""
        return await self._came.receive()

    def send(self, data: bytes) -> None:
        """Send an echo request, or lose it."""
        with suppress(CoterieError):
            host, sequence, echo = read_addressed(data)
            if host in self._known:
                self._known.move_to_end(host)
                self._send(self._known[host], sequence, echo)
            elif len(self._looking_up) < LOOKING_UP_MAX:
                task = asyncio.ensure_future(self._find(host, sequence, echo))
                self._looking_up.add(task)
                task.add_done_callback(self._looking_up.discard)

    async def _find(self, host: str, sequence: int, echo: bytes) -> None:
        found: IP | None = None
        with suppress(CoterieError):
            addresses = await self._dialling.addresses(self._rules, host, 0)
            found = next((ip for ip in addresses if ip.version in self._ends), None)
        self._known[host] = found
        if len(self._known) > HOSTS_MAX:
            self._known.popitem(last=False)
        self._send(found, sequence, echo)

    def _send(self, ip: IP | None, sequence: int, echo: bytes) -> None:
        end = self._ends.get(ip.version) if ip is not None else None
        if ip is None or end is None or end.fileno() < 0:
            return
        head = _ECHO.pack(
            _KINDS[ip.version][0], 0, 0, 0, sequence
        )  # the kernel says who asks, and the checksum
        with suppress(OSError):
            end.sendto(head + echo, (str(ip), 0))

    def _read(self, version: int, end: socket.socket) -> None:
        try:
            data, source = end.recvfrom(ECHO_BYTES_MAX)
        except OSError:
            return
        if len(data) >= _ECHO.size and data[0] == _KINDS[version][1]:
            sequence = int.from_bytes(data[6:8], "big")
            self._came.arrive(pack_addressed(source[0].partition("%")[0], sequence, data[_ECHO.size :]))
