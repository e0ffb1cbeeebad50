"""Whole nodes behind home routers: contacts find each other, by a relay that a third one runs, and get files."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import nat
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode

SIZE = 3_000_000
SETTLED_S = 15.0
NAMELESS_S = 6.0  # measured: 1 s, and 9 s when the DHT waited for its first names


def settled(holds: Callable[[], bool], limit_s: float = SETTLED_S) -> bool:
    """Whether `holds()` within the time."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if holds():
            return True
    return False


def friends(lab: Lab, folder: Path, one: str, other: str) -> list[LabNode]:
    """Rita with a public address; Anna and Bela at home; all know each other, and listen at Rita's relay."""
    hosts = [lab.public("rita"), lab.home(one, "anna"), lab.home(other, "bela")]
    rita, anna, bela = nodes = [LabNode(host, folder) for host in hosts]
    for node in nodes:
        node.up()
    rita.meet(anna)
    rita.meet(bela)
    for node in (anna, bela):
        assert settled(lambda node=node: "of rita" in node("status")), node("status")  # type: ignore[misc]
    anna.meet(bela)
    return nodes


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [(nat.SYMMETRIC, nat.SYMMETRIC, "relay"), (nat.PORT_RESTRICTED, nat.EASY, "direct")],
)
def test_contacts_behind_routers_get_a_file_by_the_relay_of_a_third(
    one: str, other: str, kind: str, tmp_path: Path
) -> None:
    with Lab() as lab:
        rita, anna, bela = friends(lab, tmp_path, one, other)
        shared = tmp_path / "photo.raw"
        shared.write_bytes(os.urandom(SIZE))
        ticket = anna.result("share", str(shared))["ticket"]

        bela("get", ticket, str(tmp_path / "got"))

        assert (tmp_path / "got").read_bytes() == shared.read_bytes()
        assert settled(lambda: bool(re.search(f"anna .* {kind} ", bela("peers")))), bela("peers")
        forwarded = rita.result("status")["relay"]["forwarded_bytes"]
        assert forwarded > 0
        assert (forwarded >= 1_000_000) is (kind == "relay")


