"""Kademlia over endpoints: the bytes of every message on streams, records to the address book, in virtual time."""

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from coterie.driver import NetDriver
from coterie.identity import PeerId
from coterie.machine import Emit
from coterie.overlay.kademlia.events import (
    Bootstrap,
    Finished,
    Learned,
    Provide,
    Put,
    SeekNode,
    SeekProviders,
    SeekValue,
)
from coterie.overlay.kademlia.keys import plain_item
from coterie.overlay.kademlia.machine import Kademlia
from coterie.overlay.kademlia.messages import KADEMLIA
from coterie.sim.clock import run
from coterie.sim.links import Link
from coterie.sim.network import SimNetwork
from tests.overlay.kademlia_world import key_of

NODES = 8


class Shell:
    """One node on the simulated network: what a real shell does, in a few lines."""

    def __init__(self, endpoint: Any, random: Random, book: dict[PeerId, Any]) -> None:
        self.peer: PeerId = endpoint.peer_id
        self.learned: dict[PeerId, bytes] = {}
        self._ends: dict[Any, asyncio.Future[Finished]] = {}
        self.core = Kademlia(self.peer, random, record_of=lambda peer: b"record of " + bytes(peer[:4]))
        self.driver = NetDriver(
            self.core,
            endpoint,
            KADEMLIA,
            on_output={Emit: self._emitted, Learned: lambda o: self.learned.update({o.peer: o.record})},
            addresses=lambda peer: book.get(peer, ()),
            strangers=True,
        )

    def _emitted(self, output: Emit) -> None:
        if isinstance(output.event, Finished):
            self._ends[output.event.lookup].set_result(output.event)

    async def seek(self, command: Any) -> Finished:
        self._ends[command.lookup] = asyncio.get_running_loop().create_future()
        self.driver.feed(command)
        return await self._ends[command.lookup]


async def main(random: Random) -> None:
    network = SimNetwork(random, Link(latency=0.05))
    async with AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(network.endpoint(n)) for n in range(NODES)]
        book = {endpoint.peer_id: endpoint.addresses for endpoint in endpoints}
        shells = [Shell(endpoint, Random(n), book) for n, endpoint in enumerate(endpoints)]
        for shell in shells:
            shell.driver.feed(Bootstrap((shells[0].peer,)))
            await asyncio.sleep(5)
        first, last = shells[1], shells[-1]

        end = await first.seek(SeekNode(lookup=1, key=key_of(last.peer)))
        assert end.closest[0] == last.peer
        assert last.learned[shells[3].peer] == b"record of " + bytes(shells[3].peer[:4])

        item = plain_item(b"hello")
        assert (await first.seek(Put(lookup=2, item=item))).stored == NODES
        assert (await last.seek(SeekValue(lookup=3, key=item.key))).item == item

        key = bytes(range(32))
        assert (await last.seek(Provide(lookup=4, key=key))).stored == NODES
        (provider,) = (await shells[3].seek(SeekProviders(lookup=5, key=key))).providers
        assert provider[0] == last.peer
        for shell in shells:
            await shell.driver.close()


def test_nodes_find_each_other_and_what_they_keep_over_streams() -> None:
    run(main, seed=1)
