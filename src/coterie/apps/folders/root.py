"""A live folder on the disk: it is entered only while it is the one that joined, which its marker says.

    <folder>/.coterie-folder/id        which folder this is, and which copy of it
                             arrived/  contents that came whole, before they get their place
                             swap/     what is about to change places with what the user has (`swap`)

A disk that was taken out, a link in the folder's place, or an empty folder where a disk was mounted has no such marker:
then nothing is concluded from what is there, and nothing is written. The folder is not kept open, so its disk can be
taken out at any time. Within, every path is walked through no link and onto no other disk.
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from coterie.content import no_links
from coterie.content.names import FOLDER_PREFIX
from coterie.decoding import decoder
from coterie.errors import StorageError, UsageError
from coterie.private_file import write_private
from coterie.texts import tr

MARKER = FOLDER_PREFIX
ARRIVED, SWAP = "arrived", "swap"
HELD_MAX = 32  # folders that are open at once
MARKER_BYTES_MAX = 4_096
_HAS_FDS = no_links.HAS_FD_PATHS


class FolderGone(StorageError):
    """The folder is not there, or what is there is not it: nothing is concluded from what is seen."""

    code = "folder_gone"


class Marker(msgspec.Struct, frozen=True):
    """Which live folder this is, which copy of it, and the inode of the marker's folder when it was made.

    `earlier`: the id that the copy had before.
    """

    folder: bytes
    replica: bytes
    inode: int = 0
    earlier: bytes = b""

    def is_of(self, folder: bytes, replica: bytes) -> bool:
        """Whether it is this copy of this folder: also where a change of its id was begun, and not noted."""
        return self.folder == folder and replica in (self.replica, self.earlier)


class Root:
    """The folder while it is entered. Made by `entered`. Its paths lead to it whatever takes its place."""

    def __init__(self, path: str, fd: int | None) -> None:
        self.path = path
        self.fd = fd
        self._held: OrderedDict[str, int] = OrderedDict()
        status = os.stat(fd if fd is not None else path)
        self.device = status.st_dev
        self.marker = Marker(b"", b"")

    def at(self, local: str) -> str:
        """A path that leads to `local` through no link.

        Raises:
            OSError: a folder above it is gone, is a link (ELOOP) or on another disk (EXDEV).
        """
        folder, _, name = local.rpartition("/")
        return os.path.join(self.folder(folder), name) if name else self.folder("")

    def folder(self, local: str) -> str:
        """A path that leads to the folder `local`. Errors as `at`. Good for the next HELD_MAX folders."""
        if self.fd is None:
            path = os.path.join(self.path, *local.split("/")) if local else self.path
            if os.path.realpath(path) != path:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            return path
        if not local:
            return f"/proc/self/fd/{self.fd}"
        fd = self._held.get(local)
        if fd is None or not self._is_same(fd, local):
            self.let_go(local)
            fd = self._held[local] = no_links.open_below(self.fd, local, no_links.HOLD)
            if os.fstat(fd).st_dev != self.device:
                self.let_go(local)
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), local)
            if len(self._held) > HELD_MAX:
                os.close(self._held.popitem(last=False)[1])
        self._held.move_to_end(local)
        return f"/proc/self/fd/{fd}"

    def _is_same(self, fd: int, local: str) -> bool:
        """Whether the folder that was opened as `local` is still there."""
        try:
            now = os.stat(f"/proc/self/fd/{self.fd}/{local}", follow_symlinks=False)
        except OSError:
            return False
        held = os.fstat(fd)
        return (now.st_ino, now.st_dev) == (held.st_ino, held.st_dev)

    def let_go(self, local: str) -> None:
        """The folder `local`, or one below it, is another from now on."""
        for one in [one for one in self._held if one == local or one.startswith(local + "/")]:
            os.close(self._held.pop(one))

    def status(self, local: str) -> os.stat_result | None:
        """What is at `local`, itself if it is a link; None: nothing. Errors as `at`, but for a folder that is gone."""
        try:
            return os.lstat(self.at(local))
        except FileNotFoundError:
            return None

    @contextmanager
    def entries(self, local: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """What is in the folder `local`. Errors as `at`."""
        if self.fd is None:
            with os.scandir(self.folder(local)) as found:
                yield found
            return
        fd = no_links.open_below(self.fd, local, no_links.FOLDER)
        try:
            if os.fstat(fd).st_dev != self.device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), local)
            with os.scandir(fd) as found:
                yield found
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of everything."""
        while self._held:
            os.close(self._held.popitem()[1])
        if self.fd is not None:
            os.close(self.fd)


