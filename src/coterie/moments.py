"""Points in time: ISO 8601 for programs, "3 min ago" for people."""

import re
import time
from datetime import UTC, datetime

from coterie.texts import tr, tr_count

FOR_EVER_S = 2**37  # unix seconds beyond which a time is none: the year 6325
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
_UNITS = ((60, "min"), (3_600, "h"), (86_400, "day"))
_JUST_NOW_S = 60
_SLACK_S = 30  # a time ahead is rounded to the minute, one that is past is cut
_DAYS_MAX = 60  # beyond that a date says more


def iso(unix_s: float) -> str:
    """Unix seconds as ISO 8601 in UTC; empty for none: zero and below, and for ever."""
    return (
        datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds") if 0 < unix_s < FOR_EVER_S else ""
    )


def is_iso(text: str) -> bool:
    """Whether `text` is a point in time as `iso` writes it."""
    return _ISO.match(text) is not None


def exactly(text: str) -> str:
    """An ISO 8601 time for people, by the clock of this computer: "2026-12-05 10:54 (in 7 days)"."""
    return f"{datetime.fromisoformat(text).astimezone().strftime('%Y-%m-%d %H:%M')} ({said(text)})"


def said(text: str, now: float | None = None) -> str:
    """An ISO 8601 time for people: "3 min ago", "in 29 days", a date when it is long ago. Other text as it is.

    now: unix seconds; the clock's when it is not given.
    """
    if not is_iso(text):
        return text
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return text
    ahead = then.timestamp() - (time.time() if now is None else now)
    if abs(ahead) < _JUST_NOW_S:
        return tr("just now") if ahead <= 0 else tr("in a moment")
    distance = ahead + _SLACK_S if ahead > 0 else -ahead  # what was set a moment ago is said as it was set
    size, unit = next((u for u in reversed(_UNITS) if distance >= u[0]), _UNITS[0])
    number = int(distance // size)
    if unit == "day" and number > _DAYS_MAX:
        return then.astimezone().date().isoformat()
    match unit:
        case "min":
            return (
                tr("in {number} min", number=number) if ahead > 0 else tr("{number} min ago", number=number)
            )
        case "h":
            return tr("in {number} h", number=number) if ahead > 0 else tr("{number} h ago", number=number)
    if ahead > 0:
        return tr_count("in {number} day", "in {number} days", number)
    return tr_count("{number} day ago", "{number} days ago", number)
