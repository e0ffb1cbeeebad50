"""The main story in Debian's Firefox: the page opens, shows who is here, and gets what is shared."""

import os
import socket
from pathlib import Path

import pytest

from tests.web.conftest import Computer
from tests.web.firefox import FIREFOX, Firefox


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.timeout(120)
def test_the_main_story_in_firefox(anna: Computer, berta: Computer, tmp_path: Path) -> None:
    if not Path(FIREFOX).exists():
        if os.environ.get("CI"):
            pytest.fail(f"{FIREFOX} is missing")
        pytest.skip(f"{FIREFOX} is missing")
    (tmp_path / "Pictures").mkdir()
    (tmp_path / "Pictures" / "cat.txt").write_text("meow")
    berta.run("share", str(tmp_path / "Pictures"), "--to", "contacts")
    with Firefox(tmp_path / "profile", free_port()) as firefox:
        firefox.goto(anna.address())
        assert "berta" in firefox.await_text("[data-live='node.people']", "here now")
        firefox.run("window.complaints = []; addEventListener('error', (e) => complaints.push(e.message));")
        firefox.goto(f"{anna.url}files")
        firefox.await_text("[data-live='files.computers']", "Pictures")
        firefox.click("[data-live='files.computers'] a[href$='/Pictures']")
        firefox.await_text(".entries", "cat.txt")
        firefox.run("document.getElementById('target').value = ''")
        firefox.type("#target", f"{tmp_path}/got/")
        firefox.click("#getting button[type=submit]")
        firefox.await_text("#toast", "Begun")
        firefox.goto(f"{anna.url}transfers")
        firefox.await_text("[data-live='files.transfers'] .row", "done")
        assert (tmp_path / "got" / "Pictures" / "cat.txt").read_text() == "meow"
        firefox.goto(f"{anna.url}do/contacts/invite")
        firefox.click("form[hx-post^='/do/'] button[type=submit]")
        firefox.await_text(".invited .code", "-")
        firefox.click(".doing .button")
        firefox.await_text("#result", "no longer works")
    berta.run("unshare", str(tmp_path / "Pictures"))
