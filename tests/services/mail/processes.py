"""Two processes that write to each other and are killed with signal 9, again and again.

`python tools/isolate.py python -m tests.services.mail.processes` plays the whole proof: 10,000 letters, 20 kills, 30 %
of the packets lost (needs `nft`), and nodes that run for seconds only.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from coterie.identity import PeerId, load_or_create_key

LOSS = """table inet lossy {
    chain input {
        type filter hook input priority 0
        meta l4proto udp numgen random mod 10 < 3 drop
    }
}
"""


class Side:
    """One of the two: its home, and its process while there is one."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (home / "config.toml").write_text(f'bind = "127.0.0.1"\nport = {self.port}\nreach = "circle"\n')
        self.home = home
        self.peer: PeerId = load_or_create_key(home / "key").peer_id
        self.process: subprocess.Popen[str] | None = None

    def start(self, other: "Side", count: int) -> None:
        command = [sys.executable, "-m", "tests.services.mail.worker", str(self.home), str(other.peer)]
        with (self.home / "said").open("w") as said, (self.home / "errors").open("a") as errors:
            self.process = subprocess.Popen(
                [*command, f"127.0.0.1:{other.port}", str(count)], stdout=said, stderr=errors
            )

    def said(self) -> list[str]:
        return (self.home / "said").read_text().split()

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def got(self) -> list[int]:
        """What the app has on disk."""
        file = self.home / "apps" / "letters" / "mail.db"
        with contextlib.closing(sqlite3.connect(file)) as db, contextlib.suppress(sqlite3.OperationalError):
            return [int(row[0]) for row in db.execute("SELECT body FROM got ORDER BY place")]
        return []


def play(folder: Path, *, count: int, kills: int, seed: int, timeout_s: float, life_s: float) -> list[Side]:
    """Both send `count` numbers; each lives for up to `life_s` once it is up, `kills` times in all; then to the end."""
    random = Random(seed)
    sides = [Side(folder / "anna"), Side(folder / "ben")]
    end = time.monotonic() + timeout_s
    try:
        for one, other in (sides, sides[::-1]):
            one.start(other, count)
        for number in range(kills):
            one, other = sides if number % 2 else sides[::-1]
            while "up" not in one.said() and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(life_s * random.random())
            one.kill()
            one.start(other, count)
        while time.monotonic() < end and not all("whole" in side.said() for side in sides):
            time.sleep(0.05)
    finally:
        for side in sides:
            side.kill()
    return sides


def main() -> int:
    """The whole proof; prints what it found, 0 when nothing was lost or doubled."""
    wrong = 0
    count, kills, seed = 5_000, 20, int.from_bytes(os.urandom(4), "big")
    lossy = subprocess.run(["nft", "-f", "-"], input=LOSS, text=True, check=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sides = play(Path(folder), count=count, kills=kills, seed=seed, timeout_s=1_200, life_s=3)
        for side in sides:
            got = side.got()
            lost, doubled = count - len({*got}), len(got) - len({*got})
            wrong += lost + doubled + (got != sorted(got))
            print(f"{side.home.name}: {lost} lost, {doubled} doubled, in order: {got == sorted(got)}")
    loss = "30 %" if lossy.returncode == 0 else "no"
    print(
        f"{2 * count} letters, {kills} kills, {loss} packets lost, {time.monotonic() - began:.0f} s, seed {seed}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
