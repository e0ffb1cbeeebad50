"""Sending as people do: command lines, processes that are killed, a code and a look around on a real local network."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from coterie.control.client import Client
from coterie.home import Home
from tests.apps.files.nodes import RunningNode, coterie, prepare_home, start

WAIT_S = 60.0
APP = {"limits": "files", "transfers": "files"}


def until(done: Callable[[], Any]) -> Any:
    """What `done` gives, once that is true."""
    end = time.monotonic() + WAIT_S
    while not (found := done()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)
    return found


def named_home(folder: Path, name: str) -> Path:
    """A home on loopback whose node is called so and puts what it gets into a folder of that name."""
    home = prepare_home(folder / f"home-{name}")
    with (home / "config.toml").open("a") as config:
        config.write(f'name = "{name}"\n[app.send]\nfolder = "{folder / name}"\n')
    return home


def node_of(folder: Path, name: str) -> RunningNode:
    home = named_home(folder, name)
    node = RunningNode.__new__(RunningNode)
    node.home = home
    node.up()
    return node


def ask(node: RunningNode, path: str, **parameters: Any) -> Any:
    """The result of a command, without a command line."""
    lines = Client.find(Home.locate(node.home).api_file).call(
        APP.get(path, "send"), tuple(path.split()), parameters
    )
    return list(lines)[-1]["result"]


def states(node: RunningNode, command: str) -> list[str]:
    return [str(line["state"]) for line in ask(node, command)]


def line_with(lines: "IO[str] | None", pattern: str) -> str:
    """The first group of `pattern` in what a process prints."""
    assert lines is not None
    read = []
    for line in lines:
        read.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(read)


def test_a_code_a_look_around_and_a_person_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"sunset" * 1_000)
    (tmp_path / "note.txt").write_text("hello")
    anna, ben = node_of(tmp_path, "anna"), node_of(tmp_path, "ben")
    try:
        sending = start(anna.home, "send", "photos", "note.txt", cwd=tmp_path)
        code = line_with(sending.stderr, r"coterie receive (\d+-\w+-\w+)")
        asked = coterie(ben.home, "receive", code)
        assert asked.returncode == 1
        assert "anna (stranger) offers photos and 1 more (2 files, 6.0 kB)" in asked.stderr
        assert not (tmp_path / "ben").exists()
        taken = coterie(ben.home, "receive", code, "--yes")
        assert taken.returncode == 0, taken.stderr
        assert sending.wait(WAIT_S) == 0
        assert "received by ben (stranger)" in sending.communicate()[0]
        assert sorted(p.name for p in (tmp_path / "ben").iterdir()) == ["note.txt", "photos"]
        again = coterie(ben.home, "receive", "1-abandon-ability")
        assert "does the command that printed it still run?" in again.stderr

        looking = start(ben.home, "receive", "--near")
        listed = until(lambda: anna.call("send", str(tmp_path / "note.txt"), "--near"))
        assert [line["name"] for line in listed] == ["ben (stranger)"]
        offered = anna.call("send", str(tmp_path / "note.txt"), "ben", "--near")
        assert offered["to"] == "ben (stranger)"
        assert line_with(looking.stdout, r"from anna \(stranger\): (\w+)") == "delivered"
        assert "NotFound" not in coterie(ben.home, "inbox", "accept", "note.txt").stderr
        until(lambda: states(anna, "sent")[-1] == states(ben, "inbox")[-1] == "received")
        assert (tmp_path / "ben" / "note (2).txt").read_text() == "hello"
        looking.terminate()
        looking.communicate(timeout=WAIT_S)

        film = tmp_path / "film.bin"  # both are killed half-way
        film.write_bytes(b"".join(number.to_bytes(4, "big") * (1 << 18) for number in range(16)))
        looking = start(ben.home, "receive", "--near")
        until(lambda: coterie(anna.home, "send", str(film), "ben", "--near").returncode == 0)
        ask(ben, "limits", down=6_000_000)
        until(lambda: states(ben, "inbox")[-1] == "delivered")
        ask(ben, "inbox accept", offer="film.bin")
        until(lambda: states(ben, "inbox")[-1].startswith("fetching"))
        until(lambda: any(t["done"] > 2_000_000 for t in ask(ben, "transfers")))
        for node in (ben, anna):
            node.kill()
        looking.communicate(timeout=WAIT_S)
        for node in (ben, anna):
            node.up()
        until(lambda: states(anna, "sent")[-1] == states(ben, "inbox")[-1] == "received")
        assert (tmp_path / "ben" / "film.bin").read_bytes() == film.read_bytes()
        inviting = start(anna.home, "invite")  # who is known is called as it is here, and is no stranger
        code = line_with(inviting.stderr, r"coterie join (\d+-\w+-\w+)")
        assert coterie(ben.home, "join", code).returncode == 0
        inviting.communicate(timeout=WAIT_S)
        assert coterie(anna.home, "contacts", "rename", "ben", "benno").returncode == 0
        looking = start(ben.home, "receive", "--near")
        listed = until(lambda: anna.call("send", str(tmp_path / "note.txt"), "--near"))
        assert [line["name"] for line in listed] == ["benno"]
        assert anna.call("send", str(tmp_path / "note.txt"), "benno", "--near")["to"] == "benno"
        looking.terminate()
        looking.communicate(timeout=WAIT_S)
    finally:
        anna.stop()
        ben.stop()
