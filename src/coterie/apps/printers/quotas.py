"""How many sides each person may print in a month, and has."""

import re
import time

from coterie.apps.context import Context
from coterie.apps.printers.records import SharedPrinter, TakenJob, UsedPages
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.texts import tr

PAGES_MONTH_MAX = 1_000_000
_QUOTA = re.compile(r"(\d{1,9})(?:/month)?\Z")


@decoder(UsageError, "a quota of pages")
def read_quota(text: str) -> int:
    """Sides in a month in "50/month" or "50"; 0 in "" or "0": any number. Raises `UsageError`."""
    if not text:
        return 0
    found = _QUOTA.match(text)
    if found is None or not text.isascii() or int(found[1]) > PAGES_MONTH_MAX:
        raise UsageError(
            tr("'{text}' is no quota of pages: write a number for each month, like 50/month", text=text)
        )
    return int(found[1])


def month_of(now: float) -> str:
    """The month of this computer's calendar: "2026-11"."""
    return time.strftime("%Y-%m", time.localtime(now))


class Quotas:
    """Counts printed sides by printer, person and month. A side counts once for each copy; a duplex sheet has two."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._used = context.data.records("used", UsedPages, "count of pages", many=True)
        self._by = {(used.printer, used.person, used.month): used for used in self._used}

    def person_of(self, peer: PeerId) -> str:
        """Whose computer it is, as the policy knows it; itself where it is the only one."""
        persons = self._context.people.standing(peer).persons
        return str(persons[0] if persons else peer)

    def used(self, printer: str, person: str) -> int:
        """Sides in this month."""
        found = self._by.get((printer, person, month_of(self._context.access.now)))
        return found.sides if found is not None else 0

    def fault(self, shared: SharedPrinter, person: str, sides: int, others: list[TakenJob]) -> str:
        """Why `sides` more cannot be printed, or "". `others`: jobs of that person there that are not over."""
        if not shared.pages_max:
            return ""
        used = self.used(shared.id, person)
        left = shared.pages_max - used - sum(job.sides for job in others)
        if max(1, sides) <= left:
            return ""
        return tr(
            "{sides} pages are more than the {left} that are left of {pages_max} for this month",
            sides=sides,
            left=max(0, left),
            pages_max=shared.pages_max,
        )

    def add(self, printer: str, person: str, sides: int) -> None:
        """Count them. Inside a transaction of the caller."""
        month = month_of(self._context.access.now)
        key = printer, person, month
        found = self._by.get(key)
        if found is None:
            found = UsedPages(
                id=self._used.new_id(),
                created=time.time(),
                printer=printer,
                person=person,
                month=month,
            )
            self._by[key] = found
        found.sides += sides
        self._used.save(found)
