"""Malicious nodes among searchers: one hundredth of the network, over real frames and real signatures.

Each attacker has as many links as everybody else. The kinds: silence; properly signed floods of 7 hops, 20 a
second to each neighbour; such floods in somebody else's name, so that answers rain on it; every message it has
heard again, three times, to anybody; frames of random bytes and frames over the limit; answers to every question,
in its own name and in others', with nothing true in them. Meanwhile honest nodes search, by the default walks, for
an item that one hundredth of the nodes have.

Harm is what fails, and what honest nodes are made to send beyond what the same searches cost in peace. Lies in a
liar's own name cannot be told from truth by the network: an app says by `Ask.accept` what it takes, or has to look
itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from coterie.identity import PeerId, SecretKey
from coterie.machine import Machine, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.overlay.search.asker import Ended, Found
from coterie.overlay.search.limits import SearchLimits
from coterie.overlay.search.machine import Ask, Search
from coterie.overlay.search.messages import QUERY_ID_BYTES, SEARCH, Answer, Flooded, Question, Walking
from coterie.sim.adversary import Flooding, Replaying, Silent
from coterie.sim.links import Coordinates, Link
from coterie.sim.over_wire import OverWire
from coterie.sim.world import World
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.searching import DEGREE

ITEM = b"the item"
TRUE = b"true"
QUIET_S = 15.0  # the attack goes on before the first search


@dataclass
class Harm:
    """What one attack came to."""

    searches: int = 0
    succeeded: int = 0
    lies: int = 0  # answers that were taken and are not true
    honest_messages: int = 0  # what honest nodes sent
    hostile_messages: int = 0
    refused: int = 0  # frames that no decoder took
    seconds: float = 0.0
    victim_messages: int = 0
    tables_max: int = 0


class LyingSearch:
    """Answers every question it hears: in its own name and in others', straight, with a lie."""

    def __init__(self, core: Machine, random: Random, me: PeerId, others: list[PeerId]) -> None:
        self.core = core
        self._random = random
        self._me = me
        self._others = others

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        outputs = self.core.handle(event, now)
        if type(event) is Received and type(event.message) in (Flooded, Walking):
            question = event.message.question
            names = [self._me, *self._random.sample(self._others, 5)]
            lies = [Answer(question.id, bytes(name), (b"a lie",)) for name in names]
            unasked = [Answer(self._random.randbytes(QUERY_ID_BYTES), bytes(self._me), (b"a lie",))]
            outputs += [Send(PeerId(question.asker), lie) for lie in lies + unasked]
        return outputs


class Raw:
    """Sends frames no encoder would make, to all its neighbours, ten times a second."""

    def __init__(self, random: Random, neighbours: list[PeerId]) -> None:
        self._random = random
        self._neighbours = neighbours

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        if isinstance(event, TimerFired | PeerUp):
            return [SetTimer("raw", now + 0.1), *(Send(peer, self._frame()) for peer in self._neighbours)]
        return []

    def _frame(self) -> bytes:
        random = self._random
        body = random.randbytes(random.choice((1, 40, 400)))
        kind = random.choice((1, 2, 3, 4, 5, 77))
        length = random.choice(
            (len(body) + 1, 1 << 24)
        )  # one over the limit is refused before its body comes
        return length.to_bytes(4, "big") + bytes([kind]) + body


class Counting(OverWire):
    """A searcher over real frames that counts what it sends."""

    def __init__(self, core: Search, harm: Harm) -> None:
        super().__init__(core, SEARCH, refused=self._count)
        self.search = core
        self._harm = harm

    def _count(self, _error: Exception) -> None:
        self._harm.refused += 1

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        outputs = super().handle(event, now)
        self._harm.honest_messages += sum(type(output) is Send for output in outputs)
        return outputs


