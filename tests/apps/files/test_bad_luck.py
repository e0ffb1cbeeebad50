"""Processes that are killed, disks that fill up, people who press Ctrl-C: what is kept and what is said."""

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.apps.files.nodes import RunningNode, coterie, prepare_home, result, running_node, start, tree_of

MB = 1_000_000


def make_file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for at in range(0, size, 8 * MB):
            file.write(secrets.token_bytes(min(8 * MB, size - at)))
    return path


def received_so_far(folder: Path) -> int:
    """Bytes in the staging areas of a folder."""
    return sum(p.stat().st_blocks * 512 for p in folder.glob(".coterie-partial-*/data"))


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_cost_at_most_one_per_cent(tmp_path: Path) -> None:
    """The receiver is killed (-9) twenty times during 2 GB: at most 1 % is sent again, the result is identical."""
    size, kills = 2000 * MB, 20
    source = make_file(tmp_path / "large.bin", size)
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    ben = prepare_home(tmp_path / "ben")
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(source))["ticket"]
        for kill in range(kills):
            getting = start(ben, "get", ticket, str(tmp_path / "copy"))
            goal = size * (kill + rng.random()) / (kills + 1)
            wait_for(lambda: received_so_far(tmp_path) >= goal or getting.poll() is not None, 120)  # noqa: B023
            assert getting.poll() is None, (seed, getting.communicate())
            getting.kill()
            getting.communicate()
        received = result(coterie(ben, "--json", "get", ticket, str(tmp_path / "copy")))
        sent = anna.call("status")["apps"]["files"]["bytes sent"]
    assert received["failed"] == []
    assert subprocess.run(["cmp", str(source), str(tmp_path / "copy")], check=False).returncode == 0
    print(f"sent {sent:,} of {size:,}: {100 * (sent - size) / size:.2f} % again (seed {seed})")
    assert sent - size <= 0.01 * size, (seed, sent)


def test_a_killed_receiver_goes_on_where_it_was(tmp_path: Path) -> None:
    source = make_file(tmp_path / "large.bin", 60 * MB)
    ben = prepare_home(tmp_path / "ben")
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(source))["ticket"]
        getting = start(ben, "get", ticket, str(tmp_path / "copy"))
        wait_for(lambda: received_so_far(tmp_path) >= 20 * MB)
        getting.kill()
        getting.communicate()
        received = result(coterie(ben, "--json", "get", ticket, str(tmp_path / "copy")))
    assert received["fetched"] <= 42 * MB
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_killed_sender_that_comes_back_is_found_again(tmp_path: Path) -> None:
    """The receiver goes on by itself; neither side is told anything."""
    source = make_file(tmp_path / "large.bin", 100 * MB)
    ben = prepare_home(tmp_path / "ben")
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(source))["ticket"]
        getting = start(ben, "--json", "get", ticket, str(tmp_path / "copy"))
        wait_for(lambda: received_so_far(tmp_path) >= 20 * MB)
        anna.kill()
        anna.up()
        out, err = getting.communicate(timeout=60)
        assert getting.returncode == 0, err
    assert '"phase": "waiting"' in out or '"phase":"waiting"' in out
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_giver_that_falls_silent_is_waited_for_and_said_so(tmp_path: Path) -> None:
    """As when a cable is pulled: the connection stands, and nothing comes."""
    source = make_file(tmp_path / "large.bin", 60 * MB)
    with running_node(tmp_path / "anna") as anna, running_node(tmp_path / "ben") as ben:
        ticket = anna.call("share", str(source))["ticket"]
        ben.call("limits", "--down", "3MB/s")
        ben.call("get", ticket, str(tmp_path / "copy"), "--detach")

        def line() -> dict[str, Any]:
            (one,) = ben.call("transfers")
            return one

        wait_for(lambda: line()["rate"] > MB)
        (first,) = ben.call("transfers", "show", line()["id"])["sources"]
        assert first["rate"] > 0
        anna.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: line()["state"] == "waiting", 8)
            silent, detail = line(), ben.call("transfers", "show", line()["id"])
        finally:
            anna.process.send_signal(signal.SIGCONT)
        assert (silent["rate"], silent["note"]) == (0, f"waiting for {silent['peer']}")
        assert (detail["state"], detail["rate"]) == ("waiting", 0)
        assert [one["rate"] for one in detail["sources"]] == [0]
        wait_for(lambda: line()["state"] == "running" and line()["rate"] > 0)


