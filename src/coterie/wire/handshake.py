"""What two nodes say before anything else: once per connection, and once per stream.

Connection: the dialler opens the first stream and sends `Hello`; the acceptor answers `Welcome`, or closes with
`DUPLICATE` when another connection of the pair stays. Stream: the opener sends `StreamHeader`, the acceptor answers
`StreamReply`. Both are versioned apart from the protocols that they carry.
"""

from collections.abc import Sequence

import msgspec

from coterie.errors import PeerError
from coterie.wire.frames import Message, Protocol

ALPN = b"coterie/1"
BOOT_BYTES = 16
HANDSHAKE_FRAME_BYTES_MAX = 4096  # guess: a name, a dozen versions and room to grow
PROTOCOL_NAME_CHARS_MAX = 64
VERSIONS_MAX = 16
AGENT_CHARS_MAX = 64


class Hello(Message, frozen=True):
    """From the dialler. `boot` is 16 random bytes of this run of the node: a new one means a restart."""

    boot: bytes = msgspec.field(default=b"")
    agent: str = ""


class Welcome(Message, frozen=True):
    """From the acceptor: this connection is the one of the pair."""

    boot: bytes = b""
    agent: str = ""


class StreamHeader(Message, frozen=True):
    """From the opener: which protocol, in which versions."""

    protocol: str
    versions: list[int]


class StreamReply(Message, frozen=True):
    """From the acceptor: the version chosen. A refusal is a reset with a close code instead."""

    version: int


HANDSHAKE = Protocol(
    name="handshake",
    versions=(1,),
    kinds={1: Hello, 2: Welcome, 3: StreamHeader, 4: StreamReply},
    frame_bytes_max=HANDSHAKE_FRAME_BYTES_MAX,
)


def check_greeting(greeting: Hello | Welcome) -> None:
    """Raise `PeerError` unless the greeting is within its bounds."""
    if len(greeting.boot) != BOOT_BYTES or len(greeting.agent) > AGENT_CHARS_MAX:
        raise PeerError("a malformed greeting")


def check_header(header: StreamHeader) -> None:
    """Raise `PeerError` unless the header is within its bounds."""
    if (
        not 0 < len(header.protocol) <= PROTOCOL_NAME_CHARS_MAX
        or not 0 < len(header.versions) <= VERSIONS_MAX
    ):
        raise PeerError("a malformed stream header")


def common_version(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """The highest version that both know, or None."""
    return max(set(ours) & set(theirs), default=None)
