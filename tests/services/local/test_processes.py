"""Programs of apps: bounded, and gone with the node however it dies. Every process here is a real one."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coterie.errors import LimitExceeded, UsageError
from coterie.services.local import processes as room
from coterie.services.local.processes import Limits, Processes, say_limit
from coterie.tasks import Tasks
from tests.support import run

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of grandchildren")
GONE_S = 15.0  # after the node was killed; two and a little on a machine that is not busy
NODE = """
import asyncio, sys
from pathlib import Path
from coterie.apps.app import App
from coterie.node import Node

class Engine:
    def __init__(self, context): self.context = context
    async def start(self):
        await self.context.local.run("engine", ["sh", "-c", sys.argv[2]])
    async def close(self): pass

async def main():
    app = App(name="engine", summary="An engine.", create=Engine, commands="")
    async with Node.open(Path(sys.argv[1]), apps=[app], offline=True):
        await asyncio.sleep(600)

asyncio.run(main())
"""


def table(folder: Path) -> Processes:
    return Processes("test", folder, Tasks())


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def is_alive(process: int) -> bool:
    """Whether it runs and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_says_how_it_ended_and_its_output_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_NODE", "x")
    caplog.set_level(logging.INFO)

    async def play() -> None:
        programs = table(tmp_path)
        text = "echo one; echo two >&2; pwd; env | grep -c SECRET; echo $GIVEN; exit 3"
        process = await programs.run("engine", shell(text), environment={"GIVEN": "given"})
        ended = await process.ended()
        assert (ended.reason, ended.code, ended.is_good) == ("end", 3, False)
        assert ended.output == f"one\ntwo\n{tmp_path}\n0\ngiven\n"
        assert "test/engine: two" in caplog.text
        ended = await (await programs.run("missing", ["/no/such/program"])).ended()
        assert (ended.code, ended.output) == (
            127,
            "/no/such/program cannot be started: No such file or directory\n",
        )
        with pytest.raises(UsageError):
            await programs.run("null", ["sh", "\0"])

    run(play())


def test_of_much_output_the_end_is_kept_and_little_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def play() -> None:
        process = await table(tmp_path).run(
            "loud", shell("yes | head -c 3000000; printf '%01000d' 7; echo; echo end")
        )
        ended = await process.ended()
        assert len(ended.output) == room.OUTPUT_BYTES_MAX
        assert ended.output.endswith("end\n")
        assert room.LINES_BURST <= len(caplog.records) < room.LINES_BURST + 100
        assert "lines left out" in caplog.text
        assert max(len(record.getMessage()) for record in caplog.records) < room.LINE_CHARS_MAX + 50

    run(play())


@linux
@pytest.mark.parametrize(
    ("limits", "text", "reason"),
    [
        (Limits(time_s_max=0.2), "sleep 300", "time"),
        (Limits(processor_s_max=0.3), "while :; do :; done", "processor"),
        (Limits(processor_s_max=0.3), "(while :; do :; done) & wait", "processor"),
        (
            Limits(memory_bytes_max=30_000_000),
            "! tail /dev/zero",
            "end",
        ),  # it gets no more, and ends by itself
    ],
)
def test_a_program_beyond_its_limit_is_ended(tmp_path: Path, limits: Limits, text: str, reason: str) -> None:
    async def play() -> None:
        process = await table(tmp_path).run("greedy", shell(text), limits=limits)
        ended = await process.ended()
        assert ended.reason == reason
        assert bool(say_limit(ended, limits)) == (reason != "end")

    run(play())


HOLD = "import time\nheld = bytearray(40_000_000)\ntime.sleep(300)"


@linux
def test_memory_is_counted_for_all_that_a_program_starts(tmp_path: Path) -> None:
    async def play() -> None:
        one = f'{sys.executable} -S -c "{HOLD}"'
        limits = Limits(memory_bytes_max=100_000_000)
        process = await table(tmp_path).run("many", shell(f"{one} & {one} & {one} & wait"), limits=limits)
        assert (await process.ended()).reason == "memory"

    run(play())


@linux
def test_what_a_program_left_behind_ends_with_it_and_with_the_app(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def play() -> None:
        programs = table(tmp_path)
        process = await programs.run("leaves", shell("setsid sleep 300 & echo $!"))
        ended = await process.ended()
        assert ended.is_good
        assert not is_alive(int(ended.output))
        text = "trap '' TERM; echo ready; while :; do sleep 300; done"
        stubborn = await programs.run("stubborn", shell(text))
        while "ready" not in caplog.text:
            await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(programs.close())
        ended = await stubborn.ended()
        assert (ended.reason, ended.code) == ("stopped", -signal.SIGKILL)
        await closing

    run(play())


def test_one_program_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROCESSES_MAX", 1)

    async def play() -> None:
        programs = table(tmp_path)
        first = await programs.run("one", ["sleep", "300"])
        with pytest.raises(LimitExceeded):
            await programs.run("two", ["sleep", "300"])
        assert (await first.stop()).reason == "stopped"
        await (await programs.run("two", ["true"])).ended()

    run(play())


@linux
@pytest.mark.parametrize("killed", ["node", "keeper"])
def test_nothing_survives_a_node_that_is_killed(tmp_path: Path, killed: str) -> None:
    pids = tmp_path / "pids"
    text = f"sleep 301 & setsid sleep 302 & echo $$ $! > {pids}; mv {pids} {pids}.whole; wait"
    (tmp_path / "home").mkdir(mode=0o700)
    node = subprocess.Popen([sys.executable, "-c", NODE, str(tmp_path / "home"), text])
    try:
        until = time.monotonic() + 60
        while not (whole := Path(f"{pids}.whole")).exists() and time.monotonic() < until:
            time.sleep(0.05)
        shell_, sleeper = map(int, whole.read_text().split())
        keeper = int(Path(f"/proc/{shell_}/stat").read_text().rpartition(")")[2].split()[1])
        assert all(map(is_alive, (shell_, sleeper, keeper)))
        os.kill(node.pid if killed == "node" else keeper, signal.SIGKILL)
        watched = (shell_, sleeper, keeper) if killed == "node" else (shell_, keeper)
        until = time.monotonic() + GONE_S
        while any(map(is_alive, watched)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(is_alive, watched))
    finally:
        node.kill()
        node.wait(timeout=20)
        for process in (shell_, sleeper):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
