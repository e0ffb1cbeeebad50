"""The first words on a connection and on a stream, read within a size and a time."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from coterie.errors import CloseCode, PeerError, TransportError
from coterie.net.ahead import Ahead, Begun
from coterie.net.interfaces import RawConnection, RawStream
from coterie.net.limits import NetLimits
from coterie.texts import tr
from coterie.wire.frames import LENGTH_BYTES, Message, Protocol
from coterie.wire.handshake import (
    HANDSHAKE,
    HANDSHAKE_FRAME_BYTES_MAX,
    Hello,
    StreamHeader,
    StreamReply,
    Welcome,
    check_greeting,
    check_header,
)

M = TypeVar("M", bound=Message)


async def read_first(raw: RawStream, expected: type[M]) -> tuple[M, bytes]:
    """The first frame of `raw`, which must be an `expected`, and the bytes read beyond it.

    Raises:
        PeerError: the stream ended, or something else came.
    """
    buffer = b""
    while True:
        if len(buffer) >= LENGTH_BYTES:
            length = int.from_bytes(buffer[:LENGTH_BYTES], "big")
            if not 0 < length <= HANDSHAKE_FRAME_BYTES_MAX:
                raise PeerError(f"a first frame of {length} bytes", CloseCode.LIMIT)
            if len(buffer) >= LENGTH_BYTES + length:
                break
        data = await raw.read(HANDSHAKE_FRAME_BYTES_MAX)
        if not data:
            raise PeerError("the stream ended before its first frame")
        buffer += data
    end = LENGTH_BYTES + length
    message = HANDSHAKE.decode(buffer[LENGTH_BYTES], buffer[LENGTH_BYTES + 1 : end])
    if not isinstance(message, expected):
        raise PeerError(f"a {expected.__name__} was expected first")
    return message, buffer[end:]


async def greet(
    raw: RawConnection, boot: bytes, limits: NetLimits, ahead: Sequence[Ahead] = (), *, follows: bool = False
) -> tuple[bytes, list[Begun]]:
    """The dialler's side: say Hello and what comes `ahead`, hear Welcome; the other side's boot nonce, and streams.

    Raises:
        PeerError: closed with DUPLICATE (the pair has another connection), or misbehaviour.
    """
    with_time_limit = asyncio.timeout(limits.patient(limits.handshake_s, raw.path.rtt_s))
    try:
        async with with_time_limit:
            stream = await raw.open_stream()
            await stream.write(HANDSHAKE.encode(Hello(boot)))
            await stream.finish()
            begun = [(one, await raw.open_stream()) for one in ahead]
            for one, opened in begun:
                await opened.write(one.opening(follows=follows))
            # A held greeting is answered late: the other side may wait for its own dial first.
            welcome, _ = await read_first(stream, Welcome)
    except TimeoutError:
        if not with_time_limit.expired():
            raise
        raise TransportError(
            tr("{short} was reached but did not answer the greeting", short=raw.peer.short)
        ) from None
    check_greeting(welcome)
    return welcome.boot, begun


async def hear(raw: RawConnection, limits: NetLimits) -> tuple[RawStream, bytes]:
    """The acceptor's side, first half: the greeting's stream, and the dialler's boot nonce from its Hello."""
    with_time_limit = asyncio.timeout(limits.patient(limits.handshake_s, raw.path.rtt_s))
    try:
        async with with_time_limit:
            stream = await raw.accept_stream()
            hello, _ = await read_first(stream, Hello)
    except TimeoutError:
        if not with_time_limit.expired():
            raise
        raise PeerError(f"{raw.peer.short} connected and said nothing", CloseCode.TIMEOUT) from None
    check_greeting(hello)
    return stream, hello.boot


async def welcome(stream: RawStream, boot: bytes) -> None:
    """The acceptor's side, second half: this connection is the one of the pair."""
    await stream.write(HANDSHAKE.encode(Welcome(boot)))
    await stream.finish()


async def ask(
    raw: RawStream,
    protocol: Protocol,
    limits: NetLimits,
    opening: bytes,
    *,
    rtt_s: float | None = None,
) -> tuple[int, bytes]:
    """The opener's side of a stream: the version that the other side chose, and bytes that came with it.

    `opening`: the header, and what goes out with it; empty: it went out ahead. `rtt_s` is the path's.
    """
    async with asyncio.timeout(limits.patient(limits.header_s, rtt_s)):
        if opening:
            await raw.write(opening)
        reply, rest = await read_first(raw, StreamReply)
    if reply.version not in protocol.versions:
        raise PeerError(f"version {reply.version} of {protocol.name} was not on offer")
    return reply.version, rest


async def asked(raw: RawStream, limits: NetLimits) -> tuple[StreamHeader, bytes]:
    """The acceptor's side of a stream: its header, and bytes that came with it."""
    with_time_limit = asyncio.timeout(limits.header_s)
    try:
        async with with_time_limit:
            header, rest = await read_first(raw, StreamHeader)
    except TimeoutError:
        if not with_time_limit.expired():
            raise
        raise PeerError("a stream without a header", CloseCode.TIMEOUT) from None
    check_header(header)
    return header, rest


async def answer(raw: RawStream, version: int) -> None:
    """Tell the opener that its stream is taken, in `version`."""
    await raw.write(HANDSHAKE.encode(StreamReply(version)))
