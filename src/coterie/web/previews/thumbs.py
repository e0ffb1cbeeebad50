"""Small pictures of files at places: drawn once, kept in the home by content, bounded."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from coterie.errors import CoterieError
from coterie.web.previews.decoding import Decoder, Parts, can_draw, is_jpeg
from coterie.web.previews.kinds import HEAD_BYTES, Kind, kind_of
from coterie.web.previews.sources import Opener, Source, opened

EDGES = {"small": 256, "large": 1_280}  # pixels; large: a first page, or what a browser itself cannot show
SMALLER_BYTES_MAX = (
    20_000_000  # of a picture or PDF that is fetched for its small picture, unless the settings say so
)
FILM_BEGIN_BYTES = 4 << 20  # ten seconds at 3 Mbit/s
FILM_END_BYTES = 2 << 20  # where MP4 often keeps what is where; two hours of film take 2 MB
PREPARED_MAX = 4  # files at once, each in memory
READ_BYTES = 1 << 20
WAIT_S = 30.0  # for one, of somebody who is slow; guess
KEPT_BYTES_MAX = 64 << 20  # on disk; 5,000 small ones
FAILED_S = 86_400.0  # what could not be drawn is tried again after a day

log = logging.getLogger(__name__)


class Thumbnails:
    """Belongs to the event loop."""

    def __init__(
        self,
        decoder: Decoder,
        kept: "Kept",
        bytes_max: Callable[[], int] = lambda: SMALLER_BYTES_MAX,
    ) -> None:
        """`bytes_max`: of a picture or PDF that is read whole; 0: nothing is drawn at all."""
        self._decoder = decoder
        self._kept = kept
        self._bytes_max = bytes_max
        self._turns = asyncio.Semaphore(PREPARED_MAX)

    async def draw(self, source: Opener, edge: int) -> bytes | None:
        """A JPEG of at most `edge` pixels each way; None: there is none of this file, or not now."""
        try:
            async with self._turns, asyncio.timeout(WAIT_S), opened(source) as file:
                return await self._drawn(file, edge)
        except (CoterieError, OSError, TimeoutError) as error:
            log.debug("no small picture: %s", error)
            return None

    async def _drawn(self, file: Source, edge: int) -> bytes | None:
        if not self._bytes_max() or not file.size:
            return None
        name = _name(file, edge)
        if (known := await asyncio.to_thread(self._kept.read, name)) is not None:
            return known or None
        head = await file.read(0, HEAD_BYTES)
        kind = kind_of(head)
        if not can_draw(kind) or (parts := await self._parts(file, kind)) is None:
            return None
        made = await self._decoder.draw(kind, parts, edge)
        await asyncio.to_thread(self._kept.write, name, made or b"")
        return made

    async def _parts(self, file: Source, kind: Kind) -> Parts | None:
        """What is read of a file; None: it is too large for that."""
        if kind.sort != "film":
            if file.size > self._bytes_max():
                return None
            return Parts(file.size, await _read(file, 0, file.size))
        begin = await _read(file, 0, min(FILM_BEGIN_BYTES, file.size))
        rest = min(file.size - len(begin), FILM_END_BYTES) if kind.media == "video/mp4" else 0
        return Parts(file.size, begin, await _read(file, file.size - rest, rest))


async def _read(file: Source, offset: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        more = await file.read(offset + len(parts), min(READ_BYTES, size - len(parts)))
        if not more:
            break
        parts += more
    return bytes(parts)


def _name(file: Any, edge: int) -> str:
    """By content; of a file of this computer by what says that it was changed."""
    content = getattr(file, "content_id", b"").hex() or f"{file.name}/{file.tag}"
    return blake3(f"{edge}/{content}".encode("utf-8", "surrogateescape")).hexdigest(16)


class Kept:
    """Pictures on disk, KEPT_BYTES_MAX of them: those that were not seen for the longest time go. For any thread."""

    def __init__(
        self, folder: Path, bytes_max: int = KEPT_BYTES_MAX, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock`: seconds since 1970."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._clock = clock

    def read(self, name: str) -> bytes | None:
        """b"": it cannot be drawn; None: nothing is known of it."""
        path, now = self._folder / name, self._clock()
        try:
            made = path.read_bytes()
            if not made:
                return made if now - path.stat().st_mtime < FAILED_S else None
            os.utime(path, (now, now))
        except OSError:
            return None
        return made if is_jpeg(made) else None

    def write(self, name: str, made: bytes) -> None:
        """Keep one, and forget others for it. A disk that cannot is no reason to show none."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(made))
            path = self._folder / name
            new = path.with_suffix(".new")
            new.write_bytes(made)
            now = self._clock()
            os.utime(new, (now, now))
            new.replace(path)

    def _make_room(self, size: int) -> None:
        """Counted anew each time: two pages may write, and a scan of 5,000 names takes 10 ms."""
        with os.scandir(self._folder) as entries:
            states = [(entry.path, entry.stat()) for entry in entries]
        used = sum(max(state.st_size, _BLOCK_BYTES) for _, state in states) + size
        for path, state in sorted(states, key=lambda one: one[1].st_mtime):
            if used <= self._bytes_max:
                return
            os.unlink(path)
            used -= max(state.st_size, _BLOCK_BYTES)


_BLOCK_BYTES = 4096  # what a file takes on disk at least
