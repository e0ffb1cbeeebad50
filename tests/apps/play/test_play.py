"""Playing what is still arriving: over the memory network, from a giver that gives at a fixed rate."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from coterie.errors import NotFound
from coterie.net import MemoryNetwork
from coterie.transfer.messages import GetChunks, GetManifest
from tests.apps.files.hostile import Content, file_entry, folder_entry, giver, id_of, page
from tests.apps.files.nodes import memory_node, pair
from tests.apps.play.test_media import ask
from tests.support import run


def film(path: Path, size: int, seed: int = 1) -> bytes:
    data = random.Random(seed).randbytes(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def test_the_end_can_be_read_before_the_middle_is_here(tmp_path: Path) -> None:
    data = film(tmp_path / "film.mkv", 60_000_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "film.mkv")).ticket
            playing = await ben.play.play(ticket, tmp_path / "copy.mkv")
            url = playing.files[0].url
            status, _, body = await ask(url, "Range: bytes=59000000-59999999")
            assert (status, body) == (206, data[59_000_000:])
            for at in (0, 31_234_567, 12_000_000, 59_999_999):
                _, _, body = await ask(url, f"Range: bytes={at}-{at + 9}")
                assert body == data[at : at + 10]
            assert (await ask(url))[2] == data
            while not (tmp_path / "copy.mkv").exists():
                await asyncio.sleep(0.01)
            assert (await ask(url))[2] == data  # from where it lies now

    run(main())


def test_of_a_folder_the_media_are_played_or_what_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    songs = {f"{n:02} söng.mp3": film(folder / f"{n:02} söng.mp3", 300_000, n) for n in range(5)}
    notes = film(folder / "inner" / "notes.txt", 1_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(folder)).ticket
            playing = await ben.play.play(ticket, tmp_path / "copy")
            assert [line.path for line in playing.files] == list(songs)
            for line in playing.files:
                assert (await ask(line.url))[2] == songs[line.path]
                assert line.url in playing.text()
            named = await ben.play.play(ticket, tmp_path / "second", file="inner/*")
            assert (await ask(named.files[0].url))[2] == notes
            with pytest.raises(NotFound, match="called"):
                await ben.play.play(ticket, tmp_path / "third", file="*.mkv")

    run(main())


@pytest.mark.parametrize(
    "name", ["100%.mp3", "%41.mp3", "a%2Fb?c#d&e.mp3", "a+b c.mp3", "[1] ü;=.mp3", "..mp3"]
)
def test_any_name_can_be_played_under_the_url_that_is_given(tmp_path: Path, name: str) -> None:
    data = film(tmp_path / "songs" / name, 1_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "songs")).ticket
            playing = await ben.play.play(ticket, tmp_path / "copy", file=name)
            assert [line.path for line in playing.files] == [name]
            status, _, body = await ask(playing.files[0].url)
            assert (status, body) == (200, data)

    run(main())


def test_of_many_folders_nothing_comes_before_the_film(tmp_path: Path) -> None:
    """The description first, in few round trips, then the film, though its folder is the last, then all else."""
    pieces = [random.Random(n).randbytes(50_000) for n in range(40)]
    folders = [page(file_entry(f"{n:02}.jpg", piece)) for n, piece in enumerate(pieces)]
    movie = [random.Random(f"film {n}").randbytes(100_000) for n in range(8)]
    last = page(file_entry("film.mkv", *movie))
    names = [f"folder {n:02}" for n in range(40)]
    top = page(*(folder_entry(*both) for both in zip([*names, "z"], [*folders, last], strict=True)))
    content = Content.of(top, *folders, last, pieces=[*pieces, *movie])

    async def main() -> None:
        network = MemoryNetwork()
        async with giver(network, content) as ticket, memory_node(network, tmp_path / "home-ben") as ben:
            playing = await ben.play.play(ticket, tmp_path / "copy")
            assert [line.path for line in playing.files] == ["z/film.mkv"]
            assert (await ask(playing.files[0].url))[2] == b"".join(movie)
            while not (tmp_path / "copy").exists():
                await asyncio.sleep(0.01)
        asked = [type(request) for request in content.requests]
        assert asked == [GetManifest] * 42 + [GetChunks] * (len(asked) - 42)
        first = [request.manifest for request in content.requests[42:]]
        assert set(first[: first.count(id_of(last))]) == {id_of(last)}

    run(main())


def test_a_folder_without_media_says_so(tmp_path: Path) -> None:
    film(tmp_path / "papers" / "a.txt", 10)
    film(tmp_path / "papers" / "b.txt", 10)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "papers")).ticket
            with pytest.raises(NotFound, match="--file"):
                await ben.play.play(ticket, tmp_path / "copy")

    run(main())


def test_after_a_cancel_a_reader_is_told_at_once(tmp_path: Path) -> None:
    film(tmp_path / "film.mkv", 100_000_000)

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "film.mkv")).ticket
            playing = await ben.play.play(ticket, tmp_path / "copy.mkv")
            answer = asyncio.ensure_future(ask(playing.files[0].url))
            while (await ben.files.transfers())[0].done < 10_000_000:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            await ben.files.cancel(playing.id)
            _, headers, body = await answer
            assert len(body) < int(headers["content-length"])
            assert time.monotonic() - began < 10

    run(main())
