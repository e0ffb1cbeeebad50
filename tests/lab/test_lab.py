"""The laboratory itself: it leaves nothing behind, and its faults do what they say."""

import os
import select
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.lab import conftest, nat
from tests.lab.lab import Host, Lab
from tests.lab.namespace import LabError
from tests.lab.remote import RemotePeer
from tests.lab.test_nat import Probe

PORT = 4000


def reaches(sender: Host, receiver: Host, ip: str = "") -> bool:
    """Whether one UDP packet arrives."""

    def make() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    with receiver.namespace.call(make) as heard, sender.namespace.call(make) as said:
        heard.bind(("0.0.0.0", PORT))
        try:
            said.sendto(b"hello", (ip or receiver.ip, PORT))
        except OSError:
            return False
        return bool(select.select([heard], [], [], 0.3)[0])


def test_nothing_is_left_behind_when_a_block_fails() -> None:
    before = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), Lab() as lab:
        process = lab.home(nat.DOUBLE, "anna").popen(sys.executable, "-c", "import time; time.sleep(99)")
        assert process.poll() is None
        _ = 1 / 0
    assert process.poll() is not None
    assert len(os.listdir("/proc/self/fd")) == descriptors
    after = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    assert [line.split(":")[0] for line in after] == [line.split(":")[0] for line in before]


def test_two_laboratories_at_once_do_not_see_each_other() -> None:
    with Lab() as one, Lab() as other:
        a, b = one.public("a"), other.public("a")
        assert a.ip == b.ip
        assert not reaches(a, b, str(one.internet.network[77]))
        assert reaches(a, one.public("b"))


def test_a_command_that_fails_is_named_with_its_complaint() -> None:
    with Lab() as lab, pytest.raises(LabError, match=r"in anna: ip link set nothing up: .*nothing"):
        lab.public("anna").run("ip", "link", "set", "nothing", "up")


def test_faults_hold_until_they_end() -> None:
    with Lab() as lab:
        switch = lab.switch()
        a, b = lab.plugged("a", switch), lab.plugged("b", switch)
        assert a.cable is not None
        assert reaches(a, b)
        a.cable.cut()
        assert not reaches(b, a)
        a.cable.restore()
        assert reaches(b, a)
        b.block_udp()
        assert not reaches(a, b)
        assert not reaches(b, a)
        b.unblock()
        assert reaches(a, b)
        old = a.ip
        assert a.change_address() != old
        assert reaches(b, a)
        assert not reaches(b, a, old)


def test_where_multicast_is_blocked_nobody_is_seen_but_known_addresses_work() -> None:
    with Lab() as lab:
        switch = lab.switch()
        hosts = [lab.plugged(name, switch) for name in ("a", "b")]
        for host in hosts:
            host.block_multicast()
        one, other = (RemotePeer(host, mdns=True) for host in hosts)
        assert one.addresses
        number = one.tell("connect", peer=other.peer_id, addresses=other.addresses)
        assert one.wait("connected", 5, id=number)["kind"] == "direct"
        with pytest.raises(LabError, match="said nothing of 'found'"):
            one.finds(other, 1.0)


@pytest.mark.parametrize("kind", [nat.EASY, nat.PORT_RESTRICTED])
def test_a_new_inside_address_gets_a_mapping_that_is_independent_too(kind: str) -> None:
    with Lab() as lab, Probe(lab, kind) as probe:
        old, port = probe.mapped(0, 3478), probe.port
        probe.host.change_address()
        probe.renew(port)
        new = probe.mapped(0, 3478)
        assert new is not None
        assert new != old, "the old mapping is not given away"
        assert probe.mapped(1, 3478) == new
        assert probe.enters(1, 3479, new) == (kind == nat.EASY)


def test_a_limited_cable_has_the_rate_it_says() -> None:
    mbit_per_s, size = 40, 4_000_000
    with Lab() as lab:
        switch = lab.switch()
        a, b = lab.plugged("a", switch), lab.plugged("b", switch)
        assert b.cable is not None
        b.cable.limit(mbit_per_s)
        listener = b.namespace.call(lambda: socket.create_server(("0.0.0.0", PORT)))
        sender = a.popen(
            sys.executable,
            "-c",
            f"import socket; socket.create_connection(('{b.ip}', {PORT})).sendall(bytes({size}))",
        )
        accepted, _ = listener.accept()
        begun, got = time.monotonic(), 0
        while data := accepted.recv(1 << 16):
            got += len(data)
        measured = got * 8 / 1e6 / (time.monotonic() - begun)
        for made in (listener, accepted):
            made.close()
        assert (got, sender.wait(5)) == (size, 0)
        assert 0.8 * mbit_per_s < measured < 1.1 * mbit_per_s, f"{measured:.1f} Mbit/s"


def test_missing_tools_are_named_and_fail_where_ci_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None)
    assert conftest.lacking() == "the laboratory needs the packages iproute2, miniupnpd-nftables, nftables"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert conftest.lacking() == "the laboratory needs root"
