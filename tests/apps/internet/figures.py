"""Figures of an exit, for `make proof ONLY=internet`: rates beside a raw TLS connection, many connections, the end.

All between namespaces of this machine: a user's computer, the exit, and a web server behind it.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coterie.apps.internet.messages import pack_addressed
from coterie.net.lanes.tls import LaneIdentity
from tests.apps.internet.world import ECHO_PORT, EXIT, WEB, World

SIZE_BYTES = 256 << 20
BLOCK_BYTES = 1 << 20
RAW_PORT, WEB_PORT = 9_000, 8_080
ROUNDS = 3
CONNECTIONS = 1_000
DATAGRAMS = 3_000


def raw_give() -> None:
    """A process of the exit: TLS 1.3, one thread, SIZE_BYTES to each who connects."""
    identity = LaneIdentity()
    listener = socket.create_server((EXIT, RAW_PORT))
    print(identity.certificate.hex(), flush=True)
    other = bytes.fromhex(sys.stdin.readline())
    block = bytes(BLOCK_BYTES)
    while True:
        sock, _ = listener.accept()
        with identity.wrap(sock, other, is_server=True) as secured:
            secured.settimeout(None)
            for _ in range(SIZE_BYTES // BLOCK_BYTES):
                secured.sendall(block)


def web_give() -> None:
    """A process of the world: SIZE_BYTES to each who asks for a page; what is sent to it is thrown away."""
    server, block = socket.create_server((WEB, WEB_PORT), backlog=CONNECTIONS), memoryview(bytes(BLOCK_BYTES))
    room = bytearray(BLOCK_BYTES)
    while True:
        sock, _ = server.accept()
        with sock:
            head = b""
            while b"\r\n\r\n" not in head and (more := sock.recv(65_536)):
                head += more
            try:
                if head.startswith(b"PUT"):
                    left = SIZE_BYTES - len(head.partition(b"\r\n\r\n")[2])
                    while left > 0 and (size := sock.recv_into(room)):
                        left -= size
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                elif head.startswith(b"GET"):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE_BYTES)
                    for _ in range(SIZE_BYTES // BLOCK_BYTES):
                        sock.sendall(block)
            except OSError:
                continue


class Figures:
    """Measures in one world."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        module = (sys.executable, "-m", "tests.apps.internet.figures")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.giver = world.exit.popen(*module, "raw-give", **pipes)
        self.web = world.outside.popen(*module, "web-give")
        self.identity = LaneIdentity()
        self.other = bytes.fromhex(self.giver.stdout.readline())
        self.giver.stdin.write(self.identity.certificate.hex() + "\n")
        self.giver.stdin.flush()
        time.sleep(1.0)

    def close(self) -> None:
        for process in (self.giver, self.web):
            process.kill()
            process.wait()

    def raw(self) -> float:
        """MB/s of a raw lane, memory to memory."""

        def take() -> float:
            room = bytearray(BLOCK_BYTES)
            with (
                socket.create_connection((EXIT, RAW_PORT)) as sock,
                self.identity.wrap(sock, self.other, is_server=False) as secured,
            ):
                secured.settimeout(None)
                began, came = time.perf_counter(), 0
                while came < SIZE_BYTES and (size := secured.recv_into(room)):
                    came += size
                return came / 1e6 / (time.perf_counter() - began)

        return self.world.user.call(take)

    def curl(self, *words: str) -> float:
        """MB/s through the exit."""
        began = time.perf_counter()
        done = self.world.run(
            "curl", "-sS", "-o", "/dev/null", "--socks5-hostname", self.world.proxy, *words,
            f"http://{WEB}:{WEB_PORT}/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return SIZE_BYTES / 1e6 / (time.perf_counter() - began)

    def many(self) -> tuple[float, int]:
        """Seconds to open CONNECTIONS to a host behind the exit, one after the other; how many stay open at once."""
        host, _, port = self.world.proxy.partition(":")

        def connect() -> tuple[float, int]:
            began, kept = time.perf_counter(), []
            for _ in range(CONNECTIONS):
                sock = socket.create_connection((host, int(port)), 20)
                sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(WEB) + (80).to_bytes(2, "big"))
                answer = b""
                while len(answer) < 12 and (more := sock.recv(12 - len(answer))):
                    answer += more
                if answer[3:4] == b"\0":
                    kept.append(sock)
            took = time.perf_counter() - began
            for sock in kept:
                sock.close()
            return took, len(kept)

        return self.world.user.call(connect)

    def datagrams(self) -> float:
        """Round trips a second of datagrams of 1,000 bytes, 32 under way at once."""
        host, _, port = self.world.proxy.partition(":")

        def exchange() -> float:
            with socket.create_connection((host, int(port)), 20) as control:
                control.sendall(b"\5\1\0\5\3\0\1" + bytes(6))
                answer = b""
                while len(answer) < 12:
                    answer += control.recv(12 - len(answer))
                place = socket.inet_ntoa(answer[6:10]), int.from_bytes(answer[10:], "big")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
                    program.settimeout(1)
                    program.connect(place)
                    packet = bytes(3) + pack_addressed(WEB, ECHO_PORT, bytes(1_000))
                    began, came, sent = time.perf_counter(), 0, 0
                    while came < DATAGRAMS:
                        while sent - came < 32:
                            program.send(packet)
                            sent += 1
                        try:
                            program.recv(65_536)
                        except TimeoutError:
                            sent = came  # those under way were lost
                            continue
                        came += 1
                    return came / (time.perf_counter() - began)

        return self.world.user.call(exchange)

    def revoked(self) -> float:
        """Seconds from taking the right back until a program's connection is reset."""
        host, _, port = self.world.proxy.partition(":")
        sock = self.world.user.call(lambda: socket.create_connection((host, int(port)), 20))
        sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(WEB) + (80).to_bytes(2, "big"))
        came = b""
        while len(came) < 12:
            came += sock.recv(12 - len(came))
        began = time.perf_counter()
        self.world.anna("internet", "unshare")
        try:
            sock.recv(1)
        except ConnectionResetError:
            return time.perf_counter() - began
        finally:
            sock.close()
        return float("nan")


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = World(folder)
        upload = folder / "upload"
        with upload.open("wb") as file:
            file.truncate(SIZE_BYTES)
        try:
            world.start()
            figures = Figures(world, folder)
            try:
                said = {"raw": [], "down": [], "up": []}  # type: dict[str, list[float]]
                for _ in range(ROUNDS):
                    said["raw"].append(figures.raw())
                    said["down"].append(figures.curl())
                    said["up"].append(figures.curl("-T", str(upload), "-H", "Expect:"))
                raw, down, up = (statistics.median(said[key]) for key in ("raw", "down", "up"))
                print(f"cores: {os.cpu_count()}; all figures of one run, medians of {ROUNDS}")
                print(f"raw TLS connection, memory to memory: {raw:.0f} MB/s")
                print(f"download by curl through the exit: {down:.0f} MB/s, {down / raw:.2f} of it")
                print(f"upload by curl through the exit: {up:.0f} MB/s, {up / raw:.2f} of it")
                took, kept = figures.many()
                print(f"{kept} of {CONNECTIONS} connections open at once, made in {took:.1f} s")
                print(f"datagrams of 1,000 bytes, there and back: {figures.datagrams():.0f} a second")
                print(
                    f"a right taken back ends a connection after {figures.revoked():.2f} s (with the command)"
                )
                print(json.dumps(said))
            finally:
                figures.close()
        finally:
            world.close()


if __name__ == "__main__":
    {"raw-give": raw_give, "web-give": web_give}.get(sys.argv[-1], main)()
