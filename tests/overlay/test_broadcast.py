"""Broadcast among many: everybody gets everything, once, also with loss and after failures."""

import pytest

from coterie.errors import LimitExceeded, NotFound
from coterie.identity import PeerId
from coterie.overlay.broadcast import Broadcast, CloseTopic, OpenTopic, Publish
from coterie.sim.links import Link, uniform
from tests.overlay.village import TOPIC, Village


@pytest.fixture(scope="module")
def settled() -> Village:
    village = Village(120)
    village.run(100)
    for number in range(6):
        village.publish(village.names[number * 7], b"settling %d" % number)
        village.run(5)
    return village


def test_all_are_connected_and_links_are_mutual(settled: Village) -> None:
    assert settled.parts() == [120]
    for name in settled.names:
        active = settled.membership(name).active
        assert 1 <= len(active) <= 5
        assert all(settled.membership(peer).is_neighbour(name) for peer in active)


def test_everybody_gets_a_message_once_along_a_tree(settled: Village) -> None:
    source, before = settled.names[5], settled.total("duplicates")
    settled.publish(source, b"news")
    settled.run(5)
    assert settled.share_reached(b"news", source) == 1.0
    assert settled.twice == 0
    assert (settled.total("duplicates") - before) / 119 < 0.1


def test_with_a_tenth_of_all_messages_lost_everybody_gets_everything() -> None:
    village = Village(100, link=Link(latency=uniform(0.01, 0.1), loss=0.1))
    village.run(200)
    for number in range(5):
        village.publish(village.names[number], b"%d" % number)
        village.run(2)
    village.run(180)
    assert village.parts() == [100]
    assert [village.share_reached(b"%d" % n, village.names[n]) for n in range(5)] == [1.0] * 5
    assert village.twice == 0


def test_four_fifths_gone_at_once_the_others_find_together() -> None:
    village = Village(150)
    village.run(100)
    for name in village.names[30:]:
        village.world.crash(name)
    village.run(30)
    source = village.names[0]
    village.publish(source, b"who is left?")
    village.run(10)
    assert village.share_reached(b"who is left?", source) >= 0.99


def test_who_was_away_gets_what_was_said_meanwhile() -> None:
    village = Village(30)
    village.run(60)
    away, source = village.names[7], village.names[3]
    village.world.crash(away)
    for number in range(40):
        village.publish(source, b"%d" % number)
        village.run(1)
    village.world.restart(away)
    village.enter(away, [village.names[9]])
    village.run(60)
    assert all(away in village.reached[b"%d" % number] for number in range(40))


def test_halves_of_a_network_find_together_again() -> None:
    village = Village(40)
    village.run(60)
    village.world.partition(village.names[:20])
    village.run(400)
    village.publish(village.names[0], b"one half")
    village.run(5)
    assert village.share_reached(b"one half", village.names[0]) < 0.6
    village.world.heal()
    village.run(600)
    assert village.parts() == [40]
    village.publish(village.names[1], b"all")
    village.run(30)
    assert village.share_reached(b"all", village.names[1]) == 1.0


def test_topics_have_a_bound_and_unknown_ones_are_an_error() -> None:
    import random

    core = Broadcast(PeerId(bytes(32)), rng=random.Random(1), sign=lambda _: bytes(64), topics_max=1)
    core.handle(OpenTopic(TOPIC), 0.0)
    with pytest.raises(LimitExceeded, match="topics_max"):
        core.handle(OpenTopic(b"t" * 32), 0.0)
    core.handle(CloseTopic(TOPIC), 0.0)
    assert core.topics == []
    with pytest.raises(NotFound):
        core.handle(Publish(TOPIC, b"to nobody"), 0.0)
