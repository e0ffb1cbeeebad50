"""Folders that follow each other, beside Syncthing (Debian package, `fsWatcherDelayS` 1) in the same run.

    python -m bench.following [--files 100000] [--bytes 10000000000] [--edits 1000] [--moved 50000] [--only ours]

Two computers of each program, as processes in the namespace of this run. What is timed is what a user sees: from the
end of a write on one side until the same bytes lie under the same name on the other. Traffic is what crossed the
loopback interface in both directions, so both programs are measured alike, headers included. A first sync and a restart
have the start of the programs in them, a first sync of both. Beside the first sync stand `coterie share` and `get` of
the same tree between the same two, and `cp -r`.
"""

import argparse
import hashlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.idle import cpu_s

POLL_S = 0.005
WAIT_S = 900.0
IDLE_S = 30.0
SETTLE_S = 5.0
FILES_IN_FOLDER = 500
EDIT_WITHIN_S = 60.0  # in which the edits are made
OWN_NAMES = (".coterie-folder", ".coterie-versions", ".stfolder", ".stversions", ".stignore", ".syncthing.")


class Side(Protocol):
    """One computer with one folder."""

    folder: Path

    def start(self) -> None:
        """Begin, or begin again after `stop`."""
        ...

    def stop(self) -> None:
        """End the program; the folder can be changed meanwhile."""
        ...

    def processes(self) -> list[int]:
        """Of the program, for its processor time and memory."""
        ...

    def kept(self) -> set[bytes]:
        """What a user can still get back here beyond the folder: digests of contents."""
        ...

    def give(self, other: Any, target: Path) -> float | None:
        """Seconds for the folder as an ordinary tree to `target`, by commands of both; None: it has none."""
        ...


Makers = dict[str, Callable[[Path], tuple[Side, Side]]]


def main() -> None:
    """Measure, print one table, end with status 1 where ours has lost something."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--bytes", type=int, default=200_000_000)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--moved", type=int, default=5_000)
    parser.add_argument("--only", choices=["ours", "syncthing"], default=None)
    wanted = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32)
    print(f"{wanted.files} files, {wanted.bytes} bytes; seed {seed}", flush=True)
    found: dict[str, dict[str, float]] = {}
    for name, make in _makers().items():
        if wanted.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"coterie-following-{name}-") as place:
                found[name] = _measure(make, Path(place), wanted, random.Random(seed))
    print(table(found))
    if any(value for name, value in found.get("ours", {}).items() if name.startswith("lost_")):
        raise SystemExit("contents were lost")


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures of each program side by side; marked is where ours is not the better one."""
    rows = [f"{'':22}" + "".join(f"{name:>12}" for name in found)]
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        values = [figures.get(name) for figures in found.values()]
        both = [value for value in values if value is not None]
        is_behind = len(both) == 2 and both[0] > both[1]
        cells = "".join(f"{'-' if value is None else format(value, '.3f'):>12}" for value in values)
        rows.append(f"{name:22}{cells}{'   behind' if is_behind else ''}")
    return "\n".join(rows)


def _makers() -> Makers:
    from bench.following_sides import coterie_sides, syncthing_sides

    return {"ours": coterie_sides, "syncthing": syncthing_sides}


def _measure(
    make: Callable[[Path], tuple[Side, Side]], place: Path, wanted: argparse.Namespace, rng: random.Random
) -> dict[str, float]:
    left, right = make(place)
    fill(left.folder, wanted.files, wanted.bytes, rng)
    figures: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        figures[name] = value
        print(f"  {name}: {value:.3f}", flush=True)

    try:
        began = time.perf_counter()
        left.start()
        right.start()
        wait_alike(left.folder, right.folder)
        note("first_sync_s", time.perf_counter() - began)
        note("copy_s", _copy(left.folder, place / "copied"))
        given = left.give(right, place / "given")
        if given is not None:
            note("share_and_get_s", given)
        for name, value in (
            ("edit_s", edit(left.folder, right.folder, rng)),
            ("edit_back_s", edit(right.folder, left.folder, rng)),
        ):
            note(name, value)
        for name, value in many_edits(left.folder, right.folder, wanted.edits, rng).items():
            note(name, value)
        for name, value in rename_folder(left.folder, right.folder, wanted.moved).items():
            note(name, value)
        time.sleep(SETTLE_S)
        for name, value in _idle(left, right).items():
            note(name, value)
        right.stop()
        (left.folder / "while-away.txt").write_bytes(b"written while the other was away")
        began = time.perf_counter()
        right.start()
        wait_for((right.folder / "while-away.txt").exists)
        note("restart_to_change_s", time.perf_counter() - began)
        wait_alike(left.folder, right.folder)
        for name, lost in losses(left, right, rng).items():
            note(f"lost_{name}", lost)
    finally:
        left.stop()
        right.stop()
    return figures


