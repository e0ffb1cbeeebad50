"""Whole endpoints over the memory network, with simulated links; run it in virtual time.

async def main(random: Random) -> None:
    network = SimNetwork(random, Link(latency=0.05))
    async with network.endpoint("alice") as alice, network.endpoint("bob") as bob:
        connection = await alice.connect(bob.peer_id, bob.addresses)
        ...

clock.run(main, seed=1)
"""

from collections.abc import Hashable, Iterable
from hashlib import blake2b
from itertools import combinations
from random import Random

from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net import Endpoint, Guard, MemoryNetwork, MemoryTransport, NetLimits
from coterie.sim.links import Link
from coterie.wire.handshake import BOOT_BYTES


class SimNetwork:
    """Named nodes on a memory network.

    Streams keep their promises, so of a `Link` they feel the latency and the time that loss costs; datagrams are
    lost. `duplication` and `reordering` are the transport's to hide.
    """

    def __init__(self, random: Random, link: Link | None = None) -> None:
        self._random = random
        self._seed = random.randbytes(16)
        self._link = link or Link()
        self._degraded: dict[tuple[PeerId, PeerId], Link] = {}
        self._names: dict[Hashable, PeerId] = {}
        self._cuts: list[tuple[PeerId, PeerId]] = []
        self._memory = MemoryNetwork(self)

    def key(self, name: Hashable) -> SecretKey:
        """The key of the node called `name`: the same for the same seed and name."""
        return SecretKey(blake2b(f"{name!r}".encode(), digest_size=32, key=self._seed).digest())

    def peer(self, name: Hashable) -> PeerId:
        """The id of the node called `name`."""
        if name not in self._names:
            self._names[name] = self.key(name).peer_id
        return self._names[name]

    def transport(self, name: Hashable) -> MemoryTransport:
        """A transport that answers as `name`."""
        return self._memory.bind(self.peer(name))

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
        link = self._degraded.get((sender, receiver), self._link)
        delay = link.latency(sender, receiver, self._random) if callable(link.latency) else link.latency
        lost = bool(link.loss) and self._random.random() < link.loss
        return delay * 3 if lost else delay

    def drops_datagram(self, sender: PeerId, receiver: PeerId) -> bool:
        """Whether this datagram is lost."""
        link = self._degraded.get((sender, receiver), self._link)
        return bool(link.loss) and self._random.random() < link.loss
