"""Starting and stopping nodes, and whatever can stand in the way."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coterie.control.client import is_alive
from tests.fakes.faces import WAIT_S, api_note, command_line, coterie, environment, start, wait_until

STOP_S = 2.0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_up_in_the_foreground_stops_on_a_signal(tmp_path: Path, number: signal.Signals, status: int) -> None:
    up = start(tmp_path, "up")
    assert up.stderr is not None
    assert up.stderr.readline() == "Ctrl-C stops\n"
    note = api_note(tmp_path)
    assert note["pid"] == up.pid
    began = time.monotonic()
    up.send_signal(number)
    stdout, stderr = up.communicate(timeout=WAIT_S)
    assert time.monotonic() - began < STOP_S
    assert up.returncode == status
    assert "Traceback" not in stderr
    assert note["url"] in stdout
    assert note["token"] not in stdout
    assert "127.0.0.1:4433" in stdout
    assert not (tmp_path / "run" / "api.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_in_time_even_if_the_node_hangs(tmp_path: Path, number: signal.Signals) -> None:
    up = start(tmp_path, "up", env={"FAKE_HANGS": "1"})
    assert up.stderr is not None
    up.stderr.readline()
    began = time.monotonic()
    up.send_signal(number)
    up.communicate(timeout=WAIT_S)
    assert time.monotonic() - began < STOP_S


def test_up_in_the_background_and_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    up = coterie(home, "up", "--background", "--json")
    assert up.returncode == 0, up.stderr
    pid = json.loads(up.stdout)["pid"]
    assert pid == api_note(home)["pid"]
    assert os.getsid(pid) == pid
    assert stat.S_IMODE((home / "run" / "node.log").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert api_note(home)["token"] not in (home / "run" / "node.log").read_text()
    down = coterie(home, "down")
    assert (down.returncode, down.stdout) == (0, f"stopped (pid {pid})\n")
    again = coterie(home, "down")
    assert (again.returncode, again.stdout) == (0, "no coterie runs here: nothing to stop\n")
    assert json.loads(coterie(home, "down", "--json").stdout) == {"pid": None}


def test_a_second_up_in_the_same_home_is_refused_and_in_the_background_content(tmp_path: Path) -> None:
    assert coterie(tmp_path, "up", "--background").returncode == 0
    pid = api_note(tmp_path)["pid"]
    try:
        second = coterie(tmp_path, "up")
        assert second.returncode == 1
        assert second.stderr == (
            f"coterie: another coterie (pid {pid}) already runs in {tmp_path}; "
            "use `coterie down` or another --home\n"
        )
        wanted = coterie(tmp_path, "up", "--background", "--json")
        assert (wanted.returncode, wanted.stderr) == (0, "already running\n")
        assert json.loads(wanted.stdout)["pid"] == pid
    finally:
        coterie(tmp_path, "down")


def test_the_lock_refuses_where_the_api_does_not_answer(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from coterie.home import Home\n"
            "with Home(pathlib.Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    for words in (["up"], ["up", "--background"], ["local"]):
        refused = coterie(tmp_path, *words)
        assert refused.returncode == 1
        assert f"another coterie (pid {holder.pid}) already runs in {tmp_path}" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    holder.kill()
    holder.communicate()
    assert coterie(tmp_path, "local").returncode == 0


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert coterie(tmp_path, "config", "set", "api_port", str(port)).returncode == 0
        for words in (["up"], ["up", "--background"]):
            refused = coterie(tmp_path, *words)
            assert refused.returncode == 1
            assert f"port {port}" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1


def test_a_home_that_cannot_be_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"
    for words in (["up"], ["up", "--background"], ["id"]):
        refused = coterie(home, *words)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"coterie: the home {home} cannot be written: Not a directory")
        assert len(refused.stderr.splitlines()) == 1
    for words in (["--home", str(tmp_path / "file"), "up"], ["up", "--home", str(tmp_path / "file")]):
        refused = coterie(tmp_path / "other", *words)
        assert refused.returncode == 1
        assert f"the home {tmp_path / 'file'} cannot be written" in refused.stderr


def test_a_corrupt_database_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"garbage")
    for words in (["up"], ["up", "--background"]):
        refused = coterie(tmp_path, *words)
        assert refused.returncode == 1
        assert refused.stderr == f"coterie: the database {tmp_path / 'store.db'} is damaged; move it away\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 1\nnope = 2\n", "line 2: unknown key 'nope'"),
        ("\nport = 'x'\n", "line 2: port"),
        ("port =", "TOML"),
    ],
)
def test_bad_settings_name_their_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    refused = coterie(tmp_path, "up")
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_killed_node_leaves_a_home_that_starts_again(tmp_path: Path) -> None:
    up = start(tmp_path, "up")
    assert up.stderr is not None
    up.stderr.readline()
    up.kill()
    up.communicate()
    assert (tmp_path / "run" / "api.json").exists()
    assert coterie(tmp_path, "up", "--background").returncode == 0
    assert coterie(tmp_path, "down").returncode == 0


def test_down_tells_the_pid_of_a_stuck_node(tmp_path: Path) -> None:
    up = start(tmp_path, "up")
    assert up.stderr is not None
    up.stderr.readline()
    up.send_signal(signal.SIGSTOP)
    try:
        refused = coterie(tmp_path, "down")
        assert refused.returncode == 1
        assert f"kill {up.pid}" in refused.stderr
    finally:
        up.send_signal(signal.SIGCONT)
        up.kill()
        up.communicate()


def test_is_alive() -> None:
    assert is_alive(os.getpid())
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert not is_alive(gone.pid)


def test_the_node_runs_on_when_its_starter_is_gone(tmp_path: Path) -> None:
    starter = start(tmp_path, "up", "--background", start_new_session=True)
    starter.communicate(timeout=WAIT_S)
    pid = api_note(tmp_path)["pid"]
    wait_until(lambda: not is_alive(starter.pid), "the starter to be gone")
    assert is_alive(pid)
    assert coterie(tmp_path, "status").returncode == 0
    assert coterie(tmp_path, "down").returncode == 0


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--version"], ["click", "msgspec", "asyncio", "http.client", "inspect"]),
        (
            ["status"],
            [
                "coterie.node",
                "coterie.content",
                "starlette",
                "uvicorn",
                "rich",
                "importlib.metadata",
                "asyncio",
            ],
        ),
        (
            ["greet", "x"],
            ["coterie.node", "coterie_fake.service", "coterie_fake.app", "starlette", "rich"],
        ),
    ],
)
def test_a_command_line_imports_no_more_than_it_needs(
    tmp_path: Path, words: list[str], heavy: list[str]
) -> None:
    assert coterie(tmp_path, "up", "--background").returncode == 0
    code = (
        "import sys; from coterie.cli import main; status = main(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        coterie(tmp_path, "down")
    assert not {*heavy} & {*done.stderr.split()}


def test_the_log_of_a_single_command_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert coterie(home, "fail", "bug").returncode == 1
    log = home / "run" / "node.log"
    assert "secret detail" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_tracebacks_go_to_the_log_only(tmp_path: Path) -> None:
    assert coterie(tmp_path, "up", "--background").returncode == 0
    assert coterie(tmp_path, "fail", "bug").returncode == 1
    assert coterie(tmp_path, "down").returncode == 0
    assert "secret detail" in (tmp_path / "run" / "node.log").read_text()
    alone = coterie(tmp_path, "fail", "bug")
    assert f"the details are in {tmp_path / 'run' / 'node.log'}" in alone.stderr
    assert (tmp_path / "run" / "node.log").read_text().count("ZeroDivisionError: secret detail") == 2
    shown = subprocess.run(
        command_line("fail", "bug"),
        env=environment(tmp_path, COTERIE_DEBUG="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in shown.stderr