@pytest.mark.slow
def test_who_holds_a_ticket_or_an_invitation_gets_in_by_the_relay_of_a_contact(tmp_path: Path) -> None:
    """Carl knows neither Rita nor any relay: what he was handed names hers, where he is a guest."""
    with Lab() as lab:
        hosts = [lab.public("rita"), lab.home(nat.SYMMETRIC, "anna"), lab.home(nat.SYMMETRIC, "carl")]
        rita, anna, carl = nodes = [LabNode(host, tmp_path) for host in hosts]
        for node in nodes:
            node.up()
        rita.meet(anna)
        assert settled(lambda: "of rita" in anna("status")), anna("status")
        assert settled(lambda: " 2 clients" in rita("status")), rita("status")
        shared = tmp_path / "photo.raw"
        shared.write_bytes(os.urandom(SIZE // 10))
        ticket = anna.result("share", str(shared))["ticket"]

        carl("get", ticket, str(tmp_path / "got"))
        anna.meet(carl)

        assert (tmp_path / "got").read_bytes() == shared.read_bytes()
        assert " 3 clients" in rita("status")


@pytest.mark.parametrize(
    ("kind", "named", "is_well"),
    [
        (nat.SYMMETRIC, "symmetric: 2 computers see 2", True),
        (nat.PORT_RESTRICTED, "endpoint-independent", True),
    ],
)
def test_doctor_names_the_kind_of_nat(kind: str, named: str, is_well: bool, tmp_path: Path) -> None:
    with Lab() as lab:
        hosts = [lab.public("rita"), lab.public("otto"), lab.home(kind, "anna")]
        rita, otto, anna = nodes = [LabNode(host, tmp_path) for host in hosts]
        for node in nodes:
            node.up()
        rita.meet(anna)
        otto.meet(anna)
        assert settled(lambda: all(f"of {name}" in anna("status") for name in ("rita", "otto")))

        said = anna("doctor", fails=not is_well)

        assert re.search(rf"nat +{named}", said), said
        assert "of rita" in said
        assert "of otto" in said


def test_doctor_says_that_udp_is_blocked_on_the_way_and_on_this_computer(tmp_path: Path) -> None:
    with Lab() as lab:
        rita, anna = LabNode(lab.public("rita"), tmp_path), LabNode(lab.home(nat.EASY, "anna"), tmp_path)
        rita.up()
        anna.up()
        rita.meet(anna)
        assert settled(lambda: "of rita" in anna("status"))
        anna.down()
        assert anna.host.router is not None
        anna.host.router.block("meta l4proto udp", hooks=("forward",))

        begun = time.monotonic()
        said = anna("doctor", fails=True)
        assert re.search(r"NO +udp .*seems to block UDP", said), said
        assert time.monotonic() - begun < 12

        reached = anna("doctor", "rita")
        assert re.search(r"path +through the relay", reached), reached

        anna.host.block_udp()
        said = anna("doctor", fails=True)
        assert re.search(r"NO +udp .*a datagram to ourselves|NO +udp .*cannot send", said), said


def test_doctor_says_that_multicast_is_blocked_and_that_a_relay_has_died(tmp_path: Path) -> None:
    with Lab() as lab:
        rita, anna = LabNode(lab.public("rita"), tmp_path), LabNode(lab.home(nat.EASY, "anna"), tmp_path)
        rita.up()
        anna.up()
        rita.meet(anna)
        assert settled(lambda: "of rita" in anna("status"))
        assert "works here" in anna("doctor")
        rita.down()
        anna.host.block_multicast()

        said = anna("doctor", fails=True)

        assert re.search(r"NO +multicast", said), said
        assert "--at IP:PORT" in said
        assert re.search(r"rita does not answer", said), said
        gone = anna("doctor", "rita", fails=True)
        assert re.search(r"NO +address .*no answer", gone), gone
        assert re.search(r"NO +connection ", gone), gone


@pytest.mark.parametrize("multicast", [True, False])
def test_a_code_makes_two_computers_of_one_network_know_each_other(multicast: bool, tmp_path: Path) -> None:
    """The code alone where multicast works; with the inviter's address where it is blocked. No DNS, no internet."""
    with Lab() as lab:
        switch = lab.switch()
        anna, bela = (LabNode(lab.plugged(name, switch), tmp_path) for name in ("anna", "bela"))
        if not multicast:
            for node in (anna, bela):
                node.host.block_multicast()
        inviting, invited = anna.invite()
        where = [] if multicast else ["--at", next(a for a in invited["at"] if a.count(":") == 1)]

        begun = time.monotonic()
        bela("join", invited["code"], *where)
        took = time.monotonic() - begun

        inviting.wait(10)
        assert [line["name"] for line in bela.result("contacts")] == ["anna"]
        assert [line["name"] for line in anna.result("contacts")] == ["bela"]
        assert took < 10, took


def test_a_node_starts_and_ends_at_once_where_no_name_can_be_looked_up(tmp_path: Path) -> None:
    with Lab() as lab:
        started: dict[str, float] = {}
        for reach in ("local", "internet"):  # in this order: the first pays for what the disk has to read
            node = LabNode(lab.public(reach), tmp_path)
            node("config", "set", "reach", reach)
            began = time.monotonic()
            node.up()
            started[reach] = time.monotonic() - began
            assert node.process is not None
            began = time.monotonic()
            node.process.terminate()
            node.process.wait()
            assert time.monotonic() - began < NAMELESS_S
        assert started["internet"] < 2 * started["local"] + 1


@pytest.mark.slow
def test_a_relay_with_ipv6_only_is_claimed_when_its_tcp_port_was_reached(tmp_path: Path) -> None:
    """Bela, at home elsewhere, comes to Anna by UDP, which her firewall lets in."""

    def claims() -> bool:
        return "[2a0f:10::2]" in anna("status").partition("own relay")[2]

    with Lab(ipv6=True) as lab:
        hosts = [lab.public("anna"), lab.home(nat.EASY, "bela")]
        hosts[0].run("ip", "-4", "address", "flush", "scope", "global")
        hosts[0].block("ip6 saddr 2a0f:10::/32 tcp flags syn", hooks=("prerouting",))
        anna, bela = nodes = [LabNode(host, tmp_path) for host in hosts]
        for node in nodes:
            node.up()
        shared = tmp_path / "note"
        shared.write_bytes(b"by UDP")
        bela("get", anna.result("share", str(shared))["ticket"], str(tmp_path / "got"))
        assert not settled(claims, 6), anna("status")
        anna.meet(bela)
        hosts[0].unblock()
        assert settled(claims, 30), anna("status")
