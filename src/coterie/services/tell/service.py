"""The notices of one node: on disk, to those who follow them, and on the desktop."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec

from coterie.decoding import decoder
from coterie.errors import LimitExceeded, StorageError
from coterie.private_file import write_private
from coterie.services.tell.core import NOTICES_MAX, Board, Notice
from coterie.services.tell.desktop import Desktop
from coterie.tasks import Tasks
from coterie.texts import tr

LINES_MAX = 4 * NOTICES_MAX  # of the file; then it is written anew with what is kept
FILE_BYTES_MAX = 8 * 1024 * 1024  # of notices as long as they may be, far more than LINES_MAX
FOLLOWERS_MAX = 32
FOLLOWED_MAX = 100  # notices that wait for one who follows; the oldest leaves

log = logging.getLogger(__name__)


class Notices:
    """Every app's notices. Nothing is read from disk before somebody asks or tells."""

    def __init__(
        self,
        path: Path,
        tasks: Tasks,
        *,
        desktop: Desktop | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`path`: a file of JSON lines. `desktop`: where the owner sees notices at once. `clock`: s since 1970."""
        self._path = path
        self._tasks = tasks
        self._desktop = desktop
        self._clock = clock
        self._lines = 0
        self._board_: Board | None = None
        self._queues: dict[int, asyncio.Queue[Notice]] = {}
        self._serial = 0

    def tell(self, app: str, text: str, key: str = "") -> Notice:
        """Keep a notice of `app`. It never fails: where the disk is full, it is kept until the node ends."""
        told = self._board.tell(app, text, key, self._clock())
        if told.is_to_write:
            self._append(told.notice)
        for queue in self._queues.values():
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(told.notice)
        if told.is_news and self._desktop is not None and self._desktop.is_there():
            with contextlib.suppress(RuntimeError):  # no loop runs: nobody is shown anything
                asyncio.get_running_loop()
                self._tasks.start(self._desktop.show(app, told.notice.said), "desktop notice")
        return told.notice

    def all(self) -> list[Notice]:
        """What is kept, the one told last at the end."""
        return list(self._board)

    def clear(self, app: str | None = None, key: str | None = None) -> int:
        """Forget all, those of `app`, or the one of `app` and `key`; how many. Raises `StorageError`."""
        count = self._board.remove(app, key)
        if count:
            self._rewrite()
        return count

    async def follow(self) -> AsyncGenerator[Notice, None]:
        """What is kept, then what is told from now on, until the caller closes it.

        Raises:
            LimitExceeded: FOLLOWERS_MAX follow already.
        """
        if len(self._queues) >= FOLLOWERS_MAX:
            raise LimitExceeded(
                tr(
                    "{followers_max} programs follow the notices already: end one of them",
                    followers_max=FOLLOWERS_MAX,
                )
            )
        self._serial += 1
        mine, queue = self._serial, asyncio.Queue[Notice](FOLLOWED_MAX)
        self._queues[mine] = queue
        try:
            for notice in self.all():
                yield notice
            while True:
                yield await queue.get()
        finally:
            del self._queues[mine]

    def status(self) -> dict[str, Any]:
        """For `coterie status`: how many are kept; nothing when none was ever told here."""
        return {"kept": len(self._board)} if self._board_ is not None or self._path.exists() else {}

    @property
    def _board(self) -> Board:
        if self._board_ is None:
            self._board_ = Board(self._load())
        return self._board_

    def _load(self) -> list[Notice]:
        try:
            with self._path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX)
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s cannot be read: %s", self._path, error.strerror)
            return []
        kept: dict[int, Notice] = {}
        lines = content.splitlines()
        if not content.endswith(b"\n"):  # a crash while the last line was written
            self._lines = LINES_MAX  # the next notice replaces the file
        for number, line in enumerate(lines, 1):
            try:
                notice = read_notice(line)
            except StorageError as error:
                log.warning("%s, line %d: %s", self._path, number, error)
                self._lines = LINES_MAX
                continue
            kept.pop(notice.id, None)
            kept[notice.id] = notice
        self._lines += len(lines)
        return list(kept.values())

    def _append(self, notice: Notice) -> None:
        try:
            if self._lines >= LINES_MAX:
                self._rewrite()
                return
            with open(self._path, "ab", opener=_private) as file:
                file.write(msgspec.json.encode(notice) + b"\n")
            self._lines += 1
        except (OSError, StorageError) as error:
            log.warning("a notice is not on disk: %s cannot be written: %s", self._path, error)

    def _rewrite(self) -> None:
        kept = self.all()
        write_private(self._path, b"".join(msgspec.json.encode(notice) + b"\n" for notice in kept))
        self._lines = len(kept)


class Tell:
    """What one app gets: notices under its own name."""

    def __init__(self, notices: Notices, app: str) -> None:
        self._notices = notices
        self._app = app

    def say(self, text: str, *, key: str = "") -> None:
        """Tell the owner something, in one sentence. Never fails.

        Args:
            text: for people; TEXT_CHARS_MAX characters are kept.
            key: what it is about. The same key again replaces the notice and counts; none means the text itself.
        """
        self._notices.tell(self._app, text, key)

    def withdraw(self, key: str) -> None:
        """Take a notice back: what it said holds no longer. Raises `StorageError`."""
        self._notices.clear(self._app, key)

    def all(self) -> list[Notice]:
        """This app's own, the one told last at the end."""
        return [notice for notice in self._notices.all() if notice.app == self._app]


@decoder(StorageError, "a notice")
def read_notice(line: bytes) -> Notice:
    """One line of the file."""
    return msgspec.json.decode(line, type=Notice)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
