"""What the page shows of what people send: offers that wait for an answer, and what became of ours."""

from collections.abc import Sequence
from typing import Any

from coterie.apps.panel import ANSWER, LOOK, Answer, Card, Live, Panel, Reader, Row

SHOWN_MAX = 20
OPEN = ("delivered", "accepted", "fetching", "failed")
KEY = "offer "  # how the keys of our notices begin; the id of the offer is behind it


async def _inbox(reader: Reader) -> list[Row]:
    """Offers that are not over, the newest first."""
    lines = await reader.call("inbox") or ()
    is_open = [line for line in reversed(lines) if line["state"] in OPEN or line.get("percent") is not None]
    return [_row(reader, line) for line in is_open[:SHOWN_MAX]]


def _row(reader: Reader, line: dict[str, Any]) -> Row:
    names = line["names"]
    return Row(
        line["id"],
        {
            "id": line["id"],
            "who": line["sender"],
            "name": names[0],
            "more": len(names) - 1,
            "size": line["size"],
            "state": line["state"],
            "percent": line.get("percent"),
            "note": line.get("note", ""),
            "may_answer": reader.browser.may(ANSWER),
        },
    )


async def _sent(reader: Reader) -> list[Row]:
    """What was offered and is not received yet, the newest first."""
    lines = [line for line in await reader.call("sent") or () if line.get("expires")]
    return [
        Row(
            f"{line['id']} {line['to']}",
            {
                "id": line["id"],
                "who": line["to"],
                "name": line["names"][0],
                "more": len(line["names"]) - 1,
                "size": line["size"],
                "state": line["state"],
                "percent": line.get("percent"),
                "note": line.get("note", ""),
            },
        )
        for line in reversed(lines)
    ][:SHOWN_MAX]


async def _answers(reader: Reader, key: str) -> Sequence[Answer] | None:
    """An offer that is not over stands among those of the inbox, with its buttons."""
    offer = key.removeprefix(KEY)
    lines = await reader.call("inbox") or ()
    is_open = any(line["id"] == offer and line["state"] in OPEN for line in lines)
    return None if is_open else ()


PANEL = Panel(
    lives=(
        Live(
            name="inbox",
            template="send/inbox_row.html",
            rows=_inbox,
            every_s=1.0,
            css="row offer",
            is_said=True,
        ),
        Live(name="sent", template="send/sent_row.html", rows=_sent, every_s=1.0, css="row offer"),
    ),
    cards=(
        Card(title="For you", icon="package", live="send.inbox", place=5, empty="send/nothing.html"),
        Card(
            title="On its way to others",
            icon="send",
            live="send.sent",
            place=15,
            empty="send/nothing_sent.html",
        ),
    ),
    rights={LOOK: ("inbox", "sent"), ANSWER: ("inbox accept", "inbox decline")},
    answers=_answers,
)
