"""Two real nodes with one live folder, while bad things happen: nothing is lost, nothing is seen half written.

`python tools/isolate.py python -m tests.apps.folders.hardships [kills N SEED | full | unmounted | clock | loss]` plays
them; without words all, with 200 kills. Mounting needs root; so does losing packets, which is done in this namespace.
"""

import contextlib
import hashlib
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import following_sides

from coterie.apps.folders.names import original_of_copy

KILLS = 200
LIFE_S = 1.5  # of a node, at most, before it is killed
EDIT_S = 0.02  # between two edits of one side
SETTLE_S = 90.0
NEVER_ASKS = "\n[app.folders]\nbrake_share = 1.0\n"  # these editors change more than daily work does
BYTES_MAX = 20_000
LOSSY = """
table inet lossy {
    chain arrive { type filter hook input priority 0; meta l4proto udp numgen random mod 100 < 2 drop; }
}
"""
IMAGE_BYTES = 64 << 20
Sides = tuple[Any, Any]  # the two of `bench.following_sides`


def coterie_sides(place: Path) -> "Sides":
    """Two that have one folder, and never ask before many files change."""
    sides = following_sides.coterie_sides(place)
    for side in sides:
        with (side.home / "config.toml").open("a") as file:
            file.write(NEVER_ASKS)
    return sides


def made(side: str, number: int, rng: random.Random) -> bytes:
    """A content that says itself whether it is whole."""
    body = f"{side} {number} ".encode() + rng.randbytes(rng.randrange(BYTES_MAX))
    return hashlib.sha256(body).digest() + body


def is_whole(data: bytes) -> bool:
    """Whether nothing of it is missing."""
    return hashlib.sha256(data[32:]).digest() == data[:32]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, but for coterie's own."""
    found = {}
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".coterie-")]
        for name in names:
            with contextlib.suppress(OSError):
                path = Path(at, name)
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def shown(folder: Path) -> list[tuple[str, bytes]]:
    """Every file, copies under the name of what they stand beside: which copy has which number is of each disk."""
    found = []
    for local, data in contents(folder).items():
        place, slash, name = local.rpartition("/")
        found.append((place + slash + (original_of_copy(name) or name), hashlib.sha256(data).digest()))
    return sorted(found)


