"""What others share, read by place and range: whole, anywhere, together, from the cache; refused and gone."""

import asyncio
import contextlib
import os
import random
import time
from pathlib import Path

import pytest

from coterie.apps.files import reading
from coterie.apps.grants.service import Wanted
from coterie.errors import AccessDenied, CoterieError, NoAnswer, NotFound, TransportError, UsageError
from coterie.identity import PeerId
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.transfer import supply
from coterie.transfer.open_file import READ_BYTES_MAX
from tests.apps.files.nodes import befriend, friends, memory_node
from tests.apps.files.test_places import BIG, photos
from tests.support import run

MIB = 1 << 20


async def shared(anna: Node, ben: Node, folder: Path) -> str:
    """A folder of anna's that ben may see, as he calls it."""
    item = await anna.files.share(photos(folder), to=[str(ben.peer_id)])
    assert item.files == 5
    return f"{ben.people.name_of(anna.peer_id)}/photos"


async def whole(node: Node, place: str, step: int = MIB) -> bytes:
    async with await node.files.reading.open(place) as file:
        parts = [await file.read(at, step) for at in range(0, file.size, step)]
        assert await file.read(file.size, 1) == b""
        return b"".join(parts)


def given(anna: Node) -> int:
    return anna.files.server.sent_bytes


