"""Homes that knock, over a simulated table of mutable items (BEP 44): nodes that lose, lie, come and go."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from coterie.identity import PeerId, SecretKey
from coterie.machine import Emit, Received, Send, SetTimer, TimerFired
from coterie.net.find.knocks import (
    Answered,
    BellRead,
    Heard,
    Knocking,
    KnockingOver,
    Knocks,
    Listen,
    NotKnocked,
    ReadBell,
    Surroundings,
    WriteBell,
)
from coterie.sim.links import Link, uniform
from coterie.sim.world import World
from coterie.wire.knock import Bell, KnockKeys, door_bell, slot_of

CLOSEST = 8  # nodes that keep an item: BEP 44 and Kademlia's k
SEARCH_S = 4.0  # a search that some do not answer
SEQUENCE_MAX = 2**63 - 1


class Get(msgspec.Struct, frozen=True):
    key: bytes


class Put(msgspec.Struct, frozen=True):
    key: bytes
    sequence: int
    item: bytes


class Found(msgspec.Struct, frozen=True):
    key: bytes
    sequence: int
    item: bytes


class TableNode:
    """Keeps items under keys; one with a sequence number that is not above the one it has is refused."""

    def __init__(self) -> None:
        self.items: dict[bytes, tuple[int, bytes]] = {}

    def handle(self, event: Any, now: float) -> list[Any]:
        if not isinstance(event, Received):
            return []
        match event.message:
            case Get(key):
                sequence, item = self.items.get(key, (0, b""))
                return [Send(event.peer, Found(key, sequence, item))]
            case Put(key, sequence, item) if sequence > self.items.get(key, (-1, b""))[0]:
                self.items[key] = (sequence, item)
        return []


class Liar(TableNode):
    """Answers with the oldest item that it had, and keeps what it is asked to keep for itself."""

    def handle(self, event: Any, now: float) -> list[Any]:
        if isinstance(event, Received) and isinstance(event.message, Put):
            self.items.setdefault(event.message.key, (event.message.sequence, event.message.item))
            return []
        return super().handle(event, now)


def closest(nodes: Sequence[str], key: bytes) -> list[str]:
    """The nodes that keep what hangs under `key`."""
    return sorted(nodes, key=lambda name: Random(key + name.encode()).random())[:CLOSEST]


class Client:
    """The part of a home that asks the table: what a session of the DHT library does."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self._searches: dict[bytes, dict[str, Any]] = {}

    def search(self, bell: Bell, now: float, write: bytes | None = None) -> list[Any]:
        """Read, and then write where `write` is something."""
        search = self._searches.setdefault(
            bell.key, {"bell": bell, "left": CLOSEST, "best": (0, b""), "write": None, "reads": False}
        )
        search["write"] = write if write is not None else search["write"]
        search["reads"] |= write is None
        return [
            *(Send(name, Get(bell.key)) for name in closest(self._nodes, bell.key)),
            SetTimer(("search", bell.key), now + SEARCH_S),
        ]

    def found(self, peer: str, message: Found) -> tuple[list[Any], list[BellRead]]:
        """Messages to send, and what was read."""
        search = self._searches.get(message.key)
        if search is None:
            return [], []
        search["left"] -= 1
        read = []
        if (message.sequence, message.item) > search["best"]:
            search["best"] = (message.sequence, message.item)
            read = [BellRead(search["bell"], message.item, False)] if search["reads"] else []
        if search["left"]:
            return [], read
        sends, last = self.over(message.key)
        return sends, [*read, *last]

    def over(self, key: bytes) -> tuple[list[Any], list[BellRead]]:
        """The search has ended, or takes too long."""
        search = self._searches.pop(key, None)
        if search is None:
            return [], []
        sequence, item = search["best"]
        sends = []
        if search["write"] is not None:
            put = Put(key, min(SEQUENCE_MAX, sequence + 1), search["write"])
            sends = [Send(name, put) for name in closest(self._nodes, key)]
        return sends, [BellRead(search["bell"], item, True)] if search["reads"] else []


