"""Looking for an item that stands on 0.1 %, 1 % and 10 % of the nodes: by flooding, expanding ring and random walks.

Each node has five neighbours (the active view of HyParView for 10,000 nodes); delays are those of the internet. A
search is over with its first answer; messages are all that it caused, with checks, verdicts, and what was still under
way. Every node may answer, and answers go straight to the asker.

The paper (Lv, Cao, Cohen, Li, Shenker 2002) finds that k random walks with checking resolve queries almost as quickly
as flooding with traffic lower by up to two orders of magnitude, that 16 to 64 walkers are a good number, and that an
expanding ring saves most where items are frequent and costs more delay. Its networks are of about the same size
(random graph: 9,836 nodes, degree 4).

Of a flood a node passes on the first copy only, as in Gnutella. Where delays differ that is often not the one with the
most hops left, so a flood of 7 hops reaches fewer nodes than lie within 7 hops, and costs less.

**The default** is 32 walkers of up to 256 hops: it finds even the rarest item, at a fraction of a flood's messages, and
what is frequent it finds about as fast as a flood. The expanding ring is the cheapest for what a tenth of the nodes
have, and the slowest; 16 walkers take too long for what is rare, 64 cost twice as much for what is not.
"""

from collections.abc import Sequence
from statistics import fmean

from coterie.overlay.search.limits import ExpandingRing, Flood, Strategy, Walks
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.searching import Network, Outcome, quantile

STRATEGIES: dict[str, Strategy] = {
    "flood, 7 hops": Flood(7),
    "flood, 5 hops": Flood(5),
    "expanding ring, 1 by 2 to 7": ExpandingRing(),
    "16 walkers, 512 hops": Walks(16, 512),
    "32 walkers, 256 hops": Walks(32, 256),
    "64 walkers, 128 hops": Walks(64, 128),
}
DEFAULT = "32 walkers, 256 hops"


def run(
    report: Report,
    seed: int,
    *,
    nodes: int,
    searches: int,
    floods: int,
    shares: Sequence[float],
    success_min: float,
) -> None:
    """One network for each strategy, with the items in the same places."""
    found: dict[tuple[str, float], list[Outcome]] = {}
    for name, strategy in STRATEGIES.items():
        network = Network(seed, nodes)
        for share in shares:
            body = f"on {share}".encode()
            network.place(body, share)
            found[name, share] = [
                network.search(body, strategy)
                for _ in range(floods if isinstance(strategy, Flood) else searches)
            ]
        report.world(network.world)
    for share in shares:
        rows = [(name, *_row(found[name, share])) for name in STRATEGIES]
        columns = (
            "strategy",
            "success",
            "messages, mean",
            "p95",
            "messages/node",
            "first answer p50 (s)",
            "p95 (s)",
        )
        report.table(
            f"On {share:.1%} of the nodes", columns, [(*row[:4], row[2] / nodes, *row[4:]) for row in rows]
        )
    rarest = min(shares)
    default, flood = found[DEFAULT, rarest], found["flood, 7 hops", rarest]
    saved = fmean(o.messages for o in flood) / fmean(o.messages for o in default)
    for share in shares:
        report.claim(
            f"success of {DEFAULT}, on {share:.1%}", _success(found[DEFAULT, share]), at_least=success_min
        )
        ratio = fmean(o.messages for o in found["flood, 7 hops", share]) / fmean(
            o.messages for o in found[DEFAULT, share]
        )
        report.claim(f"messages of a flood for one of {DEFAULT}, on {share:.1%}", ratio, paper="up to 100")
    report.claim("success of a flood of 7 hops, rarest item", _success(flood), at_least=success_min)
    report.claim("times fewer messages than flooding, rarest item", saved, at_least=2.0)


def _row(outcomes: list[Outcome]) -> tuple[float, float, float, float, float]:
    messages = [float(o.messages) for o in outcomes]
    seconds = [o.seconds for o in outcomes if o.found]
    middle, late = quantile(seconds, 0.5), quantile(seconds, 0.95)
    return _success(outcomes), fmean(messages), quantile(messages, 0.95), middle, late


def _success(outcomes: list[Outcome]) -> float:
    return sum(o.found for o in outcomes) / len(outcomes)


SCENARIO = Scenario(
    "search-replication",
    "Search: floods, expanding rings and random walks",
    __doc__,
    run,
    small={"nodes": 500, "searches": 5, "floods": 3, "shares": (0.01, 0.1), "success_min": 0.9},
    full={"nodes": 10_000, "searches": 200, "floods": 40, "shares": (0.001, 0.01, 0.1), "success_min": 0.99},
    full_cpu_s=300,
)
