"""Watches a folder and all below it through the kernel of Linux, in a thread that sleeps while nothing happens.

The kernel says when it lost events: then all is watched anew and told as one hint, and nothing is missed in silence. A
folder that is moved within keeps its watches. A new folder is watched before it is listed, so what is made in it
meanwhile is told by the one or the other. Source: inotify(7).
"""

import contextlib
import ctypes
import errno
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from coterie.apps.folders.hints import Gathering, Hints
from coterie.texts import tr

WATCHES_MAX = 250_000  # folders; guess: 60 MB of memory here, and 250 MB of the kernel's
WRITING_S = 2.0  # a file that is written and not closed is told so seldom; guess
DRAIN_BYTES = 1 << 16
READS_MAX = 64  # before what is due is told
REWATCH_S = 1.0  # between two times that all is watched anew, at least; guess
REWATCH_SHARE = 5.0  # and at least so many times as long as it took
TICK_S = 10.0  # the root is looked at so often: is it there, and the same?
LIMIT_FILE = Path("/proc/sys/fs/inotify/max_user_watches")

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK, _ISDIR = 0x1000000, 0x2000000, 0x4000000, 0x40000000
_MASK = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
)
_MASK |= _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK
_FULL = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class _Event(ctypes.Structure):
    """struct inotify_event of sys/inotify.h, without the name behind it."""

    _fields_ = (
        ("watch", ctypes.c_int),
        ("mask", ctypes.c_uint32),
        ("cookie", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


class _Node:
    """A watched folder."""

    __slots__ = ("below", "name", "parent", "watch")

    def __init__(self, watch: int, name: str, parent: "_Node | None") -> None:
        self.watch = watch
        self.name = name
        self.parent = parent
        self.below: dict[str, _Node] = {}

    def path(self, name: str = "") -> str:
        """Its local name, or that of `name` in it."""
        parts = [name] if name else []
        node: _Node | None = self
        while node is not None and node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return "/".join(reversed(parts))


class Inotify:
    """The watches of one folder. Make it where `is_here`; `close` it."""

    def __init__(
        self,
        root: str,
        told: Callable[[Hints], None],
        is_own: Callable[[str], bool],
        *,
        watches_max: int = WATCHES_MAX,
    ) -> None:
        """Begin to watch the absolute, real path `root`; the first hint is everything, once all is watched.

        Args:
            told: gets the hints of each burst, in the thread.
            is_own: whether what has this name is coterie's own, and never watched.

        Raises:
            OSError: the kernel gives no watch at all.
        """
        if _LIBC is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._libc = _LIBC
        self._root = root
        self._told = told
        self._is_own = is_own
        self._watches_max = watches_max
        self._fd = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), root)
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._nodes: dict[int, _Node] = {}
        self._top: _Node | None = None
        self._identity = (-1, -1)  # of the root when it was watched
        self._quick = Gathering()
        self._slow = Gathering(WRITING_S, WRITING_S)
        self._moving: dict[int, _Node] = {}  # by cookie: left one folder, and may come into another
        self._anew_at: float | None = 0.0  # when to watch everything anew
        self._rested_at = 0.0  # not before
        self.unwatched = 0  # folders without a watch
        self._thread = threading.Thread(target=self._run, name="coterie-watch", daemon=True)
        self._thread.start()

    @property
    def watched(self) -> int:
        """How many folders are watched."""
        return len(self._nodes)

    @property
    def note(self) -> str:
        """What the owner should know; empty: all is watched."""
        if not self.unwatched:
            return ""
        return tr(
            "{unwatched:,} folders in {root} are not watched, for this system allows no more "
            "(fs.inotify.max_user_watches is {limit}): changes there are found a minute or more later; "
            "`sudo sysctl fs.inotify.max_user_watches=1000000` allows more",
            unwatched=self.unwatched,
            root=self._root,
            limit=_limit(),
        )

    def close(self) -> None:
        """End the thread and give the watches back."""
        with contextlib.suppress(OSError):
            os.write(self._wake, b"x")
        self._thread.join()

    # -- the thread --

    def _run(self) -> None:
        ended, news = select.poll(), select.poll()
        for one in (ended, news):
            one.register(self._woken, select.POLLIN)
        news.register(self._fd, select.POLLIN)
        try:
            while not ended.poll(0):
                self._turn(time.monotonic())
                if self._quick.due is not None:  # the kernel joins events that are alike while nobody reads
                    ended.poll(_milliseconds(self._quick.due))
                else:
                    ends = [at for at in (self._anew_at, self._slow.due) if at is not None]
                    news.poll(_milliseconds(min([*ends, time.monotonic() + TICK_S])))
        finally:
            for fd in (self._fd, self._woken, self._wake):
                os.close(fd)

    def _turn(self, now: float) -> None:
        """Read what happened, and tell what is due."""
        for _ in range(READS_MAX):
            if not (data := _read(self._fd)):
                break
            self._take(data, now)
        if self._top is not None and self._identity != _identity(self._root):  # a disk was mounted over it
            self._lose(now)
        if self._anew_at is not None and now >= self._anew_at:
            self._watch_anew()
        for gathering in (self._quick, self._slow):
            if gathering.due is not None and time.monotonic() >= gathering.due:
                if gathering is self._quick:
                    self._end_moves()
                self._told(gathering.take())

    def _take(self, data: bytes, now: float) -> None:
        at = 0
        while at < len(data):
            event = _Event.from_buffer_copy(data, at)
            watch, mask, length = event.watch, event.mask, event.length
            at += ctypes.sizeof(_Event) + length
            if mask & _OVERFLOW:
                self._lose(now)
                continue
            node = self._nodes.get(watch)
            if node is None:
                continue
            raw = data[at - length : at].rstrip(b"\0")
            if raw:
                self._entry(node, os.fsdecode(raw), mask, event.cookie, now)
            else:
                self._self(node, mask, now)

    def _lose(self, now: float) -> None:
        """Events were lost, or the root is another: nothing that is known of the folders holds."""
        if self._anew_at is None:
            self._anew_at = max(now + REWATCH_S, self._rested_at)

    def _self(self, node: _Node, mask: int, now: float) -> None:
        if mask & (_IGNORED | _UNMOUNT):
            self._drop(node)
        if node.parent is None and mask & (_IGNORED | _UNMOUNT | _MOVE_SELF | _DELETE_SELF):
            self._top = None
            self._quick.add(now)
            self._lose(now)

    def _entry(self, node: _Node, name: str, mask: int, cookie: int, now: float) -> None:
        """Something happened to `name` in the folder `node`."""
        if self._is_own(name):
            if node is self._top and mask & _ISDIR:  # the marker came or went
                self._quick.add(now)
            return
        path = node.path(name)
        if not mask & _ISDIR:
            if mask & _MODIFY:
                self._slow.add(now, path=path)
            else:
                self._slow.drop(path)
                self._quick.add(now, path=path)
            return
        self._quick.add(now, path=path)
        if mask & _MOVED_FROM and name in node.below:
            self._moving[cookie] = node.below.pop(name)
        elif mask & _MOVED_TO and cookie in self._moving:
            moved = self._moving.pop(cookie)
            moved.name, moved.parent = name, node
            node.below[name] = moved
            self._quick.add(now, tree=path)
        elif mask & (_CREATE | _MOVED_TO):
            self._quick.add(now, tree=path)
            self._watch(path, name, node)

    def _end_moves(self) -> None:
        """What left and came nowhere is not ours any more."""
        for node in self._moving.values():
            node.parent = None
            waiting = [node]
            while waiting:
                one = waiting.pop()
                waiting += one.below.values()
                self._nodes.pop(one.watch, None)
                self._libc.inotify_rm_watch(self._fd, one.watch)
        self._moving = {}

    def _drop(self, node: _Node) -> None:
        """Its folder is gone."""
        self._nodes.pop(node.watch, None)
        if node.parent is not None and node.parent.below.get(node.name) is node:
            del node.parent.below[node.name]

    # -- watching --

    def _watch_anew(self) -> None:
        """Watch the root and all below, then tell everything."""
        began = time.monotonic()
        before, self._nodes, self._moving, self.unwatched = self._nodes, {}, {}, 0
        self._top, self._identity = None, _identity(self._root)
        self._watch("", "", None)
        for watch in before.keys() - self._nodes.keys():
            self._libc.inotify_rm_watch(self._fd, watch)
        now = time.monotonic()
        self._anew_at = None if self._top is not None else now + TICK_S
        if self._top is not None or before or not self._rested_at:
            self._quick.add(now)
        self._rested_at = now + REWATCH_SHARE * (now - began)

    def _watch(self, path: str, name: str, parent: _Node | None) -> None:
        """Watch a folder and all below it."""
        device = _identity(self._root)[0]
        waiting = [(path, name, parent)]
        while waiting:
            path, name, parent = waiting.pop()
            node = self._add(path, name, parent)
            if node is None and self._top is None:
                return
            at = os.path.join(self._root, path) if path else self._root
            try:
                with os.scandir(at) as entries:
                    for entry in entries:
                        if (
                            entry.is_dir(follow_symlinks=False)
                            and not self._is_own(entry.name)
                            and entry.stat(follow_symlinks=False).st_dev == device
                        ):
                            below = f"{path}/{entry.name}" if path else entry.name
                            waiting.append((below, entry.name, node))
            except OSError:  # it went away, or may not be read: whoever looks at it says so
                continue

    def _add(self, path: str, name: str, parent: _Node | None) -> _Node | None:
        """The watch of one folder; None: there is none to be had."""
        if path and parent is None:  # below one that has no watch
            self.unwatched += 1
            return None
        at = os.path.join(self._root, path) if path else self._root
        watch = -1 if len(self._nodes) >= self._watches_max else self._added(at)
        if watch < 0:
            number = ctypes.get_errno()
            if len(self._nodes) >= self._watches_max or number in _FULL:
                self.unwatched += 1
            return None
        node = self._nodes.get(watch)
        if node is None:
            node = self._nodes[watch] = _Node(watch, name, parent)
        else:  # known by another name: it was moved meanwhile
            if node.parent is not None and node.parent.below.get(node.name) is node:
                del node.parent.below[node.name]
            node.name, node.parent = name, parent
        if parent is None:
            self._top = node
        else:
            parent.below[name] = node
        return node

    def _added(self, at: str) -> int:
        watch: int = self._libc.inotify_add_watch(self._fd, os.fsencode(at), _MASK)
        return watch


def is_here() -> bool:
    """Whether this system has it."""
    return _LIBC is not None


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _limit() -> str:
    with contextlib.suppress(OSError, ValueError):
        return f"{int(LIMIT_FILE.read_text()):,}"
    return "?"


def _milliseconds(until: float) -> float:
    return max(0.0, until - time.monotonic()) * 1000


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, DRAIN_BYTES)
    except BlockingIOError:
        return b""


def _checked(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _load() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.inotify_init1, libc.inotify_add_watch, libc.inotify_rm_watch  # noqa: B018 - are they there?
    except (OSError, TypeError, AttributeError):  # another system
        return None
    return libc


_LIBC = _load()
