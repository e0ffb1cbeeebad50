"""Pieces of a torrent for those who read them: what is asked of a session, which a list stands for here."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.bittorrent import playable
from coterie.apps.bittorrent.playable import AHEAD_PIECES_MAX, PIECE_BYTES_MAX, ArrivingFile, Pieces, files_of
from coterie.content.bittorrent.layout import Layout, TorrentFile
from coterie.content.bittorrent.read import Source
from coterie.content.bittorrent.session import FAR, FIRST, NEAR, PieceRead
from coterie.errors import LimitExceeded, NotFound, TransportError
from coterie.transfer.running import ALL

PIECE = 10
KEY = "get a"


class Session:
    """Remembers what it was asked; gives pieces when told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.ranks: dict[int, int] = {}

    def rank(self, key: str, piece: int, priority: int) -> None:
        assert key == KEY
        self.ranks[piece] = priority

    def read(self, key: str, piece: int) -> None:
        assert key == KEY
        self.asked.append(piece)


class Download:
    """A torrent of two files, 15 and 25 bytes."""

    def __init__(self) -> None:
        self.delivered: Path | None = None
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.first: dict[int, bool] = {}

    def prefer(self, file: int, *, is_first: bool) -> None:
        self.first[file] = is_first


def scene() -> tuple[Download, Pieces, Session, list[ArrivingFile]]:
    files = (TorrentFile(0, ("a.mp3",), 15), TorrentFile(1, ("in", "b.mp3"), 25))
    source = Source(b"", "album", files, True, 40, b"1" * 20, b"", (), PIECE)
    layout = Layout(True, {0: ("a.mp3",), 1: ("in", "b (2).mp3")}, (0, 1), (), 40)
    download, pieces, session = Download(), Pieces(KEY), Session()
    pieces.begin(session, PIECE)  # type: ignore[arg-type]
    executor = ThreadPoolExecutor(1)
    return download, pieces, session, files_of(download, pieces, executor, source, layout, "album")


def test_a_read_waits_for_its_piece_and_begins_within_it() -> None:
    async def main() -> None:
        _, pieces, session, (_, second) = scene()
        assert (second.name, second.path, second.size) == ("b (2).mp3", "in/b (2).mp3", 25)
        reading = asyncio.ensure_future(second.read(3, 100))  # byte 18 of the torrent
        await asyncio.sleep(0)
        assert session.asked == [1]
        pieces.take(PieceRead(KEY, 1, b"0123456789"))
        assert await reading == b"89"
        assert await second.read(0, 3) == b"567"  # kept
        assert session.asked == [1]

    asyncio.run(main())


def test_nothing_behind_the_end_of_a_file_is_given() -> None:
    async def main() -> None:
        _, pieces, _, (first, _) = scene()
        pieces.take(PieceRead(KEY, 1, b"0123456789"))
        assert await first.read(12, 100) == b"234"

    asyncio.run(main())


def test_what_comes_wrong_or_not_at_all_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playable, "AGAIN_S", 0.01)

    async def main() -> None:
        _, pieces, session, (first, _) = scene()
        reading = asyncio.ensure_future(first.read(0, 5))
        while len(session.asked) < 3:
            await asyncio.sleep(0)
            pieces.take(PieceRead(KEY, 0, b""))
        pieces.take(PieceRead(KEY, 0, b"abcdefghij"))
        assert await reading == b"abcde"

    asyncio.run(main())


def test_what_is_ahead_comes_first_and_no_more_when_the_reader_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(playable, "NEAR_BYTES", 2 * PIECE)

    async def main() -> None:
        _, _, session, (first, second) = scene()
        second.reading(2, 0, 1_000)  # bytes 15 to 40: pieces 1 to 3
        assert session.ranks == {1: NEAR, 2: NEAR, 3: FAR}
        first.reading(1, 0, 10)
        assert first.last_read > 0
        assert session.ranks == {0: NEAR, 1: NEAR, 2: NEAR, 3: FAR}
        second.left(2)
        assert session.ranks == {0: NEAR, 1: FIRST, 2: FIRST, 3: FIRST}
        first.reading(1, 10, 5)
        assert session.ranks == {0: FIRST, 1: NEAR, 2: FIRST, 3: FIRST}

    asyncio.run(main())


