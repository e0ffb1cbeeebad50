"""What a router says of itself in UPnP, made safe for the library that reads it: every address in it is the router's.

The library sends its requests wherever a description says, and follows redirections: a false router would have it ask
programs of this computer. So the description is fetched here, addresses that are only for people are taken out, and
one with an address elsewhere is refused. The library gets the rest from this computer.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from coterie.decoding import decoder
from coterie.errors import PeerError, TransportError
from coterie.texts import tr

BYTES_MAX = 64 << 10  # guess: real ones have 2 to 10 kB
FETCH_S = 3.0  # guess: as the library gives each of its requests
_FOR_PEOPLE = re.compile(
    rb"<(manufacturerURL|modelURL|presentationURL|URLBase)>[^<]*</\1>|\sxmlns:\w+=\"[^\"<>]*\"", re.IGNORECASE
)
_ADDRESS = re.compile(rb"https?:", re.IGNORECASE)
_ROOT = re.compile(rb"<root\b[^<>]*>")


def fetch(url: str) -> bytes:
    """The description at `url`, on the router itself. Blocking. Raises `TransportError`."""
    host, port, path = _place(url)
    connection = HTTPConnection(host, port, timeout=FETCH_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        raw = response.read(BYTES_MAX + 1)
        if response.status != 200 or len(raw) > BYTES_MAX:
            raise TransportError(
                tr("it does not describe itself (HTTP status {status})", status=response.status)
            )
        return raw
    except (OSError, HTTPException) as error:
        raise TransportError(tr("it does not describe itself ({error})", error=error)) from None
    finally:
        connection.close()


@decoder(TransportError, "the router's URL")
def _place(url: str) -> tuple[str, int, str]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80, parts.path or "/"


@decoder(PeerError, "the router's description")
def checked(raw: bytes, url: str) -> bytes:
    """The description without what is for people, its base at the router. Raises `PeerError`: it points elsewhere."""
    parts = urlsplit(url)
    rest, own = _FOR_PEOPLE.sub(b"", raw), f"http://{parts.hostname}".encode()
    for found in _ADDRESS.finditer(rest):
        at = rest[found.start() :]
        if not at.startswith((own + b":", own + b"/")):
            raise PeerError("the router's description points elsewhere")
    root = _ROOT.search(rest)
    if root is None or b"urlbase" in rest.lower():
        raise PeerError("the router's description is none")
    base = f"<URLBase>http://{parts.netloc}/</URLBase>".encode()
    return rest[: root.end()] + base + rest[root.end() :]


@contextmanager
def served(description: bytes) -> Iterator[str]:
    """A URL on this computer where the library reads `description`, until the block ends."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(description)}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):  # the block has ended
                while True:
                    asking, _ = listener.accept()
                    with asking, suppress(OSError):
                        asking.settimeout(FETCH_S)
                        asking.recv(4096)
                        asking.sendall(head + description)

        thread = threading.Thread(target=answer, name="upnp description", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
