"""What a transport is: the narrow waist under `Endpoint`. `memory` and `quic` implement exactly this.

A transport moves bytes between authenticated peers; it knows nothing of protocols, versions or policy. Every
method raises only errors of `coterie.errors`: `TransportError` when the network fails, `PeerError` (with its
close code) when the other side reset or closed, `UsageError` for a call that cannot be.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from coterie.identity import PeerId


class PathInfo(msgspec.Struct, frozen=True):
    """How a peer is reached: `kind` is "direct", "relay", "memory", or of bulk "lane"; `rtt_s` may be unknown.

    `scope` is the number, on this machine, of the interface that a link-local `remote` is behind; else 0.
    `payload_bytes`: the largest UDP payload that the path was seen to carry, 0: unknown.
    """

    kind: str
    remote: str
    rtt_s: float | None = None
    scope: int = 0
    payload_bytes: int = 0


class RawStream(Protocol):
    """One bidirectional byte stream with flow control in each direction."""

    async def read(self, size_max: int) -> bytes:
        """1..size_max bytes, or b"" once the other side has finished. A cancelled read loses no bytes."""
        ...

    async def write(self, data: bytes) -> None:
        """Returns when the transport took `data`; waits while the receiver does not read.

        Concurrent writes take turns. A write that is cancelled before its turn sends nothing; after that it
        is sent whole all the same, so that no frame is ever torn.
        """
        ...

    async def finish(self) -> None:
        """No more writes; the other side reads what was written, then b""."""
        ...

    async def stop(self, code: int) -> None:
        """Read no more: the other side's next write raises PeerError(code); writing goes on."""
        ...

    async def reset(self, code: int) -> None:
        """Give up both directions at once: the other side's next read or write raises PeerError(code).

        Never raises; on a stream that has ended already it does nothing.
        """
        ...


class RawConnection(Protocol):
    """One authenticated, encrypted link to `peer`."""

    @property
    def peer(self) -> PeerId: ...

    @property
    def path(self) -> PathInfo: ...

    @property
    def is_closed(self) -> bool: ...

    async def open_stream(self) -> RawStream: ...

    def allow_streams(self, count: int) -> None:
        """Let the other side have so many streams open at once; it begins with about a hundred."""
        ...

    async def accept_stream(self) -> RawStream:
        """The next stream that the other side opened."""
        ...

    async def send_datagram(self, data: bytes) -> None:
        """Unreliable, unordered; `UsageError` when over `datagram_bytes_max`."""
        ...

    async def receive_datagram(self) -> bytes: ...

    @property
    def datagram_bytes_max(self) -> int: ...

    def close(self, code: int, reason: str) -> None:
        """Close at once; both sides' pending calls raise PeerError(code) or TransportError."""
        ...

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the end; (close code or None when the network failed, reason)."""
        ...


class Transport(Protocol):
    """A bound transport: dials and accepts raw connections."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def addresses(self) -> list[str]:
        """Where others may dial us, "ip:port" (or a memory network's own names); never unspecified ones."""
        ...

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> RawConnection:
        """Dial `peer`; the caller bounds the time.

        Raises TransportError when nothing answers as `peer`.
        """
        ...

    async def accept(self) -> RawConnection:
        """The next incoming connection, its handshake done. Raises TransportError once closed."""
        ...

    async def close(self) -> None: ...
