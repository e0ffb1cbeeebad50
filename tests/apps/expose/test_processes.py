"""Two nodes as processes over QUIC, and the real programs through them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.apps.files.nodes import RunningNode, running_node, start

LEARNED_S = 5.0  # what docs/expose.md promises


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"<title>page</title><p id=p>page of {self.headers['Host']}</p>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """The port of a small web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, RunningNode]]:
    """Two nodes that are contacts of each other."""
    folder = tmp_path_factory.mktemp("expose")
    with running_node(folder / "anna") as anna, running_node(folder / "ben") as ben:
        befriend(anna, ben)
        yield anna, ben


def befriend(anna: RunningNode, ben: RunningNode) -> None:
    """Make them contacts of each other."""
    inviting = start(anna.home, "--json", "invite", "--lasting", "60s")
    assert inviting.stdout is not None
    invited = json.loads(inviting.stdout.readline())
    ben.call("join", invited["ticket"])
    inviting.communicate(timeout=60)


def connect(nodes: tuple[RunningNode, RunningNode], target: object, name: str) -> str:
    """The address at ben of a service of anna."""
    anna, ben = nodes
    anna.call("expose", str(target), "--as", name, "--to", "contacts")
    peer = anna.call("status")["peer_id"]
    return str(ben.call("connect", f"{peer}/{name}")["address"])


def test_curl(nodes: tuple[RunningNode, RunningNode], web: int) -> None:
    address = connect(nodes, web, "page")
    done = subprocess.run(
        ["curl", "-sS", f"http://{address}/"], capture_output=True, text=True, timeout=20, check=True
    )
    assert f"page of {address}" in done.stdout


def test_a_browser(nodes: tuple[RunningNode, RunningNode], web: int, tmp_path: Path) -> None:
    connect(nodes, web, "site")
    address = next(line["web"] for line in nodes[1].call("connected") if line["service"].endswith("/site"))
    browser = shutil.which("chromium") or needed("chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    done = subprocess.run([browser, *flags, address], capture_output=True, text=True, timeout=60, check=True)
    assert f"page of {address.removeprefix('http://').rstrip('/')}" in done.stdout
    done = subprocess.run(["curl", "-sS", address], capture_output=True, text=True, timeout=20, check=True)
    assert "page of" in done.stdout


def test_ssh(nodes: tuple[RunningNode, RunningNode], tmp_path: Path) -> None:
    server = shutil.which("sshd", path="/usr/sbin:/usr/bin") or needed("openssh-server")
    for key in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / key)], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "own.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    daemon = subprocess.Popen([server, "-D", "-f", "/dev/null", *words])
    try:
        host, _, there = connect(nodes, port, "ssh").rpartition(":")
        client = ["ssh", "-p", there, "-i", str(tmp_path / "own"), "-F", "none", "-o", "BatchMode=yes"]
        client += [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            f"UserKnownHostsFile={tmp_path / 'known'}",
            f"root@{host}",
        ]
        data = os.urandom(2_000_000)
        done = subprocess.run([*client, "cat"], input=data, capture_output=True, timeout=40, check=False)
        assert done.stdout == data, done.stderr
    finally:
        daemon.terminate()
        daemon.wait(timeout=20)


def test_psql_through_a_unix_socket(nodes: tuple[RunningNode, RunningNode]) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = found[-1] if found else Path(needed("postgresql"))
    with tempfile.TemporaryDirectory(prefix="pg") as place:
        folder = Path(place)
        shutil.chown(folder, "postgres")
        as_postgres = partial(
            subprocess.run, user="postgres", group="postgres", cwd=folder, capture_output=True, timeout=60
        )
        data = str(folder / "data")
        as_postgres([programs / "initdb", "-A", "trust", "--no-sync", "-D", data], check=True)
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        command = [programs / "pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options]
        as_postgres([*command, "start"], check=True)
        try:
            host, _, port = connect(nodes, f"unix:{folder}/.s.PGSQL.5432", "database").rpartition(":")
            ask = [
                "psql",
                "-h",
                host,
                "-p",
                port,
                "-U",
                "postgres",
                "-tAc",
                "select 6 * 7",
            ]
            done = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True)
            assert done.stdout.strip() == "42"
        finally:
            as_postgres([*command, "-m", "immediate", "stop"], check=True)


def test_dig_asks_a_name_server(nodes: tuple[RunningNode, RunningNode]) -> None:
    server = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin") or needed("dnsmasq-base")
    client = shutil.which("dig") or needed("bind9-dnsutils")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    long = ",".join(letter * 250 for letter in "abcdefghijkl")  # 3 kB: more than a packet holds
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]
    options += ["--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", f"--port={port}"]
    options += ["--edns-packet-max=4096", "--address=/wiki.test/10.1.2.3", f"--txt-record=long.test,{long}"]
    daemon = subprocess.Popen([server, *options])
    try:
        host, _, there = connect(nodes, f"udp:{port}", "names").rpartition(":")
        ask = [client, f"@{host}", "-p", there, "+short", "+notcp", "+ignore", "+bufsize=4096"]
        for words, answer in (["wiki.test"], "10.1.2.3"), (["long.test", "TXT"], "l" * 250):
            done = subprocess.run([*ask, *words], capture_output=True, text=True, timeout=30, check=True)
            assert answer in done.stdout
    finally:
        daemon.terminate()
        daemon.wait(timeout=20)


def needed(package: str) -> str:
    """Skip, but not where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(f"this test needs the Debian package {package}")
    pytest.skip(f"needs the Debian package {package}")


def test_a_killed_peer_is_noticed_within_five_seconds(
    nodes: tuple[RunningNode, RunningNode], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = connect(nodes, server.getsockname()[1], "long")
        for killed, kept in ((0, 1), (1, 0)):
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port))) as there, server.accept()[0] as here:
                there.sendall(b"hello")
                assert here.recv(5) == b"hello"
                survivor = (here, there)[kept]
                survivor.settimeout(LEARNED_S)
                nodes[killed].kill()
                began = time.monotonic()
                with contextlib.suppress(ConnectionResetError):
                    assert survivor.recv(1) == b""
                assert time.monotonic() - began < LEARNED_S
            if killed == 0:
                nodes[killed].up()
