"""docs/apps.md, followed word by word: its files, its tests, its package, its commands between two nodes."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.contacts.test_processes import Lines
from tests.apps.files.nodes import coterie, prepare_home, start
from tests.testing.page import PAGE, commands, install, write_files


def test_the_page_has_every_file_that_its_table_names(tmp_path: Path) -> None:
    named = re.findall(r"^\| `([\w./]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(write_files(tmp_path))


def test_its_tests_pass(tmp_path: Path) -> None:
    write_files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_guestbook.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_installed_its_commands_do_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    write_files(tmp_path / "project")
    install(tmp_path / "project", tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    for name in ("one", "two"):
        prepare_home(tmp_path / name)  # on loopback
    said: list[subprocess.CompletedProcess[str]] = []
    join: list[str] = []
    with contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            stack.callback(coterie, tmp_path / name, "down")
        for home, *words in (command[1:] for command in commands()):
            if words == ["invite"]:
                inviting = stack.enter_context(start(tmp_path / home, *words))
                join = Lines(inviting.stderr).find(r"coterie (join \S+ --at \S+)").split()
                stack.callback(inviting.kill)
            else:
                said.append(coterie(tmp_path / home, *(join if words[0] == "join" else words)))
        assert inviting.wait(20) == 0
    assert [done.returncode == 0 for done in said] == [*[True] * 5, False, *[True] * 6], said
    refused, granted, listed, written, notices, book, may = said[5:]
    assert refused.stderr.startswith("coterie: anna refused: this computer may not do that there")
    assert "ben may list, write guestbook/book" in granted.stdout
    assert "lines: 0" in listed.stdout
    assert written.stdout == "Written. Lines in the book now: 1\n"
    assert "ben wrote in your guestbook: Lovely photos." in notices.stdout
    assert book.stdout.split() == ["WHO", "TEXT", "ben", "Lovely", "photos."]
    assert may.stdout.startswith("yes: ben may write guestbook/book")
