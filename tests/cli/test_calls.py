"""Whole command lines in processes of their own: with a running node, without one, and interrupted."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.cli.secret_input import INPUT_CHARS_MAX
from tests.fakes.faces import WAIT_S, command_line, coterie, environment, start, wait_until

STOP_S = 2.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose node runs in the background."""
    home = tmp_path_factory.mktemp("running") / "home"
    done = coterie(home, "up", "--background")
    assert done.returncode == 0, done.stderr
    yield home
    assert coterie(home, "down").returncode == 0


@pytest.fixture(params=["running", "alone"])
def either(request: pytest.FixtureRequest, running: Path, tmp_path: Path) -> Path:
    """A home with a running node, and one without: commands are to do the same."""
    return running if request.param == "running" else tmp_path / "home"


def test_a_result_that_speaks_for_itself(either: Path) -> None:
    done = coterie(either, "greet", "Ann")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Ann!\n", "")


def test_parameters_arrive_as_declared(either: Path, tmp_path: Path) -> None:
    words = [
        "echo",
        "file",
        "--name",
        "n",
        "--count",
        "2",
        "--colour",
        "green",
        "--loud",
        "--tags",
        "a",
        "--tags",
        "b",
    ]
    done = coterie(either, *words, "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {
        "path": str(tmp_path / "file"),
        "name": "n",
        "count": 2,
        "colour": "green",
        "loud": True,
        "tags": ["a", "b"],
    }


def test_a_path_goes_through_links_as_the_shell_does(either: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    done = coterie(either, "--json", "echo", "link/../x", cwd=tmp_path)
    assert json.loads(done.stdout)["path"] == str(tmp_path / "far" / "x")


def test_lists_are_tables_without_escape_sequences(either: Path) -> None:
    assert coterie(either, "rows").stdout.splitlines() == [
        "ID  NAME         SIZE  DONE",
        " 1  one        1.5 MB   yes",
        "20  evil\ufffd[31m     7 B    no",
    ]


def test_progress_goes_to_standard_error_and_the_result_to_standard_output(either: Path) -> None:
    done = coterie(either, "count", "--to", "2")
    assert done.stdout == "Hello, all!\n"
    assert "counting 50% 1 of 2 files, 2 files/s, 1 s left" in done.stderr
    assert done.stderr.startswith("about  starting\n")
    assert coterie(either, "count", "--quiet").stderr == ""


def test_json_lines_end_with_the_result(either: Path) -> None:
    *events, result = map(json.loads, coterie(either, "count", "--to", "1", "--json").stdout.splitlines())
    assert [event["event"] for event in events] == ["Note", "Progress", "Progress", "Note"]
    assert result == {"to": "all"}


def test_an_error_is_one_plain_line(either: Path) -> None:
    done = coterie(either, "fail", "not-found")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "coterie: no such thing: x; try y\n")
    done = coterie(either, "fail", "not-found", "--json")
    assert json.loads(done.stdout) == {"error": {"code": "not_found", "message": "no such thing: x; try y"}}


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_a_result_from_which_something_is_missing_has_a_status_of_its_own(either: Path, option: str) -> None:
    done = coterie(either, "fetch", "a", "b", option)
    assert done.returncode == 3
    assert done.stderr == ""
    assert "a" in done.stdout
    assert coterie(either, "fetch", option).returncode == 0


def test_a_name_of_others_writes_no_line_and_moves_no_cursor(either: Path) -> None:
    hostile = "x\n\x1b[2J\x9bcoterie: \u202eall is well"
    done = coterie(either, "greet", hostile)
    assert (done.returncode, done.stdout) == (0, "Hello, x\ufffd\ufffd[2J\ufffdcoterie: \ufffdall is well!\n")
    done = coterie(either, "put", hostile)
    assert done.stderr.startswith("coterie: x\ufffd\ufffd[2J\ufffdcoterie: \ufffdall is well exists already;")
    assert done.stderr.count("\n") == 1
    said = coterie(either, "put", hostile, "--json").stdout
    assert json.loads(said)["error"]["message"].startswith("x")
    assert said == said.translate(dict.fromkeys([0x1B, 0x9B, 0x202E]))


