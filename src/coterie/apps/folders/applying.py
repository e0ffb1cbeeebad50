"""Makes a live folder as it shall be, step by step: each looks once more, and replaces nothing but what it expects.

What is replaced or removed becomes a version (`swap`). Everything is on the disk before a step counts as done: what
arrived before it gets its place, and the folders afterwards.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from unicodedata import normalize

import msgspec

from coterie.apps.folders.hints import parent
from coterie.apps.folders.in_use import OPEN_NS, has_journal, is_written
from coterie.apps.folders.reading import content_at
from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import MARKER, SWAP, Root
from coterie.apps.folders.steps import Print
from coterie.apps.folders.swap import MADE, Changed, Swap, is_same
from coterie.content import file_steps as place
from coterie.content import no_links
from coterie.content.versions import VersionsFull
from coterie.errors import StorageError
from coterie.texts import tr

FLUSHED_SINGLY_MAX = 8  # files and folders; more are brought to the disk with all else that waits. Guess
BUSY_S = 10.0  # after which what was in use is tried again
FULL_S = 60.0  # after which a full disk is
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUSY = frozenset({errno.ETXTBSY, errno.EBUSY, errno.EAGAIN})
_NAMES = frozenset(
    {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.EFBIG, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS}
)
_BUSY_WINDOWS = 32  # ERROR_SHARING_VIOLATION


class Done(msgspec.Struct, frozen=True):
    """A step was done. `print`: how what it made looks; None where nothing is left there."""

    print: Print | None


class NotSo(msgspec.Struct, frozen=True):
    """Something else is there than was expected, or is being written: nothing was done; look at these again.

    `folders`: these are as they were, but for something that is in them: list them again. What is as it was is not
    found again, or the step would be done again at once, for as long as something is being written there.
    """

    paths: tuple[str, ...]
    folders: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """The disk refused; nothing was done. `code`: "full", "versions" (no room for what would be replaced), "busy",
    "name" (this disk cannot hold it) or "disk". `again_s`: when to try once more."""

    path: str
    reason: str
    code: str
    again_s: float


Result = Done | NotSo | Failed


class Filled(Changed):
    """A folder that is to go is not empty."""


class Applying:
    """Steps in one folder that is entered."""

    def __init__(
        self, root: Root, swap: Swap, now_ns: int, print_of: Callable[[str, os.stat_result], Print]
    ) -> None:
        self._root = root
        self._swap = swap
        self._now_ns = now_ns
        self._print_of = print_of
        self._touched: dict[str, None] = {}  # folders to bring to the disk

    def put(
        self,
        staged: Path,
        local: str,
        *,
        mtime_ns: int,
        executable: bool,
        expects: Print | None,
        content: bytes = b"",
    ) -> Print:
        """Give a file that came whole its place; `content`: what the file there has, hashed once more if given."""
        fd = os.open(staged, no_links.READ)
        try:
            if expects is not None:
                self._keep_mode(fd, local)
            place.set_executable(fd, executable)
            place.set_time(fd, mtime_ns)
        finally:
            os.close(fd)
        self._bring(staged, local, expects, content)
        return self._now(local)

    def make_link(self, local: str, target: str, expects: Print | None, content: bytes = b"") -> Print:
        """Make a symbolic link."""
        staged = Path(self._root.folder(f"{MARKER}/{SWAP}")) / f"{MADE}-{os.urandom(8).hex()}"
        os.symlink(target, staged)
        try:
            self._bring(staged, local, expects, content)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        return self._now(local)

    def bring_back(self, staged: Path, local: str, expects: Print | None) -> Print:
        """Give a file or link its place as it is."""
        self._bring(staged, local, expects, b"")
        self.flush()
        return self._now(local)

    def remove(self, local: str, expects: Print, content: bytes = b"") -> None:
        """Make a version of a file or link."""
        self._look(local, expects, content)
        self._swap.remove(local, expects)
        self._touched[parent(local)] = None

    def free(self, local: str, expects: Print, content: bytes) -> None:
        """Take a file off the disk; no version of it is made."""
        self._look(local, expects, content)
        self._swap.free(local, expects)
        self._touched[parent(local)] = None

    def move(self, local: str, to: str, expects: Print) -> Print:
        """Rename a file, a link, or a folder with all that is in it."""
        self._expect(local, expects)
        source, target = Path(self._root.at(local)), Path(self._root.at(to))
        if not place.move_new(source, target):
            if not self._is_other_spelling(local, to):
                raise Changed(to)
            self._swap.rename_case(local, to, expects)
        self._root.let_go(local)
        self._touched |= {parent(local): None, parent(to): None}
        return self._now(to)

    def make_folder(self, local: str) -> Print:
        """Make a folder; one that is there is taken as it is."""
        path = self._root.at(local)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Changed from None
        self._touched |= {parent(local): None, local: None}
        return self._now(local)

    def remove_folder(self, local: str) -> None:
        """Remove a folder, if nothing is in it."""
        try:
            os.rmdir(self._root.at(local))
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in _GONE:
                raise Filled from None
            raise
        self._root.let_go(local)
        self._touched.pop(local, None)
        self._touched[parent(local)] = None

    def set_meta(self, local: str, *, mtime_ns: int, executable: bool, expects: Print) -> Print:
        """Set the date and the executable bit of a file."""
        self._expect(local, expects)
        fd = os.open(self._root.at(local), no_links.READ)
        try:
            if not is_same(os.fstat(fd), expects):
                raise Changed
            place.set_executable(fd, executable)
            place.set_time(fd, mtime_ns)
        finally:
            os.close(fd)
        return self._now(local)

    def flush(self) -> None:
        """Bring what was done to the disk."""
        folders = list(self._touched)
        self._touched = {}
        if len(folders) > FLUSHED_SINGLY_MAX:
            place.flush_tree(self._root.fd, Path(self._root.path))
            return
        for folder in folders:
            try:
                place.flush_folder(Path(self._root.folder(folder)))
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    def _is_other_spelling(self, local: str, to: str) -> bool:
        """Whether both name one entry, on a disk that takes them for the same."""
        if local == to or parent(local) != parent(to) or _folded(local) != _folded(to):
            return False
        name = to.rpartition("/")[2]
        return all(normalize("NFC", one) != name for one in os.listdir(self._root.folder(parent(to))))

    # -- looking --

    def _bring(self, staged: Path, local: str, expects: Print | None, content: bytes) -> None:
        if expects is None:
            if not place.move_new(staged, Path(self._root.at(local))):
                raise Changed
        else:
            self._look(local, expects, content)
            self._swap.replace(staged, local, expects)
        self._touched[parent(local)] = None

    def _look(self, local: str, expects: Print, content: bytes) -> None:
        """Look once more at what is to go, at every byte of it, and whether somebody writes to it."""
        self._expect(local, expects)
        if expects.kind is not Kind.FILE:
            return
        if has_journal(lambda: self._root.at(local), expects.size):
            raise Changed
        if content and content_at(self._root, local, expects) != content:
            raise Changed
        if abs(self._now_ns - max(expects.mtime_ns, expects.ctime_ns)) < OPEN_NS and is_written(
            self._root.at(local)
        ):
            raise Changed

    def _expect(self, local: str, expects: Print) -> None:
        status = self._root.status(local)
        if status is None or self._print_of(local, status) != expects:
            raise Changed

    def _now(self, local: str) -> Print:
        status = self._root.status(local)
        if status is None:  # somebody took it away at once
            raise Changed
        return self._print_of(local, status)

    def _keep_mode(self, fd: int, local: str) -> None:
        """What takes the place of a file is for the same readers."""
        status = self._root.status(local)
        if status is not None and stat.S_ISREG(status.st_mode) and hasattr(os, "fchmod"):
            with contextlib.suppress(PermissionError):
                os.fchmod(fd, status.st_mode & 0o777)


def _folded(local: str) -> str:
    return normalize("NFC", local).casefold()


def flush_arrived(root: Root, arrived: Iterable[Path]) -> None:
    """Bring files that came to the disk, before they get their places. Raises OSError."""
    files = list(arrived)
    if len(files) > FLUSHED_SINGLY_MAX:
        place.flush_tree(root.fd, Path(root.path))
        return
    for path in files:
        fd = os.open(path, no_links.READ)
        try:
            getattr(os, "fdatasync", os.fsync)(fd)
        finally:
            os.close(fd)


def result_of(local: str, act: Callable[[], Print | None]) -> Result:
    """What became of a step."""
    try:
        return Done(act())
    except Filled:
        return NotSo((), (local,))
    except Changed as error:
        return NotSo(error.args or (local,))
    except VersionsFull as error:
        return Failed(local, str(error), "versions", FULL_S)
    except OSError as error:
        return failed(local, error)
    except StorageError as error:
        return Failed(local, str(error), "disk", FULL_S)


def failed(local: str, error: OSError) -> Result:
    """What an error of the system means for a step."""
    number = error.errno or 0
    if number in _GONE:
        return NotSo((local, parent(local)))
    code, again_s = "disk", FULL_S
    if number in _FULL:
        code = "full"
    elif number in _BUSY or getattr(error, "winerror", 0) == _BUSY_WINDOWS:
        code, again_s = "busy", BUSY_S
    elif number in _NAMES:
        code = "name"
    reason = tr("{local} cannot be written: {strerror}", local=local, strerror=error.strerror)
    return Failed(local, reason, code, again_s)
