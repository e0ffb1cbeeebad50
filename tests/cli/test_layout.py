"""What people read fits their terminal, and nothing that they may type again is cut."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from coterie.cli.layout import COLUMNS, columns, in_words, wrapped
from tests.fakes.faces import WAIT_S, command_line, coterie, environment

WIDE = [
    {
        "id": "b5xk2q7w",
        "name": "Annamaria's photos of the summer",
        "path": "/home/annamaria/Pictures/2024/summer in the mountains",
        "files": 3,
        "size": 123_456,
        "state": "2 changed, 1 gone since it was shared",
        "to": ["ticket", "anna", "circle:home"],
    },
    {"id": "c5xk2q7w", "name": "x", "path": "/x", "files": 1, "size": 5, "state": "", "to": ["ticket"]},
]


def test_a_table_that_is_too_wide_cuts_nothing() -> None:
    said = in_words(WIDE)
    assert said == (
        "ID        FILES      SIZE  TO\n"
        "b5xk2q7w      3  123.5 kB  ticket, anna, circle:home\n"
        "    name: Annamaria's photos of the summer\n"
        "    path: /home/annamaria/Pictures/2024/summer in the mountains\n"
        "    state: 2 changed, 1 gone since it was shared\n"
        "c5xk2q7w      1       5 B  ticket\n"
        "    name: x  path: /x"
    )
    assert max(map(len, said.split("\n"))) <= COLUMNS


def test_a_table_that_fits_has_a_line_for_each_row() -> None:
    assert in_words(WIDE, 240).count("\n") == 2


def test_what_is_below_is_broken_at_blanks_and_long_words_stay_whole() -> None:
    path = "/" + "x" * 90
    lines = in_words([{"id": "a", "path": path, "reason": "some words " * 12}]).split("\n")
    assert [line.strip() for line in lines if len(line) > COLUMNS] == [path]
    assert " ".join(" ".join(lines).split()).endswith(f"path: {path} reason: {'some words ' * 12}".strip())


def test_a_column_of_ids_is_called_so_and_one_of_names_computer() -> None:
    whole = "k3fw7a2b5c" * 5 + "q7"
    assert in_words([{"peer": whole}]).startswith("ID\nk3fw7a2b5c")
    assert in_words([{"peer": "anna"}]).startswith("COMPUTER\nanna")


@pytest.mark.parametrize(
    ("line", "indent"),
    [
        ("words " * 20, 2),
        ("  words " + "words " * 20, 4),
        ("ok  disk        " + "words " * 20, 16),
        (" " * 16 + "-> " + "words " * 20, 19),
        ("coterie: " + "/long" * 30 + " words" * 20, 2),
    ],
)
def test_further_lines_begin_where_the_text_began(line: str, indent: int) -> None:
    _, *further = wrapped(line, COLUMNS).split("\n")
    assert further
    assert {len(f) - len(f.lstrip()) for f in further} == {indent}


def test_no_line_ends_with_a_blank() -> None:
    assert wrapped("a  \n  b \n", COLUMNS) == "a\n  b\n"


@pytest.mark.parametrize(
    "copied", [f"  coterie get {'a' * 30} to", "██ ▄▄▄▄▄ █▀ █▀▀█▄▀▀▄", "  magnet:?xt=urn:btih:01234"]
)
def test_what_is_copied_is_not_broken(copied: str) -> None:
    assert wrapped(copied, 20) == copied


def on_a_terminal(home: Path, *words: str, wide: int = COLUMNS) -> tuple[int, list[str]]:
    """The exit status of a program, and what it printed to its terminal of `wide` columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, wide, 0, 0))
    with subprocess.Popen(
        words, env=environment(home), stdin=subprocess.DEVNULL, stdout=its, stderr=its
    ) as process:
        os.close(its)
        said = b""
        try:
            while more := os.read(ours, 65_536):
                said += more
        except OSError:
            pass  # the other end is closed: Linux says so like that
        process.wait(WAIT_S)
    os.close(ours)
    return process.returncode, said.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("wide", [60, 80])
def test_an_error_is_broken_to_fit_the_terminal(tmp_path: Path, wide: int) -> None:
    words = ["config", "set", "reach", "a word or more " * 20]
    status, lines = on_a_terminal(tmp_path, *command_line(*words), wide=wide)
    assert status == 2
    assert len(lines) > 2
    assert max(map(len, lines)) <= wide
    assert lines[0].startswith("coterie: ")
    assert all(line.startswith("  ") for line in lines[1:])


def test_an_error_is_one_line_in_a_pipe(tmp_path: Path) -> None:
    done = coterie(tmp_path, "config", "set", "reach", "a word or more " * 20)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) > COLUMNS


def test_the_width_of_what_is_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file:
        assert columns(file) == COLUMNS


_WAITS = """
from coterie.cli.options import Options
from coterie.cli.show import Show
show = Show(Options())
for done in range(3):
    line = {"event": "Progress", "phase": "waiting", "done": done, "total": None, "note": "it is not there " * 12}
    show.line(line)
    show.line(line | {"phase": "receiving", "total": 2, "rate": 9e6, "eta_s": 3599, "note": "a name.jpg"})
show.close()
"""


def test_a_long_note_stands_above_the_bar_once_and_pushes_nothing_away(tmp_path: Path) -> None:
    _, lines = on_a_terminal(tmp_path, sys.executable, "-c", _WAITS)
    seen = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for line in lines for part in line.split("\r")]
    assert max(map(len, seen)) <= COLUMNS
    assert sum("it is not there" in line for line in seen) == len(
        wrapped("it is not there " * 12, COLUMNS).split("\n")
    )
    assert any(re.search(r"receiving .* 100% 2 B of 2 B, 9\.0 MB/s, 59 min 59 s left", line) for line in seen)