# -- what is done to the folders -------------------------------------------------------------------------------


def fill(folder: Path, files: int, size: int, rng: random.Random) -> None:
    """`files` files with `size` bytes together, most of them small, in folders of `FILES_IN_FOLDER`."""
    weights = [rng.paretovariate(1.2) for _ in range(files)]
    unit = size / sum(weights)
    block = rng.randbytes(1 << 20)
    for number, weight in enumerate(weights):
        at = folder / f"folder-{number // FILES_IN_FOLDER:04}"
        if number % FILES_IN_FOLDER == 0:
            at.mkdir()
        left = max(1, int(weight * unit))
        with (at / f"file-{number:06}.bin").open("wb") as out:
            out.write(number.to_bytes(8))
            while left > 0:
                left -= out.write(block[: min(left, len(block))])


def edit(here: Path, there: Path, rng: random.Random) -> float:
    """Seconds until an edit of a small file is there: the median of nine, with pauses between them."""
    took = []
    for number in range(9):
        path = here / "folder-0000" / f"edit-{number % 3}.txt"
        text = rng.randbytes(2_000)
        path.write_bytes(text)
        began = time.perf_counter()
        other = there / path.relative_to(here)
        wait_for(lambda other=other, text=text: _read(other) == text)
        took.append(time.perf_counter() - began)
        time.sleep(0.3 + rng.random())
    return statistics.median(took)


