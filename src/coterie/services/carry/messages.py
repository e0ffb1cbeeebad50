"""What protocols have in common in which one stream is one connection of a program.

The asker's first message says what it wants, the other side answers. After these two frames the stream carries the
bytes of the connection as they are, or datagrams behind their lengths, each way until that side finishes. Datagrams of
a flow with a number go as datagrams of the connection, behind that number, where they fit.

A stream that begins with `Watch` carries `Beat`s instead: both sides learn soon when the other is gone.
"""

import struct

from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError
from coterie.wire.frames import LENGTH_BYTES, Message, Protocol

FIRST_BYTES_MAX = 4_096  # of the first frame; guess: names and some numbers
DATAGRAM_BYTES_MAX = 65_507  # of UDP over IPv4
FLOW_BYTES = 4
FLOW_MAX = (1 << 31) - 1
_LENGTH = struct.Struct(">H")
_FLOW = struct.Struct(">I")


class Watch(Message, frozen=True):
    """From the asker: answer each `Beat` with one."""


class Beat(Message, frozen=True):
    """Still here."""


class Opening:
    """Takes the first frame of `protocol` off a stream; what follows it are not frames."""

    def __init__(self, protocol: Protocol, bytes_max: int = FIRST_BYTES_MAX) -> None:
        self._protocol = protocol
        self._bytes_max = bytes_max
        self._buffer = b""

    @decoder(PeerError, "the first message of a connection")
    def feed(self, data: bytes) -> tuple[Message, bytes] | None:
        """The message and the bytes behind it, once it is whole.

        Raises:
            PeerError: it is none, or too long.
        """
        self._buffer += data
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if not 0 < length <= self._bytes_max:
            raise PeerError(f"a first message of {length} bytes", CloseCode.LIMIT)
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        message = self._protocol.decode(self._buffer[LENGTH_BYTES], self._buffer[LENGTH_BYTES + 1 : end])
        if not isinstance(message, Message):
            raise PeerError("a connection begins with a message that is not known here")
        return message, self._buffer[end:]


def pack_datagram(data: bytes) -> bytes:
    """One datagram as it stands on the stream."""
    return _LENGTH.pack(len(data)) + data


def pack_packet(flow: int, data: bytes, *, is_asker: bool) -> bytes:
    """One datagram of a flow as a datagram of the connection: both sides count their own flows, so it says whose."""
    return _FLOW.pack(flow << 1 | is_asker) + data


@decoder(PeerError, "a datagram of a flow")
def read_packet(packet: bytes) -> tuple[int, bool, bytes]:
    """The number of the flow, whether its asker sent this, and the datagram. Raises `PeerError`."""
    (head,) = _FLOW.unpack_from(packet)
    return head >> 1, bool(head & 1), packet[FLOW_BYTES:]


class Datagrams:
    """Cuts a stream into datagrams."""

    def __init__(self) -> None:
        self._buffer = b""

    @decoder(PeerError, "datagrams on a stream")
    def feed(self, data: bytes) -> list[bytes]:
        """Those that `data` completes."""
        buffer, at, whole = self._buffer + data, 0, []
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            end = at + _LENGTH.size + length
            if end > len(buffer):
                break
            whole.append(buffer[at + _LENGTH.size : end])
            at = end
        self._buffer = buffer[at:]
        return whole
