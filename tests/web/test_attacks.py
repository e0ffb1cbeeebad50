"""Who may not use the page: other sites and names, used keys, removed browsers; and text that would be HTML."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.web.conftest import Computer, Visit, Visits

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def asked(
    computer: Computer, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> int:
    """The status of a request with exactly these headers (and `Host`)."""
    at = urlsplit(computer.url)
    connection = HTTPConnection(at.hostname or "", at.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"Host": at.netloc} | dict(headers)).items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture
def cookie(visit: Visits, anna: Computer) -> str:
    """The cookie of a browser that may everything."""
    return cookie_of(visit(anna))


def cookie_of(here: Visit) -> str:
    return "; ".join(f"{c['name']}={c['value']}" for c in here.context.cookies() if c["httpOnly"])


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visit: Visits, anna: Computer) -> None:
    here = visit(anna)
    (one,) = [c for c in here.context.cookies() if c["name"].startswith("coterie-") and c["httpOnly"]]
    assert one["sameSite"] == "Strict"
    assert one["value"] not in here.page.evaluate("document.cookie")
    kept = (anna.home / "browsers.json").read_text()
    assert one["value"] not in kept
    assert (anna.home / "browsers.json").stat().st_mode & 0o777 == 0o600


def test_without_a_cookie_nothing_but_the_way_in_is_answered(anna: Computer) -> None:
    for path in (
        "/",
        "/do",
        "/do/node/status",
        "/folders",
        "/search?q=a",
        "/calls/1",
        "/values/node/may/peer",
    ):
        assert asked(anna, "GET", path, {}) == 401, path
    assert asked(anna, "POST", "/do/node/gc", {"Sec-Fetch-Site": "same-origin"}, b"") == 401
    assert asked(anna, "GET", "/static/app.css", {}) == 200


def test_a_key_opens_the_page_once(chromium: Browser, anna: Computer) -> None:
    key = urlsplit(anna.address()).path
    agent = {"User-Agent": "thief"}
    assert asked(anna, "GET", key, agent) == 200
    assert asked(anna, "GET", key, agent) == 401
    anna.run("browsers", "remove", anna.json("browsers")[-1]["id"])


def test_the_cookie_is_of_no_use_to_the_api(anna: Computer, cookie: str) -> None:
    assert asked(anna, "GET", "/", {"Cookie": cookie}) == 200
    assert asked(anna, "GET", "/api/v1/status", {"Cookie": cookie}) == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost.evil.example:{port}", "127.0.0.1:1"]
)
def test_another_name_is_refused_whatever_it_shows(anna: Computer, cookie: str, host: str) -> None:
    said = host.format(port=urlsplit(anna.url).port)
    assert asked(anna, "GET", "/", {"Cookie": cookie, "Host": said}) == 403
    assert asked(anna, "GET", urlsplit(anna.address()).path, {"Host": said}) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "{own}", "Sec-Fetch-Site": "cross-site"},
        {},
    ],
    ids=str,
)
def test_what_changes_something_must_come_from_our_page(
    anna: Computer, cookie: str, headers: dict[str, str]
) -> None:
    given = {name: value.format(own=anna.url.rstrip("/")) for name, value in headers.items()}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert asked(anna, "POST", "/do/node/notices-clear", {"Cookie": cookie, **form, **given}, b"app=x") == 403
    own = {"Origin": anna.url.rstrip("/")}
    assert asked(anna, "POST", "/do/node/notices-clear", {"Cookie": cookie, **form, **own}, b"app=x") == 200


def test_a_page_of_another_site_gets_nothing(chromium: Browser, visit: Visits, anna: Computer) -> None:
    """A real browser that may use the page, on another site: no picture, script, frame, form, fetch or socket of it."""
    here = visit(anna, expected=("",))
    context = here.context
    context.route(
        "http://evil.example/**", lambda route: route.fulfill(content_type="text/html", body="<p>evil")
    )
    page = context.new_page()
    page.goto("http://evil.example/")
    result = page.evaluate(
        """async (base) => {
            const tried = {};
            const loads = (tag, what) => new Promise((done) => {
                const one = document.createElement(tag);
                one.onload = () => done(true); one.onerror = () => done(false);
                if (tag === "link") { one.rel = "stylesheet"; one.href = base + what; } else one.src = base + what;
                document.body.append(one);
            });
            tried.picture = await loads("img", "static/icon.svg");
            tried.script = await loads("script", "static/app.js");
            tried.style = await loads("link", "static/app.css");
            tried.read = await fetch(base + "do", {credentials: "include"}).then((r) => r.ok, () => false);
            tried.done = await fetch(base + "do/node/notices-clear", {method: "POST", mode: "no-cors",
                credentials: "include", body: "app=x"}).then((r) => r.ok, () => false);
            tried.socket = await new Promise((done) => {
                const one = new WebSocket(base.replace("http", "ws") + "live");
                one.onopen = () => done(true); one.onerror = () => done(false);
            });
            const frame = document.createElement("iframe");
            frame.src = base; document.body.append(frame);
            await new Promise((done) => { frame.onload = done; setTimeout(done, 2000); });
            try { tried.frame = frame.contentDocument !== null && frame.contentDocument.body.innerText !== ""; }
            catch { tried.frame = false; }
            return tried;
        }""",
        anna.url,
    )
    assert not any(result.values()), result
    here.requests.clear()


def test_a_removed_browser_is_out_at_once(visit: Visits, anna: Computer) -> None:
    here = visit(anna, expected=("401", "WebSocket"))
    mine = anna.json("browsers")[-1]
    anna.run("browsers", "remove", mine["id"])
    answer = here.page.goto(anna.url)
    assert answer is not None
    assert answer.status == 401
    expect(here.page.locator("main")).to_contain_text("coterie open")


def test_the_page_cannot_be_framed_and_loads_nothing_of_others(visit: Visits, anna: Computer) -> None:
    here = visit(anna)
    answer = here.page.goto(anna.url)
    assert answer is not None
    policy = answer.header_value("content-security-policy") or ""
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    foreign = [one for one in re.findall(r"https?:[^ ;]+", policy) if "//files.localhost:" not in one]
    assert not foreign, "the page loads from itself, and shows files of others from an origin of this node"


def test_text_of_others_is_text(visit: Visits, anna: Computer, berta: Computer, tmp_path: Path) -> None:
    """Names of files, words on an offer and names of contacts that would be HTML are shown as they are."""
    file = tmp_path / "<img src=x onerror=alert(1)>.txt"
    file.write_text("x")
    anna.run("contacts", "rename", "berta", "<b onclick=alert(3)>berta")
    try:
        berta.run("send", str(file), "anna", "--note", HOSTILE)
        here = visit(anna)
        expect(here.page.locator("[data-live='send.inbox'] .row").first).to_contain_text("<img src=x onerror")
        expect(here.page.locator("[data-live='node.people'] .row").first).to_contain_text(
            "<b onclick=alert(3)>berta"
        )
        assert here.page.locator("main img, main b, main script").count() == 0
        page = here.goto("/do/send/inbox")
        page.get_by_role("button", name="Go").click()
        expect(page.locator("#result td").filter(has_text="<img src=x").first).to_be_visible()
        page = here.goto("/search?q=%3Cscript%3Ealert(1)%3C/script%3E")
        assert page.locator("script").count() == 0
    finally:
        anna.run("contacts", "rename", anna.json("contacts")[0]["name"], "berta")


@pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="needs Linux, and root to be another user"
)
def test_another_user_of_the_computer_is_not_even_heard(tmp_path: Path, anna: Computer, cookie: str) -> None:
    """Cookies go to every port of a computer: another user's server may have got this one."""
    curl = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        f"Cookie: {cookie}",
        "--max-time",
        "5",
    ]
    other = ["setpriv", "--reuid", "65534", *curl, anna.url]
    tried = subprocess.run(other, capture_output=True, text=True, check=False)
    assert tried.stdout == "000", tried
