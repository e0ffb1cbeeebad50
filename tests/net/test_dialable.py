"""Which addresses are dialled: by how far they reach, and by where they came from."""

import ipaddress

import pytest

from coterie.net import Endpoint, MemoryNetwork
from coterie.net.dialable import Dialling, Source
from coterie.net.home_networks import Zone, zone_of
from coterie.net.quic.addresses import relay_url
from tests.access.circles import key

AWAY = Dialling(lambda: ["192.168.1.7:4433", "127.0.0.1:4433"])
HERE = Dialling(lambda: ["127.0.0.1:4433", "[::1]:4433"])
LOCAL = Dialling(lambda: ["192.168.1.7:4433"], uses_relays=False)

OWN, PROVEN, LINK, OTHERS = Source.OWN, Source.PROVEN, Source.LINK, Source.OTHERS


@pytest.mark.parametrize(
    ("ip", "zone"),
    [
        ("0.0.0.0", Zone.NOWHERE),
        ("0.1.2.3", Zone.NOWHERE),
        ("224.0.0.251", Zone.NOWHERE),
        ("255.255.255.255", Zone.NOWHERE),
        ("::", Zone.NOWHERE),
        ("ff02::fb", Zone.NOWHERE),
        ("127.9.9.9", Zone.MACHINE),
        ("::1", Zone.MACHINE),
        ("::ffff:127.0.0.1", Zone.MACHINE),
        ("64:ff9b::7f00:1", Zone.MACHINE),
        ("2002:7f00:1::", Zone.MACHINE),
        ("::ffff:0.0.0.0", Zone.NOWHERE),
        ("169.254.1.1", Zone.LINK),
        ("fe80::1", Zone.LINK),
        ("10.1.2.3", Zone.HOME),
        ("100.64.0.1", Zone.HOME),
        ("fd12::1", Zone.HOME),
        ("::127.0.0.1", Zone.NOWHERE),
        ("64:ff9b:1::7f00:1", Zone.HOME),
        ("198.51.100.2", Zone.INTERNET),
        ("2001:db8::1", Zone.INTERNET),
    ],
)
def test_zones(ip: str, zone: Zone) -> None:
    assert zone_of(ipaddress.ip_address(ip)) is zone


@pytest.mark.parametrize(
    ("address", "dialled_from"),
    [
        ("198.51.100.2:4433", {OWN, PROVEN, LINK, OTHERS}),
        ("192.168.1.9:4433", {OWN, PROVEN, LINK, OTHERS}),
        ("169.254.1.1:4433", {OWN, PROVEN, LINK}),
        ("[fe80::1]:4433", {OWN, PROVEN, LINK}),
        ("127.0.0.1:4433", {OWN}),
        ("[::1]:4433", {OWN}),
        ("[::ffff:127.0.0.1]:4433", {OWN}),
        ("169.254.169.254:80", {OWN}),
        ("[fd00:ec2::254]:80", {OWN}),
        ("100.100.100.200:80", {OWN}),
        ("[fd20:ce::254]:80", {OWN}),
        ("[::ffff:169.254.169.254]:80", {OWN}),
        ("0.0.0.0:4433", set()),
        ("224.0.0.1:4433", set()),
        ("[ff02::1]:4433", set()),
        ("[::1%1]:4433", set()),
        ("localhost.:4433", set()),
        ("", set()),
        ("http://198.51.100.2:4433", {OWN, PROVEN, LINK, OTHERS}),
        ("http://198.51.100.2", {OWN, PROVEN, LINK, OTHERS}),
        ("https://[2001:db8::1]", {OWN, PROVEN, LINK, OTHERS}),
        ("http://198.51.100.2:1024", {OWN, PROVEN, LINK, OTHERS}),
        ("http://198.51.100.2:1023", {OWN}),
        ("http://198.51.100.2:22", {OWN}),
        ("http://127.0.0.1:4433", {OWN}),
        ("http://localhost:4433", {OWN}),
        ("http://127.1:4433", {OWN}),
        ("http://192.168.1.9:4433", {OWN, PROVEN}),
        ("http://169.254.169.254:80", {OWN}),
        ("http://198.51.100.2:99999", {OWN}),
        ("http://a b", set()),
    ],
)
def test_what_is_dialled_depends_on_where_it_came_from(address: str, dialled_from: set[Source]) -> None:
    assert {source for source in Source if not AWAY.refusal(address, source)} == dialled_from


def test_peers_on_this_machine_are_reached_while_the_node_is_here_only() -> None:
    for address in ("127.0.0.1:4433", "[::1]:9", "http://127.0.0.1:4433"):
        assert not HERE.refusal(address)
        assert AWAY.refusal(address)
    assert HERE.refusal("http://localhost:4433")


def test_the_level_local_uses_no_relay_of_anybody() -> None:
    for source in Source:
        assert "not used" in LOCAL.refusal("http://198.51.100.2:4433", source)


def test_a_relay_whose_owner_was_met_there_is_used() -> None:
    met = Dialling(lambda: ["192.168.1.7:4433"])
    met.relays_known = frozenset({"http://192.168.1.9:4433"})
    assert not met.refusal("http://192.168.1.9:4433")
    assert met.refusal("http://192.168.1.9:631")


def test_a_relay_at_an_address_of_this_machine_is_not_asked_unless_its_owner_was_met_there() -> None:
    """A program that the firewall keeps from others answers this computer itself."""
    server = Dialling(lambda: ["198.51.100.2:4433", "[2001:db8::1]:4433", "203.0.113.9:4433"])
    server.machine = lambda: ["198.51.100.2:4433", "[2001:db8::1]:4433"]
    for url in ("http://198.51.100.2:9200", "http://[2001:db8::1]:9200", "http://[::ffff:198.51.100.2]:9200"):
        assert "this computer itself" in server.refusal(url)
        assert not server.refusal(url, OWN)
        assert not server.refusal(url, PROVEN)
    assert not server.refusal(
        "http://203.0.113.9:9200"
    )  # the router's: a relay of the same home may be behind it
    server.relays_known = frozenset({"http://198.51.100.2:9200"})
    assert not server.refusal("http://198.51.100.2:9200")


def test_every_form_of_a_relay_that_passes_is_one_that_the_transport_reads_alike() -> None:
    for url in ("http://198.51.100.2:4433", "https://[2001:db8::1]", "http://198.51.100.2"):
        assert not AWAY.refusal(url)
        assert relay_url(url).startswith(url)


@pytest.mark.parametrize("address", ["127.0.0.1:22", "169.254.169.254:80", "http://127.0.0.1:631"])
def test_the_endpoint_dials_nothing_that_it_should_not(address: str) -> None:
    endpoint = Endpoint(MemoryNetwork().bind(key("anna").peer_id))
    assert endpoint.dialling.usable(["198.51.100.2:4433", address]) == ("198.51.100.2:4433",)
