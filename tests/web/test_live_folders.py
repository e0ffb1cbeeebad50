"""Live folders by clicks: join, pause, settle a conflict, put a version back, and answer a folder that asks."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from coterie.apps.folders.brake import FILES_MIN
from tests.web.conftest import Computer, Visits, axe

WAIT_MS = 30_000.0
PAGES = 2 * FILES_MIN
WAITS_MS = 11_000  # until what can be undone is done


@dataclass
class Both:
    """The folder Plans, on berta's computer and on anna's."""

    there: Path
    here: Path


@pytest.fixture(scope="module")
def plans(computers: tuple[Computer, Computer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    anna, berta = computers
    folder = tmp_path_factory.mktemp("live")
    both = Both(folder / "berta", folder / "anna")
    both.there.mkdir()
    (both.there / "plan.txt").write_text("first")
    for number in range(PAGES):
        (both.there / f"page {number}.txt").write_text(f"page {number}")
    berta.run("folder", "new", str(both.there), "--with", "anna", "--name", "Plans")
    yield both
    for computer in (anna, berta):
        with contextlib.suppress(AssertionError):
            computer.run("folder", "leave", "Plans")
    shutil.rmtree(folder, ignore_errors=True)


def row(page: Page, rows: str = "folders.folders", text: str = "Plans") -> Locator:
    return page.locator(f"[data-live='{rows}'] > [data-key]", has_text=text)


def until(page: Page, true: Callable[[], bool]) -> None:
    """Look at the disk until it is so; what a folder does follows what the page says."""
    for _ in range(int(WAIT_MS / 50)):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came to be")


def test_somebody_joins_pauses_settles_and_puts_back(
    visit: Visits, anna: Computer, berta: Computer, plans: Both
) -> None:
    here = visit(anna)
    page = here.page
    expect(page.locator("[data-live='node.notices']")).not_to_contain_text("has the live folder Plans")
    page = here.goto("/files")  # it is no share, and says so
    plans_there = page.locator("[data-live='files.computers'] .entry", has_text="Plans")
    expect(plans_there.locator(".chip")).to_have_text("live folder")
    expect(plans_there.get_by_role("link")).to_have_count(0)
    page = here.goto("/")
    row(page, text="berta/Plans").get_by_role("link", name="Join").click()
    page.get_by_label("Path").fill(str(plans.here))
    page.get_by_role("button", name="Go", exact=True).click()
    page.get_by_text("follows the folder Plans").wait_for()
    page = here.goto("/live")
    expect(row(page)).to_contain_text("in sync", timeout=WAIT_MS)
    expect(page.get_by_text("this one may be switched off")).to_be_visible(timeout=WAIT_MS)
    assert (plans.here / "plan.txt").read_text() == "first"

    row(page).get_by_role("button", name="Pause Plans").click()
    expect(row(page)).to_contain_text("paused")
    (plans.here / "plan.txt").write_text("by anna")
    (plans.there / "plan.txt").write_text("by berta, longer")
    row(page).get_by_role("button", name="Go on with Plans").click()
    expect(row(page)).to_contain_text("1 conflict", timeout=WAIT_MS)
    page.clock.install()
    page = here.goto("/live/Plans")
    sides = row(page, "folders.conflicts", "plan.txt")
    assert axe(page) == []
    sides.locator(".card", has_text="berta").get_by_role("button", name="Keep this one").click()
    with page.expect_response(lambda answer: "folder-resolve" in answer.url):
        page.clock.fast_forward(WAITS_MS)
    page = here.goto("/live/Plans")
    expect(page.get_by_text("No file was changed on two computers at once.")).to_be_visible(timeout=WAIT_MS)
    until(page, lambda: (plans.here / "plan.txt").read_text() == "by berta, longer")

    version = row(page, "folders.versions", "plan.txt").first
    version.get_by_role("button", name="Put plan.txt back").click()
    expect(page.locator(".toast")).to_contain_text("is as it was")
    until(page, lambda: (plans.here / "plan.txt").read_text() != "by berta, longer")


def pages(folder: Path) -> int:
    return len([*folder.glob("page *.txt")])


def remove(anna: Computer, plans: Both) -> None:
    """All pages at once: while the folder follows, the first few would go before it asks."""
    anna.run("folder", "pause", "Plans")
    for path in plans.here.glob("page *.txt"):
        path.unlink()
    anna.run("folder", "resume", "Plans")


def test_a_folder_that_asks_is_answered_where_it_asks(visit: Visits, anna: Computer, plans: Both) -> None:
    here = visit(anna)
    page = here.page
    remove(anna, plans)
    notice = row(page, "node.notices", "It waits")
    expect(notice).to_be_visible(timeout=WAIT_MS)
    expect(notice).not_to_contain_text("coterie")
    notice.get_by_role("button", name="Keep the files").click()
    expect(notice).to_have_count(0, timeout=WAIT_MS)
    until(page, lambda: pages(plans.here) == PAGES)
    page = here.goto("/live")
    expect(row(page)).to_contain_text("in sync", timeout=WAIT_MS)

    remove(anna, plans)
    expect(row(page)).to_contain_text("It waits", timeout=WAIT_MS)
    page.clock.install()
    page = here.goto("/live")
    row(page).get_by_role("button", name="Let it happen").click()
    page.locator(".toast").get_by_role("button", name="Undo").click()
    page.clock.fast_forward(WAITS_MS)
    expect(row(page)).to_contain_text("It waits")
    row(page).get_by_role("button", name="Let it happen").click()
    with page.expect_response(lambda answer: "folder-go-on" in answer.url):
        page.clock.fast_forward(WAITS_MS)
    page = here.goto("/live")
    expect(row(page)).not_to_contain_text("It waits", timeout=WAIT_MS)
    assert pages(plans.here) == 0


def test_what_is_on_this_disk_is_chosen_by_clicks(visit: Visits, anna: Computer, plans: Both) -> None:
    (plans.there / "sub").mkdir()
    (plans.there / "sub" / "film.mkv").write_bytes(b"film")
    film = plans.here / "sub" / "film.mkv"
    page = visit(anna).goto("/live/Plans")
    until(page, film.exists)
    row(page, "folders.contents", "sub").get_by_role("link", name="sub").click()
    line = row(page, "folders.contents", "film.mkv")
    expect(line).to_contain_text("here", timeout=WAIT_MS)
    assert axe(page) == []
    line.get_by_role("button", name="On demand").click()
    expect(line).to_contain_text("on demand", timeout=WAIT_MS)
    assert not film.exists()
    assert (plans.there / "sub" / "film.mkv").exists()
    line.get_by_role("button", name="Get").click()
    until(page, film.exists)
    line.get_by_role("button", name="Always here").click()
    expect(line).to_contain_text("pinned", timeout=WAIT_MS)
    page.get_by_role("link", name="Up").click()
    expect(row(page, "folders.contents", "plan.txt")).to_be_visible(timeout=WAIT_MS)
