"""Fetching what was offered and accepted: one item after the other, each under a name that is free in its folder."""

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from coterie.apps.files.api import Content, Gifts
from coterie.apps.send.core import size_of
from coterie.apps.send.events import Broke, Fetching, ItemHere, Placed
from coterie.apps.send.records import InboxRecord
from coterie.content.disk_rules import name_at
from coterie.content.names import NUMBER_MAX, numbered
from coterie.errors import (
    AccessDenied,
    CoterieError,
    DiskFull,
    LimitExceeded,
    NotFound,
    PeerError,
    StorageError,
)
from coterie.identity import PeerId
from coterie.progress import Progress
from coterie.texts import tr

TELL_EVERY_S = 2.0  # how far it is, to the sender; guess


class Fetcher(Protocol):
    """What a fetch needs of the service."""

    def feed(self, event: Any) -> None: ...


async def fetch(
    got: InboxRecord, gifts: Gifts, feed: Callable[[Any], None], taken: Callable[[], Collection[str]]
) -> None:
    """Fetch what `got` offers and feed the core with how that goes; `taken`: paths that others are being fetched to."""
    done = 0
    try:
        for number, (item, key) in enumerate(zip(got.items, got.keys, strict=True)):
            if not item.is_here:
                if not item.path:
                    path = await asyncio.to_thread(
                        free_place, Path(got.folder), item.name, got.offer, taken()
                    )
                    feed(Placed(got.id, number, str(path), f"{got.offer.hex()[:10]}{number:x}"))
                content = Content(
                    item.name, item.path, item.kind, item.files, item.size, key.root, key.secret
                )
                progress = _Progress(got, feed, done)
                received = await gifts.fetch(
                    content,
                    PeerId.parse(got.sender),
                    got.addresses,
                    transfer_id=item.transfer,
                    progress=progress.hear,
                )
                if received.missing:
                    raise _Incomplete(received.missing)
                feed(ItemHere(got.id, number, received.path))
            done += item.size
    except (CoterieError, OSError) as error:
        feed(Broke(got.id, reason_of(error)))


class _Incomplete(NotFound):
    """The sender has changed, or has no more, `missing` of the files that it offered."""

    def __init__(self, missing: int) -> None:
        super().__init__(tr("{missing} of its files are changed or gone at the sender", missing=missing))
        self.missing = missing


class _Progress:
    def __init__(self, got: InboxRecord, feed: Callable[[Any], None], before: int) -> None:
        self._got = got
        self._feed = feed
        self._before = before
        self._size = size_of(got.items)
        self._next = 0.0

    def hear(self, step: Progress) -> None:
        """Tell the core, not too often."""
        now = asyncio.get_running_loop().time()
        if step.unit != "bytes" or now < self._next or not self._size:
            return
        self._next = now + TELL_EVERY_S
        self._feed(Fetching(self._got.id, min(99, 100 * (self._before + step.done) // self._size)))


def free_place(folder: Path, name: str, offer: bytes, taken: Collection[str]) -> Path:
    """Where in `folder` what is called `name` goes: beside all that is there, or is to be there. Blocking.

    Not with a dot in front: what is hidden in a home folder configures programs.

    Raises:
        StorageError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            tr("the folder {folder} cannot be made: {strerror}", folder=folder, strerror=error.strerror)
        ) from error
    called = name_at(folder, name.lstrip(".") or f"coterie-{offer.hex()[:12]}")
    for number in range(1, NUMBER_MAX):
        path = folder / (called if number == 1 else numbered(called, number))
        if not os.path.lexists(path) and str(path) not in taken:
            return path
    raise StorageError(tr("{folder} has too many files called {called}", folder=folder, called=called))


def reason_of(error: Exception) -> str:
    """Why it failed, in words for both sides: no path of this computer is in them."""
    match error:
        case DiskFull() | OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return "the disk of the receiver is full"
        case OSError() | StorageError():
            return "the receiver could not write it"
        case _Incomplete():
            return f"{error.missing} of its files are changed or gone at the sender"
        case NotFound() | AccessDenied():
            return "the sender does not give it any more"
        case LimitExceeded():
            return "the receiver has too many transfers"
        case PeerError():
            return "what came is not what was offered"
    return "the receiver stopped it"


def free_bytes(folder: Path) -> int:
    """Of the disk that `folder` is on, or will be."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return 0