def test_folders_are_listed_and_files_read_whole_and_anywhere(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = await shared(anna, ben, tmp_path)
            reading = ben.files.reading
            assert [(s.name, s.kind) for s in await reading.listing(top.partition("/")[0])] == [
                ("photos", "folder")
            ]
            found = await reading.listing(f"{top}/2024")
            assert [(s.name, s.kind, s.size) for s in found] == [
                ("a.jpg", "file", 5), ("big.mov", "file", len(BIG)), ("summer", "folder", 6)
            ]  # fmt: skip
            assert found[1].mtime_ns == (tmp_path / "photos/2024/big.mov").stat().st_mtime_ns
            assert await reading.look(f"{top}/2024/big.mov") == found[1]
            assert (await reading.look(f"{top}/2024")).files == 3
            assert await whole(ben, f"{top}/2024/a.jpg") == b"small"
            assert await whole(ben, f"{top}/readme") == b""
            seed = random.randrange(1 << 32)
            rng = random.Random(seed)
            async with await reading.open(f"{top}/2024/big.mov") as file:
                assert (file.name, file.size) == ("big.mov", len(BIG))
                assert file.content_id == found[1].content_id
                for _ in range(30):
                    at, size = rng.randrange(len(BIG)), rng.choice([0, 1, 5_000, 300_000, 3 * MIB])
                    assert await file.read(at, size) == BIG[at : at + size], seed
                with pytest.raises(UsageError, match="at most"):
                    await file.read(0, READ_BYTES_MAX + 1)
            for place, error in (
                (f"{top}/2025", NotFound),
                (f"{top}/2024", NotFound),
                ("nobody/x", NotFound),
            ):
                with pytest.raises(error):
                    await reading.open(place)
            with pytest.raises(NotFound, match="is a file"):
                await reading.listing(f"{top}/readme")

    run(scene())


def test_several_readers_share_one_fetch_and_the_next_has_it_from_the_cache(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = await shared(anna, ben, tmp_path)
            place = f"{top}/2024/big.mov"
            assert (
                await asyncio.gather(*[whole(ben, place, step) for step in (MIB, 700_001, 4 * MIB)])
                == [BIG] * 3
            )
            assert given(anna) == len(BIG)
            assert await whole(ben, place) == BIG
            assert given(anna) == len(BIG)
        async with friends(tmp_path) as (anna, ben):  # after a restart, too
            assert await whole(ben, place) == BIG
            assert given(anna) == 0

    run(scene())


def test_the_cache_is_bounded_and_what_was_read_longest_ago_goes_first(tmp_path: Path) -> None:
    async def scene() -> None:
        home = tmp_path / "home-ben"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text('[app.files]\nreading_cache = "9MB"\n')
        async with friends(tmp_path) as (anna, ben):
            top = await shared(anna, ben, tmp_path)
            (tmp_path / "photos/other.mov").write_bytes(BIG[::-1])
            await anna.files.share(tmp_path / "photos")
            await whole(ben, f"{top}/2024/big.mov")
            await asyncio.sleep(2.1)
            await whole(ben, f"{top}/other.mov")
            kept = sum(path.stat().st_size for path in (home / "apps/files/reading").glob("*/*"))
            assert 4_000_000 < kept <= 16 * MIB
            before = given(anna)
            assert await whole(ben, f"{top}/other.mov") == BIG[::-1]
            assert given(anna) - before < len(BIG) // 2
            assert await whole(ben, f"{top}/2024/big.mov") == BIG
            assert given(anna) - before > len(BIG) // 2

    run(scene())


def test_what_was_altered_in_the_cache_is_fetched_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = await shared(anna, ben, tmp_path)
            assert await whole(ben, f"{top}/2024/big.mov") == BIG
            for path in (tmp_path / "home-ben/apps/files/reading").glob("*/*"):
                with path.open("r+b") as file:
                    file.seek(1_000)
                    file.write(b"other")
            assert await whole(ben, f"{top}/2024/big.mov") == BIG

    run(scene())


def test_a_jump_is_not_kept_waiting_by_what_was_asked_ahead_and_closing_asks_no_more(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            (tmp_path / "film").write_bytes(os.urandom(24 * MIB))
            await anna.files.share(tmp_path / "film", to=[str(ben.peer_id)])
            place = f"{ben.people.name_of(anna.peer_id)}/film"
            file = await ben.files.reading.open(place)
            await file.read(0, 1)
            await file.read(20 * MIB, 100)
            await file.close()
            await asyncio.sleep(0.3)
            assert given(anna) < 8 * MIB
            with pytest.raises(UsageError, match="closed"):
                await file.read(0, 1)

    run(scene())


def test_a_right_that_is_taken_back_ends_what_is_open(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = await shared(anna, ben, tmp_path)
            file = await ben.files.reading.open(f"{top}/2024/big.mov")
            assert await file.read(0, 10) == BIG[:10]
            await anna.files.unshare("photos")
            began = time.monotonic()
            while time.monotonic() < began + 5:
                try:
                    await file.read(0, 10)
                except (AccessDenied, NotFound):
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError("it is read still")
            while time.monotonic() < began + 5:
                try:
                    await ben.files.reading.listing(f"{top}/2024")
                except CoterieError:
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError("it is listed still")
            await file.close()

    run(scene())


def test_a_peer_that_goes_away_in_the_middle_is_an_error_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supply, "SILENT_S", 0.6)

    async def scene() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "home-ben") as ben, contextlib.AsyncExitStack() as here:
            anna = await here.enter_async_context(memory_node(network, tmp_path / "home-anna"))
            await befriend(anna, ben)
            (tmp_path / "film").write_bytes(os.urandom(24 * MIB))
            await anna.files.share(tmp_path / "film", to=[str(ben.peer_id)])
            name = ben.people.name_of(anna.peer_id)
            async with await ben.files.reading.open(f"{name}/film") as file:
                begun = await file.read(0, 10)
                await here.aclose()
                began = time.monotonic()
                with pytest.raises(TransportError, match=f"{name} does not answer"):
                    await file.read(20 * MIB, 10)
                assert time.monotonic() < began + 5
                assert await file.read(0, 10) == begun  # what is here is here

    run(scene())


def test_only_a_part_that_was_granted_is_there(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(photos(tmp_path), to=["ticket"])
            given = anna.grants.give(str(ben.peer_id), "list,read", "files/photos/2024", Wanted(604_800))
            await ben.grants.accept(given.grant)
            name = ben.people.name_of(anna.peer_id)
            reading = ben.files.reading
            assert [s.name for s in await reading.listing(name)] == ["photos"]
            assert [s.name for s in await reading.listing(f"{name}/photos")] == ["2024"]
            assert [s.name for s in await reading.listing(f"{name}/photos/2024")] == [
                "a.jpg",
                "big.mov",
                "summer",
            ]
            assert await whole(ben, f"{name}/photos/2024/summer/b.jpg") == b"nested"
            with pytest.raises(NotFound):
                await reading.open(f"{name}/photos/readme")

    run(scene())


def test_own_shares_are_read_as_they_lie_there_and_nothing_that_waits(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, _):
            await anna.files.share(photos(tmp_path))
            top = tmp_path / "photos"
            os.mkfifo(top / "pipe")
            (top / "link").symlink_to("/etc/passwd")
            (top / "new").write_bytes(b"not taken in yet")
            name = str(anna.peer_id)
            seen = await anna.files.reading.listing(f"{name}/photos")
            assert [s.name for s in seen] == ["2023", "2024", "new", "readme"]
            assert await whole(anna, f"{name}/photos/new") == b"not taken in yet"
            for place in ("pipe", "link", "2023", "../x", "2023/../../x"):
                with pytest.raises(CoterieError):
                    await anna.files.reading.open(f"{name}/photos/{place}")

    run(scene())


def test_ten_thousand_entries_are_listed_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            top = tmp_path / "many"
            top.mkdir()
            for number in range(10_000):
                (top / f"{number:05}.txt").write_bytes(b"x")
            await anna.files.share(top, to=[str(ben.peer_id)])
            name = ben.people.name_of(anna.peer_id)
            began = time.monotonic()
            seen = await ben.files.reading.listing(f"{name}/many")
            assert len(seen) == 10_000
            assert time.monotonic() < began + 3

    run(scene())


def test_who_does_not_answer_is_named_and_no_protocol_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(context: object, peer: PeerId, path: str) -> None:
        raise NoAnswer(f"{peer.short} does not answer")

    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            monkeypatch.setattr(reading, "list_place", silent)
            name = ben.people.name_of(anna.peer_id)
            for _ in range(2):  # the second time it is not asked
                with pytest.raises(TransportError, match=f"{name} does not answer; it may be off"):
                    await ben.files.reading.listing(name)

    run(scene())
