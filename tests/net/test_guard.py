"""Guard: default deny, rates, bounded tables."""

from coterie.net import Guard, NetLimits
from coterie.net.guard import Verdict
from tests.net.conftest import Lab

ANN, BOB = Lab.key(1).peer_id, Lab.key(2).peer_id


def test_nothing_is_open_unless_said() -> None:
    assert not Guard().allows(ANN, "files")


def test_strangers_get_what_is_declared_for_them() -> None:
    guard = Guard()
    guard.open_to_strangers("hello")
    assert guard.allows(ANN, "hello")
    assert not guard.allows(ANN, "files")


def test_the_predicate_decides_by_peer_and_protocol() -> None:
    guard = Guard(lambda peer, name: (peer, name) == (ANN, "files"))
    assert guard.allows(ANN, "files")
    assert not guard.allows(ANN, "chat")
    assert not guard.allows(BOB, "files")


def test_streams_over_the_rate_are_refused_and_over_that_expelled() -> None:
    guard = Guard(limits=NetLimits(streams_per_s=1, streams_burst=5, streams_excess_max=3))
    verdicts = [guard.admit_stream(ANN, 0.0) for _ in range(9)]
    assert verdicts == [Verdict.ADMIT] * 5 + [Verdict.EXCESS] * 3 + [Verdict.EXPEL]
    assert guard.admit_stream(BOB, 0.0) is Verdict.ADMIT
    assert guard.admit_stream(ANN, 10.0) is Verdict.ADMIT


def test_connections_over_the_rate_are_refused() -> None:
    guard = Guard(limits=NetLimits(connections_per_s=1, connections_burst=2))
    assert [guard.admit_connection(ANN, 0.0) for _ in range(3)] == [True, True, False]
    assert guard.admit_connection(ANN, 1.0)


def test_the_table_of_rates_is_bounded_and_forgets_who_was_not_seen_longest() -> None:
    guard = Guard(limits=NetLimits(peers_tracked_max=3, connections_burst=1))
    for number in range(1, 5):
        assert guard.admit_connection(Lab.key(number).peer_id, 0.0)
    assert guard.peers_tracked == 3
    assert not guard.admit_connection(Lab.key(4).peer_id, 0.0)
    assert guard.admit_connection(Lab.key(1).peer_id, 0.0)
