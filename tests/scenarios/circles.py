"""Circles: random histories under partitions, liars among them, and a circle of fifty of whom half are away.

Each node runs the core that real nodes run (`apps/circles/core.py`) with its own copy of the circle. In the histories
members add, remove, promote, demote and rename each other, also on old views, as one does who was long away or lies
about when; the network is cut in two and heals, and loses 2 % of the messages. In the circle of fifty everybody has
four links to others who are there. An operation cannot be faster than the meetings: `allowed` is who would know it if
links took no time.
"""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any

from coterie.access.circle import Circle
from coterie.access.circle_facts import subject_of
from coterie.access.circle_log import CircleLog
from coterie.access.circle_ops import Kind, OpRefused, Role, SignedOp
from coterie.apps.circles.core import Keep, SyncCore, Wrote
from coterie.identity import PeerId
from coterie.sim.links import Link
from coterie.sim.world import World
from tests.access.circles import History, add, author, copy, found, picture, who
from tests.scenarios.frame import Report, Scenario

LATENCY_S = 0.05
LINKS = 4
EPOCH_S = 60.0


class Member:
    """One node: the core of `circles` over its own copy, and acts that the scenario feeds it."""

    def __init__(self, own: PeerId, circle: Circle, random: Random) -> None:
        self.circle = circle
        self._core = SyncCore(own, {circle.id: circle}, random)

    def handle(self, event: Any, now: float) -> list[Any]:
        """An act is a function of the circle; it gives an operation made here, or None."""
        if callable(event):
            made: SignedOp | None = event(self.circle)
            return self._core.handle(Wrote(self.circle.id, (made,)), now) if made is not None else []
        return [output for output in self._core.handle(event, now) if not isinstance(output, Keep)]


# ---- random histories


class _Life(History):
    """Random acts as in the property tests, here by the owners of nodes that meet over a network."""

    def act(self, circle: Circle, name: str) -> SignedOp | None:
        past = circle.log
        if self.random.random() < 0.15:
            past = CircleLog(circle.log.ops[0])
            for signed in circle.log.missing_at([], [self.random.choice(circle.log.ops).id]):
                if signed.id != circle.id:
                    past.add(signed)
        for _ in range(4):
            made = self._random_op(circle, past, name)
            try:
                circle.add(made)
            except OpRefused:
                continue
            return made
        return None


@dataclass(frozen=True)
class End:
    """How a history ended."""

    is_same: bool  # among all who are in
    rises: int  # of a role without an owner's word
    ops: int
    out: int  # removed, for a node that is there to tell it
    unaware: int  # of those; whose device was taken off a list is told nothing, and counts on neither side


def history(seed: int, report: Report, names: tuple[str, ...], acts: int) -> End:
    """One history of random acts."""
    random = Random(seed)
    life = _Life(random)
    first = life.nodes[0]
    world = World(seed, link=Link(latency=LATENCY_S, loss=0.02), dial_fails_after_s=0.2)
    for name in names:
        world.add(who(name), lambda chance, name=name: Member(who(name), copy(first), chance))
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            world.connect(who(a), who(b))
    roles = {who(name): _roles(first) for name in names}
    rises = 0
    half = len(names) // 2
    for i in range(acts):
        if i % 6 == 2:
            shuffled = random.sample(names, len(names))
            world.partition([who(n) for n in shuffled[:half]], [who(n) for n in shuffled[half:]])
        if i % 6 == 5:
            world.heal()
        name = random.choice(names)
        world.feed(who(name), lambda circle, name=name: life.act(circle, name))
        world.run(until=world.now + random.uniform(0.05, 3))
        rises += _unearned(world, names, roles)
    world.heal()
    world.link = Link(latency=LATENCY_S)
    world.run(until=world.now + 200)
    for a in names:  # everybody may be out of the circle by now: what is left meets once more
        for b in names:
            if a < b:
                world.disconnect(who(a), who(b))
                world.connect(who(a), who(b))
    world.run(until=world.now + 200)
    rises += _unearned(world, names, roles)
    report.world(world)
    circles = {name: world.core(who(name)).circle for name in names}
    whole = _all_of(list(circles.values()))
    inside = [c for name, c in circles.items() if whole.state.role(who(name)) is not None]
    lost = {signed.op.device for signed in whole.log.ops if signed.op.kind == Kind.REMOVE_DEVICE}
    gone = [name for name in names if whole.state.is_removed(who(name)) and who(name) not in lost]
    tellers = [c for name, c in circles.items() if who(name) not in lost]
    out = [name for name in gone if any(c.state.is_removed(who(name)) for c in tellers)]
    return End(
        all(picture(c.state) == picture(inside[0].state) for c in inside),
        rises,
        max(len(c.log) for c in circles.values()),
        len(out),
        sum(circles[name].state.role(who(name)) is not None for name in out),
    )


def _all_of(circles: list[Circle]) -> Circle:
    """All that is known anywhere: only members are told everything."""
    whole = copy(circles[0])
    waiting = deque(signed for c in circles[1:] for signed in c.log.ops[1:])
    while waiting:
        whole.add(waiting.popleft())
    return whole


def _roles(circle: Circle) -> tuple[dict[bytes, int], int]:
    return {person: circle.log.role(person) for person in circle.log.persons()}, len(circle.log)


