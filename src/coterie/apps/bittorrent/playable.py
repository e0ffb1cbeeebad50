"""A file of a torrent, read anywhere while it arrives: what is read, and what comes next, is fetched first."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from coterie.content import no_links
from coterie.content.bittorrent.layout import Layout
from coterie.content.bittorrent.read import Source
from coterie.content.bittorrent.session import FAR, FIRST, NEAR, BitTorrentSession, PieceRead
from coterie.errors import LimitExceeded, NotFound, TransportError
from coterie.quantity import say_bytes
from coterie.texts import tr
from coterie.transfer.results import Received
from coterie.transfer.running import ALL

KEPT_BYTES_MAX = (
    32 << 20
)  # of pieces that were read, for the next reads; the last one is kept whatever it has
PIECE_BYTES_MAX = 32 << 20  # a read holds a whole one; guess: twice the largest in use
AHEAD_PIECES_MAX = 256  # asked for first, for one reader; guess: 4 MB of the smallest
NEAR_BYTES = (
    1 << 20
)  # of what is ahead, that come before the rest of it; guess: a quarter of a second at 4 MB/s
AGAIN_S = 2.0  # until a piece is asked for again; guess: it may have come wrong
LOOK_EVERY_S = 0.2  # while nothing is fetched yet


class Download(Protocol):
    """The side of a torrent's download that is needed here."""

    @property
    def delivered(self) -> Path | None:
        """Its final path, once all of it is there."""
        ...

    @property
    def result(self) -> "asyncio.Future[Received]": ...

    def prefer(self, file: int, *, is_first: bool) -> None:
        """Fetch a file, by its number, before the others, or as them."""
        ...


