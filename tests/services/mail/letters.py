"""An app of mail alone, for tests: keeps every letter in a table, in order."""

import sqlite3
from collections.abc import Callable
from typing import Any

from coterie.apps.app import App
from coterie.apps.context import Context
from coterie.identity import PeerId
from coterie.services.mail.box import Mail
from coterie.services.mail.events import Ended

CREATE = "CREATE TABLE IF NOT EXISTS got (place INTEGER PRIMARY KEY, sender BLOB, stream TEXT, body BLOB)"


class Letters:
    """`refuses` fails the handler while it says so; `is_taking` False: takes no letters."""

    def __init__(self, context: Context, *, is_taking: bool = True) -> None:
        self.context = context
        self.ended: list[Ended] = []
        self.refuses: Callable[[Mail], bool] = lambda mail: False
        self._is_taking = is_taking

    async def start(self) -> None:
        self.context.mail.watch(self.ended.append)
        if self._is_taking:
            self.context.mail.receive(self.take)

    async def close(self) -> None:
        """Everything is on disk."""

    def take(self, mail: Mail, db: sqlite3.Connection) -> None:
        db.execute(CREATE)
        row = (bytes(mail.sender), mail.stream, mail.body)
        db.execute("INSERT INTO got (sender, stream, body) VALUES (?, ?, ?)", row)
        if self.refuses(mail):
            raise ValueError("not now")

    async def send(self, to: PeerId, body: str, **options: Any) -> bytes:
        return await self.context.mail.send(to, body.encode(), **options)

    async def got(self) -> list[str]:
        """Bodies in the order in which they came."""

        def read(db: sqlite3.Connection) -> list[str]:
            db.execute(CREATE)
            return [row[0].decode() for row in db.execute("SELECT body FROM got ORDER BY place")]

        return await self.context.mail.records(read)


def letters(name: str = "letters", **options: Any) -> App:
    return App(
        name=name,
        summary="letters",
        create=lambda c: Letters(c, **options),
        commands="tests.services.mail.letters",
    )


COMMANDS: list[Any] = []
