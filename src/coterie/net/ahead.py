"""What a dialler says at once behind its greeting, before that is answered: it spares a round trip.

The other side reads nothing of it before it has accepted the connection; streams wait meanwhile.
"""

from dataclasses import dataclass

from coterie.net.interfaces import RawStream
from coterie.wire.frames import Protocol
from coterie.wire.handshake import HANDSHAKE, StreamHeader
from coterie.wire.lanes import Op, Signal, encode_signal


@dataclass(frozen=True)
class Ahead:
    """The stream that will be opened first: with which protocol, and which first frames.

    `reads_bulk`: much is to come over it, so that a lane is worth while, and whoever opens it can `follow` there.
    """

    protocol: Protocol
    first: bytes
    reads_bulk: bool = False

    def opening(self, *, follows: bool = False) -> bytes:
        """The header of the stream, and what goes out with it; `follows`: that we can go on over a lane, too."""
        header = HANDSHAKE.encode(StreamHeader(self.protocol.name, list(self.protocol.versions)))
        return (
            header + self.first + (encode_signal(Signal(Op.WELCOME)) if follows and self.reads_bulk else b"")
        )


Begun = tuple[Ahead, RawStream]
"""A stream that waits for whoever opens it."""
