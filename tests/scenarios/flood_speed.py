"""A flood through a random network of nodes that know four others each, over the delays of the internet.

The load of the simulator's own benchmark: what a core costs that does almost nothing. Processor time, the best of
three, on one core of a machine whose other core was busy: alone it is up to half as fast again.
"""

from coterie.sim.flood import measure
from coterie.sim.links import Coordinates, Link
from tests.scenarios.frame import Report, Scenario


def run(report: Report, seed: int, *, nodes: int, texts: int, rounds: int, events_per_s_min: float) -> None:
    """Equal delays, the delays of a map, and a map with loss, duplicates and reordering; the best of some rounds."""
    rows = []
    links = {
        "equal delays": Link(),
        "delays of the internet": Link(latency=Coordinates(seed)),
        "with 1 % loss, duplicates and reordering": Link(
            latency=Coordinates(seed), loss=0.01, duplication=0.01, reordering=0.01
        ),
    }
    for title, link in links.items():
        speeds = [measure(seed, nodes=nodes, texts=texts, link=link) for _ in range(rounds)]
        report.events += sum(speed.events for speed in speeds)
        best = min(speeds, key=lambda speed: speed.seconds)
        rows.append((title, best.events, best.seconds, best.events_per_s))
    report.claim("events/s, equal delays", rows[0][3], at_least=events_per_s_min)
    report.table("Speed", ("links", "events", "s of one core", "events/s"), rows)


SCENARIO = Scenario(
    "flood-speed",
    "How fast the simulator floods",
    __doc__,
    run,
    small={"nodes": 200, "texts": 10, "rounds": 1, "events_per_s_min": 10_000},
    full={"nodes": 10_000, "texts": 5, "rounds": 3, "events_per_s_min": 80_000},
    full_cpu_s=30,
)
