"""Small pictures of files at places: what is asked for, what is kept, and for how long."""

import asyncio
from pathlib import Path

from coterie.errors import TransportError
from coterie.tasks import Tasks
from coterie.web.previews.decoding import Decoder
from coterie.web.previews.kinds import HEAD_BYTES
from coterie.web.previews.sources import FileHere, Opener, Source
from coterie.web.previews.thumbs import (
    FAILED_S,
    FILM_BEGIN_BYTES,
    FILM_END_BYTES,
    PREPARED_MAX,
    Kept,
    Thumbnails,
)
from tests.support import run
from tests.web.previews.test_decoding import picture


class Theirs:
    """A file of somebody else: says what was read of it."""

    name = "a.jpg"

    def __init__(self, raw: bytes, tag: str = "1", size: int = 0) -> None:
        self.raw = raw
        self.size = size or len(raw)
        self.tag = self.name + tag
        self.content_id = tag.encode()
        self.reads: list[tuple[int, int]] = []
        self.open = 0
        self.go = asyncio.Event()
        self.go.set()

    async def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        await self.go.wait()
        return self.raw[offset : offset + size].ljust(min(size, self.size - offset), b"\0")

    async def close(self) -> None:
        self.open -= 1

    def opener(self) -> Opener:
        async def open_it() -> Source:
            self.open += 1
            return self

        return open_it


async def asked(
    folder: Path, theirs: Theirs, *, bytes_max: int = 1 << 20, clock: float = 0.0
) -> bytes | None:
    tasks = Tasks()
    try:
        kept = Kept(folder, clock=lambda: clock)
        return await Thumbnails(Decoder(tasks), kept, lambda: bytes_max).draw(theirs.opener(), 64)
    finally:
        await tasks.close()


def test_a_picture_is_read_once_and_kept_by_its_content(tmp_path: Path) -> None:
    async def work() -> None:
        theirs = Theirs(picture())
        first = await asked(tmp_path / "kept", theirs)
        assert first is not None
        assert theirs.reads == [(0, HEAD_BYTES), (0, theirs.size)]
        again = Theirs(picture())
        assert await asked(tmp_path / "kept", again) == first
        assert again.reads == []  # the same content: nothing is fetched
        other = Theirs(picture("PNG"), tag="2")
        assert await asked(tmp_path / "kept", other) is not None
        assert other.reads
        assert theirs.open == again.open == other.open == 0  # all are closed

    run(work(), 30.0)


def test_of_what_is_larger_than_the_setting_only_the_beginning_is_read(tmp_path: Path) -> None:
    async def work() -> None:
        raw = picture()
        assert await asked(tmp_path / "a", Theirs(raw), bytes_max=len(raw)) is not None
        theirs = Theirs(raw)
        assert await asked(tmp_path / "b", theirs, bytes_max=len(raw) - 1) is None
        assert theirs.reads == [(0, HEAD_BYTES)]
        off = Theirs(raw)
        assert await asked(tmp_path / "c", off, bytes_max=0) is None
        assert off.reads == []
        text = Theirs(b"hello")
        assert await asked(tmp_path / "d", text) is None
        assert text.reads == [(0, HEAD_BYTES)]

    run(work(), 30.0)


def test_of_a_film_only_its_beginning_and_its_end_are_read(tmp_path: Path) -> None:
    async def work() -> None:
        large = 8 << 30
        mp4 = Theirs(b"\0\0\0\x20ftypisom", size=large)
        assert await asked(tmp_path, mp4) is None  # it is no film at all
        assert sum(size for _, size in mp4.reads) == HEAD_BYTES + FILM_BEGIN_BYTES + FILM_END_BYTES
        assert max(offset + size for offset, size in mp4.reads) == large
        webm = Theirs(b"\x1aE\xdf\xa3", tag="2", size=large)
        assert await asked(tmp_path, webm) is None
        assert sum(size for _, size in webm.reads) == HEAD_BYTES + FILM_BEGIN_BYTES

    run(work(), 60.0)


def test_what_cannot_be_drawn_is_tried_again_after_a_day(tmp_path: Path) -> None:
    async def work() -> None:
        broken = picture()[:200]
        for clock, reads in ((1_000.0, 2), (1_000.0 + FAILED_S - 1, 0), (1_001.0 + FAILED_S, 2)):
            theirs = Theirs(broken)
            assert await asked(tmp_path, theirs, clock=clock) is None
            assert len(theirs.reads) == reads, clock

    run(work(), 30.0)


def test_who_is_away_is_no_failure_of_the_file(tmp_path: Path) -> None:
    class Away(Theirs):
        async def read(self, offset: int, size: int) -> bytes:
            raise TransportError("anna is away")

    async def work() -> None:
        away = Away(picture())
        assert await asked(tmp_path, away) is None
        assert away.open == 0
        assert await asked(tmp_path, Theirs(picture())) is not None

    run(work(), 30.0)


def test_only_so_many_are_read_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        tasks = Tasks()
        thumbnails = Thumbnails(Decoder(tasks), Kept(tmp_path), lambda: 1 << 20)
        every = [Theirs(b"hello", tag=str(number)) for number in range(PREPARED_MAX + 1)]
        for theirs in every:
            theirs.go.clear()
        drawing = [asyncio.ensure_future(thumbnails.draw(theirs.opener(), 64)) for theirs in every]
        while sum(theirs.open for theirs in every) < PREPARED_MAX or not every[PREPARED_MAX - 1].reads:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [theirs.open for theirs in every] == [1] * PREPARED_MAX + [0]
        for theirs in every:
            theirs.go.set()
        assert await asyncio.gather(*drawing) == [None] * len(every)
        await tasks.close()

    run(work(), 30.0)


def test_what_was_not_seen_for_the_longest_time_leaves(tmp_path: Path) -> None:
    made = picture()
    room = max(len(made), 4_096)
    now = 0.0
    kept = Kept(tmp_path, bytes_max=3 * room, clock=lambda: now)
    for name in ("a", "b", "c"):
        now += 1
        kept.write(name, made)
    now += 1
    assert kept.read("a") == made  # seen just now
    now += 1
    kept.write("d", made)  # one more than there is room for
    assert [kept.read(name) is not None for name in "abcd"] == [True, False, True, True]


def test_a_damaged_picture_is_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.write("a", picture())
    (tmp_path / "a").write_bytes(picture()[:-10])
    assert kept.read("a") is None


def test_a_file_of_this_computer_that_changed_is_drawn_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"

    async def work() -> None:
        tasks = Tasks()
        thumbnails = Thumbnails(Decoder(tasks), Kept(tmp_path / "kept"), lambda: 1 << 20)

        async def open_it() -> Source:
            return FileHere(path)

        made = []
        for size in ((400, 300), (300, 400)):
            path.write_bytes(picture(size=size))
            made.append(await thumbnails.draw(open_it, 64))
        assert None not in made
        assert made[0] != made[1]
        await tasks.close()

    run(work(), 30.0)
