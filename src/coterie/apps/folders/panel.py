"""What the page shows of live folders: each with its state, versions side by side, and what can be undone."""

from typing import Any

from coterie.apps.panel import LOOK, Card, Live, Panel, Reader, Row, View

SHOWN_MAX = 200  # conflicts, versions and changes of one folder on its page


async def folders(reader: Reader) -> list[Row]:
    """The live folders of this computer, and what could be joined."""
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
    rows = []
    for line in await reader.call("folders") or ():
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
    may_change = reader.browser.may("")
    lines = await reader.call("folder undo", folder=reader.args.get("folder", ""))
    keys = ("id", "folder", "path", "what", "by", "changed")
    return [
        Row(line["id"], {key: line.get(key) for key in keys} | {"may_change": may_change})
        for line in (lines or ())[:SHOWN_MAX]
    ]


async def fill(reader: Reader) -> dict[str, object]:
    """The folder that the address names."""
    wanted = reader.path.strip("/")
    lines = await reader.call("folders") or ()
    return {"one": next((line for line in lines if line["name"] == wanted), None), "wanted": wanted}


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
)
