"""Membership (HyParView) and broadcast (Plumtree) in one topic: the stable state, loss, and a catastrophe.

Nodes join, twice as many every 3 s, each through a random member, over the delays of the internet (median round trip
159 ms).
HyParView: Leitao, Pereira, Rodrigues, DSN 2007: 10,000 nodes in PeerSim, active view 5, passive view 30, as here.
Plumtree: the same authors, SRDS 2007: 10,000 nodes over HyParView.

*Reliability* is the share of living nodes that got a message. *Relative message redundancy* (SRDS 2007, section 4) is
m / (n - 1) - 1: whole messages sent, over what a perfect tree needs. A *cycle* is the period of the shuffle, 30 s. The
authors simulate in cycles, without delays, and a failed connection is seen at once; here a crash is seen after 1 s by
those with a connection, and after 3 s without an answer by others. A hash stands for signatures; no message changes.
"""

from contextlib import suppress
from statistics import mean, median
from typing import Any

from coterie.errors import LimitExceeded
from coterie.identity import PeerId
from coterie.overlay.hyparview import HyParViewLimits
from coterie.sim.links import Coordinates, Link
from tests.overlay.village import Village
from tests.scenarios.frame import Report, Scenario

CYCLE_S = HyParViewLimits().shuffle_s
NEVER_S = 1e6
LOSS = 0.1
FAILING = 0.8


def run(report: Report, seed: int, *, nodes: int, settling: int, lossy: int) -> None:
    """One network lives through all of it."""
    latency = Coordinates(seed)
    village = Village(nodes, seed, link=Link(latency=latency))
    village.run(village.joined_s + 3 * CYCLE_S)
    _views(report, village)
    _stable(report, village, settling)
    village.world.link = Link(latency=latency, loss=LOSS)
    _lossy(report, village, lossy)
    village.world.link = Link(latency=latency)
    _catastrophe(report, village)
    report.claim("messages delivered twice", village.twice, at_most=0)
    report.world(village.world)


def _views(report: Report, village: Village) -> None:
    sizes = [len(village.membership(name).active) for name in village.names]
    passive = [len(village.membership(name).passive) for name in village.names]
    report.claim("parts of the network after joining", len(village.parts()), at_most=1, paper="1")
    report.claim("mean size of the active view", mean(sizes), at_least=4.7, paper="close to 5")
    rows = [(size, sizes.count(size)) for size in range(6)]
    report.table("Active views three cycles after the last join", ("neighbours", "nodes"), rows)
    report.text(f"Passive views: {mean(passive):.1f} peers of 30 on average.")


def _stable(report: Report, village: Village, settling: int) -> None:
    """Broadcasts by random members; the tree has settled after the first half of them."""
    rows, redundancy, reliability = [], [], []
    for number in range(settling):
        outcome = _broadcast(village, b"stable %d" % number, 4.0)
        redundancy.append(outcome["redundancy"])
        reliability.append(outcome["reliability"])
        if number < 3 or number == settling - 1:
            rows.append((number + 1, *outcome.values()))
    settled = redundancy[settling // 2 :]
    report.claim("stable: reliability, lowest of all", min(reliability), at_least=1.0, paper="1.0")
    report.claim("stable: redundancy after settling, mean", mean(settled), at_most=0.1, paper="close to 0")
    report.claim("stable: redundancy after settling, highest", max(settled))
    columns = (
        "message",
        "reliability",
        "redundancy",
        "median s",
        "last s",
        "last hop",
        "control messages a node",
    )
    report.table("Stable state", columns, rows)


def _broadcast(village: Village, payload: bytes, wait_s: float) -> dict[str, Any]:
    source = village.rng.choice(village.living)
    others = len(village.living) - 1
    duplicates, sent = village.total("duplicates"), village.world.sent
    began = village.publish(source, payload)
    village.run(wait_s)
    got = village.reached[payload].values()
    copies = village.total("duplicates") - duplicates
    return {
        "reliability": village.share_reached(payload, source),
        "redundancy": (len(got) + copies) / max(1, len(got)) - 1,
        "median s": median([at - began for at, _ in got] or [0.0]),
        "last s": max((at - began for at, _ in got), default=0.0),
        "last hop": max((hops for _, hops in got), default=0),
        "control": (village.world.sent - sent - len(got) - copies) / others,
    }


def _lossy(report: Report, village: Village, count: int) -> None:
    """Every tenth message of any kind is lost; nothing below repeats it, as QUIC would."""
    published: list[tuple[bytes, PeerId, float]] = []
    for number in range(count):
        source = village.rng.choice(village.names)
        published.append((payload := b"lossy %d" % number, source, village.publish(source, payload)))
        village.run(2)
    others = len(village.names) - 1
    village.run(8)
    after_10_s = [len(village.reached[payload]) / others for payload, _, _ in published]
    with suppress(LimitExceeded):
        village.world.run_until(
            lambda: all(len(village.reached[payload]) == others for payload, _, _ in published),
            timeout_s=180,
            step_s=5,
        )
    delays = [
        sorted(at - began for at, _ in village.reached[payload].values()) for payload, _, began in published
    ]
    last = [times[-1] for times in delays]
    p99 = [times[int(0.99 * len(times))] for times in delays]
    shares = [village.share_reached(payload, source) for payload, source, _ in published]
    report.claim("10 % loss: reliability, lowest of all", min(shares), at_least=1.0)
    report.claim("10 % loss: s until 99 % have it, median", median(p99))
    report.claim("10 % loss: s until the last has it, highest", max(last))
    report.text(
        f"With {LOSS:.0%} of all messages lost, {mean(after_10_s):.3%} of the nodes had a message 10 s after the last "
        "was published; the rest comes by comparing with neighbours."
    )


def _catastrophe(report: Report, village: Village) -> None:
    """Four fifths of all nodes crash in the same moment."""
    living = village.rng.sample(village.names, round((1 - FAILING) * len(village.names)))
    kept = dict.fromkeys(living)
    for name in village.names:
        if name not in kept:
            village.world.crash(name)
    began, rows, recovered_s = village.world.now, [], NEVER_S
    for number in range(12):
        outcome = _broadcast(village, b"after %d" % number, 5.0)
        after_s = village.world.now - began - 5.0
        rows.append(
            (after_s, after_s / CYCLE_S, outcome["reliability"], outcome["redundancy"], outcome["last s"])
        )
        if outcome["reliability"] < 0.99:
            recovered_s = NEVER_S
        elif recovered_s == NEVER_S:
            recovered_s = after_s
    report.claim(
        "80 % fail: cycles until 99 % of the living get a message at once",
        recovered_s / CYCLE_S,
        at_most=1,
        paper="1 to 2 cycles (DSN 2007, figure 4)",
    )
    report.claim("80 % fail: reliability two cycles later", rows[-1][2], at_least=0.99)
    report.claim("80 % fail: largest part of the network", village.parts()[0] / len(living), at_least=0.99)
    columns = ("s after", "cycles after", "reliability within 5 s", "redundancy", "last s")
    report.table("After 80 % of the nodes have failed at once", columns, rows)


SCENARIO = Scenario(
    "broadcast",
    "Broadcast to a group",
    __doc__,
    run,
    small={"nodes": 300, "settling": 10, "lossy": 4},
    full={"nodes": 10_000, "settling": 20, "lossy": 10},
    full_cpu_s=240,
)
