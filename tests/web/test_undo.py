"""What takes something away can be undone: the button says what happens, and for ten seconds nothing has."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import Computer, Visits, meet, started

WAITS_MS = 11_000


@pytest.fixture(scope="module")
def things(computers: tuple[Computer, Computer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """anna shares, grants, is in two circles (one with dora), has something in the trash, and gets a file."""
    anna, berta = computers
    folder = tmp_path_factory.mktemp("undo")
    (folder / "kept").mkdir()
    (folder / "kept" / "a.txt").write_text("a")
    (folder / "song.bin").write_bytes(os.urandom(3_000_000))
    (folder / "old.txt").write_text("new")
    (folder / "here").mkdir()
    (folder / "here" / "old.txt").write_text("old")
    anna.run("share", str(folder / "kept"), "--to", "contacts")
    anna.run("grant", "berta", "read", "files/kept")
    anna.run("circle", "new", "choir")
    anna.run("circle", "new", "garden")
    dora = started(folder, "dora")
    meet(anna, dora)
    with inviting(anna, "circle", "invite", "garden") as ticket:
        dora.run("circle", "join", ticket)
    berta.run("share", str(folder / "song.bin"), "--to", "contacts")
    berta.run("share", str(folder / "old.txt"), "--to", "contacts")
    anna.run("get", "berta/old.txt", str(folder / "here") + "/", "--overwrite")
    anna.run("limits", "--down", "20kB/s")
    anna.run("get", "berta/song.bin", str(folder / "coming.bin"), "--detach")
    yield folder
    dora.down()
    anna.run("limits", "--down", "0")
    for line in anna.json("transfers"):
        anna.run("transfers", "cancel", line["id"], check=False)


@contextlib.contextmanager
def inviting(computer: Computer, *words: str) -> Iterator[str]:
    """The ticket of an invitation that waits while the block runs."""
    waits = subprocess.Popen(
        [sys.executable, "-m", "coterie", "--home", str(computer.home), "--json", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert waits.stdout is not None
    with waits:
        yield str(json.loads(waits.stdout.readline())["ticket"])


def shares(anna: Computer) -> bool:
    return any(line["name"] == "kept" for line in anna.json("shares"))


def grants(anna: Computer) -> bool:
    return any(line["resource"] == "files/kept" and line["state"] == "valid" for line in anna.json("grants"))


def circles(anna: Computer) -> bool:
    return any(line["name"] == "choir" for line in anna.json("circle"))


def trash(anna: Computer) -> bool:
    return any(line["path"].endswith("here/old.txt") for line in anna.json("trash"))


def coming(anna: Computer) -> bool:
    return any(line["path"].endswith("coming.bin") for line in anna.json("transfers"))


def contacts(anna: Computer) -> bool:
    return any(line["name"] == "dora" for line in anna.json("contacts"))


def members(anna: Computer) -> bool:
    return any(line["name"] == "dora" for line in anna.json("circle", "members", "garden"))


def of_transfer(page: Page) -> None:
    page.locator("[data-live='files.transfers'] a", has_text="coming").click()


Open = Callable[[Page], object]
BUTTONS: dict[str, tuple[str, Open, str, Callable[[Computer], bool]]] = {
    "revoke": ("/people", lambda page: None, "Take this grant back", grants),
    "unshare": ("/files", lambda page: None, "Stop sharing kept", shares),
    "leave a circle": ("/circles/choir", lambda page: None, "Leave", circles),
    "cancel a transfer": ("/transfers", of_transfer, "Cancel", coming),
    "empty the trash": ("/trash", lambda page: None, "Empty the trash", trash),
    "remove a member": ("/circles/garden", lambda page: None, "Remove dora", members),
    "remove a contact": ("/people", lambda page: None, "Remove dora", contacts),
}


def press(page: Page, name: str) -> None:
    label = BUTTONS[name][2]
    buttons = page.get_by_role("button", name=re.compile(f"^{label}$"))
    if name == "revoke":  # other tests grant things, too
        buttons = page.locator("[data-live='grants.grants'] > [data-key]", has_text="kept").locator(buttons)
    buttons.click()
    expect(page.locator(".toast").get_by_role("button", name="Undo")).to_be_visible()


@pytest.mark.parametrize("name", BUTTONS)
def test_it_is_undone_within_ten_seconds_and_else_done(
    visit: Visits, anna: Computer, things: Path, name: str
) -> None:
    path, opens, _, is_there = BUTTONS[name]
    here = visit(anna)
    here.page.clock.install()
    page = here.goto(path)
    opens(page)
    press(page, name)
    if name == "unshare":  # by the keyboard as well
        page.keyboard.press("Control+z")
    else:
        page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".toast")).to_have_count(0)
    page.clock.fast_forward(WAITS_MS)
    assert is_there(anna), "it was undone"
    press(page, name)
    assert is_there(anna), "nothing has happened yet"
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/do/" in answer.url):
        page.clock.fast_forward(WAITS_MS)
    assert not is_there(anna)


def test_it_is_done_when_the_page_is_left(
    visit: Visits, anna: Computer, things: Path, tmp_path: Path
) -> None:
    (tmp_path / "left.txt").write_text("x")
    anna.run("share", str(tmp_path / "left.txt"), "--to", "contacts")
    here = visit(anna)
    page = here.goto("/files")
    page.get_by_role("button", name="Stop sharing left.txt").click()
    here.goto("/people")
    page.wait_for_timeout(500)
    assert not any(line["name"] == "left.txt" for line in anna.json("shares"))
