"""What other apps may use of `files`: what they may register, and what they may call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from coterie.access.resource import Verb
from coterie.apps.files.gifts import Content, Gifts
from coterie.apps.files.places import Spot
from coterie.apps.files.reading import Reading
from coterie.apps.files.records import ShareRecord
from coterie.apps.files.registry import Fetcher, Link, Registry, Seeding
from coterie.apps.files.results import SharedItem
from coterie.apps.files.shares import is_open_to_all
from coterie.apps.files.source import MagnetSource, Source, TorrentFileSource
from coterie.identity import PeerId
from coterie.transfer.limits import Limits
from coterie.transfer.open_file import OpenFile, Seen
from coterie.transfer.results import Received, TransferLine
from coterie.transfer.running import Running
from coterie.transfer.table import Table
from coterie.transfer.transfer import OnExisting

__all__ = [
    "Content",
    "Fetcher",
    "FilesApi",
    "Gifts",
    "Link",
    "MagnetSource",
    "OnExisting",
    "OpenFile",
    "Reading",
    "Received",
    "Seeding",
    "Seen",
    "ShareRecord",
    "SharedItem",
    "Source",
    "Spot",
    "TorrentFileSource",
    "is_open_to_all",
]


class FilesApi(Protocol):
    """What apps get that require `files`."""

    @property
    def registry(self) -> Registry:
        """Where an app says what it fetches, and how else it gives shares."""
        ...

    @property
    def table(self) -> Table:
        """All transfers: an app registers its kind of them."""
        ...

    @property
    def limits(self) -> Limits:
        """Those of all transfers together."""
        ...

    @property
    def is_giving(self) -> bool:
        """Whether somebody has something from here now."""
        ...

    @property
    def gifts(self) -> Gifts:
        """Content that is given to certain computers only."""
        ...

    @property
    def reading(self) -> Reading:
        """What others share, read by place and range: listings and open files."""
        ...

    def spot(self, peer: PeerId, verb: Verb, path: str) -> Spot:
        """The place in our shares that `peer` calls `path`, if it may do `verb` there. Errors as `Places.choose`."""
        ...

    def touched(self, share: str) -> None:
        """Something was changed in the share with this id: take it in soon, or as soon as somebody looks."""
        ...

    async def settle(self, share: str) -> bool:
        """Take in now what `touched` told of; whether there was anything."""
        ...

    @property
    def thumbnail_bytes_max(self) -> int:
        """Of a picture or PDF of others that is fetched to show it small; 0: none is."""
        ...

    def shared(self) -> list[ShareRecord]:
        """Everything that is shared."""
        ...

    def find_share(self, share: str, here: Path = Path("/")) -> ShareRecord:
        """The share with this id, name or path. Raises NotFound, and UsageError where it is several."""
        ...

    async def ticket_of(self, share: ShareRecord) -> str:
        """Its ticket, with where this node may be reached."""
        ...

    async def share_received(self, path: Path) -> ShareRecord:
        """Share what came in. Errors as `FilesService.share`."""
        ...

    async def look(self, source: Source | str, here: Path | None = Path()) -> Source:
        """What `source` names, written in the folder `here`."""
        ...

    def under_way(self, transfer: str) -> Running | None:
        """The transfer of any kind with this id, where it runs."""
        ...

    async def finished(self, source: Source | str, target: Path | str) -> TransferLine | None:
        """The transfer with this id, or that got `source` to `target` by BitTorrent, if what came is still there."""
        ...

    async def begin_any(
        self,
        source: Source | str,
        target: Path | str,
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        share: bool = False,
        mirror: bool = False,
        transfer_id: str = "",
    ) -> Running:
        """Start fetching what `source` names, of whatever kind it is."""
        ...
