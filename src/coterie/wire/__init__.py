"""HOW: bytes in, typed values out. Frames, protocols and their versions, tickets."""

from coterie.wire.frames import FRAME_BYTES_MAX, Bulk, FrameDecoder, Protocol
from coterie.wire.invitation import Invitation
from coterie.wire.ticket import Ticket

__all__ = ["FRAME_BYTES_MAX", "Bulk", "FrameDecoder", "Invitation", "Protocol", "Ticket"]
