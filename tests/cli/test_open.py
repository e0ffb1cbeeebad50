"""`coterie open`: the browser gets the way in, and nobody else who looks at the processes or the log."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fakes.faces import ask, coterie, wait_until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose node ends with the test."""
    yield tmp_path / "home"
    coterie(tmp_path / "home", "down")


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """A browser that writes down what it was started with."""
    script = tmp_path / "browser"
    script.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked.part\nmv {tmp_path}/asked.part {tmp_path}/asked\n'
    )
    script.chmod(0o755)
    return script


def test_the_browser_gets_a_file_and_the_key_is_in_no_argument(home: Path, browser: Path) -> None:
    done = coterie(home, "open", env={"BROWSER": f"{browser} %s"})
    assert done.returncode == 0, done.stderr
    assert "runs in the background" in done.stderr
    wait_until((browser.parent / "asked").exists, "the browser")
    asked = (browser.parent / "asked").read_text().strip()
    assert asked.startswith("file://")
    file = Path(urlsplit(asked).path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = file.read_text().partition("/open/")[2].partition('"')[0]
    assert len(key) > 40
    assert key not in done.stdout + done.stderr + (home / "run" / "node.log").read_text()


def test_without_a_screen_the_address_is_printed_and_opens_once(home: Path) -> None:
    coterie(home, "up", "--background")
    done = coterie(home, "open", "--json", env={"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": ""})
    opened = json.loads(done.stdout)
    url = urlsplit(opened["url"])
    status, _, headers = ask(opened["page"], "GET", url.path)
    assert status == 200
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]
    assert headers["cache-control"] == "no-store"
    assert ask(opened["page"], "GET", url.path)[0] == 401
    assert [b["may"] for b in json.loads(coterie(home, "browsers", "--json").stdout)] == [["everything"]]


def test_the_address_of_the_page_stays_the_same(home: Path) -> None:
    first = json.loads(coterie(home, "up", "--background", "--json").stdout)["page"]
    coterie(home, "down")
    assert json.loads(coterie(home, "up", "--background", "--json").stdout)["page"] == first