def _unearned(world: World, names: tuple[str, ...], roles: dict[PeerId, tuple[dict[bytes, int], int]]) -> int:
    """Roles that rose on a node without a new statement of one who was an owner in its past."""
    bad = 0
    for name in names:
        circle = world.core(who(name)).circle
        before, known = roles[who(name)]
        after, count = _roles(circle)
        for person, role in after.items():
            if role > before.get(person, 0):
                bad += not any(
                    subject_of(new.op) == person
                    and new.op.kind in (Kind.ADD, Kind.ROLE)
                    and (
                        new.op.kind == Kind.ADD
                        or before.get(person, 0) > 0
                        or _was_added(circle, known, person)
                    )
                    and _role_then(circle, new) == Role.OWNER
                    for new in circle.log.ops[known:]
                )
        roles[who(name)] = after, count
    return bad


def _was_added(circle: Circle, known: int, person: bytes) -> bool:
    return any(new.op.kind == Kind.ADD and new.op.subject == person for new in circle.log.ops[known:])


def _role_then(circle: Circle, made: SignedOp) -> int:
    past = CircleLog(circle.log.ops[0])
    for signed in circle.log.missing_at([], list(made.op.parents)):
        if signed.id != circle.id:
            past.add(signed)
    return past.role(made.op.person)


# ---- a circle of fifty


def _village(seed: int, nodes: int) -> tuple[World, list[PeerId]]:
    circle = found("p0")
    for i in range(1, nodes):
        add(circle, "p0", f"p{i}")
    world = World(seed, link=Link(latency=LATENCY_S), dial_fails_after_s=0.2)
    names = [who(f"p{i}") for i in range(nodes)]
    for name in names:
        world.add(name, lambda chance, name=name: Member(name, copy(circle), chance))
    return world, names


def _linked(random: Random, present: list[PeerId]) -> list[tuple[PeerId, PeerId]]:
    """Everybody chooses two of the others who are there: about four links each."""
    links: dict[tuple[PeerId, PeerId], None] = {}
    for a in present:
        for b in random.sample(present, LINKS // 2):
            if a != b:
                links[min(a, b), max(a, b)] = None
    return list(links)


def _rename(by: int, text: str) -> Any:
    return lambda circle: circle.write(author(f"p{by}"), Kind.RENAME, 1, subject=who(f"p{by}"), name=text)


def _knows(world: World, name: PeerId, text: str) -> bool:
    return any(signed.op.name == text for signed in world.core(name).circle.log.ops[-20:])


def online(seed: int, report: Report, nodes: int) -> float:
    """Seconds until all of a circle know an operation, with everybody there."""
    world, names = _village(seed, nodes)
    for a, b in _linked(Random(seed), names):
        world.connect(a, b)
    world.run(until=10)
    world.feed(names[1], _rename(1, "uno"))
    began = world.now
    known_at = world.run_until(lambda: all(_knows(world, n, "uno") for n in names), timeout_s=60, step_s=0.01)
    report.world(world)
    return known_at - began


def half_away(seed: int, report: Report, nodes: int) -> tuple[int, int]:
    """Epochs until all know an operation, and until all could."""
    world, names = _village(seed, nodes)
    random = Random(seed)
    allowed = {names[1]}
    ours = ideal = 0
    for epoch in range(1, 100):
        present = random.sample(names, nodes // 2)
        if epoch == 1 and names[1] not in present:
            present[0] = names[1]
        links = _linked(random, present)
        for a, b in links:
            world.connect(a, b)
        world.run(until=world.now + 1)
        if epoch == 1:
            world.feed(names[1], _rename(1, "uno"))
        world.run(until=world.now + EPOCH_S)
        for a, b in links:
            world.disconnect(a, b)
        _flow(allowed, links)
        ideal = ideal or (epoch if len(allowed) == nodes else 0)
        ours = ours or (epoch if all(_knows(world, n, "uno") for n in names) else 0)
        if ours and ideal:
            break
    report.world(world)
    return ours, ideal


def _flow(allowed: set[PeerId], links: list[tuple[PeerId, PeerId]]) -> None:
    grown = True
    while grown:
        grown = False
        for a, b in links:
            if (a in allowed) != (b in allowed):
                allowed.update((a, b))
                grown = True


def run(report: Report, seed: int, *, histories: int, nodes: int, runs: int) -> None:
    """All three."""
    names = ("anna", "bob", "carl", "dora", "eve")
    ends = [history(seed * 100_000 + i, report, names, 40) for i in range(histories)]
    report.claim(
        "histories after which all members see the same", sum(e.is_same for e in ends), at_least=histories
    )
    report.claim("roles that rose without an owner's word", sum(e.rises for e in ends), at_most=0)
    report.claim("removed members who have not learnt of it", sum(e.unaware for e in ends), at_most=0)
    report.table(
        "Histories",
        ("histories", "operations, mean", "operations, most", "removed members"),
        [
            (
                histories,
                sum(e.ops for e in ends) / histories,
                max(e.ops for e in ends),
                sum(e.out for e in ends),
            )
        ],
    )
    times = [online(seed + i, report, nodes) for i in range(runs)]
    report.claim(f"s until all of {nodes} know, slowest of {runs}", max(times), at_most=2.0)
    epochs = [half_away(seed + i, report, nodes) for i in range(runs)]
    report.claim(
        "epochs later than meetings allow, worst", max(ours - ideal for ours, ideal in epochs), at_most=0
    )
    report.table(
        f"Half of {nodes} away, others each {EPOCH_S:g} s",
        ("run", "epochs until all knew", "allowed"),
        [(i, ours, ideal) for i, (ours, ideal) in enumerate(epochs)],
    )


SCENARIO = Scenario(
    "circles",
    "Circles converge, and nobody comes back by a trick",
    __doc__,
    run,
    small={"histories": 20, "nodes": 20, "runs": 1},
    full={"histories": 1_000, "nodes": 50, "runs": 10},
    full_cpu_s=400,
)
