"""BitTorrent between whole nodes on computers of their own: a power cut in the middle, and the ways in which peers are
found that need more than two."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from coterie.content.bittorrent.torrent_file import bencode
from tests.lab.lab import Host, Lab
from tests.lab.nodes import LabNode
from tests.lab.slow_links import HEADERS, Line, SlowLinks

SIZE = 24_000_000
UP_MBIT = 40.0
NOWHERE = "198.51.100.250:1"
FOUND_S = 60.0  # guess: the first announcement, the first search behind it, and a busy machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def node(host: Host, folder: Path, bootstrap: str = NOWHERE) -> LabNode:
    """A node that would use the internet's ways, where there is no internet."""
    home = folder / host.name
    home.mkdir(mode=0o700, parents=True)
    (home / "config.toml").write_text(
        f'reach = "internet"\ndiscovery = false\nbind = "{host.ip}"\n'
        f'dht_private = true\ndht_bootstrap = "{bootstrap}"\n'
    )
    made = LabNode(host, folder)
    made.up()
    return made


def until(holds: Callable[[], bool], limit_s: float = FOUND_S) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def noise(path: Path, size: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def peer_in(magnet: str) -> str:
    """The "ip:port" that a magnet link names."""
    found = re.search(r"x\.pe=([^&]+)", magnet)
    assert found, magnet
    return found[1]


def transfer(of: LabNode) -> dict[str, object]:
    """The only download of a node."""
    (line,) = of.result("transfers")
    return dict(line)


def test_a_power_cut_in_the_middle_costs_little_and_loses_nothing(tmp_path: Path) -> None:
    with Lab() as lab:
        links = SlowLinks(lab, Line())
        anna, bela = (
            node(links.host(name, up_mbit_per_s=UP_MBIT, down_mbit_per_s=2 * UP_MBIT), tmp_path)
            for name in ("anna", "bela")
        )
        source = noise(tmp_path / "film.mkv")
        shared = anna.result("share", str(source), "--bittorrent")
        before = links.sent()["anna"]
        bela("get", shared["magnet"], str(tmp_path / "got"), "--detach")
        until(lambda: links.sent()["anna"] - before > 0.6 * SIZE)
        assert bela.process is not None
        bela.process.send_signal(signal.SIGKILL)
        bela.process.wait()
        assert not (tmp_path / "got").exists()

        bela.up()
        until((tmp_path / "got").exists)

        assert (tmp_path / "got").read_bytes() == source.read_bytes()
        copies = (links.sent()["anna"] - before) / HEADERS / SIZE
        assert copies < 1.25, copies  # what was on the disk was not fetched again
        assert transfer(bela)["state"] == "done"


def test_a_torrent_file_that_names_nobody_is_found_by_the_dht(tmp_path: Path) -> None:
    """Of a network of our own: Rita is its first node."""
    with Lab() as lab:
        rita = node(lab.public("rita"), tmp_path)
        other = rita.result("share", str(noise(tmp_path / "other", 1000)), "--bittorrent")
        first = unquote(peer_in(other["magnet"]))
        anna, bela = (node(lab.public(name), tmp_path, first) for name in ("anna", "bela"))
        source = noise(tmp_path / "film.mkv")
        shared = anna.result("share", str(source), "--bittorrent")
        bela("get", shared["torrent"], str(tmp_path / "got"), "--detach")
        until((tmp_path / "got").exists)
        assert (tmp_path / "got").read_bytes() == source.read_bytes()


def test_a_peer_tells_of_the_peers_that_it_knows(tmp_path: Path) -> None:
    """Bela knows Cora alone, whose own link is slow; whoever is done before her had it from Anna, whom Cora knows."""
    with Lab() as lab:
        links = SlowLinks(lab, Line())
        rates = {"anna": UP_MBIT, "bela": UP_MBIT, "cora": 2.0}
        hosts = {n: links.host(n, up_mbit_per_s=UP_MBIT, down_mbit_per_s=rate) for n, rate in rates.items()}
        anna, bela, cora = (node(host, tmp_path) for host in hosts.values())
        source = noise(tmp_path / "film.mkv")
        magnet = anna.result("share", str(source), "--bittorrent")["magnet"]
        mine = cora.result("share", str(noise(tmp_path / "other", 1000)), "--bittorrent")["magnet"]
        cora("get", magnet, str(tmp_path / "cora-got"), "--detach")
        until(lambda: links.sent()["anna"] > SIZE / 50)

        bela("get", magnet.replace(peer_in(magnet), peer_in(mine)), str(tmp_path / "got"), "--detach")
        until((tmp_path / "got").exists)

        assert not (tmp_path / "cora-got").exists()
        assert (tmp_path / "got").read_bytes() == source.read_bytes()


class _Ranges(BaseHTTPRequestHandler):
    """Gives `data`, whole or in part."""

    protocol_version = "HTTP/1.1"
    data = b""

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2]) + 1) if asked else (0, len(self.data))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last - first))
        self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(self.data)}")
        self.end_headers()
        self.wfile.write(self.data[first:last])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def web_server(host: Host, data: bytes) -> Iterator[str]:
    """The URL of `data` on `host`."""
    handler = type("Handler", (_Ranges,), {"data": data})
    server = host.namespace.call(lambda: ThreadingHTTPServer((host.ip, 0), handler))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{host.ip}:{server.server_port}/film.mkv"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_web_server_that_has_the_file_is_enough(tmp_path: Path) -> None:
    with Lab() as lab:
        anna, bela = (node(lab.public(name), tmp_path) for name in ("anna", "bela"))
        source = noise(tmp_path / "film.mkv")
        torrent = Path(anna.result("share", str(source), "--bittorrent")["torrent"]).read_bytes()
        anna.down()
        with web_server(lab.public("web"), source.read_bytes()) as url:
            described = tmp_path / "film.torrent"
            key = bencode("url-list") + bencode(url)
            described.write_bytes(torrent[:-1] + key + b"e")
            bela("get", str(described), str(tmp_path / "got"))
            assert (tmp_path / "got").read_bytes() == source.read_bytes()
