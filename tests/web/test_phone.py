"""A phone in a real browser that has the authority of the node installed: let in, sending, installed, removed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from tests.web.conftest import CHROMIUM, WAIT_MS, Computer, axe
from tests.web.previews.films import film

PIXEL = {"viewport": {"width": 393, "height": 851}, "is_mobile": True, "has_touch": True, "locale": "en-GB"}


@pytest.fixture(scope="module")
def with_authority(
    playwright: Playwright, computers: tuple[Computer, Computer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """Chromium of a user who installed the authority of anna's node, as certutil does it."""
    if shutil.which("certutil") is None:
        if os.environ.get("CI"):
            pytest.fail("this test needs the Debian package libnss3-tools")
        pytest.skip("needs the Debian package libnss3-tools")
    home = tmp_path_factory.mktemp("phone-home")
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    computers[0].run("phone", "on")  # makes it
    root = computers[0].home / "apps" / "phone" / "certificates" / "authority.pem"
    store = f"sql:{database}"
    subprocess.run(["certutil", "-d", store, "-N", "--empty-password"], check=True)
    subprocess.run(["certutil", "-d", store, "-A", "-t", "C,,", "-n", "coterie", "-i", str(root)], check=True)
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        env={**os.environ, "HOME": str(home)},
    )
    yield browser
    browser.close()


class let_in:
    """`coterie phone add` while the block runs: its first line is what the QR code has."""

    def __init__(self, computer: Computer, name: str, *words: str) -> None:
        command = [
            sys.executable,
            "-m",
            "coterie",
            "--home",
            str(computer.home),
            "phone",
            "add",
            name,
            *words,
        ]
        self._running = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )

    def __enter__(self) -> dict[str, Any]:
        assert self._running.stdout is not None
        shown: dict[str, Any] = json.loads(self._running.stdout.readline())
        return shown

    def __exit__(self, *_: object) -> None:
        if self._running.poll() is None:
            self._running.send_signal(signal.SIGINT)
        self._running.communicate(timeout=20)


@dataclass
class Phone:
    context: BrowserContext
    origin: str
    complaints: list[str]
    key: str

    def open(self, path: str) -> Page:
        """A page of its own."""
        page = self.context.new_page()
        page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.origin + path)
        return page


def begun(browser: Browser, computer: Computer, name: str, *words: str) -> Phone:
    """Let a phone in."""
    context = browser.new_context(**PIXEL)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    with let_in(computer, name, *words) as shown:
        page.goto(shown["url"])
        if "/start#" in shown["url"]:
            page.get_by_role("link", name="Open the page.").click()
        page.wait_for_selector("nav.side")
    origin = page.evaluate("location.origin")
    page.close()
    return Phone(context, origin, [], shown["url"].rpartition("#")[2])


@pytest.fixture(scope="module")
def pixel(with_authority: Browser, computers: tuple[Computer, Computer]) -> Iterator[Phone]:
    """A phone with the usual rights at anna's node."""
    made = begun(with_authority, computers[0], "Pixel")
    yield made
    made.context.close()
    shutil.rmtree(computers[0].user / "Downloads" / "Pixel", ignore_errors=True)


@pytest.fixture(autouse=True)
def quiet(pixel: Phone) -> Iterator[None]:
    """What the console of the phone says fails the test."""
    yield
    said = [
        one for one in pixel.complaints if "ERR_CONNECTION_REFUSED" not in one and "status of 40" not in one
    ]
    pixel.complaints.clear()
    assert not said, said


def status(page: Page, path: str) -> int:
    """What the computer answers to the phone."""
    answer: int = page.evaluate("(path) => fetch(path).then((answer) => answer.status)", path)
    return answer


def until(page: Page, expression: str) -> None:
    """Wait for it; `wait_for_function` would need what our policy refuses."""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def test_a_phone_is_let_in_once_and_has_what_it_may(pixel: Phone, anna: Computer) -> None:
    line = next(one for one in anna.json("phones") if one["name"] == "Pixel")
    assert line["may"] == ["look", "get", "upload", "send", "answer", "play"]
    assert (line["over"], pixel.origin.split(":")[0]) == ("https", "https")
    (cookie,) = pixel.context.cookies()
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    page = pixel.open("/static/phone/offline.html")
    used = "(path) => fetch(path, { credentials: 'omit' }).then((answer) => answer.status)"
    assert page.evaluate(used, f"/open/{pixel.key}") == 401
    assert [status(page, path) for path in ("/do/node/config", "/folders", "/do/files/get")] == [
        403,
        403,
        200,
    ]
    page.close()


