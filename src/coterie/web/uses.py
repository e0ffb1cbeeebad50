"""What other computers used here and what they were refused, in words."""

from typing import Any

from coterie.apps.panel import Card, Live, Row

ALLOWED = "allowed"
_PROTOCOL = "protocol/"  # that somebody spoke with us at all says little: only refusals of it are shown
SHOWN_MAX = 30  # lines of the audit on the page; the form of `audit` shows more


async def uses(asked: Any) -> list[Row]:
    """The newest first."""
    lines = await asked.call("audit", limit=SHOWN_MAX) or ()
    keys = ("peer", "verb", "resource", "reason", "answer", "count", "last")
    return [
        Row(
            f"{line['peer']} {line['verb']} {line['resource']} {line['answer']}",
            {key: line[key] for key in keys},
        )
        for line in reversed(lines)
        if line["answer"] != ALLOWED or not line["resource"].startswith(_PROTOCOL)
    ]


LIVE = Live(name="uses", template="people/use.html", rows=uses, every_s=2.0, right="")
CARD = Card(
    title="What others did here",
    icon="list",
    live="node.uses",
    place=40,
    on="people",
    empty="people/unused.html",
    action=("All of it", "/do/node/audit", "list"),
)