def test_a_secret_is_read_from_standard_input(either: Path, tmp_path: Path) -> None:
    (tmp_path / "-").write_text("not this")
    done = coterie(either, "unlock", "-", input="coterie\n abc\n", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Hello, coterie\ufffd abc!\n"), done.stderr
    assert coterie(either, "unlock", "-", "--code", "-", input="one\ntwo\n").stdout == "Hello, one two!\n"
    assert coterie(either, "unlock", "x", "--code", "-", input="two").stdout == "Hello, x two!\n"


def test_what_was_typed_stays_and_the_folder_is_told(either: Path, tmp_path: Path) -> None:
    (tmp_path / "anna").write_text("a file of the name of somebody")
    done = coterie(either, "where", "anna", cwd=tmp_path)
    assert " ".join(done.stdout.split()) == f"Hello, anna in {tmp_path}!", done.stderr  # the path may be long
    assert "--here" not in coterie(either, "where", "--help").stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "says nothing for TICKET"),
        (b" \n", "says nothing for TICKET"),
        (b"\xff\xfe", "is no text"),
        (b"x" * (INPUT_CHARS_MAX + 1), f"than {INPUT_CHARS_MAX} characters"),
    ],
)
def test_what_standard_input_cannot_say_is_said(tmp_path: Path, given: bytes, said: str) -> None:
    done = subprocess.run(
        command_line("unlock", "-"),
        input=given,
        check=False,
        env=environment(tmp_path, PYTHONUTF8="1"),
        capture_output=True,
    )
    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_help_says_how_to_keep_a_secret(tmp_path: Path) -> None:
    assert "- reads it from standard input" in " ".join(coterie(tmp_path, "unlock", "--help").stdout.split())


def test_an_unexpected_error_is_one_line_too(either: Path) -> None:
    done = coterie(either, "fail", "bug")
    assert done.returncode == 1
    assert re.fullmatch(r"coterie: unexpected ZeroDivisionError.*\n", done.stderr)


