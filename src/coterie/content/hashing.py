"""Reads files to be shared and cuts them into chunks, on all cores.

Threads, not processes: reading, FastCDC and BLAKE3 all run without the interpreter lock, and threads measured
the same throughput here as processes do, without their start-up time and without asking anything of the
program around us.
"""

import io
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from coterie.content import no_links
from coterie.content.chunker import READ_AHEAD_BYTES, Cut, average_for, cut_range, join, pack_small
from coterie.content.file_steps import hole_end
from coterie.content.manifest import TOTAL_MAX, pack_chunks
from coterie.content.scan import FoundFile, Skipped, unreadable
from coterie.content.seen import clamped

SEGMENT_BYTES = 32 << 20  # measured: falling in step costs about 0.5 MiB of it
BATCH_BYTES = 4 << 20  # of small files read in one task
BATCH_FILES = 256
SMALL_BYTES = 128 << 10  # such files are read in one piece; guess
TASKS_PER_WORKER_MAX = 3  # results waiting for the database, or tasks for a core
ATTEMPTS = 2  # a file that changes while it is read is tried once more


class _Changed(Exception):
    """The file is not the one that was found."""


@dataclass(slots=True)
class Read:
    """Files that were read, those that could not be, and the bytes that count towards progress."""

    files: list[FoundFile]
    skipped: list[Skipped]
    bytes: int


@dataclass(slots=True)
class _Task:
    """Whole files, or one segment of a large file."""

    files: list[FoundFile]
    start: int = 0
    stop: int = 0
    bytes: int = 0


def read_files(
    files: Iterable[FoundFile], workers: int, cancel: threading.Event
) -> Generator[Read, None, None]:
    """Read all `files` with `workers` threads; results come in order. Ends early once `cancel` is set."""
    reader = _Reader(cancel)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="coterie-import")
    running: deque[tuple[_Task, Future[list[Cut] | Read]]] = deque()
    segments: list[list[Cut]] = []
    try:
        for task in _tasks(files):
            running.append((task, pool.submit(reader.run, task)))
            if len(running) >= workers * TASKS_PER_WORKER_MAX:
                yield reader.collect(*running.popleft(), segments)
            if cancel.is_set():
                return
        while running and not cancel.is_set():
            yield reader.collect(*running.popleft(), segments)
    finally:
        reader.stop()
        pool.shutdown(wait=True, cancel_futures=True)


def _tasks(files: Iterable[FoundFile]) -> Iterator[_Task]:
    batch = _Task([])
    for file in files:
        if file.size > SEGMENT_BYTES:
            for start in range(0, file.size, SEGMENT_BYTES):
                stop = min(start + SEGMENT_BYTES, file.size)
                yield _Task([file], start, stop, stop - start)
            continue
        batch.files.append(file)
        batch.bytes += file.size
        if batch.bytes >= BATCH_BYTES or len(batch.files) >= BATCH_FILES:
            yield batch
            batch = _Task([])
    if batch.files:
        yield batch


class _Reader:
    """What the threads do; each has one buffer of its own that it uses again and again."""

    def __init__(self, cancel: threading.Event) -> None:
        self._cancel = cancel
        self._ended = False
        self._own = threading.local()

    def stop(self) -> None:
        """Let the threads end with what they are at."""
        self._ended = True

    def _stopped(self) -> bool:
        return self._ended or self._cancel.is_set()

    def run(self, task: _Task) -> "list[Cut] | Read":
        """One task: the cuts of a segment, or whole files done."""
        if task.stop:
            try:
                return self._cut(task.files[0], task.start, task.stop)
            except (_Changed, OSError):
                return []  # `collect` finds the file incomplete and reads it again
        done = Read([], [], task.bytes)
        for file in task.files:
            if self._stopped():
                break
            self._read_whole(file, done)
        return done

    def collect(self, task: _Task, future: "Future[list[Cut] | Read]", segments: list[list[Cut]]) -> Read:
        """The result of a task. `segments` gathers those of a large file until its last one is in."""
        result = future.result()
        if isinstance(result, Read):
            return result
        segments.append(result)
        done = Read([], [], task.bytes)
        file = task.files[0]
        if task.stop < file.size or self._stopped():
            return done
        try:
            cuts = join(segments, lambda start, stop: self._cut(file, start, stop))
            self._check(file, no_links.status(file.path))
            self._accept(file, cuts)
            done.files.append(file)
        except (_Changed, OSError):
            self._read_whole(file, done)
        finally:
            segments.clear()
        return done

    def _read_whole(self, file: FoundFile, done: Read) -> None:
        """Read one file in this thread; at the second attempt as it is by then."""
        path = file.path
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    file.update(no_links.status(path))
                if file.size <= SMALL_BYTES:
                    file.chunks = self._small(file, path)
                else:
                    cuts = self._cut(file, 0, file.size)
                    if self._stopped():
                        return
                    self._check(file, no_links.status(path))
                    self._accept(file, cuts)
                done.files.append(file)
                return
            except _Changed:
                continue
            except OSError as error:
                done.skipped.append(Skipped(path, unreadable(error)))
                return
        done.skipped.append(Skipped(path, "it keeps changing while it is read"))

    def _small(self, file: FoundFile, path: str) -> bytes:
        """The packed chunk list of a file that is read in one piece."""
        fd = no_links.open_file(path)
        try:
            data = os.read(fd, file.size + 1) if file.size else b""
            self._check(file, os.fstat(fd))
        finally:
            os.close(fd)
        if len(data) != file.size:
            raise _Changed
        return pack_small(data)

    def _cut(self, file: FoundFile, start: int, stop: int) -> list[Cut]:
        with io.FileIO(no_links.open_file(file.path), "rb") as source:
            self._check(file, os.fstat(source.fileno()))
            buffer = self._buffer()
            begin = end = 0  # where in the file the buffer's contents lie

            def read_at(offset: int, size: int) -> memoryview:
                nonlocal begin, end
                filled = 0
                if begin <= offset < end:  # windows overlap: the beginning of this one is here
                    filled = min(end - offset, size)
                    buffer[:filled] = buffer[offset - begin : offset - begin + filled]
                source.seek(offset + filled)
                while filled < size:
                    got = source.readinto(buffer[filled:size])
                    if not got:
                        break
                    filled += got
                begin, end = offset, offset + filled
                return buffer[:filled]

            def empty_to(offset: int) -> int:
                return hole_end(source.fileno(), offset, file.size)

            return cut_range(read_at, start, stop, self._stopped, average_for(file.size), empty_to)

    def _buffer(self) -> memoryview:
        buffer: memoryview | None = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = memoryview(bytearray(READ_AHEAD_BYTES))
        return buffer

    @staticmethod
    def _check(file: FoundFile, status: os.stat_result) -> None:
        if not file.same(status):
            raise _Changed
        if (
            clamped(status.st_ctime_ns) != file.ctime_ns
        ):  # something of it was changed: its stamp says nothing
            file.ctime_ns = TOTAL_MAX

    @staticmethod
    def _accept(file: FoundFile, cuts: list[Cut]) -> None:
        if sum(cut.size for cut in cuts) != file.size:
            raise _Changed
        file.chunks = pack_chunks([(cut.hash, cut.size) for cut in cuts])
