"""Bytes of a connection in bulk frames of a stream, so that much of them may go over lanes."""

from coterie.errors import PeerError
from coterie.net import Stream
from coterie.services.carry.splice import READ_BYTES
from coterie.wire.frames import Bulk


class Framed:
    """A `Way` of `splice`. The protocol has `kind` among its bulk kinds, and frames of READ_BYTES and one more."""

    def __init__(self, stream: Stream, kind: int) -> None:
        self.stream = stream
        self.kind = kind

    async def write(self, data: bytes) -> None:
        """Of READ_BYTES at most. Errors as `Stream.write`."""
        await self.stream.write(self.stream.protocol.bulk_header(self.kind, len(data)) + data)

    async def read_bytes(self, size_max: int = READ_BYTES) -> bytes:
        """What the next frame holds, b"" at the end. Errors as `Stream.receive`."""
        while (frame := await self.stream.receive()) is not None:
            if not (isinstance(frame, Bulk) and frame.kind == self.kind):
                raise PeerError("a connection carries its bytes, and nothing else")
            if frame.data:
                return bytes(frame.data)
        return b""

    async def finish(self) -> None:
        """Nothing more will be written."""
        await self.stream.finish()