@contextmanager
def entered(path: Path, folder: bytes, replica: bytes) -> Iterator[Root]:
    """The folder at the absolute, real `path`, as long as the block takes.

    Raises:
        FolderGone: it is away, or is not this copy of this folder.
    """
    try:
        root = _opened(path)
    except OSError as error:
        raise FolderGone(
            tr(
                "{path} cannot be opened ({strerror}): nothing is changed in it, and nothing of it counts as deleted, "
                "until it is there again",
                path=path,
                strerror=error.strerror,
            )
        ) from error
    try:
        root.marker = _marker(root, path)
        if not root.marker.is_of(folder, replica):
            raise FolderGone(
                tr(
                    "{path} is another live folder, or a copy of it: it is left alone; join it anew",
                    path=path,
                )
            )
        yield root
    finally:
        root.close()


def is_entered_still(root: Root, path: Path) -> bool:
    """Whether the marker can be read still: a disk that fails shows nothing any more."""
    try:
        return _marker(root, path) == root.marker
    except FolderGone:
        return False


def make_marker(path: Path, folder: bytes, replica: bytes) -> None:
    """Make the folder at `path` this copy of a live folder.

    Raises:
        UsageError: it is one already, lies in one, or is no folder that may be written.
    """
    real = Path(os.path.realpath(path))
    if real != path:
        raise UsageError(tr("{path} leads through a link: give {real} instead", path=path, real=real))
    for above in (real, *real.parents):
        if os.path.lexists(above / MARKER / "id"):
            raise UsageError(
                tr(
                    "{path} is in the live folder {above} already: choose a folder elsewhere",
                    path=path,
                    above=above,
                )
            )
    try:
        own = real / MARKER
        for one in (own, own / ARRIVED, own / SWAP):
            one.mkdir(mode=0o700, exist_ok=True)
        marker = Marker(folder, replica, own.stat().st_ino)
        write_private(own / "id", msgspec.json.encode(marker))
    except OSError as error:
        raise UsageError(
            tr("{path} cannot become a live folder: {strerror}", path=path, strerror=error.strerror)
        ) from error


def mark_anew(path: Path, folder: bytes, replica: bytes, new: bytes) -> None:
    """The copy `replica` of a live folder, which lies at `path`, is called `new` from now on; both are taken for it.

    Raises:
        FolderGone: it is away, or is not that copy.
        StorageError: the disk refuses.
    """
    with entered(path, folder, replica) as root:
        marker = msgspec.structs.replace(root.marker, replica=new, earlier=replica)
        write_private(Path(root.at(f"{MARKER}/id")), msgspec.json.encode(marker))


def read_marker(path: Path) -> Marker | None:
    """Which live folder the folder at `path` says it is; None: none."""
    try:
        return _read_marker((path / MARKER / "id").read_bytes()[:MARKER_BYTES_MAX])
    except (OSError, StorageError):
        return None


def is_marked(root: Root, local: str) -> bool:
    """Whether the folder `local`, below the root, is a live folder of its own."""
    return root.status(f"{local}/{MARKER}") is not None


def _opened(path: Path) -> Root:
    if not _HAS_FDS:
        if os.path.realpath(path) != str(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        return Root(str(path), None)
    fd = no_links.open_file(path, no_links.FOLDER)
    try:
        return Root(str(path), fd)
    except OSError:
        os.close(fd)
        raise


def _marker(root: Root, path: Path) -> Marker:
    try:
        own = root.status(MARKER)
        if own is not None and stat.S_ISDIR(own.st_mode):
            fd = os.open(root.at(f"{MARKER}/id"), no_links.READ)
            try:
                return _read_marker(os.read(fd, MARKER_BYTES_MAX))
            finally:
                os.close(fd)
    except (OSError, StorageError) as error:
        raise FolderGone(
            tr(
                "the marker {marker} cannot be read ({error}): nothing is changed in {path} until it can",
                marker=path / MARKER / "id",
                error=error.strerror if isinstance(error, OSError) else error,
                path=path,
            )
        ) from error
    raise FolderGone(
        tr(
            "{path} has lost its marker {marker}: is its disk not mounted? Nothing is changed in it, and nothing of it "
            "counts as deleted, until it is back; leave the folder and join it anew if it will not come back",
            path=path,
            marker=MARKER,
        )
    )


@decoder(StorageError, "the marker of a live folder")
def _read_marker(raw: bytes) -> Marker:
    return msgspec.json.decode(raw, type=Marker)
