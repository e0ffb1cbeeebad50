"""The exit's end of a flow of datagrams: one socket for each family, to any host that the rules let be reached.

Datagrams come back from hosts alone to which something was sent (RFC 4787, REQ-8: address-dependent filtering).
"""

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Protocol, cast

from coterie.apps.internet.addresses import IP, inner
from coterie.apps.internet.dialling import Dialling
from coterie.apps.internet.messages import pack_addressed, read_addressed
from coterie.apps.internet.rules import Rules
from coterie.errors import CoterieError
from coterie.services.local.flows import Inbox

HOSTS_MAX = (
    256  # to which one flow sent, and hears of; then the one that was sent to longest ago is forgotten
)
UNSENT_BYTES_MAX = 256 << 10  # of one flow that the system does not take yet; more is lost
LOOKING_UP_MAX = 32  # datagrams of one flow that wait for a name; more are lost


class OutsideFlow:
    """A `Program` of `carry_datagrams`, while the block runs."""

    def __init__(self, dialling: Dialling, rules: Rules) -> None:
        self._dialling = dialling
        self._rules = rules
        self._came = Inbox()
        self._ends: dict[int, _Transport] = {}
        self._known: OrderedDict[tuple[str, int], IP | None] = OrderedDict()  # as asked for; None: closed
        self._heard: OrderedDict[str, None] = OrderedDict()  # addresses that may answer
        self._looking_up: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "OutsideFlow":
        loop = asyncio.get_running_loop()
        for version, family, any_ip in ((4, socket.AF_INET, "0.0.0.0"), (6, socket.AF_INET6, "::")):  # noqa: S104
            with suppress(OSError):  # no such family here
                made, _ = await loop.create_datagram_endpoint(
                    lambda: _End(self), local_addr=(any_ip, 0), family=family
                )
                self._ends[version] = cast(_Transport, made)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._looking_up:
            task.cancel()
        for end in self._ends.values():
            end.close()

    async def receive(self) -> bytes:
        """The next datagram, behind where it is from."""
        return await self._came.receive()

    def send(self, data: bytes) -> None:
        """Send a datagram to the host before it, or lose it."""
        try:
            host, port, datagram = read_addressed(data)
        except CoterieError:
            return
        known = self._known.get((host, port), _UNKNOWN)
        if known is not _UNKNOWN:
            self._known.move_to_end((host, port))
            self._send(known, port, datagram)
        elif len(self._looking_up) < LOOKING_UP_MAX:
            task = asyncio.ensure_future(self._find(host, port, datagram))
            self._looking_up.add(task)
            task.add_done_callback(self._looking_up.discard)

    async def _find(self, host: str, port: int, datagram: bytes) -> None:
        found: IP | None = None
        with suppress(CoterieError):
            addresses = await self._dialling.addresses(self._rules, host, port)
            found = next((ip for ip in addresses if ip.version in self._ends), None)
        self._known[host, port] = found
        if len(self._known) > HOSTS_MAX:
            self._known.popitem(last=False)
        self._send(found, port, datagram)

    def _send(self, ip: IP | None, port: int, datagram: bytes) -> None:
        end = self._ends.get(ip.version) if ip is not None else None
        if end is None or port == 0 or end.get_write_buffer_size() > UNSENT_BYTES_MAX:
            return
        self._heard[str(ip)] = None
        self._heard.move_to_end(str(ip))
        if len(self._heard) > HOSTS_MAX:
            self._heard.popitem(last=False)
        end.sendto(datagram, (str(ip), port))

    def arrive(self, data: bytes, source: tuple[Any, ...]) -> None:
        """A datagram came from the internet."""
        ip = str(inner(ipaddress.ip_address(source[0].partition("%")[0])))
        if ip in self._heard:
            self._came.arrive(pack_addressed(ip, source[1], data))


_UNKNOWN: Any = object()


class _Transport(Protocol):
    """As asyncio's, with what its types leave out."""

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def close(self) -> None: ...


class _End(asyncio.DatagramProtocol):
    def __init__(self, flow: OutsideFlow) -> None:
        self._flow = flow

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._flow.arrive(data, addr)

    def error_received(self, exc: Exception) -> None:
        """What was sent had no taker: as with UDP itself."""
