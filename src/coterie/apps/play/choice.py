"""Which files of a transfer are played, and that what is played comes first."""

import asyncio
import mimetypes
from collections.abc import Sequence
from concurrent.futures import Executor

from coterie.content.chosen import Chosen
from coterie.errors import NotFound
from coterie.texts import tr
from coterie.transfer.running import ALL, Readable, Running

LOOK_EVERY_S = 0.2  # for what is still to come; news of chunks end the wait at once
MEDIA = ("video", "audio")
PLAYED_MAX = 1000  # files of one playing; guess: a long series, a large album


async def choose(transfer: Running, pattern: str, executor: Executor) -> list[Readable]:
    """What of a transfer is played: what `pattern` names; else all media; else the only file there is.

    Waits until it is known what the transfer consists of.

    Raises:
        NotFound: nothing of the kind is in it; TransportError: it ended before that was known.
    """
    transfer.hold(is_on=True)
    try:
        played = _chosen(await transfer.readable(executor), pattern)[:PLAYED_MAX]
        while not await played[0].prefer_all() and not transfer.result.done():
            await transfer.changed(LOOK_EVERY_S)
        return played
    finally:
        transfer.hold(is_on=False)


async def keep_first(transfer: Running, files: Sequence[Readable]) -> None:
    """While a download runs, what was read last of `files` comes before all else; before that, the first of them."""
    first, is_settled = files[0], False
    while not transfer.result.done():
        latest = max(files, key=lambda file: file.last_read)
        if latest is not first and latest.last_read:
            first.left(ALL)
            first, is_settled = latest, False
        is_settled = is_settled or await first.prefer_all()
        await asyncio.wait({transfer.result}, timeout=LOOK_EVERY_S)


def _chosen(files: Sequence[Readable], pattern: str) -> list[Readable]:
    if pattern:
        chosen = Chosen([pattern])
        chosen.look(file.path for file in files)
        named = [file for file in files if chosen.wants(file.path)]
        if not named:
            raise NotFound(tr("no file in it is called '{pattern}'", pattern=pattern))
        return named
    media = [f for f in files if (mimetypes.guess_type(f.name)[0] or "").startswith(MEDIA)]
    if media or len(files) == 1:
        return media or list(files)
    raise NotFound(tr("there is nothing to play in it; name a file with --file PATTERN"))
