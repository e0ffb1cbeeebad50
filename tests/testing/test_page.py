"""docs/apps.md, followed word by word: its files, its tests, its package, its commands between two nodes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.files.nodes import RunningNode, coterie, running_node, start
from tests.testing.page import PAGE, install, write_files


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


def test_installed_it_works_between_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    write_files(tmp_path / "project")
    install(tmp_path / "project", tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with running_node(tmp_path / "one") as anna, running_node(tmp_path / "two") as ben:
        _meet(anna, ben)
        refused = coterie(ben.home, "guestbook", "sign", "anna", "Lovely photos.")
        assert refused.returncode != 0
        assert "anna" in refused.stderr
        assert ben.call("ls", "anna") == []
        anna.call("grant", "ben", "list,write", "guestbook/book")
        assert [place["name"] for place in ben.call("ls", "anna")] == ["guestbook"]
        assert ben.call("guestbook", "sign", "anna", "Lovely photos.") == {"lines": 1}
        assert anna.call("guestbook") == [{"who": "ben", "text": "Lovely photos."}]
        assert "ben wrote in your guestbook: Lovely photos." in coterie(anna.home, "notices").stdout
        assert "yes" in coterie(anna.home, "may", "ben", "write", "guestbook/book").stdout.lower()


def _meet(anna: RunningNode, ben: RunningNode) -> None:
    inviting = start(anna.home, "--json", "invite")
    assert inviting.stdout is not None
    met = ben.call("join", json.loads(inviting.stdout.readline())["ticket"])
    ben.call("contact", "rename", met["peer"], "anna")
    inviting.communicate(timeout=20)
    anna.call("contact", "rename", ben.call("id")["id"], "ben")
