"""Has small pictures drawn of files of others, by a child that has nothing but the bytes: see `decode_child`.

The child is started for the first picture, and ended when none was asked for `IDLE_S`.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import socket
import sys
from dataclasses import dataclass

from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.web.previews.decode_child import HOW, JOB_S, ORDER
from coterie.web.previews.kinds import Kind

DRAWN_AT_ONCE = 2
IDLE_S = 20.0  # guess: somebody who looks through folders asks again within it
ANSWER_S = (
    10.0  # more than one picture may take: then the child itself, which kills what takes longer, is stuck
)
RESULT_BYTES_MAX = 1 << 20  # of a picture of the largest edge; guess, four times what noise takes
EDGE_MAX = 1_280  # pixels
_START = """import sys
ffmpeg, job_s, *sys.path = sys.argv[1:]
from coterie.web.previews.decode_child import main
main(ffmpeg, float(job_s))"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is given of a file of `size` bytes: its beginning, and where there is a gap, its end."""

    size: int
    begin: bytes
    end: bytes = b""


def can_draw(kind: Kind) -> bool:
    """Whether this computer has what draws a picture of such a file."""
    if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
        return False
    if kind.sort == "film":
        return kind.media in HOW and bool(shutil.which("ffmpeg")) and hasattr(os, "memfd_create")
    library = {"picture": "PIL", "pdf": "pypdfium2"}.get(kind.sort, "")
    return bool(library) and _is_here("PIL") and _is_here(library)


def _is_here(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def missing() -> str:
    """For people: what small pictures need and this computer lacks; "": nothing."""
    if not hasattr(os, "fork"):
        return tr("Small pictures of files are drawn on Linux and macOS only.")
    if not (_is_here("PIL") and _is_here("pypdfium2")):
        return tr(
            "For small pictures of files install coterie with `previews`: pip install 'coterie[previews]'"
        )
    if not shutil.which("ffmpeg"):
        return tr("For small pictures of films install ffmpeg.")
    return ""


class Decoder:
    """Belongs to the event loop. `tasks` are those of the page."""

    def __init__(self, tasks: Tasks, job_s: float = JOB_S) -> None:
        """`job_s`: for one picture; then what draws it is killed."""
        self._tasks = tasks
        self._job_s = job_s
        self._slots = asyncio.Semaphore(DRAWN_AT_ONCE)
        self._beginning = asyncio.Lock()
        self._control: socket.socket | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._busy = 0
        self._idle: asyncio.TimerHandle | None = None

    @property
    def process(self) -> int | None:
        """The child's number while it runs."""
        return self._child.pid if self._child is not None and self._control is not None else None

    async def draw(self, kind: Kind, parts: Parts, edge: int) -> bytes | None:
        """A JPEG of at most `edge` pixels (EDGE_MAX) each way; None: it cannot be decoded, or not within the limits.

        Raises:
            OSError: nothing is known of it, for the child did not start, or was ended.
        """
        how = HOW.get(kind.media) or HOW[kind.sort]
        order = ORDER.pack(how, min(edge, EDGE_MAX), parts.size, len(parts.begin), len(parts.end))
        async with self._slots:
            self._busy += 1
            try:
                return await self._ask(order, parts)
            finally:
                self._busy -= 1
                self._rest()

    async def _ask(self, order: bytes, parts: Parts) -> bytes | None:
        pipe = await self._pipe()
        child = self._child
        reader, writer = await asyncio.open_connection(sock=pipe, limit=RESULT_BYTES_MAX)
        made = b""
        try:
            async with asyncio.timeout(self._job_s + ANSWER_S):
                writer.write(order)
                for part in (parts.begin, parts.end):
                    writer.write(part)
                    await writer.drain()
                while len(made) <= RESULT_BYTES_MAX and (more := await reader.read(RESULT_BYTES_MAX)):
                    made += more
        except ConnectionError:  # it did not want the rest
            pass
        except TimeoutError:
            self.end()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if not made and not self._is_there(child):
            raise OSError("the program that draws pictures ended meanwhile")
        return made if is_jpeg(made) else None

    def _is_there(self, child: asyncio.subprocess.Process | None) -> bool:
        """Whether it still reads orders: then what it did not draw cannot be drawn."""
        if child is not self._child or self._control is None:
            return False
        try:
            return bool(self._control.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def _pipe(self) -> socket.socket:
        """One end of a pipe, whose other end a new process of the child has. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        try:
            for _ in range(2):
                async with self._beginning:
                    if self._control is None:
                        await self._begin()
                assert self._control is not None  # noqa: S101  (`_begin` made it)
                try:
                    socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
                except OSError:  # it was killed, or reads no more: once anew
                    self.end()
                    continue
                return ours
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.close()
        raise OSError("the program that draws pictures ends at once")

    async def _begin(self) -> None:
        control, given = socket.socketpair()
        control.setblocking(False)
        words = [sys.executable, "-P", "-c", _START, shutil.which("ffmpeg") or ""]
        words += [str(self._job_s), *sys.path]
        nothing = asyncio.subprocess.DEVNULL
        try:
            self._child = await asyncio.create_subprocess_exec(
                *words,
                stdin=given.fileno(),
                stdout=nothing,
                stderr=nothing,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            control.close()
            raise
        finally:
            given.close()
        self._control = control
        self._tasks.start(self._watch(self._child), "the program that draws pictures")

    async def _watch(self, child: asyncio.subprocess.Process) -> None:
        try:
            status = await child.wait()
        except asyncio.CancelledError:  # the node stops
            self.end()
            await child.wait()
            raise
        log.debug("the program that draws pictures ended (%d)", status)
        if child is self._child:
            self.end()

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if not self._busy and self._control is not None:
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle)

    def _end_idle(self) -> None:
        if not self._busy:
            self.end()

    def end(self) -> None:
        """End the child and what it draws; the next picture starts another."""
        if self._idle is not None:
            self._idle.cancel()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._child is not None and self._child.returncode is None and self._busy:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()


def is_jpeg(raw: bytes) -> bool:
    """Whether it is whole, and not larger than a picture that was asked for may be."""
    return len(raw) <= RESULT_BYTES_MAX and raw[:3] == b"\xff\xd8\xff" and raw[-2:] == b"\xff\xd9"
