"""The two programs whose folders follow each other, as `bench.following` drives them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import installed
from bench.syncthing import Syncthing

START_S = 30.0


class _SyncthingSide:
    """A Syncthing with one folder."""

    def __init__(self, program: str, room: Path) -> None:
        self.folder = room / "folder"
        self.folder.mkdir(parents=True)
        self.node = Syncthing(program, room / "home")

    def start(self) -> None:
        self.node.start()

    def stop(self) -> None:
        self.node.end()

    def processes(self) -> list[int]:
        return _family(self.node.pid)

    def kept(self) -> set[bytes]:
        return set()  # it keeps no versions unless told to

    def give(self, other: "_SyncthingSide", target: Path) -> float | None:
        return None


def syncthing_sides(place: Path) -> tuple[_SyncthingSide, _SyncthingSide]:
    """Two that know each other, watching with a delay of 1 s; they stand still until they are started."""
    program = installed("syncthing")
    if program is None:
        raise SystemExit("syncthing is not installed")
    left, right = _SyncthingSide(program, place / "left"), _SyncthingSide(program, place / "right")
    for side in (left, right):
        side.start()
        side.node.quiet()
    for side, other in ((left, right), (right, left)):
        side.node.knows(other.node, side.folder, "sendreceive", watches=True)
    for side in (left, right):
        side.stop()
    return left, right


class _CoterieSide:
    """A node of ours with one folder."""

    def __init__(self, room: Path, name: str) -> None:
        self.folder, self.home = room / "folder", room / "home"
        self.folder.mkdir(parents=True)
        self.home.mkdir(mode=0o700)
        (self.home / "config.toml").write_text(f'bind = "127.0.0.1"\nname = "{name}"\n')
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            program = [str(Path(sys.executable).with_name("coterie")), "--home", str(self.home)]
            self._process = subprocess.Popen([*program, "up"], stdout=subprocess.DEVNULL)
            until = time.monotonic() + START_S
            while not (self.home / "run" / "api.json").exists():
                if time.monotonic() > until:
                    raise SystemExit("the node did not start")
                time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def command(self, *words: str | Path) -> str:
        """A command line of this node; what it printed."""
        program = [str(Path(sys.executable).with_name("coterie")), "--home", str(self.home)]
        done = subprocess.run([*program, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def processes(self) -> list[int]:
        return _family(self._process.pid) if self._process else []

    def give(self, other: "_CoterieSide", target: Path) -> float | None:
        tree = self.folder.parent / "tree"  # a place in a live folder would be of that
        shutil.copytree(self.folder, tree, ignore=shutil.ignore_patterns(".coterie-*"))
        began = time.perf_counter()
        self.command("share", tree, "--to", "contacts", "--quiet")
        other.command("get", "left/tree", target, "--quiet")
        seconds = time.perf_counter() - began
        shutil.rmtree(target)
        shutil.rmtree(tree)
        return seconds

    def kept(self) -> set[bytes]:
        tops = [self.home / "versions", *self.folder.parent.glob("**/.coterie-versions-*")]
        tops += Path(self.folder.anchor).glob(".coterie-versions-*")
        files = (Path(where, name) for top in tops for where, _, names in os.walk(top) for name in names)
        return {hashlib.sha256(path.read_bytes()).digest() for path in files}


def coterie_sides(place: Path) -> tuple[_CoterieSide, _CoterieSide]:
    """Two contacts with one folder, of which the second has joined; they stand still until they are started."""
    left, right = _CoterieSide(place / "left", "left"), _CoterieSide(place / "right", "right")
    try:
        left.start()
        right.start()
        meet(left, right)
        left.command("folder", "new", left.folder, "--with", "right")
        right.command("folder", "join", "left/folder", right.folder, "--yes")
    finally:
        for side in (left, right):
            side.stop()
    return left, right


def meet(left: _CoterieSide, right: _CoterieSide) -> None:
    """Make the two contacts of each other by a code."""
    program = [str(Path(sys.executable).with_name("coterie")), "--home", str(left.home), "--json", "invite"]
    inviting = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert inviting.stdout is not None
    code = next(found for line in inviting.stdout if (found := _code(line)))
    right.command("join", code)
    inviting.communicate(timeout=START_S)


def _code(line: str) -> str:
    said = json.loads(line)
    return str(said.get("code", "")) if isinstance(said, dict) else ""


def _family(pid: int) -> list[int]:
    """The process and all below it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return [pid, *(found for child in children for found in _family(int(child)))]
