"""A small internet: a computer that uses an exit, the exit, and behind it alone a world with servers."""

import hashlib
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.apps.expose.test_processes import needed
from tests.lab.namespace import Namespace
from tests.lab.nodes import LabNode

WEB, EXIT, EXIT_OUTSIDE, USER = "11.20.0.7", "10.77.0.1", "11.99.0.1", "10.77.0.2"
NAME = "web.example"
LARGE_BYTES = 3_000_000
ECHO_PORT = 7


_FILES: dict[str, bytes] = {}  # of the web server, by their paths


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/inward":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:80/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        found = f"<p id=p>{self.headers['Host']} {self.path}</p>".encode()
        body = _FILES.get(self.path, found)
        is_missing = self.path.startswith("/apt/") and self.path not in _FILES
        self.send_response(404 if is_missing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Who goes away is no fault here."""


@dataclass
class Host:
    """What `LabNode` needs of a computer."""

    name: str
    namespace: Namespace
    processes: "list[subprocess.Popen[Any]]" = field(default_factory=list)

    def popen(self, *command: str, **settings: Any) -> "subprocess.Popen[Any]":
        process = self.namespace.popen(*command, **settings)
        self.processes.append(process)
        return process


class ExitNode(LabNode):
    """A node that asks the name server of the world."""

    resolv: Path

    def _command(self, *arguments: str) -> tuple[str, ...]:
        inside = f'mount --bind {self.resolv} /etc/resolv.conf && exec "$@"'
        return ("unshare", "-m", "sh", "-c", inside, "sh", *super()._command(*arguments))


class World:
    """All of it, from `start` to `close`. `proxy`: of the user's node, "127.0.0.1:4000"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user, self.exit, self.outside = (Namespace(name) for name in ("user", "exit", "outside"))
        _cable(self.user, f"{USER}/24", self.exit, f"{EXIT}/24")
        _cable(self.exit, f"{EXIT_OUTSIDE}/30", self.outside, "11.99.0.2/30")
        self.exit.run("ip", "route", "add", "default", "via", "11.99.0.2")
        self.outside.run("ip", "address", "add", f"{WEB}/32", "dev", "lo")
        self.hosts = Host("anna", self.exit), Host("ben", self.user)
        ExitNode.resolv = folder / "resolv.conf"
        ExitNode.resolv.write_text(f"nameserver {WEB}\noptions timeout:2 attempts:2\n")
        self.proxy = ""
        self._servers: list[Any] = []

    def start(self, *options: str) -> None:
        """Servers and nodes; anna shares with her contacts, ben uses it."""
        server = self.outside.call(lambda: _Server((WEB, 80), _Page))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        _FILES["/large"] = bytes(LARGE_BYTES)
        self.echo = self.outside.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.echo.bind((WEB, ECHO_PORT))
        threading.Thread(target=self._echo, daemon=True).start()
        names = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin") or needed("dnsmasq-base")
        words = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"]
        words += [f"--listen-address={WEB}", "--bind-interfaces", f"--address=/{NAME}/{WEB}"]
        self._names = self.outside.popen(names, *words, "--address=/inner.example/127.0.0.1")
        self.anna, self.ben = ExitNode(self.hosts[0], self.folder), LabNode(self.hosts[1], self.folder)
        for node in (self.anna, self.ben):
            node.up()
        self.anna.meet(self.ben)
        self.anna("internet", "share", "--to", "ben", *options)
        self.proxy = self.ben.result("internet", "use", "anna")["proxy"]

    def run(self, *command: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
        """A program of the user, to its end."""
        return self.user.call(
            lambda: subprocess.run(
                command, capture_output=True, text=True, timeout=60, check=False, **settings
            )
        )

    def close(self) -> None:
        """End it all."""
        for node in (self.anna, self.ben):
            with suppress(Exception):
                node.down()
        for process in (*self.hosts[0].processes, *self.hosts[1].processes, self._names):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self.echo.close()
        for namespace in (self.user, self.exit, self.outside):
            namespace.close()

    def put(self, path: str, content: bytes) -> None:
        """A file of the web server."""
        _FILES[path] = content

    def apt_repository(self) -> str:
        """A repository with the package coterie-test at the web server; the line for sources.list."""
        tree = self.folder / "package"
        (tree / "DEBIAN").mkdir(parents=True)
        control = "Package: coterie-test\nVersion: 1\nArchitecture: all\nMaintainer: t <t@web.example>\n"
        (tree / "DEBIAN" / "control").write_text(control + "Description: a test\n")
        package = self.folder / "coterie-test_1_all.deb"
        subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True, capture_output=True)
        raw = package.read_bytes()
        listed = f"{control}Filename: ./{package.name}\nSize: {len(raw)}\nSHA256: "
        listed += f"{hashlib.sha256(raw).hexdigest()}\nDescription: a test\n"
        packages = listed.encode()
        digest = hashlib.sha256(packages).hexdigest()
        release = f"Date: Sat, 28 Nov 2026 00:00:00 UTC\nSHA256:\n {digest} {len(packages)} Packages\n"
        self.put("/apt/./Packages", packages)
        self.put("/apt/./Release", release.encode())
        self.put(f"/apt/./{package.name}", raw)
        return f"deb [trusted=yes] http://{NAME}/apt ./\n"

    def _echo(self) -> None:
        with suppress(OSError):
            while True:
                data, source = self.echo.recvfrom(65_536)
                self.echo.sendto(data, source)


def _cable(one: Namespace, address: str, other: Namespace, other_address: str) -> None:
    devices = f"v{one.name[:4]}{other.name[:4]}", f"v{other.name[:4]}{one.name[:4]}"
    one.run("ip", "link", "add", devices[0], "type", "veth", "peer", devices[1], "netns", other.path)
    for namespace, device, ip in ((one, devices[0], address), (other, devices[1], other_address)):
        namespace.run("ip", "address", "add", ip, "dev", device)
        namespace.run("ip", "link", "set", device, "up")
