"""Finish: nothing jumps, everything is reached by keys alone and by fingers, at any width."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from coterie.control.client import Client
from tests.web.conftest import Computer, Visits

SHIFT_MAX = 0.02  # sum of the scores of all jumps while a view loads and its data arrives
SETTLES_MS = 1_200
TOUCH_PX = 44
TABS_MAX = 120  # presses of a key until something is reached
WIDTHS = (320, 360, 2560)
IS_INSIDE = "(css) => { const one = document.querySelector(css); return one.scrollWidth <= one.clientWidth; }"
VIEWS = (
    "/", "/files", "/files/berta/hall", "/transfers", "/people", "/people/berta", "/circles/band", "/health",
    "/live", "/trash", "/phone", "/internet", "/do", "/do/files/share",
)  # fmt: skip


@pytest.fixture(scope="module")
def house(computers: tuple[Computer, Computer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Something to see in each view: shares of both, a transfer under way, a circle, a grant."""
    anna, berta = computers
    folder = tmp_path_factory.mktemp("fit")
    for computer, name in ((anna, "attic"), (berta, "hall")):
        (folder / name / "inner").mkdir(parents=True)
        (folder / name / "inner" / "a.txt").write_text("a")
        (folder / name / "a film with a name that is long.mp4").write_bytes(os.urandom(2_000_000))
        computer.run("share", str(folder / name), "--to", "contacts")
    anna.run("circle", "new", "band")
    anna.run("grant", "berta", "read", "files/attic")
    anna.run("limits", "--down", "20kB/s")
    anna.run("get", "berta/hall", str(folder / "coming"), "--detach")
    yield folder
    anna.run("limits", "--down", "0")
    for line in anna.json("transfers"):
        anna.run("transfers", "cancel", line["id"], check=False)
    anna.run("unshare", str(folder / "attic"))
    berta.run("unshare", str(folder / "hall"))


SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries())
    if (!one.hadRecentInput)
      window.shifts.push([one.value, one.sources.map(({ node }) => (node?.outerHTML || "").slice(0, 120))]);
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize(("width", "views"), [(360, VIEWS), (1280, ("/", "/files", "/health"))])
def test_nothing_jumps_while_data_arrives(
    visit: Visits, anna: Computer, house: Path, width: int, views: tuple[str, ...]
) -> None:
    here = visit(anna, viewport={"width": width, "height": 800})
    here.page.add_init_script(SHIFTS)
    jumps = {}
    for path in views:
        page = here.goto(path)
        page.wait_for_timeout(SETTLES_MS)
        shifts = page.evaluate("window.shifts")
        if sum(value for value, _ in shifts) > SHIFT_MAX:
            jumps[path] = shifts
    assert not jumps


SMALL = """(least) => {
  const found = [];
  const aside = ".hidden, .skip, [aria-hidden=true]";
  const isHidden = (one) => !one.checkVisibility({ visibilityProperty: true }) || one.closest(aside);
  const inSentence = (one) => one.matches("p a, .said a, .note a, .help a") && !one.closest("nav");
  for (const one of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")) {
    if (isHidden(one) || inSentence(one)) continue;
    const target = one.closest("label") || one, box = target.getBoundingClientRect();
    const isLink = one.matches("a:not(.button, .icon-button)");
    if (box.height < least - 0.5 || (!isLink && box.width < least - 0.5))
      found.push(`${Math.round(box.width)}x${Math.round(box.height)} ${one.outerHTML.slice(0, 140)}`);
  }
  return found;
}"""


