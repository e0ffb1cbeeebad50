"""Who is at an address: for networks where nothing is found by itself, while an invitation is open.

A TCP listener beside the node's UDP port, with the same number, tells whoever connects one line and closes:

    coterie/1 <peer id, 52 characters> <UDP port>

It reads nothing. The line is a hint and is not signed: the connection to that peer proves the id, and the key exchange
proves that it is the one who invites.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Sequence

from coterie.decoding import decoder
from coterie.errors import NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.tasks import Tasks
from coterie.texts import tr

CALLERS_MAX = 8  # at once, on one address; guess
CALLER_S = 2.0  # to take one line; guess
ASK_S = 3.0  # to connect and read it: a SYN that was lost is sent again after 1 s
LINE_BYTES_MAX = 128  # "coterie/1 ", 52 characters, a blank, 5 digits, and room
_HEAD = "coterie/1"

log = logging.getLogger(__name__)


class Greeter:
    """Says who we are, on every address where we may be dialled, while it is open."""

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._servers: list[asyncio.Server] = []
        self._callers = Tasks("contacts")
        self.addresses: list[str] = []

    async def open(self, addresses: Sequence[str]) -> None:
        """Listen on those of `addresses` ("ip:port") where that can be; `addresses` then says where."""
        for address in addresses:
            host, port = split_address(address)
            try:
                server = await asyncio.start_server(self._tell(port), host, port, limit=LINE_BYTES_MAX)
            except OSError as error:  # taken by another program, or no address of this machine
                log.info("not saying who we are on %s: %s", address, error)
                continue
            self._servers.append(server)
            self.addresses.append(address)

    async def close(self) -> None:
        """Stop listening."""
        servers, self._servers, self.addresses = self._servers, [], []
        for server in servers:
            server.close()
        await self._callers.close()
        self._callers = Tasks("contacts")
        for server in servers:
            await server.wait_closed()

    def _tell(self, port: int):  # type: ignore[no-untyped-def]
        line = f"{_HEAD} {self._own} {port}\n".encode("ascii")

        def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._callers) >= CALLERS_MAX:
                writer.transport.abort()
                return
            self._callers.start(_say(writer, line), "saying who invites here")

        return called


async def _say(writer: asyncio.StreamWriter, line: bytes) -> None:
    try:
        async with asyncio.timeout(CALLER_S):
            writer.write(line)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()  # gone, or it does not read
    except asyncio.CancelledError:
        writer.transport.abort()
        raise


async def who_is_at(address: str) -> tuple[PeerId, str]:
    """Who invites at `address` ("ip:port"), and where that peer is to be dialled.

    Raises:
        UsageError: not an address.
        TransportError, NotFound: nobody there, or nobody who invites.
        PeerError: something else answers.
    """
    host, port = split_address(address)
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(host, port, limit=LINE_BYTES_MAX)
            try:
                line = await reader.read(LINE_BYTES_MAX)
                while line and not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                    more = await reader.read(LINE_BYTES_MAX - len(line))
                    line += more
                    if not more:
                        break
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except ConnectionRefusedError:
        raise NotFound(
            tr("nobody invites at {address}: is `coterie invite` still running there?", address=address)
        ) from None
    except (OSError, TimeoutError) as error:
        said = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise TransportError(
            tr(
                "{address} cannot be reached ({said}): check the address, and firewalls",
                address=address,
                said=said,
            )
        ) from None
    match line.decode("ascii", errors="replace").split():
        case [head, peer, dial] if head == _HEAD and dial.isdigit() and int(dial) <= 0xFFFF:
            with contextlib.suppress(UsageError):
                return PeerId.parse(peer), _join(host, int(dial))
    raise PeerError(f"what answers at {address} is not coterie")


@decoder(UsageError, "this address")
def split_address(address: str) -> tuple[str, int]:
    """Host and port of "ip:port". Raises `UsageError`."""
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise UsageError(
            tr("'{address}' is not an address: one is like 192.168.1.5:40123", address=address)
        ) from None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 0xFFFF):
        raise UsageError(tr("'{address}' has no port: an address is like 192.168.1.5:40123", address=address))
    return str(ip), int(port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
