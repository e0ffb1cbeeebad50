"""Every scenario in its small size, and in its full one when asked for (`-m scenario`)."""

import os
import subprocess
import sys
from typing import Any

import pytest

from coterie.machine import Emit
from coterie.sim.world import World
from tests.scenarios.frame import ClaimFailed, Report, Scenario, scenarios, shown

ALL = scenarios()
REAL = ("real-nodes",)  # takes real time: some half a minute


@pytest.mark.timeout(700)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in REAL else []) for name in ALL]
)
def test_small(name: str) -> None:
    scenario = ALL[name]
    scenario.check(scenario.execute("small"), "small")


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ALL)
def test_full(name: str) -> None:
    scenario = ALL[name]
    scenario.check(scenario.execute("full"), "full")


# ---- the frame


def made(run: Any, **options: Any) -> Scenario:
    return Scenario("made-up", "Made up", "About it.", run, small={"n": 1}, full={"n": 2}, **options)


def test_sizes_and_seeds_reach_the_run() -> None:
    seen: list[tuple[int, int]] = []
    scenario = made(lambda report, seed, n: seen.append((seed, n)), seed=5)
    scenario.execute("small")
    scenario.execute("full", 7)
    assert seen == [(5, 1), (7, 2)]


def test_a_claim_that_does_not_hold_names_the_command_that_replays_it() -> None:
    def run(report: Report, seed: int, n: int) -> None:
        report.claim("share", 0.5, at_least=0.9, paper="0.99")
        report.claim("hops", 3, at_most=4)

    scenario = made(run)
    report = scenario.execute("small", 9)
    assert [claim.holds for claim in report.claims] == [False, True]
    with pytest.raises(ClaimFailed, match=r"made-up --small --seed 9\nshare: 0.5, not >= 0.9$"):
        scenario.check(report, "small", 9)
    page = scenario.page(report, 9)
    assert "| share | 0.5 | >= 0.9 | **no** | 0.99 |" in page
    assert "| hops | 3 | <= 4 | yes |  |" in page
    assert "make scenarios ONLY=made-up SEED=9" in page


def test_an_error_in_a_world_names_the_command_too() -> None:
    def run(report: Report, seed: int, n: int) -> None:
        world = World(seed)
        world.schedule(1, lambda: 1 / 0)
        world.run()

    with pytest.raises(ZeroDivisionError) as caught:
        made(run).execute("full", 3)
    assert "python -m tests.scenarios made-up --full --seed 3" in "".join(caught.value.__notes__)


def test_tables_and_events_come_into_the_report() -> None:
    def run(report: Report, seed: int, n: int) -> None:
        world = World(seed)
        world.add("a", lambda _: _Emits())
        world.feed("a", "x")
        world.run()
        report.world(world)
        report.table("Nodes", ("n", "share"), [(12_345, 0.123456), (1, 2_000.5)])

    report = made(run).execute("small")
    assert report.events == 1
    assert report.sections == ["## Nodes\n\n| n | share |\n| --- | --- |\n| 12,345 | 0.1235 |\n| 1 | 2,000 |"]


class _Emits:
    def handle(self, event: Any, now: float) -> list[Any]:
        return [Emit(event)]


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (True, "True"), ("x", "x"), (0.00012345, "0.0001234"), (None, "None")]
)
def test_values_are_shown_short(value: Any, text: str) -> None:
    assert shown(value) == text


def test_the_command_line_runs_one_in_its_small_size() -> None:
    command = [sys.executable, "-m", "tests.scenarios", "flood-speed", "--small", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "ok   events/s, equal delays" in done.stdout


def test_names_are_the_command_lines_and_files() -> None:
    for name, scenario in ALL.items():
        assert name == scenario.name == name.lower().replace("_", "-")
        assert scenario.about.strip()