def test_a_receiving_node_that_is_killed_goes_on_by_itself_when_started_again(tmp_path: Path) -> None:
    source = make_file(tmp_path / "large.bin", 100 * MB)
    with running_node(tmp_path / "anna") as anna, running_node(tmp_path / "ben") as ben:
        ticket = anna.call("share", str(source))["ticket"]
        ben.call("get", "--detach", ticket, str(tmp_path / "copy"))
        wait_for(lambda: received_so_far(tmp_path) >= 20 * MB)
        ben.kill()
        assert not (tmp_path / "copy").exists()
        ben.up()
        wait_for(lambda: ben.call("transfers")[0]["state"] == "done")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("with_node", [False, True])
def test_ctrl_c_stops_within_two_seconds_and_keeps_what_arrived(tmp_path: Path, with_node: bool) -> None:
    source = make_file(tmp_path / "large.bin", 200 * MB)
    ben = RunningNode(tmp_path / "ben") if with_node else None
    home = tmp_path / "ben" if ben else prepare_home(tmp_path / "ben")
    try:
        with running_node(tmp_path / "anna") as anna:
            ticket = anna.call("share", str(source))["ticket"]
            getting = start(home, "get", ticket, str(tmp_path / "copy"))
            wait_for(lambda: received_so_far(tmp_path) >= 10 * MB)
            getting.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, err = getting.communicate(timeout=10)
            assert time.monotonic() - began < 2
            assert getting.returncode == 130
            assert "goes on from there" in err
            assert "Traceback" not in err
            assert received_so_far(tmp_path) >= 10 * MB
            received = result(coterie(home, "--json", "get", ticket, str(tmp_path / "copy")))
            assert received["fetched"] < 195 * MB
    finally:
        if ben:
            ben.stop()
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_ctrl_c_while_sharing_leaves_a_usable_home(tmp_path: Path) -> None:
    source = make_file(tmp_path / "large.bin", 1500 * MB)
    home = prepare_home(tmp_path / "anna")
    sharing = start(home, "share", str(source))
    wait_for((home / "run" / "api.json").exists)
    sharing.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = sharing.communicate(timeout=10)
    assert time.monotonic() - began < 2
    assert sharing.returncode == 130
    assert "Traceback" not in err
    assert result(coterie(home, "--json", "shares")) in ([], None)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounts a small file system: needs root")
