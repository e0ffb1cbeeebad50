"""Resolver: one way to make a peer's record known and to find another's. A new way is one new file."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from coterie.identity import PeerId

# Takes a signed record as found; answers whose it is once verified, and None for what is refused.
LINK_NAME = "local network"  # of the resolver that hears the local network itself

Found = Callable[[bytes], PeerId | None]


class Resolver(Protocol):
    """Brings signed records; whoever asks verifies them, so a resolver need not be trusted."""

    @property
    def name(self) -> str:
        """For people: "local network"."""
        ...

    @property
    def is_public(self) -> bool:
        """Whether anybody anywhere can read what it publishes: it gets the record without private parts."""
        ...

    async def start(self, found: Found) -> None:
        """Begin to work in the background; `found` gets what turns up without being asked for.

        Never waits for the network. Raises TransportError when it cannot work here at all.
        """
        ...

    async def publish(self, record: bytes) -> None:
        """Let others find `record` from now on, instead of the one before."""
        ...

    def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        """Signed records of `peer`, as they come in; ends when nothing more is to be expected soon."""
        ...

    async def close(self) -> None:
        """Withdraw what was published where that is quick, and stop."""
        ...
