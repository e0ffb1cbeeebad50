"""What a scenario is: a run in two sizes, what it claims, and the page that says what came out.

def run(report: Report, seed: int, *, nodes: int) -> None:
    world = World(seed)
    ...
    report.world(world)
    report.table("Reached", ("nodes", "share"), [(nodes, "100 %")])
    report.claim("share of nodes reached", reached / nodes, at_least=0.999, paper="0.99 (figure 3)")

SCENARIO = Scenario("flood", "A flood reaches everybody", __doc__, run, small={"nodes": 100}, full={"nodes": 10_000})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any, Literal

from coterie.sim.replay import replayed_by
from coterie.sim.world import World
from tests.scenarios import MODULES

PAGES = Path(__file__).resolve().parents[2] / "docs" / "scenarios"

SizeName = Literal["small", "full"]


class ClaimFailed(AssertionError):
    """A figure is not what the scenario claims."""


@dataclass(frozen=True)
class Claim:
    """One figure with what it has to be; `paper` is what the authors of the protocol report."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    paper: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is within its limits."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def goal(self) -> str:
        """The limits, for people."""
        low = [] if self.at_least is None else [f">= {shown(self.at_least)}"]
        return ", ".join(low + ([] if self.at_most is None else [f"<= {shown(self.at_most)}"]))


@dataclass
class Report:
    """What a run found. The scenario fills it; the page and the outcome come from it."""

    claims: list[Claim] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    events: int = 0
    cpu_s: float = 0.0

    def claim(
        self,
        what: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        paper: str = "",
    ) -> None:
        """State a figure and the limits it has to keep; without limits it is only stated."""
        self.claims.append(Claim(what, value, at_least, at_most, paper))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of the page; floats are shown with three digits that count."""
        lines = [f"## {title}\n", _row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]
        self.sections.append("\n".join(lines))

    def text(self, text: str) -> None:
        """A paragraph of the page."""
        self.sections.append(text.strip())

    def world(self, world: World) -> None:
        """Count the events of a world that has done its work."""
        self.events += world.events


Run = Callable[..., None]  # (report, seed, **size)


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        name: of its page and on the command line: lower case and dashes.
        title: the heading of its page.
        about: what is simulated and from which paper the figures beside ours are: Markdown.
        run: called with (report, seed, **size).
        small: the size of every test run: seconds.
        full: the size of the page.
        full_cpu_s: about what the full size takes on one core: long ones are started first.
        seed: the one used when none is given.
        is_alone: it measures real time: no other runs beside it.
    """

    name: str
    title: str
    about: str
    run: Run
    small: Mapping[str, Any]
    full: Mapping[str, Any]
    full_cpu_s: float = 60.0
    seed: int = 1
    is_alone: bool = False

    def command(self, size: SizeName, seed: int) -> str:
        """What runs it again."""
        return f"python -m tests.scenarios {self.name} --{size} --seed {seed}"

    def execute(self, size: SizeName, seed: int | None = None) -> Report:
        """Run it. An error of a world carries the command that replays it."""
        used = self.seed if seed is None else seed
        report = Report()
        began = process_time()
        with replayed_by(self.command(size, used)):
            self.run(report, used, **(self.small if size == "small" else self.full))
        report.cpu_s = process_time() - began
        return report

    def check(self, report: Report, size: SizeName, seed: int | None = None) -> None:
        """Raise ClaimFailed when a claim does not hold, with the command that replays the run."""
        broken = [f"{c.what}: {shown(c.value)}, not {c.goal}" for c in report.claims if not c.holds]
        if broken:
            command = self.command(size, self.seed if seed is None else seed)
            raise ClaimFailed("\n".join([f"{self.name}: replay with: {command}", *broken]))

    def page(self, report: Report, seed: int) -> str:
        """The page of a full run, in Markdown."""
        claims = [(c.what, c.value, c.goal, "yes" if c.holds else "**no**", c.paper) for c in report.claims]
        shown_claims = Report()
        shown_claims.table("What it shows", ("", "ours", "goal", "reached", "paper"), claims)
        rate = f", {report.events / report.cpu_s:,.0f} events/s" if report.events else ""
        return "\n\n".join(
            [
                f"# {self.title}",
                self.about.strip(),
                *(shown_claims.sections if claims else []),
                *report.sections,
                f"Written by `make scenarios ONLY={self.name} SEED={seed}`: {report.events:,} events in "
                f"{report.cpu_s:,.0f} s of one core{rate}.\n",
            ]
        )

    def write(self, report: Report, seed: int | None = None) -> Path:
        """Put the page where the documentation is."""
        PAGES.mkdir(exist_ok=True)
        path = PAGES / f"{self.name}.md"
        path.write_text(self.page(report, self.seed if seed is None else seed), encoding="utf-8")
        return path


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name, in the order of the list."""
    found = [import_module(f"tests.scenarios.{module}").SCENARIO for module in MODULES]
    return {scenario.name: scenario for scenario in found}


def shown(value: Any) -> str:
    """A value as a table shows it."""
    match value:
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float() if value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}"
        case float() if abs(value) >= 1000:
            return f"{value:,.0f}"
        case float():
            return f"{value:.4g}"
    return str(value)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(shown(cell) for cell in cells) + " |"
