"""One computer gets a file from another over a line of a kind: how long, of what the line itself would take?

python -m tests.lab line NAME... [--repeat N] [--client ours|libtorrent|tcp] [--write]

`fair` gives one plain TCP the same line, from the same computer to the same, while a file comes; `killed` kills the
receiver as often as twenty times in 2 GB. Each run is printed, then the median; --write puts that into the table of
docs/performance.md. A case with `up_limit` has a limit set by the user, which is then the line.

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

from tests.lab.lab import Host, Lab
from tests.lab.namespace import LabError
from tests.lab.remote import RemotePeer
from tests.lab.slow_links import CHECK_SKIP_S, Line, SlowLinks

READY_S = 180.0
GIVE_UP = 12  # times the line's own time
BLOCK_BYTES = 1 << 24
GIVE_UP_S = 60.0  # and at least


OURS = "ours"
MODULES = {OURS: "tests.lab.peer", "libtorrent": "tests.lab.torrent_peer", "tcp": "tests.lab.chain_peer"}


@dataclass(frozen=True)
class Case:
    """A line, and how many files of how many bytes go over it. `goal`: times the line's own time.

    `up_limit`: bytes a second that the giver's owner allows; 0: any number. `about`: the line, for people.
    """

    mbit_per_s: float
    goal: float
    file_bytes: int
    files: int = 1
    line: Line = field(default_factory=Line)
    up_limit: int = 0
    about: str = ""

    @property
    def own_s(self) -> float:
        """What the line itself takes, or the limit."""
        rate = self.up_limit or 1e6 / 8 * self.mbit_per_s
        return self.file_bytes * self.files / rate


FAIR = "fair"
FAIR_LINE = "ocean-long"
FAIR_AFTER_S = 4.0  # ours is at its full rate
FAIR_S = 24.0  # TCP itself takes ten to find its share
FAIR_GOAL = 0.3  # of the line, for the plain TCP

KILLED = "killed"
KILLED_LINE = "ocean-long"
KILLS = 5  # in 500 MB: as twenty in 2 GB
KILLED_GOAL = 0.01  # of the file
TRIED_S = 0.3  # for what is on its way when a receiver is killed, to arrive

CASES = {
    "ocean": Case(100, 1.25, 100_000_000, line=Line(rtt_s=0.15), about="100 Mbit/s, 150 ms, 100 MB"),
    "ocean-long": Case(100, 1.10, 500_000_000, line=Line(rtt_s=0.15), about="the same, 500 MB"),
    "ocean-lossy": Case(
        100,
        1.3,
        100_000_000,
        line=Line(rtt_s=0.15, loss=0.005),
        about="100 MB, 0.5 % of packets lost each way",
    ),
    "satellite": Case(
        20, 1.8, 20_000_000, line=Line(rtt_s=0.6, loss=0.01), about="20 Mbit/s, 600 ms, 1 % lost, 20 MB"
    ),
    "city": Case(200, 1.08, 150_000_000, line=Line(rtt_s=0.02), about="200 Mbit/s, 20 ms, 150 MB"),
    "slow": Case(0.2, 1.15, 3_000_000, about="0.2 Mbit/s, 3 MB"),
    "photos": Case(0.5, 1.15, 300_000, files=20, about="0.5 Mbit/s, 20 files of 300 kB"),
    "tiny": Case(0.128, 1.15, 500, files=1_000, about="0.128 Mbit/s, 1,000 files of 500 bytes"),
    "modem": Case(0.016, 1.15, 200_000, about="16 kbit/s, 200 kB"),
    "limited": Case(100, 1.15, 1_500_000, up_limit=20_000, about="`limits --up 20000`, 1.5 MB"),
    "small-packets": Case(100, 1.25, 60_000_000, line=Line(mtu=1280), about="a router with MTU 1280, 60 MB"),
    "middle-packets": Case(100, 1.25, 60_000_000, line=Line(mtu=1400), about="the same, MTU 1400"),
    "far": Case(2, 4.0, 2_000_000, line=Line(rtt_s=2.0), about="2 Mbit/s, round trips of 2 s, 2 MB"),
    "very-far": Case(2, 8.0, 2_000_000, line=Line(rtt_s=5.0), about="2 Mbit/s, round trips of 5 s, 2 MB"),
}


@dataclass(frozen=True)
class Outcome:
    """What one run showed."""

    name: str
    took_s: float
    client: str = OURS
    received_bytes: int = 0  # by the receiver's link, headers and all

    @property
    def ratio(self) -> float:
        """Of the time, to what the line itself takes."""
        return self.took_s / CASES[self.name].own_s

    def told(self) -> str:
        """One line for people."""
        case = CASES[self.name]
        who = self.name if self.client == OURS else f"{self.name}, {self.client}"
        return f"{who}: {self.took_s:.1f} s = {self.ratio:.2f} x {case.own_s:.1f} s (goal {case.goal:.2f})"


def measure(name: str, client: str = OURS) -> Outcome:
    """Play one case; LabError when the file does not come, or another comes."""
    case = CASES[name]
    with _sharing(case, client) as (_, giver, taker, ticket, digest):
        before, begun = _received(taker), time.monotonic()
        asked = taker.tell("get", ticket=ticket, peers=[giver.host.ip])
        patience_s = max(GIVE_UP_S, GIVE_UP * case.own_s)
        done = taker.wait("fetched", patience_s, id=asked if client == OURS else None)
        if case.files == 1 and done["digest"] != digest:
            raise LabError("another file came")
        return Outcome(name, done["done_at"] - begun, client, _received(taker) - before)


def measure_killed() -> str:
    """What comes again when the receiver is killed (-9) every hundred megabytes, told for people.

    Counted is what had come when it was killed: what is on its way then, a round trip of the line, is lost with any.
    """
    case, random = CASES[KILLED_LINE], Random(7)
    plain = measure("ocean").received_bytes / CASES["ocean"].file_bytes  # what headers and losses add
    came = on_the_way = 0
    with _sharing(case) as (_, giver, first, ticket, digest):
        begun, taker = time.monotonic(), first
        for kill in range(KILLS + 1):
            before = _received(taker)
            asked = taker.tell("get", ticket=ticket, peers=[giver.host.ip])
            if kill == KILLS:
                done = taker.wait("fetched", GIVE_UP * case.own_s, id=asked)
                came += _received(taker) - before
                break
            goal = case.file_bytes * (kill + random.random()) / (KILLS + 1)
            taker.wait("progress", GIVE_UP * case.own_s, where=lambda e: e["bytes"] >= goal)  # noqa: B023
            killed = _received(taker)
            taker.kill()
            came += killed - before
            time.sleep(TRIED_S)
            on_the_way += _received(taker) - killed
            taker = RemotePeer(taker.host, number=taker.number, **taker.settings)
            taker.wait("ready", READY_S)
        took_s = done["done_at"] - begun
    if done["digest"] != digest:
        raise LabError("another file came")
    again = came / plain / case.file_bytes - 1
    return (
        f"{KILLED}: {again:.2%} came again after {KILLS} kills in {case.file_bytes / 1e6:.0f} MB (goal "
        f"{KILLED_GOAL:.0%}), {on_the_way / plain / case.file_bytes:.2%} was on its way; {took_s:.0f} s"
    )


def _received(taker: RemotePeer) -> int:
    """Bytes that came to its computer so far."""
    lines = taker.host.namespace.read("/proc/thread-self/net/dev").splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == "eth0:")


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
def _sharing(case: Case, client: str = OURS) -> Iterator[tuple[SlowLinks, RemotePeer, RemotePeer, str, str]]:
    """The line, who gives and who takes, the ticket, and the digest of what is given."""
    with Lab() as lab, TemporaryDirectory() as folder:
        links = SlowLinks(lab, case.line)
        rate = case.mbit_per_s
        hosts = [links.host(who, up_mbit_per_s=rate, down_mbit_per_s=rate) for who in ("giver", "taker")]
        giver, taker = (
            _program(host, client, folder=f"{folder}/{host.name}", place=place)
            for place, host in enumerate(hosts)
        )
        path = Path(folder) / "given"
        digest = _write(path, case)
        giver.wait("ready", READY_S)
        taker.wait("ready", READY_S)
        if case.up_limit:
            giver.wait("limited", READY_S, id=giver.tell("limit", up=case.up_limit))
        giver.tell("share", path=str(path))
        ticket = giver.wait("shared", READY_S)["ticket"]
        yield links, giver, taker, ticket, digest


def _program(host: Host, client: str, *, folder: str, place: int) -> RemotePeer:
    """`place`: of one plain TCP connection, whose first end has the file."""
    Path(folder).mkdir()
    settings = {"folder": folder, "ip": host.ip, "follows": False, "place": place}
    return RemotePeer(host, module=MODULES[client], number=None, **settings)


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
