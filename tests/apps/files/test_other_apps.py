"""`files` where no other app adds to it, and where one does."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.files.registry import Registry
from coterie.apps.files.source import MagnetSource, TorrentFileSource
from coterie.errors import NotFound, TransportError, UsageError
from coterie.identity import load_or_create_key
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.support import run

HASH = "c9e15763f722f23e98a29decdfae341b98d53056"
MISSING = r"needs the app 'bittorrent', which does not run on this node; `coterie status`"


def alone(network: MemoryNetwork, home: Path) -> Any:
    """A node with `files` and what that requires."""
    home.mkdir(mode=0o700, exist_ok=True)
    key = load_or_create_key(home / "key")
    return Node.open(home, transport=network.bind(key.peer_id), apps=["files"])


def test_without_bittorrent_files_share_and_get_and_links_say_what_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        (tmp_path / "note").write_text("hello")
        (tmp_path / "one.torrent").write_bytes(b"d4:infod4:name3:onee")
        async with alone(network, tmp_path / "anna") as anna, alone(network, tmp_path / "ben") as ben:
            shared = await anna.files.share(tmp_path / "note")
            await ben.files.get(shared.ticket, tmp_path / "copy")
            assert (tmp_path / "copy").read_text() == "hello"
            with pytest.raises(UsageError, match=f"fetching what a magnet link names {MISSING}"):
                await ben.files.get(f"magnet:?xt=urn:btih:{HASH}", tmp_path / "got")
            with pytest.raises(UsageError, match=f"fetching what a torrent file names {MISSING}"):
                await ben.files.get_detached(str(tmp_path / "one.torrent"), tmp_path / "got")
            with pytest.raises(UsageError, match=f"sharing by BitTorrent {MISSING}"):
                await anna.files.share(tmp_path / "copy", bittorrent=True)
            assert [share.path for share in await anna.files.shares()] == [str(tmp_path / "note")]
            link = f"magnet:?xt=urn:btih:{HASH}&x.coterie={shared.ticket}"  # of a public share
            await ben.files.get(link, tmp_path / "by-link")
            assert (tmp_path / "by-link").read_text() == "hello"

    run(main())


class Fetcher:
    """Fetches nothing."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def begin(self, source: Any, target: Path | str, **options: Any) -> Any:
        self.asked.append((source, options))
        raise NotFound("nothing is fetched")


def test_an_app_fetches_the_kind_of_source_that_it_registered_until_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(MemoryNetwork(), tmp_path / "anna") as anna:
            fetcher = Fetcher()
            anna.files.registry.fetch_by(MagnetSource, fetcher)
            with pytest.raises(NotFound, match="nothing is fetched"):
                await anna.files.get(HASH, tmp_path / "got", only=["*.ogg"])
            ((source, options),) = fetcher.asked
            assert isinstance(source, MagnetSource)
            assert options["only"] == ["*.ogg"]
            anna.files.registry.withdraw(fetcher)
            with pytest.raises(UsageError, match=MISSING):
                await anna.files.get(HASH, tmp_path / "got")

    run(main())


def test_a_link_whose_share_is_away_and_whose_app_is_missing_says_the_one_that_can_be_mended(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        (tmp_path / "note").write_text("hello")
        async with alone(network, tmp_path / "anna") as anna:
            ticket = (await anna.files.share(tmp_path / "note")).ticket
        async with alone(network, tmp_path / "ben") as ben:
            with pytest.raises(TransportError):
                await ben.files.get(f"magnet:?xt=urn:btih:{HASH}&x.coterie={ticket}", tmp_path / "got")

    run(main())


def test_what_gives_shares_in_another_way_is_replaced_by_nothing_when_it_ends() -> None:
    class Seeding:
        async def offer(self, *_: Any, **__: Any) -> None: ...
        async def follow(self, *_: Any, **__: Any) -> None: ...
        async def withdraw(self, _: str) -> None: ...
        def state_of(self, share_id: str) -> str:
            return ", by pigeon"

        async def link(self, *_: Any) -> Any: ...

    registry, seeding = Registry(), Seeding()
    registry.seed_by(seeding)
    registry.check_seeding()
    assert registry.seeding.state_of("a") == ", by pigeon"
    registry.withdraw(seeding)
    assert registry.seeding.state_of("a") == ""
    with pytest.raises(UsageError, match=MISSING):
        registry.check_seeding()
    with pytest.raises(UsageError, match=MISSING):
        registry.fetcher(TorrentFileSource(Path("x")))
    asyncio.run(registry.seeding.withdraw("a"))
