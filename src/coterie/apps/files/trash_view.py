"""The page of the trash: what arrivals replaced or took away, each with a button that puts it back."""

from pathlib import PurePath

from coterie.apps.panel import Live, Reader, Row, View


async def rows(reader: Reader) -> list[Row]:
    """What can be had back, the newest first."""
    lines = await reader.service.trash.lines()
    return [
        Row(
            line.id,
            {
                "id": line.id,
                "name": PurePath(line.path).name,
                "path": line.path,
                "kind": line.kind,
                "size": line.size,
                "since": line.since,
                "until": line.until,
            },
        )
        for line in reversed(lines)
    ]


VIEW = View(name="trash", title="Trash", icon="undo-2", template="files/trash.html", place=0, right="")
LIVES = (Live(name="trash", template="files/trash_row.html", rows=rows, every_s=2.0, right=""),)
