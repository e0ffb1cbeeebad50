"""When jobs run: bounds, schedules, conditions, tries. In virtual time, with random histories."""

from datetime import datetime
from random import Random
from typing import Any

import pytest

from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.services.jobs.core import (
    EVERY_S_MIN,
    FINISHED_PER_APP_MAX,
    JOBS_PER_APP_MAX,
    LOOK_S,
    RETRY_S,
    RUNNING_MAX,
    RUNNING_PER_APP_MAX,
    TRIES_MAX,
    VALUES_BYTES_MAX,
    WORDS_CHARS_MAX,
    Added,
    Board,
    Drop,
    Finished,
    Job,
    Kept,
    Looked,
    Offered,
    Output,
    Save,
    Start,
    Stop,
    Surroundings,
    Wake,
    Wanted,
    When,
    Withdrawn,
    Woken,
)

DAY = 86_400.0


class Scene:
    """A board, its disk, and what runs by its outputs."""

    def __init__(self, *apps: str, after: "Scene | None" = None) -> None:
        """`after`: a scene whose node was killed."""
        self.now = 1_000_000.0 if after is None else after.now
        self.disk: dict[str, Job] = {} if after is None else after.disk
        self.serial = 0 if after is None else after.serial
        self.board = Board(list(self.disk.values()))
        self.running: list[str] = []
        self.wake = Wake(None)
        self.apply(self.board.begin(self.now))
        for app in apps or ("a",):
            self.do(Offered(app, "k"))

    def do(self, event: Any) -> None:
        self.apply(self.board.handle(event, self.now))

    def apply(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Save(job):
                    self.disk[job.id] = job
                case Drop(job_id):
                    del self.disk[job_id]
                case Start(job):
                    assert self.disk[job.id].state == "running", "on disk first"
                    assert job.id not in self.running
                    self.running.append(job.id)
                case Stop(job_id):
                    self.running.remove(job_id)
                case Wake():
                    self.wake = output

    def add(self, app: str = "a", **fields: Any) -> str:
        self.serial += 1
        job_id = f"{app}{self.serial}"
        self.do(Added(Job(id=job_id, created=self.now, app=app, kind="k", **fields)))
        return job_id

    def end(self, job_id: str, error: str = "") -> None:
        self.running.remove(job_id)
        self.do(Finished(job_id, error))

    def until_woken(self) -> None:
        assert self.wake.at is not None
        self.now = self.wake.at
        self.do(Woken())

    def state(self, job_id: str) -> str:
        assert self.disk[job_id] == self.board.get(job_id)
        return self.disk[job_id].state


def test_a_job_runs_at_once_and_is_done() -> None:
    s = Scene()
    job = s.add()
    assert s.running == [job]
    s.end(job)
    assert s.state(job) == "done"


def test_without_its_app_it_waits() -> None:
    s = Scene("other")
    job = s.add("a")
    assert s.board.waits_for(s.board.get(job), s.now) == "waits for the app 'a'"
    s.do(Offered("a", "k"))
    assert s.running == [job]
    s.do(Withdrawn("a"))
    assert (s.running, s.state(job)) == ([], "waiting")


def test_only_so_many_run_of_one_app_and_of_all() -> None:
    apps = [f"app{number}" for number in range(RUNNING_MAX)]
    s = Scene(*apps)
    own = [s.add(apps[0]) for _ in range(RUNNING_PER_APP_MAX + 1)]
    assert s.running == own[:RUNNING_PER_APP_MAX]
    for app in apps[1:]:
        s.add(app)
    assert len(s.running) == RUNNING_MAX
    s.end(own[0])
    assert len(s.running) == RUNNING_MAX


def test_pause_resume_cancel() -> None:
    s = Scene()
    job = s.add()
    s.do(Kept(job, {"at": 5}))
    s.do(Wanted(job, "pause"))
    s.do(Wanted(job, "pause"))
    assert (s.running, s.state(job)) == ([], "paused")
    s.do(Kept(job, {"at": 9}))  # too late
    s.do(Wanted(job, "resume"))
    s.do(Wanted(job, "resume"))
    assert s.running == [job]
    assert s.disk[job].kept == {"at": 5}
    s.do(Wanted(job, "cancel"))
    assert (s.running, s.state(job)) == ([], "cancelled")
    with pytest.raises(UsageError, match="is cancelled: nothing is left to resume"):
        s.do(Wanted(job, "resume"))
    with pytest.raises(NotFound, match="there is no job 'b7'"):
        s.do(Wanted("b7", "pause"))


def test_a_failure_is_tried_again_with_growing_pauses_and_then_told() -> None:
    s = Scene()
    job = s.add()
    waits = []
    for _ in range(TRIES_MAX - 1):
        s.end(job, "no room")
        waits.append(s.disk[job].due - s.now)
        assert s.running == []
        s.until_woken()
    assert waits == [RETRY_S * 2**n for n in range(TRIES_MAX - 1)]
    s.end(job, "no room")
    assert (s.state(job), s.disk[job].reason) == ("failed", "no room")


def test_one_that_kills_the_node_again_and_again_is_left_alone() -> None:
    s = Scene()
    job = s.add()
    for number in range(1, TRIES_MAX + 1):
        again = Scene("other", after=s)
        again.do(Offered("a", "k"))
        assert again.running == ([job] if number < TRIES_MAX else [])
        s = again
    assert (s.state(job), s.disk[job].reason) == ("failed", "the node was killed while it ran")


def test_every_so_often() -> None:
    s = Scene()
    job = s.add(when=When(every_s=3600))
    began = s.now
    s.now += 100
    s.end(job)
    assert (s.state(job), s.disk[job].due) == ("waiting", began + 3600)
    s.until_woken()
    assert s.running == [job]
    s.now += 10 * 3600
    s.end(job)
    assert s.running == [job], "what was missed is not made up for, but it is due"


def test_each_day_at_a_time() -> None:
    s = Scene()
    job = s.add(when=When(at="03:00"))
    for _ in range(3):
        s.until_woken()
        assert s.running == [job]
        assert datetime.fromtimestamp(s.now).strftime("%H:%M:%S") == "03:00:00"
        s.now += 60
        s.end(job)
    assert 0 < s.disk[job].due - s.now <= DAY + 3600


def test_not_before() -> None:
    s = Scene()
    job = s.add(when=When(not_before=s.now + 50))
    s.now += 49
    s.do(Woken())
    assert s.running == []
    s.until_woken()
    assert s.running == [job]


@pytest.mark.parametrize(
    ("when", "bad", "said"),
    [
        (When(on_mains=True), Surroundings(on_mains=False), "waits for mains power"),
        (When(unmetered=True), Surroundings(is_metered=True), "waits for a network that is not metered"),
    ],
)
def test_conditions_hold_back_and_stop(when: When, bad: Surroundings, said: str) -> None:
    s = Scene()
    job = s.add(when=when)
    assert (s.running, s.wake) == ([], Wake(s.now + LOOK_S, True)), "nobody has looked yet"
    s.do(Looked(Surroundings()))
    assert s.running == [job]
    s.do(Looked(bad))
    assert (s.running, s.state(job)) == ([], "waiting")
    assert s.board.waits_for(s.board.get(job), s.now) == said


def test_idleness_is_for_beginning_only() -> None:
    s = Scene()
    job = s.add(when=When(idle_s=600))
    s.do(Looked(Surroundings(idle_s=599)))
    assert s.running == []
    s.do(Looked(Surroundings(idle_s=600)))
    assert s.running == [job]
    s.do(Looked(Surroundings(idle_s=0)))
    assert s.running == [job]


def test_the_same_key_is_the_same_job() -> None:
    s = Scene()
    job = s.add(key="nightly", when=When(at="03:00"))
    due = s.disk[job].due
    s.add(key="nightly", when=When(at="03:00"), title="new")
    assert (list(s.disk), s.disk[job].due, s.disk[job].title) == ([job], due, "new")
    s.add(key="nightly", when=When(every_s=EVERY_S_MIN))
    assert s.running == [job]
    s.do(Wanted(job, "cancel"))
    again = s.add(key="nightly")
    assert list(s.disk) == [again]


def test_bounds() -> None:
    s = Scene("other")
    for _ in range(JOBS_PER_APP_MAX):
        s.add("a")
    with pytest.raises(LimitExceeded, match=f"'a' has {JOBS_PER_APP_MAX} jobs already"):
        s.add("a")
    s.add("b")
    with pytest.raises(LimitExceeded, match=f"{WORDS_CHARS_MAX} characters"):
        s.add("b", title="x" * (WORDS_CHARS_MAX + 1))
    with pytest.raises(LimitExceeded, match=f"{VALUES_BYTES_MAX} bytes at most"):
        s.add("b", values={"x": "x" * VALUES_BYTES_MAX})
    with pytest.raises(UsageError, match="must be plain values"):
        s.add("b", values={"x": object()})


def test_ended_ones_are_listed_for_a_while() -> None:
    s = Scene()
    for _ in range(FINISHED_PER_APP_MAX + 1):
        job = s.add()
        s.now += 1
        s.end(job)
    assert len(s.disk) == FINISHED_PER_APP_MAX
    assert "a1" not in s.disk


@pytest.mark.parametrize(
    "wrong",
    [
        {"every_s": EVERY_S_MIN - 1},
        {"at": "3:00"},
        {"at": "24:00"},
        {"at": "03:60"},
        {"at": "xx:yy"},
        {"every_s": 90, "at": "03:00"},
    ],
)
def test_wrong_schedules_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a job runs|no time of the day"):
        When(**wrong)


def test_in_any_history_the_disk_is_true_and_bounds_hold() -> None:
    for seed in range(60):
        random = Random(seed)
        s = Scene("a", "b")
        for _ in range(150):
            s.now += random.random() * 200
            jobs = list(s.disk)
            match random.randrange(8):
                case 0 | 1:
                    when = random.choice([When(), When(every_s=90), When(at="03:00"), When(on_mains=True)])
                    s.add(random.choice("ab"), when=when, key=random.choice(["", "x"]))
                case 2 if s.running:
                    s.end(random.choice(s.running), random.choice(["", "broken"]))
                case 3 if jobs:
                    job = random.choice(jobs)
                    if not s.board.get(job).has_ended:
                        s.do(Wanted(job, random.choice(["pause", "resume", "cancel"])))
                case 4:
                    s.do(Looked(Surroundings(on_mains=random.random() < 0.5)))
                case 5:
                    s.do(random.choice([Withdrawn("a"), Offered("a", "k")]))
                case 6:  # a kill at any moment
                    s = Scene("b", after=s)
                case _:
                    if s.wake.at is not None:
                        s.until_woken()
            assert {j.id: j for j in s.board} == s.disk, f"seed {seed}"
            assert sorted(s.running) == sorted(j.id for j in s.board if j.state == "running"), f"seed {seed}"
            for app in "ab":
                assert sum(s.disk[j].app == app for j in s.running) <= RUNNING_PER_APP_MAX, f"seed {seed}"
