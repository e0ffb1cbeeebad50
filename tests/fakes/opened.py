"""Whether anybody opened a file while a block ran, a pipe or device too: the system says so (inotify)."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_IN_OPEN = 0x20  # sys/inotify.h; a look by O_PATH is none


@contextlib.contextmanager
def never_opened(path: Path) -> Iterator[None]:
    """Fail where what is at `path` is opened within the block. Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert fd >= 0
    try:
        assert libc.inotify_add_watch(fd, os.fsencode(path), _IN_OPEN) >= 0
        yield
        with contextlib.suppress(BlockingIOError):
            assert not os.read(fd, 4096), f"{path} was opened"
    finally:
        os.close(fd)
