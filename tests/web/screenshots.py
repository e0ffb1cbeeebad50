"""Pictures of every view at three widths and in both themes, and on a phone in German, of two furnished nodes.

`make screenshots` (ONLY=part of a view's name) writes them to build/screenshots,
and those of the README to docs/pictures.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from coterie.apps.folders.brake import FILES_MIN
from tests.apps.printers.fake_printer import a_pdf
from tests.web.conftest import CHROMIUM, Computer, meet, started
from tests.web.previews.films import film

WIDTHS = {"phone": 360, "desk": 1280, "wide": 2560}
GERMAN = "phone"  # the width at which every view is drawn in German, too: its words are the longest
THEMES = ("light", "dark")
FOLDER = Path("build/screenshots")
README = ("home", "transfer")  # shown there, as the desk sees them in the light theme
PICTURES = Path("docs/pictures")
PRINTER_PORT = 8631
COMING_BYTES = 60_000_000  # at 150 kB/s longer under way than all pictures take
FILES = (
    "disc 1/01 Spring.ogg",
    "disc 1/02 Rain.ogg",
    "cover.jpg",
    "notes.txt",
    "a film of the garden in May.mp4",
)


def furnish(folder: Path, anna: Computer, berta: Computer) -> None:
    """Something to look at: shares, a circle, a transfer under way, one that ended."""
    for computer, names in ((anna, ("photos", "music")), (berta, ("films", "papers"))):
        for name in names:
            for file in FILES:
                path = folder / computer.name / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                size = COMING_BYTES if name == "films" else 6_000_000
                path.write_bytes(os.urandom(300_000 if "film" not in file else size))
            computer.run("share", str(folder / computer.name / name), "--to", "contacts")
    album = folder / berta.name / "album"
    album.mkdir()
    for number, size in enumerate(((1600, 1000), (900, 1400), (3000, 800))):
        shades = Image.radial_gradient("L").resize(size)
        colours = Image.merge("RGB", (shades, shades.rotate(60 * number), Image.new("L", size, 70 * number)))
        colours.save(album / f"garden {number + 1}.jpg")
    colours.save(album / "letter.pdf")
    (album / "notes.txt").write_text("The garden is open from May on.\n" * 20)
    (album / "walk.webm").write_bytes(film(folder, "webm"))
    berta.run("share", str(album), "--to", "contacts")
    anna.run("circle", "new", "family")
    anna.run("get", "berta/papers", str(folder / "papers"))
    anna.run("limits", "--down", "150kB/s")
    anna.run("get", "berta/films", str(folder / "films"), "--detach")
    anna.run("grant", "berta", "read", "files/photos")
    berta.run("get", "anna/photos", str(folder / "photos"))
    devices(folder, anna, berta)
    live(folder, anna, berta)


def devices(folder: Path, anna: Computer, berta: Computer) -> None:
    """A printer with jobs, disks, and internet access of both."""
    words = [sys.executable, "-m", "tests.lab.office_printer", str(PRINTER_PORT), str(folder / "paper")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as printer:
        assert printer.stdout is not None
        printer.stdout.readline()
        address = f"ipp://127.0.0.1:{PRINTER_PORT}/ipp/print"
        anna.run(
            "printer", "share", address, "--as", "laser", "--to", "contacts", "--pages", "50/month", "--ask"
        )
        (folder / "invitation.pdf").write_bytes(a_pdf(2))
        berta.run("print", str(folder / "invitation.pdf"), "anna/laser", "--no-wait")
        wait(lambda: any(line["is_asking"] for line in anna.json("printer", "jobs")))
        printer.kill()
    (folder / "tools.img").write_bytes(os.urandom(2_000_000))
    for computer in (anna, berta):
        computer.run("disk", "share", str(folder / "tools.img"), "--as", "tools", "--to", "contacts")
        computer.run("internet", "share", "--to", "contacts", "--limit", "20GB/month")
    anna.run("disk", "attach", "berta/tools")
    anna.run("internet", "use", "berta")


def live(folder: Path, anna: Computer, berta: Computer) -> None:
    """Live folders: one with a conflict and something to undo, one that asks, one that is offered."""
    for name in ("Plans", "Recipes", "Letters"):
        (folder / f"berta {name}").mkdir()
        for number in range(FILES_MIN):
            (folder / f"berta {name}" / f"{number:02} {name.lower()}.txt").write_text(f"{name} {number}")
        berta.run("folder", "new", str(folder / f"berta {name}"), "--with", "anna", "--name", name)
    for name in ("Plans", "Recipes"):
        wait(lambda name=name: any(line["name"] == f"berta/{name}" for line in anna.json("folders")))
        anna.run("folder", "join", f"berta/{name}", str(folder / f"anna {name}"))
        wait(lambda name=name: state(anna, name) == "in sync" == state(berta, name))
    anna.run("folder", "pause", "Plans")
    for who in ("anna", "berta"):
        (folder / f"{who} Plans" / "01 plans.txt").write_text(f"as {who} thinks")
    (folder / "berta Plans" / "02 plans.txt").unlink()
    anna.run("folder", "resume", "Plans")
    anna.run("folder", "pause", "Recipes")
    for number in range(FILES_MIN):
        (folder / "anna Recipes" / f"{number:02} recipes.txt").unlink()
    anna.run("folder", "resume", "Recipes")
    wait(lambda: state(anna, "Recipes") == "asks")
    wait(lambda: bool(anna.json("folder", "conflicts", "Plans")))


def state(computer: Computer, name: str) -> str:
    """How a live folder stands."""
    return next((str(line["state"]) for line in computer.json("folders") if line["name"] == name), "")


def wait(true: Callable[[], bool]) -> None:
    """Ask until it is so."""
    for _ in range(60):
        if true():
            return
        time.sleep(0.5)
    raise SystemExit("the live folders do not get on")


def views(anna: Computer) -> dict[str, str]:
    """Name and address of each view."""
    moving = next(line["id"] for line in anna.json("transfers") if line["state"] == "running")
    return {
        "home": "/",
        "files": "/files",
        "folder": "/files/berta/films",
        "album": "/files/berta/album",
        "viewer": "/files/berta/album/garden 1.jpg",
        "film": "/files/berta/album/walk.webm",
        "text": "/files/berta/album/notes.txt",
        "transfers": "/transfers",
        "transfer": f"/transfers/{moving}",
        "people": "/people",
        "person": "/people/berta",
        "circle": "/circles/family",
        "live": "/live",
        "live folder": "/live/Plans",
        "internet": "/internet",
        "health": "/health",
        "everything": "/do",
        "form": "/do/files/share",
        "send": "/do/send/send",
        "invite": "/do/contacts/invite",
    }


def picture(page: Page, computer: Computer, name: str, path: str, stem: str) -> None:
    """One picture; the invitation is asked for first."""
    page.goto(computer.url.rstrip("/") + path)
    if name == "invite":
        page.locator("form button.main").click()
        page.locator(".code").wait_for()
    page.wait_for_timeout(9_500 if name == "health" and stem == "desk-light" else 700)
    page.screenshot(path=FOLDER / f"{name}-{stem}.png", full_page=True)
    if name == "invite":
        page.locator("#result").get_by_role(
            "button"
        ).last.click()  # it would go on, and be on every later picture


def main(only: str = "") -> None:
    """Write all pictures."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        homes = Path(made) / "homes"
        homes.mkdir()
        anna, berta = started(homes, "anna"), started(homes, "berta")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            meet(anna, berta)
            furnish(Path(made), anna, berta)
            shown = {name: path for name, path in views(anna).items() if only in name}
            kinds = [(width, theme, "en-GB") for theme in THEMES for width in WIDTHS]
            for width, theme, locale in [*kinds, (GERMAN, "light", "de-DE")]:
                context = browser.new_context(
                    color_scheme=theme, viewport={"width": WIDTHS[width], "height": 900}, locale=locale
                )
                page = context.new_page()
                page.goto(anna.address())
                page.wait_for_url(anna.url)
                stem = f"{width}-{theme}" if locale == "en-GB" else f"{width}-german"
                for name, path in shown.items():
                    picture(page, anna, name, path, stem)
                context.close()
        finally:
            browser.close()
            for computer in (anna, berta):
                computer.down()
    for name in shown.keys() & {*README}:
        shutil.copy(FOLDER / f"{name}-desk-light.png", PICTURES / f"{name}.png")
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}")


if __name__ == "__main__":
    main(*sys.argv[1:])
