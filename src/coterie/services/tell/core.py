"""Which notices are kept, which are the same, and which are worth an interruption. Pure."""

from collections.abc import Iterator, Sequence

import msgspec

from coterie.moments import iso
from coterie.moments import said as when_said
from coterie.progress import Live
from coterie.rate import Rate, RateTable
from coterie.texts import tr

NOTICES_MAX = 500  # of all apps; guess: more than anybody reads
NOTICES_PER_APP_MAX = 100  # an app that tells too much pushes out its own
TEXT_CHARS_MAX = 500
KEY_CHARS_MAX = 200
APPS_MAX = 256  # whose interruptions are counted
AGAIN_S = 3_600.0  # guess: the same notice interrupts once in so long
INTERRUPTIONS = (1 / 60.0, 5.0)  # of each app: per second, and at once; guess
WRITE_AGAIN_S = 60.0  # a notice that comes again and again is written to disk once in so long


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an app tells the owner.

    Fields:
        id: grows with each notice.
        said: for people, one sentence.
        key: what it is about: notices of one app and one key are one notice, the newest text stands.
        first_at, at: seconds since 1970, when it was told first and last.
        times: how often it was told.
    """

    id: int
    app: str
    said: str
    key: str
    first_at: float
    at: float
    times: int = 1


class NoticeLine(Live, frozen=True, kw_only=True):
    """A notice for faces: when it was told first (`since`) and `last`, ISO 8601, and how many `times`."""

    id: int
    app: str
    said: str
    since: str
    last: str
    times: int

    @classmethod
    def of(cls, notice: Notice) -> "NoticeLine":
        """For one notice."""
        since, last = iso(notice.first_at), iso(notice.at)
        return cls(id=notice.id, app=notice.app, said=notice.said, since=since, last=last, times=notice.times)

    def text(self) -> str:
        """For people: one line."""
        times = tr("  ({times} times)", times=self.times) if self.times > 1 else ""
        return f"{self.app}  {when_said(self.last)}: {self.said}{times}"


class Told(msgspec.Struct, frozen=True):
    """What became of a notice. `is_news`: worth an interruption; `is_to_write`: the disk is to learn of it."""

    notice: Notice
    is_news: bool
    is_to_write: bool


class Board:
    """The notices that are kept, the one told last at the end."""

    def __init__(self, kept: Sequence[Notice] = ()) -> None:
        """`kept`: those of the disk; more than there is room for are cut."""
        self._notices: dict[int, Notice] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._interrupted: dict[int, float] = {}
        self._written: dict[int, float] = {}
        self._rates: RateTable[str, Rate] = RateTable(APPS_MAX, lambda _app: Rate(*INTERRUPTIONS))
        for notice in kept:
            self._keep(notice)
        self._next = max(self._notices, default=0) + 1

    def __iter__(self) -> Iterator[Notice]:
        return iter(list(self._notices.values()))

    def __len__(self) -> int:
        return len(self._notices)

    def tell(self, app: str, text: str, key: str, now: float) -> Told:
        """Keep what `app` says at time `now`; an empty `key` means that the text is the key."""
        text = text[:TEXT_CHARS_MAX]
        key = (key or text)[:KEY_CHARS_MAX]
        old = self._notices.get(self._ids.get((app, key), 0))
        if old is None:
            notice = Notice(id=self._next, app=app, said=text, key=key, first_at=now, at=now)
            self._next += 1
        else:
            notice = msgspec.structs.replace(old, said=text, at=now, times=old.times + 1)
        self._keep(notice)
        is_same = old is not None and old.said == text
        is_news = (
            not is_same or now - self._interrupted.get(notice.id, float("-inf")) >= AGAIN_S
        ) and self._rates.of(app).take(now)
        if is_news:
            self._interrupted[notice.id] = now
        is_to_write = not is_same or now - self._written.get(notice.id, float("-inf")) >= WRITE_AGAIN_S
        if is_to_write:
            self._written[notice.id] = now
        return Told(notice, is_news, is_to_write)

    def remove(self, app: str | None = None, key: str | None = None) -> int:
        """Forget notices: all, those of `app`, or the one of `app` and `key`. How many there were."""
        gone = [
            n for n in self if (app is None or n.app == app) and (key is None or n.key == key[:KEY_CHARS_MAX])
        ]
        for notice in gone:
            self._forget(notice)
        return len(gone)

    def _keep(self, notice: Notice) -> None:
        self._notices.pop(notice.id, None)
        self._notices[notice.id] = notice
        self._ids[notice.app, notice.key] = notice.id
        own = [n for n in self._notices.values() if n.app == notice.app]
        if len(own) > NOTICES_PER_APP_MAX:
            self._forget(own[0])
        elif len(self._notices) > NOTICES_MAX:
            self._forget(next(iter(self._notices.values())))

    def _forget(self, notice: Notice) -> None:
        del self._notices[notice.id]
        self._ids.pop((notice.app, notice.key), None)
        self._interrupted.pop(notice.id, None)
        self._written.pop(notice.id, None)
