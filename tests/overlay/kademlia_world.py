"""Kademlia nodes in a simulated world: real joins, and what came of their lookups."""

from collections.abc import Iterable
from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.machine import Machine
from coterie.overlay.kademlia.events import Bootstrap, Finished, Found
from coterie.overlay.kademlia.keys import node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.machine import Kademlia
from coterie.sim.links import Coordinates, Link
from coterie.sim.world import World

SMALL = KademliaLimits()


def peers(count: int, seed: int = 1) -> list[PeerId]:
    """Made-up peers: the core knows them by their bytes only."""
    random = Random(f"{seed}/peers")
    return [PeerId(random.randbytes(32)) for _ in range(count)]


def key_of(peer: PeerId) -> bytes:
    """The place of a peer, as a key."""
    return node_id(peer).to_bytes(32, "big")


def joined(
    count: int, seed: int = 1, *, limits: KademliaLimits = SMALL, every_s: float = 0.2, **options: Any
) -> tuple[World, list[PeerId]]:
    """A world of `count` nodes which joined one after the other, each through one that was there before."""
    world = World(seed, link=Link(latency=Coordinates(seed)), **options)
    names = peers(count, seed)
    random = Random(f"{seed}/joins")
    for number, name in enumerate(names):
        world.add(name, node(name, limits))
        via = (names[random.randrange(number)],) if number else ()
        world.schedule(number * every_s, lambda name=name, via=via: world.feed(name, Bootstrap(via)))
    world.run(until=count * every_s + 30)
    world.emitted.clear()
    return world, names


def node(name: PeerId, limits: KademliaLimits = SMALL, **options: Any) -> Any:
    """A factory for `World.add`."""

    def make(random: Random) -> Machine:
        return Kademlia(name, random, limits=limits, **options)

    return make


def run(world: World, name: PeerId, command: Any, *, for_s: float = 30.0) -> Finished:
    """Feed one lookup and return how it finished."""
    before = len(world.emitted)
    world.feed(name, command)
    world.run(until=world.now + for_s)
    finished = [e for _, who, e in world.emitted[before:] if who == name and isinstance(e, Finished)]
    assert len(finished) == 1, finished
    return finished[0]


def found(world: World) -> Iterable[Found]:
    """Everything found on the way, in order."""
    return [event for _, _, event in world.emitted if isinstance(event, Found)]
