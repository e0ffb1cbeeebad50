"""What is left to a process that decodes files of others: nothing but computing."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie.web.previews import cage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked")


def told(*, runs: tuple[str, ...], work: Callable[[], str]) -> str:
    """What `work` says in a process of its own, after it was shut."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        writing = os.dup2(writing, 3)
        os.closerange(4, 4_096)
        said = "it ended"
        try:
            cage.shut(runs=runs)
            said = work()
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is told)
            said = f"{type(error).__name__} {getattr(error, 'errno', '')}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def refused(error: str, *numbers: int) -> set[str]:
    return {f"{error} {number}" for number in numbers}


def opens(path: Path) -> Callable[[], str]:
    return lambda: str(os.open(path, os.O_RDONLY))


@pytest.mark.parametrize("runs", [(), ("/usr", "/bin", "/lib", "/lib64")], ids=["computing", "a program"])
def test_no_file_no_network_no_other_process(runs: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    parent = os.getpid()
    denied = refused("PermissionError", errno.EPERM, errno.EACCES)
    assert told(runs=runs, work=opens(tmp_path / "secret")) in denied
    assert told(runs=runs, work=opens(Path(f"/proc/{parent}/mem"))) in denied
    assert told(runs=runs, work=lambda: str(os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT))) in denied
    assert told(runs=runs, work=lambda: str(socket.socket())) in denied
    assert told(runs=runs, work=lambda: str(socket.socket(socket.AF_UNIX))) in denied
    assert told(runs=runs, work=lambda: str(os.kill(parent, 0))) in denied
    assert not (tmp_path / "new").exists()


def test_who_only_computes_begins_no_process() -> None:
    denied = refused("PermissionError", errno.EPERM) | refused("BlockingIOError", errno.EAGAIN)
    assert told(runs=(), work=lambda: str(os.fork())) in denied
    assert told(runs=(), work=lambda: str(os.execv("/bin/true", ["true"]))) in denied


def test_a_program_runs_with_what_it_may_read_and_is_shut_in_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")

    def run(*words: str) -> Callable[[], str]:
        return lambda: str(subprocess.run(words, capture_output=True, check=False).returncode)

    runs = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
    assert told(runs=runs, work=run("/bin/cat", "/usr/bin/env")) == "0"
    assert told(runs=runs, work=run("/bin/cat", str(tmp_path / "secret"))) == "1"


@pytest.mark.parametrize("runs", [(), ("/usr",)], ids=["computing", "a program"])
def test_memory_has_an_end(runs: tuple[str, ...]) -> None:
    """Asked of a process that has used little so far, as the child has."""
    most = cage.PROGRAM_BYTES_MAX if runs else cage.MEMORY_BYTES_MAX
    code = f"""
from coterie.web.previews import cage
cage.shut(runs={runs!r})
bytearray({most // 2})
try:
    bytearray({most})
except MemoryError:
    print("there is an end")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "there is an end\n", done.stderr
