"""What others share, seen in the page: small pictures in folders, one file as it looks, films while they arrive."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.web.conftest import Computer, Visits, axe
from tests.web.previews.films import film
from tests.web.test_attacks import asked, cookie_of

SCRIPT = "<img src=x onerror=alert(1)>.png"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(2)</script></svg>'
HTML = "<!doctype html><script>alert(3)</script>"
ALBUM = "/files/berta/album"


def picture(name: str = "JPEG", size: tuple[int, int] = (400, 300)) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(out, name)
    return out.getvalue()


@pytest.fixture(scope="module")
def album(computers: tuple[Computer, Computer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that berta shares, and gives slowly."""
    _, berta = computers
    folder = tmp_path_factory.mktemp("shared") / "album"
    folder.mkdir()
    for name, raw in {
        "a.jpg": picture(),
        "b.pdf": picture("PDF"),
        SCRIPT: picture("PNG"),
        "broken.jpg": picture()[:300],
        "d.svg": SVG.encode(),
        "e.txt": b"hello\n",
        "f.html": HTML.encode(),
        "g.bin": b"MZ\x90\0\3",
    }.items():
        (folder / name).write_bytes(raw)
    (folder / "film.webm").write_bytes(film(folder.parent, "webm", 40, "900k"))
    (folder / "film.webm").touch()
    berta.run("share", str(folder), "--to", "contacts")
    yield folder
    berta.run("limits", "--up", "0")


def drawn(page: Page) -> list[str]:
    """The names of the files of which a small picture stands in the folder."""
    names: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".thumb img")].filter((one) => one.naturalWidth > 0)
                 .map((one) => one.closest(".entry").querySelector("a").textContent)"""
    )
    return names


def until(page: Page, expression: str) -> None:
    """The page's policy lets Playwright wait for no expression, but ask again and again."""
    for _ in range(150):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {expression}")


def test_small_pictures_of_what_others_share(visit: Visits, anna: Computer, album: Path) -> None:
    here = visit(anna)
    here.page.on("dialog", lambda dialog: here.complaints.append(f"it ran: {dialog.message}"))
    page = here.goto(ALBUM)
    until(page, "document.querySelectorAll('.thumb img').length === 4")
    assert set(drawn(page)) == {"a.jpg", "b.pdf", SCRIPT, "film.webm"}
    assert page.locator(".thumb img").first.evaluate("(one) => one.naturalWidth") == 256
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert axe(page) == []


def test_a_folder_is_looked_through_with_the_keyboard(visit: Visits, anna: Computer, album: Path) -> None:
    here = visit(anna)
    here.page.on("dialog", lambda dialog: here.complaints.append(f"it ran: {dialog.message}"))
    page = here.goto(ALBUM)
    page.get_by_role("link", name="a.jpg").click()
    until(page, "document.querySelector('#stage > img')?.naturalWidth === 400")
    loaded = page.locator("#stage > img").get_attribute("src") or ""
    assert urlsplit(loaded).hostname == "files.localhost"
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert axe(page) == []
    assert page.locator("#viewer-load").get_attribute("href") == f"{loaded}?download=1"
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/b.pdf")
    expect(page.locator("#stage").locator("iframe, img")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/a.jpg")
    page.get_by_role("link", name="The next file").click()
    page.wait_for_url("**/b.pdf")
    page.keyboard.press("Escape")
    page.wait_for_url(f"**{ALBUM}")
    expect(page.get_by_role("link", name="a.jpg")).to_be_visible()


def test_what_could_run_is_shown_as_text_or_not_at_all(visit: Visits, anna: Computer, album: Path) -> None:
    here = visit(anna)
    here.page.on("dialog", lambda dialog: here.complaints.append(f"it ran: {dialog.message}"))
    page = here.goto(f"{ALBUM}/d.svg")
    for name, text in (("d.svg", SVG), ("f.html", HTML), ("e.txt", "hello")):
        page = here.goto(f"{ALBUM}/{name}")
        inside = page.frame_locator("#stage > iframe")
        expect(inside.locator("pre")).to_have_text(re.compile(re.escape(text)))
        frame = page.frames[-1]
        assert frame.evaluate("document.contentType") == "text/plain"
        assert frame.evaluate("origin") == "null"
        assert axe(page) == []
    page = here.goto(f"{ALBUM}/g.bin")
    expect(page.locator("#stage")).to_have_text("A file of this kind cannot be shown here.")
    page = here.goto(f"{ALBUM}/broken.jpg")
    expect(page.locator("#stage")).to_contain_text("This browser cannot show it")


def test_a_film_plays_while_it_arrives_and_seeks(
    visit: Visits, anna: Computer, berta: Computer, album: Path
) -> None:
    size = (album / "film.webm").stat().st_size
    berta.run("limits", "--up", "400kB/s")
    kept = anna.home / "apps" / "files" / "reading"

    def came() -> int:
        return sum(one.stat().st_size for one in kept.rglob("*") if one.is_file())

    before = came()
    here = visit(anna)
    page = here.goto(f"{ALBUM}/film.webm")
    player = page.locator("#stage > video")
    expect(player).to_have_attribute("aria-label", "film.webm")
    player.evaluate("(one) => { one.muted = true; return one.play(); }")
    until(page, "document.querySelector('video').currentTime > 0.3")
    assert came() - before < size  # and it plays already
    player.evaluate("(one) => { one.pause(); one.currentTime = 35; }")
    until(page, "!document.querySelector('video').seeking && document.querySelector('video').readyState >= 2")
    assert player.evaluate("(one) => one.currentTime") == 35
    assert came() - before < size  # what lies between was left out
    assert axe(page) == []
    berta.run("limits", "--up", "0")


def test_an_address_is_of_no_use_in_another_browser(
    visit: Visits, chromium: Browser, anna: Computer, album: Path
) -> None:
    here = visit(anna)
    page = here.goto(f"{ALBUM}/a.jpg")
    until(page, "document.querySelector('#stage > img')?.naturalWidth === 400")
    address = page.locator("#stage > img").get_attribute("src") or ""
    other = chromium.new_context()
    stolen = other.new_page().goto(address)
    assert stolen is not None
    assert stolen.status == 404
    other.close()


def test_pages_of_other_sites_see_no_files(visit: Visits, anna: Computer, album: Path) -> None:
    cookie = cookie_of(visit(anna))
    for path in ("/shown?what=1&place=berta/album/a.jpg", "/thumbs?place=berta/album/a.jpg"):
        assert asked(anna, "GET", path, {"Cookie": cookie}) == 200
        for other in (
            {"Origin": "http://evil.example"},
            {"Origin": f"http://files.localhost:{urlsplit(anna.url).port}", "Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        ):
            assert asked(anna, "GET", path, {"Cookie": cookie} | other) == 403, other
        assert asked(anna, "GET", path, {}) == 401


def test_my_own_shares_are_looked_through_too(visit: Visits, berta: Computer, album: Path) -> None:
    here = visit(berta)
    page = here.goto("/files")
    page.get_by_role("link", name="album", exact=True).click()
    page.wait_for_url(f"**{ALBUM}")
    until(page, "document.querySelectorAll('.thumb img').length === 4")
    page.get_by_role("link", name="a.jpg").click()
    until(page, "document.querySelector('#stage > img')?.naturalWidth === 400")
