"""One app's mail, running: nothing is sent or told that is not on disk, and what is told is there."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from coterie.errors import StorageError
from coterie.identity import PeerId, SecretKey
from coterie.services.mail.box import WAITING_MAX, Mail, MailBox
from coterie.services.mail.events import Arrived
from coterie.services.mail.messages import Envelope, Letter, Outcome, Receipt
from coterie.services.mail.sealing import Seals
from coterie.tasks import Tasks
from coterie.wire.frames import Message
from tests.support import run

ANNA, BEN = SecretKey(b"a" * 32), SecretKey(b"b" * 32)
EXPIRES = 9_000


class Carriage:
    """The room, with a look at the disk at each message: `look(message)` runs when it is to be sent."""

    def __init__(self, key: SecretKey, *reachable: PeerId) -> None:
        self.seals = Seals(key)
        self.sent: list[Message] = []
        self.look: Callable[[Message], None] = lambda message: None
        self._reachable = reachable
        self.removed: set[PeerId] = set()

    def now(self) -> float:
        return 1_000.0

    def send(self, peer: PeerId, message: Message) -> None:
        self.look(message)
        self.sent.append(message)

    def dial(self, peer: PeerId) -> None:
        """Nobody is reached."""

    def reachable(self) -> Sequence[PeerId]:
        return self._reachable

    def is_known(self, peer: PeerId) -> bool:
        return peer not in self.removed

    def is_refused(self, peer: PeerId) -> bool:
        return False

    def devices_of(self, peer: PeerId) -> Sequence[PeerId]:
        return [peer]


@contextlib.asynccontextmanager
async def running(folder: Path, carriage: Carriage) -> AsyncIterator[MailBox]:
    told: list[str] = []
    box = MailBox("app", folder / "mail.db", carriage, Tasks(), told.append)
    try:
        yield box
    finally:
        await box.close()


def on_disk(folder: Path, query: str) -> list[tuple[object, ...]]:
    """By another connection: what is committed."""
    with contextlib.closing(sqlite3.connect(folder / "mail.db")) as db:
        return db.execute(query).fetchall()


def letter(number: int) -> Arrived:
    made = Letter("app", "", False, b"e" * 8, number, 1, 0, 0, b"%d" % number)
    opened = Seals(BEN).open(Seals(ANNA).seal(made, BEN.peer_id, b"%016d" % number, EXPIRES))
    return Arrived(ANNA.peer_id, opened)


def take(mail: Mail, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS got (body BLOB)")
    db.execute("INSERT INTO got VALUES (?)", (mail.body,))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def test_a_letter_is_on_disk_before_it_is_sent_and_before_the_app_hears_yes(tmp_path: Path) -> None:
    async def check() -> None:
        carriage = Carriage(ANNA, BEN.peer_id)
        seen: list[int] = []
        carriage.look = lambda _: seen.append(len(on_disk(tmp_path, "SELECT * FROM mail_letters")))
        async with running(tmp_path, carriage) as box:
            for number in range(1, 4):
                await box.send(BEN.peer_id, b"x")
                assert len(on_disk(tmp_path, "SELECT * FROM mail_letters")) == number
            await until(lambda: len(carriage.sent) == 3)
            assert [type(m) for m in carriage.sent] == [Envelope] * 3
            assert all(count >= place for place, count in enumerate(seen, 1))

    run(check())


def test_what_the_app_wrote_is_on_disk_before_the_receipt_leaves(tmp_path: Path) -> None:
    async def check() -> None:
        carriage = Carriage(BEN)
        seen: list[tuple[int, int]] = []

        def look(message: Message) -> None:
            assert isinstance(message, Receipt)
            assert message.outcome is Outcome.TAKEN
            both = ("SELECT * FROM got", "SELECT * FROM mail_taken")
            seen.append((len(on_disk(tmp_path, both[0])), len(on_disk(tmp_path, both[1]))))

        carriage.look = look
        async with running(tmp_path, carriage) as box:
            box.receive(take)
            for number in range(1, 6):
                box.feed_other(letter(number))
            await until(lambda: len(carriage.sent) == 5)
        assert all(got >= place and taken >= place for place, (got, taken) in enumerate(seen, 1))

    run(check())


def test_on_a_full_disk_the_answer_is_no_and_nothing_is_sent(tmp_path: Path) -> None:
    async def check() -> None:
        carriage = Carriage(ANNA, BEN.peer_id)
        async with running(tmp_path, carriage) as box:
            await box.records(lambda db: db.execute("PRAGMA max_page_count = 14"))
            with pytest.raises(StorageError, match="full"):
                await box.send(BEN.peer_id, bytes(60_000))
            assert carriage.sent == []
            assert "full" in box.status()["mail"]

    run(check())


def test_letters_that_wait_for_their_turn_are_bounded(tmp_path: Path) -> None:
    async def check() -> None:
        carriage = Carriage(BEN)
        async with running(tmp_path, carriage) as box:
            box.receive(take)
            for number in range(1, WAITING_MAX + 2):
                box.feed_other(letter(number))
            await until(lambda: len(carriage.sent) >= 128)
            await box.records(lambda db: None)
            ids = {m.id for m in carriage.sent if isinstance(m, Receipt)}
            assert b"%016d" % (WAITING_MAX + 1) not in ids

    run(check())


def test_a_letter_that_waited_is_not_given_when_its_sender_was_removed_meanwhile(tmp_path: Path) -> None:
    async def play() -> None:
        carriage = Carriage(BEN)
        async with running(tmp_path, carriage) as box:
            box.receive(take)
            box.feed_other(letter(1))
            carriage.removed.add(ANNA.peer_id)  # between the door and the app
            for _ in range(100):
                await asyncio.sleep(0)
            await box.records(lambda db: None)
            assert carriage.sent == []
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                on_disk(tmp_path, "SELECT body FROM got")
            carriage.removed.clear()
            box.feed_other(letter(1))
            async with asyncio.timeout(10):
                while not carriage.sent:
                    await asyncio.sleep(0)
            assert on_disk(tmp_path, "SELECT body FROM got") == [(b"1",)]

    run(play())


def test_one_who_floods_keeps_no_letter_of_another_out(tmp_path: Path) -> None:
    async def play() -> None:
        carriage = Carriage(BEN)
        async with running(tmp_path, carriage) as box:
            box.receive(take)
            for number in range(1, 4 * WAITING_MAX):
                box.feed_other(letter(number))
            cleo = SecretKey(b"c" * 32)
            made = Letter("app", "", False, b"e" * 8, 1, 1, 0, 0, b"of cleo")
            opened = Seals(BEN).open(Seals(cleo).seal(made, BEN.peer_id, b"c" * 16, EXPIRES))
            box.feed_other(Arrived(cleo.peer_id, opened))
            async with asyncio.timeout(20):
                while not any(isinstance(m, Receipt) and m.sender == cleo.peer_id for m in carriage.sent):
                    await asyncio.sleep(0)

    run(play())