@pytest.mark.parametrize("path", ["/", "/phone", "/do"])
def test_pages_are_no_wider_than_a_phone_and_axe_finds_nothing(pixel: Phone, path: str) -> None:
    page = pixel.open(path)
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert not axe(page)
    page.close()


def test_pictures_go_on_where_they_stopped_when_the_page_is_closed(
    pixel: Phone, anna: Computer, tmp_path: Path
) -> None:
    content = random.Random(5).randbytes(30_000_000)
    picture = tmp_path / "beach.jpg"
    picture.write_bytes(content)
    page = pixel.open("/phone")
    page.locator("input[type=file]").first.set_input_files(picture)
    page.get_by_role("button", name="Send").click()
    until(page, "document.querySelector('#upload-files progress').value > 9000000")
    page.close()
    asked: list[tuple[str, str]] = []
    page = pixel.open("/phone")
    page.on(
        "request",
        lambda r: asked.append((r.method, r.headers.get("upload-offset", ""))) if "/up/" in r.url else None,
    )
    expect(page.locator("#upload-status")).to_contain_text("Choose the same files again")
    page.locator("input[type=file]").first.set_input_files(picture)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#upload-status")).to_contain_text("beach.jpg is in", timeout=30_000)
    assert asked[0][0] == "HEAD"
    assert int(next(offset for method, offset in asked if method == "PATCH")) >= 8 << 20
    assert (anna.user / "Downloads" / "Pixel" / "beach.jpg").read_bytes() == content
    page.close()


def test_pictures_go_to_a_person(pixel: Phone, anna: Computer, tmp_path: Path) -> None:
    picture = tmp_path / "sunset.jpg"
    picture.write_bytes(b"sunset")
    page = pixel.open("/phone")
    page.locator("input[type=file]").first.set_input_files(picture)
    page.locator("#upload-to").select_option("send:berta")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#upload-status")).to_contain_text("offered to berta")
    assert any(one["names"] == ["sunset.jpg"] for one in anna.json("sent"))
    page.close()


SHARE = """async () => {
    const form = document.createElement("form");
    form.method = "post"; form.enctype = "multipart/form-data"; form.action = "/phone/shared";
    const input = document.createElement("input");
    input.type = "file"; input.name = "files";
    const files = new DataTransfer();
    files.items.add(new File(["shared"], "shared.txt", { type: "text/plain" }));
    input.files = files.files;
    form.append(input); document.body.append(form); form.submit();
}"""
CACHED = """async () => {
    const found = [];
    for (const name of await caches.keys())
        for (const request of await (await caches.open(name)).keys()) found.push(new URL(request.url).pathname);
    return found;
}"""


def test_as_an_app_it_takes_shares_and_says_when_the_computer_is_off(pixel: Phone, anna: Computer) -> None:
    page = pixel.open("/phone")
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    page.reload()
    assert page.evaluate("navigator.serviceWorker.controller !== null")
    manifest = page.evaluate(
        "() => fetch(document.querySelector('link[rel=manifest]').href).then((r) => r.json())"
    )
    assert manifest["share_target"]["action"] == "/phone/shared"
    for icon in manifest["icons"]:
        assert status(page, icon["src"]) == 200
    page.evaluate(SHARE)
    page.wait_for_url("**/phone?shared")
    expect(page.locator("#upload-files")).to_contain_text("shared.txt")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#upload-status")).to_contain_text("shared.txt is in")
    page.reload()
    expect(page.locator("#upload-files li")).to_have_count(0)
    cached = page.evaluate(CACHED)
    assert cached
    assert all(path.startswith("/static/phone/") for path in cached)
    anna.run("phone", "off")
    page.goto(f"{pixel.origin}/")
    expect(page.get_by_text("Your computer is not reachable now.")).to_be_visible()
    anna.run("phone", "on")
    expect(page.get_by_role("navigation")).to_be_visible(timeout=20_000)
    pixel.complaints.clear()
    page.close()


EVIL = "http://evil.test/"


