"""The jobs of one node: on disk, under way, and for those who follow them."""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from coterie.errors import CoterieError, LimitExceeded, StorageError, UsageError
from coterie.progress import Progress
from coterie.quantity import duration
from coterie.services.data.records import Records
from coterie.services.jobs.core import (
    Added,
    Board,
    Drop,
    Event,
    Finished,
    Job,
    Kept,
    Looked,
    Offered,
    Output,
    Save,
    Start,
    State,
    Stop,
    Wake,
    Wanted,
    When,
    Withdrawn,
    Woken,
)
from coterie.services.jobs.surroundings import Lookout
from coterie.tasks import Tasks
from coterie.texts import tr

FOLLOWERS_MAX = 64
FOLLOWED_MAX = 100  # events that wait for one who follows; the oldest leaves
WAKE_MAX_S = 3_600.0  # the clock of the computer may be set: look at it once in so long

log = logging.getLogger(__name__)


class JobLine(msgspec.Struct, frozen=True, kw_only=True):
    """One job for `coterie jobs`. `progress`: how far it is, while it runs. `due_in_s`: how long it waits at least."""

    id: str
    app: str
    title: str
    state: State
    progress: Progress | None = None
    due_in_s: float = 0.0
    reason: str = ""

    def text(self) -> str:
        """For people: one line."""
        due = tr("in {due_in_s}", due_in_s=duration(self.due_in_s)) if self.due_in_s else ""
        how_far = _in_words(self.progress)
        parts = [self.id, f"{self.state:<9}", f"{self.app}: {self.title}", how_far, due, self.reason]
        return "  ".join(filter(None, parts))


class Running:
    """What the work of a job gets."""

    def __init__(self, jobs: "Jobs", job: Job) -> None:
        self.id = job.id
        self.values: Mapping[str, Any] = job.values
        """What the job was added with."""
        self.kept: Mapping[str, Any] = job.kept
        """What an earlier run of it left with `keep`; empty at the first."""
        self._jobs = jobs

    def keep(self, values: dict[str, Any]) -> None:
        """Leave plain `values` on disk: after a pause, a failure or a restart the work begins with them.

        Raises:
            LimitExceeded: they have more than VALUES_BYTES_MAX.
            StorageError: the disk refuses.
        """
        self._jobs.handle(Kept(self.id, values))
        self.kept = values


Work = Callable[[Running], AsyncIterator[Progress] | Awaitable[None]]


