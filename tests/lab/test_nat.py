"""The laboratory's own routers behave as RFC 4787 says of their kind: seen by a UDP probe from outside."""

import select
import socket

import pytest

from tests.lab import nat
from tests.lab.lab import Host, Lab

ANSWER_S = 0.3  # within one machine a packet takes microseconds


def udp(host: Host, port: int = 0) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", port))
        return made

    return host.namespace.call(make)


def hear(at: socket.socket) -> tuple[bytes, tuple[str, int]] | None:
    """What arrived and from where it seems to come; None when nothing did."""
    ready, _, _ = select.select([at], [], [], ANSWER_S)
    return at.recvfrom(2000) if ready else None


def seen_as(inside: socket.socket, outside: socket.socket, to: tuple[str, int]) -> tuple[str, int] | None:
    inside.sendto(b"who am I", to)
    heard = hear(outside)
    return heard[1] if heard else None


class Probe:
    """One computer behind a router, two public servers with two ports each."""

    def __init__(self, lab: Lab, kind: str) -> None:
        self.kind = kind
        self.host = lab.home(kind, "inside")
        self.servers = [lab.public("one"), lab.public("two")]
        self.inside = udp(self.host)
        self.outside = {(s.ip, p): udp(s, p) for s in self.servers for p in (3478, 3479)}

    def mapped(self, server: int, port: int) -> tuple[str, int] | None:
        where = (self.servers[server].ip, port)
        return seen_as(self.inside, self.outside[where], where)

    def enters(self, server: int, port: int, to: tuple[str, int]) -> bool:
        self.outside[self.servers[server].ip, port].sendto(b"hello", to)
        return hear(self.inside) is not None

    def renew(self, port: int = 0) -> None:
        """A new inside socket, of another port unless one is given."""
        self.inside.close()
        self.inside = udp(self.host, port)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_: object) -> None:
        for made in (self.inside, *self.outside.values()):
            made.close()

    @property
    def port(self) -> int:
        return int(self.inside.getsockname()[1])


EXPECTED = {
    # kind: (mapping, keeps the port, filtering)
    nat.OPEN: ("none", True, "none"),
    nat.EASY: ("independent", True, "independent"),
    nat.PORT_RESTRICTED: ("independent", False, "address and port"),
    nat.SYMMETRIC: ("address and port", False, "address and port"),
    nat.DOUBLE: ("independent", True, "independent"),
}


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_a_router_maps_and_filters_as_its_kind_says(kind: str) -> None:
    with Lab() as lab, Probe(lab, kind) as probe:
        assert (*mapping(probe), filtering(probe)) == EXPECTED[kind]


def mapping(probe: Probe) -> tuple[str, bool]:
    """How the inside address is seen by different destinations, and whether it keeps its port."""
    first = probe.mapped(0, 3478)
    assert first is not None
    others = [probe.mapped(0, 3479), probe.mapped(1, 3478), probe.mapped(1, 3479)]
    if others == [first] * 3:
        kind = "none" if first[0] == probe.host.ip else "independent"
    else:
        assert len({first, *others}) == 4, "each destination has a mapping of its own"
        kind = "address and port"
    return kind, first[1] == probe.port


def filtering(probe: Probe) -> str:
    """Who may answer after one packet went to port 3478 of the first server only."""
    probe.renew()
    if probe.enters(1, 3479, (probe.host.ip, probe.port)):
        return "none"
    mapped = probe.mapped(0, 3478)
    assert mapped is not None
    assert probe.enters(0, 3478, mapped), "the answer itself"
    entered = probe.enters(0, 3479, mapped), probe.enters(1, 3478, mapped)
    again = probe.mapped(1, 3478)
    if probe.kind != nat.SYMMETRIC:
        assert again == mapped, "what came uninvited must not change the mapping"
    names = {(True, True): "independent", (True, False): "address", (False, False): "address and port"}
    return names[entered]


@pytest.mark.parametrize("kind", [nat.EASY, nat.PORT_RESTRICTED, nat.SYMMETRIC, nat.DOUBLE])
def test_nothing_enters_a_home_that_has_sent_nothing(kind: str) -> None:
    with Lab() as lab, Probe(lab, kind) as probe:
        router = lab.internet.network.network_address + 2
        assert not any(probe.enters(1, 3478, (str(router), port)) for port in (probe.port, 20_000, 3478))


def test_where_udp_is_blocked_tcp_still_goes_out() -> None:
    with Lab() as lab, Probe(lab, nat.UDP_BLOCKED) as probe:
        assert probe.mapped(0, 3478) is None
        server = probe.servers[0]
        listener = server.namespace.call(lambda: socket.create_server(("0.0.0.0", 80)))
        client = probe.host.namespace.call(lambda: socket.create_connection((server.ip, 80), 2))
        accepted, seen = listener.accept()
        assert seen[0] != probe.host.ip
        for made in (listener, client, accepted):
            made.close()
