"""Names of other people, completed by the real shells: they are words of the line and never run, whatever they are."""

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import shutil
import socketserver
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import FishComplete, add_completion_class

from coterie.cli import main
from coterie.cli.shells import in_bash
from coterie.control.client import CHALLENGE_HEADER, proof

WAIT_S = 20.0
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SETTINGS = {
    "bash": "PS1='$ '; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'\n",
    "zsh": "autoload -U compinit; compinit -u -D; unsetopt beep\n",
    "fish": "",
}
# Each begins with a letter of its own, so that one TAB completes all of it.
HOSTILE = [
    "a$(touch pwned)",
    "b`touch pwned`",
    "c;touch pwned;",
    "d&touch pwned&",
    "e|touch pwned",
    "f'$(touch pwned)'",
    'g"$(touch pwned)"',
    "h>pwned",
    "i\ntouch pwned\n",
    "j\rtouch pwned\r",
    "k,touch pwned",
    "l*",
    "m{x,y}",
    "n!!",
    "o\\$(touch pwned)",
    "p<(touch pwned)",
    "q #(touch pwned)",
    "r\x1b[A\x15touch pwned\x0d",
    "s\u202etouch pwned",
    "t$HOME",
    "u(touch pwned)",
    "v photos of 2024",
    "w\tx",
    "x[a-z]?",
    "y'; touch pwned; '",
    'z"; touch pwned; "',
]
LEFT_OUT = {name for name in HOSTILE if not name.isprintable()}


class _Node(BaseHTTPRequestHandler):
    """What completion asks of a running node, answered with the names above."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        names = [*HOSTILE, "--overwrite", "~root", "1plain-name.txt"]
        line = json.dumps({"result": [{"name": name, "kind": "file"} for name in names]}) + "\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(line)))
        self.end_headers()
        self.wfile.write(line.encode())

    def do_GET(self) -> None:
        said = proof("t", self.headers[CHALLENGE_HEADER])
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Answers(socketserver.StreamRequestHandler):
    """Answers the shell as `coterie` does, in this process: a Python for each TAB would take a third of a second."""

    def handle(self) -> None:
        asked = b""
        while asked.count(b"\0") < 3:
            asked += self.rfile.read1()
        instruction, words, at, _ = asked.decode().split("\0")
        given = {"_COTERIE_COMPLETE": instruction, "COMP_WORDS": words, "COMP_CWORD": at}
        said = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            for name, value in {**given, "COTERIE_HOME": self.server.home}.items():  # type: ignore[attr-defined]
                patch.setenv(name, value)
            main([])
            said.flush()
        self.wfile.write(said.buffer.getvalue())  # type: ignore[attr-defined]


PROGRAM = """#!/bin/bash
if [ -n "$_COTERIE_COMPLETE" ]; then
    exec 3<>/dev/tcp/127.0.0.1/PORT
    printf '%s\\0%s\\0%s\\0' "$_COTERIE_COMPLETE" "$COMP_WORDS" "$COMP_CWORD" >&3
    exec cat <&3
