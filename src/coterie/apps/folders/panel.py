"""What the page shows of live folders: each with its state, versions side by side, and what can be undone."""

from collections.abc import Sequence
from typing import Any

from coterie.apps.panel import LOOK, Answer, Card, Live, Panel, Reader, Row, View

ENTRIES_SHOWN_MAX = 1_000  # of one place in a folder; `coterie folder ls` lists all
SHOWN_MAX = 200  # conflicts, versions and changes of one folder on its page
ASKS, OFFER = "asks ", "offer "  # how the keys of our notices begin; the id of the folder is behind them


async def folders(reader: Reader) -> list[Row]:
    """The live folders of this computer, and what could be joined; of them the one that is named."""
    may_change = reader.browser.may("")
    keys = (
        "name",
        "state",
        "path",
        "role",
        "files",
        "size",
        "missing",
        "unsent",
        "conflicts",
        "members",
        "note",
    )
    wanted, rows = reader.args.get("folder", ""), []
    for line in await reader.call("folders") or ():
        if wanted not in ("", line["name"]):
            continue
        value = {key: line.get(key) for key in keys} | {"may_change": may_change}
        rows.append(Row(line["id"], value))
    return rows


async def conflicts(reader: Reader) -> list[Row]:
    """Versions side by side in the folder `reader.args["folder"]`: a row for each file."""
    may_change = reader.browser.may("")
    by_path: dict[str, list[dict[str, Any]]] = {}
    lines = await reader.call("folder conflicts", folder=reader.args.get("folder", ""))
    for line in (lines or ())[:SHOWN_MAX]:
        by_path.setdefault(line["path"], []).append(line)
    return [
        Row(
            path,
            {
                "path": path,
                "folder": versions[0]["folder"],
                "versions": [
                    {key: one.get(key) for key in ("version", "shown", "by", "size", "changed")}
                    for one in versions
                ],
                "may_change": may_change,
            },
        )
        for path, versions in by_path.items()
    ]


async def changes(reader: Reader) -> list[Row]:
    """What came from others, newest first."""
    return await _listed(reader, "folder undo", ("id", "folder", "path", "what", "to", "by", "changed"))


async def versions(reader: Reader) -> list[Row]:
    """What changes of others replaced or removed here, as the command lists it."""
    return await _listed(reader, "folder versions", ("id", "folder", "path", "size", "kept", "why"))


async def _listed(reader: Reader, command: str, keys: tuple[str, ...]) -> list[Row]:
    """Lines of a command of the folder that is named, or of all."""
    may_change = reader.browser.may("")
    lines = await reader.call(command, folder=reader.args.get("folder", ""))
    return [
        Row(line["id"], {key: line.get(key) for key in keys} | {"may_change": may_change})
        for line in (lines or ())[:SHOWN_MAX]
    ]


async def safe(reader: Reader) -> list[Row]:
    """One row: whether what changed here is somewhere else too, in all live folders or the one that is named."""
    wanted = reader.args.get("folder", "")
    lines = [line for line in await reader.call("folders") or () if line["path"]]
    shown = [line for line in lines if wanted in ("", line["name"])]
    return [Row("safe", sum(line["unsent"] for line in shown))] if shown else []


async def answers(reader: Reader, key: str) -> Sequence[Answer] | None:
    """A folder that asks is answered; one that is offered stands among the folders, with its button."""
    lines = await reader.call("folders") or ()
    if key.startswith(OFFER):
        return None if any(f"{OFFER}{line['id']}" == key for line in lines) else ()
    asking = next((line for line in lines if f"{ASKS}{line['id']}" == key and line["state"] == "asks"), None)
    if asking is None:
        return ()
    folder = {"folder": asking["name"]}
    return (
        Answer("Keep the files", "folder keep", folder, icon="undo-2", is_main=True),
        Answer(
            "Let it happen", "folder go-on", folder, icon="check", undo="What was removed goes everywhere"
        ),
    )


async def contents(reader: Reader) -> list[Row]:
    """What is in the folder `reader.args["folder"]` at `place`, here or not: folders first."""
    may_change = reader.browser.may("")
    folder, place = reader.args.get("folder", ""), reader.args.get("place", "")
    lines = await reader.call("folder ls", folder=folder, path=place) or ()
    keys = ("path", "kind", "size", "state", "by")
    return [
        Row(
            line["path"],
            {key: line.get(key) for key in keys}
            | {"folder": folder, "name": line["path"].rpartition("/")[2], "may_change": may_change},
        )
        for line in sorted(lines, key=lambda line: line["kind"] != "folder")[:ENTRIES_SHOWN_MAX]
    ]


async def fill(reader: Reader) -> dict[str, object]:
    """The folder that the address names, and the place in it that stands behind the name."""
    wanted = reader.path.strip("/")
    lines = await reader.call("folders") or ()
    named = [line for line in lines if f"{wanted}/".startswith(f"{line['name']}/")]
    one = max(named, key=lambda line: len(line["name"]), default=None)
    place = wanted[len(one["name"]) + 1 :] if one is not None else ""
    return {"one": one, "wanted": wanted, "place": place}


PANEL = Panel(
    views=(
        View(
            name="live",
            title="Live folders",
            icon="refresh-cw",
            template="folders/folder.html",
            fill=fill,
            place=25,
        ),
    ),
    lives=(
        Live(name="folders", template="folders/row.html", rows=folders, every_s=1.0),
        Live(name="conflicts", template="folders/conflict.html", rows=conflicts, every_s=2.0),
        Live(name="versions", template="folders/version.html", rows=versions, every_s=5.0),
        Live(name="safe", template="folders/safe.html", rows=safe, every_s=1.0, css="row safe"),
        Live(name="contents", template="folders/content.html", rows=contents, every_s=2.0),
        Live(name="changes", template="folders/change.html", rows=changes, every_s=2.0),
    ),
    cards=(
        Card(
            title="Live folders",
            icon="refresh-cw",
            live="folders.folders",
            place=12,
            empty="folders/none.html",
            action=("New live folder", "/do/folders/folder-new", "plus"),
        ),
    ),
    rights={LOOK: ("folders",)},
    answers=answers,
    words=(
        "in sync",
        "alone",
        "receiving",
        "working",
        "looking",
        "waits",
        "asks",
        "gone",
        "paused",
        "ended",
        "offered",
        "changed",
        "removed",
        "added",
        "moved",
        "here",
        "pinned",
        "coming",
        "on demand",
    ),
)
