"""Lanes between real network stacks: where TCP passes, where a firewall drops it, and through a router that lets it
pass one way only."""

import pytest

from tests.lab import nat
from tests.lab.lab import Host, Lab
from tests.lab.peer import digest_of
from tests.lab.remote import RemotePeer

SIZE = 60_000_000
LONG = 240_000_000  # at the stream's speed, longer than a dial that a firewall swallows


def ways(giver: Host, taker: Host, size: int) -> dict[str, int]:
    """How many bytes came which way; all of them came, in order."""
    peers = [RemotePeer(giver), RemotePeer(taker)]
    here = peers[0].addresses
    if giver.router is not None:  # a home is reached where a peer sees it
        peers[0].tell("connect", peer=peers[1].peer_id, addresses=peers[1].addresses)
        here = [peers[1].seen_at(peers[0], 10)]
    number = peers[1].tell("bulk", peer=peers[0].peer_id, addresses=here, bytes=size)
    done = peers[1].wait("fetched", 90, id=number)
    assert (done["bytes"], done["digest"]) == (size, digest_of(size))
    return dict(done["ways"])


def test_two_computers_on_one_network_use_a_lane() -> None:
    with Lab() as lab:
        switch = lab.switch()
        found = ways(lab.plugged("anna", switch), lab.plugged("bela", switch), SIZE)
        assert found["lane"] > found["stream"]


@pytest.mark.parametrize("who", ["giver", "taker"])
def test_a_firewall_that_drops_tcp_costs_nothing_but_the_lane(who: str) -> None:
    with Lab() as lab:
        switch = lab.switch()
        giver, taker = lab.plugged("anna", switch), lab.plugged("bela", switch)
        (giver if who == "giver" else taker).block("meta l4proto tcp")
        assert list(ways(giver, taker, SIZE)) == ["stream"]


@pytest.mark.parametrize("home", ["giver", "taker"])
def test_a_home_router_is_passed_in_the_direction_that_it_allows(home: str) -> None:
    """Either side may be the one that dials: whoever is inside does."""
    with Lab() as lab:
        inside, outside = lab.home(nat.PORT_RESTRICTED, "anna"), lab.public("bela")
        giver, taker = (inside, outside) if home == "giver" else (outside, inside)
        assert ways(giver, taker, LONG)["lane"] > 0
