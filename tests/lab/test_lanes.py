"""Lanes between real network stacks: where TCP passes, where a firewall drops it, and through a router that lets it
pass one way only."""

import time
from pathlib import Path

import pytest

from tests.lab import nat
from tests.lab.lab import Host, Lab
from tests.lab.peer import digest_of
from tests.lab.remote import RemotePeer
from tests.lab.slow_links import Line, SlowLinks

SIZE = 60_000_000
LOSSY = 16_000_000
SHARING = 5
SHARED = 12_000_000
AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
LONG = 600_000_000  # at the stream's speed, over twice as long as a dial that a firewall swallows


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


def test_a_lane_keeps_its_speed_where_packets_are_lost() -> None:
    """Of 40 Mbit/s, TCP as the system has it keeps one."""
    if "bbr" not in AVAILABLE.read_text(encoding="ascii").split():
        pytest.skip("this kernel has no bbr")
    with Lab() as lab:
        links = SlowLinks(lab, Line(rtt_s=0.1, loss=0.02))
        giver, taker = (links.host(n, up_mbit_per_s=40, down_mbit_per_s=80) for n in ("anna", "bela"))
        plain = links.measured(giver, taker)
        begun = time.monotonic()
        assert ways(giver, taker, LOSSY)["lane"] > 0.8 * LOSSY
        assert 8e-6 * LOSSY / (time.monotonic() - begun) > 2.5 * plain


def test_lanes_that_fill_one_uplink_stay_as_the_system_has_them() -> None:
    """What they lose they lose to each other: one that went by the rate would take the share of all."""
    with Lab() as lab:
        links = SlowLinks(lab, Line())
        names = ["giver", *(f"taker-{n}" for n in range(SHARING))]
        giver, *takers = (links.host(n, up_mbit_per_s=40, down_mbit_per_s=80) for n in names)
        there, *peers = (RemotePeer(host) for host in (giver, *takers))
        told = {"peer": there.peer_id, "addresses": there.addresses, "bytes": SHARED}
        asked = [peer.tell("bulk", **told) for peer in peers]
        seen = ""
        until = time.monotonic() + 60
        while time.monotonic() < until and not all(map(is_done, peers)):
            seen += giver.run("ss", "--tcp", "--info", "--no-header")
            time.sleep(0.1)
        ways_of = [p.wait("fetched", 1, id=n)["ways"] for p, n in zip(peers, asked, strict=True)]
        assert all(found.get("lane", 0) > SHARED / 3 for found in ways_of), ways_of
        assert " cubic " in seen
        assert " bbr " not in seen


def is_done(peer: RemotePeer) -> bool:
    """Whether it has what it asked for."""
    return any(event["event"] == "fetched" for event in peer.drain())
