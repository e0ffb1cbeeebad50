"""How much each user of a share used on which day, and what is left of its quota. Destinations are not in it."""

import threading
from collections.abc import Callable, Iterable

import msgspec

from coterie.apps.internet.records import ShareRecord
from coterie.errors import LimitExceeded
from coterie.quantity import say_bytes
from coterie.texts import tr

DAYS_MAX = 400  # a year, and the month of the year before
USERS_MAX = 1_000  # whose use is kept; then that of whom was here longest ago is forgotten


class Day(msgspec.Struct):
    """What one user used of one share on one day: bytes to the internet, and from it; connections and flows."""

    up: int = 0
    down: int = 0
    count: int = 0


class UseRecord(msgspec.Struct, kw_only=True):
    """Of one user: `days` by day ("2026-11-28") and id of the share; `before`: bytes of days forgotten, by share."""

    id: str
    created: float
    peer: str
    days: dict[str, dict[str, Day]] = {}
    before: dict[str, int] = {}


class Accounts:
    """Of all users. `count` may be called from any thread, the rest belongs to one."""

    def __init__(self, records: Iterable[UseRecord]) -> None:
        self._lock = threading.Lock()
        self.users = {record.peer: record for record in records}
        self._changed: dict[str, None] = {}  # users whose record is not on disk as it is here
        self._forgotten: list[UseRecord] = []
        self._total = 0

    def total(self) -> int:
        """Bytes that went through since the start."""
        with self._lock:
            return self._total

    def begin(self, peer: str, share: ShareRecord, today: str, make: Callable[[], UseRecord]) -> None:
        """One more connection or flow. `make` makes the record of a new user."""
        with self._lock:
            if peer not in self.users:
                self.users[peer] = make()
            self._day(peer, share.id, today).count += 1
            if len(self.users) > USERS_MAX:
                oldest = min(self.users, key=lambda peer: max(self.users[peer].days, default=""))
                self._forgotten.append(self.users.pop(oldest))
                self._changed.pop(oldest, None)

    def take(self) -> tuple[list[UseRecord], list[UseRecord]]:
        """Records to be written, as they are now, and those to be forgotten; the next call gives what came since."""
        with self._lock:
            changed = [_copy(self.users[peer]) for peer in self._changed]
            forgotten, self._forgotten = self._forgotten, []
            self._changed.clear()
            return changed, forgotten

    def count(self, peer: str, share: ShareRecord, today: str, *, up: int = 0, down: int = 0) -> None:
        """Count bytes before they go on.

        Raises:
            LimitExceeded: they do not fit the quota, and are not counted.
        """
        with self._lock:
            left = self._left(peer, share, today)
            if left is not None and up + down > left:
                raise used_up(share)
            day = self._day(peer, share.id, today)
            self._total += up + down
            day.up += up
            day.down += down

    def left(self, peer: str, share: ShareRecord, today: str) -> int | None:
        """Bytes of the quota that are left; None without one."""
        with self._lock:
            return self._left(peer, share, today)

    def _left(self, peer: str, share: ShareRecord, today: str) -> int | None:
        if not share.terms.quota_bytes:
            return None
        begins = {"day": today, "month": today[:7]}.get(share.period, "")
        user = self.users.get(peer)
        if user is None:
            return share.terms.quota_bytes
        used = 0 if share.period else user.before.get(share.id, 0)
        for day, shares in user.days.items():
            if day.startswith(begins) and share.id in shares:
                used += shares[share.id].up + shares[share.id].down
        return max(0, share.terms.quota_bytes - used)

    def _day(self, peer: str, share: str, today: str) -> Day:
        user = self.users[peer]
        days = user.days
        if today not in days and len(days) >= DAYS_MAX:
            for share_id, forgotten in days.pop(min(days)).items():
                user.before[share_id] = user.before.get(share_id, 0) + forgotten.up + forgotten.down
        self._changed[peer] = None
        return days.setdefault(today, {}).setdefault(share, Day())


def _copy(user: UseRecord) -> UseRecord:
    days = {
        day: {share: Day(one.up, one.down, one.count) for share, one in shares.items()}
        for day, shares in user.days.items()
    }
    return UseRecord(id=user.id, created=user.created, peer=user.peer, days=days, before=dict(user.before))


def used_up(share: ShareRecord) -> LimitExceeded:
    """What the asker is told."""
    per = {"day": tr("today"), "month": tr("this month")}.get(share.period, tr("in all"))
    return LimitExceeded(
        tr("the {quota} of this exit are used up {per}", quota=say_bytes(share.terms.quota_bytes), per=per)
    )
