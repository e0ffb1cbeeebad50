"""A link of a chain of plain TCP connections, told what to do as `peer.py` is: beside ours in the swarm.

python -m tests.lab.chain_peer JSON, with {"place": which link, the first has the file, "folder": where its files are,
"ip": its address}. Commands: "share" {path}, "get" {peers: addresses of the others, in the chain's order}. Events:
"ready", "shared", "progress", "fetched". Each link passes on what comes while it comes: nothing is checked or
encrypted, and one that dies ends it for all behind. No method that sends every byte once is simpler.
"""

import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import blake3

PORT = 6882
PIECE_BYTES = 64 * 1024
SIZE_BYTES = 8
SAID_S = 0.2


def say(event: str, **facts: Any) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


class Chained:
    """The file as far as it came: `size` is None until it is known."""

    def __init__(self) -> None:
        self.path = Path()
        self.size: int | None = None
        self.here = 0
        self._came = threading.Condition()

    def note(self, path: Path, size: int, here: int) -> None:
        """So much of the file is in `path`."""
        with self._came:
            self.path, self.size, self.here = path, size, here
            self._came.notify_all()

    def serve(self, listener: socket.socket) -> None:
        """Send it to the one that connects."""
        connection, _ = listener.accept()
        with connection:
            with self._came:
                self._came.wait_for(lambda: self.size is not None)
                size = self.size or 0
            connection.sendall(size.to_bytes(SIZE_BYTES, "big"))
            sent = 0
            with self.path.open("rb") as file:
                while sent < size:
                    with self._came:
                        self._came.wait_for(lambda: self.here > sent)  # noqa: B023  (it is over before `sent` changes)
                        here = self.here
                    connection.sendall(file.read(min(PIECE_BYTES, here - sent)))
                    sent = file.tell()

    def get(self, before: str, path: Path) -> None:
        """Receive it from the link before, whose address this is, and say how far it is."""
        said = 0.0
        with socket.create_connection((before, PORT)) as connection, path.open("wb", buffering=0) as file:
            size = int.from_bytes(connection.recv(SIZE_BYTES, socket.MSG_WAITALL), "big")
            self.note(path, size, 0)
            while self.here < size:
                data = connection.recv(PIECE_BYTES)
                if not data:
                    raise SystemExit(f"{before} ended the chain after {self.here} of {size} bytes")
                file.write(data)
                self.note(path, size, self.here + len(data))
                if time.monotonic() - said > SAID_S:
                    said = time.monotonic()
                    say("progress", bytes=self.here)
        done_at = time.monotonic()
        digest = blake3.blake3().update_mmap(path).hexdigest()
        say("fetched", bytes=size, digest=digest, done_at=done_at)


def main(settings: dict[str, Any]) -> None:
    """Be the link of `settings` until standard input ends."""
    folder = Path(settings["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    chained = Chained()
    listener = socket.create_server((settings["ip"], PORT))
    threading.Thread(target=chained.serve, args=(listener,), daemon=True).start()
    say("ready", addresses=[f"{settings['ip']}:{PORT}"])
    for line in sys.stdin:
        told = json.loads(line)
        match told["do"]:
            case "share":
                path = Path(told["path"])
                chained.note(path, path.stat().st_size, path.stat().st_size)
                say("shared", ticket="", id=told["id"])
            case "get":
                before = told["peers"][settings["place"] - 1]
                threading.Thread(target=chained.get, args=(before, folder / "received"), daemon=True).start()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