def test_a_finger_hits_everything_on_a_phone(visit: Visits, anna: Computer, house: Path) -> None:
    here = visit(anna, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    small = {}
    for path in VIEWS:
        page = here.goto(path)
        page.wait_for_timeout(500)
        if found := page.evaluate(SMALL, TOUCH_PX):
            small[path] = found
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"{path} is wider than a phone"
        )
    assert not small
    last = "document.querySelector('.side li:last-child').getBoundingClientRect().right"
    assert page.evaluate(last) <= 360, "all pages stand in the navigation"


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_no_view_is_wider_than_the_window(visit: Visits, anna: Computer, house: Path, locale: str) -> None:
    here = visit(anna, locale=locale)
    for path in VIEWS:
        page = here.goto(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(IS_INSIDE, "html"), f"{path} at {width}"
            assert page.evaluate(IS_INSIDE, ".side ul"), f"the navigation at {width}"


def test_everything_is_narrowed_by_words(visit: Visits, anna: Computer) -> None:
    page = visit(anna).goto("/do")
    heads = page.locator("#purposes h2").all_inner_texts()
    assert heads[:2] == ["Share and get", "People"]
    expect(page.locator("#purposes .row .name").first).to_have_text("Share something")
    narrow = page.get_by_label("Show only what has these words")
    narrow.fill("invite circle")
    expect(page.locator("#purposes .row:visible")).to_have_count(1)
    expect(page.locator("#purposes .card:visible")).to_have_count(1)
    narrow.fill("transfers pause")  # the words of the command line find it too
    expect(page.locator("#purposes .row:visible", has_text="Pause a transfer")).to_have_count(1)
    expect(page.locator("#purposes .row:visible", has_text="Share something")).to_have_count(0)
    narrow.fill("zebra")
    expect(page.locator("#narrowed")).to_have_text("Nothing has these words.")


def test_a_ticket_is_masked_as_it_is_typed_and_a_place_is_not(visit: Visits, anna: Computer) -> None:
    page = visit(anna).goto("/do/play/play")
    field = page.locator("[name=ticket]")
    field.fill("berta/films/one.mkv")
    expect(field).to_have_attribute("type", "text")
    field.fill("coterie1qqqq")
    expect(field).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show").click()
    expect(field).to_have_attribute("type", "text")
    field.press("End")
    field.press_sequentially("x")
    expect(field).to_have_attribute("type", "text")


def reach(page: Page, name: str) -> None:
    """Press Tab until what is called `name` has the focus; whatever has it on the way shows it."""
    look = """() => {
      const one = document.activeElement, label = one.labels?.[0]?.innerText || "";
      const name = one.getAttribute("aria-label") || one.innerText || label;
      return [name.trim().split("\\n")[0], getComputedStyle(one).outlineStyle !== "none"];
    }"""
    for _ in range(TABS_MAX):
        page.keyboard.press("Tab")
        label, is_shown = page.evaluate(look)
        assert is_shown, f"'{label}' has the focus and does not show it"
        if label.startswith(name):
            return
    raise AssertionError(f"no key leads to '{name}'")


def test_the_main_story_by_keys_alone(visit: Visits, anna: Computer, house: Path) -> None:
    (house / "attic" / "keys.txt").write_text("keys")
    page = visit(anna).page
    keys = page.keyboard
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("main")).to_be_focused()
    # invite, and stop it
    reach(page, "Invite")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Invite another computer")).to_be_visible()
    reach(page, "Go")
    keys.press("Enter")
    expect(page.locator(".invited .code")).to_have_text(re.compile(r"\d+-\w+-\w+"))
    reach(page, "Stop")
    keys.press("Enter")
    expect(page.locator("#result")).to_contain_text("no longer works")
    # share, with the folders of this computer as a dialog that Escape closes
    keys.press("/")
    keys.type("share something")
    expect(page.locator("#found a").first).to_contain_text("Share something")
    keys.press("ArrowDown")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Share something")).to_be_visible()
    reach(page, "Choose")
    keys.press("Enter")
    expect(page.locator("#dialog")).to_be_visible()
    keys.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Choose")).to_be_focused()
    keys.press("Shift+Tab")
    keys.type(str(house / "attic" / "keys.txt"))
    keys.press("Enter")
    expect(page.locator("#result")).to_contain_text("keys.txt")
    # stop sharing it, think again, and do it
    page.goto(f"{anna.url}files")
    expect(page.locator("[data-live='files.shares']")).to_contain_text("keys.txt")
    reach(page, "Stop sharing keys.txt")
    keys.press("Enter")
    expect(page.locator(".toast")).to_contain_text("keys.txt is no longer shared")
    keys.press("Control+z")
    expect(page.locator(".toast")).to_have_count(0)
    assert any(line["name"] == "keys.txt" for line in anna.json("shares"))
    anna.run("unshare", str(house / "attic" / "keys.txt"))


def test_what_is_new_is_said_once_and_what_changes_is_not(
    visit: Visits, anna: Computer, berta: Computer, tmp_path: Path
) -> None:
    page = visit(anna).page
    spoken = page.locator("#spoken")
    assert page.locator("[data-live][aria-live]").count() == 0
    expect(spoken).to_be_empty()
    page.wait_for_timeout(1_000)  # what was there before is not said
    expect(spoken).to_be_empty()
    (tmp_path / "for you.txt").write_text("x")
    berta.run("send", str(tmp_path / "for you.txt"), "anna")
    expect(spoken).to_contain_text("for you.txt")


def test_eight_pages_at_once_are_all_told_within_two_seconds(
    visit: Visits, anna: Computer, berta: Computer, tmp_path: Path
) -> None:
    here = visit(anna)
    pages, sockets = [here.page], []
    for _ in range(7):
        pages.append(here.context.new_page())
    for page in pages:
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(anna.url)
    for page in pages:
        page.wait_for_function("window.coterie !== undefined")
    (tmp_path / "eight.txt").write_text("x")
    berta.run("send", str(tmp_path / "eight.txt"), "anna")
    offer = "[data-live='send.inbox'] .row:has-text('eight.txt')"
    expect(pages[0].locator(offer)).to_be_visible()
    for page in pages[1:]:
        expect(page.locator(offer)).to_be_visible(timeout=2_000)
    assert len(sockets) == len(pages)


def test_a_long_list_shows_its_last_row_when_somebody_scrolls_there(
    visit: Visits, anna: Computer, tmp_path: Path
) -> None:
    api = Client.find(anna.home / "run" / "api.json")
    names = [f"leaf {number:03}.txt" for number in range(130)]
    for name in names:
        (tmp_path / name).write_text(name)
        list(api.call("files", ("share",), {"path": str(tmp_path / name), "to": ["contacts"]}))
    try:
        page = visit(anna).goto("/files")
        rows = page.locator("[data-live='files.shares']")
        expect(rows).to_contain_text(names[0])
        for _ in range(20):
            page.mouse.wheel(0, 3_000)
            page.wait_for_timeout(150)
        expect(rows).to_contain_text(names[-1])
        expect(rows.locator(".row")).not_to_have_count(len(names))
    finally:
        for name in names:
            list(api.call("files", ("unshare",), {"share": str(tmp_path / name)}))
