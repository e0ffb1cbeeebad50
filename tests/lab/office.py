"""A day in an office of twelve computers, everything at once: python -m tests.lab office [SECONDS] [SEED].

One circle. Anna has the printer, Ben a disk with the tools, Carl the way to the internet, Dora the live folder of the
plans, Emil the handbook, Frida the intranet; all twelve print, read, browse, write and fetch through their own node.
Computers are killed, their cables pulled, the printer is switched off and on. In the afternoon Ben leaves the circle
and goes home: what only he had is gone with a clear word, everything else goes on.
"""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.apps.printers.fake_printer import a_pdf
from tests.lab import nat
from tests.lab.lab import ROUTABLE, Host, Lab
from tests.lab.namespace import LabError
from tests.lab.nodes import LabNode

NAMES = ("anna", "ben", "carl", "dora", "emil", "frida", "gerd", "hanna", "ida", "jan", "karl", "lena")
IMAGE_BYTES = 2_000_000
HANDBOOK_BYTES = 500_000
DAY_S = 90.0
TROUBLE_EVERY_S = 6.0  # guess: each node is killed or unplugged about once in a day
AWAY_S = 3.0
LEAVES_AT = 0.6  # of the day
EVENING_S = 120.0  # in which all that was under way comes to its end
POLL_S = 1.0
PROGRAM_S = 60.0
PRINTER_PORT = 8631
WIKI_PORT = 8080
T = TypeVar("T")
PAGE = b"the page of the world"
WIKI = b"the page of the office"


