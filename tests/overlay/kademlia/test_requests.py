"""Requests under way: late, slow, failed, and when to look again."""

import pytest

from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.messages import Nodes
from coterie.overlay.kademlia.requests import Requests
from coterie.overlay.kademlia.task import Rpc
from tests.overlay.kademlia_world import peers

LIMITS = KademliaLimits()
MANY = peers(200)


def requests(*rtts_s: float) -> Requests:
    """Requests that were answered after so long."""
    made = Requests(LIMITS, 0)
    for peer, rtt_s in zip(MANY, rtts_s, strict=False):
        made.take(made.add(Rpc(peer, 0.0, Nodes, None, 0)), peer, rtt_s)
    return made


def test_a_request_is_late_then_slow_then_failed() -> None:
    made = requests(*[0.1, 0.2] * 50)
    assert 0.15 < made.late_s < made.slow_s < 0.5
    rpc = Rpc(MANY[0], 10.0, Nodes, None, 0)
    made.add(rpc)
    assert made.overdue(10.0) == ([], [], [], 10.0 + made.late_s)
    assert made.overdue(10.0 + made.late_s) == ([rpc], [], [], 10.0 + made.slow_s)
    assert made.overdue(10.0 + made.slow_s) == ([], [rpc], [], 10.0 + LIMITS.timeout_s)
    assert made.overdue(10.0 + LIMITS.timeout_s) == ([], [], [rpc], None)
    assert len(made) == 0


def test_a_younger_request_is_looked_at_before_an_older_one_fails() -> None:
    made = requests(*[0.1] * 100)
    made.add(Rpc(MANY[0], 0.0, Nodes, None, 0))
    made.overdue(1.0)
    made.add(Rpc(MANY[1], 2.0, Nodes, None, 0))
    assert made.overdue(2.0).again_at == 2.0 + made.late_s


@pytest.mark.parametrize(("rtt_s", "least", "most"), [(0.001, 0.1, 0.1), (1.4, 1.4, LIMITS.slow_max_s)])
def test_late_is_bounded_both_ways(rtt_s: float, least: float, most: float) -> None:
    made = requests(*[rtt_s] * 200)
    assert least <= made.late_s <= most
    assert made.late_s <= made.slow_s
