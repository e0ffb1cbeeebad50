"""`tools/isolate.py`: loopback and nothing else, said plainly when that cannot be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.sim.isolation import MARK, OPT_OUT

ROOT = Path(__file__).parent.parent
ISOLATE = ROOT / "tools" / "isolate.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")


def isolated(*command: str, prefix: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `command` under tools/isolate.py from an environment that is not marked as isolated."""
    environment = {k: v for k, v in os.environ.items() if k not in {MARK, OPT_OUT}} | settings
    start = [
        sys.executable,
        "-c",
        prefix + f"import runpy; runpy.run_path({str(ISOLATE)!r}, run_name='__main__')",
    ]
    return subprocess.run(
        [*start, *command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def python_inside(source: str) -> str:
    result = isolated(sys.executable, "-c", source)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_only_loopback_is_up_inside() -> None:
    assert python_inside("from coterie.sim.isolation import is_isolated; print(is_isolated())") == "True\n"
    assert "lo" in python_inside("import socket; print([name for _, name in socket.if_nameindex()])")


def test_loopback_carries_tcp_and_udp() -> None:
    script = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname(), timeout=5)
accepted, _ = listener.accept()
client.sendall(b"tcp"); print(accepted.recv(3).decode())
a = socket.socket(type=socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0)); a.settimeout(5)
socket.socket(type=socket.SOCK_DGRAM).sendto(b"udp", a.getsockname()); print(a.recv(3).decode())
"""
    assert python_inside(script) == "tcp\nudp\n"


def test_the_rest_of_the_world_is_out_of_reach_at_once() -> None:
    script = """
import errno, socket, time
started = time.monotonic()
try:
    socket.create_connection(("192.0.2.1", 9), timeout=20)
except OSError as error:
    print(errno.errorcode[error.errno], time.monotonic() - started < 1)
"""
    assert python_inside(script) == "ENETUNREACH True\n"


def test_an_isolated_process_stays_in_its_namespace() -> None:
    where = "import os; print(os.readlink('/proc/self/ns/net'))"
    script = f"""
import os, subprocess, sys
{where}
sys.stdout.flush()
subprocess.run([sys.executable, {str(ISOLATE)!r}, sys.executable, "-c", {where!r}], check=True)
"""
    outer, inner = python_inside(script).split()
    assert outer == inner


def test_a_mark_that_is_not_true_is_not_believed() -> None:
    where = "import os; print(os.readlink('/proc/self/ns/net'))"
    elsewhere = "import coterie.sim.isolation as isolation; isolation.is_isolated = lambda: False\n"
    result = isolated(sys.executable, "-c", where, prefix=elsewhere, **{MARK: "1"})
    assert result.stdout.strip() != os.readlink("/proc/self/ns/net")


def test_exit_status_and_arguments_pass_through() -> None:
    assert isolated(sys.executable, "-c", "import sys; sys.exit(int(sys.argv[1]))", "7").returncode == 7


def test_opting_out_runs_without_and_says_so() -> None:
    result = isolated(
        sys.executable, "-c", "import os; print(os.readlink('/proc/self/ns/net'))", **{OPT_OUT: "1"}
    )
    assert result.stdout.strip() == os.readlink("/proc/self/ns/net")
    assert "WITHOUT" in result.stderr


def test_a_refusing_kernel_is_said_plainly_and_nothing_runs() -> None:
    refusing = """
import ctypes
class Refusing:
    def unshare(self, flags):
        ctypes.set_errno(1)
        return -1
ctypes.CDLL = lambda *a, **k: Refusing()
"""
    result = isolated(sys.executable, "-c", "print('ran')", prefix=refusing)
    assert result.returncode != 0
    assert "ran" not in result.stdout
    assert "Operation not permitted" in result.stderr
    assert OPT_OUT in result.stderr


def test_other_systems_run_without_and_say_so() -> None:
    result = isolated(sys.executable, "-c", "print('ran')", prefix="import sys; sys.platform = 'darwin'\n")
    assert result.stdout == "ran\n"
    assert "WITHOUT" in result.stderr


def test_a_command_that_does_not_exist_is_named() -> None:
    result = isolated("no-such-command-anywhere")
    assert result.returncode != 0
    assert "no-such-command-anywhere" in result.stderr
