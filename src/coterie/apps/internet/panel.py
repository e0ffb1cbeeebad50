"""What the page shows of internet access: the exits in use, who uses that of this computer, and how fast."""

from typing import Any

from coterie.apps.panel import Live, Panel, Reader, Row, View

DAYS_SHOWN = 7


async def exits(reader: Reader) -> list[Row]:
    """The exits that this computer uses, in their order."""
    return [
        Row(line.peer, {"name": line.name, "state": line.state, "is_used": line.state == "in use"})
        for line in reader.service.line().exits
    ]


async def users(reader: Reader) -> list[Row]:
    """Who uses the access of this computer: today, and in the last days."""
    rows = []
    for line in reader.service.line().users:
        days = [
            {"day": day.day, "down": day.down_bytes, "up": day.up_bytes} for day in line.days[:DAYS_SHOWN]
        ]
        rows.append(Row(line.peer, {"name": line.name, "open": line.open, "days": days}))
    return rows


async def use(reader: Reader) -> list[Row]:
    """Bytes of all users, a second, of the last minutes: looked at while somebody sees the page."""
    rates = reader.service.look_at_use()
    return [Row("use", {"rates": ",".join(map(str, rates)), "now": rates[-1] if rates else 0})]


async def fill(reader: Reader) -> dict[str, Any]:
    """What is shared, and where the proxy is."""
    line = reader.service.line()
    return {"shares": line.shares, "proxy": line.proxy, "pac": line.pac}


PANEL = Panel(
    views=(
        View(
            name="internet",
            title="Internet access",
            icon="globe",
            template="internet/internet.html",
            fill=fill,
            place=45,
            is_wide=True,
            scripts=("vendor/uplot.min.js", "chart.js"),
        ),
    ),
    lives=(
        Live(name="exits", template="internet/exit.html", rows=exits, every_s=1.0),
        Live(name="users", template="internet/user.html", rows=users, every_s=1.0),
        Live(name="use", template="internet/use.html", rows=use, every_s=1.0, tag="div", css="detail"),
    ),
    words=("in use", "ready", "it does not answer"),
)