def test_another_site_puts_nothing_among_what_waits_to_be_sent(pixel: Phone) -> None:
    page = pixel.open("/phone")
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    form = f"""<form method=post enctype=multipart/form-data action="{pixel.origin}/phone/shared">
    <input name=text value=evil></form><script>document.forms[0].submit()</script>"""
    pixel.context.route(f"{EVIL}**", lambda route: route.fulfill(body=form, content_type="text/html"))
    page.goto(EVIL, wait_until="commit")
    page.wait_for_url(f"{pixel.origin}/phone/shared")
    page.goto(f"{pixel.origin}/phone")
    assert page.evaluate("KeptFiles.all().then((kept) => kept.length)") == 0
    pixel.context.unroute(f"{EVIL}**")
    pixel.complaints.clear()
    page.close()


def test_no_more_than_so_many_files_wait_on_the_phone(pixel: Phone) -> None:
    page = pixel.open("/phone")
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    page.reload()
    fill = (
        """async () => { for (let n = 0; n < 500; n++) await KeptFiles.add(new File(["x"], `${n}.txt`)); }"""
    )
    page.evaluate(fill)
    page.evaluate(SHARE)
    page.wait_for_url("**/phone?full")
    expect(page.locator("#upload-status")).to_contain_text("Too many files wait here already")
    assert page.evaluate("KeptFiles.all().then((kept) => kept.length)") == 500
    page.evaluate("async () => { for (const { key } of await KeptFiles.all()) await KeptFiles.remove(key); }")
    page.close()


def test_files_of_others_cannot_run(pixel: Phone, anna: Computer) -> None:
    folder = anna.user / "Downloads" / "Pixel"
    folder.mkdir(parents=True, exist_ok=True)
    script = "<script>document.title = 'ran'; parent.postMessage('ran', '*')</script>"
    (folder / "a.html").write_text(f"<!doctype html>{script}")
    (folder / "b.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{script}</svg>')
    page = pixel.open("/")
    for name in ("a.html", "b.svg"):
        page.goto(f"{pixel.origin}/shown?path={folder / name}")
        assert page.evaluate("document.contentType") == "text/plain"
        assert page.title() != "ran"
        assert not page.evaluate("origin").startswith("https:")  # of its own, by the sandbox
        assert urlsplit(page.url).netloc != urlsplit(pixel.origin).netloc
    page.goto(f"{pixel.origin}/phone")
    assert status(page, f"/shown?path={anna.home / 'key'}") == 403
    page.close()


def test_a_film_of_somebody_else_plays_on_the_phone(
    pixel: Phone, computers: tuple[Computer, Computer], tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "film.webm").write_bytes(film(tmp_path, "webm"))
    computers[1].run("share", str(folder), "--to", "contacts")
    page = pixel.open("/files/berta/films")
    page.get_by_role("link", name="film.webm").click()
    until(page, "document.querySelector('#stage > video')?.readyState >= 1")
    page.evaluate("document.querySelector('video').currentTime = 3")
    until(page, "document.querySelector('video').readyState >= 2 && !document.querySelector('video').seeking")
    shown = urlsplit(page.evaluate("document.querySelector('video').src"))
    assert (shown.scheme, shown.hostname) == ("https", urlsplit(pixel.origin).hostname)
    assert shown.netloc != urlsplit(pixel.origin).netloc  # an origin of its own
    assert axe(page) == []
    page.close()
    computers[1].run("unshare", str(folder))


def test_over_plain_http_it_works_and_only_there(with_authority: Browser, anna: Computer) -> None:
    here = begun(with_authority, anna, "Old", "--plain", "--may", "look,upload,people")
    assert here.origin.startswith("http://")
    page = here.open("/phone")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_role("button", name="Open the camera").click()
    expect(page.locator("#scan-status")).not_to_be_empty()
    here.context.close()


def test_a_removed_phone_is_out_at_once(with_authority: Browser, anna: Computer) -> None:
    here = begun(with_authority, anna, "Lost")
    page = here.open("/")
    page.evaluate(
        """() => { window.over = false; const socket = new WebSocket(`wss://${location.host}/live`);
                   socket.onopen = () => { window.opened = true; }; socket.onclose = () => { window.over = true; }; }"""
    )
    until(page, "window.opened === true")
    anna.run("phone", "remove", "Lost")
    until(page, "window.over")
    assert status(page, "/") == 401
    here.context.close()
