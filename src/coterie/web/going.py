"""What goes on: commands that were begun on the page, and transfers of whichever app has them."""

from collections.abc import Sequence
from typing import Any

from coterie.apps.panel import Live, Row
from coterie.errors import CoterieError
from coterie.quantity import duration
from coterie.texts import translated
from coterie.web.calls import Call, Seen
from coterie.web.wording import title_of

TRANSFERS = "transfers"  # the command that lists them, where an app has it
SHOWN_MAX = 8  # on the first page
MOVING = ("running", "waiting")


def call_rows(asked: Any) -> list[Row]:
    """The one call that is asked for, while it is kept."""
    try:
        call = asked.calls.find(asked.args.get("id", ""), asked.browser)
    except CoterieError:
        return []
    return [Row(call.id, Seen(call.id, call.changed, call))]


async def going_rows(asked: Any) -> list[Row]:
    """What runs now, the newest first; what waits comes after it."""
    running = [_call(call) for call in asked.calls.all(asked.browser) if call.state == "running"]
    return (running + [_transfer(asked, line) for line in await _transfers(asked)])[:SHOWN_MAX]


def _call(call: Call) -> Row:
    progress = call.progress or {}
    row = {
        "title": title_of(call.command),
        "note": progress.get("note") or translated(progress.get("phase", "")),
        "left": "",
        "rate": None,
        "link": f"/calls/{call.id}",
        "done": progress.get("done"),
        "size": progress.get("total"),
        "icon": "terminal",
    }
    return Row(f"call {call.id}", row)


async def _transfers(asked: Any) -> Sequence[dict[str, Any]]:
    try:
        lines = await asked.call(TRANSFERS) or ()
    except CoterieError:  # no app has transfers, or this browser may not see them
        return ()
    moving = [line for line in reversed(lines) if line["state"] in MOVING]
    return sorted(moving, key=lambda line: MOVING.index(line["state"]))


def _transfer(asked: Any, line: dict[str, Any]) -> Row:
    left = line.get("eta_s")
    return Row(
        f"transfer {line['id']}",
        {
            "title": line["path"].rstrip("/").rpartition("/")[2] or line["path"],
            "note": (line["state"] == "waiting" and line.get("note")) or line.get("peer", ""),
            "left": "" if left is None else duration(left),
            "rate": line.get("rate"),
            "link": f"/transfers/{line['id']}" if asked.panels.view(TRANSFERS) else "",
            "done": line["done"],
            "size": line["size"],
            "icon": "download",
        },
    )


LIVES = (
    Live(name="call", template="call_row.html", rows=call_rows, every_s=0.25, tag="div", css="doing-row"),
    Live(name="going", template="home/going.html", rows=going_rows, every_s=1.0, css="row going-on"),
)
