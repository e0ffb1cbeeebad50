"""Lab: computers, switches and home routers for a test; everything in it is gone when its block ends.

with Lab() as lab:
    anna = lab.home("port-restricted", "anna")
    relay = lab.public("relay")
    anna.run("ping", "-c1", relay.ip)
"""

import contextlib
import ipaddress
import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from tests.lab import nat
from tests.lab.namespace import LabError, Namespace

INTERNET = ipaddress.IPv4Network("198.51.100.0/24")  # RFC 5737: addresses that are nobody's
# Where a router must believe that its address is of the internet; a namespace keeps them in.
ROUTABLE = ipaddress.IPv4Network("11.0.0.0/24")
INTERNET6 = ipaddress.IPv6Network("2a0f:10::/64")  # in use by nobody; the homes' networks are 2a0f:10:N::/64
PLUG_S = 5.0  # guess: the kernel notices a cable within a second
PLUG_POLL_S = 0.005
END_S = 3.0  # guess: a process that was told to end; then it is killed

_FAULTS = """
table inet faults {{
  chain {chain} {{
    type filter hook {hook} priority raw; policy accept;
    {match} drop
  }}
}}
"""


class Host:
    """One computer, with one cable."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.name = name
        self.lab = lab
        self.namespace = Namespace(name)
        self.ip = ""
        self.ip6 = ""
        self.cable: Cable | None = None
        self.router: Router | None = None
        self._gateway: str | None = None
        self._prefix = 24
        self._faults = itertools.count(1)

    def run(self, *command: str) -> str:
        """What `command` prints, run on this computer."""
        return self.namespace.run(*command)

    def popen(self, *command: str, **settings: Any) -> "subprocess.Popen[Any]":
        """A process of this computer; it is ended with the lab."""
        process = self.namespace.popen(*command, **settings)
        self.lab.processes.append(process)
        return process

    def address(self, ip: str, prefix: int, gateway: str | None, device: str = "eth0") -> None:
        """Have this address from now on, instead of the one before."""
        if self.ip:
            self.run("ip", "address", "del", f"{self.ip}/{self._prefix}", "dev", device)
        self.ip, self._prefix, self._gateway = ip, prefix, gateway
        self.run("ip", "address", "add", f"{ip}/{prefix}", "dev", device)
        if gateway is not None:
            self.run("ip", "route", "replace", "default", "via", gateway, "dev", device)

    def address6(self, ip: str, gateway: str | None, device: str = "eth0") -> None:
        """Have this IPv6 address beside the IPv4 one."""
        self.ip6 = ip
        self.run("ip", "-6", "address", "add", f"{ip}/64", "dev", device, "nodad")
        if gateway is not None:
            self.run("ip", "-6", "route", "replace", "default", "via", gateway, "dev", device)

    def change_address(self) -> str:
        """Move to another address of the same network, as a new lease would; returns it."""
        if self.cable is None:
            raise LabError(f"{self.name} has no cable")
        self.address(self.cable.switch.free_ip(), self._prefix, self._gateway, self.cable.device)
        return self.ip

    def block(self, match: str, *, hooks: tuple[str, ...] = ("prerouting", "output", "forward")) -> None:
        """Drop without a word what the nftables expression `match` describes, until `unblock`."""
        for hook in hooks:
            self.namespace.nft(_FAULTS.format(chain=f"{hook}{next(self._faults)}", hook=hook, match=match))

    def block_udp(self) -> None:
        """A firewall that lets no UDP through."""
        self.block("meta l4proto udp")

    def block_multicast(self) -> None:
        """As many wireless networks do."""
        self.block("ip daddr 224.0.0.0/4")
        self.block("ip6 daddr ff00::/8 meta l4proto udp")

    def unblock(self) -> None:
        """End everything that `block` began."""
        self.namespace.nft("table inet faults\ndelete table inet faults\n")

    def __repr__(self) -> str:
        return f"<{self.name} {self.ip}>"


class Cable:
    """From a computer to a switch."""

    def __init__(self, switch: "Switch", port: str, device: str) -> None:
        self.switch = switch
        self.port = port
        self.device = device

    def cut(self) -> None:
        """Pull it out: the computer sees that it is gone."""
        self.switch.namespace.run("ip", "link", "set", self.port, "down")

    def restore(self) -> None:
        """Put it back."""
        self.switch.namespace.run("ip", "link", "set", self.port, "up")
        self.switch.wait_until_up(self.port)

    def limit(self, mbit_per_s: float) -> None:
        """Bound what goes to the computer; the queue holds 50 ms.

        The shaper stands behind the switch: in the sender's own stack it would be seen as the socket's queue.
        """
        burst = max(16_000, int(mbit_per_s * 1e6 / 8 / 250))  # what passes in one tick of the kernel's clock
        limits = ("rate", f"{mbit_per_s}mbit", "burst", str(burst), "latency", "50ms")
        self.switch.namespace.run("tc", "qdisc", "replace", "dev", self.port, "root", "tbf", *limits)


class Switch:
    """One network segment: a bridge, in the namespace of a router or in one of its own."""

    def __init__(
        self,
        namespace: Namespace,
        network: ipaddress.IPv4Network,
        *,
        device: str = "lan",
        routes: bool = True,
        network6: ipaddress.IPv6Network | None = None,
    ) -> None:
        self.namespace = namespace
        self.network = network
        self._device = device
        self._ips = network.hosts()
        self._ports = itertools.count(1)
        self.ip = str(next(self._ips))
        self.gateway = self.ip if routes else None
        settings = ("mcast_snooping", "0", "forward_delay", "0")
        namespace.run("ip", "link", "add", device, "type", "bridge", *settings)
        namespace.run("ip", "address", "add", f"{self.ip}/{network.prefixlen}", "dev", device)
        namespace.run("ip", "link", "set", device, "up")
        self._ips6 = network6.hosts() if network6 is not None else None
        self.ip6 = str(next(self._ips6)) if self._ips6 is not None else ""
        if self.ip6:
            namespace.run("ip", "-6", "address", "add", f"{self.ip6}/64", "dev", device, "nodad")
            namespace.write("/proc/sys/net/ipv6/conf/all/forwarding", "1")

    def free_ip(self) -> str:
        """An address of this network that nobody has had."""
        return str(next(self._ips))

    def plug(self, host: Host, device: str = "eth0") -> Cable:
        """Connect `host` and give it an address."""
        port = f"port{next(self._ports)}"
        inside = ("name", device, "netns", host.namespace.path)
        self.namespace.run("ip", "link", "add", port, "type", "veth", "peer", *inside)
        self.namespace.run("ip", "link", "set", port, "master", self._device, "up")
        host.run("ip", "link", "set", device, "up")
        host.cable = Cable(self, port, device)
        host.address(self.free_ip(), self.network.prefixlen, self.gateway, device)
        if self._ips6 is not None:
            host.address6(str(next(self._ips6)), self.ip6 if self.gateway else None, device)
        self.wait_until_up(port)
        return host.cable

    def wait_until_up(self, port: str) -> None:
        """The kernel takes up to a second to notice that a cable is plugged in; until then packets are lost."""
        until = time.monotonic() + PLUG_S
        while '"operstate":"UP"' not in self.namespace.run("ip", "-j", "link", "show", "dev", port):
            if time.monotonic() > until:
                raise LabError(f"{port} of {self.namespace.name} does not come up")
            time.sleep(PLUG_POLL_S)


class Router(Host):
    """A home router: "wan" towards the internet, a switch "lan" for the home."""

    def __init__(
        self, lab: "Lab", name: str, kind: str, behind: "Router | None", inside: ipaddress.IPv4Network
    ) -> None:
        super().__init__(lab, name)
        self.kind = kind
        self.behind = behind
        (behind.lan if behind is not None else lab.internet).plug(self, "wan")
        inside6 = lab.network6() if self.ip6 else None
        self.lan = Switch(self.namespace, inside, network6=inside6)
        hop: Router | None = self
        while inside6 is not None and hop is not None and hop.cable is not None:
            # Each provider on the way hands packets for this home's network down.
            hop.cable.switch.namespace.run("ip", "-6", "route", "add", str(inside6), "via", hop.ip6)
            hop = hop.behind
        self.namespace.write("/proc/sys/net/ipv4/ip_forward", "1")
        self.namespace.nft(nat.rules(kind))

    def host(self, name: str) -> Host:
        """A computer of this home."""
        host = self.lab.plugged(name, self.lan)
        host.router = self
        return host


class Lab:
    """Makes and removes everything; use as `with Lab() as lab`.

    `internet` is the network of public addresses; with `ipv6` every home has IPv6 too, behind its router's firewall.
    """

    def __init__(self, internet: ipaddress.IPv4Network = INTERNET, *, ipv6: bool = False) -> None:
        self._network, self._has_ipv6 = internet, ipv6
        self.processes: list[subprocess.Popen[Any]] = []
        self._namespaces: list[Namespace] = []
        self._numbers = itertools.count(1)
        self._internet: Switch | None = None

    def __enter__(self) -> "Lab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def internet(self) -> Switch:
        """Where public addresses are. What is sent to private ones is swallowed, as it is out there."""
        if self._internet is None:
            namespace = Namespace("the internet")
            self._namespaces.append(namespace)
            network6 = INTERNET6 if self._has_ipv6 else None
            self._internet = Switch(namespace, self._network, device="net", network6=network6)
            namespace.run("ip", "route", "add", "blackhole", "default")
            namespace.write("/proc/sys/net/ipv4/ip_forward", "1")
        return self._internet

    def network6(self) -> ipaddress.IPv6Network:
        """The IPv6 network of one more home."""
        return ipaddress.IPv6Network(f"2a0f:10:{next(self._numbers):x}::/64")

    def switch(self) -> Switch:
        """A network of its own without a way out."""
        namespace = Namespace(f"switch {next(self._numbers)}")
        self._namespaces.append(namespace)
        network = ipaddress.IPv4Network(f"192.168.{next(self._numbers)}.0/24")
        return Switch(namespace, network, routes=False)

    def plugged(self, name: str, switch: Switch) -> Host:
        """A computer at `switch`."""
        host = Host(self, name)
        self._namespaces.append(host.namespace)
        switch.plug(host)
        return host

    def public(self, name: str) -> Host:
        """A computer with a public address."""
        return self.plugged(name, self.internet)

    def nat(self, kind: str, *, behind: Router | None = None) -> Router:
        """A home router; `behind` another one when its provider does NAT too."""
        if kind == nat.OPEN:
            raise LabError("an open computer has no NAT: use lab.home or lab.public")
        if kind == nat.DOUBLE:
            return self.nat(nat.EASY, behind=self._provider())
        number = next(self._numbers)
        inside = ipaddress.IPv4Network(f"192.168.{number}.0/24")
        return self._router(f"{kind} router {number}", kind, behind, inside)

    def home(self, kind: str, name: str) -> Host:
        """A computer behind a router of `kind` (one of `nat.KINDS`) of its own."""
        return self.public(name) if kind == nat.OPEN else self.nat(kind).host(name)

    def keep(self, namespace: Namespace) -> None:
        """Let it go with everything else."""
        self._namespaces.append(namespace)

    def close(self) -> None:
        """End every process and let every namespace go."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            _wait(process)
        self.processes.clear()
        for namespace in self._namespaces:
            namespace.close()
        self._namespaces.clear()

    def _provider(self) -> Router:
        number = next(self._numbers)
        shared = ipaddress.IPv4Network(f"100.64.{number}.0/24")  # RFC 6598: between provider and home
        return self._router(f"provider {number}", nat.EASY, None, shared)

    def _router(self, name: str, kind: str, behind: Router | None, inside: ipaddress.IPv4Network) -> Router:
        router = Router(self, name, kind, behind, inside)
        self._namespaces.append(router.namespace)
        return router


def _wait(process: "subprocess.Popen[Any]") -> None:
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def pairs() -> Iterator[tuple[str, str]]:
    """Every kind of NAT with every kind, each pair once."""
    return itertools.combinations_with_replacement(nat.KINDS, 2)
