"""Programs that an app runs: bounded in memory, processor and time, ended with the node however it dies.

Between the node and each program stands `keeper.py`, which outlives both long enough to end what is left.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from coterie.decoding import decoder
from coterie.errors import LimitExceeded, StorageError, UsageError
from coterie.quantity import say_bytes
from coterie.rate import Rate
from coterie.tasks import Tasks
from coterie.texts import tr

PROCESSES_MAX = 16  # of one app at once; guess
OUTPUT_BYTES_MAX = 16 << 10  # kept of the end of what a program said
LINE_CHARS_MAX = 500  # of a line in the log
LINES_PER_S, LINES_BURST = 10.0, 100  # in the log, of one program; guess: more than anybody reads
READ_BYTES = 64 << 10
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
)
"""Of the node's own environment. The rest may hold secrets, and is not for programs that others wrote."""

log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a program and all that it starts may use together; 0: no bound.

    Fields:
        memory_bytes_max: in memory at once, without what is shared. Each process may not even ask for more.
        processor_s_max: seconds of processor time.
        time_s_max: seconds until it has to have ended.
        nice: how much it lets others go first, 0 to 19.
    """

    memory_bytes_max: int = 0
    processor_s_max: float = 0.0
    time_s_max: float = 0.0
    nice: int = 5


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended.

    Fields:
        reason: "end": by itself; "stopped": by the app or with the node; or the limit that it passed; "lost": nobody
            knows, its keeper was killed.
        code: its exit status, or minus the number of the signal that ended it.
        output: the end of what it said, OUTPUT_BYTES_MAX at most.
    """

    reason: Literal["end", "stopped", "memory", "processor", "time", "lost"]
    code: int
    output: str

    @property
    def is_good(self) -> bool:
        """It ended by itself and says that it succeeded."""
        return self.reason == "end" and not self.code


class _Report(msgspec.Struct):
    """The line of the keeper."""

    reason: Literal["end", "node", "memory", "processor", "time"]
    code: int


class Process:
    """A program that runs. Made by `Processes.run`."""

    def __init__(self, name: str, running: asyncio.subprocess.Process, tasks: Tasks) -> None:
        self.name = name
        self._running = running
        self._output = bytearray()
        self._ended = tasks.start(self._follow(), f"the program {name}", is_awaited=True)

    @property
    def is_running(self) -> bool:
        return not self._ended.done()

    async def ended(self) -> Ended:
        """Wait until it and all that it started have ended."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> Ended:
        """End it: SIGTERM, and SIGKILL after two seconds."""
        if self._running.stdin is not None:
            self._running.stdin.close()
        return await self.ended()

    async def _follow(self) -> Ended:
        reports, output = self._running.stdout, self._running.stderr
        assert reports is not None  # noqa: S101  (`run` asked for pipes)
        assert output is not None  # noqa: S101
        rate, left_out, line = Rate(LINES_PER_S, LINES_BURST), 0, b""
        loop = asyncio.get_running_loop()
        while data := await output.read(READ_BYTES):
            self._output += data
            del self._output[:-OUTPUT_BYTES_MAX]
            *whole, line = (line + data).split(b"\n")
            line = line[:LINE_CHARS_MAX]
            for said in whole:
                if not rate.take(loop.time()):
                    left_out += 1
                    continue
                if left_out:
                    log.info("%s: (%d lines left out)", self.name, left_out)
                    left_out = 0
                log.info("%s: %s", self.name, said.decode(errors="replace")[:LINE_CHARS_MAX])
        if line or left_out:
            log.info("%s: %s (%d lines left out)", self.name, line.decode(errors="replace"), left_out)
        said = await reports.read(READ_BYTES)
        await self._running.wait()
        kept = self._output.decode(errors="replace")
        try:
            report = _read_report(said)
        except StorageError:
            return Ended(reason="lost", code=self._running.returncode or 0, output=kept)
        reason = "stopped" if report.reason == "node" else report.reason
        log.info("%s: ended (%s, %d)", self.name, reason, report.code)
        return Ended(reason=reason, code=report.code, output=kept)


class Processes:
    """The programs of one app."""

    def __init__(self, app: str, folder: Path, tasks: Tasks) -> None:
        self._app = app
        self._folder = folder
        self._tasks = tasks
        self._running: dict[Process, None] = {}

    async def run(
        self,
        name: str,
        words: Sequence[str],
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Process:
        """Run a program. Its output goes to the log, a bounded number of lines, and the end of it is kept.

        Args:
            name: for the log.
            words: the program and its arguments; others on this machine can read them.
            environment: beside INHERITED.
            folder: where it runs; the app's own without it.

        Raises:
            UsageError: this system cannot, or a word cannot be passed on.
            LimitExceeded: PROCESSES_MAX run.
        """
        if not hasattr(os, "fork"):
            raise UsageError(tr("programs of apps run on Linux and macOS only"))
        self._running = {process: None for process in self._running if process.is_running}
        if len(self._running) >= PROCESSES_MAX:
            raise LimitExceeded(
                tr(
                    "the app '{app}' runs {processes_max} programs already",
                    app=self._app,
                    processes_max=PROCESSES_MAX,
                )
            )
        given = {key: os.environ[key] for key in INHERITED if key in os.environ} | dict(environment or {})
        bounds = msgspec.to_builtins(limits or Limits())
        order = {"words": list(words), "environment": given, "folder": str(folder or self._folder)}
        order |= bounds | {"node": os.getpid()}
        if not words or any("\0" in word for word in (*words, *given, *given.values())):
            raise UsageError(tr("the program {name} cannot be started with these words", name=name))
        keeper = Path(__file__).with_name("keeper.py")
        pipe = asyncio.subprocess.PIPE
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(keeper), stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert made.stdin is not None  # noqa: S101
        process = Process(f"{self._app}/{name}", made, self._tasks)
        self._running[process] = None
        with contextlib.suppress(OSError):  # then it says itself how it ended
            made.stdin.write(msgspec.json.encode(order) + b"\n")
            await made.stdin.drain()
        return process

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(process.stop() for process in self._running if process.is_running))


def say_limit(ended: Ended, limits: Limits) -> str:
    """For people: which bound a program has passed, "" for none."""
    return {
        "memory": f"it used more than {say_bytes(limits.memory_bytes_max)} of memory",
        "processor": f"it used more than {limits.processor_s_max:g} s of processor time",
        "time": f"it ran longer than {limits.time_s_max:g} s",
    }.get(ended.reason, "")


@decoder(StorageError, "how a program ended")
def _read_report(raw: bytes) -> _Report:
    return msgspec.json.decode(raw, type=_Report)
