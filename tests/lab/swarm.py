"""One computer has a file, many want it, and their uplinks are slow: how long until the last one has it?

python -m tests.lab swarm [--client ours|libtorrent|chain] [--case plain|killed|lossy|leaving] [--repeat N]

The bound is that of fluid distribution (Kumar and Ross, "Peer-Assisted File Distribution: The Minimum Distribution
Time", 2006): max(F/u_s, F/d_min, N*F/(u_s + sum of u_i)), of the links' own rates, packet headers and all.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import blake3

from tests.lab.lab import Host, Lab
from tests.lab.namespace import LabError
from tests.lab.remote import RemotePeer
from tests.lab.slow_links import HEADERS, Line, SlowLinks

POLL_S = 0.05
READY_S = 180.0  # guess: nine programs starting at once on a busy machine
GIVE_UP = 10  # times the bound
KILLED_PART = 0.3
KILLED_AT = 0.4  # of the file, on average over the receivers
BACK_AFTER_S = 5.0
LEAVES_AFTER = 1.05  # copies sent
CHECK_AT_LEAST = 0.85  # of what the sender's link carries, by one plain TCP transfer without loss
JIFFIES = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

MODULES = {"ours": "tests.lab.peer", "libtorrent": "tests.lab.torrent_peer", "chain": "tests.lab.chain_peer"}
CLIENTS = tuple(MODULES)
CASES = ("plain", "killed", "lossy", "leaving")
CHAIN_CASES = ("plain",)  # nobody may leave a chain


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    receivers: int = 8
    file_bytes: int = 100_000_000
    seeder_up: float = 40.0  # Mbit/s, as all
    up: float = 40.0
    down: float = 80.0

    @property
    def bound_s(self) -> float:
        """The least time in which all can have it."""
        mbit = 8e-6 * self.file_bytes
        together = self.seeder_up + self.receivers * self.up
        return max(mbit / self.seeder_up, mbit / self.down, self.receivers * mbit / together)


FULL = Size()
SMALL = Size(receivers=3, file_bytes=8_000_000)


@dataclass
class Outcome:
    """What one run showed."""

    client: str
    case: str
    size: Size
    plain_tcp: float  # Mbit/s before it began
    done_s: list[float] = field(default_factory=list)  # when each receiver was done, in order
    held: list[float] = field(default_factory=list)  # what part of the file those have that are not
    copies: float = 0.0  # that the seeder sent, headers taken off
    uplink: float = 0.0  # what part of all uplinks was used until the last was done
    cpu_cores: float = 0.0  # that our programs used, on average
    machine_busy: float = 0.0  # of all cores, whoever used them
    waiting: float = 0.0  # threads of our programs that had work and no core, on average

    @property
    def is_complete(self) -> bool:
        """Whether everybody has it."""
        return len(self.done_s) == self.size.receivers

    @property
    def ratio(self) -> float:
        """The last one's time, against the bound."""
        return self.done_s[-1] / self.size.bound_s if self.is_complete else float("inf")

    def told(self) -> str:
        """One line for people."""
        last = (
            f"{self.done_s[-1]:.1f} s = {self.ratio:.2f} x {self.size.bound_s:.1f} s"
            if self.is_complete
            else (
                f"NOT COMPLETE, {len(self.done_s)} of {self.size.receivers} done, others hold "
                f"{min(self.held, default=0):.0%} to {max(self.held, default=0):.0%}"
            )
        )
        return (
            f"{self.client} {self.case}: {last}; seeder {self.copies:.2f} copies, uplinks {self.uplink:.0%}, "
            f"CPU {self.cpu_cores:.2f} cores of ours, machine {self.machine_busy:.0%}, "
            f"{self.waiting:.1f} threads waiting for a core, plain TCP {self.plain_tcp:.1f}"
        )


def line_of(case: str) -> Line:
    """The network of a case."""
    return Line(rtt_s=0.1, loss=0.02) if case == "lossy" else Line(rtt_s=0.02)


