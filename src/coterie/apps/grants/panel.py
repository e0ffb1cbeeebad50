"""What the page shows of grants."""

from coterie.apps.panel import Card, Live, Panel, Reader, Row


async def grants(reader: Reader) -> list[Row]:
    """Grants given and held: those that are valid first."""
    may_change = reader.browser.may("")
    keys = ("role", "peer", "verbs", "resource", "expires", "limits", "state", "used")
    rows = [
        Row(
            line["id"],
            {key: line.get(key, "") for key in keys} | {"id": line["id"], "may_change": may_change},
        )
        for line in await reader.call("grants") or ()
    ]
    return sorted(rows, key=lambda row: row.value["state"] != "valid")


PANEL = Panel(
    lives=(Live(name="grants", template="grants/row.html", rows=grants, every_s=3.0),),
    cards=(
        Card(
            title="Grants",
            icon="key-round",
            live="grants.grants",
            place=30,
            on="people",
            empty="grants/none.html",
            action=("Let somebody do something", "/do/grants/grant", "plus"),
        ),
    ),
    words=(
        "given",
        "given elsewhere",
        "held",
        "valid",
        "revoked",
        "expired",
        "used up",
        "list",
        "read",
        "write",
        "use",
        "administer",
    ),
)
