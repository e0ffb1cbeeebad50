"""A fake node with its real local API, on an event loop of its own while the test asks from outside."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coterie.control.server import Api, MakePage, serve
from tests.fakes.faces import ask, fake_node


@dataclass
class Served:
    """A served node: its API, the node, and whether it was asked to stop."""

    api: Api
    node: Any
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    home: Path

    def post(self, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, Any]:
        """A call as the owner's programs make it."""
        given = {"Authorization": f"Bearer {self.api.token}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        status, answer, _ = ask(self.api.url, "POST", f"/api/v1/{path}", body=body, headers=given)
        return status, answer

    def get(self, path: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.api.token}"}
        status, answer, _ = ask(self.api.url, "GET", f"/api/v1/{path}", headers=headers)
        return status, answer


@contextlib.contextmanager
def served_node(home: Path, make_page: MakePage | None = None) -> Iterator[Served]:
    """Serve a fake node in a thread."""
    ready = threading.Event()
    found: list[Served] = []
    over: list[asyncio.Event] = []
    failures: list[BaseException] = []

    async def run() -> None:
        end, stop = asyncio.Event(), asyncio.Event()
        over.append(end)
        async with fake_node().Node.open(home) as node, serve(node, stop, make_page) as api:
            found.append(Served(api, node, asyncio.get_running_loop(), stop, home))
            ready.set()
            await end.wait()

    def thread() -> None:
        try:
            asyncio.run(run())
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the test
            failures.append(error)
        finally:
            ready.set()

    worker = threading.Thread(target=thread)
    worker.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield found[0]
    finally:
        if found:
            found[0].loop.call_soon_threadsafe(over[0].set)
        worker.join()
    if failures:
        raise failures[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with served_node(tmp_path / "home") as served:
        yield served
