"""What the README tells, by clicks only; and a page whose node was stopped finds it again."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.conftest import Computer, Visits, started

ARRIVES_MS = 20_000


@pytest.fixture(scope="module")
def carl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computer]:
    """Somebody whom nobody knows yet."""
    computer = started(tmp_path_factory.mktemp("carl"), "carl")
    yield computer
    computer.down()


def go(page: Page) -> None:
    page.locator("form[hx-post^='/do/'] button[type=submit]").click()


def more(page: Page) -> None:
    page.locator("details.more > summary").click()


def choose(page: Page, label: str, name: str) -> Locator:
    """Take `name` from what a field offers."""
    field = page.get_by_label(label)
    expect(page.locator(f"datalist#{field.get_attribute('list')} option[value='{name}']")).to_have_count(1)
    field.fill(name)
    return field


def test_by_clicks_only(visit: Visits, anna: Computer, carl: Computer, tmp_path: Path) -> None:
    annas, carls = visit(anna).page, visit(carl).page
    expect(carls.get_by_role("heading", name="Three steps to begin with")).to_be_visible()
    # invite and join
    annas.locator(".head a", has_text="Invite").click()
    go(annas)
    result = annas.locator("#result")
    expect(result).to_contain_text(re.compile(r"\d+-[a-z]+-[a-z]+"))
    code = re.search(r"\d+-[a-z]+-[a-z]+", result.inner_text())
    assert code is not None
    carls.locator(".head a", has_text="Join").click()
    carls.locator("[name=invitation]").fill(code[0])
    more(carls)
    carls.locator("[name=at]").fill(anna.json("status")["addresses"][0])
    go(carls)
    expect(carls.locator("#result")).to_contain_text("know each other now", timeout=ARRIVES_MS)
    expect(result).to_contain_text("know each other now", timeout=ARRIVES_MS)
    # share with a person, and get it
    shared = tmp_path / "Holiday"
    shared.mkdir()
    (shared / "beach.txt").write_text("sand" * 1_000)
    annas.goto(f"{anna.url}do/files/share")
    annas.locator("[name=path]").fill(str(shared))
    more(annas)
    choose(annas, "Add", "carl").press("Enter")
    expect(annas.locator("[name=to]")).to_have_value("carl")
    go(annas)
    expect(annas.locator("#result")).to_contain_text("Holiday", timeout=ARRIVES_MS)
    target = tmp_path / "got"
    target.mkdir()
    carls.goto(f"{carl.url}do/files/get?ticket=anna/Holiday&target={target}/")
    go(carls)
    expect(carls.locator("#result")).to_contain_text("Received", timeout=ARRIVES_MS)
    assert (target / "Holiday" / "beach.txt").read_text() == "sand" * 1_000
    # send, decline and think again, accept
    letter = carl.user / "letter.txt"
    letter.write_text("dear anna")
    carls.goto(carl.url)
    carls.locator(".head a", has_text="Send").click()
    carls.get_by_role("button", name="Choose").click()
    carls.locator("#dialog").get_by_role("button", name="Choose letter.txt").click()
    expect(carls.get_by_label("Files and folders")).to_have_value(str(letter))
    choose(carls, "Person", "anna")
    go(carls)
    expect(carls.locator("#result")).to_contain_text("offered to anna", timeout=ARRIVES_MS)
    annas.goto(anna.url)
    offer = annas.locator("[data-live='send.inbox'] .row", has_text="letter.txt")
    expect(offer).to_contain_text("from carl")
    offer.get_by_role("button", name="Decline").click()
    annas.get_by_role("button", name="Undo").click()
    offer.get_by_role("button", name="Accept").click()
    expect(offer).to_have_count(0, timeout=ARRIVES_MS)
    assert (anna.user / "Downloads" / "letter.txt").read_text() == "dear anna"
    anna.run("contacts", "remove", "carl")


def test_a_circle_of_three_by_clicks_only(
    visit: Visits, anna: Computer, berta: Computer, carl: Computer, tmp_path: Path
) -> None:
    annas = visit(anna).page
    others = [(computer, visit(computer).page) for computer in (berta, carl)]
    at = anna.json("status")["addresses"][0]
    # a circle, and two who join it
    annas.goto(f"{anna.url}people")
    annas.get_by_role("link", name="New circle").click()
    annas.locator("[name=name]").fill("household")
    go(annas)
    expect(annas.locator("#result")).to_contain_text("household")
    for computer, page in others:
        annas.goto(f"{anna.url}circles/household")
        annas.get_by_role("link", name="Invite").click()
        go(annas)
        code = annas.locator(".invited .code").inner_text()
        page.goto(f"{computer.url}do/circles/circle-join")
        page.locator("[name=invitation]").fill(code)
        more(page)
        page.locator("[name=at]").fill(at)
        go(page)
        expect(page.locator("#result")).to_contain_text("in the circle household", timeout=ARRIVES_MS)
        expect(annas.locator("#result")).to_contain_text("household now", timeout=ARRIVES_MS)
    # an invitation that was stopped is dead
    annas.goto(f"{anna.url}circles/household")
    annas.get_by_role("link", name="Invite").click()
    go(annas)
    dead = annas.locator(".invited .code").inner_text()
    annas.get_by_role("button", name="Stop").click()
    expect(annas.locator("#result")).to_contain_text("no longer works")
    assert "household" not in carl.run("circle", "join", dead, "--at", at, check=False)
    # all of it gets what is shared with it
    (tmp_path / "Album").mkdir()
    (tmp_path / "Album" / "one.txt").write_text("one")
    annas.goto(f"{anna.url}do/files/share")
    annas.locator("[name=path]").fill(str(tmp_path / "Album"))
    more(annas)
    annas.locator("[name=to]").fill("household")
    go(annas)
    expect(annas.locator("#result")).to_contain_text("Album", timeout=ARRIVES_MS)
    for computer, page in others:
        page.goto(f"{computer.url}files/anna")
        page.get_by_role("link", name="Album").click()
        page.get_by_label("Put it into").fill(f"{tmp_path}/{computer.name}/")
        page.get_by_role("button", name="Get all of it").click()
        page.goto(f"{computer.url}transfers")
        done = page.locator("[data-live='files.transfers'] .row", has_text="Album")
        expect(done).to_contain_text("done", timeout=ARRIVES_MS)
        assert (tmp_path / computer.name / "Album" / "one.txt").read_text() == "one"
    # who is removed sees it no more
    annas.goto(f"{anna.url}circles/household")
    annas.get_by_role("button", name="Remove carl").click()
    expect(annas.locator(".toast")).to_contain_text("carl is removed from the circle")
    annas.goto(f"{anna.url}circles/household")  # who leaves the page thinks no more about it
    expect(annas.locator("[data-live='circles.members'] .row")).to_have_count(2, timeout=ARRIVES_MS)
    _, carls = others[1]
    carls.goto(f"{carl.url}files/anna")
    expect(carls.get_by_role("link", name="Album")).to_have_count(0)


def test_a_page_finds_its_node_again(visit: Visits, carl: Computer) -> None:
    page = visit(carl, expected=("WebSocket", "ERR_CONNECTION_REFUSED")).page
    stopped = page.locator("#stopped")
    expect(stopped).to_be_hidden()
    carl.down()
    expect(stopped).to_be_visible(timeout=ARRIVES_MS)
    page.get_by_role("link", name="People", exact=True).click()
    page.wait_for_timeout(300)
    expect(stopped).to_be_visible()  # no page of errors of the browser
    was = carl.url
    carl.up()
    assert carl.url == was
    expect(stopped).to_be_hidden(timeout=ARRIVES_MS)


def test_who_has_few_rights_sees_and_does_little(visit: Visits, carl: Computer) -> None:
    here = visit(carl, expected=("403",))
    file = carl.home / "browsers.json"
    file.write_text(file.read_text().replace("everything", "look"))
    assert here.page.goto(carl.url).status == 200  # type: ignore[union-attr]
    assert here.page.locator(".head .actions").count() == 0
    for path in ("do/files/share", "do/node/gc", "do/send/inbox-accept", "folders"):
        assert here.page.goto(carl.url + path).status == 403, path  # type: ignore[union-attr]
    here.page.goto(f"{carl.url}do")
    listed = here.page.locator("main .row .name").all_inner_texts()
    assert "What people sent you" in listed
    no = {"Share something", "Clear what nothing needs", "Take what was sent", "Change a setting"}
    assert not no & {*listed}