class Editor(threading.Thread):
    """Somebody who works in one folder: saves as editors do, renames, removes. Knows what must not be lost."""

    def __init__(self, side: str, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._side, self._folder, self._random = side, folder, random.Random(f"{seed} {side}")
        self.must_live: dict[bytes, str] = {}
        self.halves: list[str] = []
        self.edits = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(EDIT_S):
            with contextlib.suppress(
                FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError
            ):
                self._edit()

    def _edit(self) -> None:
        rng = self._random
        path = self._folder / rng.choice("abc") / f"{rng.randrange(25)}.bin"
        what = rng.random()
        path.parent.mkdir(exist_ok=True)
        seen = self._seen(path)
        if what < 0.7:
            data = made(self._side, self.edits, rng)
            beside = path.with_name(f".{path.name}.swp")  # as editors call what they write beside
            beside.write_bytes(data)
            os.replace(beside, path)
            self.must_live[data] = str(path)
            self.edits += 1
        elif what < 0.85:
            to = self._folder / rng.choice("abc") / f"moved-{rng.randrange(10)}.bin"
            seen = self._seen(to)
            os.rename(path, to)
        else:
            path.unlink()
        if seen is not None:  # he replaced it himself
            self.must_live.pop(seen, None)

    def _seen(self, path: Path) -> bytes | None:
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if not is_whole(data):
                self.halves.append(str(path))
            return data
        return None


def check(sides: Sides, must_live: dict[bytes, str], why: str) -> None:
    """Both folders are the same in the end, and everything that was finished is somewhere: also where they are not."""
    left, right = sides
    try:
        wait(
            lambda: shown(left.folder) == shown(right.folder),
            f"both are the same {why}",
            lambda: differing(sides),
        )
    finally:
        nothing_lost(sides, must_live, why)


def nothing_lost(sides: Sides, must_live: dict[bytes, str], why: str) -> None:
    """Everything that was finished is somewhere, and whole."""
    left, right = sides
    here = [*contents(left.folder).values(), *contents(right.folder).values()]
    assert all(map(is_whole, here)), f"a half file {why}"
    found = {hashlib.sha256(data).digest() for data in here} | left.kept() | right.kept()
    lost = [where for data, where in must_live.items() if hashlib.sha256(data).digest() not in found]
    assert not lost, f"lost {why}: {len(lost)} of {len(must_live)}: {lost[:5]}"


def differing(sides: Sides) -> str:
    """What the two folders have not both: names, copies under the name of what they stand beside, and hashes."""
    here, there = (shown(side.folder) for side in sides)
    only_here, only_there = (
        [f"{name} {content.hex()[:8]}" for name, content in (Counter(one) - Counter(other)).elements()]
        for one, other in ((here, there), (there, here))
    )
    lines = [side.command("folders") for side in sides]
    return f"only here: {only_here[:8]}, only there: {only_there[:8]}\n" + "\n".join(lines)


def wait(
    true: Callable[[], bool], what: str, say: Callable[[], str] = str, seconds: float = SETTLE_S
) -> None:
    """Wait until it is so."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"it never came to be: {what}: {say()}")
        time.sleep(0.1)


def kill(side: Any) -> None:
    """End its process as a power failure would, and begin it anew."""
    process = side._process
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    side._process = None
    (side.home / "run" / "api.json").unlink(missing_ok=True)
    side.start()


def kills(place: Path, count: int, seed: int) -> str:
    """Kill both sides in turn at random moments, while both are worked in."""
    rng = random.Random(seed)
    sides = coterie_sides(place)
    for side in sides:
        side.start()
    editors = [Editor(name, side.folder, seed) for name, side in zip("lr", sides, strict=True)]
    for editor in editors:
        editor.start()
    try:
        for number in range(count):
            time.sleep(LIFE_S * rng.random())
            kill(sides[number % 2])
        for editor in editors:
            editor.ended.set()
            editor.join()
        halves = [half for editor in editors for half in editor.halves]
        assert not halves, f"seen half written: {halves[:5]}"
        must_live = editors[0].must_live | editors[1].must_live
        check(sides, must_live, f"after {count} kills, seed {seed}")
    finally:
        for editor in editors:
            editor.ended.set()
        for side in sides:
            side.stop()
    edits = sum(editor.edits for editor in editors)
    return f"{count} kills under {edits} edits (seed {seed}): the same on both, {len(must_live)} contents all there"


@contextmanager
def mounted(folder: Path, image: Path) -> Iterator[None]:
    """An ext4 of its own at `folder`."""
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=False)


def image_of(place: Path) -> Path:
    """A new small ext4."""
    image = place / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    return image


def right_on_a_disk(place: Path) -> tuple[Sides, Path]:
    """Two sides; the folder of the right one is to be on the image that is returned with them."""
    sides = coterie_sides(place)
    image, folder = image_of(place), sides[1].folder
    once = place / "once"
    once.mkdir()
    with mounted(once, image):
        subprocess.run(["cp", "-a", f"{folder}/.", once], check=True)
    subprocess.run(["rm", "-r", folder / ".coterie-folder"], check=True)
    return sides, image


def full(place: Path) -> str:
    """The disk of one side is full for a while."""
    sides, image = right_on_a_disk(place)
    left, right = sides
    rng = random.Random(1)
    with mounted(right.folder, image):
        filler = right.folder / ".coterie-folder" / "filler"
        filler.write_bytes(bytes(IMAGE_BYTES * 6 // 10))
        for side in sides:
            side.start()
        try:
            files = {f"{number}.bin": rng.randbytes(1 << 20) for number in range(24)}
            for name, data in files.items():
                (left.folder / name).write_bytes(data)
            wait(
                lambda: '"waits"' in right.command("--json", "folders"),
                "the full disk is said",
                lambda: differing(sides),
            )
            assert contents(left.folder) == files, "the full disk of one took files from the other"
            assert contents(right.folder).items() <= files.items(), (
                "a file that is not whole on the full disk"
            )
            filler.unlink()
            wait(
                lambda: contents(right.folder) == files,
                "all comes once there is room",
                lambda: differing(sides),
            )
            assert contents(left.folder) == files
        finally:
            for side in sides:
                side.stop()
    return "a full disk: said, nothing taken from the other side, all came once there was room"


def unmounted(place: Path) -> str:
    """The disk of one side is taken out while the node runs, and put in again."""
    sides, image = right_on_a_disk(place)
    left, right = sides
    with mounted(right.folder, image):
        for side in sides:
            side.start()
        files = {f"{number}.txt": b"%d" % number for number in range(200)}
        for name, data in files.items():
            (left.folder / name).write_bytes(data)
        wait(lambda: contents(right.folder) == files, "all files", lambda: differing(sides))
    wait(lambda: not os.path.ismount(right.folder), "the disk can be taken out while the node runs")
    try:
        (left.folder / "0.txt").write_bytes(b"changed while it was out")
        (left.folder / "1.txt").unlink()
        files |= {"0.txt": b"changed while it was out"}
        del files["1.txt"]
        wait(
            lambda: '"gone"' in right.command("--json", "folders"),
            "that it is out is said",
            lambda: differing(sides),
        )
        time.sleep(5)
        assert contents(left.folder) == files, "a disk that was taken out deleted files elsewhere"
        assert not os.listdir(right.folder), "something was written where the disk was"
        with mounted(right.folder, image):
            wait(
                lambda: contents(right.folder) == files,
                "all is well once it is back",
                lambda: differing(sides),
            )
            assert contents(left.folder) == files
            right.stop()
    finally:
        for side in sides:
            side.stop()
    return "a disk that was taken out: said, nothing deleted, nothing written, all well once it was back"


def worked_in(sides: Sides, seed: int, why: str) -> int:
    """Work in both for a while; how many edits that were, all of them somewhere in the end."""
    editors = [Editor(name, side.folder, seed) for name, side in zip("lr", sides, strict=True)]
    for editor in editors:
        editor.start()
    time.sleep(8)
    for editor in editors:
        editor.ended.set()
        editor.join()
    check(sides, editors[0].must_live | editors[1].must_live, why)
    return sum(editor.edits for editor in editors)


def clock(place: Path) -> str:
    """The clock of one side is three days back (libfaketime)."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise SystemExit("a clock set back: needs libfaketime")
    sides = coterie_sides(place)
    left, right = sides
    left.start()
    false = {"LD_PRELOAD": str(library), "FAKETIME": "-3d", "NO_FAKE_STAT": "1", "DONT_FAKE_MONOTONIC": "1"}
    os.environ.update(false)
    right.start()
    for name in false:
        del os.environ[name]
    try:
        worked_in(sides, 5, "with a clock three days back")
    finally:
        for side in sides:
            side.stop()
    return "a clock three days back: the same on both, nothing lost"


def loss(place: Path) -> str:
    """Two of a hundred packets are lost, each way."""
    sides = coterie_sides(place)
    subprocess.run(["nft", "-f", "-"], input=LOSSY, text=True, check=True)
    try:
        for side in sides:
            side.start()
        edits = worked_in(sides, 7, "with 2 % of the packets lost")
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "lossy"], check=True)
        for side in sides:
            side.stop()
    return f"2 % of the packets lost, {edits} edits: the same on both, nothing lost"


def main() -> None:
    """Read the words, and play what they say."""
    words = sys.argv[1:]
    scenes: dict[str, Callable[[Path], str]] = {
        "kills": lambda place: kills(place, int((words[1:] or [KILLS])[0]), int((words[2:] or [1])[0])),
        "full": full,
        "unmounted": unmounted,
        "clock": clock,
        "loss": loss,
    }
    for name in words[:1] or scenes:
        with tempfile.TemporaryDirectory(prefix="hardships-") as place:
            print(scenes[name](Path(place)), flush=True)


if __name__ == "__main__":
    main()
