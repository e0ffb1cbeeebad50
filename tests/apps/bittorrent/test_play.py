"""Torrents played while they arrive: real sessions on loopback, limited so that the order of what comes shows."""

import asyncio
import random
from pathlib import Path

import pytest

from coterie.errors import NotFound, UsageError
from tests.apps.bittorrent.test_torrents import pair
from tests.apps.play.test_media import ask
from tests.support import run


def film(path: Path, size: int, seed: int = 1) -> bytes:
    data = random.Random(seed).randbytes(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def test_of_a_link_the_end_is_read_before_the_middle_is_here(tmp_path: Path) -> None:
    data = film(tmp_path / "film.mkv", 6_000_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            link = (await anna.files.share(tmp_path / "film.mkv", bittorrent=True)).magnet
            ben.files.limits.change(up=None, down=2_000_000, up_hours=None, down_hours=None)
            playing = await ben.play.play(link, tmp_path / "copy.mkv")
            url = playing.files[0].url
            status, _, body = await ask(url, "Range: bytes=5900000-5999999")
            assert (status, body) == (206, data[5_900_000:])
            (line,) = await ben.files.transfers()
            assert (line.id, line.state) == (playing.id, "running")
            assert line.done < 3_500_000
            ben.files.limits.change(up=None, down=0, up_hours=None, down_hours=None)
            assert (await ask(url))[2] == data
            while not (tmp_path / "copy.mkv").exists():
                await asyncio.sleep(0.01)
            assert (await ask(url))[2] == data  # from where it lies now
            (tmp_path / "copy.mkv").write_bytes(data[:-1])
            assert (await ask(url))[2] == b""  # what was changed is not what was fetched

    run(main(), 60)


def test_the_file_that_is_played_comes_before_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    for number in range(8):
        film(folder / f"{number} extra.bin", 1_000_000, number)
    movie = film(folder / "z" / "film.mkv", 2_000_000, 99)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            torrent = (await anna.files.share(folder, bittorrent=True)).magnet
            ben.files.limits.change(up=None, down=3_000_000, up_hours=None, down_hours=None)
            playing = await ben.play.play(torrent, tmp_path / "copy")
            assert [line.path for line in playing.files] == ["z/film.mkv"]
            assert (await ask(playing.files[0].url))[2] == movie
            (line,) = await ben.files.transfers()
            assert line.done < 6_000_000 < line.size

    run(main(), 60)


def test_a_torrent_under_way_is_played_by_its_id_and_a_cancel_is_told_at_once(tmp_path: Path) -> None:
    film(tmp_path / "film.mkv", 10_000_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            link = (await anna.files.share(tmp_path / "film.mkv", bittorrent=True)).magnet
            ben.files.limits.change(up=None, down=2_000_000, up_hours=None, down_hours=None)
            begun = await ben.files.get_detached(link, tmp_path / "copy.mkv")
            playing = await ben.play.play(begun.id)
            assert playing.id == begun.id
            answer = asyncio.ensure_future(ask(playing.files[0].url))
            while (await ben.files.transfers())[0].done < 300_000:
                await asyncio.sleep(0.01)
            assert (await ben.files.cancel(begun.id)).did == "cancelled"
            async with asyncio.timeout(5):
                _, headers, body = await answer
            assert len(body) < int(headers["content-length"])

    run(main(), 60)


def test_a_torrent_without_media_says_so_and_goes_on(tmp_path: Path) -> None:
    film(tmp_path / "papers" / "a.txt", 10)
    film(tmp_path / "papers" / "b.txt", 10)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            link = (await anna.files.share(tmp_path / "papers", bittorrent=True)).magnet
            with pytest.raises(NotFound, match="--file"):
                await ben.play.play(link, tmp_path / "copy")
            async with asyncio.timeout(20):
                while not (tmp_path / "copy").exists():
                    await asyncio.sleep(0.01)
            with pytest.raises(UsageError):
                await ben.play.play("nobody-has-it", tmp_path / "copy")

    run(main(), 60)


def test_what_came_before_is_played_as_it_lies_there(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    song = film(folder / "song.mp3", 300_000)
    film(folder / "cover.jpg", 1_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(folder, bittorrent=True)
            got = await ben.files.get(shared.magnet, tmp_path / "copy")
            sources = (shared.magnet, shared.torrent, got.id)
            for playing in [await ben.play.play(source, tmp_path / "copy") for source in sources]:
                assert (playing.id, playing.target) == (got.id, str(tmp_path / "copy"))
                assert [line.path for line in playing.files] == ["song.mp3"]
                assert (await ask(playing.files[0].url))[2] == song
                assert (await ask(playing.files[0].url, "Range: bytes=1000-1999"))[2] == song[1_000:2_000]
            assert (await anna.play.play(shared.magnet)).target == str(folder)  # what is seeded is here too
            (tmp_path / "copy" / "song.mp3").unlink()
            with pytest.raises(NotFound, match=r"no file in it is called"):
                await ben.play.play(shared.magnet, tmp_path / "copy", file="*.mp3")
            again = await ben.play.play(shared.magnet, tmp_path / "copy", on_existing="keep-both")
            assert again.id != got.id

    run(main(), 60)