def many_edits(here: Path, there: Path, count: int, rng: random.Random) -> dict[str, float]:
    """`count` edits within a minute, each of another file: the median, the 95th of a hundred, the slowest."""
    folder = here / "edits"
    folder.mkdir()
    gap = EDIT_WITHIN_S / count
    pending: dict[Path, tuple[bytes, float]] = {}
    took: list[float] = []
    began, number = time.perf_counter(), 0
    while number < count or pending:
        now = time.perf_counter()
        if number < count and now >= began + number * gap:
            path, text = folder / f"{number:05}.txt", rng.randbytes(1_000)
            path.write_bytes(text)
            pending[there / "edits" / path.name] = (text, time.perf_counter())
            number += 1
        for path, (text, since) in list(pending.items()):
            if _read(path) == text:
                took.append(time.perf_counter() - since)
                del pending[path]
        if now - began > WAIT_S:
            raise SystemExit(f"{len(pending)} of {count} edits never arrived")
        time.sleep(POLL_S)
    took.sort()
    return {
        "edits_median_s": took[len(took) // 2],
        "edits_p95_s": took[int(len(took) * 0.95)],
        "edits_max_s": took[-1],
    }


def rename_folder(here: Path, there: Path, files: int) -> dict[str, float]:
    """A folder with `files` small files is renamed: until its last file is there, and what crossed the line."""
    big = here / "before"
    for number in range(files):
        if number % FILES_IN_FOLDER == 0:
            (big / f"{number // FILES_IN_FOLDER:03}").mkdir(parents=True)
        (big / f"{number // FILES_IN_FOLDER:03}" / f"{number:05}.txt").write_bytes(b"file %d" % number)
    wait_for(lambda: count(there / "before") == files)
    time.sleep(SETTLE_S)
    crossed = _crossed()
    began = time.perf_counter()
    big.rename(here / "after")
    wait_for(lambda: not (there / "before").exists() and count(there / "after") == files, every_s=0.1)
    seconds = time.perf_counter() - began
    return {"rename_s": seconds, "rename_mb": (_crossed() - crossed) / 1e6}


def losses(left: Side, right: Side, rng: random.Random) -> dict[str, float]:
    """The four cases in which users lose data: how many contents that a user had written are nowhere any more."""
    write = {name: rng.randbytes(500) for name in ("old", "new", "late", "edited")}
    for name in ("sleeper", "renamed", "deleted", "readme"):
        (left.folder / f"{name}.txt").write_bytes(write["old"] + name.encode())
    wait_for(
        lambda: all((right.folder / f"{n}.txt").exists() for n in ("sleeper", "renamed", "deleted", "readme"))
    )
    time.sleep(SETTLE_S)
    right.stop()
    (left.folder / "sleeper.txt").write_bytes(write["new"])
    (left.folder / "renamed.txt").rename(left.folder / "renamed-left.txt")
    (left.folder / "deleted.txt").unlink()
    (left.folder / "readme.txt").rename(left.folder / "README.txt")
    (right.folder / "sleeper.txt").write_bytes(write["late"])
    _date(right.folder / "sleeper.txt", days=-3)  # a clock that is wrong: this edit looks older than it is
    (right.folder / "renamed.txt").rename(right.folder / "renamed-right.txt")
    (right.folder / "deleted.txt").write_bytes(write["edited"])
    right.start()
    time.sleep(SETTLE_S)
    wait_alike(left.folder, right.folder)
    here = {**_digests(left.folder), **_digests(right.folder)}
    names = {path.name for path in (*_walk(left.folder), *_walk(right.folder))}
    have = set(here.values()) | left.kept() | right.kept()

    def lost(*wanted: bytes) -> float:
        return sum(hashlib.sha256(text).digest() not in have for text in wanted)

    return {
        "sleeper": lost(write["new"], write["late"]),
        "renamed_on_both": lost(write["old"] + b"renamed"),
        "edit_against_delete": lost(write["edited"]) + ("deleted.txt" not in names),
        "case_only_rename": lost(write["old"] + b"readme") + ("README.txt" not in names),
    }


# -- looking at them -------------------------------------------------------------------------------------------


def wait_for(is_so: Callable[[], bool], *, every_s: float = POLL_S) -> None:
    """Return when it is so; SystemExit after `WAIT_S`."""
    until = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"nothing came of it within {WAIT_S:.0f} s")
        time.sleep(every_s)


def wait_alike(here: Path, there: Path) -> None:
    """Return when both have the same names and sizes, twice in a row."""
    wait_for(lambda: _shape(here) == _shape(there), every_s=0.3)


def count(folder: Path) -> int:
    """How many files are in and under it."""
    return sum(len(files) for _, _, files in os.walk(folder))


def _shape(folder: Path) -> dict[str, int]:
    shape = {}
    for path in _walk(folder):
        try:
            shape[str(path.relative_to(folder))] = path.lstat().st_size
        except FileNotFoundError:
            continue
    return shape


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(OWN_NAMES)]
        yield from (Path(where, name) for name in files if not name.startswith(OWN_NAMES))


def _digests(folder: Path) -> dict[Path, bytes]:
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in _walk(folder)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _date(path: Path, *, days: float) -> None:
    at = time.time() + days * 86_400
    os.utime(path, (at, at))


def _crossed() -> int:
    """Bytes that the loopback interface of this namespace has carried."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return int(next(line for line in lines if line.strip().startswith("lo:")).split()[1])


def _copy(folder: Path, target: Path) -> float:
    """What `cp -r` takes: the raw limit of this disk."""
    began = time.perf_counter()
    shutil.copytree(folder, target, symlinks=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


def _idle(*sides: Side) -> dict[str, float]:
    used = [sum(map(cpu_s, side.processes())) for side in sides]
    began = time.perf_counter()
    time.sleep(IDLE_S)
    seconds = time.perf_counter() - began
    after = [sum(map(cpu_s, side.processes())) for side in sides]
    return {
        "idle_core_%": 100 * max(now - was for now, was in zip(after, used, strict=True)) / seconds,
        "memory_mb": max(sum(map(_rss_mb, side.processes())) for side in sides),
    }


def _rss_mb(pid: int) -> float:
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
