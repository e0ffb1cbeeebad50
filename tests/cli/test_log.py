"""The log: one line for what happens to anybody, a traceback for faults of the program."""

import asyncio
import errno
import logging
import sqlite3
from pathlib import Path

import pytest

from coterie.cli.terminal import LogFormatter
from coterie.errors import (
    AccessDenied,
    CoterieError,
    LimitExceeded,
    NotFound,
    PeerError,
    StorageError,
    TransportError,
    UsageError,
    is_ordinary,
)
from coterie.net import MemoryNetwork
from coterie.net.stream import Stream
from coterie.tasks import Tasks
from tests.apps.files.nodes import memory_node
from tests.net.conftest import NOTES
from tests.support import run

FULL = OSError(errno.ENOSPC, "No space left on device", "/home/u/x")


class Written(logging.Handler):
    """What a log file would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LogFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += self.format(record).split("\n")


def failed(error: BaseException) -> list[str]:
    """The log of background work that ends with `error`."""
    written = Written()
    logging.getLogger("coterie").addHandler(written)

    async def work() -> None:
        raise error

    async def scene() -> None:
        tasks = Tasks()
        tasks.start(work(), "looking for anna")
        await asyncio.sleep(0)
        await tasks.close()

    try:
        run(scene(), 10)
    finally:
        logging.getLogger("coterie").removeHandler(written)
    return written.lines


def full_database() -> sqlite3.OperationalError:
    """What SQLite really raises on a full disk."""
    with sqlite3.connect(":memory:") as database:
        database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as raised:
            database.execute("CREATE TABLE x (y)")
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        full_database(),
        TimeoutError(),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        BrokenPipeError(),
        ExceptionGroup("several", [TimeoutError(), FULL]),
        *(kind("why it ended") for kind in (UsageError, PeerError, TransportError, AccessDenied, NotFound)),
        *(kind("why it ended") for kind in (LimitExceeded, StorageError, CoterieError)),
    ],
    ids=repr,
)
def test_what_happens_to_anybody_is_one_line(error: Exception) -> None:
    (line,) = failed(error)
    assert "looking for anna" in line
    assert str(error) in line


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("x"),
        KeyError("x"),
        OSError(errno.EBADF, "Bad file descriptor"),
        sqlite3.ProgrammingError("x"),
        ExceptionGroup("several", [TimeoutError(), ValueError("x")]),
    ],
    ids=repr,
)
def test_a_fault_of_the_program_has_its_traceback(error: Exception) -> None:
    lines = failed(error)
    assert any("Traceback" in line for line in lines)
    assert not is_ordinary(error)


def test_a_full_disk_while_somebody_is_served_is_one_line(tmp_path: Path) -> None:
    """By the door of the network: the handler of a stream fails as the disk does."""
    written = Written()
    logging.getLogger("coterie").addHandler(written)

    async def handler(stream: Stream) -> None:
        raise FULL

    async def scene() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "a") as anna, memory_node(network, tmp_path / "b") as ben:
            assert anna.endpoint is not None
            assert ben.endpoint is not None
            anna.endpoint.register(NOTES, handler, strangers=True)
            ben.endpoint.register(NOTES, handler, strangers=True)
            connection = await ben.endpoint.connect(anna.peer_id, anna.addresses)
            with pytest.raises(CoterieError):
                stream = await connection.open_stream(NOTES)
                await stream.receive(5)

    try:
        run(scene(), 20)
    finally:
        logging.getLogger("coterie").removeHandler(written)
    said = [line for line in written.lines if "No space left" in line]
    assert len(said) == 1
    assert not any("Traceback" in line for line in written.lines)
