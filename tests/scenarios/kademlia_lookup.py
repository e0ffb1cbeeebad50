"""Lookups of a living node among thousands: without churn, and with a median session of an hour.

A lookup has found its node when the nearest peer that answered is the one looked for. k = 20, alpha = 3, the delays of
the internet (King data set). Tables are drawn (see `tests/scenarios/kademlia_net.py`) and upkeep runs
as it does in life; that drawn networks and joined ones agree is measured first. Under churn as many nodes come back
(with an empty table and a few addresses, half of them dead) as leave, tables begin with the dead that such churn
leaves in them, and lookups are asked by whoever is up, newcomers as well. Messages are requests and answers.
A lookup ends when the nearest that answered are known, not when the node looked for is met: that is sooner.

Papers: Maymounkov and Mazieres 2002 bound the hops by ceil(log2 n) and measure no lookups.
"""

from math import ceil, log2
from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.overlay.kademlia.events import Bootstrap
from coterie.sim.churn import Churn, exponential
from coterie.sim.world import World
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.kademlia_net import (
    BOOTSTRAP_PEERS,
    COLUMNS,
    Lookups,
    drawn,
    joined,
    keep_up,
    new_world,
    node,
    peers,
)

SESSION_S = 3600.0  # median
OVER_S = 60.0
MESSAGES_MAX, CHURN_MESSAGES_MAX = 70, 120  # guess: a sixth over what alpha requests at a time would ask


def run(report: Report, seed: int, *, nodes: int, joining: int, lookups: int, churn_s: float) -> None:
    """Joined beside drawn; then the large network still, and in churn."""
    rows = [_joined(report, seed, joining, lookups), _drawn(report, seed, joining, lookups)]
    agreement = rows[1][0].success - rows[0][0].success
    report.claim("success, drawn less joined", agreement, at_least=-0.01, at_most=0.01)
    requests = [found.median_requests for found, _ in rows]
    report.claim("requests, drawn by joined", requests[1] / requests[0], at_least=0.8, at_most=1.25)

    for paths in (1, LIMIT_PATHS):
        found, row = _still(report, seed, nodes, lookups, paths)
        rows.append((found, row))
        report.claim(f"success, {nodes:,} nodes, paths {paths}", found.success, at_least=0.999)
        if paths == 1:
            hops = found.median_hops
            report.claim("median hops", hops, at_most=ceil(log2(nodes)), paper=f"<= {ceil(log2(nodes))}")
        report.claim(f"median messages, paths {paths}", 2 * found.median_requests, at_most=MESSAGES_MAX)
        report.claim(f"median time (s), paths {paths}", found.median_s, at_most=0.6)
    found, row = _in_churn(report, seed, nodes, lookups, churn_s)
    rows.append((found, row))
    report.claim("success with sessions of 60 min", found.success, at_least=0.99)
    report.claim("median messages in churn", 2 * found.median_requests, at_most=CHURN_MESSAGES_MAX)
    report.claim("median time in churn (s)", found.median_s, at_most=1.2)
    report.table("Lookups", COLUMNS, [row for _, row in rows])


LIMIT_PATHS = 4  # the default of `KademliaLimits.paths`


def _measured(
    world: World, report: Report, title: str, lookups: int, paths: int
) -> tuple[Lookups, tuple[Any, ...]]:
    found = Lookups(world, world.seed)
    found.run(world.names, lookups, over_s=OVER_S, paths=paths)  # type: ignore[arg-type]
    report.world(world)
    return found, found.row(title)


def _joined(report: Report, seed: int, nodes: int, lookups: int) -> tuple[Lookups, tuple[Any, ...]]:
    world = new_world(seed)
    joined(world, peers(nodes, seed))
    return _measured(world, report, f"{nodes:,} joined one by one", lookups, 1)


def _drawn(report: Report, seed: int, nodes: int, lookups: int) -> tuple[Lookups, tuple[Any, ...]]:
    world = new_world(seed)
    drawn(world, peers(nodes, seed))
    return _measured(world, report, f"{nodes:,} drawn", lookups, 1)


def _still(
    report: Report, seed: int, nodes: int, lookups: int, paths: int
) -> tuple[Lookups, tuple[Any, ...]]:
    world = new_world(seed)
    drawn(world, peers(nodes, seed))
    return _measured(world, report, f"{nodes:,} drawn, paths {paths}", lookups, paths)


def _in_churn(
    report: Report, seed: int, nodes: int, lookups: int, churn_s: float
) -> tuple[Lookups, tuple[Any, ...]]:
    world = new_world(seed)
    names = churning(world, nodes)
    world.run(until=churn_s - OVER_S)
    report.claim("messages of joins and upkeep, per node and hour", world.sent / nodes / world.now * 3600)
    found = Lookups(world, seed)
    found.run(names, lookups, over_s=OVER_S, paths=LIMIT_PATHS)
    report.world(world)
    return found, found.row(f"{nodes:,} in churn, paths {LIMIT_PATHS}, after {churn_s / 60:.0f} min")


def churning(world: World, nodes: int, *, staying: int = 0) -> list[PeerId]:
    """`nodes` nodes that are up, of which the first `staying` stay so, and as many that are away; all their names."""
    names = peers(2 * nodes, world.seed)
    here, away = names[:nodes], names[nodes:]
    drawn(world, here, session_s=SESSION_S)
    for name in away:
        world.add(name, node(name), lazy=True)
        world.crash(name)
    keep_up(world, here)
    random = Random(f"{world.seed}/back")

    def back(name: object) -> None:
        world.feed(name, Bootstrap(tuple(random.sample(names, BOOTSTRAP_PEERS * 2))))

    session = exponential(SESSION_S)
    Churn(world, here[staying:], online=session, offline=session, back=back, away=away, forget=True)
    return names


SCENARIO = Scenario(
    "kademlia-lookup",
    "Kademlia finds nodes, also while they come and go",
    __doc__,
    run,
    small={"nodes": 200, "joining": 60, "lookups": 100, "churn_s": 300.0},
    full={"nodes": 10_000, "joining": 1_000, "lookups": 2_000, "churn_s": 900.0},
    full_cpu_s=240,
)
