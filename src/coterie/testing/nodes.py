"""Whole nodes in one process with chosen apps, on a simulated network: in virtual time or in real time.

async def story(cast: Cast) -> None:
    anna, ben = await cast.node("anna"), await cast.node("ben")
    await cast.befriend(anna, ben)
    ...

play(story, tmp_path, apps=[APP], link=Link(latency=0.05, loss=0.02), seed=7)
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.apps.app import App
from coterie.node import Node
from coterie.private_file import write_private
from coterie.sim import clock
from coterie.sim.links import Link
from coterie.sim.network import SimNetwork
from coterie.testing.checks import run

T = TypeVar("T")

CONTACTS = "contacts"  # the app by which nodes come to know each other


class Cast:
    """The nodes of one story. Their homes are folders of `folder`, their keys come from the seed.

    `network` is what lies between them: `partition`, `heal`, `degrade`, `vanish` are its faults.
    """

    def __init__(self, folder: Path, network: SimNetwork, apps: Sequence[str | App] | None = None) -> None:
        """`apps`: what each node runs, as for `Node.open`; None: all that are installed."""
        self.network = network
        self._folder = folder
        self._apps = apps
        self._running: dict[str, contextlib.AsyncExitStack] = {}

    async def node(self, name: str, *, settings: str = "") -> Node:
        """Start the node called `name`; its home is made, with `settings` as `config.toml`, when there is none."""
        home = self._folder / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(home / "key", self.network.key(name).seed)
        if settings or not (home / "config.toml").exists():
            write_private(home / "config.toml", f'name = "{name}"\n{settings}\n'.encode())
        apps = None if self._apps is None else [*self._apps, CONTACTS]
        stack = contextlib.AsyncExitStack()
        opened = Node.open(home, transport=self.network.transport(name), apps=apps)
        node = await stack.enter_async_context(opened)
        self._running[name] = stack
        return node

    async def befriend(self, one: Node, other: Node) -> None:
        """Make two running nodes contacts of each other: they find each other by name."""
        for node, friend in ((one, other), (other, one)):
            node.contacts.learn(friend.peer_id, friend.name, friend.addresses)
        await one.connect(other.peer_id)

    def permit(self, one: Node, other: Node, verb: Verb, resource: str) -> None:
        """Let `other` do this on `one`, as the owner of `one` would with `coterie grant`, until it is stopped."""
        one.access.policy.permit(of_peer(other.peer_id), verb, resource)
        one.access.changed()

    async def stop(self, name: str) -> None:
        """End the node as its owner does. `node(name)` starts it again from its home."""
        await self._running.pop(name).aclose()

    async def close(self) -> None:
        """End all that run."""
        for name in list(self._running):
            await self.stop(name)


def play(
    story: Callable[[Cast], Awaitable[T]],
    folder: Path,
    *,
    apps: Sequence[str | App] | None = None,
    link: Link | None = None,
    seed: int = 0,
    in_real_time: bool = False,
) -> T:
    """Run `story` with nodes in virtual time: an hour takes no time, and no socket is opened.

    Args:
        folder: an empty one, for the homes of the nodes.
        apps: what each node runs besides `contacts`; None: all that are installed.
        link: latency, loss, bandwidth between any two; `cast.network.degrade` changes one pair.
        seed: of everything random in the network; an error says it in a note.
        in_real_time: where threads work beside the loop, as those that move large files do.
    """

    async def main(random: Random) -> T:
        cast = Cast(folder, SimNetwork(random, link), apps)
        try:
            return await story(cast)
        finally:
            await cast.close()

    if in_real_time:
        return run(main(Random(seed)))  # noqa: S311 - a reproducible test, not a secret
    return clock.run(main, seed, threads_inline=True)
