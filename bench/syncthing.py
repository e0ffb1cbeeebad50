"""Syncthing (Debian package) on loopback: one of its nodes, and how long one file takes between two."""

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.figures import free_port, installed

START_S = 60.0
TRANSFER_S = 600.0


class Syncthing:
    """One Syncthing, without discovery, relays, NAT mapping, and reports."""

    def __init__(self, program: str, home: Path) -> None:
        self.home = home
        subprocess.run(
            [program, "generate", f"--home={home}", "--no-default-folder", "--skip-port-probing"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.port, self._gui = free_port(), free_port()
        self._key = home.joinpath("config.xml").read_text().split("<apikey>")[1].split("</apikey>")[0]
        self.id = ""
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Begin, or begin again; return when it answers."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [self._program, "serve", f"--home={self.home}", "--no-browser", "--no-upgrade", "--no-restart",
             f"--gui-address=127.0.0.1:{self._gui}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + START_S
        while True:
            try:
                self.id = self.call("GET", "system/status")["myID"]
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._gui}/rest/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self._key, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def quiet(self) -> None:
        """Nothing but the peers it is told of."""
        self.call(
            "PATCH",
            "config/options",
            {
                "listenAddresses": [f"tcp://127.0.0.1:{self.port}"],
                "globalAnnounceEnabled": False,
                "localAnnounceEnabled": False,
                "relaysEnabled": False,
                "natEnabled": False,
                "crashReportingEnabled": False,
                "urAccepted": -1,
            },
        )

    def knows(self, other: "Syncthing", folder: Path, kind: str, *, watches: bool = False) -> None:
        """Share `folder` with `other`; `watches`: look for changes a second after the system tells of them."""
        address = f"tcp://127.0.0.1:{other.port}"
        self.call("PUT", f"config/devices/{other.id}", {"deviceID": other.id, "addresses": [address]})
        self.call(
            "PUT",
            "config/folders/bench",
            {
                "id": "bench",
                "path": str(folder),
                "type": kind,
                "devices": [{"deviceID": self.id}, {"deviceID": other.id}],
                "fsWatcherEnabled": watches,
                "fsWatcherDelayS": 1,
                "rescanIntervalS": 3600,
            },
        )

    def end(self) -> None:
        """Stop it; the same may start again."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None


def syncthing(source: Path, place: Path) -> float | None:
    """Seconds from the moment that the receiver's folder is known to both until the file is whole there.

    The sender has hashed it before: what is timed is the transfer.
    """
    program = installed("syncthing")
    if program is None:
        return None
    room = place / "syncthing"
    (room / "from").mkdir(parents=True)
    (room / "to").mkdir()
    (room / "from" / source.name).hardlink_to(source)
    sender, receiver = Syncthing(program, room / "a"), Syncthing(program, room / "b")
    size = source.stat().st_size
    try:
        for node in (sender, receiver):
            node.start()
            node.quiet()
        sender.knows(receiver, room / "from", "sendonly")
        until = time.monotonic() + TRANSFER_S
        while sender.call("GET", "db/status?folder=bench")["localBytes"] < size:
            if time.monotonic() > until:
                return None
            time.sleep(0.1)
        receiver.knows(sender, room / "to", "receiveonly")
        began: float | None = None
        while True:
            status = receiver.call("GET", "db/status?folder=bench")
            if began is None and status["globalBytes"] >= size:
                began = time.perf_counter()  # they are connected, and the index has come
            if began is not None and status["localBytes"] >= size and status["needBytes"] == 0:
                return time.perf_counter() - began
            if time.monotonic() > until:
                return None
            time.sleep(0.02)
    finally:
        sender.end()
        receiver.end()
        _remove(room)


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
