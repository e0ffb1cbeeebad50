"""The command lines of two computers that never met, as processes over QUIC on loopback."""

import json
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from queue import Queue
from typing import Any

from tests.apps.files.nodes import coterie, prepare_home, result, running_node, start

WAIT_S = 30.0


class Lines:
    """What a process prints on one of its pipes, line by line, as it comes."""

    def __init__(self, pipe: Any) -> None:
        self.seen: list[str] = []
        self._queue: Queue[str | None] = Queue()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: Any) -> None:
        for line in pipe:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def find(self, pattern: str) -> str:
        """The first group of `pattern` in the first line that has it."""
        while (line := self._queue.get(timeout=WAIT_S)) is not None:
            self.seen.append(line)
            if found := re.search(pattern, line):
                return found.group(1)
        raise AssertionError(f"no {pattern} in {self.seen}")


def home_of(folder: Path, name: str) -> Path:
    home = prepare_home(folder / name)
    (home / "config.toml").write_text(f'bind = "127.0.0.1"\nname = "{name}"\n')
    return home


def end(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> int:
    process.send_signal(number)
    return process.wait(timeout=10)


def test_from_two_fresh_machines_to_the_first_file(tmp_path: Path) -> None:
    """Two commands on each: invite and share, join and get."""
    anna, ben = home_of(tmp_path, "anna"), home_of(tmp_path, "ben")
    (tmp_path / "song.txt").write_text("la la la")
    began = time.monotonic()

    inviting = start(anna, "invite")
    words = Lines(inviting.stderr).find(r"coterie join (\d+-[a-z]+-[a-z]+ --at \S+)")
    joined = coterie(ben, "join", *words.split())
    assert joined.returncode == 0, joined.stderr
    assert joined.stdout.startswith("You and anna know each other now")
    assert inviting.wait(timeout=10) == 0
    assert "You and ben know each other now" in inviting.stdout.read()

    sharing = start(anna, "share", str(tmp_path / "song.txt"))
    ticket = Lines(sharing.stdout).find(r"coterie get (\S+)")
    got = coterie(ben, "get", ticket, str(tmp_path / "copy.txt"))
    assert got.returncode == 0, got.stderr
    took = time.monotonic() - began

    end(sharing)
    for process in (inviting, sharing):
        process.communicate()
    assert (tmp_path / "copy.txt").read_text() == "la la la"
    assert [line["name"] for line in result(coterie(anna, "--json", "contacts"))] == ["ben"]
    assert [line["name"] for line in result(coterie(ben, "--json", "contacts"))] == ["anna"]
    print(f"from nothing to the first file: {took:.1f} s")
    assert took < 60


def test_the_long_form_between_running_nodes(tmp_path: Path) -> None:
    with running_node(tmp_path / "anna") as anna, running_node(tmp_path / "ben") as ben:
        inviting = start(anna.home, "--json", "invite", "--name", "Anna")
        lines = Lines(inviting.stdout)
        ticket = json.loads(lines.find(r"(.*\"Invited\".*)"))["ticket"]
        assert ben.call("join", ticket, "--name", "Ben")["name"] == "Anna"
        assert json.loads(lines.find(r"(.*\"peer\".*)"))["name"] == "Ben"
        assert inviting.wait(timeout=10) == 0
        inviting.communicate()
        assert ben.call("contacts", "rename", "Anna", "Mum")["name"] == "Mum"
        assert ben.call("contacts", "remove", "Mum")["name"] == "Mum"
        assert ben.call("contacts") == []
        assert anna.call("status")["apps"]["contacts"] == {"contacts": 1, "invitations open": 0}


def test_ctrl_c_withdraws(tmp_path: Path) -> None:
    """With a running node too: the invitation lives as long as the command that waits."""
    ben = home_of(tmp_path, "ben")
    with running_node(tmp_path / "anna") as anna:
        inviting = start(anna.home, "invite")
        lines = Lines(inviting.stderr)
        ticket = lines.find(r"coterie join (coterie\S+)")
        lines.find("(waiting)")
        assert end(inviting) == 130
        lines.find("(no longer works)")
        inviting.communicate()
        deadline = time.monotonic() + 5
        while anna.call("status")["apps"]["contacts"]["invitations open"]:
            assert time.monotonic() < deadline, "it stayed open"
        late = coterie(ben, "join", ticket)
        assert late.returncode == 1
        assert "was withdrawn" in late.stderr
        assert "Traceback" not in late.stderr


def test_what_people_do_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    ben = home_of(tmp_path, "ben")
    for words, status, says in (
        (["join", "7-planit-velvet"], 2, "did you mean planet"),
        (["join", "7-planet-velvet"], 1, "nobody on this network has a code with the number 7"),
        (["join", "7-planet-velvet", "--at", "127.0.0.1:9"], 1, "nobody invites at 127.0.0.1:9"),
        (["join", "coterieaaaa"], 2, "truncated"),
        (["contacts", "remove", "nobody"], 1, "there is no contact 'nobody'"),
        (["invite", "--lasting", "0"], 2, "no duration"),
    ):
        done = coterie(ben, *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
        assert says in done.stderr
