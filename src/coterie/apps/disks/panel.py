"""What the page shows of disks: those of this computer and who uses them, those of others and whether they are used."""

from collections.abc import Sequence

from coterie.apps.panel import LOOK, Answer, Card, Live, Panel, Reader, Row


async def disks(reader: Reader) -> list[Row]:
    """Every disk: own ones, attached ones, offered ones."""
    may_change = reader.browser.may("")
    keys = ("place", "form", "size", "write", "use", "users", "state", "where")
    return [
        Row(
            f"{line['use']} {line['place']}",
            {key: line.get(key) for key in keys} | {"may_change": may_change},
        )
        for line in await reader.call("disks") or ()
    ]


async def answers(reader: Reader, key: str) -> Sequence[Answer]:
    """A disk that is new can be attached."""
    for line in await reader.call("disks") or ():
        name = line["place"].partition("/")[2]
        if line["use"] == "offered" and name and key.endswith(f"/{name}"):
            return [
                Answer("Attach", "disk attach", {"place": line["place"]}, icon="hard-drive", is_main=True)
            ]
    return []


PANEL = Panel(
    lives=(Live(name="disks", template="disks/row.html", rows=disks, every_s=10.0),),
    cards=(
        Card(
            title="Disks",
            icon="hard-drive",
            live="disks.disks",
            place=60,
            action=("Let others use a disk", "/do/disks/disk-share", "plus"),
        ),
    ),
    rights={LOOK: ("disks",)},
    words=("image", "disk", "disc", "shared", "attached", "offered", "ready"),
    answers=answers,
)
