"""Figures of disks between nodes on this machine, as processes, by fio and nbdcopy: `make proof ONLY=disks`.

Beside them the same programs at nbdkit, which serves the same file without any network between.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.apps.expose.test_processes import befriend
from tests.apps.files.nodes import RunningNode, running_node

IMAGE_BYTES = 512 << 20
SWARM_BYTES = 64 << 20
SWARM_READERS = 12
FIO_S = 4


def fio(uri: str, way: str, depth: int, block: str = "4k", seconds: float = FIO_S) -> dict[str, Any]:
    """What fio measured with its engine for NBD."""
    words = [
        "fio", "--name=disk", "--ioengine=nbd", f"--uri={uri}", f"--rw={way}", f"--bs={block}", f"--iodepth={depth}",
        f"--runtime={seconds}", "--time_based", "--output-format=json", f"--size={IMAGE_BYTES}",
    ]  # fmt: skip
    found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=90)
    job = json.loads(found.stdout[found.stdout.index("{") :])["jobs"][0]
    return job["write" if "write" in way else "read"]  # type: ignore[no-any-return]


def copied(*words: str | Path, size: int = IMAGE_BYTES) -> float:
    """MB/s of a program that copies a whole disk."""
    began = time.monotonic()
    subprocess.run(list(map(str, words)), check=True, timeout=120)
    return size / (time.monotonic() - began) / 1e6


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:<64} {value:>9.1f} {unit}", flush=True)


@contextlib.contextmanager
def nbdkit(path: Path, folder: Path) -> Iterator[str]:
    """The same file served by nbdkit on a Unix socket."""
    at = folder / "nbdkit.sock"
    with subprocess.Popen(["nbdkit", "-f", "-U", str(at), "file", str(path)]) as running:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trying:
                trying.connect(str(at))
                break
            time.sleep(0.05)
        yield f"nbd+unix:///?socket={at}"
        running.terminate()


def _attached(ben: RunningNode, anna: RunningNode, name: str, *options: str) -> str:
    place = f"{anna.call('status')['peer_id']}/{name}"
    return str(ben.call("disk", "attach", place, *options)["uri"])


def one_line(folder: Path, anna: RunningNode, ben: RunningNode) -> None:
    """Operations a second and bytes a second over one line."""
    path = folder / "disk.img"
    with path.open("wb") as file:
        for _ in range(IMAGE_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    anna.call("disk", "share", str(path), "--to", "contacts", "--write", "--as", "disk")
    uri = _attached(ben, anna, "disk", "--write")
    with nbdkit(path, folder) as beside:
        for way in ("randread", "randwrite"):
            for depth in (16, 1):
                found, raw = fio(uri, way, depth), fio(beside, way, depth, seconds=2)
                say(
                    f"{way}, 4 KiB, queue depth {depth}",
                    found["iops"],
                    f"a second (nbdkit {raw['iops']:.0f})",
                )
        found = fio(uri, "read", 16, "256k")
        say("read in order, 256 KiB, queue depth 16", found["bw_bytes"] / 1e6, "MB/s")
        found = fio(uri, "write", 16, "256k")
        say("write in order, 256 KiB, queue depth 16", found["bw_bytes"] / 1e6, "MB/s")
        raw_rate = copied("nbdcopy", beside, "null:")
        say(
            "nbdcopy of all of it, open to be written",
            copied("nbdcopy", uri, "null:"),
            f"MB/s (nbdkit {raw_rate:.0f})",
        )
    ben.call("disk", "detach", uri.split("///")[1].split("?")[0])
    anna.call("disk", "share", str(path), "--to", "contacts", "--as", "disk")
    time.sleep(3)
    uri = _attached(ben, anna, "disk")
    say("nbdcopy of all of it, checked by its tree and kept", copied("nbdcopy", uri, "null:"), "MB/s")
    say("the same again, from the cache", copied("nbdcopy", uri, "null:"), "MB/s")


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["line", "swarm"])
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        if "line" in what:
            with running_node(folder / "anna") as anna, running_node(folder / "ben") as ben:
                befriend(anna, ben)
                one_line(folder, anna, ben)
        if "swarm" in what:
            swarm(folder)
    return 0


def swarm(folder: Path) -> None:
    """How much of an image its owner gives while twelve read it at once."""
    path = folder / "shared.img"
    path.write_bytes(os.urandom(SWARM_BYTES))
    with contextlib.ExitStack() as stack:
        anna = stack.enter_context(running_node(folder / "owner"))
        readers = [stack.enter_context(running_node(folder / f"reader{n}")) for n in range(SWARM_READERS)]
        for reader in readers:
            for _ in range(20):
                try:
                    befriend(anna, reader)
                    break
                except AssertionError:  # a door lets in only some at once
                    time.sleep(2)
        anna.call("disk", "share", str(path), "--to", "contacts", "--as", "shared")
        uris = [_attached(reader, anna, "shared") for reader in readers]
        began = time.monotonic()
        copying = [subprocess.Popen(["nbdcopy", uri, "null:"]) for uri in uris]
        for one in copying:
            assert one.wait(timeout=140) == 0
        seconds = time.monotonic() - began
        given = anna.call("disks")[0]["given"]
        say(f"copies that the owner gave to {SWARM_READERS} readers at once", given / SWARM_BYTES, "copies")
        say("all of them together", SWARM_READERS * SWARM_BYTES / seconds / 1e6, "MB/s")


if __name__ == "__main__":
    sys.exit(main())
