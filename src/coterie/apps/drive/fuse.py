"""The drive as a folder, by FUSE: a program of its own that speaks WebDAV to the drive. `fuse.py PORT FOLDER`.

What is opened is read by range, as it is needed; what is written goes to the drive when the file is closed.
"""

import contextlib
import errno
import functools
import http.client
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import quote

from mfusepy import FUSE, FuseOSError, Operations

from coterie.apps.drive.headers import read_listing, read_room

ANSWER_S = 40.0  # longer than the drive waits for any peer
KEPT_S = 1.0  # what a file or folder is; as long as the kernel keeps it
BLOCK_S = 2.0  # a block is read again from the drive, where the right to it may be gone
FAILED_S = (
    1.0  # so long a file that could not be read is not asked for again: each time may take the drive seconds
)
BLOCK_BYTES = 1 << 20  # read at once: the kernel asks for an eighth of it
_ERRNO = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 405: errno.EEXIST, 409: errno.EINVAL,
          412: errno.EEXIST, 423: errno.EBUSY, 502: errno.EIO, 504: errno.ETIMEDOUT, 507: errno.ENOSPC}  # fmt: skip
Attributes = dict[str, Any]


class Dav:
    """What a drive answers. For any thread: each has a connection of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one request. Raises `OSError`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for is_last in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
                self._local.connection = connection
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have said why
                    connection.request(method, quote(path), body, named)
                answer = connection.getresponse()
            except (http.client.HTTPException, OSError):  # an idle connection was closed
                self._forget(connection)
                if is_last or not (body is None or isinstance(body, bytes)):
                    raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
                continue
            try:
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):  # it ends in the middle: who gives it went away
                self._forget(connection)
                return 504, b""
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _forget(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._local.connection = None

    def do(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        """As `ask`; the body. Raises `FuseOSError` for what the drive refuses."""
        status, answer = self.ask(method, path, body, **headers)
        if status >= 300:
            raise FuseOSError(_ERRNO.get(status, errno.EIO))
        return answer

    def free_bytes(self, path: str) -> int | None:
        """How much room there is at a path; None: nobody says."""
        asked = b'<D:propfind xmlns:D="DAV:"><D:prop><D:quota-available-bytes/></D:prop></D:propfind>'
        return read_room(self.do("PROPFIND", path, asked, Depth="0"))

    def listed(self, path: str, depth: int) -> dict[str, Attributes]:
        """What is at a path, and with depth 1 in it, by path."""
        listed = read_listing(self.do("PROPFIND", path, Depth=str(depth)))
        return {one.path: _attributes(one.is_folder, one.size, one.at) for one in listed}


def _attributes(is_folder: bool, size: int, at: float) -> Attributes:
    mode = stat.S_IFDIR | 0o700 if is_folder else stat.S_IFREG | 0o600
    nanoseconds = int(at * 10**9)
    return {
        "st_mode": mode, "st_size": size, "st_nlink": 2 if is_folder else 1, "st_uid": os.getuid(),
        "st_gid": os.getgid(), "st_mtime": nanoseconds, "st_ctime": nanoseconds, "st_atime": nanoseconds,
    }  # fmt: skip


class Read:
    """A file that is open to be read."""

    def __init__(self, dav: Dav, path: str) -> None:
        self._dav = dav
        self._path = path
        self._lock = threading.Lock()
        self._begin, self._block, self._until = 0, b"", 0.0
        self._failed, self._failed_until = 0, 0.0

    def read(self, size: int, offset: int) -> bytes:
        """Some bytes; fewer at the end."""
        with self._lock:
            if (
                time.monotonic() < self._failed_until
            ):  # the kernel asks again for what failed, and for what follows
                raise FuseOSError(self._failed)
            is_old = time.monotonic() > self._until
            if is_old or not self._begin <= offset < self._begin + len(self._block):
                first = offset - offset % BLOCK_BYTES
                last = first + BLOCK_BYTES - 1
                status, block = self._dav.ask("GET", self._path, Range=f"bytes={first}-{last}")
                if status == 416:
                    return b""
                if status >= 300:
                    self._failed = _ERRNO.get(status, errno.EIO)
                    self._failed_until = time.monotonic() + FAILED_S
                    raise FuseOSError(self._failed)
                self._begin, self._block = (first, block) if status == 206 else (0, block)
                self._until = time.monotonic() + BLOCK_S
            at = offset - self._begin
            data = self._block[at : at + size]
        if len(data) < size and data and at + len(data) == BLOCK_BYTES:
            data += self.read(size - len(data), offset + len(data))
        return data


class Written:
    """A file that is open to be changed: here until it is closed."""

    def __init__(self, dav: Dav, path: str, *, is_new: bool) -> None:
        self.path = path
        self._dav = dav
        self._lock = threading.Lock()
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._is_changed = is_new
        self._mtime_s = 0  # as a program wants it; 0: when it is closed
        if not is_new:
            reader, at = Read(dav, path), 0
            while data := reader.read(BLOCK_BYTES, at):
                self._file.write(data)
                at += len(data)

    def size(self) -> int:
        """In bytes, now."""
        with self._lock:
            return self._file.seek(0, os.SEEK_END)

    def read(self, size: int, offset: int) -> bytes:
        """What was written, or was there."""
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def write(self, data: bytes, offset: int) -> int:
        """Keep it here."""
        with self._lock:
            self._file.seek(offset)
            self._is_changed, self._mtime_s = True, 0
            return self._file.write(data)

    def date(self, mtime_s: int) -> None:
        """Say when it was changed last: known to the drive when it is closed."""
        with self._lock:
            self._mtime_s = mtime_s

    def truncate(self, size: int) -> None:
        """Make it so long."""
        with self._lock:
            self._file.truncate(size)
            self._is_changed = True

    def flush(self) -> None:
        """Give it to the drive, if it was changed."""
        with self._lock:
            if self._is_changed:
                size = self._file.seek(0, os.SEEK_END)
                self._file.seek(0)
                when = {"X_OC_Mtime": str(self._mtime_s)} if self._mtime_s > 0 else {}
                self._dav.do("PUT", self.path, self._file, Content_Length=str(size), **when)
                self._is_changed = False

    def close(self) -> None:
        """No longer needed."""
        self._file.close()


def _forgets(change: Callable[..., Any]) -> Callable[..., Any]:
    """What was known of the tree is old after this."""

    @functools.wraps(change)
    def changing(self: "Drive", *args: Any) -> Any:
        try:
            return change(self, *args)
        finally:
            self.known.clear()

    return changing


class Drive(Operations):  # type: ignore[misc]
    """See the manual of libfuse for each operation."""

    use_ns = True

    def __init__(self, port: int) -> None:
        self._dav = Dav(port)
        self.known: dict[str, tuple[float, Attributes]] = {}
        self._open: dict[int, Read | Written] = {}
        self._lock = threading.Lock()
        self._last = 0

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        for one in list(self._open.values()):
            if isinstance(one, Written) and one.path == path:
                return _attributes(False, one.size(), time.time())
        known = self.known.get(path)
        if known is not None and time.monotonic() < known[0] + KEPT_S:
            return known[1]
        found = self._dav.listed(path, 0).get(path.rstrip("/") or "/")
        if found is None:
            raise FuseOSError(errno.ENOENT)
        self.known[path] = time.monotonic(), found
        return found

    def readdir(self, path: str, fh: int) -> list[str]:
        listed, now = self._dav.listed(path, 1), time.monotonic()
        self.known = {one: (now, attributes) for one, attributes in listed.items()}
        own = path.rstrip("/") or "/"
        return [".", "..", *(one.rpartition("/")[2] for one in listed if one != own)]

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return self._keep(Read(self._dav, path))
        return self._keep(Written(self._dav, path, is_new=bool(flags & os.O_TRUNC)))

    @_forgets
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._dav.do("PUT", path, b"")  # so that it is refused at once where one may not write
        return self._keep(Written(self._dav, path, is_new=True))

    def _keep(self, opened: Read | Written) -> int:
        with self._lock:
            self._last += 1
            self._open[self._last] = opened
            return self._last

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._open[fh].read(size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        opened = self._open[fh]
        if isinstance(opened, Read):
            raise FuseOSError(errno.EBADF)
        return opened.write(data, offset)

    @_forgets
    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        opened = self._open.get(fh) if fh is not None else None
        if isinstance(opened, Written):
            opened.truncate(length)
            return 0
        once = Written(self._dav, path, is_new=length == 0)
        try:
            once.truncate(length)
            once.flush()
        finally:
            once.close()
        return 0

    @_forgets
    def flush(self, path: str, fh: int) -> int:
        if isinstance(opened := self._open[fh], Written):
            opened.flush()
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        return int(self.flush(path, fh))

    @_forgets
    def release(self, path: str, fh: int) -> int:
        opened = self._open.pop(fh)
        if isinstance(opened, Written):
            try:
                opened.flush()
            finally:
                opened.close()
        return 0

    @_forgets
    def mkdir(self, path: str, mode: int) -> int:
        self._dav.do("MKCOL", path)
        return 0

    @_forgets
    def unlink(self, path: str) -> int:
        self._dav.do("DELETE", path)
        return 0

    @_forgets
    def rmdir(self, path: str) -> int:
        if len(self._dav.listed(path, 1)) > 1:
            raise FuseOSError(errno.ENOTEMPTY)
        self._dav.do("DELETE", path)
        return 0

    @_forgets
    def rename(self, old: str, new: str) -> int:
        self._dav.do("MOVE", old, Destination=quote(new), Overwrite="T")
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        room = self._dav.free_bytes(path)
        if (
            room is None and path.count("/") < 2
        ):  # above all shares: what is written lies here until it is closed
            here = os.statvfs(tempfile.gettempdir())
            room = here.f_bavail * here.f_frsize
        free = (room or 0) // BLOCK_BYTES
        return {"f_bsize": BLOCK_BYTES, "f_frsize": BLOCK_BYTES, "f_blocks": free, "f_bfree": free, "f_bavail": free,
                "f_namemax": 255}  # fmt: skip

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        """Of what is being written; the drive has no request for more."""
        for one in list(self._open.values()):
            if isinstance(one, Written) and one.path == path and times is not None:
                one.date(int(times[1]) // 10**9)
        return 0


def main() -> None:
    """Until it is unmounted."""
    kept = {"attr_timeout": KEPT_S, "entry_timeout": KEPT_S}
    FUSE(Drive(int(sys.argv[1])), sys.argv[2], foreground=True, fsname="coterie", **kept)


if __name__ == "__main__":
    main()
