"""A small server of USB/IP that has one device, for `usbip list`: OP_REP_DEVLIST as the Linux kernel documents it."""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator

DEVICE = struct.pack(
    ">256s32sIIIHHHBBBBBB",
    b"/sys/devices/test/usb1/1-1", b"1-1", 1, 2, 3, 0x1D6B, 0x0104, 0x0100, 0, 0, 0, 1, 1, 1,
)  # fmt: skip
INTERFACE = bytes((3, 0, 0, 0))  # a device for people
LIST = 0x8005


class _Server(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        version, code, _ = struct.unpack(">HHI", self.request.recv(8, 0))
        if code == LIST:
            self.request.sendall(struct.pack(">HHII", version, 0x0005, 0, 1) + DEVICE + INTERFACE)


@contextlib.contextmanager
def usb_server() -> Iterator[int]:
    """Its port on loopback."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
