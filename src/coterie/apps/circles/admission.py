"""What an invitation says of circles and devices, and the answer of who comes: pure."""

from enum import IntEnum

import msgspec

from coterie.access.circle_ops import ID_BYTES, Role, clean
from coterie.decoding import FAULTS, decoder
from coterie.errors import PeerError
from coterie.identity.peer_id import KEY_BYTES


class To(IntEnum):
    """To what one is invited."""

    CIRCLE = 1
    DEVICE = 2  # to be a computer of the inviter's person


class Purpose(msgspec.Struct, frozen=True, array_like=True):
    """Travels in an invitation. `person`: the inviter's, whom a device would belong to."""

    to: int
    circle: bytes
    role: int
    title: str
    person: bytes

    def pack(self) -> bytes:
        """As the invitation carries it."""
        return msgspec.msgpack.encode(self)


@decoder(PeerError, "what an invitation is for")
def read_purpose(raw: bytes) -> Purpose | None:
    """None for an invitation that is not for circles. Raises `PeerError` for one out of bounds."""
    if not raw:
        return None
    try:
        purpose = msgspec.msgpack.decode(raw, type=Purpose)
    except FAULTS:
        raise PeerError("an invitation to something that this coterie does not know; update it") from None
    sound = (
        purpose.to in set(To)
        and len(purpose.circle) == ID_BYTES
        and len(purpose.person) == KEY_BYTES
        and purpose.role in set(Role)
        and clean(purpose.title)
    )
    if not sound:
        raise PeerError("an invitation out of bounds")
    return purpose
