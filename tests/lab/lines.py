"""One computer gets a file from another over a line of a kind: how long, of what the line itself would take?

python -m tests.lab line NAME...

`fair` gives one plain TCP the same line, from the same computer to the same, while a file comes.

What the line itself would take is the file's bytes at its rate, without packet headers.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import blake3

from tests.lab.lab import Lab
from tests.lab.namespace import LabError
from tests.lab.remote import RemotePeer
from tests.lab.slow_links import CHECK_SKIP_S, Line, SlowLinks

READY_S = 180.0
GIVE_UP = 12  # times the line's own time
BLOCK_BYTES = 1 << 24
GIVE_UP_S = 60.0  # and at least


@dataclass(frozen=True)
class Case:
    """A line, and how many files of how many bytes go over it. `goal`: times the line's own time."""

    mbit_per_s: float
    goal: float
    file_bytes: int
    files: int = 1
    line: Line = field(default_factory=Line)

    @property
    def own_s(self) -> float:
        """What the line itself takes."""
        return 8e-6 * self.file_bytes * self.files / self.mbit_per_s


FAIR = "fair"
FAIR_LINE = "ocean-long"
FAIR_AFTER_S = 4.0  # ours is at its full rate
FAIR_S = 24.0  # TCP itself takes ten to find its share
FAIR_GOAL = 0.3  # of the line, for the plain TCP

CASES = {
    "ocean": Case(100, 1.25, 100_000_000, line=Line(rtt_s=0.15)),
    "ocean-long": Case(100, 1.10, 500_000_000, line=Line(rtt_s=0.15)),
    "ocean-lossy": Case(100, 1.3, 100_000_000, line=Line(rtt_s=0.15, loss=0.005)),
    "satellite": Case(20, 1.8, 20_000_000, line=Line(rtt_s=0.6, loss=0.01)),
    "city": Case(200, 1.08, 150_000_000, line=Line(rtt_s=0.02)),
    "slow": Case(0.2, 1.15, 3_000_000),
    "photos": Case(0.5, 1.15, 300_000, files=20),
    "tiny": Case(0.128, 1.15, 500, files=1_000),
    "modem": Case(0.016, 1.15, 200_000),
    "small-packets": Case(100, 1.25, 60_000_000, line=Line(mtu=1280)),
    "middle-packets": Case(100, 1.25, 60_000_000, line=Line(mtu=1400)),
    "far": Case(2, 4.0, 2_000_000, line=Line(rtt_s=2.0)),
    "very-far": Case(2, 8.0, 2_000_000, line=Line(rtt_s=5.0)),
}


@dataclass(frozen=True)
class Outcome:
    """What one run showed."""

    name: str
    took_s: float

    @property
    def ratio(self) -> float:
        """Of the time, to what the line itself takes."""
        return self.took_s / CASES[self.name].own_s

    def told(self) -> str:
        """One line for people."""
        case = CASES[self.name]
        return (
            f"{self.name}: {self.took_s:.1f} s = {self.ratio:.2f} x {case.own_s:.1f} s (goal {case.goal:.2f})"
        )


def measure(name: str) -> Outcome:
    """Play one case; LabError when the file does not come, or another comes."""
    case = CASES[name]
    with _sharing(case) as (_, giver, taker, ticket, digest):
        begun = time.monotonic()
        asked = taker.tell("get", ticket=ticket, peers=[giver.host.ip])
        done = taker.wait("fetched", max(GIVE_UP_S, GIVE_UP * case.own_s), id=asked)
        if case.files == 1 and done["digest"] != digest:
            raise LabError("another file came")
        return Outcome(name, done["done_at"] - begun)


def measure_fair() -> str:
    """What one plain TCP gets beside ours, told for people."""
    case = CASES[FAIR_LINE]
    with _sharing(case) as (links, giver, taker, ticket, _):
        taker.tell("get", ticket=ticket, peers=[giver.host.ip])
        time.sleep(FAIR_AFTER_S)
        begun = time.monotonic() + CHECK_SKIP_S
        both = links.measured(giver.host, taker.host, seconds=FAIR_S) / case.mbit_per_s
        seen = [event for event in taker.drain() if event["event"] == "progress" and event["at"] >= begun]
        ours = (
            8e-6 * (seen[-1]["bytes"] - seen[0]["bytes"]) / (seen[-1]["at"] - seen[0]["at"]) / case.mbit_per_s
        )
    return f"{FAIR}: a plain TCP got {both - ours:.2f} of the line (goal {FAIR_GOAL}), ours {ours:.2f}"


@contextmanager
def _sharing(case: Case) -> Iterator[tuple[SlowLinks, RemotePeer, RemotePeer, str, str]]:
    """The line, who gives and who takes, the ticket, and the digest of what is given."""
    with Lab() as lab, TemporaryDirectory() as folder:
        links = SlowLinks(lab, case.line)
        rates = {"up_mbit_per_s": case.mbit_per_s, "down_mbit_per_s": case.mbit_per_s}
        giver, taker = (
            RemotePeer(
                links.host(who, **rates), number=None, folder=f"{folder}/{who}", ip=None, follows=False
            )
            for who in ("giver", "taker")
        )
        path = Path(folder) / "given"
        digest = _write(path, case)
        giver.wait("ready", READY_S)
        taker.wait("ready", READY_S)
        ticket = giver.wait("shared", READY_S, id=giver.tell("share", path=str(path)))["ticket"]
        yield links, giver, taker, ticket, digest


def _write(path: Path, case: Case) -> str:
    """The file, or the folder of files; the digest of the file."""
    random = Random(7)
    if case.files == 1:
        hasher = blake3.blake3()
        with path.open("wb") as file:
            for at in range(0, case.file_bytes, BLOCK_BYTES):
                data = random.randbytes(min(BLOCK_BYTES, case.file_bytes - at))
                hasher.update(data)
                file.write(data)
        return str(hasher.hexdigest())
    path.mkdir()
    for number in range(case.files):
        (path / f"{number:05}").write_bytes(random.randbytes(case.file_bytes))
    return ""
