"""The bytes of one lane over several TCP connections: cut into cells, and put in order again. Pure."""

import struct

from coterie.decoding import decoder
from coterie.errors import PeerError

HEADER = struct.Struct(">QI")  # where in the lane the first byte of a cell stands, and how many bytes it has
CELL_BYTES_MIN = 4 << 10  # guess: three packets; the header is 0.3 % of them
CELL_BYTES_MAX = 64 << 10  # guess
CELLS_A_WINDOW = 4  # guess: a cell is there soon after its first byte
AHEAD_BYTES_MAX = (
    32 << 20
)  # that wait for what is missing before them; guess: 100 Mbit/s for four round trips of 0.6 s


def cell_bytes(window_bytes: int) -> int:
    """How large the next cell over a connection with this window is."""
    return min(max(window_bytes // CELLS_A_WINDOW, CELL_BYTES_MIN), CELL_BYTES_MAX)


@decoder(PeerError, "a part of a lane")
def decode_header(header: bytes) -> tuple[int, int]:
    """Where a cell begins, and how many bytes it has. Raises `PeerError` where it cannot be."""
    at, size = HEADER.unpack(header)
    if not 0 < size <= CELL_BYTES_MAX:
        raise PeerError(f"a cell of {size} bytes on a lane")
    return at, size


class Order:
    """Cells as they come, in any order; out goes what the lane has without a gap."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, bytes] = {}
        self._waiting_bytes = 0

    def has_room(self, at: int, size: int) -> bool:
        """Whether this cell may be taken now: the one that comes next always, others within `AHEAD_BYTES_MAX`."""
        return at <= self._next or self._waiting_bytes + size <= AHEAD_BYTES_MAX

    def take(self, at: int, data: bytes) -> list[bytes]:
        """One cell; returns what follows what was returned before. Raises `PeerError`: these bytes came already."""
        if at < self._next or at in self._waiting:
            raise PeerError("a part of a lane that came already")
        self._waiting[at] = data
        self._waiting_bytes += len(data)
        ready: list[bytes] = []
        while (following := self._waiting.pop(self._next, None)) is not None:
            ready.append(following)
            self._next += len(following)
            self._waiting_bytes -= len(following)
        return ready
