"""A whole computer goes by an exit, or nowhere: with curl, dig, ping and socat; tcpdump sees what leaves it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from coterie.apps.internet.exit_machine import CGROUPS, own_group
from coterie.apps.internet.exit_rules import Plan, Split, table
from tests.lab.lab import Host, Lab
from tests.lab.nodes import LabNode

GONE_S = 8.0  # five seconds until a silent exit is noticed, and some for a busy machine
REVOKED_S = 5.0
CLOSED = (
    "10.1.2.3",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "172.16.0.1",
    "198.18.0.1",
    "240.0.0.1",
)


class Computer(LabNode):
    """A computer with a node, and with a resolv.conf of its own."""

    def __init__(self, host: Host, folder: Path, nameserver: str) -> None:
        self.resolv = folder / f"{host.name}.resolv"
        self.resolv.write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:1\n")
        super().__init__(host, folder)

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return self._there(*super()._command(*arguments))

    def _there(self, *words: str) -> tuple[str, ...]:
        bind = f'mount --bind {self.resolv} /etc/resolv.conf && exec "$@"'
        return "unshare", "--mount", "sh", "-c", bind, "sh", *words

    def run(self, *words: str) -> tuple[int, str]:
        """How a program ended, and what it said."""
        done = self.host.namespace.call(
            lambda: subprocess.run(
                self._there(*words),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        )
        return done.returncode, done.stdout + done.stderr

    def page(self, where: str, *options: str) -> str:
        """What curl gets, or its complaint."""
        return self.run("curl", "-sS", "-g", "-m", "4", *options, f"http://{where}/page")[1]


def world_of(lab: Lab, folder: Path) -> Host:
    """A computer of the internet: a web server, a server of the DNS, an echo over UDP."""
    world = lab.public("world")
    folder.mkdir()
    (folder / "page").write_text("hello from the world")
    folder.with_suffix(".conf").touch()
    names = (
        f"--address=/example.test/{world.ip}",
        "--address=/rebind.test/10.0.0.1",
        "--no-resolv",
        "--no-hosts",
    )
    place = (
        "--listen-address",
        world.ip,
        "--bind-interfaces",
        f"--conf-file={folder}.conf",
        f"--pid-file={folder}.pid",
    )
    world.popen("dnsmasq", "-k", "-u", "root", *names, *place)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    world.popen(sys.executable, "-m", "http.server", "80", "--directory", str(folder), **quiet)
    world.popen("socat", "-T2", "UDP-RECVFROM:7,fork", "EXEC:cat", **quiet)
    return world


class Watch:
    """What leaves a computer to others than `peer`, seen from the other end of its cable; not its node's mDNS."""

    def __init__(self, lab: Lab, host: Host, peer: str, file: Path) -> None:
        assert host.cable is not None
        self.file = file
        words = (
            "tcpdump",
            "--immediate-mode",
            "-ni",
            host.cable.port,
            "-U",
            "-w",
            str(file),
            f"not arp and not host {peer} and not udp port 5353",
        )
        self.process = lab.internet.namespace.popen(*words, stderr=subprocess.PIPE, text=True)
        lab.processes.append(self.process)
        assert self.process.stderr is not None
        assert "listening on" in self.process.stderr.readline()

    def seen(self) -> str:
        """Packets that programs sent; multicast is what keeps a network itself up."""
        time.sleep(0.3)  # what is in the kernel's buffer
        self.process.terminate()
        self.process.wait()
        words = ("tcpdump", "-nr", str(self.file), "not ether multicast and not icmp6")
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def within(limit_s: float, holds: Callable[[], bool]) -> float:
    """Seconds until `holds()`."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s
    return time.monotonic() - began


def try_everything(ben: Computer, world: Host) -> str:
    """What programs say where nothing is to be reached."""
    said = ben.page(world.ip) + ben.page("example.test") + ben.page("[2a0f:10::1]")
    said += ben.run("dig", "+time=1", "+tries=1", "+short", "example.test")[1]
    said += ben.run("dig", "+time=1", "+tries=1", "+short", "example.test", f"@{world.ip}", "+tcp")[1]
    said += ben.run("sh", "-c", f"echo echoed | timeout 1 socat - UDP:{world.ip}:7")[1]
    return said + ben.run("ping", "-c1", "-W1", world.ip)[1]


def assert_nothing(said: str) -> None:
    """No program was answered."""
    for answer in ("hello", "echoed", ", 0% packet loss"):
        assert answer not in said, said


def test_everything_goes_by_the_exit_or_nowhere(tmp_path: Path) -> None:
    with Lab() as lab:
        world = world_of(lab, tmp_path / "www")
        anna, ben = (Computer(lab.public(name), tmp_path, world.ip) for name in ("anna", "ben"))
        anna.host.namespace.write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
        before = ben.host.run("sh", "-c", "ip rule; ip route; ip -6 route; nft list ruleset")
        anna.up()
        ben.up()
        anna.meet(ben)
        anna("internet", "share", "--to", "contacts", "--allow", "198.51.100.0/24", "--allow", "example.test")

        assert "on:" in ben("internet", "use", "anna", "--whole", "--no-local")
        watch = Watch(lab, ben.host, anna.host.ip, tmp_path / "seen")
        assert ben.page(world.ip) == "hello from the world"
        assert ben.page("example.test") == "hello from the world"
        assert ben.run("dig", "+short", "+tcp", "example.test")[1].strip() == world.ip
        assert ben.run("sh", "-c", f"echo echoed | timeout 3 socat - UDP:{world.ip}:7")[1] == "echoed\n"
        assert ", 0% packet loss" in ben.run("ping", "-c2", "-i0.2", "-W3", world.ip)[1]
        assert "REFUSED" in ben.run("dig", "rebind.test")[1]
        for address in (*CLOSED, anna.host.ip, "[::ffff:10.0.0.1]", "rebind.test"):
            assert "hello" not in (said := ben.page(address))
            assert "reset" in said or "not resolve" in said or "connect to" in said, f"{address}: {said}"

        anna.process.kill()  # type: ignore[union-attr]
        within(GONE_S, lambda: "hello" not in ben.page(world.ip))
        assert_nothing(try_everything(ben, world))
        ben.process.kill()  # type: ignore[union-attr]
        ben.process.wait()  # type: ignore[union-attr]
        assert_nothing(try_everything(ben, world))
        assert watch.seen() == ""

        assert "closed since the node ended" in ben("internet")
        assert "undone" in ben("internet", "stop")
        assert ben.page("example.test") == "hello from the world"
        assert ben.host.run("sh", "-c", "ip rule; ip route; ip -6 route; nft list ruleset") == before


def test_rules_restarts_and_rights(tmp_path: Path) -> None:
    with Lab() as lab:
        world = world_of(lab, tmp_path / "www")
        anna, ben = (Computer(lab.public(name), tmp_path, world.ip) for name in ("anna", "ben"))
        anna.up()
        ben.up()
        anna.meet(ben)
        anna("internet", "share", "--to", "contacts", "--allow", "198.51.100.0/24", "--allow", "example.test")

        for wrong in (("--direct", "10.0.0.1/8"), ("--direct", "user:nobody-at-all"), ("--at", "a/b")):
            assert "internet use" not in ben("internet", "use", "anna", "--whole", *wrong, fails=True)
        assert "--whole" in ben("internet", "use", "anna", "--direct", "example.org", fails=True)
        assert ben.host.run("nft", "list", "ruleset") == ""

        as_nobody = ("setpriv", "--reuid", "nobody", "--clear-groups", "curl", "-sS", "-m", "4")
        ben("internet", "use", "anna", "--whole", "--direct", "user:nobody", "--direct", "example.test")
        watch = Watch(lab, ben.host, anna.host.ip, tmp_path / "user")
        assert ben.run(*as_nobody, f"http://{world.ip}/page")[1] == "hello from the world"
        assert f"> {world.ip}.80" in watch.seen()
        watch = Watch(lab, ben.host, anna.host.ip, tmp_path / "host")
        assert ben.page("example.test") == "hello from the world"  # its name leads there directly
        assert f"> {world.ip}.80" in watch.seen()

        ben("internet", "use", "anna", "--whole", "--only", "192.0.2.0/24")
        watch = Watch(lab, ben.host, anna.host.ip, tmp_path / "only")
        assert ben.page(world.ip) == "hello from the world"
        assert f"> {world.ip}.80" in watch.seen()
        assert "hello" not in ben.page("192.0.2.1")

        ben("internet", "use", "anna", "--whole", "--at", "wlan7")
        assert "off on this network" in ben("internet")
        assert ben.page(world.ip) == "hello from the world"
        ben("internet", "use", "anna", "--whole", "--at", "eth0")
        watch = Watch(lab, ben.host, anna.host.ip, tmp_path / "again")
        assert ben.page(world.ip) == "hello from the world"
        assert watch.seen() == ""

        ben.process.kill()  # type: ignore[union-attr]
        ben.process.wait()  # type: ignore[union-attr]
        watch = Watch(lab, ben.host, anna.host.ip, tmp_path / "restart")
        assert "hello" not in ben.page(world.ip)
        ben.up()
        within(20.0, lambda: ben.page(world.ip) == "hello from the world")
        assert watch.seen() == ""

        anna("internet", "unshare")
        assert within(REVOKED_S, lambda: "hello" not in ben.page(world.ip)) < REVOKED_S
        assert "on:" not in ben("internet", "use", "anna", fails=True)
        ben("internet", "stop")
        assert ben.host.run("nft", "list", "ruleset") == ""


def test_peers_dial_the_node_of_a_closed_computer_and_no_other_program(tmp_path: Path) -> None:
    """A server that begins to listen after the door was closed, in the node's group and outside it."""
    mount, own = own_group()
    group = mount / own.lstrip("/") / f"coterie-exit-test-{os.getpid()}"
    group.mkdir()
    try:
        with Lab() as lab:
            ben, other = lab.public("ben"), lab.public("other")
            plan = Plan(
                home="test",
                cgroup=str(group.relative_to(CGROUPS)),
                level=len(group.relative_to(mount).parts),
                uid=0,
                udp=[],
                tcp=[],
                door=1,
                names=2,
                split=Split(),
            )
            ben.namespace.nft(table(plan))
            program = (
                "import socket; s = socket.create_server(('0.0.0.0', {}));"
                "print(flush=True); s.accept()[0].send(b'hi')"
            )
            for port, into in ((5_001, f"echo $$ > {group}/cgroup.procs; "), (5_002, "")):
                words = ("sh", "-c", f'{into}exec {sys.executable} -c "{program.format(port)}"')
                server = ben.popen(*words, stdout=subprocess.PIPE)
                assert server.stdout is not None
                server.stdout.readline()
            ask = "import socket; print(socket.create_connection(('{}', {}), 1).recv(2))"
            for port, said in ((5_001, "b'hi'\n"), (5_002, "")):
                words = (sys.executable, "-c", ask.format(ben.ip, port))
                assert other.namespace.run(*words, check=False) == said
    finally:
        group.rmdir()
