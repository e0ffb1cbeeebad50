"""Where other apps say what they do for `files`: fetch what no ticket or place names, give shares in other ways."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from coterie.apps.files.records import ShareRecord
from coterie.apps.files.source import MagnetSource, TorrentFileSource
from coterie.errors import UsageError
from coterie.progress import Progress
from coterie.texts import tr
from coterie.transfer.results import TransferLine
from coterie.transfer.running import Running
from coterie.transfer.transfer import OnExisting

Report = Callable[[Progress], None]


class Fetcher(Protocol):
    """Fetches what one kind of source names."""

    async def begin(
        self,
        source: Any,
        target: Path | str,
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        share: bool = False,
    ) -> Running:
        """Start fetching in the background, or join or resume what fetches the same; `share` it afterwards.

        Raises:
            CoterieError: it cannot begin; says why.
        """
        ...

    async def finished(self, source: Any, target: Path | str) -> TransferLine | None:
        """The transfer that fetched the same to the same target, where that is over and what came is still there."""
        ...


class Link(msgspec.Struct, frozen=True):
    """By what others get a share: the magnet link, and where the torrent file is."""

    magnet: str = ""
    torrent: str = ""


class Seeding(Protocol):
    """Gives shares by another protocol too. A share is named by its id."""

    async def offer(
        self,
        share: ShareRecord,
        *,
        trackers: Sequence[str] = (),
        public: bool = False,
        hybrid: bool = True,
        progress: Report | None = None,
    ) -> Any:
        """Begin to give it. Raises CoterieError."""
        ...

    async def follow(self, share: ShareRecord, *, progress: Report | None = None) -> None:
        """It may have other content now: give that, where it was given."""
        ...

    async def withdraw(self, share_id: str) -> None:
        """Give it no more; nothing where it was not given."""
        ...

    def state_of(self, share_id: str) -> str:
        """What the list of shares adds to the state of this one; empty where it is not given."""
        ...

    async def link(self, share: ShareRecord, ticket: str) -> Link:
        """By what others get it; empty where it is not given. `ticket` is that of the share."""
        ...


class NoSeeding:
    """Where no app gives shares in another way."""

    async def offer(self, share: ShareRecord, **options: Any) -> None:
        raise _missing("sharing by BitTorrent", MagnetSource.app)

    async def follow(self, share: ShareRecord, *, progress: Report | None = None) -> None:
        """Nothing follows."""

    async def withdraw(self, share_id: str) -> None:
        """Nothing is given."""

    def state_of(self, share_id: str) -> str:
        return ""

    async def link(self, share: ShareRecord, ticket: str) -> Link:
        return Link()


class Registry:
    """What other apps have registered."""

    def __init__(self) -> None:
        self._fetchers: dict[type, Fetcher] = {}
        self.seeding: Seeding = NoSeeding()

    def fetch_by(self, kind: type, fetcher: Fetcher) -> None:
        """From now on `fetcher` fetches what a source of this kind names."""
        self._fetchers[kind] = fetcher

    def seed_by(self, seeding: Seeding) -> None:
        """From now on shares can be given by `seeding` too."""
        self.seeding = seeding

    def withdraw(self, one: Fetcher | Seeding) -> None:
        """It fetches and gives nothing any more: its app ends."""
        self._fetchers = {kind: fetcher for kind, fetcher in self._fetchers.items() if fetcher is not one}
        if self.seeding is one:
            self.seeding = NoSeeding()

    def check_seeding(self) -> None:
        """Raise `UsageError` where no app gives shares in another way."""
        if isinstance(self.seeding, NoSeeding):
            raise _missing("sharing by BitTorrent", MagnetSource.app)

    def fetches(self, source: MagnetSource | TorrentFileSource) -> bool:
        """Whether an app fetches this."""
        return type(source) in self._fetchers

    def fetcher(self, source: MagnetSource | TorrentFileSource) -> Fetcher:
        """Who fetches this. Raises `UsageError` where no app does."""
        found = self._fetchers.get(type(source))
        if found is None:
            raise _missing(f"fetching {source.what}", source.app)
        return found


def _missing(what: str, app: str) -> UsageError:
    return UsageError(
        tr(
            "{what} needs the app '{app}', which does not run on this node; `coterie status` shows its apps",
            what=what,
            app=app,
        )
    )
