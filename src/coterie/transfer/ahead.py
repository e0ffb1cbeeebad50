"""How much of a file is asked for before it is read: the more, the longer it is read in order. Pure."""

AHEAD_BYTES_MIN = 1 << 20  # guess: what a program reads at once
AHEAD_BYTES_MAX = 32 << 20  # guess: a fifth of a second of a fast local network
NEAR_BYTES = 1 << 20  # guess: programs that read in threads, and kernels, come out of order by less
WINDOW_S = 1.0  # of what comes: who jumps elsewhere waits so long for what was asked for before


class Ahead:
    """One reader of one file."""

    def __init__(self) -> None:
        self._next = 0
        self._bytes = 0

    def read(self, offset: int, size: int) -> tuple[int, bool]:
        """Bytes to be asked for behind `offset` + `size`, and whether this read is a jump from the one before."""
        is_jump = abs(offset - self._next) > NEAR_BYTES
        if is_jump:
            self._bytes = 0
        elif offset or self._bytes:
            self._bytes = min(max(AHEAD_BYTES_MIN, 2 * self._bytes), AHEAD_BYTES_MAX)
        else:
            self._bytes = AHEAD_BYTES_MIN  # the beginning: most programs go on
        self._next = offset + size
        return self._bytes, is_jump


class Rate:
    """Bytes a second that come while something is asked for."""

    LOOK_S = 0.25  # guess: below that the system's batches are measured

    def __init__(self) -> None:
        self._since = 0.0
        self._bytes = 0
        self._rate = 0.0

    def begin(self, now: float) -> None:
        """Something is asked for, and nothing was."""
        self._since, self._bytes = now, 0

    def came(self, size: int, now: float) -> None:
        """So many bytes came."""
        self._bytes += size
        if (seconds := now - self._since) >= self.LOOK_S:
            found = self._bytes / seconds
            self._rate = found if not self._rate else (self._rate + found) / 2
            self._since, self._bytes = now, 0

    def window(self) -> int:
        """How many bytes may be asked for at once."""
        return min(max(2 * AHEAD_BYTES_MIN, int(self._rate * WINDOW_S)), AHEAD_BYTES_MAX)
