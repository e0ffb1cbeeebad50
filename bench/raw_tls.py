"""The raw limit of lanes: a file over one TLS 1.3 connection to a file, by one blocking thread on each side.

Run as a program it is the giving side: it serves argv[1] to whoever connects, again and again, until its input closes.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from coterie.net.lanes.tls import LaneIdentity

BLOCK_BYTES = 1 << 20  # measured: larger ones are no faster


def serve(path: Path) -> None:
    """Send the file over each connection; the other side's certificate comes on standard input, ours goes out."""
    listener = socket.create_server(("127.0.0.1", 0))
    identity = LaneIdentity()
    print(json.dumps([listener.getsockname()[1], identity.certificate.hex()]), flush=True)
    other = bytes.fromhex(sys.stdin.readline())
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    while True:
        sock, _ = listener.accept()
        with identity.wrap(sock, other, is_server=True) as secured, path.open("rb", buffering=0) as file:
            secured.settimeout(None)
            while size := file.readinto(buffer):
                secured.sendall(view[:size])


class RawGiver:
    """A process that serves one file so."""

    def __init__(self, source: Path) -> None:
        self._size = source.stat().st_size
        self._identity = LaneIdentity()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.raw_tls", str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._port, certificate = json.loads(self._process.stdout.readline())
        self._other = bytes.fromhex(certificate)
        self._process.stdin.write(self._identity.certificate.hex() + "\n")
        self._process.stdin.flush()

    def copy(self, target: Path) -> tuple[float, float]:
        """Seconds until everything is in `target` and on the disk, and those of them that this side's CPU worked."""
        began, cpu = time.perf_counter(), time.process_time()
        buffer = bytearray(BLOCK_BYTES)
        view = memoryview(buffer)
        got = 0
        sock = socket.create_connection(("127.0.0.1", self._port))
        with (
            self._identity.wrap(sock, self._other, is_server=False) as secured,
            target.open("wb", buffering=0) as file,
        ):
            secured.settimeout(None)
            while got < self._size:
                at = 0
                while at < BLOCK_BYTES and got < self._size:
                    size = secured.recv_into(view[at:])
                    if not size:
                        raise SystemExit(f"the raw copy brought {got} of {self._size} bytes")
                    at, got = at + size, got + size
                file.write(view[:at])
            os.fsync(file.fileno())
        return time.perf_counter() - began, time.process_time() - cpu

    def end(self) -> None:
        """Stop the process."""
        self._process.communicate(timeout=30)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