fi
printf '%s\\0' "$@" >>WORDS
printf '\\n' >>WORDS
"""


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a node, and a `coterie` that completes as ours does and otherwise notes its words."""
    root = tmp_path_factory.mktemp("computer")
    for folder in ("home/run", "bin", "here"):
        (root / folder).mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(_serving(HTTPServer(("127.0.0.1", 0), _Node)))
        answers = stack.enter_context(_serving(socketserver.TCPServer(("127.0.0.1", 0), _Answers)))
        answers.home = str(root / "home")  # type: ignore[attr-defined]
        note = {"url": f"http://127.0.0.1:{node.server_address[1]}", "token": "t", "pid": os.getpid()}
        (root / "home/run/api.json").write_text(json.dumps(note))
        program = root / "bin/coterie"
        text = PROGRAM.replace("PORT", str(answers.server_address[1]))
        program.write_text(text.replace("WORDS\n", f"{root / 'words'}\n"))
        program.chmod(0o755)
        yield root


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class _Terminal:
    """A shell on a terminal of its own; what it writes is read until it has said what is waited for."""

    def __init__(self, shell: str, root: Path) -> None:
        settings = {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "HOME": str(root / "here"),
            "COTERIE_HOME": str(root / "home"),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "HISTFILE": "",
        }
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            SHELLS[shell], stdin=theirs, stdout=theirs, stderr=theirs, cwd=root / "here", env=settings,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )  # fmt: skip
        os.close(theirs)
        self._said = b""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, wanted: bytes) -> None:
        """Read until `wanted` was said."""
        end = time.monotonic() + WAIT_S
        while wanted not in self._said:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {wanted!r} in {self._said!r}"
            try:
                self._said += os.read(self._ours, 65536)
            except OSError:
                pytest.fail(f"the shell ended: {self._said!r}")
        self._said = self._said.partition(wanted)[2]

    def close(self) -> None:
        self.type("\x03\nexit\n")
        with contextlib.suppress(OSError):
            while select.select([self._ours], [], [], WAIT_S)[0] and os.read(self._ours, 65536):
                pass
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


def _type(shell: str, root: Path, lines: list[str]) -> list[list[str]]:
    """The words that `coterie` got while a person typed `lines`."""
    if not shutil.which(shell):
        assert not os.environ.get("CI"), f"{shell} is missing"
        pytest.skip(f"{shell} is missing")
    (root / "words").write_text("")
    terminal = _Terminal(shell, root)
    source = 'eval "$(_COTERIE_COMPLETE=%s_source coterie)"'
    if shell == "fish":
        source = "_COTERIE_COMPLETE=%s_source coterie | source"
    try:
        terminal.type(SETTINGS[shell] + source % shell + "; echo rea''dy\n")
        terminal.until(b"ready")
        for number, line in enumerate(lines):
            terminal.type(f"{line}\necho do''ne{number}x\n")
            terminal.until(f"done{number}x".encode())
    finally:
        terminal.close()
    heard = (root / "words").read_bytes().split(b"\0\n")[:-1]
    return [words.decode().split("\0") for words in heard]


def _made(root: Path) -> list[str]:
    """What a command of a name has made."""
    made = [path for path in (root / "here").iterdir() if not path.name.startswith(".")]
    for path in made:
        path.unlink()
    return [path.name for path in made]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_is_a_word_and_never_a_command(shell: str, computer: Path) -> None:
    got = _type(shell, computer, [f"coterie get {name[0]}\t" for name in HOSTILE])
    assert _made(computer) == []
    for name, words in zip(HOSTILE, got, strict=True):
        assert words == ["get", name[0] if name in LEFT_OUT else name], name


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("shell", SHELLS)
def test_nor_within_quotes(shell: str, quote: str, computer: Path) -> None:
    _type(shell, computer, [f"coterie get {quote}{name[0]}\t\n{quote}\n\x03" for name in HOSTILE])
    assert _made(computer) == []


class _Other(FishComplete):
    """A shell that nobody has tried."""

    name = "other"


def test_a_shell_that_was_not_tried_gets_plain_words(
    computer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_completion_class(_Other)
    said = {"_COTERIE_COMPLETE": "other_complete", "COMP_WORDS": "coterie get ", "COMP_CWORD": ""}
    for name, value in {**said, "COTERIE_HOME": str(computer / "home")}.items():
        monkeypatch.setenv(name, value)
    main([])
    offered = [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]
    assert offered == ["1plain-name.txt"]


def test_bash_gets_what_it_takes_for_one_word() -> None:
    for name in [*HOSTILE, "~root", "#x", "plain-name_2.txt", "", "größe"]:
        given = in_bash(name, "")
        if given is None:
            assert name in LEFT_OUT
            continue
        said = subprocess.run(["bash", "-c", f"printf '%s' {given}"], capture_output=True, check=True).stdout
        assert said.decode() == name
        assert in_bash(name, '"x') in (None, name)
    assert in_bash("it's", "'i") is None
    assert in_bash("its", "'i") == "its"
