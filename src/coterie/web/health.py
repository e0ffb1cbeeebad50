"""The page of health: the doctor as a picture, what stands in the way and what mends it, settings, storage."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from coterie.apps.panel import Live, Row, View
from coterie.control.doctor import Check, Unhealthy, diagnose
from coterie.control.doctor_node import node_checks
from coterie.control.doctor_peer import find_peer, peer_checks
from coterie.errors import CoterieError, NotFound
from coterie.texts import tr
from coterie.web.settings_shown import settings_shown

FRESH_S = 60.0  # findings are looked for again when somebody looks at older ones
KEPT_MAX = 16  # diagnoses of computers that are remembered
STATIONS: Mapping[str, tuple[str, ...]] = {  # what each part of the picture stands for
    "computer": ("addresses", "udp", "clock", "background", "identity", "apps", "disk", "database", "dates"),
    "network": ("reach", "multicast"),
    "router": ("mapping", "nat", "outside"),
    "relays": ("relays", "dht"),
}


class Diagnosis:
    """The findings about this computer, or about one other, as they come."""

    def __init__(self) -> None:
        self.checks: list[tuple[str, Check | None]] = []
        self.at = float("-inf")
        self.is_running = False
        self.problem = ""

    async def run(self, checks: Sequence[tuple[str, Any]], now: float) -> None:
        """Look again; `checks` as `doctor.diagnose` wants them."""
        self.at, self.is_running, self.problem = now, True, ""
        self.checks = [(name, None) for name, _ in checks]
        number = 0
        try:
            async for finding in diagnose(checks):
                if isinstance(finding, Check):
                    self.checks[number] = finding.name, finding
                    number += 1
        except Unhealthy:
            pass
        except CoterieError as error:
            self.problem = str(error)
        finally:
            self.is_running = False


class Doctor:
    """Diagnoses that somebody looked at, each run at most once in FRESH_S."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Diagnosis] = {}

    def of(self, node: Any, peer: str) -> Diagnosis:
        """That of `peer`, "": this computer; begun where there is none that is fresh. Raises as `find_peer`."""
        key = str(node.peer_id), peer
        found = self._known.get(key)
        now = asyncio.get_running_loop().time()
        if found is None or (not found.is_running and now - found.at > FRESH_S):
            checks = peer_checks(node, find_peer(node, peer)) if peer else node_checks(node)
            found = self._known.setdefault(key, Diagnosis())
            for old in list(self._known)[:-KEPT_MAX]:
                del self._known[old]
            node.tasks.part("page").start(found.run(checks, now), "a diagnosis")
        return found

    def again(self, node: Any, peer: str) -> None:
        """What is known is old now."""
        if (found := self._known.get((str(node.peer_id), peer))) is not None and not found.is_running:
            found.at = float("-inf")


_doctor = Doctor()


async def fill(asked: Any) -> dict[str, Any]:
    """What the page needs."""
    peer = asked.args.get("peer", "")
    if asked.args.get("again"):
        _doctor.again(asked.node, peer)
    _doctor.of(asked.node, peer)
    may_change = asked.browser.may("")
    return {
        "peer": peer,
        "people": sorted(asked.node.people.names(), key=str.casefold),
        "settings": settings_shown(asked.node) if may_change and not peer else [],
        "usage": await asked.call("usage") if may_change and not peer else None,
    }


def checks(asked: Any) -> list[Row]:
    """What was looked at: what stands in the way first."""
    peer = asked.args.get("peer", "")
    found = _doctor.of(asked.node, peer)
    may_change = asked.browser.may("")
    rows, titles = [], _titles()
    for number, (name, check) in enumerate(found.checks):
        title = titles.get(name, name)
        value: dict[str, Any] = {
            "name": title,
            "ok": None,
            "result": "",
            "advice": "",
            "mend": "",
            "path": "",
        }
        if check is not None:
            value |= {"ok": check.ok, "result": check.result, "advice": check.advice}
            if check.mend and may_change:
                value |= {"mend": check.mend, "path": _form_of(asked, check.mend)}
        rows.append(Row(f"{number}-{name}", value))
    if found.problem:
        rows.append(Row("problem", _line(found.problem)))
    return sorted(rows, key=_weight)


def _weight(row: Row) -> int:
    """Three kinds: what stands in the way, then what has advice, then what is well or still looked at."""
    value = row.value
    return 0 if value["ok"] is False else 1 if value["ok"] and value["advice"] else 2


def _titles() -> dict[str, str]:
    """What each check of the doctor looks at, in the reader's words; others keep their names."""
    return {
        "reach": tr("How far it looks for others"),
        "addresses": tr("Its addresses"),
        "udp": tr("Its port for others"),
        "multicast": tr("Seeing others on this network"),
        "mapping": tr("The way in that the router opens"),
        "nat": tr("What the router does to connections"),
        "relays": tr("Relays: others that pass on"),
        "dht": tr("The public directory"),
        "outside": tr("Reached from outside"),
        "clock": tr("The clock"),
        "background": tr("Work in the background"),
        "identity": tr("Nobody else with its identity"),
        "apps": tr("The apps"),
        "disk": tr("Room on the disk"),
        "database": tr("The database"),
        "dates": tr("Dates of shared files"),
        "network": tr("Its network"),
        "known": tr("Known here"),
        "record": tr("What is known of its place"),
        "connection": tr("The connection"),
        "path": tr("The way it takes"),
        "blocked": tr("Blocked"),
    }


def _line(problem: str) -> dict[str, Any]:
    return {"name": tr("problem"), "ok": False, "result": problem, "advice": "", "mend": "", "path": ""}


def _form_of(asked: Any, mend: str) -> str:
    """The address of the form of a command that mends, filled in as far as the finding says."""
    words = mend.split()
    for count in range(len(words), 0, -1):
        try:
            command = asked.commands.called(" ".join(words[:count]))
        except NotFound:
            continue
        names = [parameter.name for parameter in command.parameters if parameter.positional]
        given = urlencode(dict(zip(names, words[count:], strict=False)))
        return f"/do/{command.app}/{'-'.join(command.path)}" + (f"?{given}" if given else "")
    return ""


def stations(asked: Any) -> list[Row]:
    """The picture: this computer, its network, its router, relays; each as well as its worst finding."""
    found = dict(_doctor.of(asked.node, "").checks)
    rows = []
    for station, names in STATIONS.items():
        known = [check for name in names if (check := found.get(name)) is not None]
        bad = [check for check in known if not check.ok]
        if bad:
            state = "bad"
        elif len(known) < len(names):
            state = "unknown"
        else:
            state = "warn" if any(check.advice for check in known) else "good"
        rows.append(Row(station, {"state": state, "said": bad[0].result if bad else ""}))
    return rows


VIEW = View(name="health", title="Health", icon="heart-pulse", template="health.html", fill=fill, place=50)
LIVES = (
    Live(name="checks", template="health/check.html", rows=checks, every_s=0.5, css="row check"),
    Live(name="stations", template="health/station.html", rows=stations, every_s=0.5, css="station-row"),
)