@dataclass
class Day:
    """What happened."""

    done: Counter[str] = field(default_factory=Counter)
    refused: dict[str, list[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)
    """The digest of each document that was handed in: by whom."""
    written: dict[str, bytes] = field(default_factory=dict)
    """The files of the plans."""


class Office:
    """Twelve nodes behind one router, and the world with a web server."""

    def __init__(self, lab: Lab, folder: Path, seed: int, size: int = len(NAMES)) -> None:
        """`size`: how many of `NAMES` work there, six at least."""
        self.folder, self.random, self.day = folder, random.Random(seed), Day()
        self.names = NAMES[:size]
        self.web = lab.public("web")
        router = lab.nat(nat.EASY)
        self.nodes = {name: LabNode(router.host(name), folder) for name in self.names}
        self.paper = folder / "paper"
        self.away: set[str] = set()
        self.has_left: set[str] = set()
        self._printer: subprocess.Popen[bytes] | None = None
        self._proxies: dict[str, str] = {}
        self._wikis: dict[str, str] = {}
        self._sockets: dict[str, str] = {}

    # in the morning

    def open(self) -> None:
        """All start, all are in the circle, everybody offers what he has and takes what the others offer."""
        serve(self.web, self.folder / "world", PAGE, 80)
        serve(self.nodes["frida"].host, self.folder / "intranet", WIKI, WIKI_PORT)
        self.switch_printer_on()
        self._each(lambda name: self.nodes[name].up())
        anna = self.nodes["anna"]
        anna("circle", "new", "office")
        for name in self.names[1:]:
            let_in(anna, self.nodes[name])
        (self.folder / "tools.img").write_bytes(random.Random(1).randbytes(IMAGE_BYTES))
        (self.folder / "handbook").write_bytes(random.Random(2).randbytes(HANDBOOK_BYTES))
        anna(
            "printer", "share", f"ipp://127.0.0.1:{PRINTER_PORT}/ipp/print", "--as", "laser", "--to", "office"
        )
        self.nodes["ben"]("disk", "share", str(self.folder / "tools.img"), "--as", "tools", "--to", "office")
        self.nodes["carl"]("internet", "share", "--to", "office")
        self.nodes["emil"]("share", str(self.folder / "handbook"), "--to", "office")
        self.nodes["frida"]("expose", str(WIKI_PORT), "--as", "wiki", "--to", "office")
        self.nodes["dora"]("folder", "new", str(self.plans("dora")), "--with", "office")
        self._each(self._take)

    def _take(self, name: str) -> None:
        node = self.nodes[name]
        if name != "dora":
            eventually(lambda: node("folder", "join", "plans", str(self.plans(name)), "--yes"))
        if name != "carl":
            self._proxies[name] = eventually(lambda: node.result("internet", "use", "carl"))["proxy"]
        if name != "ben":
            self._sockets[name] = eventually(lambda: node.result("disk", "attach", "ben/tools"))["uri"]
        if name != "frida":
            self._wikis[name] = eventually(lambda: node.result("connect", "frida/wiki"))["address"]

    def _each(self, do: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(2) as pool:  # as many as there are cores
            list(pool.map(do, self.names))

    def plans(self, name: str) -> Path:
        """The live folder of this computer."""
        return self.folder / f"{name}-desk" / "plans"

    # devices

    def switch_printer_on(self) -> None:
        """It prints on `paper`: a line for each document."""
        words = (sys.executable, "-m", "tests.lab.office_printer", str(PRINTER_PORT), str(self.paper))
        self._printer = self.nodes["anna"].host.popen(*words, stdout=subprocess.PIPE)
        assert self._printer.stdout is not None
        assert self._printer.stdout.readline(), "the printer does not start"

    def switch_printer_off(self) -> None:
        """As by its switch."""
        assert self._printer is not None
        self._printer.send_signal(signal.SIGKILL)
        self._printer.wait()

    # what people do

    def print(self, name: str, number: int) -> None:
        """Hand a document in."""
        document = a_pdf(1, f"{name} {number}")
        path = self.folder / f"{name}-{number}.pdf"
        path.write_bytes(document)
        self.day.sent[hashlib.sha256(document).hexdigest()] = name
        self.nodes[name]("print", str(path), "anna/laser", "--no-wait")

    def read_disk(self, name: str, number: int) -> None:
        """Copy Ben's whole disk."""
        if name == "ben":
            return
        copy = self.folder / f"{name}-{number}.img"
        self._program(name, "nbdcopy", self._sockets[name], str(copy))
        self._same(name, "disk", copy.read_bytes(), (self.folder / "tools.img").read_bytes())
        copy.unlink()

    def browse(self, name: str, _number: int) -> None:
        """A page of the world, by Carl's way."""
        if name == "carl":
            return
        proxy = f"socks5h://{self._proxies[name]}"
        got = self._program(
            name, "curl", "-sSf", "--max-time", "30", "--proxy", proxy, f"http://{self.web.ip}/"
        )
        self._same(name, "internet", got, PAGE)

    def ask_intranet(self, name: str, _number: int) -> None:
        """The page of the office."""
        if name == "frida":
            return
        got = self._program(name, "curl", "-sSf", "--max-time", "30", f"http://{self._wikis[name]}/")
        self._same(name, "intranet", got, WIKI)

    def write_plan(self, name: str, number: int) -> None:
        """A new file in the live folder."""
        text = os.urandom(2000)
        (self.plans(name) / f"{name} {number}.txt").write_bytes(text)
        self.day.written[f"{name} {number}.txt"] = text

    def fetch(self, name: str, number: int) -> None:
        """Emil's handbook."""
        if name == "emil":
            return
        target = self.folder / f"{name}-{number}-handbook"
        self.nodes[name]("get", "emil/handbook", str(target))
        self._same(name, "handbook", target.read_bytes(), (self.folder / "handbook").read_bytes())
        target.unlink()

    def _program(self, name: str, *words: str) -> bytes:
        namespace = self.nodes[name].host.namespace
        done = namespace.call(
            lambda: subprocess.run(words, capture_output=True, timeout=PROGRAM_S, check=False)
        )
        if done.returncode:
            raise LabError(f"{name}: {words[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def _same(self, name: str, what: str, got: bytes, right: bytes) -> None:
        if got != right:
            self.day.wrong.append(f"{name} got {len(got)} bytes of the {what}, not what is there")

    # the day

    def work(self, name: str, until: float, seed: int) -> None:
        """What one person does until then."""
        chance = random.Random(seed)
        number = 0
        while time.monotonic() < until and name not in self.has_left:
            number += 1
            if name in self.away:
                time.sleep(POLL_S)
                continue
            do = chance.choice(DEEDS)
            try:
                do(self, name, number)
                self.day.done[do.__name__] += 1
            except LabError as error:  # a clear refusal; whether it was due is looked at in the evening
                self.day.refused.setdefault(do.__name__, []).append(str(error).replace("\n", " "))
            except subprocess.TimeoutExpired as error:
                self.day.wrong.append(f"{name}: {do.__name__} hung: {error}")
            time.sleep(chance.random() * POLL_S)

    def trouble(self, until: float) -> None:
        """Something goes wrong now and then, never at two computers at once."""
        while time.monotonic() < until - TROUBLE_EVERY_S:
            time.sleep(TROUBLE_EVERY_S * self.random.random())
            name = self.random.choice([one for one in self.names if one not in self.has_left])
            kind = self.random.choice(("killed", "unplugged", "printer off"))
            self.day.done[kind] += 1
            with self._gone(name if kind != "printer off" else ""):
                self._break(kind, name)

    @contextlib.contextmanager
    def _gone(self, name: str) -> Iterator[None]:
        self.away.add(name)
        try:
            yield
        finally:
            self.away.discard(name)

    def _break(self, kind: str, name: str) -> None:
        node = self.nodes[name]
        if kind == "printer off":
            self.switch_printer_off()
            time.sleep(AWAY_S)
            self.switch_printer_on()
        elif kind == "unplugged":
            assert node.host.cable is not None
            node.host.cable.cut()
            time.sleep(AWAY_S)
            node.host.cable.restore()
            node.host.run("ip", "route", "replace", "default", "via", node.host.cable.switch.ip)
        elif node.process is not None:
            node.process.kill()
            node.process.wait()
            time.sleep(AWAY_S)
            node.up()

    def leave(self, name: str, at: float) -> None:
        """The owner of something leaves the circle, and goes."""
        time.sleep(max(0.0, at - time.monotonic()))
        while name in self.away:
            time.sleep(POLL_S)
        self.has_left.add(name)
        self.nodes[name]("circle", "leave", "office")
        self.nodes[name].down()
        self.day.done["left"] += 1

    def live(self, seconds: float) -> None:
        """The whole day."""
        began = time.monotonic()
        until = began + seconds
        threads = [
            threading.Thread(target=self.work, args=(name, until, self.random.randrange(1 << 30)))
            for name in self.names
        ]
        threads.append(threading.Thread(target=self.trouble, args=(until,)))
        threads.append(threading.Thread(target=self.leave, args=("ben", began + LEAVES_AT * seconds)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # in the evening

    def close(self) -> list[str]:
        """What is not as it must be, when all that was under way has come to its end."""
        stay = [name for name in self.names if name not in self.has_left]
        found = list(self.day.wrong)
        found += waited(lambda: self._unprinted(stay))
        found += waited(lambda: self._unequal(stay))
        paper = Counter(self._on_paper())
        found += [f"printed {count} times: {digest}" for digest, count in paper.items() if count > 1]
        found += [
            f"printed, handed in by nobody: {digest}" for digest in paper if digest not in self.day.sent
        ]
        for name in stay:
            found += self._evening_of(name)
        return found

    def _evening_of(self, name: str) -> list[str]:
        """Ben's disk is gone with a clear word; what the others have is there."""
        found = []
        for deed in (Office.browse, Office.ask_intranet, Office.fetch):
            try:
                deed(self, name, 0)
            except LabError as error:
                found.append(f"in the evening: {error}")
        began = time.monotonic()
        try:
            self.read_disk(name, 0)
            found.append(f"{name} reads the disk of who has left")
        except LabError as error:
            if not str(error).strip() or time.monotonic() - began > PROGRAM_S / 2:
                found.append(f"{name}: no clear word of the disk that is gone: {error}")
        return found

    def _on_paper(self) -> list[str]:
        return self.paper.read_text().split() if self.paper.exists() else []

    def _unprinted(self, stay: list[str]) -> list[str]:
        """Documents that neither lie on paper nor are reported to who handed them in."""
        missing = set(self.day.sent) - set(self._on_paper())
        reported: Counter[str] = Counter()
        for name in stay:
            lines = self.nodes[name].result("printer", "jobs")
            reported[name] += sum(line["state"] in REPORTED for line in lines)
        lacking = Counter(self.day.sent[digest] for digest in missing)
        refused = Counter(one.partition(":")[0] for one in self.day.refused.get("print", ()))
        return [
            f"{count} documents of {name} neither printed nor reported: {self.nodes[name]('printer', 'jobs')}"
            for name, count in lacking.items()
            if name in stay and count > reported[name] + refused[name]
        ]

    def _unequal(self, stay: list[str]) -> list[str]:
        """Plans that differ."""
        found = []
        for name in stay:
            for path, text in self.day.written.items():
                file = self.plans(name) / path
                author = path.partition(" ")[0]
                if author in self.has_left and not file.exists():
                    continue  # written after the last exchange with who left
                if not file.exists() or file.read_bytes() != text:
                    found.append(f"{name} lacks {path} of the plans")
        return found


DEEDS: list[Callable[[Office, str, int], None]] = [
    Office.print, Office.read_disk, Office.browse, Office.ask_intranet, Office.write_plan, Office.fetch,
]  # fmt: skip
REPORTED = ("failed", "cancelled")


def serve(host: Host, folder: Path, page: bytes, port: int) -> None:
    """A web server with one page."""
    folder.mkdir()
    (folder / "index.html").write_bytes(page)
    words = (sys.executable, "-m", "http.server", str(port), "--directory", str(folder))
    host.popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def let_in(owner: LabNode, joiner: LabNode) -> None:
    """`joiner` comes into the circle."""
    inviting = owner.host.popen(
        sys.executable, "-m", "coterie", "--home", str(owner.folder), "--json", "circle", "invite", "office",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert inviting.stdout is not None
    invited = json.loads(inviting.stdout.readline())
    joiner("circle", "join", invited["ticket"], "--name", joiner.host.name)
    inviting.wait(PROGRAM_S)


def eventually(do: Callable[[], T], limit_s: float = EVENING_S) -> T:
    """What `do` gives, tried again while it fails: the circle's news takes its time."""
    until = time.monotonic() + limit_s
    while True:
        try:
            return do()
        except LabError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)


def waited(found: Callable[[], list[str]]) -> list[str]:
    """What is found still when it was waited for."""
    until = time.monotonic() + EVENING_S
    while (there := found()) and time.monotonic() < until:
        time.sleep(POLL_S)
    return there


def day(seconds: float, seed: int) -> list[str]:
    """Play it and print what happened; what is not as it must be."""
    with tempfile.TemporaryDirectory(prefix="office-") as folder, Lab(ROUTABLE) as lab:
        office = Office(lab, Path(folder), seed)
        began = time.monotonic()
        office.open()
        print(f"{len(NAMES)} computers, seed {seed}: open after {time.monotonic() - began:.0f} s", flush=True)
        office.live(seconds)
        found = office.close()
        for what, count in sorted(office.day.done.items()):
            print(f"  {what:<14} {count:>4}  refused {len(office.day.refused.get(what, ()))}")
        for what, said in office.day.refused.items():
            for line, count in Counter(line.replace(f"{folder}/", "")[:140] for line in said).most_common(4):
                print(f"  {what}: {count} x {line}")
        print("\n".join(found) or "everything as it must be")
        return found
