"""One seeder and many receivers: time to complete against what no method can beat, and what it costs the seeder.

The lower bound is max(F / u_s, F / d_min, N F / (u_s + sum of u_i)) for a file of F bytes (Kumar and Ross,
"Peer-assisted file distribution: the minimum distribution time", 2006). A node is the real cores of both sides
(`content.swarm`, `content.upload`) behind an uplink that sends one chunk after the other; control messages take their
bytes of it too. Streams are taken to lose nothing: what a lossy path does to one is measured in the network laboratory.

The eight receivers are those of the laboratory: the seeder has 40 Mbit/s up, each receiver 80 down and 40 up. Beside
ours stand what libtorrent did there (median of three runs): it sends 1.7 copies and takes 1.81 times the bound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median

from coterie.sim.host import Host
from coterie.sim.links import Link
from coterie.sim.world import World
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.swarm_node import ROOT, Content, Disk, SwarmNode, size_of

SEEDER = -1
MB = 1_000_000
SEEDER_UP = 5.0 * MB  # 40 Mbit/s
UP = 5.0 * MB
DOWN = 10.0 * MB
HEADERS = 1.02  # the line carries so much more than the chunks: what messages cost is counted, packet headers are not
QUEUE_BYTES = 64 * MB  # streams wait for their turn, they do not lose
BACK_S = 5.0
PATIENCE = 8.0  # times the bound


@dataclass
class Outcome:
    """What a swarm did: `times` in units of the bound, one for each receiver that completed."""

    times: list[float]
    receivers: int
    copies: float
    twice: float
    jain_down: float
    jain_up: float

    @property
    def last(self) -> float:
        """When the last receiver completed; infinite when one did not."""
        return self.times[-1] if len(self.times) == self.receivers else float("inf")

    @property
    def first(self) -> float:
        """When the first completed."""
        return self.times[0] if self.times else float("inf")

    @property
    def median(self) -> float:
        """When half of those that completed had."""
        return median(self.times) if self.times else float("inf")


class Swarm:
    """A world with one seeder and `receivers`; each has about `degree` neighbours, or (None) all."""

    def __init__(self, seed: int, *, receivers: int, size: int, degree: int | None, latency: float) -> None:
        self.world = World(seed, link=Link(latency=latency), size_of=size_of)
        self.random = Random(f"{seed}/swarm")
        self.content = Content.of(size, self.random)
        self.receivers = receivers
        self.disks = {name: Disk() for name in range(SEEDER, receivers)}
        self.bound = max(size / SEEDER_UP, size / DOWN, receivers * size / (SEEDER_UP + receivers * UP))
        for name in range(SEEDER, receivers):
            self._add(name)
        self._connect(degree)

    def _add(self, name: int) -> None:
        up = SEEDER_UP if name == SEEDER else UP
        disk, content = self.disks[name], self.content

        def make(random: Random) -> SwarmNode:
            return SwarmNode(random, content, disk, whole=name == SEEDER, up=up)

        host = Host(up_bytes_per_s=up * HEADERS, down_bytes_per_s=DOWN, queue_bytes_max=QUEUE_BYTES)
        self.world.add(name, make, host=host)

    def _connect(self, degree: int | None) -> None:
        names = range(self.receivers)
        for name in names:
            others = (
                range(name + 1, self.receivers)
                if degree is None
                else self.random.sample(names, degree // 2)  # and as many again choose it
            )
            for other in others:
                if other != name:
                    self.world.connect(name, other)
        for name in names if degree is None else self.random.sample(names, degree):
            self.world.connect(SEEDER, name)

    def run(self, watch: Callable[[], None] = lambda: None) -> Outcome:
        """Until all have completed, or patience ends."""
        done: dict[object, float] = {}

        def complete() -> bool:
            watch()
            for at, name, _ in self.world.emitted[len(done) :]:
                done.setdefault(name, at)
            return len(done) == self.receivers

        end = self.bound * PATIENCE
        while not complete() and self.world.now < end:
            self.world.run(self.world.now + 0.05)
        size = self.content.size
        times = sorted(at / self.bound for at in done.values())
        ups = [float(disk.sent) for name, disk in self.disks.items() if name != SEEDER]
        twice = sum(disk.twice for disk in self.disks.values()) / size / self.receivers
        copies = self.disks[SEEDER].sent / size
        rates = [1 / at for at in times]
        return Outcome(times, self.receivers, copies, twice, jain(rates), jain(ups))


def jain(values: list[float]) -> float:
    """Jain's fairness index: 1 when all have the same, 1/n when one has all (Jain, Chiu, Hawe 1984)."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def run(
    report: Report, seed: int, *, size: int, many: int, many_size: int, degree: int, slack: float
) -> None:
    """The eight of the laboratory in four weathers, then many. `slack`: a short run has a long tail."""
    eight = {"receivers": 8, "size": size, "degree": None}
    found: dict[str, Outcome] = {}

    def play(name: str, swarm: Swarm, watch: Callable[[], None] = lambda: None) -> None:
        found[name] = swarm.run(watch)
        report.world(swarm.world)

    play("eight receivers", Swarm(seed, latency=0.01, **eight))  # type: ignore[arg-type]
    play("100 ms round trip", Swarm(seed, latency=0.05, **eight))  # type: ignore[arg-type]
    swarm = Swarm(seed, latency=0.01, **eight)  # type: ignore[arg-type]
    swarm.world.schedule(0.4 * swarm.bound, lambda: _kill(swarm, 0.3))
    play("30 % killed at 40 %, back after 5 s", swarm)
    swarm = Swarm(seed, latency=0.01, **eight)  # type: ignore[arg-type]
    play("the seeder leaves with its first copy", swarm, _leaves(swarm))
    play("30 neighbours", Swarm(seed, latency=0.01, receivers=30, size=size, degree=None))
    play(f"{many:,} receivers", Swarm(seed, latency=0.01, receivers=many, size=many_size, degree=degree))
    rows = [
        (name, len(o.times), o.first, o.median, o.last, o.copies, o.twice, o.jain_down, o.jain_up)
        for name, o in found.items()
    ]
    columns = ("swarm", "complete", "first", "median", "last", "copies of the seeder", "received twice")
    report.table("Times in units of the bound", (*columns, "Jain, down", "Jain, up"), rows)
    _claim(report, found, many, slack)


