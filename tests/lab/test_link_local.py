"""Two computers on one cable on which nobody gives out addresses: they have IPv6 link-local ones only."""

import os
import re
from pathlib import Path

from tests.lab.lab import Host, Lab
from tests.lab.nodes import LabNode
from tests.lab.test_nodes import settled

SIZE = 40_000_000
SEGMENT_BYTES_MAX = 1_500


def cabled(lab: Lab) -> list[Host]:
    """Anna and Bela with no address but [fe80::...]; Anna's first cable leads to nobody, her second one to Bela."""
    nowhere, between = lab.switch(), lab.switch()
    anna, bela = lab.plugged("anna", nowhere), lab.plugged("bela", between)
    anna.ip = ""
    between.plug(anna, "eth1")
    for host in (anna, bela):
        host.run("ip", "-4", "address", "flush", "scope", "global")
    return [anna, bela]


def tcp_segments(host: Host) -> int:
    """Sent by `host` since it is there."""
    names, values = re.findall(
        r"^Tcp: (.*)$", host.namespace.read("/proc/thread-self/net/snmp"), re.MULTILINE
    )
    return int(dict(zip(names.split(), values.split(), strict=True))["OutSegs"])


def test_computers_with_link_local_addresses_only_become_contacts_and_share_a_file(tmp_path: Path) -> None:
    with Lab() as lab:
        anna, bela = nodes = [LabNode(host, tmp_path) for host in cabled(lab)]
        for node in nodes:
            node.up()
        shared = tmp_path / "film.mkv"
        shared.write_bytes(os.urandom(SIZE))
        assert settled(lambda: "[fe80::" in anna("status")), anna("status")
        anna.meet(bela)

        bela("get", anna.result("share", str(shared))["ticket"], str(tmp_path / "got"))

        assert (tmp_path / "got").read_bytes() == shared.read_bytes()
        assert "direct [fe80::" in bela("peers"), bela("peers")
        assert tcp_segments(anna.host) > SIZE / 2 / SEGMENT_BYTES_MAX  # by a lane
        assert all("%" not in node("peers") + node("status") for node in nodes)  # means nothing elsewhere
