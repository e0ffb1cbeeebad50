"""The page of transfers: what is under way and what came, and all about one."""

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from coterie.apps.panel import Live, Reader, Row, View
from coterie.errors import NotFound
from coterie.transfer.states import UNDER_WAY, TransferState

FIGURES = 2  # digits of a rate that a list shows: a row changes when somebody could see it
_STILL_TO_COME = (*UNDER_WAY, TransferState.PAUSED)


def rows(reader: Reader) -> list[Row]:
    """Every transfer: what moves first, then what is still to come, then the newest."""
    may_change = reader.browser.may("")
    lines = list(enumerate(reader.service.table.lines()))
    lines.sort(key=lambda both: (_rank(both[1].state), -both[0]))
    return [Row(line.id, _shown(line, may_change)) for _, line in lines]


def _rank(state: str) -> int:
    return 0 if state == TransferState.RUNNING else 1 if state in _STILL_TO_COME else 2


def _shown(line: Any, may_change: bool) -> dict[str, Any]:
    return {
        "id": line.id,
        "name": PurePath(line.path).name or line.path,
        "folder": str(PurePath(line.path).parent),
        "state": str(line.state),
        "done": line.done,
        "size": line.size,
        "rate": _rounded(line.rate),
        "eta": _seconds(line.eta_s),
        "peer": line.peer,
        "note": line.note if line.note != line.state else "",
        "may_change": may_change,
    }


def _rounded(rate: float) -> int:
    """`rate` with FIGURES digits."""
    if rate < 1:
        return 0
    unit: int = 10 ** max(math.floor(math.log10(rate)) - FIGURES + 1, 0)
    return round(rate / unit) * unit


def _seconds(eta_s: float | None) -> int | None:
    """Whole seconds, those of minutes for what takes longer."""
    if eta_s is None:
        return None
    unit = 1 if eta_s < 60 else 15 if eta_s < 600 else 60
    return math.ceil(eta_s / unit) * unit


async def fill(reader: Reader) -> Mapping[str, Any]:
    """What the page needs: one transfer where the address names one, else the limits of all."""
    if reader.path:
        return {"one": await reader.service.table.detail(reader.path), "limits": None}
    return {"one": None, "limits": reader.service.limits.now()}


async def detail(reader: Reader) -> list[Row]:
    """All about one transfer, as one row: `reader.args["id"]`; none once it is off the list."""
    try:
        one = await reader.service.table.detail(reader.args.get("id", ""))
    except NotFound:
        return []
    value = {
        "state": one.state,
        "is_moving": one.state in UNDER_WAY,
        "done": one.done,
        "size": one.size,
        "rate": round(one.rate),
        "eta": _seconds(one.eta_s),
        "health": one.health,
        "started": one.started,
        "finished": one.finished,
        "note": one.note if one.note != one.state else "",
        "pieces": ",".join(map(str, one.pieces)),
        "rates": ",".join(map(str, one.rates)),
        "sources": [
            {
                "peer": source.peer,
                "way": source.way,
                "rtt": round(source.rtt_ms),
                "has": None if source.has_all else source.parts,
                "received": source.received,
                "rate": _rounded(source.rate),
            }
            for source in one.sources
        ],
        "askers": [{"peer": asker.peer, "sent": asker.sent} for asker in one.askers],
        "dropped": one.dropped,
        "missing": one.missing,
        "priority": one.priority,
        "may_change": reader.browser.may(""),
    }
    return [Row(one.id, value)]


VIEW = View(
    name="transfers",
    title="Transfers",
    icon="arrow-down-up",
    template="files/transfers.html",
    fill=fill,
    place=30,
    scripts=("vendor/uplot.min.js", "chart.js"),
)
LIVES = (
    Live(name="transfers", template="files/transfer_row.html", rows=rows, every_s=1.0, css="row transfer"),
    Live(
        name="transfer",
        template="files/transfer_detail.html",
        rows=detail,
        every_s=1.0,
        tag="div",
        css="detail",
    ),
)
