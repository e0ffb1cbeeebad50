"""Whatever surrounds the program: each fault of it is one clear line, and never "unexpected"."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = f"exec {sys.executable} -m coterie --home"


def shell(script: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """A script of the shell, to its end."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        ["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.parametrize("word", ["x config", "{home} share photo"])
def test_a_deleted_working_folder(tmp_path: Path, word: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd {gone} && rmdir {gone} && {RUN} {word.format(home=tmp_path / 'home')}")
    assert done.returncode in (1, 2)
    assert "deleted" in done.stderr
    assert "unexpected" not in done.stderr


def test_what_needs_no_working_folder_works_without_one(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd {gone} && rmdir {gone} && {RUN} {tmp_path / 'home'} config")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_a_closed_standard_output(tmp_path: Path, closed: str) -> None:
    done = shell(f"{RUN} {tmp_path / 'home'} config {closed}")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "coterie: standard output is closed: results are not shown\n"


def test_all_streams_closed_write_into_no_file_of_the_home(tmp_path: Path) -> None:
    done = shell(f"{RUN} {tmp_path / 'home'} config set name anna <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "anna" in (tmp_path / "home" / "config.toml").read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_output_that_is_full(tmp_path: Path) -> None:
    done = shell(f"{RUN} {tmp_path / 'home'} config >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "coterie: the output cannot be written: No space left on device\n"
