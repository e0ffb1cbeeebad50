"""The other end of `peer.py`: starts it on a computer of the laboratory, gives commands, waits for events."""

import itertools
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.lab import Host
from tests.lab.namespace import LabError
from tests.lab.peer import key_of

ROOT = Path(__file__).resolve().parents[2]
START_S = 20.0  # guess: importing the wheel on a busy machine

Event = dict[str, Any]


class RemotePeer:
    """A running `peer.py` on `host`."""

    _numbers = itertools.count(1)

    def __init__(
        self, host: Host, *, module: str = "tests.lab.peer", number: int | None = None, **settings: Any
    ) -> None:
        """`number`: of a peer that was there before, who comes back."""
        self.host = host
        self.number = number = next(self._numbers) if number is None else number
        self.peer_id = str(key_of(number).peer_id)
        self.events: list[Event] = []
        self._arrived: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self.settings = {"module": module, **settings}
        told = json.dumps({"number": number, **settings})
        command = [sys.executable, "-m", module, told]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = host.popen(*command, cwd=ROOT, **pipes)
        threading.Thread(target=self._read, daemon=True).start()
        self._ready: Event | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it listens, loopback left out."""
        if self._ready is None:
            self._ready = self.wait("ready", START_S)
        return [a for a in self._ready["addresses"] if not a.startswith(("127.", "[::1]", "[fe80:"))]

    @property
    def ready_at(self) -> float:
        """When it was ready, on the machine's monotonic clock."""
        assert self.addresses
        return float(self.events[0]["at"])

    @property
    def port(self) -> int:
        """The UDP port of its IPv4 addresses."""
        return int(next(a for a in self.addresses if "[" not in a).rpartition(":")[2])

    def tell(self, do: str, **facts: Any) -> int:
        """Give a command; returns the `id` that its events will have."""
        number = next(self._ids)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, "id": number, **facts}).encode() + b"\n")
        self.process.stdin.flush()
        return number

    def wait(
        self,
        event: str,
        timeout_s: float,
        *,
        id: int | None = None,
        where: Callable[[Event], bool] | None = None,
    ) -> Event:
        """The first event of that name, past or to come; LabError when there is none in time or it failed."""
        until = time.monotonic() + timeout_s
        at = 0
        while True:
            while at < len(self.events):
                seen, at = self.events[at], at + 1
                if id is not None and seen.get("id") != id:
                    continue
                if seen["event"] == event and (where is None or where(seen)):
                    return seen
                if id is not None and seen["event"] == "failed":
                    raise LabError(f"peer {self.number} on {self.host}: {seen['error']}")
            try:
                found = self._arrived.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise LabError(self._missing(event, timeout_s)) from None
            if found is None:
                raise LabError(f"{self._missing(event, timeout_s)}; it ended with {self.process.wait()}")
            self.events.append(found)

    def drain(self) -> list[Event]:
        """All events until now."""
        while not self._arrived.empty():
            if (found := self._arrived.get()) is not None:
                self.events.append(found)
        return self.events

    def seen_at(self, other: "RemotePeer", timeout_s: float) -> str:
        """The address under which this peer sees `other`, once connected directly."""
        event = self.wait(
            "path", timeout_s, where=lambda e: e["peer"] == other.peer_id and e["kind"] == "direct"
        )
        return str(event["remote"])

    def finds(self, other: "RemotePeer", timeout_s: float) -> Event:
        """Wait until `other` appeared on the local network."""
        return self.wait("found", timeout_s, where=lambda e: e["peer"] == other.peer_id)

    def stop(self) -> None:
        """End it in order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)

    def kill(self) -> None:
        """End it without a word, as a power cut does."""
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arrived.put(json.loads(line))
        self._arrived.put(None)

    def _missing(self, event: str, timeout_s: float) -> str:
        last = self.events[-3:]
        return f"peer {self.number} on {self.host} said nothing of '{event}' in {timeout_s:g} s; last: {last}"
