"""Ask on one network whether multicast works there: one multicast DNS question (RFC 6762), and who is heard."""

import asyncio
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass, field

from coterie.errors import TransportError
from coterie.net.find.mdns import SERVICE_TYPE
from coterie.texts import tr

GROUP, PORT = "224.0.0.251", 5353  # RFC 6762, section 3
ANSWERS_MAX = 64  # computers that are counted
PACKET_BYTES_MAX = 9_000  # RFC 6762, section 17
ASK_S = 1.0  # answers are held back up to 0.12 s (RFC 6762, section 6); a network hop more

_PTR, _IN = 12, 1


@dataclass(slots=True)
class Heard:
    """What came back within the time: our own question, and other computers' packets by their IP."""

    own: bool = False
    others: dict[str, None] = field(default_factory=dict)


async def probe_multicast(ip: str, own: Collection[str] = (), timeout_s: float = ASK_S) -> Heard:
    """Ask who is there on the network where this machine has the IPv4 address `ip`; `own` are all it has.

    Raises:
        TransportError: the system does not let us send or listen; says why.
    """
    loop = asyncio.get_running_loop()
    heard = Heard()
    question = _question()
    try:
        with _open(ip) as sock:
            await loop.sock_sendto(sock, question, (GROUP, PORT))
            try:
                async with asyncio.timeout(timeout_s):
                    await _listen(sock, {ip, *own}, question, heard)
            except TimeoutError:
                pass
    except OSError as error:
        raise TransportError(
            tr("multicast from {ip}: {strerror}", ip=ip, strerror=error.strerror or error)
        ) from None
    return heard


async def _listen(sock: socket.socket, own: set[str], question: bytes, heard: Heard) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data, (sender, *_) = await loop.sock_recvfrom(sock, PACKET_BYTES_MAX)
        if sender in own:
            heard.own |= data == question
        elif not sender.startswith("127.") and len(heard.others) < ANSWERS_MAX:
            heard.others[sender] = None


def _open(ip: str) -> socket.socket:
    """A socket among the other multicast DNS programs of this machine, on one interface."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", PORT))
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(ip)
        )
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ip))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    except OSError:
        sock.close()
        raise
    return sock


def _question() -> bytes:
    """Who offers our service? (RFC 6762, section 5.2)"""
    header = struct.pack(">6H", 0, 0, 1, 0, 0, 0)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in SERVICE_TYPE.rstrip(".").split("."))
    return header + labels + b"\0" + struct.pack(">2H", _PTR, _IN)
