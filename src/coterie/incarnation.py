"""Each start of a node has a random number of its own, an incarnation. It stands in the record that the node signs.

The numbers of earlier starts are kept in the home. A record of ours with a number that is not among them was signed by
somebody else with our key: a copy of this home runs on another computer.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from coterie.private_file import write_private
from coterie.wire.record import INCARNATION_BYTES

EARLIER_MAX = 256  # starts remembered: 2 kB; a record lives for a day


@dataclass(frozen=True, slots=True)
class Incarnation:
    """This start and those before it."""

    current: bytes = b""
    earlier: frozenset[bytes] = frozenset()

    def is_ours(self, number: bytes) -> bool:
        """Whether `number` is of a start of this home."""
        return number == self.current or number in self.earlier

    @classmethod
    def begin(cls, path: Path) -> "Incarnation":
        """A new start of the home whose numbers stand in `path`. What is damaged there is left out.

        Raises:
            StorageError: the file cannot be written.
        """
        try:
            kept = path.read_bytes()
        except OSError:
            kept = b""  # the first start
        whole = len(kept) - len(kept) % INCARNATION_BYTES
        numbers = [kept[at : at + INCARNATION_BYTES] for at in range(0, whole, INCARNATION_BYTES)]
        current = os.urandom(INCARNATION_BYTES)
        write_private(path, b"".join([*numbers[-EARLIER_MAX + 1 :], current]))
        return cls(current, frozenset(numbers[-EARLIER_MAX + 1 :]))
