"""What a preview is read from: a file of this computer, or what stands at a place of somebody else."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from coterie.content.no_links import open_file
from coterie.errors import NotFound, StorageError
from coterie.texts import tr


class Source(Protocol):
    """A file that is read anywhere: `coterie.apps.files.api.OpenFile` is one."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def tag(self) -> str:
        """Changes with the content: letters and digits."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer at the end of the file only. Raises `CoterieError`."""
        ...

    async def close(self) -> None:
        """Nothing is read of it any more."""
        ...


Opener = Callable[[], Awaitable[Source]]


@asynccontextmanager
async def opened(open_source: Opener) -> AsyncIterator[Source]:
    """What `open_source` opens, closed at the end. Raises what opening raises."""
    source = await open_source()
    try:
        yield source
    finally:
        await source.close()


class FileHere:
    """A file of this computer."""

    def __init__(self, path: Path) -> None:
        """Blocking.

        Raises:
            NotFound: there is no such file, or a link or something else stands in its place.
        """
        try:
            self._fd = open_file(os.path.realpath(path.parent) + os.sep + path.name)
        except OSError as error:
            raise NotFound(
                tr("{path} cannot be shown: {strerror}", path=path, strerror=error.strerror)
            ) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise NotFound(tr("{path} is no file", path=path))
        self.name, self.size = path.name, status.st_size
        self.tag = f"{status.st_mtime_ns:x}g{status.st_size:x}g{status.st_ino:x}"
        self._reading = asyncio.Lock()

    async def read(self, offset: int, size: int) -> bytes:
        """See `Source`."""
        async with self._reading:
            return await asyncio.to_thread(self._read, offset, size)

    def _read(self, offset: int, size: int) -> bytes:
        try:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, size)
        except OSError as error:
            raise StorageError(
                tr("{path} cannot be read: {strerror}", path=self.name, strerror=error.strerror)
            ) from error

    async def close(self) -> None:
        """See `Source`."""
        async with self._reading:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


def file_here(path: Path) -> Opener:
    """Opens a file of this computer."""

    async def open_it() -> Source:
        return await asyncio.to_thread(FileHere, path)

    return open_it
