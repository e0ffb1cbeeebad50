"""Content that apps keep: in and out by names, quotas, owners that do not see one another."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.content import Store, import_path
from coterie.content.versions import Versions
from coterie.errors import LimitExceeded, NotFound, StorageError, UsageError
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.services.blobs import BlobFolder, Blobs
from coterie.services.blobs import service as room
from tests.apps.files.nodes import memory_node
from tests.support import run


class Home:
    """A store, a folder, and the blobs of apps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.store = Store.open(folder / "store.db")
        self.folder = BlobFolder(folder / "blobs", self.store)

    def app(self, name: str, quota: str = "1MB") -> Blobs:
        return Blobs(self.folder, Versions(self.path / "versions"), name, {"blob_quota": quota})

    @property
    def files(self) -> int:
        return len(list((self.path / "blobs").glob("*/*")))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def parts(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(blobs: Blobs, name: str, *span: int) -> bytes:
    return b"".join([part async for part in blobs.read(name, *span)])


def test_bytes_files_and_streams_come_out_as_they_went_in(home: Home) -> None:
    async def play() -> None:
        blobs = home.app("one", "100MB")
        data = os.urandom(3_000_000)
        (home.path / "source").write_bytes(data)
        ids = {
            await blobs.put(data, "bytes"),
            await blobs.put(home.path / "source", "file"),
            await blobs.put(parts(data, 70_001), "stream"),
        }
        assert len(ids) == home.files == 1
        assert await blobs.get("stream") == data
        for offset, size in ((0, 1), (1, 2_500_000), (2_999_999, 5), (1_234_567, 0), (3_000_000, 9)):
            assert await read(blobs, "file", offset, size) == data[offset : offset + size]
        assert await blobs.size("bytes") == len(data)
        assert await blobs.names() == dict.fromkeys(["bytes", "file", "stream"], ids.pop())
        assert await blobs.names("b") == {"bytes": (await blobs.names())["bytes"]}
        assert blobs.status() == {"contents": 3, "bytes kept": 3_000_000, "bytes at most": 100_000_000}
        assert await blobs.put(b"", "bytes")
        assert await blobs.get("bytes") == b""
        with pytest.raises(NotFound):
            await blobs.put(home.path / "missing", "missing")
        for bad in ("", "x" * 201, "line\nend"):
            with pytest.raises(UsageError):
                await blobs.put(b"", bad)
        with pytest.raises(UsageError):
            await read(blobs, "file", -1)

    run(play())


def test_the_id_is_that_of_the_same_file_shared(home: Home, tmp_path: Path) -> None:
    async def play() -> None:
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        outside.write_bytes(b"the same")
        assert await home.app("one").put(b"the same", "x") == import_path(home.store, outside).root

    run(play())


def test_what_one_app_lets_go_another_still_has(home: Home) -> None:
    async def play() -> None:
        one, two = home.app("one"), home.app("two")
        root = await one.put(b"shared", "mine")
        await two.put(b"shared", "theirs")
        await two.pin(root, "again")
        assert await one.unpin("mine")
        assert not await one.unpin("mine")
        assert one.status() == {}
        assert await two.unpin("theirs")
        home.store.collect_garbage()
        home.folder.sweep()
        assert await two.get("again") == b"shared"
        for gone in (one.get("mine"), one.get("again"), two.get("theirs"), one.pin(bytes(32), "x")):
            with pytest.raises(NotFound):
                await gone
        await two.put(b"other", "again")
        assert home.files == 1
        assert await two.unpin("again")
        assert (home.files, home.store.roots()) == (0, [])

    run(play())


def test_what_a_share_pins_stays_though_no_app_keeps_it(home: Home) -> None:
    async def play() -> None:
        one = home.app("one")
        root = await one.put(b"given on", "mine")
        home.store.pins.set("files", "gift/1", [root])
        await one.unpin("mine")
        assert (home.files, home.folder.sweep()) == (1, 0)
        home.store.pins.set("files", "gift/1", ())
        assert (home.folder.sweep(), home.files) == (1, 0)

    run(play())


def test_a_quota_is_kept_to_the_byte_and_leaves_nothing_of_what_is_too_much(home: Home) -> None:
    async def play() -> None:
        one, two = home.app("one", "1200"), home.app("two", "1kB")
        root = await one.put(bytes(600), "a")
        await one.put(bytes(600), "the same again")  # one content is counted once
        with pytest.raises(LimitExceeded, match=r"blob_quota.*\[app.one\]"):
            await one.put(parts(b"x" * 601, 100), "b")
        await one.put(b"x" * 600, "b")
        assert await two.put(bytes(1_000), "a")
        with pytest.raises(LimitExceeded):
            await two.pin(root, "b")
        assert home.files == 3
        with pytest.raises(LimitExceeded):
            await asyncio.gather(*(home.app("three", "1kB").put(bytes(1_001), str(n)) for n in range(2)))
        await two.unpin("a")
        await two.pin(root, "b")
        with pytest.raises(UsageError, match="blob_quota"):
            home.app("four", "much")

    run(play())


def test_two_streams_at_once_do_not_pass_the_quota_together(home: Home) -> None:
    async def play() -> None:
        one = home.app("one", "1kB")
        done = await asyncio.gather(
            *(one.put(parts(str(n).encode() * 600, 100), str(n)) for n in range(2)), return_exceptions=True
        )
        assert sorted(type(found) for found in done if isinstance(found, Exception)) == [LimitExceeded]
        assert home.files == 1

    run(play())


def test_one_name_beyond_the_bound(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PINS_MAX", 1)
    monkeypatch.setattr(room, "WHOLE_BYTES_MAX", 4)

    async def play() -> None:
        one = home.app("one")
        await one.put(b"1234", "a")
        assert await one.get("a") == b"1234"
        await one.put(b"12345", "a")
        with pytest.raises(LimitExceeded):
            await one.put(b"2", "b")
        with pytest.raises(LimitExceeded):
            await one.get("a")

    run(play())


def test_a_cancelled_stream_leaves_what_was_there(home: Home) -> None:
    async def play() -> None:
        one = home.app("one")
        await one.put(b"old", "a")
        halfway = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield b"new"
            halfway.set()
            await asyncio.sleep(60)

        putting = asyncio.ensure_future(one.put(source(), "a"))
        await halfway.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await one.get("a") == b"old"
        assert home.files == 1

    run(play())


def test_damage_is_told_and_never_given_out(home: Home) -> None:
    async def play() -> None:
        one = home.app("one")
        root = await one.put(b"good", "a")
        path = home.path / "blobs" / root.hex()[:2] / root.hex()
        path.write_bytes(b"evil")
        with pytest.raises(StorageError, match="cannot be read"):
            await one.get("a")

    run(play())


def test_content_that_is_put_again_is_whole_again(home: Home) -> None:
    async def play() -> None:
        one, two = home.app("one"), home.app("two")
        root = await one.put(b"good", "a")
        path = home.path / "blobs" / root.hex()[:2] / root.hex()
        path.write_bytes(b"evil")
        assert await two.put(b"good", "b") == root
        assert await two.get("b") == await one.get("a") == b"good"
        assert home.files == 1

    run(play())


def test_what_is_pinned_counts_beside_what_is_coming(home: Home) -> None:
    async def play() -> None:
        big = await home.app("other", "2MB").put(bytes(700_000), "big")
        one, pinned = home.app("one"), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield os.urandom(600_000)
            with pytest.raises(LimitExceeded):
                await one.pin(big, "pinned")
            pinned.set()

        await one.put(slowly(), "coming")
        assert pinned.is_set()
        assert await one.names() == {"coming": (await one.names())["coming"]}

    run(play())


def kept_by_files(node: Node) -> Blobs:
    found = node.kept["blobs files"]
    assert isinstance(found, Blobs)
    return found


def test_a_node_gives_each_app_its_own_and_lists_it(tmp_path: Path) -> None:
    async def play() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home") as node:
            assert not (tmp_path / "home" / "blobs").exists()
            await kept_by_files(node).put(b"kept", "a")
            assert node.status().services["blobs files"]["bytes kept"] == 4
            (left,) = (tmp_path / "home" / "blobs").glob("*/*")
            (left.parent / ("0" * 64)).write_bytes(b"left over")
            (left.parent / "no id").write_bytes(b"not ours")
            assert (await node.collect_garbage()).blobs == 1
            assert left.exists()
        async with memory_node(network, tmp_path / "home") as node:
            assert node.status().services["blobs files"]["contents"] == 1
            assert await kept_by_files(node).get("a") == b"kept"

    run(play())
