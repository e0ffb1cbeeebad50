"""Programs of others that use disks, as children beside a test's loop."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

PLACES = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def need(*programs: str) -> None:
    """Skip the test where one of these programs is not installed; in CI that is a failure."""
    missing = [program for program in programs if shutil.which(program, path=PLACES) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{', '.join(missing)} not installed")
    assert not missing, f"{', '.join(missing)} not installed, and CI must have it"


async def ended(*words: str | Path, timeout_s: float = 60.0) -> tuple[int, str]:
    """Run a program to its end: its status, and what it said."""
    program = shutil.which(str(words[0]), path=PLACES) or str(words[0])
    running = await asyncio.create_subprocess_exec(
        program, *map(str, words[1:]), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(running.communicate(), timeout_s)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    return running.returncode or 0, said.decode(errors="replace")


async def done(*words: str | Path, timeout_s: float = 60.0) -> str:
    """What a program said that is to succeed."""
    status, said = await ended(*words, timeout_s=timeout_s)
    assert status == 0, f"{words[0]} ended with {status}: {said}"
    return said


@contextlib.asynccontextmanager
async def fused(uri: str, folder: Path, *options: str) -> AsyncIterator[Path]:
    """A disk as the file that nbdfuse makes of it."""
    folder.mkdir(exist_ok=True)
    program = shutil.which("nbdfuse", path=PLACES) or "nbdfuse"
    running = await asyncio.create_subprocess_exec(program, *options, str(folder), uri)
    try:
        async with asyncio.timeout(20):
            while not await asyncio.to_thread((folder / "nbd").exists):
                assert running.returncode is None, "nbdfuse ended"
                await asyncio.sleep(0.02)
        yield folder / "nbd"
    finally:
        await ended("fusermount3", "-u", folder)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.wait(), 10)
        if running.returncode is None:
            running.kill()
            await running.wait()
