"""Small programs on computers of the laboratory: python -m tests.apps.internet.exit_programs NAME ARGUMENT..."""

import json
import os
import socket
import sys
import threading
import time

from coterie.net.lanes.tls import LaneIdentity

BLOCK = os.urandom(1 << 20)
ALL_S = 2.0  # for what is still under way after the last was sent


def source(port: str, size: str) -> None:
    """Send `size` bytes to whoever connects."""
    listener = socket.create_server(("0.0.0.0", int(port)))
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_pour, args=(sock, int(size)), daemon=True).start()


def _pour(sock: socket.socket, size: int) -> None:
    with sock:
        for _ in range(size // len(BLOCK)):
            sock.sendall(BLOCK)


def sink(host: str, port: str) -> None:
    """Take everything from there; print bytes a second."""
    began, got, buffer = time.perf_counter(), 0, bytearray(1 << 20)
    with socket.create_connection((host, int(port))) as sock:
        while size := sock.recv_into(buffer):
            got += size
    print(json.dumps(got / (time.perf_counter() - began)))


def raw_source(port: str, size: str) -> None:
    """As `source`, over TLS as lanes have it; certificates go over standard input and output."""
    identity = LaneIdentity()
    listener = socket.create_server(("0.0.0.0", int(port)))
    print(identity.certificate.hex(), flush=True)
    other = bytes.fromhex(sys.stdin.readline())
    sock, _ = listener.accept()
    with identity.wrap(sock, other, is_server=True) as secured:
        secured.settimeout(None)
        for _ in range(int(size) // len(BLOCK)):
            secured.sendall(BLOCK)


def raw_sink(host: str, port: str, certificate: str, whole: str) -> None:
    """As `sink`, over TLS, of `whole` bytes."""
    identity = LaneIdentity()
    print(identity.certificate.hex(), flush=True)
    sys.stdin.readline()
    began, got, buffer = time.perf_counter(), 0, bytearray(1 << 20)
    sock = socket.create_connection((host, int(port)))
    with identity.wrap(sock, bytes.fromhex(certificate), is_server=False) as secured:
        secured.settimeout(None)
        while got < int(whole):
            got += secured.recv_into(buffer)
    print(json.dumps(got / (time.perf_counter() - began)))


def counter(port: str) -> None:
    """Count datagrams; on an empty one say how many, and how many a second came between the first and the last."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind(("0.0.0.0", int(port)))
    print("ready", flush=True)
    count, first, last = 0, 0.0, 0.0
    while True:
        data, sender = sock.recvfrom(65_535)
        if data != b"end":
            last = time.perf_counter()
            first = first or last
            count += 1
            continue
        said = {"count": count, "per_s": (count - 1) / (last - first) if count > 1 else 0.0}
        sock.sendto(json.dumps(said).encode(), sender)
        count, first = 0, 0.0


def sprayer(host: str, port: str, count: str, per_s: str, size: str) -> None:
    """Send `count` datagrams of `size` bytes, `per_s` a second; print what the counter says."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((host, int(port)))
    data, began = os.urandom(int(size)), time.perf_counter()
    for sent in range(int(count)):
        while (ahead := sent / float(per_s) - (time.perf_counter() - began)) > 0:
            time.sleep(min(ahead, 0.001))
        try:
            sock.send(data)
        except OSError:
            continue
    sock.settimeout(1.0)
    time.sleep(ALL_S)
    for _ in range(10):
        sock.send(b"end")
        try:
            print(sock.recv(1_000).decode())
            return
        except TimeoutError:
            continue


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