class Jobs:
    """All of them. Belongs to the event loop. Nothing is read from disk before somebody asks."""

    def __init__(
        self,
        folder: Path,
        tasks: Tasks,
        *,
        tell: Callable[[str, str, str], object],
        lookout: Lookout | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`tell` gets an app, a sentence for the owner, and its key. `clock`: s since 1970."""
        self._folder = folder
        self._tasks = tasks
        self._tell = tell
        self._lookout = lookout or Lookout()
        self._clock = clock
        self._loaded: tuple[Records[Job], Board] | None = None
        self._work: dict[tuple[str, str], Work] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Progress] = {}
        self._queues: dict[int, tuple[str, asyncio.Queue[Progress | None]]] = {}
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._looks = False

    def handle(self, event: Event) -> None:
        """Let the core decide, and do it. Raises what `Board.handle` does, and `StorageError`."""
        _, board = self._opened()
        self._do(board.handle(event, self._clock()))

    def offer(self, app: str, kind: str, work: Work) -> None:
        """`app` does jobs of `kind` from now on."""
        self._work[app, kind] = work
        self.handle(Offered(app, kind))

    async def withdraw(self, app: str) -> None:
        """Stop the jobs of an app that ends, and wait for that; they go on at its next start."""
        if self._loaded is None:
            return
        self.handle(Withdrawn(app))
        if self._ending:
            await asyncio.wait(self._ending.values())
        self._work = {place: work for place, work in self._work.items() if place[0] != app}

    def add(self, job: Job) -> Job:
        """See `AppJobs.add`."""
        records, board = self._opened()
        job = msgspec.structs.replace(job, id=records.new_id(), created=self._clock())
        try:
            self.handle(Added(job))
        except StorageError:
            with contextlib.suppress(CoterieError):
                self.handle(Wanted(job.id, "cancel"))
            raise
        return next(j for j in board if j.id == job.id or (job.key and (j.app, j.key) == (job.app, job.key)))

    def all(self, app: str = "") -> list[Job]:
        """Every job, or those of `app`, in the order of adding."""
        return [job for job in self._opened()[1] if app in ("", job.app)]

    def lines(self) -> list[JobLine]:
        """For `coterie jobs`."""
        board, now = self._opened()[1], self._clock()
        return [
            JobLine(
                id=job.id,
                app=job.app,
                title=job.title or job.kind,
                state=job.state,
                progress=self._progress.get(job.id),
                due_in_s=max(0.0, round(job.due - now, 1)) if job.state == "waiting" else 0.0,
                reason=board.waits_for(job, now),
            )
            for job in board
        ]

    def line(self, job_id: str) -> JobLine:
        """One of `lines`. Raises `NotFound`."""
        self._opened()[1].get(job_id)
        return next(line for line in self.lines() if line.id == job_id)

    async def follow(self, job_id: str) -> AsyncGenerator[Progress, None]:
        """The progress of a job, until it stops running or the caller closes it.

        Raises:
            NotFound: no such job.
            LimitExceeded: FOLLOWERS_MAX follow already.
        """
        job = self._opened()[1].get(job_id)
        if len(self._queues) >= FOLLOWERS_MAX:
            raise LimitExceeded(
                tr(
                    "{followers_max} programs follow jobs already: end one of them",
                    followers_max=FOLLOWERS_MAX,
                )
            )
        if job.state != "running":
            return
        self._serial += 1
        mine, queue = self._serial, asyncio.Queue[Progress | None](FOLLOWED_MAX)
        self._queues[mine] = (job_id, queue)
        try:
            if job_id in self._progress:
                yield self._progress[job_id]
            while (progress := await queue.get()) is not None:
                yield progress
        finally:
            del self._queues[mine]

    def status(self) -> dict[str, Any]:
        """For `coterie status`: how many are in which state; nothing when there never was one."""
        counts: dict[str, int] = {}
        for job in self._opened()[1] if self._loaded or self._folder.exists() else ():
            counts[job.state] = counts.get(job.state, 0) + 1
        return dict(sorted(counts.items()))

    async def close(self) -> None:
        """End what is under way. What no app has withdrawn counts as killed."""
        self._unset()
        await self._tasks.close()

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _opened(self) -> tuple[Records[Job], Board]:
        if self._loaded is None:
            records = Records(self._folder, Job, "job", tell=lambda text, key: self._tell("jobs", text, key))
            board = Board(list(records))
            self._loaded = records, board
            self._do(board.begin(self._clock()))
        return self._loaded

    def _do(self, outputs: list[Output]) -> None:
        """Do all of it. Raises `StorageError` afterwards, when the disk refused something."""
        records, _ = self._opened()
        refused: StorageError | None = None
        for output in outputs:
            match output:
                case Save(job):
                    try:
                        records.save(job)
                    except StorageError as error:
                        refused = error
                    if job.state == "failed":
                        self._tell(
                            job.app,
                            f"the job '{job.title or job.kind}' failed: {job.reason}",
                            f"job {job.id}",
                        )
                case Drop(job_id):
                    with contextlib.suppress(KeyError):  # it never was on disk
                        records.remove(job_id)
                case Start(job):
                    work = self._run(job, self._work[job.app, job.kind])
                    self._under_way[job.id] = self._tasks.start(work, f"job {job.id}", is_awaited=True)
                case Stop(job_id):
                    self._stop(job_id)
                case Wake(at, looks):
                    self._wake(at, looks)
        if refused is not None:
            raise refused

    def _stop(self, job_id: str) -> None:
        self._ending[job_id] = task = self._under_way.pop(job_id)
        task.cancel()
        task.add_done_callback(lambda _: self._ending.pop(job_id, None))
        self._over(job_id)

    def _wake(self, at: float | None, looks: bool) -> None:
        self._unset()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # only what is stored is looked at
            return
        if looks and not self._looks:
            self._looks = True  # before the first time, nothing is known
            self._tasks.start(self._look(), "look at power and network")
        elif at is not None:
            self._timer = loop.call_later(min(WAKE_MAX_S, max(0.0, at - self._clock())), self._woken)
        self._looks = looks

    def _woken(self) -> None:
        if self._looks:
            self._tasks.start(self._look(), "look at power and network")
        else:
            self.handle(Woken())

    async def _look(self) -> None:
        self.handle(Looked(await self._lookout.look()))

    async def _run(self, job: Job, work: Work) -> None:
        error = ""
        if job.id in self._ending:  # an earlier run of it, which was paused
            await asyncio.wait({self._ending[job.id]})
        try:
            doing = work(Running(self, self._opened()[1].get(job.id)))
            if inspect.isawaitable(doing):
                await doing
            else:
                async with aclosing(doing) as steps:  # type: ignore[type-var]
                    async for progress in steps:
                        self._tell_progress(job.id, progress)
        except Exception as failure:
            log.error("the job %s of '%s' failed", job.id, job.app, exc_info=failure)
            error = (
                str(failure) if isinstance(failure, CoterieError) else f"{type(failure).__name__}: {failure}"
            )
        del self._under_way[job.id]
        self._over(job.id)
        try:
            self.handle(Finished(job.id, error))
        except StorageError as refused:
            log.error("the end of the job %s of '%s' is not on disk: %s", job.id, job.app, refused)

    def _tell_progress(self, job_id: str, progress: Progress | None) -> None:
        if progress is not None:
            self._progress[job_id] = progress
        for followed, queue in self._queues.values():
            if followed == job_id:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(progress)

    def _over(self, job_id: str) -> None:
        self._progress.pop(job_id, None)
        self._tell_progress(job_id, None)


class AppJobs:
    """What one app gets: jobs under its own name, and work in the background while the node runs."""

    def __init__(self, jobs: Jobs, app: str, tasks: Tasks) -> None:
        self._jobs = jobs
        self._app = app
        self._tasks = tasks

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` once in the background, until it ends or the node closes; `status` and `doctor` tell a failure."""
        self._tasks.start(work, name)

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run `make()` in the background until it returns or the node closes; when it fails, anew after a pause.

        The pauses grow; `status` and `doctor` tell the failures.
        """
        self._tasks.keep(make, name)

    def offer(self, kind: str, work: Work) -> None:
        """Do jobs of `kind` by `work(running)` from now on: those that wait from earlier, too. Call it at each start.

        `work` is a coroutine function, or an async generator of `Progress`. It is cancelled by a pause and by the end
        of the node, and begins anew with what it kept.
        """
        self._jobs.offer(self._app, kind, work)

    def add(
        self,
        kind: str,
        values: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        title: str = "",
        when: When | None = None,
    ) -> Job:
        """A new job. It is on disk when this returns.

        Args:
            kind: which work does it.
            values: plain values for the work.
            key: one job of the app at most has it: adding it again changes that job and no more.
            title: for people; the kind when empty.
            when: at once when None.

        Raises:
            LimitExceeded: JOBS_PER_APP_MAX of this app have not ended, or `values` are too large.
            StorageError: the disk refuses.
        """
        job = Job(
            id="new",
            created=0.0,
            app=self._app,
            kind=kind,
            key=key,
            title=title,
            values=dict(values or {}),
            when=when or When(),
        )
        return self._jobs.add(job)

    def all(self) -> list[Job]:
        """This app's own, in the order of adding."""
        return self._jobs.all(self._app)

    def pause(self, job_id: str) -> None:
        """Stop it until `resume`. Raises `NotFound`, `UsageError` when it has ended."""
        self._want(job_id, "pause")

    def resume(self, job_id: str) -> None:
        """Go on with it. Raises as `pause`."""
        self._want(job_id, "resume")

    def cancel(self, job_id: str) -> None:
        """End it for good. Raises as `pause`."""
        self._want(job_id, "cancel")

    def follow(self, job_id: str) -> AsyncGenerator[Progress, None]:
        """As `Jobs.follow`."""
        return self._jobs.follow(job_id)

    def _want(self, job_id: str, verb: Any) -> None:
        if job_id not in [job.id for job in self.all()]:
            raise UsageError(tr("the app '{app}' has no job '{job_id}'", app=self._app, job_id=job_id))
        self._jobs.handle(Wanted(job_id, verb))


def _in_words(progress: Progress | None) -> str:
    if progress is None:
        return ""
    share = (
        f" {progress.done / progress.total:.0%}" if progress.total else f" {progress.done} {progress.unit}"
    )
    return progress.phase + share
