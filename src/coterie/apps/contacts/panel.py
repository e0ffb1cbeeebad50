"""What the page shows of people: who is known, and all about one."""

from collections.abc import Mapping
from typing import Any

from coterie.apps.panel import Live, Panel, Reader, Row, View
from coterie.errors import NotFound
from coterie.texts import tr


def contacts(reader: Reader) -> list[Row]:
    """Every contact: who is here first."""
    may_change = reader.browser.may("")
    rows = [
        Row(
            line.peer,
            {
                "name": line.name,
                "here": bool(line.here),
                "added": line.added,
                "may_change": may_change,
            },
        )
        for line in reader.service.lines()
    ]
    return sorted(rows, key=lambda row: (not row.value["here"], row.value["name"].casefold()))


async def fill(reader: Reader) -> Mapping[str, Any]:
    """One contact where the address names one; else nothing."""
    name = reader.path.strip("/")
    if not name:
        return {"one": None}
    return {"one": await reader.call("contact show", contact=name), "kinds": await reader.call("resources")}


async def why(reader: Reader) -> Mapping[str, Any]:
    """Whether a computer may do something here, and why."""
    args = {name: reader.args.get(name, "") for name in ("peer", "verb", "resource")}
    if not all(args.values()):
        raise NotFound(tr("choose what it is about, and what is done with it"))
    return {"answer": await reader.call("may", **args)}


PANEL = Panel(
    views=(
        View(
            name="people",
            title="People",
            icon="users",
            template="contacts/people.html",
            fill=fill,
            place=40,
            scripts=("drop.js",),
            parts={"why": ("contacts/why.html", why)},
        ),
    ),
    lives=(
        Live(name="contacts", template="contacts/row.html", rows=contacts, every_s=1.0, css="row person"),
    ),
    results={"Invited": "invited.html"},
)