class Pieces:
    """The pieces of one torrent, for those who read them. Belongs to the event loop."""

    def __init__(self, key: str) -> None:
        """`key`: what the session knows the torrent by."""
        self._key = key
        self._session: BitTorrentSession | None = None
        self._near = 1  # pieces
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._awaited: dict[int, list[asyncio.Future[bytes]]] = {}
        self._ahead: dict[int, range] = {}  # by reader
        self._ranks: dict[int, int] = {}

    def begin(self, session: BitTorrentSession, piece_bytes: int) -> None:
        """From now on the session fetches them."""
        self._session, self._near = session, max(1, NEAR_BYTES // piece_bytes)
        self._rank()

    def end(self) -> None:
        """The session has them no more."""
        self._session = None
        self._ranks = {}
        for waiting in self._awaited.values():
            for future in waiting:
                if not future.done():
                    future.set_result(b"")

    def take(self, event: PieceRead) -> None:
        """One that was asked for."""
        if event.data:
            self._kept[event.piece] = event.data
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > KEPT_BYTES_MAX:
                self._kept.popitem(last=False)
        for future in self._awaited.get(event.piece, ()):
            if event.data and not future.done():
                future.set_result(event.data)

    async def read(self, piece: int) -> bytes:
        """A piece, as soon as it is here; empty: not within AGAIN_S, or none is fetched now."""
        if (kept := self._kept.get(piece)) is not None:
            self._kept.move_to_end(piece)
            return kept
        if self._session is None:
            await asyncio.sleep(LOOK_EVERY_S)
            return b""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(piece, []).append(future)
        self._rank()
        self._session.read(self._key, piece)
        try:
            async with asyncio.timeout(AGAIN_S):
                return await future
        except TimeoutError:
            return b""
        finally:
            self._awaited[piece].remove(future)
            if not self._awaited[piece]:
                del self._awaited[piece]

    def want(self, reader: int, pieces: range) -> None:
        """What `reader` reads next, the first AHEAD_PIECES_MAX of it; replaces what it wanted before."""
        self._ahead[reader] = pieces[:AHEAD_PIECES_MAX]
        self._rank()

    def left(self, reader: int) -> None:
        """`reader` reads no more."""
        self._ahead.pop(reader, None)
        self._rank()

    def _rank(self) -> None:
        """Have the session fetch first what is awaited, and what comes next for each reader."""
        if self._session is None:
            return
        ranks = dict.fromkeys(self._awaited, NEAR)
        for ahead in self._ahead.values():
            for step, piece in enumerate(ahead):
                ranks[piece] = max(ranks.get(piece, 0), NEAR if step < self._near else FAR)
        for piece in self._ranks.keys() - ranks.keys():
            self._session.rank(self._key, piece, FIRST)
        for piece, rank in ranks.items():
            if self._ranks.get(piece) != rank:
                self._session.rank(self._key, piece, rank)
        self._ranks = ranks


class ArrivingFile:
    """See `running.Readable`."""

    def __init__(
        self,
        download: Download,
        pieces: Pieces,
        executor: Executor,
        *,
        source: Source,
        index: int,
        place: Sequence[str],
        name: str,
    ) -> None:
        """The file with this number; `place`: its path below the target; `name`: that of a torrent of one file."""
        self.name = place[-1] if place else name
        self.path = "/".join(place) or name
        self.size = source.files[index].size
        self.tag = f"{(source.v2 or source.v1).hex()[:32]}{index:x}"
        self.last_read = 0.0
        self._download = download
        self._pieces = pieces
        self._executor = executor
        self._index = index
        self._place = tuple(place)
        self._start = sum(file.size for file in source.files[:index])
        self._piece_bytes = source.piece_bytes
        self._seen: tuple[int, int, int] | None = None  # size, time and inode of the delivered file

    async def read(self, offset: int, size: int) -> bytes:
        """See `running.Readable`: as soon as the piece with `offset` is here."""
        while True:
            if (top := self._download.delivered) is not None:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor, self._read_delivered, top, offset, size)
            result = self._download.result
            if result.done():
                error = None if result.cancelled() else result.exception()
                raise error or TransportError(tr("{name} does not arrive any more", name=self.name))
            piece, within = divmod(self._start + offset, self._piece_bytes)
            data = await self._pieces.read(piece)
            if len(data) > within:
                return data[within : within + min(size, self.size - offset)]

    def reading(self, reader: int, offset: int, ahead_bytes: int) -> None:
        """See `running.Readable`."""
        self.last_read = asyncio.get_running_loop().time()
        end = min(self.size, offset + ahead_bytes)
        first = (self._start + offset) // self._piece_bytes
        self._pieces.want(reader, range(first, -(-(self._start + end) // self._piece_bytes)))

    def left(self, reader: int) -> None:
        """See `running.Readable`."""
        if reader == ALL:
            self._download.prefer(self._index, is_first=False)
        else:
            self._pieces.left(reader)

    async def prefer_all(self) -> bool:
        """See `running.Readable`."""
        self._download.prefer(self._index, is_first=True)
        return True

    def _read_delivered(self, top: Path, offset: int, size: int) -> bytes:
        path = top.joinpath(*self._place)
        try:
            fd = no_links.open_file(Path(os.path.realpath(top.parent), top.name, *self._place))
        except OSError as error:
            raise NotFound(
                tr(
                    "{path} is no longer where it was received ({strerror})",
                    path=path,
                    strerror=error.strerror,
                )
            ) from error
        try:
            status = os.fstat(fd)
            seen = (status.st_size, status.st_mtime_ns, status.st_ino)
            self._seen = self._seen or seen
            data = os.pread(fd, min(size, self.size - offset), offset)
        except OSError as error:
            raise NotFound(
                tr("{path} cannot be read: {strerror}", path=path, strerror=error.strerror)
            ) from error
        finally:
            os.close(fd)
        if self._seen != seen or status.st_size != self.size or not data:
            raise NotFound(tr("{path} was changed after it was received", path=path))
        return data


def files_of(
    download: Download, pieces: Pieces, executor: Executor, source: Source, layout: Layout, name: str
) -> list[ArrivingFile]:
    """Every file of a torrent that is fetched; `name`: what the torrent is called here.

    Raises:
        LimitExceeded: its pieces are larger than PIECE_BYTES_MAX.
    """
    if source.piece_bytes > PIECE_BYTES_MAX:
        raise LimitExceeded(
            tr(
                "'{name}' cannot be played while it arrives: its pieces have {piece_bytes} each, over "
                "{piece_bytes_max}; it goes on arriving, play it then",
                name=name,
                piece_bytes=say_bytes(source.piece_bytes),
                piece_bytes_max=say_bytes(PIECE_BYTES_MAX),
            )
        )
    return [
        ArrivingFile(
            download, pieces, executor, source=source, index=index, place=layout.places[index], name=name
        )
        for index in layout.wanted
    ]
