"""Whether a file is being written: what is half written is not taken, and not replaced."""

import contextlib
import errno
import os
import signal
from collections.abc import Callable

from coterie.content import no_links

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SETTLED_NS = 25_000_000  # two of the longest ticks by which Linux dates files (HZ=100), and some
COARSE_NS = 3_000_000_000  # FAT keeps dates to 2 s
OPEN_NS = (
    20_000_000_000  # open for writing, but not written for so long: a database, a log; it is taken. Guess
)
UNSURE_NS = 1_000_000_000  # where no system call says whether it is open; guess
PAGE_BYTES = 512
JOURNAL_HEAD_BYTES = 8
JOURNAL_AGAIN_S = 2.0  # a database with a journal is looked at so often: nothing tells of its end; guess
AGAIN_S = 1.0  # a file that is open is looked at so often; when it is closed an event comes at once
_HAS_LEASES = fcntl is not None and hasattr(fcntl, "F_SETLEASE") and hasattr(signal, "SIGURG")


def wait_s(path: Callable[[], str], mtime_ns: int, ctime_ns: int, now_ns: int) -> float:
    """How long to leave a file alone that changed; 0: it can be taken. `now_ns`: the system's date before its status.

    It is left alone until whatever is written to it gives it another date, and while it is open for writing. A date
    ahead of the clock (which was set back, or another computer's) gets another by the next writing.
    """
    changed = ctime_ns if ctime_ns else mtime_ns
    age = now_ns - changed
    settled = SETTLED_NS if changed % 1_000_000_000 else COARSE_NS
    if -settled <= age < settled:
        return (settled - age) / 1e9
    if not -OPEN_NS <= age < OPEN_NS:
        return 0.0
    match is_written(path()):
        case True:
            return AGAIN_S
        case None if -UNSURE_NS <= age < UNSURE_NS:
            return (UNSURE_NS - age) / 1e9
    return 0.0


def has_journal(path: Callable[[], str], size: int) -> bool:
    """Whether a program has work in a journal beside this database of `size` bytes: the file alone is half of it.

    So it is with SQLite (sqlite.org/fileformat2.html): a database is a whole number of pages of 512 bytes or more, and
    a rollback journal that begins with zeros is over.
    """
    if size % PAGE_BYTES:
        return False
    try:
        database = path()
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(f"{database}-wal").st_size:
                return True
        fd = os.open(f"{database}-journal", no_links.READ)
    except OSError:
        return False
    try:
        return any(os.read(fd, JOURNAL_HEAD_BYTES))
    finally:
        os.close(fd)


def is_written(path: str) -> bool | None:
    """Whether some program has the file open for writing; None: this system, or this disk, does not say.

    A lease for reading is given only where nobody writes, and given back at once. Who opens the file in between waits
    for that moment; the signal that would tell us is one that is ignored. Source: fcntl(2).
    """
    if not _HAS_LEASES:
        return None
    try:
        fd = os.open(path, no_links.READ)
    except OSError:
        return None
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(fd)
    return False
