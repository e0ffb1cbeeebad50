"""The page of files: what I share, what others share, and what is in it."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from coterie.apps.panel import Found, Live, Reader, Row, View
from coterie.errors import CoterieError
from coterie.texts import tr

FOUND_MAX = 6  # shares that a search shows
ENTRIES_MAX = 5_000  # of one folder of somebody else that a page lists
SHARES_EVERY_S = 3.0  # looking for changes on the disk costs something for each share
KINDS: Mapping[str, frozenset[str]] = {  # symbols by the end of a name
    "image": frozenset(["jpg", "jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "tif", "tiff"]),
    "film": frozenset(["mp4", "mkv", "webm", "mov", "avi", "m4v"]),
    "music": frozenset(["mp3", "ogg", "oga", "opus", "flac", "wav", "m4a", "aac"]),
    "file-text": frozenset(["txt", "md", "pdf", "doc", "docx", "odt", "rtf", "csv", "log", "html"]),
    "archive": frozenset(["zip", "gz", "xz", "zst", "bz2", "7z", "tar", "rar", "iso"]),
}


async def shares(reader: Reader) -> list[Row]:
    """What this computer shares, by name."""
    may_change = reader.browser.may("")
    lines = await reader.service.shares()
    return [
        Row(
            line.id,
            {
                "id": line.id,
                "name": line.name,
                "path": line.path if may_change else "",
                "folder": _near_home(line.path) if may_change else "",
                "symbol": symbol_of(line.name, is_folder=not PurePath(line.path).suffix),
                "files": line.files,
                "size": line.size,
                "state": line.state,
                "to": line.to,
                "may_change": may_change,
            },
        )
        for line in sorted(lines, key=lambda line: line.name.casefold())
    ]


def _near_home(path: str) -> str:
    """The folder that `path` is in, as its owner says it."""
    parent, home = PurePath(path).parent, Path.home()
    return str("~" / parent.relative_to(home)) if parent.is_relative_to(home) else str(parent)


async def computers(reader: Reader) -> list[Row]:
    """Whoever is known: those first who are here."""
    lines = await reader.call("ls")
    rows = [Row(line["name"], {"name": line["name"], "here": bool(line["here"])}) for line in lines or ()]
    return sorted(rows, key=lambda row: (not row.value["here"], row.key.casefold()))


def symbol_of(name: str, *, is_folder: bool = False) -> str:
    """The symbol of a file of this name."""
    if is_folder:
        return "folder"
    ending = PurePath(name).suffix.removeprefix(".").casefold()
    return next((symbol for symbol, endings in KINDS.items() if ending in endings), "file")


async def fill(reader: Reader) -> Mapping[str, Any]:
    """What the page needs: of the place that the address names, else nothing."""
    place = reader.path.strip("/")
    if not place:
        return {"place": ""}
    return {
        "place": place,
        "crumbs": _crumbs(place),
        "entries": await _entries(reader, place),
        "entries_max": ENTRIES_MAX,
        "may_get": reader.browser.may(""),
    }


async def offers(reader: Reader) -> Mapping[str, Any]:
    """What one computer offers, `reader.args["peer"]`; why not, where it does not answer."""
    peer = reader.args.get("peer", "")
    try:
        return {"place": peer, "entries": await _entries(reader, peer), "problem": ""}
    except CoterieError as error:
        return {"place": peer, "entries": [], "problem": str(error)}


async def _entries(reader: Reader, place: str) -> list[dict[str, Any]]:
    """Folders first, then files, by name."""
    lines = await reader.call("ls", place=place)
    entries = [
        {
            "name": line["name"],
            "link": f"{place}/{line['name']}",
            "is_folder": line["kind"] in ("folder", "share"),
            "is_file": line["kind"] in ("folder", "share", "file"),
            "kind": line["kind"],
            "symbol": symbol_of(line["name"], is_folder=line["kind"] in ("folder", "share")),
            "files": line.get("files"),
            "size": line.get("size"),
            "changed": line.get("changed") or "",
            "note": line.get("note") or "",
        }
        for line in lines or ()
    ]
    return sorted(entries, key=lambda entry: (not entry["is_folder"], entry["name"].casefold()))


def _crumbs(place: str) -> list[tuple[str, str]]:
    """Each folder above, and the place itself: what it is called, and its place."""
    parts = place.split("/")
    return [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


async def search(reader: Reader, text: str) -> list[Found]:
    """Shares of this computer whose names have the words in them."""
    words = text.casefold().split()
    return [
        Found(line.name, f"/files#share-{line.id}", "folder", tr("shared by this computer"))
        for line in await reader.service.shares()
        if all(word in line.name.casefold() for word in words)
    ][:FOUND_MAX]


VIEW = View(
    name="files",
    title="Files",
    icon="folder",
    template="files/files.html",
    fill=fill,
    place=20,
    parts={"offers": ("files/offers.html", offers)},
    scripts=("files.js", "vendor/tus.min.js", "drop.js"),
)
LIVES = (
    Live(
        name="shares", template="files/share_row.html", rows=shares, every_s=SHARES_EVERY_S, css="row share"
    ),
    Live(name="computers", template="files/computer_row.html", rows=computers, every_s=2.0, css="computer"),
)