class Town:
    """A world of searchers over real frames, some of them attackers."""

    def __init__(self, seed: int, nodes: int, hostile: int) -> None:
        self.random = Random(f"{seed}/town")
        self.keys = [SecretKey(self.random.randbytes(32)) for _ in range(nodes)]
        self.peers = [key.peer_id for key in self.keys]
        self.hostile = self.random.sample(range(nodes), hostile)
        self.honest = [n for n in range(nodes) if n not in frozenset(self.hostile)]
        self.holders = frozenset(self.random.sample(self.honest, nodes // 100))
        self.harm = Harm()
        self.world = World(seed, link=Link(latency=Coordinates(seed)), size_of=len, dial_fails_after_s=2.0)
        self.links: dict[int, list[PeerId]] = {n: [] for n in range(nodes)}
        for number in range(nodes):
            self.world.add(self.peers[number], lambda random, n=number: self._node(n, random))  # type: ignore[misc]
        for _ in range(DEGREE):
            shuffled = self.random.sample(range(nodes), nodes)
            for a, b in zip(shuffled[::2], shuffled[1::2], strict=True):
                self.links[a].append(self.peers[b])
                self.links[b].append(self.peers[a])

    def open(self, attack: "Attack | None") -> None:
        """Put the attackers in their places and let everybody meet."""
        for number in self.hostile if attack else ():
            self.world.corrupt(
                self.peers[number], lambda core, random, n=number: attack(self, n, core, random)
            )  # type: ignore[misc]
        for number, peers in self.links.items():
            for peer in peers:
                self.world.feed(self.peers[number], PeerUp(peer))
        self.world.run(QUIET_S)

    def _node(self, number: int, random: Random) -> Counting:
        key = self.keys[number]
        core = Search(
            key.peer_id,
            sign=key.sign,
            random=random,
            answer=lambda topic, body: [TRUE] if number in self.holders and body == ITEM else [],
        )
        return Counting(core, self.harm)


Attack = Callable[[Town, int, Machine, Random], Machine]


def silent(town: Town, number: int, core: Machine, random: Random) -> Machine:
    """Keeps what it gets: walkers end there."""
    return Silent()


def questions(town: Town, number: int, core: Machine, random: Random) -> Machine:
    """New questions, properly signed, 20 a second to each neighbour."""
    return _floods(town, number, random, asker=number, per_s=20.0)


def victim(town: Town, number: int, core: Machine, random: Random) -> Machine:
    """The same in the name of one honest node, whose key it does not have."""
    return _floods(town, number, random, asker=town.honest[0], per_s=10.0)


def replays(town: Town, number: int, core: Machine, random: Random) -> Machine:
    """Everything it has heard, three times more."""
    return Replaying(core, random)


def garbage(town: Town, number: int, core: Machine, random: Random) -> Machine:
    """Bytes that are no message, and lengths over the limit."""
    return Raw(random, town.links[number])


def lies(town: Town, number: int, core: Machine, random: Random) -> Machine:
    """An answer to everything."""
    assert isinstance(core, Counting)
    others = [town.peers[n] for n in town.honest]
    return OverWire(LyingSearch(core.search, random, town.peers[number], others), SEARCH)


def _floods(town: Town, number: int, random: Random, *, asker: int, per_s: float) -> Machine:
    def make(random: Random) -> Flooded:
        now = int(town.world.now)
        asked = Question(
            random.randbytes(QUERY_ID_BYTES), bytes(town.peers[asker]), True, 1, now + 60, "test", ITEM
        )
        signature = town.keys[number].sign(asked.signed_bytes)
        return Flooded(Question(*(getattr(asked, f) for f in asked.__struct_fields__[:-1]), signature), 0, 6)

    return OverWire(Flooding(Silent(), random, make=make, per_s=per_s), SEARCH)


UNCHECKED = "lies, and the app accepts all"
ATTACKS: dict[str, Attack | None] = {
    "nobody is hostile": None,
    "silence": silent,
    "signed floods, 20/s a link": questions,
    "questions in another's name": victim,
    "replays": replays,
    "garbage and oversized frames": garbage,
    "lies to every question": lies,
    UNCHECKED: lies,
}


def run(
    report: Report, seed: int, *, nodes: int, hostile: int, searches: int, names: list[str] | None = None
) -> None:
    """The same searches under each attack."""
    harms = {name: _under(seed, nodes, hostile, searches, name, report) for name in names or ATTACKS}
    peace = harms["nobody is hostile"]
    rows = []
    for name, harm in harms.items():
        success = harm.succeeded / harm.searches
        per_hostile = harm.honest_messages / harm.seconds / nodes
        rows.append(
            (
                name,
                success,
                harm.lies,
                harm.honest_messages,
                per_hostile,
                harm.hostile_messages,
                harm.refused,
                harm.tables_max,
            )
        )
        if name != UNCHECKED:
            report.claim(f"searches that succeed: {name}", success, at_least=0.95)
        if name == "signed floods, 20/s a link":
            limits = SearchLimits()
            allowed = limits.budget_per_s + limits.budget_burst / harm.seconds
            caused = (harm.honest_messages - peace.honest_messages) / harm.seconds / (hostile * DEGREE)
            report.claim(
                "messages/s caused by one hostile link that floods, at most its budget",
                caused,
                at_most=allowed,
            )
        elif name == "questions in another's name":
            report.claim("messages to the victim", harm.victim_messages, at_most=0)
    report.table(
        "Under each attack",
        (
            "attack",
            "success",
            "lies taken",
            "honest messages",
            "per node and second",
            "hostile messages",
            "frames refused",
            "largest table",
        ),
        rows,
    )


def _is_true(_responder: PeerId, items: tuple[bytes, ...]) -> bool:
    return TRUE in items


def _under(seed: int, nodes: int, hostile: int, searches: int, name: str, report: Report) -> Harm:
    town = Town(seed, nodes, hostile)
    town.open(ATTACKS[name])
    world, harm = town.world, town.harm
    askers = [n for n in town.honest[1:] if n not in town.holders]
    for number in range(searches):
        accept = None if name == UNCHECKED else _is_true
        ask = Ask(number, "test", ITEM, deadline_s=20, accept=accept)
        world.feed(town.peers[town.random.choice(askers)], ask)
        world.run(world.now + 1.0)
    world.run(world.now + 21.0)
    for _, _, event in world.emitted:
        if isinstance(event, Found):
            harm.lies += TRUE not in event.items
        elif isinstance(event, Ended):
            harm.searches += 1
    true = {event.key for _, _, event in world.emitted if isinstance(event, Found) and TRUE in event.items}
    harm.succeeded = len(true)
    harm.hostile_messages = world.sent - harm.honest_messages
    harm.seconds = world.now
    cores = [world.core(town.peers[n]).search for n in town.honest]
    harm.tables_max = max(max(core.sizes.values()) for core in cores)
    harm.victim_messages = cores[0].counts.unasked
    report.world(world)
    return harm


SCENARIO = Scenario(
    "search-hostile",
    "Search among malicious nodes",
    __doc__,
    run,
    small={
        "nodes": 200,
        "hostile": 2,
        "searches": 10,
        "names": [
            "nobody is hostile",
            "replays",
            "garbage and oversized frames",
            "questions in another's name",
        ],
    },
    full={"nodes": 500, "hostile": 5, "searches": 60},
    full_cpu_s=200,
)
