"""What others say is merged, whatever becomes of the stream on which it came."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from coterie.apps.folders.messages import Changes, Hello, Seen
from coterie.apps.folders.telling import Telling
from coterie.errors import PeerError, StorageError
from coterie.identity import PeerId
from coterie.tasks import Tasks

FOLDER, OWN, THEIRS = b"f" * 16, b"o" * 16, b"t" * 16
PEER = PeerId(bytes(range(32)))


class Book:
    """A book whose merges wait until they may go on, in their thread."""

    seq = 0
    is_full = False
    is_durable = False

    def __init__(self) -> None:
        self.data = self
        self.merged: list[str] = []
        self.may_go_on = threading.Event()
        self.began = threading.Event()

    def replicas(self) -> list[tuple[bytes, bytes, int, int]]:
        return []

    def save_known(self, replica: bytes, peer: bytes, known: int) -> None:
        self.known = known

    def save_seen(self, replica: bytes, peer: bytes, seen: int) -> None:
        pass

    def sync(self) -> None:
        self.is_durable = bool(self.merged)
        if self.is_full:
            raise StorageError("the disk is full")

    def batch(self, replica: bytes, first: int) -> tuple[int, list[tuple[str, bytes]]]:
        if self.is_full:
            raise StorageError("the disk is full")
        return first, []

    def merge(self, replica: bytes, entries: Sequence[tuple[str, bytes]]) -> list[str]:
        self.began.set()
        assert self.may_go_on.wait(10)
        if any(path == "bad" for path, _ in entries):
            raise PeerError("a path that cannot be")
        self.merged += [path for path, _ in entries]
        return []


class Links:
    def __init__(self, book: Book) -> None:
        self.book = book
        self.sent: list[tuple[Any, bool]] = []
        self.anew = asyncio.Event()

    def send(self, peer: PeerId, message: Any) -> None:
        self.sent.append((message, self.book.is_durable))

    def begin_anew(self, peer: PeerId) -> None:
        self.anew.set()


def changes(first: int, *paths: str) -> Changes:
    return Changes(
        FOLDER, THEIRS, first, first + len(paths), [(path, b"x") for path in paths], first + len(paths)
    )


async def began(book: Book, tasks: Tasks, links: Links | None = None) -> Telling:
    telling = Telling(
        FOLDER,
        OWN,
        book,
        links or Links(book),  # type: ignore[arg-type]
        tasks,
        may=lambda peer: True,
        merged=lambda *_: None,
    )
    await telling.hear(PEER, Hello(FOLDER, THEIRS, 3, OWN, 0, is_answer=True))
    return telling


def test_a_merge_under_way_when_its_stream_breaks_is_done_and_others_follow() -> None:
    async def story() -> None:
        book, tasks = Book(), Tasks()
        telling = await began(book, tasks)
        hearing = asyncio.ensure_future(telling.hear(PEER, changes(0, "a")))
        await asyncio.to_thread(book.began.wait, 10)
        hearing.cancel()  # the connection went; another one stands
        await asyncio.gather(hearing, return_exceptions=True)
        book.may_go_on.set()
        async with asyncio.timeout(10):
            await telling.hear(PEER, changes(1, "b", "c"))
        assert (book.merged, book.known) == (["a", "b", "c"], 3)
        await tasks.close()

    asyncio.run(story())


def test_what_cannot_be_merged_is_the_fault_of_who_sent_it_and_the_next_is_merged() -> None:
    async def story() -> None:
        book, tasks = Book(), Tasks()
        book.may_go_on.set()
        telling = await began(book, tasks)
        with pytest.raises(PeerError, match="cannot be"):
            await telling.hear(PEER, changes(0, "bad"))
        async with asyncio.timeout(10):
            await telling.hear(PEER, changes(0, "good"))
        assert book.merged == ["good"]
        await tasks.close()

    asyncio.run(story())


def test_that_something_is_here_is_said_once_a_power_cut_cannot_take_it_and_it_is_planned_in_any_case() -> (
    None
):
    async def story() -> None:
        book, tasks = Book(), Tasks()
        book.may_go_on.set()
        links = Links(book)
        telling = await began(book, tasks, links)
        await telling.hear(PEER, changes(0, "a"))
        assert [is_durable for message, is_durable in links.sent if isinstance(message, Seen)] == [True]
        book.is_full = True
        with pytest.raises(StorageError):
            await telling.hear(PEER, changes(1, "b"))
        assert book.merged == ["a", "b"]
        assert len([1 for message, _ in links.sent if isinstance(message, Seen)]) == 1
        await tasks.close()

    asyncio.run(story())


def test_where_changes_cannot_be_read_their_receiver_is_greeted_again_later() -> None:
    """Nothing else would read them again before the next change."""

    async def story() -> None:
        book, tasks = Book(), Tasks()
        links = Links(book)
        telling = await began(book, tasks, links)
        book.is_full, book.seq = True, 3
        telling.news()
        async with asyncio.timeout(10):
            await links.anew.wait()
        await tasks.close()

    asyncio.run(story())
