"""Letters between those who print and those who have the printers: each is handled, also after a crash in between."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from coterie.apps.context import Context
from coterie.apps.printers.messages import PROTOCOL
from coterie.errors import CoterieError, PeerError
from coterie.identity import PeerId
from coterie.wire.frames import Message

if TYPE_CHECKING:
    import sqlite3

    from coterie.services.mail.box import Mail

STREAM = "printing"  # all in one order: what is to become of a job comes behind the job
TURN_MAX = 100  # letters that are read from the disk at once

log = logging.getLogger(__name__)
Hear = Callable[[PeerId, Message], None]


class Letters:
    """Takes all letters of the app's mail. Made inside the node's event loop."""

    def __init__(self, context: Context, hear: Hear) -> None:
        """`hear(sender, message)` must bear the same message twice; what it has done is on disk when it returns."""
        self._context = context
        self._mail = context.mail
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._come = asyncio.Event()
        self._come.set()  # some of before the start may lie there
        self._mail.receive(self._take)
        context.jobs.keep(self._handle, "letters about printing")

    async def send(self, to: PeerId, message: Message, *, lasts_s: float) -> None:
        """Kept on disk when this returns. To this very computer: heard at once. Errors as `MailBox.send`."""
        if to == self._context.me.peer_id:
            self._hear(to, message)
            return
        await self._mail.send(to, PROTOCOL.letter_of(message), stream=STREAM, lasts_s=lasts_s)

    def _take(self, mail: "Mail", db: "sqlite3.Connection") -> None:
        """In a thread of the mail."""
        db.execute("CREATE TABLE IF NOT EXISTS letters (number INTEGER PRIMARY KEY, sender BLOB, body BLOB)")
        db.execute("INSERT INTO letters (sender, body) VALUES (?, ?)", (bytes(mail.sender), mail.body))
        self._loop.call_soon_threadsafe(self._come.set)

    async def _handle(self) -> None:
        while True:
            await self._come.wait()
            self._come.clear()
            while found := await self._mail.records(_oldest):
                for number, sender, body in found:
                    self._one(PeerId(sender), body)
                    await self._mail.records(partial(_forget, number))

    def _one(self, sender: PeerId, body: bytes) -> None:
        try:
            message = PROTOCOL.message_in(body)
            if isinstance(message, Message):
                self._hear(sender, message)
        except PeerError as error:
            log.info("%s sent %s", sender.short, error)
        except CoterieError as error:
            log.warning("a letter of %s is left out: %s", sender.short, error)


def _forget(number: int, db: "sqlite3.Connection") -> None:
    db.execute("DELETE FROM letters WHERE number = ?", (number,))


def _oldest(db: "sqlite3.Connection") -> list[tuple[int, bytes, bytes]]:
    db.execute("CREATE TABLE IF NOT EXISTS letters (number INTEGER PRIMARY KEY, sender BLOB, body BLOB)")
    return db.execute(
        "SELECT number, sender, body FROM letters ORDER BY number LIMIT ?", (TURN_MAX,)
    ).fetchall()
