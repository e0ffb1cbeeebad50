"""What the page shows of circles and of the computers that are one person."""

from coterie.apps.panel import Card, Live, Panel, Reader, Row, View


async def circles(reader: Reader) -> list[Row]:
    """The circles of this computer, by name."""
    lines = await reader.call("circle") or ()
    keys = ("name", "role", "members")
    rows = [Row(line["id"], {key: line[key] for key in keys} | {"id": line["id"]}) for line in lines]
    return sorted(rows, key=lambda row: row.value["name"].casefold())


async def devices(reader: Reader) -> list[Row]:
    """The computers and the phrase that are this person."""
    may_change = reader.browser.may("")
    keys = ("name", "kind", "here", "is_this", "device")
    return [
        Row(line["device"], {key: line.get(key, False) for key in keys} | {"may_change": may_change})
        for line in await reader.call("devices") or ()
    ]


async def members(reader: Reader) -> list[Row]:
    """Who is in the circle `reader.args["circle"]`."""
    circle = reader.args.get("circle", "")
    may_change = reader.browser.may("")
    mine = {line["id"]: line["role"] for line in await reader.call("circle") or ()}
    rows = []
    for line in await reader.call("circle members", circle=circle):
        value = {
            "name": line["name"],
            "role": line["role"],
            "computers": len(line["devices"]),
            "is_you": line.get("is_you", False),
            "circle": circle,
            "may_change": may_change and mine.get(circle) == "owner" and not line.get("is_you", False),
        }
        rows.append(Row(line["person"], value))
    return rows


async def fill(reader: Reader) -> dict[str, object]:
    """The circle that the address names."""
    wanted = reader.path.strip("/")
    lines = await reader.call("circle") or ()
    return {
        "one": next((line for line in lines if wanted in (line["id"], line["name"])), None),
        "wanted": wanted,
    }


PANEL = Panel(
    views=(
        View(
            name="circles", title="Circles", icon="users", template="circles/circle.html", fill=fill, place=0
        ),
    ),
    lives=(
        Live(name="circles", template="circles/row.html", rows=circles, every_s=2.0),
        Live(name="devices", template="circles/device.html", rows=devices, every_s=2.0),
        Live(name="members", template="circles/member.html", rows=members, every_s=2.0),
    ),
    cards=(
        Card(
            title="Circles",
            icon="layers",
            live="circles.circles",
            place=10,
            on="people",
            empty="circles/none.html",
            action=("New circle", "/do/circles/circle-new", "plus"),
        ),
        Card(
            title="My computers",
            icon="monitor-smartphone",
            live="circles.devices",
            place=20,
            on="people",
            empty="circles/alone.html",
            action=("Add a computer", "/do/circles/devices-add", "plus"),
        ),
    ),
    words=("owner", "member", "guest"),
    results={
        "Invited": "invited.html",
        "recovery new": "circles/phrase.html",
        "recovery replace": "circles/phrase.html",
    },
)
