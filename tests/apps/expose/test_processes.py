"""Two nodes as processes over QUIC, and the real programs through them."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
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
