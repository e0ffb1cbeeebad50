"""Content that an app keeps, fetched by the same app of another computer: by id, with a right, verified, kept."""

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.access.policy import of_peer
from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App
from coterie.apps.context import Context
from coterie.content.limit import BURST_S
from coterie.errors import LimitExceeded, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId, SecretKey, load_or_create_key
from coterie.net import MemoryNetwork
from coterie.net.memory import PerfectLinks
from coterie.node import Node
from coterie.progress import Progress
from coterie.services.blobs import exchange, service
from tests.apps.files.nodes import befriend
from tests.support import run


class Lines(PerfectLinks):
    """A line of one rate, for all together."""

    bytes_s = math.inf

    def __init__(self) -> None:
        self._free_at = 0.0

    def sent_s(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> float:
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size_bytes / self.bytes_s
        return self._free_at - now


class Album:
    """Keeps pictures."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.blobs = context.blobs

    async def start(self) -> None:
        """Nothing runs."""

    async def close(self) -> None:
        """Nothing is kept."""


KIND = ResourceKind("album", Verb.READ, "an album")
ALBUM = App(name="album", summary="", create=Album, commands="", kinds=(KIND,))
OTHER = App(
    name="other", summary="", create=Album, commands="", kinds=(ResourceKind("other", Verb.READ, "other"),)
)
PICTURE = os.urandom(3_000_000)


@contextlib.asynccontextmanager
async def nodes(
    folder: Path, *names: str, quota: str = "100MB"
) -> AsyncIterator[tuple[list[Node], MemoryNetwork]]:
    """Nodes with both apps, all contacts of the first."""
    network = MemoryNetwork()
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in names:
            home = folder / f"home-{name}"
            home.mkdir(mode=0o700)
            (home / "config.toml").write_text(f'[app.album]\nblob_quota = "{quota}"\n')
            transport = network.bind(load_or_create_key(home / "key").peer_id)
            opened = Node.open(home, transport=transport, apps=["contacts", "grants", ALBUM, OTHER])
            made.append(await stack.enter_async_context(opened))
        for one in made[1:]:
            await befriend(made[0], one)
        yield made, network


def give(node: Node, name: str, *to: Node, resource: str = "album/1") -> None:
    """Let these read the album, and have it be what is kept under `name`."""
    for one in to:
        node.access.policy.permit(of_peer(one.peer_id), Verb.READ, resource)
    node.album.blobs.give(name, resource)


def left_over(node: Node) -> list[Path]:
    return list((node.home / "blobs").glob("fetched/*"))


def test_content_is_fetched_verified_kept_and_given_on(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path, "anna", "ben", "carl") as ((anna, ben, carl), _):
            root = await anna.album.blobs.put(PICTURE, "picture")
            give(anna, "picture", ben)
            steps: list[Progress] = []
            await ben.album.blobs.fetch(root, [anna.peer_id], "got", progress=steps.append)
            assert await ben.album.blobs.get("got") == PICTURE
            assert await ben.album.blobs.names() == {"got": root}
            assert left_over(ben) == []
            assert ben.store.pins.of("blobs fetching") == {}
            give(ben, "got", carl)
            await befriend(ben, carl)
            anna.album.blobs.give_no_more()
            await carl.album.blobs.fetch(root, [anna.peer_id, ben.peer_id], "third")
            assert await carl.album.blobs.get("third") == PICTURE
            await ben.album.blobs.fetch(root, [carl.peer_id], "again")  # it is here: nobody is asked
            assert set(await ben.album.blobs.names()) == {"got", "again"}

    run(play())


@pytest.mark.parametrize("way", ["up", "down"])
def test_it_comes_no_faster_than_either_side_allows(tmp_path: Path, way: str) -> None:
    async def play() -> None:
        async with nodes(tmp_path, "anna", "ben") as ((anna, ben), _):
            root = await anna.album.blobs.put(PICTURE, "picture")
            give(anna, "picture", ben)
            limit = getattr((anna if way == "up" else ben).blobs.rates, way)
            limit.bytes_per_s = len(PICTURE)
            began = asyncio.get_running_loop().time()
            await ben.album.blobs.fetch(root, [anna.peer_id], "got")
            assert asyncio.get_running_loop().time() - began > (1 - BURST_S) * 0.8
            assert ben.blobs.rates.down_shares.portions == []

    run(play())


def test_who_has_no_right_learns_nothing_and_the_log_says_what_was_asked(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path, "anna", "ben") as ((anna, ben), _):
            root = await anna.album.blobs.put(PICTURE, "picture")
            fetch = ben.album.blobs.fetch
            with pytest.raises(NotFound) as nothing:  # kept, and not given
                await fetch(root, [anna.peer_id], "got")
            anna.album.blobs.give("picture", "album/1")
            with pytest.raises(NotFound) as refused:  # given, and not to ben
                await fetch(root, [anna.peer_id], "got")
            assert str(refused.value) == str(nothing.value)
            give(anna, "picture", ben)
            with pytest.raises(NotFound):  # of another app
                await ben.other.blobs.fetch(root, [anna.peer_id], "got")
            with pytest.raises(NotFound):
                await fetch(bytes(32), [anna.peer_id], "got")
            lines = anna.access.audit.lines(peer=bytes(ben.peer_id), refused=True)
            assert {use.resource for use in lines} == {"blobs", "album/1"}
            with pytest.raises(UsageError, match="has not declared"):
                anna.album.blobs.give("picture", "files/1")
            assert await ben.album.blobs.names() == {}
            assert left_over(ben) == []
            assert ben.store.root(root) is None

    run(play())


def test_a_right_taken_back_a_cancel_and_a_cut_leave_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path, "anna", "ben") as ((anna, ben), network):
            root = await anna.album.blobs.put(PICTURE, "picture")
            give(anna, "picture", ben)
            begun, links = asyncio.Event(), Lines()
            network.policy = links

            def slow(step: Progress) -> None:
                if step.done:
                    begun.set()

            async def fetch() -> "asyncio.Task[None]":
                begun.clear()
                links.bytes_s = 2_000_000.0
                work = ben.album.blobs.fetch(root, [anna.peer_id], "got", progress=slow)
                task = asyncio.create_task(work)
                await begun.wait()
                return task

            task = await fetch()
            anna.access.policy.withdraw("album/1")
            anna.access.changed()
            with pytest.raises((NotFound, PeerError)):
                await task
            give(anna, "picture", ben)
            task = await fetch()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert left_over(ben) == []
            assert await ben.album.blobs.names() == {}
            task = await fetch()
            network.block(anna.peer_id, ben.peer_id)
            await asyncio.sleep(0)
            links.bytes_s = math.inf
            network.unblock(anna.peer_id, ben.peer_id)
            await task
            assert await ben.album.blobs.get("got") == PICTURE

    run(play())


def test_the_quota_counts_before_anything_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with nodes(tmp_path, "anna", "ben", quota="3MB") as ((anna, ben), _):
            root = await anna.album.blobs.put(PICTURE, "picture")
            give(anna, "picture", ben)
            await ben.album.blobs.put(b"full", "mine")
            with pytest.raises(LimitExceeded):
                await ben.album.blobs.fetch(root, [anna.peer_id], "got")
            assert left_over(ben) == []
            monkeypatch.setattr(service, "GIVERS_MAX", 1)
            for roots, peers in ((root, []), (root, [anna.peer_id] * 2), (root[:-1], [anna.peer_id])):
                with pytest.raises(UsageError, match="content id"):
                    await ben.album.blobs.fetch(roots, peers, "got")
            away = SecretKey(bytes(32)).peer_id
            with pytest.raises(TransportError):
                await ben.album.blobs.fetch(root, [away], "got")

    run(play())


def test_what_is_given_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "GIVEN_MAX", 2)

    async def play() -> None:
        async with nodes(tmp_path, "anna") as ((anna,), _):
            for name in ("a", "b"):
                anna.album.blobs.give(name, "album/1")
            with pytest.raises(LimitExceeded):
                anna.other.blobs.give("c", "other/1")
            anna.album.blobs.give("a", "album/2")  # another resource for the same
            anna.album.blobs.give_no_more("a")
            anna.other.blobs.give("c", "other/1")

    run(play())


def test_what_a_crash_left_of_a_fetch_is_removed(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path, "anna") as ((anna,), _):
            room = anna.home / "blobs" / "fetched" / "0" / "content"
            room.parent.mkdir(parents=True)
            room.write_bytes(b"half")
            anna.store.pins.set("blobs fetching", "0", [bytes(32)])
            await anna.album.blobs.put(b"new", "name")
            assert not room.parent.exists()
            assert not anna.store.pins.has(bytes(32))

    run(play())
