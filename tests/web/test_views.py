"""The views that people live in: files, transfers, people, health, by clicks on two real nodes."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from coterie.settings import Config
from coterie.web.settings_shown import explained
from tests.web.conftest import Computer, Visits, axe


@pytest.fixture(scope="module")
def furnished(
    computers: tuple[Computer, Computer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """berta shares a folder; anna has a circle, a grant given, and a limit that keeps transfers slow."""
    anna, berta = computers
    folder = tmp_path_factory.mktemp("things")
    for name, size in (("trip/a.txt", 1000), ("trip/b & c.txt", 1000), ("trip/inner/film.bin", 4_000_000)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    berta.run("share", str(folder / "trip"), "--to", "contacts")
    anna.run("circle", "new", "family")
    anna.run("grant", "berta", "use", "protocol/chat")
    anna.run("limits", "--down", "150kB/s")
    yield folder
    anna.run("limits", "--down", "0")


def test_a_folder_of_somebody_else_is_got_in_part(visit: Visits, anna: Computer, furnished: Path) -> None:
    here = visit(anna)
    page = here.goto("/files")
    expect(page.get_by_role("link", name="trip")).to_be_visible()
    page.evaluate("coterie.rewatch(document.querySelector('[data-live=\\'files.computers\\']'), {})")
    page.wait_for_timeout(1_000)  # the row comes once more: what was asked for it stays
    page.get_by_role("link", name="trip").click()
    expect(page.get_by_role("heading", name="trip")).to_be_visible()
    page.get_by_role("checkbox", name="b & c.txt").check()
    page.get_by_label("Put it into").fill(f"{furnished}/got/")
    page.get_by_role("button", name="Get what is chosen").click()
    expect(page.locator(".toast")).to_contain_text("Begun")
    page = here.goto("/transfers")
    expect(page.locator("[data-live='files.transfers'] .row").first).to_contain_text("done")
    assert sorted(path.name for path in (furnished / "got").rglob("*.*")) == ["b & c.txt"]
    page.get_by_role("button", name=re.compile("Take .* off the list")).first.click()
    expect(page.locator(".toast")).to_contain_text("Off the list")


def test_a_transfer_is_seen_paused_and_cancelled(visit: Visits, anna: Computer, furnished: Path) -> None:
    anna.run("get", "berta/trip", str(furnished / "slow"), "--detach")
    here = visit(anna)
    here.page.clock.install()
    page = here.goto("/transfers")
    page.locator("[data-live='files.transfers'] a", has_text="slow").click()
    expect(page.locator("#rates canvas")).to_be_visible()
    expect(page.locator(".detail")).to_contain_text("berta")
    look = "document.getElementById('pieces').getContext('2d').getImageData(0, 0, 9, 1).data.some((v) => v)"
    assert page.evaluate(look), "the map is painted"
    assert axe(page) == []
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".detail")).to_contain_text("paused")
    page.get_by_label("Priority", exact=True).select_option("low")
    expect(page.locator(".toast").last).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".detail")).to_contain_text("under way")
    page.locator(".detail").get_by_role("button", name="Cancel").click()
    expect(page.locator(".toast").last).to_contain_text("Cancelled; what arrived is removed")
    page.clock.fast_forward(11_000)
    expect(page.locator(".detail")).to_have_count(0)
    assert not [line for line in anna.json("transfers") if line["path"].endswith("slow")]


def test_people_are_seen_with_what_they_may(visit: Visits, anna: Computer, furnished: Path) -> None:
    here = visit(anna)
    here.page.clock.install()
    page = here.goto("/people")
    expect(page.locator("[data-live='circles.circles']")).to_contain_text("family")
    expect(page.locator("[data-live='grants.grants']")).to_contain_text("the protocol chat")
    grant = page.locator("[data-live='grants.grants'] > [data-key]", has_text="the protocol chat")
    grant.get_by_role("button", name="Take this grant back").click()
    page.clock.fast_forward(11_000)
    expect(page.locator("[data-live='grants.grants']")).to_contain_text("revoked")
    page.locator("[data-live='contacts.contacts']").get_by_role("link", name="berta").click()
    expect(page.locator(".words-aloud")).to_have_text(anna.json("contact", "show", "berta")["words"])
    page.get_by_label("What", exact=True).select_option("protocol/files")
    page.get_by_label("May they", exact=True).select_option("use")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text("Yes")
    page = here.goto("/circles/family")
    expect(page.locator("[data-live='circles.members']")).to_contain_text("owner")


def test_an_invitation_has_a_picture_and_ends(visit: Visits, anna: Computer) -> None:
    page = visit(anna).goto("/do/contacts/invite")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".invited .code")).to_have_text(re.compile(r"\d+-\w+-\w+"))
    expect(page.get_by_role("img", name="The invitation as a picture")).to_be_visible()
    assert axe(page) == []
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#result")).to_contain_text("no longer works")


def test_health_says_what_stands_in_the_way_and_settings_are_set(visit: Visits, anna: Computer) -> None:
    page = visit(anna).goto("/health")
    checks = page.locator("[data-live='node.checks'] .row")
    expect(checks.filter(has_text="clock")).to_contain_text(re.compile("agrees|compare"))
    expect(page.locator(".station.bad")).to_have_count(1)  # in a network namespace there is no network
    page.get_by_label("port_mapping").select_option("false")
    expect(page.locator(".toast")).to_contain_text("port_mapping = false")
    assert "port_mapping = false" in (anna.home / "config.toml").read_text()
    page.get_by_label("port_mapping").select_option("true")


DROP = """(css) => {
  const transfer = new DataTransfer(), to = document.querySelector(css);
  transfer.items.add(new File(["dropped here"], "dropped.txt"));
  for (const kind of ["dragover", "drop"])
    to.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def test_what_is_dropped_on_a_person_is_sent_and_on_a_share_is_in_it(
    visit: Visits, anna: Computer, berta: Computer, tmp_path: Path
) -> None:
    here = visit(anna)
    page = here.page
    expect(page.locator("[data-drop='send:berta']")).to_be_visible()
    page.evaluate(DROP, "[data-drop='send:berta']")
    expect(page.locator(".drop-status")).to_contain_text("1 file was offered to berta")
    assert "dropped.txt" in berta.run("inbox", "--json")
    (tmp_path / "Box").mkdir()
    (tmp_path / "Box" / "old.txt").write_text("old")
    anna.run("share", str(tmp_path / "Box"), "--to", "contacts")
    page = here.goto("/files")
    share = page.locator("[data-drop^='share:']", has_text="Box")
    expect(share).to_be_visible()
    page.evaluate(DROP, f"[data-drop='{share.get_attribute('data-drop')}']")
    expect(page.locator(".drop-status")).to_contain_text("is in the shared folder Box")
    assert (tmp_path / "Box" / "dropped.txt").read_text() == "dropped here"
    anna.run("unshare", str(tmp_path / "Box"))


def test_every_setting_is_explained() -> None:
    assert explained() == {*Config.__struct_fields__}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_views(visit: Visits, anna: Computer, furnished: Path, theme: str) -> None:
    here = visit(anna, color_scheme=theme)
    wrong = {}
    for path in (
        "/files",
        "/files/berta/trip",
        "/transfers",
        "/people",
        "/people/berta",
        "/circles/family",
        "/health",
        "/internet",
    ):
        page = here.goto(path)
        page.wait_for_timeout(600)
        if found := axe(page):
            wrong[path] = found
    assert not wrong
