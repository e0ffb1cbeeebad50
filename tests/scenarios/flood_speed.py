"""A flood through a random network of nodes that know four others each, over the delays of the internet.

The load of the simulator's own benchmark: what a core costs that does almost nothing.
"""

from coterie.sim.flood import measure
from coterie.sim.links import Coordinates, Link
from tests.scenarios.frame import Report, Scenario


def run(report: Report, seed: int, *, nodes: int, texts: int, events_per_s_min: float) -> None:
    """Equal delays, the delays of a map, and a map with loss, duplicates and reordering."""
    rows = []
    links = {
        "equal delays": Link(),
        "delays of the internet": Link(latency=Coordinates(seed)),
        "with 1 % loss, duplicates and reordering": Link(
            latency=Coordinates(seed), loss=0.01, duplication=0.01, reordering=0.01
        ),
    }
    for title, link in links.items():
        speed = measure(seed, nodes=nodes, texts=texts, link=link)
        report.events += speed.events
        rows.append((title, speed.events, speed.seconds, speed.events_per_s))
    report.claim("events/s, equal delays", rows[0][3], at_least=events_per_s_min)
    report.table("Speed", ("links", "events", "s of one core", "events/s"), rows)


SCENARIO = Scenario(
    "flood-speed",
    "How fast the simulator floods",
    __doc__,
    run,
    small={"nodes": 200, "texts": 10, "events_per_s_min": 10_000},
    full={"nodes": 10_000, "texts": 20, "events_per_s_min": 80_000},
    full_cpu_s=30,
)
