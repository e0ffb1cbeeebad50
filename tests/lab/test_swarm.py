"""Slow links do what they say, and a small swarm over them completes in every case."""

from dataclasses import replace

import pytest

from tests.lab import swarm_page
from tests.lab.delay import Held
from tests.lab.lab import Lab
from tests.lab.namespace import LabError
from tests.lab.slow_links import HEADERS, Line, SlowLinks
from tests.lab.swarm import CASES, CLIENTS, FULL, SMALL, Outcome, Size, measure

RTT_S = 0.1


def test_what_is_held_passes_after_its_time_and_together() -> None:
    held = Held(0.01)
    assert held.passing(3, 0.0) is None
    assert held.passing(5, 0.004) is None
    assert held.passing(5, 0.009) is None
    assert held.passing(9, 0.0105) == 3
    assert held.passing(9, 0.014) == 5
    assert held.passing(9, 0.1) == 9
    assert held.passing(9, 0.2) is None


def test_a_link_has_the_rate_and_the_delay_that_it_was_given() -> None:
    with Lab() as lab:
        links = SlowLinks(lab, Line(rtt_s=RTT_S))
        here = links.host("here", up_mbit_per_s=10, down_mbit_per_s=20)
        there = links.host("there", up_mbit_per_s=40, down_mbit_per_s=80)
        up = links.measured(here, there)
        down = links.measured(there, here)
        assert 0.7 * 10 / HEADERS < up <= 10
        assert 0.6 * 20 / HEADERS < down <= 20
        sent = links.sent()
        assert sent["here"] > 1e6 / 8 * up


def test_a_part_of_the_packets_is_lost() -> None:
    with Lab() as lab:
        links = SlowLinks(lab, Line(rtt_s=RTT_S, loss=0.2))
        here, there = (links.host(n, up_mbit_per_s=40, down_mbit_per_s=80) for n in ("here", "there"))
        assert links.measured(here, there) < 10


def test_a_laboratory_has_so_many_links_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.lab.slow_links.LINKS_MAX", 0)
    with Lab() as lab, pytest.raises(LabError, match="0 links at most"):
        SlowLinks(lab, Line()).host("one too many", up_mbit_per_s=1, down_mbit_per_s=1)


def test_the_bound_is_the_slowest_of_seeder_receiver_and_all_together() -> None:
    assert FULL.bound_s == pytest.approx(20.0)
    assert Size(down=10.0).bound_s == pytest.approx(80.0)
    assert Size(up=0.0).bound_s == pytest.approx(160.0)


def outcome(done: list[float], case: str = "plain") -> Outcome:
    return Outcome("ours", case, Size(receivers=2), 38.0, done, [0.5] * (2 - len(done)), 1.04, 0.9, 0.7, 0.8)


def test_the_page_keeps_what_was_measured_before_and_the_median_of_what_is_new() -> None:
    page = swarm_page.merge("", [outcome([20.0, 21.0])])
    assert "| plain | ours | 21.0 s | 1.05 x | 1.04 copies |" in page
    again = swarm_page.merge(page, [outcome([20.0, at], "lossy") for at in (30.0, 90.0, 40.0)])
    assert "| plain | ours | 21.0 s |" in again
    assert "| lossy | ours | 40.0 s | 2.00 x |" in again
    assert "| lossy | ours | 1 of 2 | never: others hold 50% to 50% |" in swarm_page.merge(
        again, [outcome([3], "lossy")]
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", CASES)
def test_a_small_swarm_completes(case: str) -> None:
    # A lossy line takes 8 s to find its rate; and of 8 MB the seeder's twentieth to spare would be three pieces.
    size = replace(SMALL, file_bytes=24_000_000) if case in ("lossy", "leaving") else SMALL
    done = measure("ours", case, size)
    assert done.is_complete, done.told()
    assert done.copies < size.receivers


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("client", CLIENTS[1:])
def test_others_beside_it_complete(client: str) -> None:
    done = measure(client, "plain", SMALL)
    assert done.is_complete, done.told()
