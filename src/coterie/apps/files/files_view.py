"""The page of files: what I share, what others share, what is in it, and one file as it looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from coterie.apps.panel import Found, Live, Reader, Row, View
from coterie.errors import CoterieError, NotFound
from coterie.moments import iso
from coterie.texts import tr
from coterie.transfer.open_file import Seen

FOUND_MAX = 6  # shares that a search shows
ENTRIES_MAX = 5_000  # of one folder of somebody else that a page lists
GET = "get"  # the right to see what is in files
SHARES_EVERY_S = 3.0  # looking for changes on the disk costs something for each share
KINDS: Mapping[str, frozenset[str]] = {  # symbols by the end of a name
    "image": frozenset(["jpg", "jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "tif", "tiff"]),
    "film": frozenset(["mp4", "mkv", "webm", "mov", "avi", "m4v"]),
    "music": frozenset(["mp3", "ogg", "oga", "opus", "flac", "wav", "m4a", "aac"]),
    "file-text": frozenset(["txt", "md", "pdf", "doc", "docx", "odt", "rtf", "csv", "log", "html"]),
    "archive": frozenset(["zip", "gz", "xz", "zst", "bz2", "7z", "tar", "rar", "iso"]),
}


def shares(reader: Reader) -> list[Row]:
    """What this computer shares, by name."""
    records = sorted(reader.service.shared(), key=lambda record: (record.name.casefold(), record.id))
    return [Row(record.id, record.name) for record in records]


async def shares_seen(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    """All about those on the screen: looking for changes on the disk costs something for each."""
    may_change = reader.browser.may("")
    lines = {line.id: line for line in await reader.service.shares(only={row.key for row in rows})}
    reading = reader.service.reading
    labels = {share.id: label for label, share in reading.own.labelled().items()} if reading.own_name else {}
    return [
        Row(
            line.id,
            {
                "id": line.id,
                "name": line.name,
                "path": line.path if may_change else "",
                "folder": _near_home(line.path) if may_change else "",
                "link": f"{reading.own_name}/{labels[line.id]}" if line.id in labels else "",
                "symbol": symbol_of(line.name, is_folder=not PurePath(line.path).suffix),
                "files": line.files,
                "size": line.size,
                "state": line.state,
                "to": line.to,
                "may_change": may_change,
            },
        )
        for line in (lines[row.key] for row in rows if row.key in lines)
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
    """What the page needs: of the place that the address names, a folder or a file; else nothing."""
    place = reader.path.strip("/")
    if not place:
        return {"place": "", "file": None}
    is_own = place.partition("/")[0] == reader.service.reading.own_name
    shown = {
        "place": place,
        "crumbs": _crumbs(place),
        "entries_max": ENTRIES_MAX,
        "may_get": reader.browser.may("") and not is_own,
        "may_see": reader.browser.may(GET),
        "file": None,
    }
    entries: list[dict[str, Any]] | None
    try:
        entries = await _entries(reader, place)
    except NotFound:
        if not is_own:
            raise
        entries = None
    name = place.rpartition("/")[2]
    if not entries or [(one["name"], one["is_folder"]) for one in entries] == [
        (name, False)
    ]:  # a file lists itself
        seen = await _file_at(reader, place)
        if seen is not None:
            return {**shown, **await _viewed(reader, place, seen)}
    if entries is None:
        raise NotFound(tr("there is no '{path}' there, or it is not for this computer", path=place))
    return {**shown, "entries": entries}


async def _file_at(reader: Reader, place: str) -> Seen | None:
    try:
        seen: Seen = await reader.service.reading.look(place)
    except NotFound:
        return None
    return seen if seen.kind == "file" else None


async def _viewed(reader: Reader, place: str, seen: Seen) -> Mapping[str, Any]:
    """One file, and which files stand before and behind it in its folder."""
    above = place.rpartition("/")[0]
    try:
        listed = await reader.service.reading.listing(above)
    except CoterieError:  # we may see the file and not the folder
        listed = ()
    names = sorted((one.name for one in listed if one.kind == "file"), key=str.casefold)
    at = names.index(seen.name) if seen.name in names else -1
    near = {"before": at - 1, "behind": at + 1} if at >= 0 else {}
    return {
        "file": {
            "name": seen.name,
            "size": seen.size,
            "changed": iso(seen.mtime_ns / 1e9) if seen.mtime_ns else "",
            "symbol": symbol_of(seen.name),
            "above": above,
            "number": at + 1,
            "of": len(names),
            "is_played": symbol_of(seen.name) in ("film", "music"),
        }
        | {
            key: f"{above}/{names[number]}" if 0 <= number < len(names) else ""
            for key, number in {"before": -1, "behind": -1, **near}.items()
        }
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
    reading = reader.service.reading
    lines: Any
    if place.partition("/")[0] == reading.own_name:
        lines = [_as_line(seen) for seen in await reading.listing(place)]
    else:
        lines = await reader.call("ls", place=place)
    entries = [
        {
            "name": line["name"],
            "link": f"{place}/{line['name']}",
            "is_folder": line["kind"] in ("folder", "share"),
            "is_file": line["kind"] in ("folder", "share", "file"),
            "is_drawn": line["kind"] == "file" and _is_drawn(line["name"]),
            "kind": line["kind"],
            "symbol": symbol_of(line["name"], is_folder=line["kind"] in ("folder", "share", "live folder")),
            "files": line.get("files"),
            "size": line.get("size"),
            "changed": line.get("changed") or "",
            "note": line.get("note") or "",
        }
        for line in lines or ()
    ]
    return sorted(entries, key=lambda entry: (not entry["is_folder"], entry["name"].casefold()))


def _as_line(seen: Seen) -> dict[str, Any]:
    """As `coterie ls` says it."""
    changed = iso(seen.mtime_ns / 1e9) if seen.mtime_ns else ""
    size = seen.size if seen.kind == "file" else None
    return {"name": seen.name, "kind": seen.kind, "size": size, "changed": changed}


def _is_drawn(name: str) -> bool:
    """Whether a small picture of a file called so is worth asking for."""
    return symbol_of(name) in ("image", "film") or name.casefold().endswith(".pdf")


def _crumbs(place: str) -> list[tuple[str, str]]:
    """Each folder above, and the place itself: what it is called, and its place."""
    parts = place.split("/")
    return [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


async def search(reader: Reader, text: str) -> list[Found]:
    """Shares of this computer whose names have the words in them."""
    words = text.casefold().split()
    return [
        Found(line.name, f"/files#share-{line.id}", "folder", tr("shared by this computer"))
        for line in reader.service.shared()
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
    scripts=("files.js", "previews.js", "drop.js"),
)
LIVES = (
    Live(
        name="shares",
        template="files/share_row.html",
        rows=shares,
        seen=shares_seen,
        every_s=SHARES_EVERY_S,
        css="row share",
    ),
    Live(name="computers", template="files/computer_row.html", rows=computers, every_s=2.0, css="computer"),
)
