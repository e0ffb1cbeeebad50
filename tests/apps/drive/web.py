"""Two computers, a drive on one of them, and programs that use it."""

import asyncio
import contextlib
import http.client
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from coterie.node import Node
from tests.apps.files.nodes import friends

T = TypeVar("T")


class Answer(msgspec.Struct):
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes


class Drive:
    """The drive of `node`, as programs see it."""

    def __init__(self, node: Node, url: str, name: str) -> None:
        """`name`: what the other computer is called there."""
        self.node, self.url, self.name = node, url, name
        self.port = urlsplit(url).port

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; `path` below the root, not quoted."""
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    async def in_thread(self, work: Callable[..., T], *words: Any, **named: Any) -> T:
        """What `work` returns; it may block."""
        return await asyncio.to_thread(work, *words, **named)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=25)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            named.setdefault("Host", f"drive.localhost:{self.port}")
            connection.request(method, quote(f"/{path}"), body, named)
            got = connection.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())


async def program(*words: str | Path, feed: str = "", timeout_s: float = 60, **environment: str) -> str:
    """Run a program to its end; what it said. Fails when it does."""
    process = await asyncio.create_subprocess_exec(
        *map(str, words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", **environment},
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(feed.encode()), timeout_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = out.decode(errors="replace")
    assert process.returncode == 0, (words, process.returncode, said)
    return said


@contextlib.asynccontextmanager
async def drive(folder: Path) -> AsyncIterator[tuple[Node, Drive]]:
    """anna, who shares, and the drive of ben, her contact."""
    async with friends(folder) as (anna, ben):
        line = await ben.drive.switch(is_on=True)
        try:
            yield anna, Drive(ben, line.url, ben.people.name_of(anna.peer_id))
        finally:
            await ben.drive.switch(is_on=False)


def wanted(*programs: str) -> None:
    """Skip the test where one of these programs is not installed; in CI that is a failure."""
    missing = [one for one in programs if shutil.which(one, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{', '.join(missing)} not installed")
    assert not missing, f"{', '.join(missing)} not installed, and CI must have it"
