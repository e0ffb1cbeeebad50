"""What a connected peer can have a node send to others: the QUIC wheel tries every address that it names, unasked."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.lab.lab import Host, Lab
from tests.lab.remote import ROOT

NAMED = 100
STAY_S = 8.0  # measured: the last of them goes out after 6 s; in 40 s no more come
HEARD_MAX = 32  # the wheel's MAX_QNT_ADDRESSES: so many of what a peer names are tried, each 10 to 20 times
PACKETS_MAX = 20 * HEARD_MAX
BYTES_MAX = 400_000  # measured: 18 kB where the naming peer dials, 35 to 140 kB where it is dialled

_COUNT = """
table inet bystander {{
  chain heard {{
    type filter hook prerouting priority raw; policy accept;
    ip saddr {ip} udp dport 7000-7999 counter
  }}
}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("dials", ["the one who names", "the other"])
def test_a_peer_that_names_addresses_of_others_has_few_packets_sent_there(dials: str) -> None:
    """The wheel has no filter for them: docs/threat-model.md says what that is worth to an attacker."""
    with Lab() as lab:
        node, naming, bystander = (lab.public(name) for name in ("node", "naming", "bystander"))
        bystander.namespace.nft(_COUNT.format(ip=node.ip))
        named = [f"{bystander.ip}:{7000 + n}" for n in range(NAMED)]
        told = {node: (1, []), naming: (2, named)}

        def start(host: Host, dial: str) -> "subprocess.Popen[Any]":
            number, names = told[host]
            words = [sys.executable, "-m", "tests.lab.candidates", str(number), dial, json.dumps(names)]
            return host.popen(*words, str(STAY_S), cwd=ROOT, stdout=subprocess.PIPE, text=True)

        first, second = (node, naming) if dials == "the one who names" else (naming, node)
        waiting = start(first, "[]")
        assert waiting.stdout is not None
        dialling = start(second, waiting.stdout.readline().strip())
        assert dialling.stdout is not None
        sent = {first: int(waiting.stdout.readline()), second: 0}
        dialling.stdout.readline()
        sent[second] = int(dialling.stdout.readline())
        found = re.search(
            r"packets (\d+) bytes (\d+)", bystander.run("nft", "list", "table", "inet", "bystander")
        )
        assert found is not None
        packets, size = map(int, found.groups())
        print(
            f"{packets} packets of {size} bytes to the bystander, {sent[naming]} bytes sent by who named it"
        )
        assert packets > 0, (
            "the wheel asks before it sends now: the threat model and docs/reach.md say otherwise"
        )
        assert packets <= PACKETS_MAX
        assert size <= BYTES_MAX
