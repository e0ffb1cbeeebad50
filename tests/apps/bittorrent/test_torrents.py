"""BitTorrent through whole nodes: real sessions on loopback, one address each; the nodes' own network is in memory."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from hashlib import sha1
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.bittorrent.downloads import REACH
from coterie.apps.command import Progress
from coterie.apps.files.source import MagnetSource
from coterie.content.bittorrent.read import load
from coterie.content.bittorrent.torrent_file import bencode
from coterie.errors import CoterieError, NotFound, PeerError, UsageError
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.files.nodes import memory_node, tree_of
from tests.support import run

WAIT_S = 30.0
_hosts = count(1)


@contextlib.asynccontextmanager
async def node(network: MemoryNetwork, home: Path, **settings: str) -> AsyncIterator[Node]:
    """A node whose BitTorrent listens on an address of its own."""
    home.mkdir(mode=0o700, exist_ok=True)
    if not (home / "config.toml").exists():
        said = {"bind": f"127.{os.getpid() % 250}.8.{next(_hosts)}", **settings}
        (home / "config.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in said.items()))
    async with memory_node(network, home) as opened:
        yield opened


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    network = MemoryNetwork()
    async with node(network, folder / "home-anna") as anna, node(network, folder / "home-ben") as ben:
        yield anna, ben


def fill(folder: Path, *, large: int = 300_000) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(large))
    (folder / "sub" / "small.txt").write_text("small")
    (folder / "sub" / "empty").write_text("")
    (folder / "run.sh").write_text("echo")
    (folder / "run.sh").chmod(0o755)
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """What a torrent keeps: kind, bytes, executable bit."""
    kept = {
        "file": lambda said: (said[1], said[3]),
        "folder": lambda said: None,
        "link": lambda said: said[1],
    }
    return {name: kept[said[0]](said) for name, said in tree_of(folder).items()}


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.02)


def test_a_folder_by_magnet_link(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            assert Path(shared.torrent).is_file()
            steps: list[Progress] = []
            got = await ben.files.get(shared.magnet, tmp_path / "got", progress=steps.append)
            assert contents(tmp_path / "got") == contents(source)
            assert (got.files, got.size, got.failed) == (4, shared.size, [])
            line = (await ben.files.transfers())[0]
            assert (line.state, line.done, line.peer) == ("done", line.size, "BitTorrent")
            assert not list(tmp_path.glob(".coterie-partial*"))

    run(story(), 60)


def test_a_single_file_by_torrent_file_into_a_folder(tmp_path: Path) -> None:
    async def story() -> None:
        source = tmp_path / "one.bin"
        source.write_bytes(os.urandom(100_000))
        (tmp_path / "in").mkdir()
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            begun = await ben.files.get_detached(shared.torrent, tmp_path / "in")
            got = await ben.files.get(shared.magnet, tmp_path / "in")  # a torrent file names no peers
            assert got.id == begun.id
            assert got.path == str(tmp_path / "in" / "one.bin")
            assert Path(got.path).read_bytes() == source.read_bytes()

    run(story(), 60)


def test_the_share_is_seeded_from_where_it_is_and_again_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos", large=1_000_000)
        network = MemoryNetwork()
        async with node(network, tmp_path / "home-anna") as anna:
            shared = await anna.files.share(source, name="album", bittorrent=True)
            assert (await anna.files.shares())[0].state == "ready, BitTorrent"
        sizes = sum(p.stat().st_size for p in (tmp_path / "home-anna").rglob("*") if p.is_file())
        assert sizes < shared.size  # no second copy
        async with node(network, tmp_path / "home-anna") as anna, node(network, tmp_path / "home-ben") as ben:
            again = await anna.bittorrent.magnet("album")
            assert again.magnet == shared.magnet  # the port too
            got = await ben.files.get(again.magnet, tmp_path)
            assert got.path == str(tmp_path / "album")
            assert contents(tmp_path / "album") == contents(source)

    run(story(), 60)


def test_unshare_ends_the_seeding(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            await anna.files.unshare("photos")
            assert not Path(shared.torrent).exists()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await ben.files.get(shared.magnet, tmp_path / "got")
            assert not (tmp_path / "got").exists()
            again = await anna.files.share(source, bittorrent=True)
            await ben.files.get(again.magnet, tmp_path / "got")

    run(story(), 60)


def test_what_came_in_is_shared_both_ways_without_a_second_copy(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos", large=1_000_000)
        network = MemoryNetwork()
        async with (
            node(network, tmp_path / "home-anna") as anna,
            node(network, tmp_path / "home-ben") as ben,
            node(network, tmp_path / "home-cleo") as cleo,
        ):
            shared = await anna.files.share(source, bittorrent=True)
            await ben.files.get(shared.magnet, tmp_path / "ben", share=True)
            await anna.files.unshare("photos")
            link = (await ben.bittorrent.magnet("ben")).magnet
            assert link.split("&")[:2] == shared.magnet.split("&")[:2]  # the same torrent
            await cleo.files.get(link, tmp_path / "by-torrent")
            ticket = (await ben.files.ticket("ben")).ticket
            await cleo.files.get(ticket, tmp_path / "by-coterie")
            assert contents(tmp_path / "by-torrent") == contents(source) == contents(tmp_path / "by-coterie")
            kept = [p.read_bytes() for p in (tmp_path / "home-ben").rglob("*") if p.is_file()]
            for path in (p for p in source.rglob("*") if p.is_file()):
                content = path.read_bytes()
                samples = [content[at : at + 64] for at in range(0, len(content) - 63, 4_096)]
                assert not any(sample in one for sample in samples for one in kept), path
            assert sum(map(len, kept)) < shared.size

    run(story(), 60)


def test_a_public_link_is_fetched_by_coterie_where_that_works(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        network = MemoryNetwork()
        async with node(network, tmp_path / "home-ben") as ben, node(network, tmp_path / "home-anna") as anna:
            hidden = await anna.files.share(source, bittorrent=True)
            assert MagnetSource(hidden.magnet).ticket == ""
            assert hidden.ticket not in hidden.magnet
            public = await anna.files.share(source, bittorrent=True, public=True)
            assert MagnetSource(public.magnet).ticket == public.ticket
            await ben.files.get(public.magnet, tmp_path / "got")
            assert tree_of(tmp_path / "got") == tree_of(source)  # with times, which torrents do not keep
            assert (await ben.files.transfers())[0].peer == f"{anna.name}~{str(anna.peer_id)[:3]}"
            await anna.files.share(source, bittorrent=True)
            private = await anna.bittorrent.magnet("photos")
            assert MagnetSource(private.magnet).ticket == ""

    run(story(), 60)


def test_a_public_link_falls_back_to_the_swarm(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        apart = MemoryNetwork(), MemoryNetwork()
        async with (
            node(apart[0], tmp_path / "home-anna") as anna,
            node(apart[1], tmp_path / "home-ben") as ben,
        ):
            public = await anna.files.share(source, bittorrent=True, public=True)
            await ben.files.get(public.magnet, tmp_path / "got")
            assert contents(tmp_path / "got") == contents(source)

    run(story(), 60)


def test_only_some_files(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            got = await ben.files.get(shared.magnet, tmp_path / "got", only=["*.txt", "run.sh"])
            assert got.files == 2
            assert {p.name for p in (tmp_path / "got").rglob("*") if p.is_file()} == {"small.txt", "run.sh"}
            with pytest.raises(NotFound, match="no file"):
                await ben.files.get(shared.magnet, tmp_path / "none", only=["*.mp3"])

    run(story(), 60)


def test_an_existing_target_is_asked_about(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        (tmp_path / "got").write_text("mine")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            with pytest.raises(CoterieError) as told:
                await ben.files.get(shared.magnet, tmp_path / "got")
            assert told.value.code == "exists"
            both = await ben.files.get(shared.magnet, tmp_path / "got", on_existing="keep-both")
            assert both.path == str(tmp_path / "got (2)")
            over = await ben.files.get(shared.magnet, tmp_path / "got", on_existing="overwrite")
            assert contents(Path(over.path)) == contents(source)
            assert over.path == str(tmp_path / "got")

    run(story(), 60)


def test_pause_goes_on_and_cancel_leaves_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos", large=3_000_000)
        network = MemoryNetwork()
        async with node(network, tmp_path / "home-ben") as ben:
            async with node(network, tmp_path / "home-anna") as anna:
                shared = await anna.files.share(source, bittorrent=True)
                begun = await ben.files.begin_any(shared.magnet, tmp_path / "got", only=["small.txt"])
                await begun.result
            # nobody is there: it waits
            more = await ben.files.get_detached(shared.magnet, tmp_path / "more")
            await ben.files.pause(more.id)
            states = {line.id: line.state for line in await ben.files.transfers()}
            assert states[more.id] == "paused"
            async with node(network, tmp_path / "home-anna"):
                await ben.files.resume(more.id)
                await until((tmp_path / "more").exists)
                await until(lambda: not ben.files.status()["transfers running"])
                assert contents(tmp_path / "more") == contents(source)
            gone = await ben.files.get_detached(shared.torrent, tmp_path / "gone")
            await until(lambda: list(tmp_path.glob(".coterie-partial-gone*")))
            assert [partial.path.name for partial in ben.files.partials()]
            assert (await ben.files.cancel(gone.id)).did == "cancelled"
            assert not list(tmp_path.glob(".coterie-partial*"))
            assert not list((tmp_path / "home-ben" / "apps" / "bittorrent" / "torrents").glob(f"{gone.id}*"))

    run(story(), 60)


def test_what_is_running_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        network = MemoryNetwork()
        async with node(network, tmp_path / "home-anna") as anna:
            shared = await anna.files.share(source, bittorrent=True)
        async with node(network, tmp_path / "home-ben") as ben:
            begun = await ben.files.get_detached(shared.torrent, tmp_path / "got")
            await until(lambda: list(tmp_path.glob(".coterie-partial*")))
        async with node(network, tmp_path / "home-anna"), node(network, tmp_path / "home-ben") as ben:
            assert [line.id for line in await ben.files.transfers()] == [begun.id]
            with pytest.raises(UsageError, match=f"transfer {begun.id} is fetching this"):
                await ben.files.get(shared.magnet, tmp_path / "elsewhere")
            # the torrent file names nobody; the link does, and joins what goes to the same place
            got = await ben.files.get(shared.magnet, tmp_path / "got")
            assert got.id == begun.id
            assert contents(Path(got.path)) == contents(source)

    run(story(), 60)


def test_everything_kept_is_for_the_owner_only(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source, bittorrent=True)
            torrent = tmp_path / "nobody-has-it.torrent"
            torrent.write_bytes(Path(shared.torrent).read_bytes())
            await anna.files.unshare("photos")
            await anna.files.share(fill(tmp_path / "other"), bittorrent=True)
            await ben.files.get_detached(str(torrent), tmp_path / "got")
            await until(lambda: list(tmp_path.glob(".coterie-partial*")))
            for home in ("home-anna", "home-ben"):
                kept = [p for p in (tmp_path / home / "apps").rglob("*") if p.is_file()]
                assert kept
                assert [p for p in kept if stat.S_IMODE(p.stat().st_mode) != 0o600] == []

    run(story(), 60)


def test_hostile_names_land_inside(tmp_path: Path) -> None:
    async def story() -> None:
        listed = [
            {"length": 1, "path": ["..", "..", "out"]},
            {"length": 1, "path": ["A"]},
            {"length": 1, "path": ["A"]},
            {"length": 0, "path": ["empty"]},
            {"length": 0, "path": ["..", "empty2"]},
            {"length": 0, "path": ["link"], "attr": "l", "symlink path": ["..", "etc"]},
        ]
        info = {"name": "../../../top", "piece length": 16_384, "pieces": bytes(20), "files": listed}
        (tmp_path / "bad.torrent").write_bytes(bencode({"info": info}))
        async with node(MemoryNetwork(), tmp_path / "home") as ben:
            before = set(os.listdir(tmp_path))
            with pytest.raises(UsageError, match="no folder"):
                await ben.files.get(str(tmp_path / "bad.torrent"), tmp_path / "deep" / "er" / "got")
            (tmp_path / "in").mkdir()
            await ben.files.get_detached(str(tmp_path / "bad.torrent"), tmp_path / "in")
            await until(lambda: list((tmp_path / "in").iterdir()) or _failed(ben))
            await asyncio.sleep(0.5)
            assert set(os.listdir(tmp_path)) - before == {"in"}
            inside = [p for p in (tmp_path / "in").rglob("*")]
            assert not [p for p in inside if p.is_symlink()]

    run(story(), 60)


def _failed(one: Node) -> bool:
    return not one.files.status()["transfers running"]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "junk.torrent").write_bytes(b"junk")
        source = fill(tmp_path / "photos")
        async with node(MemoryNetwork(), tmp_path / "home") as ben:
            for wrong, error in (
                (str(tmp_path / "none.torrent"), NotFound),
                (str(tmp_path / "junk.torrent"), CoterieError),
                ("magnet:?" + "a" * 20_000, UsageError),
            ):
                with pytest.raises(error):
                    await ben.files.get(wrong, tmp_path / "got")
            with pytest.raises(UsageError, match="cannot be read"):
                await ben.files.get("magnet:?xt=urn:btih:short", tmp_path / "got")
            shared = await ben.files.share(source)
            with pytest.raises(NotFound, match="--bittorrent"):
                await ben.bittorrent.magnet("photos")
            with pytest.raises(UsageError, match="add --bittorrent"):
                await ben.files.share(source, public=True)
            with pytest.raises(UsageError, match="--share"):
                await ben.files.get(shared.ticket, tmp_path / "got", share=True)
            seeded = await ben.files.share(source, bittorrent=True)
            with pytest.raises(UsageError, match="here already"):
                await ben.files.get(seeded.torrent, tmp_path / "got")
            with pytest.raises(UsageError, match="here already"):
                await ben.files.get(seeded.magnet, tmp_path / "got")
            assert not (tmp_path / "got").exists()

    run(story(), 60)


def test_what_is_for_some_people_is_never_seeded(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        async with node(MemoryNetwork(), tmp_path / "home") as ben:
            with pytest.raises(UsageError, match=r"is for contacts, .* --to ticket"):
                await ben.files.share(source, bittorrent=True, to=["contacts"])
            assert await ben.files.shares() == []  # said before anything is shared
            await ben.files.share(source, to=["contacts"])
            with pytest.raises(UsageError, match="--to ticket"):
                await ben.files.share(source, bittorrent=True)
            with pytest.raises(NotFound, match=r"share --bittorrent --to ticket"):
                await ben.service("bittorrent").magnet(str(source))
            assert (await ben.files.share(source, bittorrent=True, to=["anyone"])).magnet
            assert (await ben.files.share(source, to=["contacts"])).magnet == ""  # not any more
            assert (await ben.files.shares())[0].state == "ready"

    run(story(), 60)


def test_nothing_of_bittorrent_runs_where_nobody_asked_for_it(tmp_path: Path) -> None:
    async def story() -> None:
        source = fill(tmp_path / "photos")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(source)
            await ben.files.get(shared.ticket, tmp_path / "got")
            import threading

            assert not [t for t in threading.enumerate() if t.name == "bittorrent"]

    run(story(), 60)


def test_a_wrong_link_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(MemoryNetwork(), tmp_path / "home") as ben:
            with pytest.raises(UsageError, match="magnet link cannot be read"):
                await ben.files.get("magnet:?xt=1", tmp_path / "got")

    run(story(), 60)


def test_every_level_of_reach_is_explained() -> None:
    assert set(REACH) == {"local", "circle", "internet"}


def test_a_torrent_that_wants_files_of_other_torrents_gets_none(tmp_path: Path) -> None:
    """A library would link the user's own file into it, tell that it is here, and write to it what others send."""

    async def story() -> None:
        source = tmp_path / "private.bin"
        source.write_bytes(os.urandom(100_000))
        async with pair(tmp_path) as (anna, _):
            shared = await anna.files.share(source, bittorrent=True, v1=True)
            info = load().bdecode(Path(shared.torrent).read_bytes())[b"info"]
            asks = {**info, b"name": b"other", b"similar": [sha1(bencode(info)).digest()]}
            (tmp_path / "asks.torrent").write_bytes(bencode({b"info": dict(sorted(asks.items()))}))
            with pytest.raises(PeerError, match="files of other torrents"):
                await anna.files.get(str(tmp_path / "asks.torrent"), tmp_path / "got")
            assert source.stat().st_nlink == 1
            assert not (tmp_path / "got").exists()

    run(story(), 60)


def test_what_was_edited_since_is_neither_seeded_nor_written_over(tmp_path: Path) -> None:
    async def story() -> None:
        source = tmp_path / "film.mkv"
        source.write_bytes(os.urandom(300_000))
        network = MemoryNetwork()
        async with node(network, tmp_path / "home-ben") as ben:
            async with node(network, tmp_path / "home-anna") as anna:
                shared = await anna.files.share(source, bittorrent=True)
                await ben.files.get(shared.magnet, tmp_path / "got", share=True)  # every piece was checked
                edited = os.urandom(300_000)
                source.write_bytes(edited)
                await _until_not_seeded(anna, str(source))
                assert source.read_bytes() == edited
            async with node(network, tmp_path / "home-anna") as anna:
                await _until_not_seeded(anna, str(source))
                again = await anna.files.share(source, bittorrent=True)
                got = await ben.files.get(again.magnet, tmp_path / "second")
                assert Path(got.path).read_bytes() == edited

    run(story(), 60)


async def _until_not_seeded(node: Node, path: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while f"not on BitTorrent: {path} changed" not in (await node.files.shares())[0].state:
            await asyncio.sleep(0.02)
