"""Computers behind links of their own with a rate up, a rate down, and one delay and loss for all: as homes have them.

with Lab() as lab:
    links = SlowLinks(lab, Line(rtt_s=0.02))
    anna = links.host("anna", up_mbit_per_s=40, down_mbit_per_s=80)

Each computer has a router, which shapes: up where it sends outside, down where it sends inside. A router takes the
packet from its sender's books, so TCP does not mistake the shaper for its own queue. What goes from one router to
another passes the core, where packets are lost and held. No address is translated. The addresses are of 198.18/15
(RFC 2544): programs treat 10/8 and 192.168/16 as local, and some lift their limits there.
"""

import subprocess
import sys
from dataclasses import dataclass

from tests.lab.lab import Host, Lab
from tests.lab.namespace import LabError, Namespace
from tests.lab.remote import ROOT

QUEUE_MS = 50
QUEUE_BYTES_MIN = 16_000  # ten packets: no modem has less
BURST_BYTES = 16_000  # guess: ten packets; the kernel's clock has 250 ticks a second and finer timers besides
HEADERS = 1514 / 1448  # what a rate counts of a full packet, to what TCP carries in it (IPv4, timestamps)
LINKS_MAX = 120
CHECK_S = 4.0
CHECK_SKIP_S = 1.0
CHECK_PORT = 5001

_CORE = """
table ip core {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {loss}
  }}
}}
"""
_SILENT = """
table ip silent {
  chain output {
    type filter hook output priority filter; policy accept;
    icmp type destination-unreachable drop
  }
}
"""

_SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
    data = bytes(65536)
    try:
        while True:
            s.sendall(data)
    except OSError:
        pass
"""

_TAKE = """
import socket, sys, time
def arrived():
    with open("/proc/thread-self/net/dev") as counters:
        return time.monotonic(), next(int(line.split()[1]) for line in counters if line.split()[0] == "eth0:")
skip, last = float(sys.argv[2]), float(sys.argv[3])
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    taken, _ = server.accept()
    begun, since = time.monotonic(), None
    while time.monotonic() < begun + last:
        taken.recv(1 << 16)
        if since is None and time.monotonic() > begun + skip:
            since, before = arrived()
    now, after = arrived()
    print(8e-6 * (after - before) / (now - since), flush=True)
"""


@dataclass(frozen=True)
class Line:
    """What all share. `loss`: the part of packets that is lost, in each direction.

    `mtu`: larger packets vanish on the way, and nobody says so.
    """

    rtt_s: float = 0.02
    loss: float = 0.0
    mtu: int = 1500


class SlowLinks:
    """The core and the routers."""

    def __init__(self, lab: Lab, line: Line) -> None:
        self._lab = lab
        self._line = line
        self._hosts: dict[str, int] = {}
        self._core = _router(lab, "the core")
        permille = round(1000 * line.loss)
        loss = f"numgen random mod 1000 < {permille} drop" if permille else ""
        self._core.nft(_CORE.format(loss=loss))
        if line.mtu < 1500:
            self._core.nft(_SILENT)
        command = (sys.executable, "-m", "tests.lab.delay", str(line.rtt_s / 2), "core", "forward")
        self.delaying = self._core.popen(*command, cwd=ROOT, stdout=subprocess.PIPE)
        lab.processes.append(self.delaying)
        assert self.delaying.stdout is not None
        if not self.delaying.stdout.readline():
            raise LabError("packets cannot be held: does this kernel have nfnetlink_queue?")

    def host(
        self, name: str, *, up_mbit_per_s: float, down_mbit_per_s: float, congestion: str = "cubic"
    ) -> Host:
        """A computer behind a link of its own."""
        number = len(self._hosts) + 1
        if number > LINKS_MAX:
            raise LabError(f"{LINKS_MAX} links at most")
        self._hosts[name] = number
        host = Host(self._lab, name)
        self._lab.keep(host.namespace)
        router = _router(self._lab, f"router of {name}")
        inside, outside = f"198.18.{number}", f"198.19.{number}"
        _cable(router, "lan", host.namespace, "eth0")
        _cable(router, "wan", self._core, f"line{number}")
        router.run("ip", "address", "add", f"{inside}.1/24", "dev", "lan")
        router.run("ip", "address", "add", f"{outside}.1/24", "dev", "wan")
        router.run("ip", "route", "add", "default", "via", f"{outside}.2")
        self._core.run("ip", "address", "add", f"{outside}.2/24", "dev", f"line{number}")
        self._core.run("ip", "route", "add", f"{inside}.0/24", "via", f"{outside}.1")
        host.address(f"{inside}.2", 24, None)
        host.run("ip", "route", "replace", "default", "via", f"{inside}.1", "congctl", congestion)
        _shape(router, "lan", down_mbit_per_s)
        _shape(router, "wan", up_mbit_per_s)
        if self._line.mtu < 1500:
            router.run("ip", "link", "set", "wan", "mtu", str(self._line.mtu))
            self._core.run("ip", "link", "set", f"line{number}", "mtu", str(self._line.mtu))
            router.nft(_SILENT)
        return host

    def sent(self) -> dict[str, int]:
        """Bytes of packets that each computer's link carried up so far, those that the core then lost included."""
        lines = self._core.read("/proc/thread-self/net/dev").splitlines()
        counted = {
            device.strip(): int(rest.split()[0]) for device, _, rest in (x.partition(":") for x in lines[2:])
        }
        return {name: counted[f"line{number}"] for name, number in self._hosts.items()}

    def measured(self, sender: Host, receiver: Host, *, seconds: float = CHECK_S) -> float:
        """The Mbit/s of one plain TCP transfer, packet headers left out.

        The packets are counted where they arrive: what TCP holds back behind a lost one and then gives at once
        would make a link seem faster than it is.
        """
        last = CHECK_SKIP_S + seconds
        told = (str(CHECK_PORT), str(CHECK_SKIP_S), str(last))
        pipe = subprocess.PIPE
        taking = receiver.popen(sys.executable, "-c", _TAKE, *told, stdout=pipe)
        assert taking.stdout is not None
        taking.stdout.readline()
        sending = sender.popen(sys.executable, "-c", _SEND, receiver.ip, str(CHECK_PORT))
        found = taking.stdout.readline()
        sending.kill()
        if not found:
            raise LabError(f"no plain TCP from {sender} to {receiver}")
        return float(found) / HEADERS


def _router(lab: Lab, name: str) -> Namespace:
    namespace = Namespace(name)
    lab.keep(namespace)
    namespace.write("/proc/sys/net/ipv4/ip_forward", "1")
    return namespace


def _cable(one: Namespace, device: str, other: Namespace, far: str) -> None:
    """Between two namespaces; no packet on it is larger than on a wire."""
    whole = ("gso_max_segs", "1")
    peer = ("peer", "name", far, "netns", other.path)
    one.run("ip", "link", "add", device, *whole, "type", "veth", *peer)
    other.run("ip", "link", "set", far, *whole, "up")
    one.run("ip", "link", "set", device, "up")


def _shape(router: Namespace, device: str, mbit_per_s: float) -> None:
    burst = max(BURST_BYTES, int(mbit_per_s * 1e6 / 8 / 250))
    queue = max(QUEUE_BYTES_MIN, int(mbit_per_s * 1e6 / 8 * QUEUE_MS / 1000))
    limits = ("rate", f"{round(mbit_per_s * 1e6)}bit", "burst", str(burst), "limit", str(burst + queue))
    router.run("tc", "qdisc", "replace", "dev", device, "root", "tbf", *limits)
