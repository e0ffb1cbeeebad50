"""Whole nodes with circles, in this process, over a network in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from coterie.apps.circles.api import CirclesService
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.files.nodes import memory_node


def circles(node: Node) -> CirclesService:
    service: CirclesService = node.service("circles")
    return service


@contextlib.asynccontextmanager
async def people(folder: Path, *names: str) -> AsyncIterator[list[Node]]:
    """One node for each name, all on one network."""
    network = MemoryNetwork()
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name in names:
            home = folder / name
            home.mkdir(mode=0o700, exist_ok=True)
            (home / "config.toml").write_text(f'name = "{name}"\n')
            nodes.append(await stack.enter_async_context(memory_node(network, home)))
        yield nodes


async def let_in(owner: Node, joiner: Node, circle: str, role: str = "member") -> None:
    """`joiner` joins `circle` over an invitation of `owner`."""
    async with circles(owner).invite(circle, role=role) as invitation:
        await circles(joiner).join(invitation.invited.ticket)


async def let_in_device(old: Node, new: Node) -> None:
    """`new` becomes another computer of the person of `old`."""
    async with circles(old).devices.invite() as invitation:
        await circles(new).devices.join(invitation.invited.ticket)


async def until(holds: Callable[[], bool], timeout_s: float = 25.0) -> float:
    """Wait until `holds`; how long it took (s)."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not holds():
        assert loop.time() - began < timeout_s, "it did not come true"
        await asyncio.sleep(0.01)
    return loop.time() - began


def roles(node: Node, circle: str) -> dict[str, str]:
    """The members that a node sees."""
    return {line.name: line.role for line in circles(node).members(circle)}
