"""What an exit connects to: forty ways to closed addresses, each refused; the internet is open."""

import ipaddress

import pytest

from coterie.apps.internet.addresses import networks_of
from coterie.apps.internet.hosts import Pattern, read_host, read_pattern
from coterie.apps.internet.rules import Rules, may_connect
from coterie.errors import AccessDenied, UsageError

PLACE = networks_of([("11.1.2.3", 24), ("2a00:1:2:3::5", 64), ("192.168.7.2", 24), ("127.0.0.1", 8)])
ALL = Rules()

ATTEMPTS = (
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.1.1",
    "192.168.7.2",  # the exit itself
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.1.1",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "11.1.2.3",  # the exit's public address
    "11.1.2.77",  # its neighbour
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",  # IPv4-compatible
    "::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "ff02::fb",
    "2a00:1:2:3::99",  # in the exit's network
    "2a00:1:2:3::5",
    "2001:db8::1",
    "100::1",
    "4000::1",  # given out to nobody
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "0x7f.1",
    "127.0.0.0x1",
    "010.0.0.1",
    "127.0.0.1.",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "db.localhost",
    "router",
    "printer.local",
    "nas.home.arpa",
    "metadata.google.internal",
    "exämple.org",
    "a b.org",
    "host\0.org",
    "",
    ".",
    "[::1]",
    "[127.0.0.1]",
    "a..b",
)


def reaches(text: str, rules: Rules = ALL) -> bool:
    """Whether an exit connects to `text`, or would to a public address that a name has."""
    asked = read_host(text)
    is_opened = rules.opens(asked, 80)
    return isinstance(asked, str) or may_connect(asked, PLACE, is_opened=is_opened)


@pytest.mark.parametrize("text", ATTEMPTS)
def test_closed_addresses_are_not_reached(text: str) -> None:
    try:
        is_reached = reaches(text)
    except AccessDenied:
        return
    assert not is_reached


@pytest.mark.parametrize(
    "text",
    [
        "example.org",
        "Example.ORG.",
        "_dmarc.example.org",
        "xn--exmple-cua.org",
        "9.9.9.9",
        "11.1.3.1",
        "172.32.0.1",
        "2620:fe::fe",
        "[2620:fe::fe]",
        "::ffff:9.9.9.9",
        "64:ff9b::909:909",
        "1.example",
        "0x7f.org",
    ],
)
def test_the_internet_is_open(text: str) -> None:
    assert reaches(text)


def test_owners_open_hosts_of_their_network_by_name_and_never_themselves() -> None:
    rules = Rules(allow=tuple(map(read_pattern, ("192.168.7.0/24", "nas.home.arpa:445", "10.0.0.9:80"))))
    assert reaches("192.168.7.9", rules)
    assert not reaches("192.168.7.2", rules), "the exit itself"
    assert not reaches("192.168.8.9", rules)
    assert reaches("10.0.0.9", rules)
    with pytest.raises(AccessDenied):
        reaches("nas.home.arpa", rules)  # at another port
    every = Rules(allow=(read_pattern("0.0.0.0/0"), read_pattern("::/0")))
    for text in ("127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "::ffff:127.0.0.1", "224.0.0.1"):
        assert not reaches(text, every)


def test_a_share_of_some_hosts_leads_to_no_others() -> None:
    rules = Rules(only=tuple(map(read_pattern, ("*.example.org", "9.9.9.0/24:53"))))
    assert rules.opens("www.example.org", 443) is rules.opens("example.org", 443) is False
    for host, port in (("example.com", 443), ("org", 443), ("badexample.org", 443)):
        with pytest.raises(AccessDenied):
            rules.opens(host, port)
    assert rules.opens(ipaddress.ip_address("9.9.9.9"), 53) is False
    with pytest.raises(AccessDenied):
        rules.opens(ipaddress.ip_address("9.9.9.9"), 80)


@pytest.mark.parametrize("text", ["", "a b", "http://example.org", "example.org:0", "x:99999", "1.2.3", "*"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_pattern(text)


@pytest.mark.parametrize(
    "text", ["example.org", "*.example.org:443", "192.168.7.0/24", "10.0.0.9:80", "[2a00::1]:80", "2a00::/16"]
)
def test_patterns_are_said_as_they_are_written(text: str) -> None:
    assert str(read_pattern(text)) == text
    assert read_pattern(str(read_pattern(text))) == read_pattern(text)


def test_the_whole_name_is_meant() -> None:
    assert Pattern(name="example.org").matches("example.org", 80)
    assert not Pattern(name="example.org").matches("www.example.org", 80)
