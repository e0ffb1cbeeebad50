"""Who uses which disk now, and which reader of an image has which block. Pure."""

from collections import OrderedDict
from collections.abc import Hashable

from coterie.apps.disks.messages import READERS_MAX
from coterie.errors import LimitExceeded
from coterie.texts import tr

Who = Hashable


class Uses:
    """Of one disk: either one computer that writes, or up to READERS_MAX that read; each once."""

    def __init__(self) -> None:
        self._readers: OrderedDict[Who, None] = OrderedDict()
        self.writer: Who | None = None

    @property
    def all(self) -> list[Who]:
        """Everybody, the writer or the readers in the order in which they came."""
        return [*self._readers] if self.writer is None else [self.writer]

    def in_the_way(self, who: Who, kind: str) -> list[Who]:
        """Who has to end before `who` may "read" or "write"; its own use before does not count.

        Raises:
            LimitExceeded: too many read.
        """
        if self.writer is not None and self.writer != who:
            return [self.writer]
        if kind == "write":
            return [reader for reader in self._readers if reader != who]
        if len(self._readers) >= READERS_MAX and who not in self._readers:
            raise LimitExceeded(tr("{readers_max} computers read this disk already", readers_max=READERS_MAX))
        return []

    def begin(self, who: Who, kind: str) -> None:
        """`who` uses it from now on, where nobody is in the way."""
        self.end(who)
        if kind == "write":
            self.writer = who
        else:
            self._readers[who] = None

    def end(self, who: Who) -> None:
        """`who` does not any more."""
        self._readers.pop(who, None)
        if self.writer == who:
            self.writer = None


class Copies:
    """Which reader has, or will have, which block of one image: the owner gives each block once, the readers the rest.

    Of several who have a block the one is asked that was asked least.
    """

    def __init__(self, blocks: int) -> None:
        self._bytes = -(-blocks // 8)
        self._has: OrderedDict[Who, bytearray] = OrderedDict()  # bits
        self._asked: dict[Who, int] = {}
        self._apart: set[tuple[Who, Who]] = set()  # pairs that do not reach each other

    def come(self, who: Who) -> None:
        """A reader without any block."""
        self._has[who] = bytearray(self._bytes)
        self._asked[who] = 0

    def go(self, who: Who) -> None:
        """A reader is gone."""
        self._has.pop(who, None)
        self._asked.pop(who, None)
        self._apart = {pair for pair in self._apart if who not in pair}

    def failed(self, who: Who, giver: Who, block: int) -> None:
        """`giver` did not give this block to `who`."""
        if giver in self._has:
            self._has[giver][block >> 3] &= ~(1 << (block & 7))
            self._apart.add((who, giver))

    def give(self, who: Who, block: int, *, insist: bool = False) -> Who | None:
        """Whom `who` is to ask for the block; None: it is given by the owner. From now on `who` has it.

        Who asks again has lost it, and gets it here: readers wait for each other in the order of their first questions,
        so never in a ring.
        """
        at, bit = block >> 3, 1 << (block & 7)
        found: Who | None = None
        is_again = who in self._has and self._has[who][at] & bit
        if not (insist or is_again):
            givers = [
                other
                for other, has in self._has.items()
                if has[at] & bit and other != who and (who, other) not in self._apart
            ]
            if givers:
                found = min(givers, key=lambda giver: self._asked[giver])
                self._asked[found] += 1
        if who in self._has:
            self._has[who][at] |= bit
        return found
