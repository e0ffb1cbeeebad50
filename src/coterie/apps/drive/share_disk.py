"""Changes within the folder of one share. No link is followed, nothing is lost: what is replaced or removed is kept.

Everything blocks; call it in threads.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from coterie.apps.drive.unfinished import Unfinished
from coterie.content import no_links
from coterie.content.file_steps import exchange
from coterie.content.names import PARTIAL_PREFIX, is_reserved, name_fault
from coterie.content.versions import Versions
from coterie.errors import NotFound, StorageError, UsageError
from coterie.texts import tr

COPY_BYTES = 1 << 20  # at once
WHY_REPLACED, WHY_REMOVED = "replaced over a drive", "removed over a drive"

Write = Callable[[int], None]
"""Writes the content of a file to a descriptor."""


class ShareDisk:
    """What is shared from `top`. All methods raise `NotFound`, `UsageError` (it cannot be) or `StorageError`."""

    def __init__(
        self, top: Path, versions: Versions, *, source: str = "", unfinished: Unfinished | None = None
    ) -> None:
        """`source`: who changes it, for the list of what is kept. `unfinished`: notes what may be left over."""
        self._unfinished = unfinished
        self._top = Path(os.path.realpath(top.parent), top.name)
        self._versions = versions
        self._source = source

    def free_bytes(self) -> int:
        """How much room the disk has."""
        with self._errors():
            return shutil.disk_usage(self._top).free

    def begin(self, parts: Sequence[str]) -> "Coming":
        """A file that is written beside where it will lie. Close it by `finish` or `drop`."""
        self._check(parts)
        with contextlib.ExitStack() as held, self._errors():
            folder, own = held.enter_context(self._folder(parts))
            status = _status(folder / own.name)
            if status is not None and not stat.S_ISREG(status.st_mode):
                raise UsageError(tr("{name} is there already and is no file", name=own.name))
            path = folder / f"{PARTIAL_PREFIX}{os.urandom(8).hex()}"
            if self._unfinished is not None:
                held.enter_context(self._unfinished.noted(own.parent / path.name))
            held.callback(path.unlink, missing_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            held.callback(os.close, fd)
            rest = held.pop_all()
        return Coming(fd, path, rest, errors=self._errors, install=lambda: self._install(path, own))

    def put(self, parts: Sequence[str], write: Write, mtime_ns: int = 0) -> None:
        """Make a file of what `write` writes; it is there whole or not at all. What was there is kept."""
        coming = self.begin(parts)
        try:
            with self._errors():
                write(coming.fd)
            coming.finish(mtime_ns)
        finally:
            coming.drop()

    def take(self, parts: Sequence[str], source: Path, mtime_ns: int = 0) -> None:
        """As `put`, of the file `source`, which is taken away from where it is; on another disk it is copied."""
        coming = self.begin(parts)
        try:
            coming.become(source)
            coming.finish(mtime_ns)
        finally:
            coming.drop()

    def make_folder(self, parts: Sequence[str]) -> None:
        """Make a folder in one that is there."""
        self._check(parts)
        with self._errors(), self._folder(parts) as (folder, own):
            os.mkdir(folder / own.name)

    def remove(self, parts: Sequence[str]) -> None:
        """Put a file or a folder into the trash."""
        self._check(parts, is_top=False)
        with self._errors(), self._folder(parts) as (folder, own):
            self._of_use(folder / own.name)
            self._versions.keep(folder / own.name, WHY_REMOVED, source=self._source, original=own)

    def move(self, parts: Sequence[str], to: "ShareDisk", to_parts: Sequence[str]) -> None:
        """Rename; to a name that nothing has."""
        self._check(parts, is_top=False)
        to._check(to_parts, is_top=False)
        with self._errors(), self._folder(parts) as (folder, own), to._folder(to_parts) as (other, theirs):
            self._of_use(folder / own.name)
            if _status(other / theirs.name) is not None:
                raise UsageError(tr("{name} is there already", name=theirs.name))
            os.rename(folder / own.name, other / theirs.name)

    def copy(self, parts: Sequence[str], to: "ShareDisk", to_parts: Sequence[str]) -> None:
        """Make another file of one, instead of one that is there."""
        self._check(parts)
        source = self._top.joinpath(*parts)
        with self._errors():
            fd = no_links.open_file(source)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise UsageError(tr("{name} is no file", name=source.name))
                to.put(to_parts, lambda target: _copy(fd, target), status.st_mtime_ns)
            finally:
                os.close(fd)

    def _install(self, coming: Path, own: Path) -> None:
        """Give it its name: where nothing is by then, else instead of what is there, which is kept."""
        path = coming.parent / own.name
        status = _status(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise UsageError(tr("{name} is there already and is no file", name=own.name))
        if status is not None:
            os.chmod(coming, stat.S_IMODE(status.st_mode))
        try:
            os.link(coming, path)
        except FileExistsError:
            self._replace(path, coming, own)
        except OSError:  # a disk without hard links
            if _status(path) is None:
                os.rename(coming, path)
            else:
                self._replace(path, coming, own)

    def _replace(self, path: Path, coming: Path, own: Path) -> None:
        """Keep what is there; a file with nothing in it, as programs make one before they write, is not worth it."""
        status = _status(path)
        if status is not None and not status.st_size and exchange(coming, path):
            if os.lstat(coming).st_size:  # somebody wrote into it just then
                self._versions.keep(coming, WHY_REPLACED, source=self._source, original=own)
            return
        self._versions.keep(path, WHY_REPLACED, source=self._source, replacement=coming, original=own)

    def _check(self, parts: Sequence[str], *, is_top: bool = True) -> None:
        """Raise `UsageError` for names that cannot be, or for the share itself where that must not be."""
        for name in parts:
            if (fault := name_fault(name)) is not None:
                raise UsageError(tr("{name!r} cannot be a name: it {fault}", name=name[:100], fault=fault))
            if is_reserved(name):
                raise UsageError(tr("{name} is a name that coterie keeps for itself", name=name))
        if not parts and not is_top:
            raise UsageError(tr("what is shared itself is not moved or removed over a drive"))

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str]) -> Iterator[tuple[Path, Path]]:
        """The folder above, by a path that goes on leading to it, and the real path of what is meant."""
        own = self._top.joinpath(*parts)
        with no_links.held(own.parent) as folder:
            yield folder, own

    @staticmethod
    def _of_use(path: Path) -> None:
        """Raise `NotFound` for what drives do not show: nothing, a link, a pipe."""
        status = _status(path)
        if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise NotFound(tr("there is no {path}", path=path.name))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise NotFound(tr("there is no such folder")) from None
        except NotADirectoryError:
            raise NotFound(tr("a file is no folder")) from None
        except FileExistsError:
            raise UsageError(tr("there is something already")) from None
        except OSError as error:
            raise StorageError(tr("the disk refuses: {strerror}", strerror=error.strerror)) from error


class Coming:
    """A file that is being written. Blocking; for one thread at a time."""

    def __init__(
        self,
        fd: int,
        path: Path,
        held: contextlib.ExitStack,
        *,
        errors: Callable[[], contextlib.AbstractContextManager[None]],
        install: Callable[[], None],
    ) -> None:
        """`held` closes it, and removes it where it has no other name by then."""
        self.fd = fd
        self._path = path
        self._held = held
        self._errors = errors
        self._install = install

    def write(self, data: bytes) -> None:
        """Append. Raises `StorageError`: the disk is full, or refuses."""
        with self._errors():
            write_all(self.fd, data)

    def become(self, source: Path) -> None:
        """Be what is in `source`, which is taken away from there."""
        with self._errors():
            mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
            try:
                os.replace(source, self._path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with open(source, "rb") as file:
                    _copy(file.fileno(), self.fd)
            else:
                os.chmod(self._path, mode)
                taken = os.open(self._path, os.O_RDONLY)
                os.dup2(taken, self.fd)
                os.close(taken)

    def finish(self, mtime_ns: int) -> None:
        """Put it in place. Errors as those of `ShareDisk`."""
        with self._errors():
            os.fsync(self.fd)
            if mtime_ns:
                os.utime(self._path, ns=(mtime_ns, mtime_ns))
            self._install()

    def drop(self) -> None:
        """Remove it, but what is in place."""
        self._held.close()


def written(data: bytes) -> Write:
    """Writes `data`."""

    def write(target: int) -> None:
        write_all(target, data)

    return write


def _copy(source: int, target: int) -> None:
    while data := os.read(source, COPY_BYTES):
        write_all(target, data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