def test_a_question_is_not_asked_where_nobody_can_answer(either: Path) -> None:
    done = coterie(either, "put", "x", input="o\n")
    assert (done.returncode, done.stderr) == (
        1,
        "coterie: x exists already; use --overwrite or --keep-both\n",
    )
    assert coterie(either, "put", "x", "--keep-both").stdout == "Hello, both kept!\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["greet"], "Missing argument 'TO'"),
        (["echo", "x", "--count", "many"], "'many' is not a valid integer"),
        (["echo", "x", "--colour", "blue"], "'red', 'green'"),
        (["echo", "x", "--nope"], "No such option"),
        (["nope"], "No such command 'nope'"),
        (["rows", "pause", "x"], "not a valid integer"),
        (["config", "set", "nope", "1"], "known: port"),
    ],
)
def test_wrong_usage_ends_with_2(running: Path, words: list[str], said: str) -> None:
    done = coterie(running, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("coterie: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_without_a_node_status_says_how_to_start_one(tmp_path: Path) -> None:
    done = coterie(tmp_path, "status")
    assert done.returncode == 1
    assert done.stderr == f"coterie: no coterie runs in {tmp_path}; start one with `coterie up`\n"


def test_a_stale_note_of_a_dead_node_is_no_running_node(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    (tmp_path / "run").mkdir()
    note = {"url": "http://127.0.0.1:9", "token": "x", "pid": gone.pid}
    (tmp_path / "run" / "api.json").write_text(json.dumps(note))
    assert "no coterie runs" in coterie(tmp_path, "status").stderr
    assert coterie(tmp_path, "greet", "x").stdout == "Hello, x!\n"


def test_a_command_that_stays_serves_until_ctrl_c_and_is_reachable_meanwhile(tmp_path: Path) -> None:
    offer = start(tmp_path, "offer", "cake")
    assert offer.stdout is not None
    assert offer.stdout.readline() == "Hello, cake!\n"
    assert str(offer.pid) in coterie(tmp_path, "local").stdout
    began = time.monotonic()
    offer.send_signal(signal.SIGINT)
    _, stderr = offer.communicate(timeout=WAIT_S)
    assert time.monotonic() - began < STOP_S
    assert offer.returncode == 130
    assert "coterie up --background" in stderr
    assert "Traceback" not in stderr


def test_ctrl_c_stops_a_call_of_the_running_node_and_cancels_it_there(running: Path) -> None:
    count = start(running, "count", "--to", "1000000", "--pause-s", "1000")
    assert count.stderr is not None
    assert "starting" in count.stderr.readline()
    _interrupt(count, "what arrived is kept; run it again to go on")
    assert coterie(running, "greet", "again").returncode == 0


def test_ctrl_c_stops_a_call_without_a_node(tmp_path: Path) -> None:
    count = start(tmp_path, "count", "--to", "1000000", "--pause-s", "1000")
    assert count.stderr is not None
    assert "starting" in count.stderr.readline()
    _interrupt(count, "what arrived is kept; run it again to go on")


def test_ctrl_c_cuts_off_what_does_not_let_itself_be_cancelled(tmp_path: Path) -> None:
    stubborn = start(tmp_path, "stubborn")
    wait_until((tmp_path / "run" / "api.json").exists, "the node to open")
    _interrupt(stubborn, "it was stubborn")


def test_ctrl_c_cuts_off_a_node_that_does_not_close(tmp_path: Path) -> None:
    offer = start(tmp_path, "offer", "cake", env={"FAKE_HANGS": "1"})
    assert offer.stdout is not None
    offer.stdout.readline()
    _interrupt(offer, "")


def test_a_reader_that_leaves_is_no_error(running: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{' '.join(command_line('rows'))} | true"],
        env=environment(running),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.stderr == ""


def test_a_question_at_a_terminal_is_answered_and_the_call_repeated(either: Path) -> None:
    assert "both kept" in _at_terminal(either, ["put", "x"], b"k\n", 0)
    assert "overwritten" in _at_terminal(either, ["put", "x"], b"what\nOverwrite\n", 0)
    screen = _at_terminal(either, ["put", "x"], b"\n", 1)
    assert screen.count("x exists already") == 2
    assert "[o] overwrite, [k] keep both" in screen


def test_progress_on_a_terminal_is_a_bar(running: Path) -> None:
    screen = _at_terminal(running, ["count", "--to", "2", "--pause-s", "0.1"], b"", 0)
    assert "━" in screen
    assert "100% 2 of 2 files" in screen
    assert "Hello, all!" in screen


def _interrupt(process: "subprocess.Popen[str]", said: str) -> None:
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=WAIT_S)
    assert time.monotonic() - began < STOP_S
    assert process.returncode == 130
    assert said in stderr
    assert "Traceback" not in stderr


def _at_terminal(home: Path, words: list[str], typed: bytes, status: int) -> str:
    """What a person sees who runs `words` at a terminal and types `typed`."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        command_line(*words), env=environment(home, TERM="xterm"), stdin=inner, stdout=inner, stderr=inner
    )
    os.close(inner)
    os.write(outer, typed)
    seen, end = b"", time.monotonic() + WAIT_S
    while time.monotonic() < end:
        ready, _, _ = select.select([outer], [], [], 0.1)
        try:
            block = os.read(outer, 65536) if ready else b""
        except OSError:  # the last process with the terminal is gone
            break
        seen += block
    os.close(outer)
    assert process.wait(WAIT_S) == status, seen.decode()
    return seen.decode()
