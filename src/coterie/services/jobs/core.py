"""Which job runs when: bounds, schedules, conditions, tries. Pure; `handle(event, now)`, times in s since 1970."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.texts import tr

JOBS_PER_APP_MAX = 200  # that have not ended; guess
FINISHED_PER_APP_MAX = 20  # ended ones that are still listed; the oldest leaves
RUNNING_MAX = 8  # at once; guess: the rest of the node is to stay quick
RUNNING_PER_APP_MAX = 2
TRIES_MAX = 5  # failures one after another, kills of the node while it ran among them
RETRY_S = 60.0  # guess; doubles with each failure
RETRY_MAX_S = 3_600.0
EVERY_S_MIN = 60.0  # what is wanted more often is no job, but background work (`jobs.keep`)
LOOK_S = 60.0  # how often the surroundings are looked at while a job waits for them
WORDS_CHARS_MAX = 200  # of kind, key and title
VALUES_BYTES_MAX = 64 * 1024  # of what a job is given, and of what it keeps
REASON_CHARS_MAX = 300

State = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")


class When(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a job runs; at once without any of it.

    Fields:
        not_before: s since 1970.
        every_s: again so long after it began last.
        at: again each day at this local time, "HH:MM".
        idle_s: after this computer has had nothing to do for so long.
        on_mains: not on battery.
        unmetered: not over a network that costs by the amount.
    """

    not_before: float = 0.0
    every_s: float = 0.0
    at: str = ""
    idle_s: float = 0.0
    on_mains: bool = False
    unmetered: bool = False

    def __post_init__(self) -> None:
        if self.every_s and not self.every_s >= EVERY_S_MIN:
            raise ValueError(f"a job runs every {EVERY_S_MIN:g} s at most")
        if self.at:
            _time_of_day(self.at)
        if self.every_s and self.at:
            raise ValueError("a job runs every so often, or at a time of the day: not both")

    @property
    def repeats(self) -> bool:
        """Whether it runs again after it is done."""
        return bool(self.every_s or self.at)

    @property
    def has_conditions(self) -> bool:
        """Whether it depends on the surroundings."""
        return bool(self.idle_s or self.on_mains or self.unmetered)

    def first(self, now: float) -> float:
        """When it is due for the first time."""
        return max(self.not_before, _next_at(self.at, now) if self.at else now)

    def following(self, began: float, now: float) -> float:
        """When it is due again. What was missed is not made up for."""
        return _next_at(self.at, now) if self.at else max(now, began + self.every_s)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the system says; where it says nothing, nothing stands in the way."""

    idle_s: float = float("inf")
    on_mains: bool = True
    is_metered: bool = False

    def missing(self, when: When) -> str:
        """What a job waits for, for people; empty: nothing."""
        if when.on_mains and not self.on_mains:
            return "waits for mains power"
        if when.unmetered and self.is_metered:
            return "waits for a network that is not metered"
        return "waits until this computer is idle" if self.idle_s < when.idle_s else ""


UNKNOWN = Surroundings(idle_s=0.0, on_mains=False, is_metered=True)  # before anybody looked


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as it is on disk. `kept`: what it left for going on. `due`: not before. `tries`: failures in a row."""

    id: str
    created: float
    app: str
    kind: str
    key: str = ""
    title: str = ""
    values: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    when: When = When()
    state: State = "waiting"
    due: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    tries: int = 0
    reason: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it never runs again."""
        return self.state in ENDED


class Added(msgspec.Struct, frozen=True):
    """A job is wanted; one of the same app and key, if it has one, is replaced and keeps what it did."""

    job: Job


class Offered(msgspec.Struct, frozen=True):
    """The app runs and does jobs of this kind."""

    app: str
    kind: str


class Withdrawn(msgspec.Struct, frozen=True):
    """The app ends. Its jobs wait for its next start."""

    app: str


class Finished(msgspec.Struct, frozen=True):
    """A job that ran came to its end. `error`: it failed, and why."""

    id: str
    error: str = ""


class Kept(msgspec.Struct, frozen=True):
    """A job leaves this for going on from here."""

    id: str
    values: dict[str, Any]


class Wanted(msgspec.Struct, frozen=True):
    """The owner or the app says what is to become of a job."""

    id: str
    verb: Literal["pause", "resume", "cancel"]


class Looked(msgspec.Struct, frozen=True):
    """What the surroundings are now."""

    surroundings: Surroundings


class Woken(msgspec.Struct, frozen=True):
    """It is time for something."""


Event = Added | Offered | Withdrawn | Finished | Kept | Wanted | Looked | Woken


class Start(msgspec.Struct, frozen=True):
    """Begin with it."""

    job: Job


class Stop(msgspec.Struct, frozen=True):
    """Stop what runs of it; no `Finished` follows."""

    id: str


class Save(msgspec.Struct, frozen=True):
    """To disk, before anything that follows."""

    job: Job


class Drop(msgspec.Struct, frozen=True):
    """Off the disk."""

    id: str


class Wake(msgspec.Struct, frozen=True):
    """`Woken` at this time, and at no other that was asked for before; None: never. `looks`: look around first."""

    at: float | None
    looks: bool = False


Output = Start | Stop | Save | Drop | Wake


class Board:
    """All jobs of a node."""

    def __init__(self, jobs: Sequence[Job] = ()) -> None:
        """`jobs`: those of the disk."""
        self._jobs = {job.id: job for job in jobs}
        self._offered: dict[tuple[str, str], None] = {}
        self._around = UNKNOWN

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: str) -> Job:
        """Raises `NotFound`."""
        if job_id not in self._jobs:
            raise NotFound(tr("there is no job '{job_id}'; `coterie jobs` lists them", job_id=job_id))
        return self._jobs[job_id]

    def begin(self, now: float) -> list[Output]:
        """After a start: what ran when the node was killed goes on, unless that happens again and again."""
        outputs: list[Output] = []
        for job in self:
            if job.state == "running":
                outputs += self._failed(job, "the node was killed while it ran", now, retry_s=0.0)
        return outputs

    def handle(self, event: Event, now: float) -> list[Output]:
        """What is to be done, in this order.

        Raises:
            LimitExceeded: too many jobs, or too large ones.
            NotFound: no such job.
            UsageError: it has ended.
        """
        outputs: list[Output] = []
        match event:
            case Added(job):
                outputs = self._add(job, now)
            case Offered(app, kind):
                self._offered[app, kind] = None
            case Withdrawn(app):
                self._offered = {k: None for k in self._offered if k[0] != app}
                for job in self:
                    if job.app == app and job.state == "running":
                        outputs += [Stop(job.id), self._put(job, state="waiting")]
            case Finished(job_id, error) if self._runs(job_id):
                ended = self._jobs[job_id]
                outputs = self._failed(ended, error, now) if error else self._done(ended, now)
            case Kept(job_id, values) if self._runs(job_id):
                _check_values(values)
                return [self._put(self._jobs[job_id], kept=values)]
            case Wanted(job_id, verb):
                outputs = self._want(self.get(job_id), verb, now)
            case Looked(surroundings):
                self._around = surroundings
            case _:
                pass
        return outputs + self._decide(now)

    def waits_for(self, job: Job, now: float) -> str:
        """Why a waiting job does not run, for people."""
        if job.state != "waiting":
            return job.reason
        if (job.app, job.kind) not in self._offered:
            return f"waits for the app '{job.app}'"
        return (self._around.missing(job.when) if job.due <= now else "") or job.reason

    def _runs(self, job_id: str) -> bool:
        return job_id in self._jobs and self._jobs[job_id].state == "running"

    def _add(self, job: Job, now: float) -> list[Output]:
        for words in (job.kind, job.key, job.title):
            if len(words) > WORDS_CHARS_MAX:
                raise LimitExceeded(
                    tr(
                        "a job's kind, key and title have {words_chars_max} characters at most",
                        words_chars_max=WORDS_CHARS_MAX,
                    )
                )
        _check_values(job.values)
        own = [j for j in self if j.app == job.app]
        same = next((j for j in own if job.key and j.key == job.key), None)
        if same is not None and not same.has_ended:
            due = same.due if same.when == job.when else job.when.first(now)
            return [
                self._put(same, kind=job.kind, title=job.title, values=job.values, when=job.when, due=due)
            ]
        if sum(not j.has_ended for j in own) >= JOBS_PER_APP_MAX:
            raise LimitExceeded(
                tr(
                    "the app '{app}' has {jobs_per_app_max} jobs already: cancel some of them",
                    app=job.app,
                    jobs_per_app_max=JOBS_PER_APP_MAX,
                )
            )
        outputs: list[Output] = [self._drop(same)] if same is not None else []
        return [*outputs, self._put(job, due=job.when.first(now))]

    def _want(self, job: Job, verb: str, now: float) -> list[Output]:
        if job.has_ended:
            raise UsageError(
                tr(
                    "the job '{job_id}' is {state}: nothing is left to {verb}",
                    job_id=job.id,
                    state=job.state,
                    verb=verb,
                )
            )
        stop: list[Output] = [Stop(job.id)] if job.state == "running" and verb != "resume" else []
        if verb == "pause":
            return [*stop, self._put(job, state="paused", reason="")]
        if verb == "cancel":
            return stop + self._ended(job, "cancelled", "", now)
        if job.state == "running":
            return []
        due = now if job.state == "paused" and not job.when.repeats else job.due
        return [self._put(job, state="waiting", due=due, tries=0, reason="")]

    def _done(self, job: Job, now: float) -> list[Output]:
        if job.when.repeats:
            due = job.when.following(job.began, now)
            return [self._put(job, state="waiting", due=due, kept={}, tries=0, reason="", ended=now)]
        return self._ended(job, "done", "", now)

    def _failed(self, job: Job, reason: str, now: float, retry_s: float | None = None) -> list[Output]:
        tries, reason = job.tries + 1, reason[:REASON_CHARS_MAX]
        if tries < TRIES_MAX:
            wait_s = min(RETRY_MAX_S, RETRY_S * 2.0 ** (tries - 1)) if retry_s is None else retry_s
            return [self._put(job, state="waiting", due=now + wait_s, tries=tries, reason=reason)]
        if job.when.repeats:
            due = job.when.following(job.began, now)
            return [self._put(job, state="waiting", due=due, tries=0, reason=reason, ended=now)]
        return self._ended(job, "failed", reason, now)

    def _ended(self, job: Job, state: State, reason: str, now: float) -> list[Output]:
        outputs: list[Output] = [self._put(job, state=state, reason=reason, ended=now)]
        ended = sorted((j for j in self if j.app == job.app and j.has_ended), key=lambda j: (j.ended, j.id))
        return outputs + [self._drop(old) for old in ended[: max(0, len(ended) - FINISHED_PER_APP_MAX)]]

    def _decide(self, now: float) -> list[Output]:
        """Stop what may not run any more, start what may, and say when to decide again."""
        outputs: list[Output] = []
        for job in self:  # idleness is for beginning only: the job itself ends it
            if job.state == "running" and self._around.missing(msgspec.structs.replace(job.when, idle_s=0.0)):
                outputs += [Stop(job.id), self._put(job, state="waiting")]
        running = [job.app for job in self if job.state == "running"]
        for job in sorted(self, key=lambda j: (j.due, j.created, j.id)):
            if job.state != "waiting" or job.due > now or (job.app, job.kind) not in self._offered:
                continue
            if self._around.missing(job.when) or running.count(job.app) >= RUNNING_PER_APP_MAX:
                continue
            if len(running) >= RUNNING_MAX:
                break
            running.append(job.app)
            save = self._put(job, state="running", began=now)
            outputs += [save, Start(save.job)]
        return [*outputs, self._wake(now)]

    def _wake(self, now: float) -> Wake:
        open_ = [j for j in self if j.state in ("waiting", "running") and (j.app, j.kind) in self._offered]
        looks = any(j.when.has_conditions and j.due <= now for j in open_)
        times = [j.due for j in open_ if j.due > now] + ([now + LOOK_S] if looks else [])
        return Wake(min(times, default=None), any(j.when.has_conditions for j in open_))

    def _put(self, job: Job, **changes: Any) -> Save:
        self._jobs[job.id] = changed = msgspec.structs.replace(job, **changes)
        return Save(changed)

    def _drop(self, job: Job) -> Drop:
        del self._jobs[job.id]
        return Drop(job.id)


def _check_values(values: dict[str, Any]) -> None:
    try:
        size = len(msgspec.json.encode(values))
    except (TypeError, ValueError) as error:
        raise UsageError(
            tr("what a job is given or keeps must be plain values: {error}", error=error)
        ) from None
    if size > VALUES_BYTES_MAX:
        raise LimitExceeded(
            tr(
                "what a job is given or keeps has {values_bytes_max} bytes at most, not {size}",
                values_bytes_max=VALUES_BYTES_MAX,
                size=size,
            )
        )


def _time_of_day(text: str) -> tuple[int, int]:
    hour, _, minute = text.partition(":")
    if not (len(text) == 5 and text.isascii() and hour.isdigit() and minute.isdigit()):
        raise ValueError(f"'{text}' is no time of the day: write 03:00")
    if not (int(hour) < 24 and int(minute) < 60):
        raise ValueError(f"'{text}' is no time of the day: 00:00 to 23:59")
    return int(hour), int(minute)


def _next_at(text: str, now: float) -> float:
    hour, minute = _time_of_day(text)
    day = datetime.fromtimestamp(now)
    found = day.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if found.timestamp() <= now:
        found += timedelta(days=1)
    return found.timestamp()
