"""What a browser with few rights, a removed one, and one that asks for too much get of the page: attacks by program."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from coterie.apps.panel import LOOK, Live, Row
from coterie.control.browsers import EVERYTHING, Browser, Browsers
from coterie.errors import LimitExceeded, UsageError
from coterie.web.calls import RUNNING_FEW_MAX, RUNNING_MAX, Calls
from coterie.web.folders import folder_lines
from coterie.web.live import ARG_CHARS_MAX, PAGES_FEW_MAX, Lives, read_message
from tests.web.conftest import Computer, Visits, started

SOON_S = 10.0


@pytest.fixture(scope="module")
def dora(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computer]:
    """Somebody alone, whose list of browsers a test writes."""
    computer = started(tmp_path_factory.mktemp("dora"), "dora")
    yield computer
    computer.down()


def let_in(computer: Computer, right: str = EVERYTHING) -> tuple[Browser, str]:
    """A browser with this right, and its cookie."""
    browsers = Browsers(computer.home / "browsers.json")
    opened = browsers.redeem(browsers.new_key("attacker", (right,)), "")
    assert opened is not None
    return opened[0], f"coterie-{urlsplit(computer.url).port}={opened[1]}"


def ask(computer: Computer, method: str, path: str, cookie: str = "", body: str = "") -> tuple[int, str]:
    """The status and text of a request that comes from the page."""
    at = urlsplit(computer.url)
    connection = HTTPConnection(at.hostname or "", at.port, timeout=SOON_S)
    headers = {"Origin": computer.url.rstrip("/"), "Cookie": cookie}
    connection.request(method, path, body or None, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def socket(computer: Computer, cookie: str) -> ClientConnection:
    """An open page."""
    url = urlsplit(computer.url)
    return connect(
        f"ws://{url.netloc}/live", origin=f"http://{url.netloc}", additional_headers={"Cookie": cookie}
    )  # type: ignore[arg-type]


def watch(number: int, live: str) -> str:
    return json.dumps({"do": "watch", "id": number, "live": live, "args": {}})


def one(name: str, *rights: str) -> Browser:
    return Browser(id=name, name=name, rights=rights, created=0, seen=0, digest=name)


def test_without_a_cookie_files_of_the_program_say_nothing_of_the_node(dora: Computer) -> None:
    for path in ("/static/missing.css", "/static/%00", "/static/" + "a" * 300, "/static/..%2fpage.py"):
        status, text = ask(dora, "GET", path)
        assert status == 404, path
        assert "dora" not in text


def test_a_browser_that_is_in_already_spends_the_key_too(dora: Computer) -> None:
    _, cookie = let_in(dora)
    known = len(Browsers(dora.home / "browsers.json").all())
    key = urlsplit(dora.address()).path
    assert ask(dora, "GET", key, cookie)[0] == 200
    assert ask(dora, "GET", key)[0] == 401
    assert ask(dora, "GET", "/", cookie)[0] == 200
    assert len(Browsers(dora.home / "browsers.json").all()) == known


def test_a_key_of_the_owner_gives_a_browser_of_few_rights_all(tmp_path: Path) -> None:
    browsers = Browsers(tmp_path / "browsers.json")
    few = browsers.redeem(browsers.new_key("", (LOOK,)), "")
    assert few is not None
    more = browsers.redeem(browsers.new_key(), "", few[0])
    assert more is not None
    assert more[1]
    assert more[0].may("")


def test_search_finds_nothing_of_the_node_for_who_may_not_look(dora: Computer, tmp_path: Path) -> None:
    (tmp_path / "Diary").mkdir()
    dora.run("share", str(tmp_path / "Diary"))
    assert "Diary" in ask(dora, "GET", "/search?q=diary", let_in(dora, LOOK)[1])[1]
    found = ask(dora, "GET", "/search?q=diary", let_in(dora, "nothing")[1])[1]
    assert "/files#share" not in found


def test_browsers_of_few_rights_leave_places_for_the_owner(dora: Computer) -> None:
    _, cookie = let_in(dora, LOOK)
    pages = [socket(dora, cookie) for _ in range(PAGES_FEW_MAX)]
    try:
        with pytest.raises(InvalidStatus):
            socket(dora, cookie)
        with socket(dora, let_in(dora)[1]) as owners:
            assert "hello" in json.loads(owners.recv(timeout=SOON_S))
    finally:
        for page in pages:
            page.close()
    with socket(dora, cookie) as again:
        assert "hello" in json.loads(again.recv(timeout=SOON_S))


def test_a_removed_browser_hears_nothing_more_and_its_commands_stop(dora: Computer) -> None:
    browser, cookie = let_in(dora)
    assert ask(dora, "POST", "/do/contacts/invite", cookie)[0] == 200
    _, owner = let_in(dora)
    with socket(dora, cookie) as page, socket(dora, owner) as owners:
        page.recv(timeout=SOON_S)
        owners.recv(timeout=SOON_S)
        owners.send(watch(1, "node.going"))
        assert json.loads(owners.recv(timeout=SOON_S))["total"] == 1
        Browsers(dora.home / "browsers.json").remove(browser.id)
        page.send(watch(1, "node.going"))
        assert list(page) == []
        while json.loads(owners.recv(timeout=SOON_S))["total"]:
            pass


def test_rows_of_one_browser_of_few_rights_are_not_shown_to_another() -> None:
    live = Live(name="going", template="", rows=lambda reader: [Row(reader, reader)], every_s=60.0)
    lives = Lives(SimpleNamespace(), lambda app, browser, args: browser.id)  # type: ignore[arg-type]

    async def ids(browser: Browser) -> list[str]:
        return [row.key for row in await lives.take("node", live, browser, {})]

    async def main() -> None:
        assert await ids(one("first", LOOK)) == ["first"]
        assert await ids(one("second", LOOK)) == ["second"]
        assert await ids(one("owner", EVERYTHING)) == ["owner"]
        assert await ids(one("owner2", EVERYTHING)) == ["owner"]  # once for all pages of the owner

    with ThreadPoolExecutor(1) as pool:  # the loop of Playwright runs in this thread
        pool.submit(asyncio.run, main()).result()


def test_commands_of_few_rights_leave_room_for_the_owners() -> None:
    calls = Calls(SimpleNamespace(tasks=SimpleNamespace(part=lambda name: None)), lambda browser: browser)
    running: dict[str, Any] = {
        str(n): SimpleNamespace(state="running", is_few=True) for n in range(RUNNING_FEW_MAX)
    }
    calls._calls.update(running)
    with pytest.raises(LimitExceeded):
        calls._check_room(is_few=True)
    calls._check_room(is_few=False)
    calls._calls.update({f"o{n}": running["0"] for n in range(RUNNING_MAX - RUNNING_FEW_MAX)})
    with pytest.raises(LimitExceeded):
        calls._check_room(is_few=False)


def test_words_of_a_watch_are_bounded_on_both_sides() -> None:
    for args in ({"k" * (ARG_CHARS_MAX + 1): ""}, {"": "v" * (ARG_CHARS_MAX + 1)}):
        with pytest.raises(UsageError):
            read_message(json.dumps({"do": "watch", "id": 1, "live": "a.b", "args": args}))


def test_a_path_that_no_file_can_have_is_an_empty_folder(dora: Computer) -> None:
    assert folder_lines(Path("\0")) == []
    assert ask(dora, "GET", "/folders?at=%00", let_in(dora)[1])[0] == 200


def test_a_plain_form_of_the_page_is_from_the_page(visit: Visits, dora: Computer) -> None:
    """A browser says `Origin: null` where a page hides where it is from, and that is what other sites say."""
    page = visit(dora).page
    with page.expect_navigation():
        page.evaluate(
            "() => { const form = document.createElement('form'); form.method = 'post'; form.action = '/skip';"
            " document.body.append(form); form.submit(); }"
        )
    assert any(c["name"] == "coterie-skipped" for c in page.context.cookies())
