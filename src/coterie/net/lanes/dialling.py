"""The TCP and TLS connections under lanes: dialled where the connection of the pair is, or awaited; in threads."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from coterie.errors import TransportError, UsageError
from coterie.net.interfaces import PathInfo
from coterie.net.lanes.lane import SEGMENT_BYTES, NarrowPaths
from coterie.net.lanes.listener import INVITED_S, place
from coterie.net.lanes.tls import LaneIdentity
from coterie.texts import tr
from coterie.wire.record import split_address

DIAL_S = 2.0  # guess: a firewall that drops is told from one that refuses by nothing but time
SHORT_S = 0.001  # round trip; guess: of one network, where packets may be larger than QUIC ever tries
PAYLOAD_BYTES_FULL = 1400  # UDP's; guess: QUIC tries up to 1452, and who carries this carries those
SEGMENT_LESS_BYTES = 12  # TCP's header has 20 bytes, UDP's 8

S = TypeVar("S", bound=socket.socket)


def segment_seen(path: PathInfo) -> int:
    """How large TCP's segments may be for packets no larger than those that `path` carried; 0: as the system has it.

    Routers that swallow what is larger say so to nobody. QUIC, which tries larger packets, may be at it still.
    """
    is_known = 0 < path.payload_bytes < PAYLOAD_BYTES_FULL
    return path.payload_bytes - SEGMENT_LESS_BYTES if is_known and (path.rtt_s or 0.0) > SHORT_S else 0


def is_local_path(path: PathInfo) -> bool:
    """Whether a path stays within private networks, for a node whose reach is local."""
    try:
        return not split_address(path.remote)[0].is_global
    except UsageError:
        return False


def _connected(remote: Any, local: Any, segment: int) -> socket.socket:
    """A TCP connection; `segment`: how large packets may be at most, both ways, 0: as the system has it."""
    sock = socket.socket(socket.AF_INET6 if len(remote) > 2 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(DIAL_S)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # else TLS waits until the token is acknowledged
        if segment and hasattr(socket, "TCP_MAXSEG"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.bind(local)
        sock.connect(remote)
    except BaseException:
        sock.close()
        raise
    return sock


async def answered(
    identity: LaneIdentity, certificate: bytes, came: "asyncio.Future[socket.socket]"
) -> ssl.SSLSocket:
    """The lane as its TCP server, once whoever knows the token has come."""
    try:
        async with asyncio.timeout(INVITED_S):
            sock = await came
    except TimeoutError:
        raise TransportError(tr("nobody came over TCP")) from None
    return await in_thread(lambda: identity.wrap(sock, certificate, is_server=True))


async def dialled(
    path: PathInfo, ips: tuple[str, str], token: bytes, port: int, narrow: NarrowPaths
) -> socket.socket:
    """The TCP connection to (remote, local) `ips`, the token shown."""
    remote, local = ips

    def dial() -> socket.socket:
        segment = SEGMENT_BYTES if remote in narrow else segment_seen(path)
        try:
            sock = _connected(place(remote, port), place(local, 0), segment)
            sock.sendall(token)
        except OSError as error:
            raise TransportError(
                tr("a lane to {remote} cannot be dialled: {error}", remote=remote, error=error)
            ) from None
        return sock

    return await in_thread(dial)


async def in_thread(work: Callable[[], S]) -> S:
    """Run `work` to its end; a connection that comes when nobody waits any more is closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(close_late)
        raise


def dispose(came: "asyncio.Future[socket.socket]") -> None:
    """Nobody waits for it any more. What was taken over by TLS is not touched by this."""
    if not came.cancel() and not came.cancelled() and came.exception() is None:
        came.result().close()


def close_late(late: "asyncio.Future[S]") -> None:
    """Close the connection that nobody waited for, once it has come: a callback for when it is done."""
    if not late.cancelled() and late.exception() is None:
        late.result().close()
