"""Things that happen to a network while it is in use. Each scenario is a function that asserts what must hold.

They run as tests (`test_scenarios.py`) and by hand: python -m tests.lab scenario NAME.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab import nat
from tests.lab.lab import Lab
from tests.lab.matrix import Meeting
from tests.lab.peer import digest_of
from tests.lab.remote import Event, RemotePeer

SIZE = 200_000_000
MBIT_PER_S = 160  # so that the transfer lasts ten seconds
TRANSFER_S = 90.0  # with everything that happens to it
UNDER_WAY = SIZE // 10
SILENT_CUT_S = 20.0  # the wheel gives a path up after 15 s of silence
NEIGHBOURS = 12
NEIGHBOURS_S = 3.0


@dataclass
class Transfer:
    """One large fetch by `taker` from `giver`."""

    taker: RemotePeer
    giver: RemotePeer
    number: int

    def after(self, size: int) -> Event:
        """Wait until `size` bytes have come."""
        return self.taker.wait("progress", TRANSFER_S, id=self.number, where=lambda e: e["bytes"] >= size)

    def path(self, kind: str, timeout_s: float, *, since: float = 0.0) -> Event:
        """Wait until the taker's connection goes over `kind`, at `since` or later."""
        return self.taker.wait(
            "path",
            timeout_s,
            where=lambda e: e["kind"] == kind and e["peer"] == self.giver.peer_id and e["s"] >= since,
        )

    @property
    def now(self) -> float:
        """The taker's clock, at its last event."""
        return float(self.taker.drain()[-1]["s"])

    def ends_whole(self, connections: int = 1) -> Event:
        """It arrived complete and true, through so many connections at most."""
        done = self.taker.wait("fetched", TRANSFER_S, id=self.number)
        assert (done["bytes"], done["digest"]) == (SIZE, digest_of(SIZE))
        ups = [e for e in self.taker.events if e["event"] == "up" and e["peer"] == self.giver.peer_id]
        assert len(ups) <= connections
        return done

    def story(self) -> list[str]:
        """The taker's paths to the giver and the longest silence, for people."""
        mine = [
            e for e in self.taker.drain() if e.get("id") == self.number or e.get("peer") == self.giver.peer_id
        ]
        told = [f"{e['s']:6.1f} s  {e['kind']} {e['remote']}" for e in mine if e["event"] == "path"]
        times = [e["s"] for e in mine if e["event"] in {"first_byte", "progress", "fetched"}]
        gap_s, at = max((b - a, a) for a, b in itertools.pairwise(times))
        return [*told, f"{at:6.1f} s  nothing came for {gap_s:.1f} s", f"{times[-1]:6.1f} s  complete"]


def begin(place: Meeting, one: str, other: str) -> Transfer:
    """Two homes; the first fetches from the second over a link of limited rate."""
    taker, giver = place.join(one, "taker"), place.join(other, "giver")
    assert taker.host.cable is not None
    taker.host.cable.limit(MBIT_PER_S)
    number = taker.tell("fetch", peer=giver.peer_id, addresses=[place.relay_url], bytes=SIZE)
    return Transfer(taker, giver, number)


def _address_changes(side: str) -> list[str]:
    with Lab() as lab:
        transfer = begin(Meeting(lab), nat.PORT_RESTRICTED, nat.PORT_RESTRICTED)
        transfer.after(UNDER_WAY)
        moved = transfer.taker if side == "taker" else transfer.giver
        moved.host.change_address()
        transfer.ends_whole()
        return transfer.story()


def taker_moves() -> list[str]:
    """The address of who receives changes while it receives."""
    return _address_changes("taker")


def giver_moves() -> list[str]:
    """The address of who sends changes while it sends."""
    return _address_changes("giver")


def cable_pulled() -> list[str]:
    """The taker's cable is out for two seconds."""
    with Lab() as lab:
        transfer = begin(Meeting(lab), nat.EASY, nat.PORT_RESTRICTED)
        transfer.after(UNDER_WAY)
        host = transfer.taker.host
        assert host.cable is not None
        host.cable.cut()
        time.sleep(2.0)
        host.cable.restore()
        transfer.ends_whole()
        return transfer.story()


def direct_path_cut() -> list[str]:
    """The direct path goes silent, and comes back: over the relay meanwhile."""
    with Lab() as lab:
        transfer = begin(Meeting(lab), nat.PORT_RESTRICTED, nat.PORT_RESTRICTED)
        transfer.path("direct", 10)
        transfer.after(UNDER_WAY)
        router, beyond = transfer.taker.host.router, transfer.giver.host.router
        assert router is not None
        assert beyond is not None
        router.block(f"meta l4proto udp ip saddr {beyond.ip}")
        router.block(f"meta l4proto udp ip daddr {beyond.ip}")
        cut_at = transfer.now
        transfer.path("relay", SILENT_CUT_S, since=cut_at)
        router.unblock()
        transfer.ends_whole()
        return transfer.story()


def relay_dies() -> list[str]:
    """Two who need a relay; the one in use is killed and a second one exists: a file of the files app goes on."""
    with Lab() as lab:
        place = Meeting(lab)
        spare = place.another()
        taker, giver = place.join(nat.SYMMETRIC, "taker"), place.join(nat.SYMMETRIC, "giver")
        assert taker.host.cable is not None
        taker.host.cable.limit(MBIT_PER_S)
        ticket = giver.wait("shared", 30, id=giver.tell("share", bytes=SIZE))["ticket"]
        taker.wait("connected", 10, id=taker.tell("connect", peer=giver.peer_id, addresses=[place.relay_url]))
        transfer = Transfer(taker, giver, taker.tell("get", ticket=ticket))
        transfer.after(UNDER_WAY)
        used = transfer.path("relay", 1)["remote"]
        {place.relay_url: place.relay, place.spare_urls[0]: spare}[used].kill()
        transfer.ends_whole(connections=2)
        return transfer.story()


def neighbours() -> list[str]:
    """Twelve on one network, no DNS and no internet: each sees all others."""
    with Lab() as lab:
        switch = lab.switch()
        hosts = [lab.plugged(f"computer {n}", switch) for n in range(NEIGHBOURS)]
        peers = [RemotePeer(host, mdns=True) for host in hosts]
        for peer in peers:
            assert peer.addresses
        slowest = 0.0
        for peer in peers:
            for other in peers:
                if other is not peer:
                    seen = peer.finds(other, NEIGHBOURS_S)
                    slowest = max(slowest, seen["at"])
        took_s = slowest - max(peer.ready_at for peer in peers)
        assert took_s < NEIGHBOURS_S, f"all saw all after {took_s:.2f} s"
        return [f"all {NEIGHBOURS} saw each other {took_s:.2f} s after the last had started"]


SCENARIOS: dict[str, Callable[[], list[str]]] = {
    work.__name__.replace("_", "-"): work
    for work in (taker_moves, giver_moves, cable_pulled, direct_path_cut, relay_dies, neighbours)
}