class Run:
    """The computers and programs of one run."""

    def __init__(self, lab: Lab, client: str, case: str, *, size: Size, folder: Path) -> None:
        self._client, self._case, self._size, self._folder = client, case, size, folder
        self._links = SlowLinks(lab, line_of(case))
        self._hosts = [self._host("seeder", size.seeder_up)]
        self._hosts += [self._host(f"receiver-{n}", size.up) for n in range(1, size.receivers + 1)]
        self._seeder: RemotePeer | None = None
        self._ticket = ""
        self._receivers: list[RemotePeer] = []
        self._held = [0] * size.receivers
        self._done: dict[int, float] = {}
        self._back: dict[int, float] = {}  # those that are off: when they come back
        self._digest = ""
        self._cpu_of_dead = 0.0
        self._has_struck = False

    def check(self) -> float:
        """The rate of a plain transfer, Mbit/s; LabError when it is not what the links should give."""
        found = self._links.measured(*self._hosts[:2])
        least = CHECK_AT_LEAST * self._size.seeder_up / HEADERS
        if not least <= found <= self._size.seeder_up and self._case != "lossy":
            raise LabError(f"plain TCP runs at {found:.1f} Mbit/s: this laboratory measures nothing now")
        return found

    def go(self, outcome: Outcome) -> None:
        """All of it; what it shows goes into `outcome`."""
        self._start_programs()
        begun, machine, cpu = time.monotonic(), _machine(), self._cpu()
        waited = self._waited()
        sent = self._links.sent()
        for receiver in self._receivers:
            self._ask(receiver)
        until = begun + GIVE_UP * self._size.bound_s
        while len(self._done) < self._size.receivers and time.monotonic() < until:
            time.sleep(POLL_S)
            self._look()
            self._strike(sent["seeder"])
        took_s = time.monotonic() - begun
        gone = {name: now - sent[name] for name, now in self._links.sent().items()}
        outcome.done_s = sorted(at - begun for at in self._done.values())
        outcome.held = [
            held / self._size.file_bytes for n, held in enumerate(self._held) if n not in self._done
        ]
        outcome.copies = gone["seeder"] / HEADERS / self._size.file_bytes
        links = 1e6 / 8 * (self._size.seeder_up + self._size.receivers * self._size.up)
        outcome.uplink = sum(gone.values()) / links / took_s
        outcome.cpu_cores = (self._cpu() - cpu) / took_s
        outcome.waiting = max(0.0, self._waited() - waited) / took_s
        busy, every = (now - before for now, before in zip(_machine(), machine, strict=True))
        outcome.machine_busy = busy / every

    def _host(self, name: str, up: float) -> Host:
        return self._links.host(name, up_mbit_per_s=up, down_mbit_per_s=self._size.down)

    def _start_programs(self) -> None:
        data = Random(7).randbytes(self._size.file_bytes)
        self._digest = blake3.blake3(data).hexdigest()
        path = self._folder / "file"
        path.write_bytes(data)
        seeder = self._seeder = self._program(0)
        self._ticket = seeder.wait("shared", READY_S, id=seeder.tell("share", path=str(path)))["ticket"]
        self._receivers = [self._program(n) for n in range(1, self._size.receivers + 1)]
        for receiver in self._receivers:
            receiver.wait("ready", READY_S)

    def _program(self, number: int, key: int | None = None) -> RemotePeer:
        host = self._hosts[number]
        settings = {
            "folder": str(self._folder / f"{number}"),
            "ip": host.ip,
            "place": number,
            "follows": False,
        }
        return RemotePeer(host, module=MODULES[self._client], number=key, **settings)

    def _ask(self, receiver: RemotePeer) -> None:
        others = [host.ip for host in self._hosts if host is not receiver.host]
        receiver.tell("get", ticket=self._ticket, peers=others)

    def _look(self) -> None:
        """Hear the receivers."""
        for n, receiver in enumerate(self._receivers):
            if n in self._back or n in self._done:
                continue
            events = receiver.drain()
            if receiver.process.poll() is not None:
                raise LabError(f"{receiver.host.name} ended with {receiver.process.returncode}")
            for event in events:
                match event["event"]:
                    case "progress":
                        self._held[n] = event["bytes"]
                    case "fetched":
                        if event["digest"] != self._digest:
                            raise LabError(f"{receiver.host.name} has another file")
                        self._done[n] = event["done_at"]
                    case "failed":
                        raise LabError(f"{receiver.host.name}: {event['error']}")
            events.clear()

    def _strike(self, sent_before: int) -> None:
        """What the case does to them."""
        now = time.monotonic()
        if not self._has_struck:
            if self._case == "killed":
                self._kill_some(now)
            elif self._case == "leaving":
                copies = (self._links.sent()["seeder"] - sent_before) / HEADERS / self._size.file_bytes
                if copies >= LEAVES_AFTER and self._seeder is not None:
                    self._kill(self._seeder)
                    self._has_struck = True
        for n in [n for n, at in self._back.items() if at <= now]:
            del self._back[n]
            self._receivers[n] = self._program(n + 1, self._receivers[n].number)
            self._ask(self._receivers[n])

    def _kill_some(self, now: float) -> None:
        if sum(self._held) < KILLED_AT * self._size.file_bytes * self._size.receivers:
            return
        self._has_struck = True
        for n in range(max(1, round(KILLED_PART * self._size.receivers))):
            if n not in self._done:
                self._kill(self._receivers[n])
                self._back[n] = now + BACK_AFTER_S

    def _kill(self, program: RemotePeer) -> None:
        self._cpu_of_dead += _cpu_s(program.process.pid)
        program.kill()

    def _waited(self) -> float:
        """Seconds in which threads of programs that run now had work and no core."""
        running = [p for p in (self._seeder, *self._receivers) if p is not None and p.process.poll() is None]
        return sum(_waited_s(p.process.pid) for p in running)

    def _cpu(self) -> float:
        """Seconds of processor time of all programs so far."""
        programs = [p for p in (self._seeder, *self._receivers) if p is not None]
        return self._cpu_of_dead + sum(_cpu_s(p.process.pid) for p in programs if p.process.poll() is None)


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / JIFFIES


def _waited_s(process: int) -> float:
    """The second field of schedstat, of each thread (Linux, Documentation/scheduler/sched-stats.rst)."""
    found = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += int((thread / "schedstat").read_text(encoding="ascii").split()[1])
    return found / 1e9


def _machine() -> tuple[float, float]:
    """(busy, all) seconds of all cores since the machine was started."""
    fields = [int(f) for f in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / JIFFIES, sum(fields) / JIFFIES


def measure(client: str, case: str, size: Size = FULL, *, say: Callable[[str], None] = print) -> Outcome:
    """One run, from an empty laboratory."""
    with Lab() as lab, TemporaryDirectory(prefix="coterie-swarm-") as folder:
        run = Run(lab, client, case, size=size, folder=Path(folder))
        outcome = Outcome(client, case, size, run.check())
        run.go(outcome)
    say(outcome.told())
    return outcome
