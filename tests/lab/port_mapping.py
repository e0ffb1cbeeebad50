"""A router that maps ports for those behind it: miniupnpd, the one in most home routers, for UPnP, NAT-PMP and PCP."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.lab.lab import Router
from tests.lab.namespace import LabError

START_S = 5.0  # guess
WAYS = ("upnp", "nat-pmp", "pcp")

_TABLE = """
table inet upnp {
  chain ports {
  }
  chain prerouting {
    type nat hook prerouting priority dstnat - 5; policy accept;
    jump ports
  }
  chain back {
  }
  chain postrouting {
    type nat hook postrouting priority srcnat - 5; policy accept;
    jump back
  }
}
"""
# What the router's own input drops: a datagram whose first byte is the version of PCP, or that is not.
_NOT = {"pcp": "== 2", "nat-pmp": "!= 2"}

_SETTINGS = """
ext_ifname=wan
listening_ip=lan
enable_upnp={upnp}
enable_natpmp={datagrams}
secure_mode=yes
uuid=e1885bfe-913f-4f82-9abc-e3f19df2f3{number:02x}
upnp_table_name=guard
upnp_nat_table_name=upnp
upnp_forward_chain=pinholes
upnp_nat_chain=ports
upnp_nat_postrouting_chain=back
min_lifetime=30
max_lifetime=86400
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class MappingDaemon:
    """miniupnpd on `router`, which speaks `ways` only. `folder` keeps its settings."""

    def __init__(self, router: Router, folder: Path, ways: Sequence[str] = WAYS) -> None:
        self.router = router
        self._folder = folder
        self._ways = ways
        self._process: subprocess.Popen[Any] | None = None
        router.namespace.nft(_TABLE)
        for way in _NOT.keys() - set(ways):
            if "pcp" in ways or "nat-pmp" in ways:
                router.block(f"udp dport 5351 @th,64,8 {_NOT[way]}", hooks=("prerouting",))
        self.start()

    def start(self) -> None:
        """As when the router is switched on."""
        number = id(self) % 251
        settings = self._folder / f"miniupnpd-{id(self)}.conf"
        datagrams = "yes" if {"pcp", "nat-pmp"} & set(self._ways) else "no"
        settings.write_text(
            _SETTINGS.format(
                upnp="yes" if "upnp" in self._ways else "no", datagrams=datagrams, number=number
            ),
            encoding="ascii",
        )
        pid = self._folder / f"miniupnpd-{id(self)}.pid"
        self._process = self.router.popen(
            "miniupnpd", "-d", "-f", str(settings), "-P", str(pid),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + START_S
        wanted = ":5351" if datagrams == "yes" else ":1900"
        while wanted not in self.router.run("ss", "-Hlun"):
            if self._process.poll() is not None or time.monotonic() > until:
                raise LabError(f"miniupnpd does not start on {self.router.name}")
            time.sleep(0.01)

    def stop(self) -> None:
        """It forgets everything that it mapped."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)
            self._process = None

    def mapped(self) -> str:
        """The rules that let somebody in."""
        return self.router.run("nft", "list", "chain", "inet", "upnp", "ports")

    def pinholes(self) -> str:
        """The same for IPv6."""
        return self.router.run("nft", "list", "chain", "inet", "guard", "pinholes")
