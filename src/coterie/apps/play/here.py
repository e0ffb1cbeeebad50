"""What is here already, played like what is arriving: `running.Running` over files of the disk."""

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from coterie.errors import NotFound, StorageError
from coterie.progress import Progress
from coterie.texts import tr
from coterie.transfer.results import Received, TransferChange, TransferLine

FILES_MAX = 100_000  # that are looked through for something to play; guess: a large collection


class FileHere:
    """See `running.Readable`. Reads through `executor`; nothing of it is still to come."""

    last_read = 0.0

    def __init__(self, place: Path, path: str, state: os.stat_result, executor: Executor) -> None:
        """`path`: the one within the transfer."""
        self.name = place.name
        self.path = path
        self.size = state.st_size
        self.tag = f"{state.st_mtime_ns:x}{state.st_size:x}"
        self._place = place
        self._executor = executor

    async def read(self, offset: int, size: int) -> bytes:
        """See `running.Readable`."""
        data = await asyncio.get_running_loop().run_in_executor(self._executor, self._read, offset, size)
        if not data:
            raise StorageError(tr("{place} is shorter than it was", place=self._place))
        return data

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with self._place.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise StorageError(
                tr("cannot read {place}: {strerror}", place=self._place, strerror=error.strerror)
            ) from error

    def reading(self, reader: int, offset: int, ahead_bytes: int) -> None:
        """Nothing has to come first."""

    def left(self, reader: int) -> None:
        """Nothing had to."""

    async def prefer_all(self) -> bool:
        """It is all here."""
        return True


class Here:
    """See `running.Running`: a transfer that is over."""

    def __init__(self, line: TransferLine) -> None:
        """`line`: what the list of transfers says of it."""
        self.id = line.id
        self.target = line.path
        self._size = line.size
        self.result: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self.result.set_result(Received(line.id, line.path, 0, line.size, 0, 0.0))

    def listen(self, listener: Callable[[Progress], None]) -> None:
        """There is no progress any more."""

    def change(self, did: str) -> TransferChange:
        return TransferChange(self.id, did, self._size, self._size, self.target)

    async def stop(self, note: str = "paused") -> None:
        """It runs no more."""

    def hold(self, *, is_on: bool) -> None:
        """Nothing is fetched."""

    async def changed(self, most_s: float) -> None:
        """Nothing changes."""

    async def readable(self, executor: Executor) -> Sequence[FileHere]:
        """Its files, by their paths. Raises `NotFound` where none is left."""
        found = await asyncio.get_running_loop().run_in_executor(executor, self._look, executor)
        if not found:
            raise NotFound(
                tr("what came to {target} is not there any more: get it again", target=self.target)
            )
        return found

    def _look(self, executor: Executor) -> list[FileHere]:
        top = Path(self.target)
        if not top.is_dir():
            return _files(top, [top], executor)
        found: list[FileHere] = []
        for folder, folders, names in os.walk(top):
            folders.sort()
            found += _files(top, [Path(folder, name) for name in sorted(names)], executor)
            if len(found) >= FILES_MAX:
                break
        return found[:FILES_MAX]


def _files(top: Path, places: Sequence[Path], executor: Executor) -> list[FileHere]:
    """Those of `places` that are files; links lead elsewhere and are none."""
    found = []
    for place in places:
        try:
            state = place.lstat()
        except OSError:
            continue
        if stat.S_ISREG(state.st_mode):
            within = str(place.relative_to(top)) if place != top else place.name
            found.append(FileHere(place, within, state, executor))
    return found
