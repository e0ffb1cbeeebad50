"""Autostart, with the real systemd of a user in namespaces of its own."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.faces import coterie, environment

HOME_NAME = 'a "home" of $USER, 100 %'  # each of these means something to systemd
# A user instance needs a process tree, a control group that it may write to, and a runtime folder.
_INSIDE = """
set -e
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/$GROUP
echo $$ > /sys/fs/cgroup/$GROUP/cgroup.procs
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system $XDG_RUNTIME_DIR
ip link set lo up
/lib/systemd/systemd --user >"$HOME/systemd.log" 2>&1 &
for _ in $(seq 100); do systemctl --user show --property=Version >/dev/null 2>&1 && break; sleep 0.1; done
pid() { systemctl --user show -p MainPID --value "$UNIT"; }
is() { [ "$(systemctl --user is-active "$UNIT")" = "$1" ]; }
until_state() { for _ in $(seq 150); do is "$1" && return; sleep 0.1; done; false; }
"""
_WALK = """
coterie config set bind 127.0.0.1
coterie autostart
coterie autostart on
UNIT=$(basename "$HOME"/.config/systemd/user/coterie*.service)
first=$(pid)
coterie autostart on
[ "$(pid)" = "$first" ]
coterie status >/dev/null
kill -9 "$first"
until_state active && [ "$(pid)" != "$first" ] || { sleep 6; until_state active; }
[ "$(pid)" != "$first" ]
for _ in $(seq 100); do coterie status >/dev/null 2>&1 && break; sleep 0.1; done
coterie down
until_state inactive
coterie autostart off
systemctl --user exit
"""


@pytest.mark.slow
def test_the_node_starts_with_its_user_and_again_after_it_was_killed(tmp_path: Path) -> None:
    needed = ("systemctl", "unshare", "ip")
    if os.geteuid() != 0 or not all(map(shutil.which, needed)) or not Path("/lib/systemd/systemd").exists():
        assert not os.environ.get("CI"), f"this test needs root, systemd and {', '.join(needed)}"
        pytest.skip("needs root and systemd")
    home = tmp_path / HOME_NAME
    word = " ".join(map(shlex.quote, [sys.executable, "-m", "coterie", "--home", str(home)]))
    script = _INSIDE + f'coterie() {{ {word} "$@"; }}' + _WALK
    done = subprocess.run(
        ["unshare", "-m", "-n", "-p", "-C", "--fork", "--kill-child", "bash", "-c", script],
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
            "HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": "/run/user/0",
            "GROUP": f"coterie-test-{os.getpid()}",
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr, (tmp_path / "systemd.log").read_text())
    assert "Autostart is off: " in done.stdout.splitlines()[1]
    assert "It runs now." in done.stdout
    assert "Autostart is off: " in done.stdout.splitlines()[-1]
    assert not list((tmp_path / ".config").rglob("*.service"))


def test_without_systemd_it_says_what_to_do_instead(tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    refused = coterie(tmp_path, "autostart", "on", env=nowhere)
    assert refused.returncode == 2
    assert refused.stderr == (
        "coterie: autostart is offered where systemd runs; here, let your system run `coterie up` when you log in\n"
    )
    assert coterie(tmp_path, "autostart", env=nowhere).returncode == 0
    done = coterie(
        tmp_path, "autostart", "off", env=nowhere
    )  # as the page on removing says, whatever was set
    assert done.returncode == 0
    assert "Autostart is off: " in done.stdout


def test_without_a_user_instance_it_says_so(tmp_path: Path) -> None:
    if shutil.which("systemctl") is None:
        pytest.skip("needs systemctl")
    nowhere = {"XDG_RUNTIME_DIR": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": "", "HOME": str(tmp_path)}
    refused = coterie(tmp_path, "autostart", "on", env=nowhere)
    assert refused.returncode == 2
    assert "systemd does not run for this user" in refused.stderr
    assert environment(tmp_path)["COTERIE_HOME"] == str(tmp_path)
    assert not (tmp_path / ".config").exists()
