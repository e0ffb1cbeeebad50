"""The view for phones: send pictures and files from here, scan a code; and for the owner, which phones there are."""

from pathlib import Path
from typing import Any

from coterie.apps.panel import LOOK, View
from coterie.errors import CoterieError
from coterie.web.phones import PREFIX, camera_folder, service_in

PEOPLE_WORDS = ("contacts", "anyone")  # of `coterie people`: nobody that something is sent to


def view() -> View:
    """What stands in the navigation."""
    return View(
        name="phone",
        title="Phone",
        icon="smartphone",
        template="phone.html",
        fill=_fill,
        place=60,
        right=LOOK,
        scripts=("vendor/tus.min.js", "phone/kept-files.js", "phone/upload.js", "phone/scan.js"),
    )


def _fill(asked: Any) -> dict[str, Any]:
    browser = asked.browser
    is_phone = browser.id.startswith(PREFIX)
    phones = service_in(asked.node)
    return {
        "is_phone": is_phone,
        "phones": phones.lines() if phones is not None and browser.may("") else [],
        "has_phones": phones is not None,
        "people": _people(asked) if browser.may("send") else [],
        "folders": _folders(asked) if browser.may("upload") else [],
        "folder": str(asked.panels.kept_folder(browser)) if browser.may("upload") else "",
        "camera": _camera(asked) if browser.may("upload") else "",
        "may_join": browser.may("people"),
    }


def _camera(asked: Any) -> str:
    """The live folder that pictures of this phone may go to; "": none."""
    try:
        return camera_folder(asked.node, asked.browser).name
    except CoterieError:
        return ""


def _people(asked: Any) -> list[str]:
    """The names of those to whom files can be sent."""
    return sorted(asked.node.people.names(), key=str.casefold)


def _folders(asked: Any) -> list[dict[str, str]]:
    """Folders that are shared here."""
    try:
        shared = asked.node.service("files").shared()
    except CoterieError:  # the app does not run
        return []
    return [{"id": share.id, "name": share.name} for share in shared if Path(share.path).is_dir()]