class Home:
    """A node: the machine under test, and the table's client."""

    def __init__(self, knocks: Knocks, nodes: Sequence[str]) -> None:
        self.knocks = knocks
        self._client = Client(nodes)

    def handle(self, event: Any, now: float) -> list[Any]:
        match event:
            case Received(peer, Found() as message):
                sends, reads = self._client.found(str(peer), message)
            case TimerFired(("search", bytes(key))):
                sends, reads = self._client.over(key)
            case _:
                return self._translate(self.knocks.handle(event, now), now)
        for read in reads:
            sends += self._translate(self.knocks.handle(read, now), now)
        return sends

    def _translate(self, outputs: Sequence[Any], now: float) -> list[Any]:
        done: list[Any] = []
        for output in outputs:
            match output:
                case ReadBell(bell):
                    done += self._client.search(bell, now)
                case WriteBell(bell, item):
                    done += self._client.search(bell, now, item)
                case _:
                    done.append(output)
        return done


class Jammer:
    """Knows the id of `victim`, and so its door: hangs there what `make` gives, each time above all others."""

    def __init__(self, victim: PeerId, nodes: Sequence[str], make: Callable[[bytes], bytes]) -> None:
        self._victim = victim
        self._nodes = nodes
        self._make = make
        self._seen = b""

    def handle(self, event: Any, now: float) -> list[Any]:
        done: list[Any] = []
        if isinstance(event, Received) and isinstance(event.message, Found):
            self._seen = event.message.item or self._seen
            return []
        for slot in (slot_of(now), slot_of(now) + 1):
            key = door_bell(self._victim, slot).key
            for name in closest(self._nodes, key):
                done += [Send(name, Get(key)), Send(name, Put(key, SEQUENCE_MAX, self._make(self._seen)))]
        return [*done, SetTimer("again", now + 5.0)]


class Scene:
    """A world with a table of `tables` nodes. `home` adds homes, which know whom `knows` says."""

    def __init__(self, seed: int, *, tables: int = 24, loss: float = 0.0) -> None:
        self.world = World(seed, link=Link(latency=uniform(0.02, 0.2), loss=loss))
        self.nodes = [f"table {number}" for number in range(tables)]
        self.keys: dict[str, SecretKey] = {}
        self.knows: dict[str, list[str]] = {}
        self.secrets: dict[str, dict[bytes, bytes]] = {}
        for name in self.nodes:
            self.world.add(name, lambda random: TableNode())

    def home(self, name: str, *knows: str, clock_offset_s: float = 0.0) -> PeerId:
        """A home that counts `knows` as contacts."""
        from coterie.sim.host import Host

        key = self.keys[name] = SecretKey(Random(name).randbytes(32))
        self.knows[name], self.secrets[name] = list(knows), {}
        around = Surroundings(
            addresses=lambda: [f"192.0.2.{len(name)}:4433"],
            is_known=lambda peer: peer in self._contacts(name),
            secrets=lambda reference: [s for r, s in self.secrets[name].items() if r == reference],
            contacts=lambda: self._contacts(name),
        )
        host = Host(clock_offset_s=clock_offset_s)
        self.world.add(
            name, lambda random: Home(Knocks(KnockKeys(key), around, random), self.nodes), host=host
        )
        return key.peer_id

    def _contacts(self, name: str) -> list[PeerId]:
        return [self.keys[one].peer_id for one in self.knows[name]]

    def id(self, name: str) -> PeerId:
        return self.keys[name].peer_id

    def knocks(self, name: str) -> Knocks:
        found: Knocks = self.world.core(name).knocks
        return found

    def listen(self, name: str) -> None:
        self.world.feed(name, Listen(True))

    def seek(self, name: str, other: str, **options: Any) -> float:
        """`name` begins to knock for `other`; when that was."""
        self.world.feed(name, Knocking(self.id(other), **options))
        return self.world.now

    def end(self, name: str, other: str) -> None:
        self.world.feed(name, KnockingOver(self.id(other)))

    def heard(self, name: str, other: str) -> list[float]:
        """When `name` heard `other`."""
        return self._when(name, Heard, other)

    def answered(self, name: str, other: str) -> list[float]:
        return self._when(name, Answered, other)

    def refusals(self, name: str) -> list[str]:
        return [e.why for _, at, e in self.world.emitted if at == name and isinstance(e, NotKnocked)]

    def _when(self, name: str, kind: type, other: str) -> list[float]:
        mine: list[tuple[float, Any]] = [
            (t, e) for t, at, e in self.world.emitted if at == name and type(e) is kind
        ]
        return [t for t, event in mine if event.peer == self.id(other)]


__all__ = ["Emit", "Home", "Jammer", "Liar", "Scene", "TableNode"]
