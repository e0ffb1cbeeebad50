"""QUIC endpoints across home routers, addresses exchanged out of band: what hole punching rests on."""

import pytest

from tests.lab import nat
from tests.lab.lab import Lab
from tests.lab.namespace import LabError
from tests.lab.peer import digest_of
from tests.lab.remote import RemotePeer

SIZE = 2_000_000


def meet(one: str, other: str) -> tuple[RemotePeer, RemotePeer, list[int]]:
    """Two homes; both reach a public peer, are told how it sees the other, and dial each other at once."""
    with Lab() as lab:
        public = RemotePeer(lab.public("meeting point"))
        peers = [RemotePeer(lab.home(one, "anna")), RemotePeer(lab.home(other, "bela"))]
        for peer in peers:
            peer.tell("connect", peer=public.peer_id, addresses=public.addresses)
        seen = [public.seen_at(peer, 10) for peer in peers]
        ids = [
            peer.tell("fetch", peer=peers[1 - i].peer_id, addresses=[seen[1 - i]], bytes=SIZE)
            for i, peer in enumerate(peers)
        ]
        for peer, number in zip(peers, ids, strict=True):
            done = peer.wait("fetched", 15, id=number)
            assert (done["kind"], done["bytes"]) == ("direct", SIZE)
            assert done["digest"] == digest_of(SIZE)
        return peers[0], peers[1], ids


@pytest.mark.parametrize(
    ("one", "other"),
    [(nat.PORT_RESTRICTED, nat.PORT_RESTRICTED), (nat.EASY, nat.OPEN), (nat.DOUBLE, nat.EASY)],
)
def test_two_homes_connect_when_both_dial_what_the_other_is_seen_as(one: str, other: str) -> None:
    meet(one, other)


def test_two_symmetric_homes_do_not_and_that_is_physics() -> None:
    with pytest.raises(LabError, match="did not answer"):
        meet(nat.SYMMETRIC, nat.SYMMETRIC)
