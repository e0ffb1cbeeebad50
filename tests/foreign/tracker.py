"""A tracker as small as tests need one (BEP 3, compact answers of BEP 23): python -m tests.foreign.tracker IP PORT"""

import ipaddress
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_to_bytes

from coterie.content.bittorrent.torrent_file import bencode

INTERVAL_S = 2  # clients ask again that soon, where they let themselves be told


def said(path: str) -> Mapping[str, bytes]:
    """The fields of a query; values are bytes that no text encoding holds."""
    fields = (part.partition("=") for part in path.partition("?")[2].split("&"))
    return {name: unquote_to_bytes(value) for name, _, value in fields}


class Tracker(BaseHTTPRequestHandler):
    """Remembers who announced what, until they say that they stop."""

    swarms: dict[bytes, dict[tuple[str, int], None]] = {}  # noqa: RUF012 - shared by all requests on purpose

    def do_GET(self) -> None:
        query = said(self.path)
        peer = (self.client_address[0], int(query.get("port", b"0")))
        swarm = self.swarms.setdefault(query.get("info_hash", b""), {})
        if query.get("event") == b"stopped":
            swarm.pop(peer, None)
        else:
            swarm[peer] = None
        packed = b"".join(
            ipaddress.IPv4Address(ip).packed + port.to_bytes(2) for ip, port in swarm if (ip, port) != peer
        )
        body = bencode({"interval": INTERVAL_S, "min interval": INTERVAL_S, "peers": packed})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Tracker)
    print("ready", flush=True)
    server.serve_forever()
