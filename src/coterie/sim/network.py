"""Whole endpoints over the memory network, with simulated links; run it in virtual time.

async def main(random: Random) -> None:
    network = SimNetwork(random, Link(latency=0.05))
    async with network.endpoint("alice") as alice, network.endpoint("bob") as bob:
        connection = await alice.connect(bob.peer_id, bob.addresses)
        ...

clock.run(main, seed=1)
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from hashlib import blake2b
from itertools import combinations
from random import Random

from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net import Endpoint, Guard, MemoryNetwork, MemoryTransport, NetLimits
from coterie.sim.host import Host
from coterie.sim.hosts import Hosts
from coterie.sim.links import Link
from coterie.wire.handshake import BOOT_BYTES


class SimNetwork:
    """Named nodes on a memory network.

    Streams keep their promises, so of a `Link` and a `Host` they feel the latency, the time that loss costs, and the
    time in queues; datagrams are lost, also when a queue is full. `duplication` and `reordering` are the
    transport's to hide. What a message weighs is its bytes, without the headers of packets; one write takes its turn
    as a whole.
    """

    def __init__(self, random: Random, link: Link | None = None) -> None:
        self._random = random
        self._seed = random.randbytes(16)
        self._link = link or Link()
        self._degraded: dict[tuple[PeerId, PeerId], Link] = {}
        self._names: dict[Hashable, PeerId] = {}
        self._cuts: list[tuple[PeerId, PeerId]] = []
        self._hosts = Hosts()
        self._bound: dict[PeerId, MemoryTransport] = {}
        self._memory = MemoryNetwork(self)

    def key(self, name: Hashable) -> SecretKey:
        """The key of the node called `name`: the same for the same seed and name."""
        return SecretKey(blake2b(f"{name!r}".encode(), digest_size=32, key=self._seed).digest())

    def peer(self, name: Hashable) -> PeerId:
        """The id of the node called `name`."""
        if name not in self._names:
            self._names[name] = self.key(name).peer_id
        return self._names[name]

    def settle(self, name: Hashable, host: Host) -> None:
        """The node called `name` is on this machine from now on: its lines, its router, its clock.

        Behind a router (`is_reachable=False`) it is dialled in vain by those to whom it has not written within
        `nat_mapping_s`. Who dials goes on trying: two who dial each other meet, as by hole punching.
        """
        self._hosts.put(self.peer(name), host)

    def clock(self, name: Hashable, *, start_s: float = 0.0) -> Callable[[], float]:
        """What the clock of that machine shows: `start_s` and the loop's time, with its offset and drift."""
        host, loop = self._hosts.of(self.peer(name)), asyncio.get_running_loop()
        return lambda: start_s + host.clock_offset_s + loop.time() * (1.0 + host.clock_drift)

    def transport(self, name: Hashable) -> MemoryTransport:
        """A transport that answers as `name`."""
        peer = self.peer(name)
        self._bound[peer] = transport = self._memory.bind(peer)
        return transport

    def endpoint(
        self, name: Hashable, *, guard: Guard | None = None, limits: NetLimits | None = None
    ) -> Endpoint:
        """An endpoint of the node called `name`, not yet started. Another one of that name is its restart."""
        boot = self._random.randbytes(BOOT_BYTES)
        return Endpoint(self.transport(name), guard=guard, limits=limits, boot=boot)

    # ---- faults

    def degrade(self, a: Hashable, b: Hashable, link: Link | None) -> None:
        """Other conditions between two nodes, both ways; None takes them back."""
        one, other = self.peer(a), self.peer(b)
        for pair in ((one, other), (other, one)):
            if link is None:
                self._degraded.pop(pair, None)
            else:
                self._degraded[pair] = link

    def vanish(self, name: Hashable) -> None:
        """The node called `name` is off the network as in a power cut; close its endpoint after that."""
        transport = self._bound.pop(self.peer(name), None)
        if transport is None:
            raise UsageError(f"{name!r} is not on this network")
        transport.vanish()

    def partition(self, *sides: Iterable[Hashable]) -> None:
        """From now on nothing passes between the sides, given by name; an earlier partition is healed."""
        self.heal()
        groups = [[self.peer(name) for name in side] for side in sides]
        if len(groups) < 2:
            raise UsageError("a partition has two sides or more: name the nodes of each")
        self._cuts = [(a, b) for one, other in combinations(groups, 2) for a in one for b in other]
        for a, b in self._cuts:
            self._memory.block(a, b)

    def heal(self) -> None:
        """Everybody reaches everybody again; what was held back arrives."""
        cuts, self._cuts = self._cuts, []
        for a, b in cuts:
            self._memory.unblock(a, b)

    # ---- what the memory network asks

    def latency_s(self, sender: PeerId, receiver: PeerId) -> float:
        """One-way delay now; a lost packet of a stream is sent again one round trip later."""
        link = self._between(sender, receiver)
        delay = link.latency(sender, receiver, self._random) if callable(link.latency) else link.latency
        lost = bool(link.loss) and self._random.random() < link.loss
        return delay * 3 if lost else delay

    def drops_datagram(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> bool:
        """Whether this datagram is lost, on its way or before a queue that is full."""
        link = self._between(sender, receiver)
        if link.loss and self._random.random() < link.loss:
            return True
        return not self._hosts.has_room(sender, receiver, size_bytes, link, _now())

    def sent_s(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> float:
        """How long what is sent now takes to leave."""
        return self._hosts.sent_s(sender, receiver, size_bytes, self._between(sender, receiver), _now())

    def received_s(self, receiver: PeerId, size_bytes: int) -> float:
        """How long what arrives now takes to come in."""
        return self._hosts.received_s(receiver, size_bytes, _now())

    def lets_in(self, dialler: PeerId, peer: PeerId) -> bool:
        """Whether a dial gets past the router of `peer` now; it opens that of `dialler` for the answer."""
        self._hosts.note(dialler, peer, _now())
        return self._hosts.lets_in(dialler, peer, _now())

    def _between(self, sender: PeerId, receiver: PeerId) -> Link:
        return self._degraded.get((sender, receiver), self._link)


def _now() -> float:
    return asyncio.get_running_loop().time()
