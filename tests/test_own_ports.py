"""Where a node itself listens, in words."""

from coterie.own_ports import ports_of


def test_every_part_of_a_node_that_listens_is_named() -> None:
    relayed = "http://198.51.100.1:80"
    found = ports_of(
        finds_neighbours=True,
        directory=["0.0.0.0:6881"],
        own=["192.0.2.1:4433", "[::1]:4434", relayed],
        relay=4433,
    )
    assert list(found) == [("udp", 5353), ("udp", 6881), ("udp", 4433), ("udp", 4434), ("tcp", 4433)]
    assert "mDNS" in found["udp", 5353]
    assert ports_of(finds_neighbours=False, directory=[], own=[], relay=0) == {}
