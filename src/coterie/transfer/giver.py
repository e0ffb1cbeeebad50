"""What a session can be about: a share (`offer.py`), or a download that gives what it has so far."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from coterie.content import ChunkUnavailable
from coterie.content.reader import Room
from coterie.identity import PeerId
from coterie.transfer.messages import Has, HasAll, Moved, Opened
from coterie.transfer.partial_content import Staged

DOWNLOAD = "download"  # the resource: what this node is fetching, and gives to others with the same ticket
DOWNLOAD_TICKET = "ticket:download"  # the subject: who proved to have it
Tell = Callable[[Has | HasAll], None]
Chunk = bytes | memoryview | ChunkUnavailable | None
"""A chunk's bytes; why it cannot be had; None: not here now, perhaps later."""


def resource_of_download(transfer: str) -> str:
    """What the policy is asked about the download with this id, where having its secret is not enough."""
    return f"{DOWNLOAD}/{transfer}"


class Giver(Protocol):
    """Something that can be given, and its right."""

    @property
    def resource(self) -> str:
        """What the policy is asked about it."""
        ...

    @property
    def also(self) -> tuple[str, ...]:
        """Subjects that the asker proved to be by what it opened this with."""
        ...

    @property
    def is_for_many(self) -> bool:
        """Whether all its askers have the same secret, and so can give it to each other."""
        ...

    @property
    def moved(self) -> Moved | None:
        """What the share that was asked for is now, where that is another content."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether the content that was asked for cannot be had from here any more."""
        ...

    def opened(self, askers: int) -> Opened:
        """What to say to one who may have it, beside `askers` others."""
        ...

    def node(self, manifest: bytes) -> bytes | None:
        """The bytes of a node of it. Blocking, from any thread, as the next two."""
        ...

    def sizes(self, manifest: bytes) -> list[int] | None:
        """The sizes of the node's chunks; None when it is not of this content, [] when it is not here (yet)."""
        ...

    def read(self, manifest: bytes, first: int, count: int, room: Room | None = None) -> Iterator[Chunk]:
        """These chunks, each verified; in the `room`, where there is one."""
        ...

    def watch(self, tell: Tell) -> Callable[[], None]:
        """Say through `tell` what is here, and what comes; ends with a call of what is returned."""
        ...

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Somebody who asks for it, and gives it too."""
        ...


class Holdings(Protocol):
    """The side of a download that its giver needs."""

    def holdings(self) -> Mapping[bytes, int]: ...

    def is_whole(self) -> bool: ...

    def watch(self, tell: Tell) -> Callable[[], None]: ...

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None: ...


class DownloadGiver:
    """A download: gives what came for it and was verified; never what was taken from other files of this computer."""

    def __init__(
        self, secret: bytes, described: Opened, staged: Staged, holdings: Holdings, *, only_of: str = ""
    ) -> None:
        """`described`: what the content was announced as. `only_of`: the resource that its askers need a right to.

        Empty: it is enough to have the secret.
        """
        self.secret = secret
        self.resource = only_of or DOWNLOAD
        self.also = () if only_of else (DOWNLOAD_TICKET,)
        self.is_for_many = True
        self.moved: Moved | None = None
        self.is_gone = False
        self._described = described
        self._staged = staged
        self._holdings = holdings

    def opened(self, askers: int) -> Opened:
        d = self._described
        whole = self._holdings.is_whole()
        return Opened(d.kind, d.name, d.files, d.size, d.mtime_ns, d.executable, whole, askers, d.of)

    def node(self, manifest: bytes) -> bytes | None:
        return self._staged.node(manifest)

    def sizes(self, manifest: bytes) -> list[int] | None:
        return self._staged.sizes(manifest)

    def read(self, manifest: bytes, first: int, count: int, room: Room | None = None) -> Iterator[Chunk]:
        return self._staged.give(manifest, first, count, room)

    def watch(self, tell: Tell) -> Callable[[], None]:
        return self._holdings.watch(tell)

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        self._holdings.met(peer, addresses)