def test_a_full_disk_is_said_and_the_transfer_goes_on_after_space_is_freed(tmp_path: Path) -> None:
    """On a tmpfs of 64 MB, in a mount namespace of the receiver's own; the space goes while the transfer runs."""
    source = make_file(tmp_path / "large.bin", 40 * MB)
    small = tmp_path / "small"
    small.mkdir()
    ben = prepare_home(tmp_path / "ben")
    script = tmp_path / "full.py"
    script.write_text(FULL_DISK)
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(source))["ticket"]
        done = subprocess.run(
            [sys.executable, str(script), str(small), str(ben), ticket],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout


FULL_DISK = """
import ctypes, os, subprocess, sys
from pathlib import Path

small, home, ticket = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
assert libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
assert libc.mount(b"tmpfs", small.encode(), b"tmpfs", 0, b"size=64m") == 0, os.strerror(ctypes.get_errno())
get = [sys.executable, "-m", "coterie", "--home", home, "get", ticket, small + "/copy"]
def run():
    return subprocess.run(get, capture_output=True, text=True, timeout=60)

# 1. Not enough from the start.
filler = Path(small, "filler")
filler.write_bytes(bytes(40_000_000))
done = run()
assert done.returncode == 1 and "disk full" in done.stderr and "free" in done.stderr, done.stderr
assert sorted(os.listdir(small)) == ["filler"], os.listdir(small)

# 2. The space goes away under way.
filler.unlink()
process = subprocess.Popen(get, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
staged = lambda: [p for p in Path(small).glob(".coterie-partial-*/data") if p.stat().st_size > 1_000_000]
while not staged():
    assert process.poll() is None, process.communicate()
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 20))
    except OSError:
        pass
out, err = process.communicate(timeout=60)
assert process.returncode == 1 and "disk full" in err, (process.returncode, err)
assert not Path(small, "copy").exists()

# 3. Space is freed: it goes on.
filler.unlink()
done = run()
assert done.returncode == 0, done.stderr
assert os.listdir(small) == ["copy"], os.listdir(small)
assert Path(small, "copy").stat().st_size == 40_000_000
"""


def test_an_offline_peer_is_said_within_ten_seconds(tmp_path: Path) -> None:
    ben = prepare_home(tmp_path / "ben")
    (tmp_path / "f").write_text("x")
    with running_node(tmp_path / "anna") as anna:
        ticket = anna.call("share", str(tmp_path / "f"))["ticket"]
    began = time.monotonic()
    done = coterie(ben, "get", ticket, str(tmp_path / "copy"))
    assert time.monotonic() - began < 10
    assert done.returncode == 1
    assert "127.0.0.1:" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_get_and_share_work_without_a_running_node(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    (source / "one.txt").write_text("one")
    sharing = start(prepare_home(tmp_path / "anna"), "share", str(source))
    assert sharing.stdout is not None
    ticket = next(line.split()[-1] for line in sharing.stdout if "coterie get" in line)
    done = coterie(prepare_home(tmp_path / "ben"), "get", ticket, cwd=tmp_path / "ben")
    sharing.send_signal(signal.SIGINT)
    sharing.communicate(timeout=10)
    assert done.returncode == 0, done.stderr
    assert "Received" in done.stdout
    assert tree_of(tmp_path / "ben" / "photos") == tree_of(source)


@pytest.mark.parametrize(
    ("ticket", "says"),
    [
        ("coterieaeahg", "truncated"),
        ("coterieae!hg", "mistyped"),
        ("coterie!", "nothing that can be fetched"),
    ],
)
def test_a_wrong_ticket_is_said(tmp_path: Path, ticket: str, says: str) -> None:
    done = coterie(prepare_home(tmp_path / "ben"), "get", ticket)
    assert done.returncode != 0
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_corrupt_database_is_said_and_not_touched(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "anna")
    (home / "store.db").write_bytes(b"not a database at all" * 1000)
    done = coterie(home, "shares")
    assert done.returncode == 1
    assert "store.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert (home / "store.db").read_bytes().startswith(b"not a database")


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    import socket

    home = prepare_home(tmp_path / "anna")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (home / "config.toml").write_text(f'bind = "127.0.0.1"\nport = {port}\n')
        done = coterie(home, "up")
    assert done.returncode in (1, 2)
    assert str(port) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_clock_that_jumps_disturbs_nothing(tmp_path: Path, monkeypatch) -> None:
    """Wall-clock time is only shown: a transfer during which it jumps by years ends whole."""
    from tests.apps.files.nodes import pair
    from tests.support import run

    source = make_file(tmp_path / "large.bin", 20 * MB)
    real = time.time

    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            getting = asyncio.ensure_future(ben.files.get(ticket, tmp_path / "copy"))
            for jump in (0, 3e8, -3e8, 1e9, 0):
                monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
                await asyncio.sleep(0.02)
            await getting

    run(main())
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
