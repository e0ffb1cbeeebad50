"""Rules of what goes by the exit, and the table that nft makes of them."""

import subprocess

import pytest

from coterie.apps.internet.exit_machine import ports_in_table
from coterie.apps.internet.exit_names import servers_in
from coterie.apps.internet.exit_networks import Here, here_in, read_network
from coterie.apps.internet.exit_rules import (
    RULES_MAX,
    TABLE,
    Plan,
    Rule,
    Split,
    add_hosts,
    read_rule,
    read_rules,
    remove_table,
    table,
)
from coterie.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("192.0.2.0/24", Rule(network="192.0.2.0/24")),
        ("192.0.2.7", Rule(network="192.0.2.7/32")),
        ("2001:db8::/32", Rule(network="2001:db8::/32")),
        ("Example.COM.", Rule(host="example.com")),
        ("*.example.com", Rule(host="example.com")),
        ("user:anna", Rule(user="anna")),
    ],
)
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    assert read_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.7/24", "10.0.0.256", "user:", "user:a b", "a b", 'x"; drop', "-a.b", "a" * 254, "x\ny"],
)
def test_what_cannot_be_a_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_rule(text)


def test_one_rule_too_many() -> None:
    assert len(read_rules(["a.b"] * RULES_MAX)) == RULES_MAX
    with pytest.raises(UsageError, match="at most"):
        read_rules(["a.b"] * (RULES_MAX + 1))


def test_names_go_by_the_exit_as_rules_say() -> None:
    direct = Split(direct=read_rules(["example.com"]))
    assert [direct.is_by_exit(name) for name in ("example.com", "a.example.com", "notexample.com", "b")] == [
        False,
        False,
        True,
        True,
    ]
    only = Split(only=read_rules(["example.com", "192.0.2.0/24"]), direct=read_rules(["in.example.com"]))
    assert [only.is_by_exit(name) for name in ("example.com", "x.in.example.com", "other")] == [
        True,
        False,
        False,
    ]
    assert only.names("in.example.com")
    assert not only.names("other")


def plan(split: Split) -> Plan:
    return Plan(
        home='/home/"x"\n',
        cgroup=".",
        level=1,
        uid=0,
        udp=[7777],
        tcp=[80, 81],
        door=4000,
        names=4001,
        split=split,
        users={"daemon": 1},
    )


@pytest.mark.parametrize(
    "split",
    [
        Split(),
        Split(local=False),
        Split(direct=read_rules(["192.0.2.0/24", "2001:db8::/32", "user:daemon", "a.b", "192.0.2.1"])),
        Split(only=read_rules(["192.0.2.0/24", "user:daemon", "a.b"]), direct=read_rules(["192.0.2.9"])),
    ],
)
def test_nft_takes_the_table_twice_and_gives_it_back(split: Split) -> None:
    def nft(asked: str, *then: str) -> str:
        words = ["unshare", "--net", "sh", "-c", "nft -f - && nft list " + " ".join(then)]
        return subprocess.run(words, input=asked, text=True, capture_output=True, check=True).stdout

    made = table(plan(split))
    listed = nft(made + made, "table inet", TABLE)
    assert listed.count("policy drop") == 1
    assert "redirect to :4000" in listed
    assert 'comment "/home/?x??"' in listed
    learnt = add_hosts([("192.0.2.44", 300), ("2001:db8::44", 300)])
    assert "192.0.2.44 timeout 5m" in nft(made + learnt, "table inet", TABLE)
    assert nft(made + remove_table(), "tables") == ""


def test_ports_of_the_node_are_read_from_the_kernels_table() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 x\n"
        "   1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 111 1 x\n"
        "   2: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 x\n"
    )
    assert ports_in_table(text, {"111"}, is_listening=True) == [8080]
    assert ports_in_table(text, {"111"}, is_listening=False) == [8080, 8081]


def test_servers_for_names_are_read() -> None:
    text = "# x\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver fe80::1%eth0\nsearch a\nnameserver\n"
    assert servers_in(text) == ["192.0.2.1", "fe80::1"]
    assert len(servers_in("nameserver 192.0.2.1\n" * 9)) == 3


ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "coterie0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
)
NEIGHBOURS = (
    "IP address       HW type     Flags       HW address            Mask     Device\n"
    "192.168.1.1      0x1         0x2         00:11:22:33:44:55     *        eth0\n"
    "192.168.2.1      0x1         0x0         00:00:00:00:00:00     *        wlan0\n"
)


def test_the_network_is_known_by_interface_and_router() -> None:
    now = here_in(ROUTES, NEIGHBOURS)
    assert now == Here("eth0", "00:11:22:33:44:55")
    assert now.is_one_of(["wlan0", "eth0"])
    assert now.is_one_of([read_network("00-11-22-33-44-55")])
    assert not now.is_one_of(["wlan0", "00:11:22:33:44:56"])
    away = here_in(ROUTES.replace("eth0\t00000000", "eth9\t000000FF"), NEIGHBOURS)
    assert away == Here("wlan0")
    assert away.is_one_of(["00:11:22:33:44:55"])  # not known yet: rather closed than open
    assert here_in(ROUTES[: ROUTES.index("eth0")], "").is_one_of(["eth0"])


@pytest.mark.parametrize("text", ["", "a/b", "a b", "00:11:22", "00:11:22:33:44:5g", "x" * 16])
def test_what_cannot_be_a_network_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no network"):
        read_network(text)
