"""`coterie demo`: the main job on real input, on this machine alone.

Two nodes in two processes with homes of their own: one shares a real folder and a large file, the other gets both by
ticket; then both trees are compared byte for byte. Nothing is left behind.
"""

import json
import os
import secrets
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from coterie.cli.layout import columns, wrapped
from coterie.cli.terminal import put, say
from coterie.errors import CoterieError, StorageError
from coterie.quantity import say_bytes
from coterie.texts import tr

LARGE_BYTES = 512 << 20
WRITE_BYTES = 1 << 20
STOP_S = 10.0
COMPARE_BYTES = 1 << 20
DIFFERENCES_SHOWN_MAX = 10


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    files: int
    size: int
    share_s: float
    get_s: float
    differences: list[str]


def run_demo(path: Path | None = None, *, large_bytes: int = LARGE_BYTES) -> int:
    """Run the demo and print its table. Returns the exit status: 0 only if every byte is the same."""
    _isolate()
    folder = (path or Path(sysconfig.get_path("stdlib"))).absolute()
    with tempfile.TemporaryDirectory(prefix="coterie-demo-") as made:
        room = Path(made)
        large = room / "large.bin"
        what = f"{folder} and a file of {say_bytes(large_bytes)}"
        put(wrapped(f"Two nodes on this computer. Anna shares {what}; Ben gets them.", columns()))
        say(f"writing a file of {say_bytes(large_bytes)} ...")
        _fill(large, large_bytes)
        say("starting the node of Anna ...")
        with _node(room / "anna"):
            rows = [_share_and_get(room, "folder", folder), _share_and_get(room, "large file", large)]
    _print_table(rows)
    same = not any(row.differences for row in rows)
    put("Identical, byte for byte." if same else "DIFFERENT:")
    for row in rows:
        for line in row.differences[:DIFFERENCES_SHOWN_MAX]:
            put(f"  {line}")
    return 0 if same else 1


def _isolate() -> None:
    """Keep the demo's traffic on this machine where the system can do that; its nodes use loopback anyway."""
    from coterie.sim.isolation import enter_namespace

    try:
        enter_namespace()
    except CoterieError as error:
        say(f"(without a network namespace: {error})")


def _fill(path: Path, size: int) -> None:
    try:
        with path.open("wb") as file:
            for at in range(0, size, WRITE_BYTES):
                file.write(secrets.token_bytes(min(WRITE_BYTES, size - at)))
    except OSError as error:
        raise StorageError(
            tr(
                "the demo needs {value} in {parent}: {strerror}",
                value=say_bytes(3 * size),
                parent=path.parent,
                strerror=error.strerror,
            )
        ) from error


def _coterie(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "coterie", "--home", str(home), *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the shared folder may be Python's own


def _prepare_home(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('bind = "127.0.0.1"\n', encoding="utf-8")


@contextmanager
def _node(home: Path) -> Iterator[None]:
    """A node in a process of its own while the block runs."""
    _prepare_home(home)
    log = home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(_coterie(home, "up"), stdout=out, stderr=out, env=_environment())  # noqa: S603
        try:
            _wait_until_up(home, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_up(home: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + STOP_S
    while not (home / "run" / "api.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StorageError(
                tr("the first node did not start: {read_text}", read_text=log.read_text("utf-8").strip())
            )
        time.sleep(0.05)


def _share_and_get(room: Path, what: str, source: Path) -> Row:
    say(f"Anna shares the {what} ...")
    began = time.monotonic()
    shared = _call(room / "anna", "share", str(source))
    share_s = time.monotonic() - began
    ben = room / "ben"
    if not ben.exists():
        _prepare_home(ben)
    target = room / f"received {what}"
    say(f"Ben gets the {what} ...")
    began = time.monotonic()
    received = _call(ben, "get", "-", str(target), given=shared["ticket"])
    get_s = time.monotonic() - began
    say(f"comparing the {what}, byte for byte ...")
    skipped = {os.path.join(source, problem["path"]) for problem in shared["skipped"]}
    differences = [f"not shared: {p['path']}: {p['reason']}" for p in received["failed"]]
    differences += list(compare(source, target, skipped))
    return Row(what, received["files"], received["size"], share_s, get_s, differences)


def _call(home: Path, *words: str, given: str = "") -> Any:
    """Run a command with --json and `given` on its standard input; its result."""
    done = subprocess.run(  # noqa: S603 - our own program
        _coterie(home, "--json", *words),
        input=given.encode(),
        capture_output=True,
        env=_environment(),
        check=False,
    )
    if done.returncode:
        raise CoterieError(
            tr(
                "`coterie {words}` failed: {decode}",
                words=words[0],
                decode=done.stderr.decode(errors="replace").strip(),
            )
        )
    return json.loads(done.stdout.splitlines()[-1])


def compare(left: Path, right: Path, skipped: set[str]) -> Iterator[str]:
    """How two files or trees differ: names, kinds, contents, executable bits, times; but for `skipped` of `left`."""
    if str(left) in skipped:
        return
    if not os.path.lexists(right):
        yield f"missing: {right}"
        return
    a, b = left.lstat(), right.lstat()
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
        yield f"another kind of thing: {right}"
    elif stat.S_ISLNK(a.st_mode):
        if os.readlink(left) != os.readlink(right):
            yield f"another link: {right}"
    elif stat.S_ISREG(a.st_mode):
        if a.st_mtime_ns != b.st_mtime_ns or bool(a.st_mode & 0o100) != bool(b.st_mode & 0o100):
            yield f"another time or executable bit: {right}"
        if not _same_bytes(left, right):
            yield f"other bytes: {right}"
    elif stat.S_ISDIR(a.st_mode):
        if a.st_mtime_ns != b.st_mtime_ns:
            yield f"another time: {right}"
        names = {n for n in os.listdir(left) if os.path.join(left, n) not in skipped}
        for name in sorted(set(os.listdir(right)) - names):
            yield f"not in the original: {right / name}"
        for name in sorted(names):
            yield from compare(left / name, right / name, skipped)


def _same_bytes(left: Path, right: Path) -> bool:
    with left.open("rb") as a, right.open("rb") as b:
        while True:
            block = a.read(COMPARE_BYTES)
            if block != b.read(COMPARE_BYTES):
                return False
            if not block:
                return True


def _print_table(rows: list[Row]) -> None:
    put(f"\n{'':<12}{'files':>8}{'MB':>10}{'share s':>10}{'get s':>9}{'get MB/s':>10}")
    for row in rows:
        rate = row.size / 1e6 / row.get_s
        put(
            f"{row.what:<12}{row.files:>8,}{row.size / 1e6:>10.1f}{row.share_s:>10.2f}{row.get_s:>9.2f}{rate:>10.1f}"
        )
    put("")


def _call_demo(path: Path | None) -> None:
    raise SystemExit(run_demo(path))


DEMO = click.Command(
    name="demo",
    help="Show it at work: two nodes on this computer, a folder and a large file, compared byte for byte.",
    params=[click.Argument(["path"], required=False, type=click.Path(path_type=Path, exists=True))],
    callback=_call_demo,
)
