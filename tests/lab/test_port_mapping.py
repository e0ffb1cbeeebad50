"""Routers that map ports: nodes meet with nobody else's help, and leave nothing behind in the router."""

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import nat
from tests.lab.lab import ROUTABLE, Lab
from tests.lab.nodes import LabNode
from tests.lab.port_mapping import MappingDaemon

SETTLED_S = 15.0


def at_home(
    lab: Lab, kind: str, name: str, folder: Path, ways: tuple[str, ...]
) -> tuple[LabNode, MappingDaemon]:
    """A node behind a router of `kind` that maps ports by `ways`."""
    router = lab.nat(kind)
    daemon = MappingDaemon(router, folder, ways)
    return LabNode(router.host(name), folder), daemon


def test_two_homes_connect_directly_by_an_invitation_and_nobody_else(tmp_path: Path) -> None:
    with Lab(ROUTABLE) as lab:
        anna, hers = at_home(lab, nat.SYMMETRIC, "anna", tmp_path, ("upnp",))
        bela, his = at_home(lab, nat.PORT_RESTRICTED, "bela", tmp_path, ("pcp",))
        for node in (anna, bela):
            node.up()

        anna.meet(bela)

        outside = hers.router.ip
        said = anna("status")
        assert re.search(rf"port mapping +UDP {outside}:\d+ by UPnP", said), said
        assert re.search(rf"mapping +UDP {his.router.ip}:\d+ by PCP", bela("doctor"))
        (tmp_path / "photo.raw").write_bytes(bytes(1_000_000))
        ticket = anna.result("share", str(tmp_path / "photo.raw"))["ticket"]
        bela("get", ticket, str(tmp_path / "got"))
        assert re.search(rf"anna .* direct {outside}:", bela("peers")), bela("peers")
        # The relay's TCP port is mapped as well, and only that is claimed.
        until = time.monotonic() + SETTLED_S
        while not (served := re.search(r"own relay +http://([0-9.]+):(\d+)", said)):
            assert time.monotonic() < until, said
            said = anna("status")
        assert served[1] == outside
        assert f"TCP {outside}:{served[2]} by" in said, said
        for node, daemon in ((anna, hers), (bela, his)):
            assert "dnat" in daemon.mapped()
            node.down()
            assert "dnat" not in daemon.mapped()


# Looks every half second at what takes a minute in earnest.
MAPPER = """
import asyncio, sys
from coterie.net.port_mapping import core, mapper
core.CHECK_S, core.RENEW_MIN_S, mapper.LOOK_S = 0.5, 0.2, 0.5

async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    made = mapper.PortMapper(b"secret", "0.0.0.0", on_change=lambda: print(made.describe(), flush=True))
    made.want("udp", {4: 4433})
    made.start()
    await lines.read()
    await made.close()

asyncio.run(main())
"""


def test_a_mapping_follows_its_router_and_ends_with_the_program(tmp_path: Path) -> None:
    with Lab(ROUTABLE) as lab:
        router = lab.nat(nat.EASY)
        daemon = MappingDaemon(router, tmp_path, ("nat-pmp",))
        program = router.host("anna").popen(
            sys.executable, "-c", MAPPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == f"UDP {router.ip}:4433 by NAT-PMP\n"

        moved = router.change_address()
        while f"UDP {moved}:4433" not in (said := program.stdout.readline()):
            assert said, "the program ended"

        daemon.stop()  # switched off and on: it has forgotten what it mapped
        router.namespace.nft("flush chain inet upnp ports")
        daemon.start()
        until = time.monotonic() + SETTLED_S
        while "dnat" not in daemon.mapped():
            assert time.monotonic() < until

        program.stdin.close()
        assert program.wait(SETTLED_S) == 0
        assert "dnat" not in daemon.mapped()
