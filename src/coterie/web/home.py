"""The first page: who is here, what goes on, what waits for an answer."""

import contextlib
import inspect
import time
from collections.abc import Sequence
from typing import Any

from coterie.apps.panel import Answer, Found, Live, Panel, Row, View
from coterie.control.server import NODE_APP
from coterie.errors import CoterieError
from coterie.moments import iso
from coterie.settings import platform_name
from coterie.web import going, health, phone_view, uses
from coterie.web.reader import Asked
from coterie.web.wording import without_command

PEOPLE_FOUND_MAX = 6


def panel() -> tuple[str, Panel]:
    """The panel of the node itself."""
    return NODE_APP, Panel(
        views=(
            View(
                name="home",
                title="Home",
                icon="house",
                template="home.html",
                fill=_fill,
                place=10,
                scripts=("drop.js",),
            ),
            health.VIEW,
            phone_view.view(),
        ),
        lives=(
            *going.LIVES,
            *health.LIVES,
            uses.LIVE,
            Live(name="people", template="home/person.html", rows=_people, every_s=1.5, css="row person"),
            Live(
                name="notices",
                template="home/notice.html",
                rows=_notices,
                every_s=1.0,
                css="row notice",
                is_said=True,
            ),
        ),
        cards=(uses.CARD,),
        search=_search,
    )


def _fill(asked: Any) -> dict[str, Any]:
    return {"first": _first_steps(asked)}


def _first_steps(asked: Any) -> dict[str, Any] | None:
    """What is done of the three first steps; None: all of it, or the browser skipped them."""
    if asked.is_skipped or not asked.browser.may(""):
        return None
    try:
        shares = asked.node.service("files").shared()
    except CoterieError:  # no app shares anything here
        shares = [None]
    name = asked.node.name
    done = {"name": name, "is_named": name != platform_name(), "knows": bool(asked.node.people.known())}
    return None if done["knows"] and shares else done | {"shares": bool(shares)}


def _people(asked: Any) -> list[Row]:
    """Everybody known: who is here first, then who was seen last."""
    node: Any = asked.node
    here = node.people.here() or ()
    lines = {line.peer: line for line in node.peers()}
    rows = []
    for name, known in node.people.names().items():
        line = lines.get(str(known.peer))
        seen = line.seen if line is not None else None
        rows.append(
            {
                "name": name,
                "link": f"/people#{known.peer}" if asked.panels.view("people") else "",
                "id": str(known.peer),
                "of": known.of,
                "here": known.peer in here,
                "way": line.path if line is not None else "",
                "seen": "" if seen is None else iso((time.time() - seen) // 60 * 60),
                "order": seen if seen is not None else float("inf"),
            }
        )
    rows.sort(key=lambda row: (not row["here"], row.pop("order"), row["name"].casefold()))
    return [Row(row["id"], row) for row in rows]


async def _notices(asked: Any) -> list[Row]:
    """What apps told, the newest first, each with what can be done about it."""
    rows = []
    for notice in reversed(asked.node.notices.all()):
        if (answers := await _answers(asked, notice.app, notice.key)) is None:
            continue
        rows.append(
            Row(
                str(notice.id),
                {
                    "app": notice.app,
                    "said": without_command(notice.said) if answers else notice.said,
                    "last": iso(notice.at),
                    "times": notice.times,
                    "answers": answers,
                },
            )
        )
    return rows


async def _answers(asked: Asked, app: str, key: str) -> list[dict[str, Any]] | None:
    """The buttons of a notice, as far as this browser may press them; None: its app shows it elsewhere."""
    buttons: list[dict[str, Any]] = []
    for panel in asked.panels.of(app):
        if panel.answers is None:
            continue
        with contextlib.suppress(CoterieError):
            given = panel.answers(asked.of(app), key)
            answers: Sequence[Answer] | None = await given if inspect.isawaitable(given) else given
            if answers is None:
                return None
            buttons += [asked.button(answer) for answer in answers if asked.may_call(answer.words)]
    return buttons


def _search(asked: Any, text: str) -> list[Found]:
    words = text.casefold().split()
    return [
        Found(name, f"/people#{known.peer}" if asked.panels.view("people") else "/", "user", known.of)
        for name, known in asked.node.people.names().items()
        if all(word in name.casefold() for word in words)
    ][:PEOPLE_FOUND_MAX]
