"""cheroot for the drive: on a socket that is given, and with bounds for what programs send.

cheroot itself reads the rest of a body that nobody has read in one piece into memory, or, where it comes in chunks,
takes it for the next request. Here a bounded part is read and thrown away, so that the program sees the answer; then
the connection ends.
"""

import socket
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

THREADS = 24  # each may wait for a peer that is away; guess: a file manager opens as many as it has pictures
IDLE_S = 60  # a connection on which nothing is asked; programs keep some open
STOP_S = 2  # for requests under way when it is switched off
HEADER_BYTES_MAX = 64 << 10  # of one request; guess: locks, and a login
UNREAD_BYTES_MAX = (
    256 << 20  # of a body that was refused: programs send all of it before they look at the answer
)
_PIECE_BYTES = 1 << 20


class _Request(HTTPRequest):
    def send_headers(self) -> None:
        """See cheroot; the rest of the body first."""
        if self.chunked_read:
            self.close_connection = self.close_connection or not self.rfile.closed
        else:
            left = UNREAD_BYTES_MAX
            while self.rfile.remaining and left > 0:
                left -= len(self.rfile.read(min(_PIECE_BYTES, self.rfile.remaining)) or bytes(left))
            self.close_connection = self.close_connection or bool(self.rfile.remaining)
        super().send_headers()


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request


class Server(wsgi.Server):
    """On a socket that is given."""

    ConnectionClass = _Connection

    def __init__(self, listening: socket.socket, app: Any) -> None:
        self._given = listening
        super().__init__(
            listening.getsockname(),
            app,
            numthreads=THREADS,
            server_name="coterie",
            timeout=IDLE_S,
            shutdown_timeout=STOP_S,
            accepted_queue_size=THREADS,
            accepted_queue_timeout=IDLE_S,
        )
        self.max_request_header_size = HEADER_BYTES_MAX

    @property
    def open(self) -> int:
        """How many requests wait or are answered now."""
        return int(self.requests.qsize) + THREADS - int(self.requests.idle)

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        self.socket = self._given
        self.bind_addr = self._given.getsockname()
        return self._given