def _claim(report: Report, found: dict[str, Outcome], many: int, slack: float) -> None:
    plain, far, killed, left, thirty, all_of_them = found.values()
    report.claim(
        "eight receivers: last, in bounds", plain.last, at_most=1.15 + slack, paper="libtorrent 1.81"
    )
    report.claim(
        "eight receivers: copies of the seeder", plain.copies, at_most=1.15 + slack, paper="libtorrent 1.7"
    )
    report.claim("100 ms round trip: last, in bounds", far.last, at_most=1.3 + slack)
    report.claim(
        "30 % killed and back: last, in bounds", killed.last, at_most=1.6 + slack, paper="libtorrent 1.8"
    )
    report.claim("the seeder left: last, in bounds", left.last, at_most=1.3 + slack, paper="libtorrent never")
    report.claim("30 neighbours: last, in bounds", thirty.last, at_most=1.2 + slack)
    report.claim(f"{many:,} receivers: share complete", len(all_of_them.times) / many, at_least=1.0)
    report.claim(f"{many:,} receivers: median, in bounds", all_of_them.median)
    report.claim(f"{many:,} receivers: last, in bounds", all_of_them.last, at_most=3.0)
    report.claim(f"{many:,} receivers: Jain's index of their rates", all_of_them.jain_down, at_least=0.95)


def _kill(swarm: Swarm, share: float) -> None:
    for name in swarm.random.sample(range(swarm.receivers), round(share * swarm.receivers)):
        swarm.world.crash(name)
        swarm.world.schedule(swarm.world.now + BACK_S, lambda name=name: swarm.world.restart(name))


def _leaves(swarm: Swarm) -> Callable[[], None]:
    """For good, half a second after every piece was sent once: what is on its way arrives."""
    goal: list[int] = []

    def watch() -> None:
        if not goal and swarm.world.core(SEEDER).upload.given(ROOT) >= swarm.content.size:
            goal.append(swarm.disks[SEEDER].sent + swarm.world.core(SEEDER).queued_bytes)
        if len(goal) == 1 and swarm.disks[SEEDER].sent >= goal[0]:
            goal.append(0)
            swarm.world.schedule(swarm.world.now + 0.5, lambda: swarm.world.crash(SEEDER))

    return watch


SCENARIO = Scenario(
    "swarm",
    "A swarm: time to complete, and what it costs the seeder",
    __doc__,
    run,
    small={"size": 60 * MB, "many": 30, "many_size": 5 * MB, "degree": 10, "slack": 0.15},
    full={"size": 100 * MB, "many": 1000, "many_size": 20 * MB, "degree": 20, "slack": 0.0},
    full_cpu_s=100.0,
)