def test_what_was_wanted_before_anything_is_fetched_is_wanted_then() -> None:
    async def main() -> None:
        pieces, session = Pieces(KEY), Session()
        pieces.want(1, range(1))
        assert await pieces.read(0) == b""
        pieces.begin(session, PIECE)  # type: ignore[arg-type]
        assert session.ranks == {0: NEAR}

    asyncio.run(main())


def test_one_piece_past_the_bound_is_not_wanted_ahead() -> None:
    async def main() -> None:
        _, pieces, session, _ = scene()
        pieces.want(1, range(AHEAD_PIECES_MAX + 1))
        assert list(session.ranks) == list(range(AHEAD_PIECES_MAX))

    asyncio.run(main())


def test_pieces_that_were_read_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playable, "KEPT_BYTES_MAX", 2 * PIECE)

    async def main() -> None:
        _, pieces, session, _ = scene()
        for piece in range(3):
            pieces.take(PieceRead(KEY, piece, bytes(PIECE)))
        assert await pieces.read(1) == await pieces.read(2) == bytes(PIECE)
        assert session.asked == []
        reading = asyncio.ensure_future(pieces.read(0))
        await asyncio.sleep(0)
        assert session.asked == [0]
        pieces.take(PieceRead(KEY, 0, bytes(5 * PIECE)))  # larger than all that is kept, and yet read
        assert len(await reading) == 5 * PIECE

    asyncio.run(main())


def test_what_is_played_comes_first_until_another_is() -> None:
    async def main() -> None:
        download, _, _, (first, second) = scene()
        assert await first.prefer_all()
        first.left(ALL)
        assert await second.prefer_all()
        assert download.first == {0: False, 1: True}

    asyncio.run(main())


def test_when_a_download_ends_its_readers_are_told_or_read_what_was_delivered(tmp_path: Path) -> None:
    async def main() -> None:
        download, pieces, _, (first, second) = scene()
        reading = asyncio.ensure_future(first.read(0, 5))
        await asyncio.sleep(0)
        (tmp_path / "got" / "in").mkdir(parents=True)
        (tmp_path / "got" / "a.mp3").write_bytes(b"abcdefghijklmno")
        (tmp_path / "got" / "in" / "b (2).mp3").write_bytes(b"too short")
        download.delivered = tmp_path / "got"
        pieces.end()
        assert await reading == b"abcde"
        (tmp_path / "got" / "a.mp3").write_bytes(b"ABCDEFGHIJKLMNO")
        with pytest.raises(NotFound, match="changed"):
            await first.read(0, 5)
        with pytest.raises(NotFound, match="changed"):
            await second.read(0, 5)
        (tmp_path / "got" / "a.mp3").unlink()
        with pytest.raises(NotFound, match="no longer"):
            await first.read(0, 5)

    asyncio.run(main())


def test_a_piece_too_large_to_be_held_is_not_played() -> None:
    async def main() -> None:
        download, pieces, _, _ = scene()
        files = (TorrentFile(0, (), 1),)
        layout = Layout(False, {0: ()}, (0,), (), 1)
        executor = ThreadPoolExecutor(1)
        source = Source(b"", "film", files, False, 1, b"1" * 20, b"", (), PIECE_BYTES_MAX)
        assert len(files_of(download, pieces, executor, source, layout, "film")) == 1
        source = Source(b"", "film", files, False, 1, b"1" * 20, b"", (), PIECE_BYTES_MAX + 1)
        with pytest.raises(LimitExceeded, match="it goes on arriving"):
            files_of(download, pieces, executor, source, layout, "film")

    asyncio.run(main())


def test_an_error_of_the_download_is_that_of_its_readers() -> None:
    async def main() -> None:
        download, _, _, (first, _) = scene()
        download.result.set_exception(TransportError("nobody was found"))
        with pytest.raises(TransportError, match="nobody"):
            await first.read(0, 1)

    asyncio.run(main())
