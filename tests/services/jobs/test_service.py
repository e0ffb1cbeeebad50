"""Jobs on disk and under way: restarts, kills, progress; and through a whole node."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.app import App
from coterie.apps.invoke import Event, Result, invoke, load_commands
from coterie.errors import LimitExceeded, UsageError
from coterie.node import Node
from coterie.progress import Progress
from coterie.services.jobs.core import Surroundings, When
from coterie.services.jobs.service import FOLLOWERS_MAX, AppJobs, Jobs, Running
from coterie.services.jobs.surroundings import Lookout, is_on_mains
from coterie.tasks import Tasks
from tests.support import run, run_virtual

GOLDEN = (
    b'{"id":"abc","created":5.0,"app":"guestbook","kind":"scan","key":"nightly","title":"Scan","values":{"path":"/x"},'
    b'"kept":{"page":3},"when":{"at":"03:00","on_mains":true},"state":"paused","due":9.0,"began":7.0,"ended":0.0,'
    b'"tries":1,"reason":"no room"}'
)


class Around(Lookout):
    def __init__(self) -> None:
        self.now = Surroundings()

    async def look(self) -> Surroundings:
        return self.now


class Scene:
    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.around = Around()
        self.folder = folder / "jobs"
        self.open()

    def open(self) -> None:
        """Also as after a kill: nothing of the former is closed."""
        self.tasks = Tasks()
        self.jobs = Jobs(
            self.folder,
            self.tasks,
            tell=lambda app, text, key: self.told.append(text),
            lookout=self.around,
            clock=asyncio.get_running_loop().time,
        )
        self.own = AppJobs(self.jobs, "guestbook", Tasks())

    def states(self) -> list[str]:
        return [line.state for line in self.jobs.lines()]


def test_the_form_on_disk_stays(tmp_path: Path) -> None:
    async def scene() -> None:
        s = Scene(tmp_path)
        s.folder.mkdir()
        (s.folder / "abc.json").write_bytes(GOLDEN)
        s.own.offer("scan", lambda running: asyncio.sleep(0))
        [job] = s.own.all()
        assert (job.when, job.kept, job.values) == (
            When(at="03:00", on_mains=True),
            {"page": 3},
            {"path": "/x"},
        )
        s.own.resume("abc")
        s.own.pause("abc")
        await s.jobs.close()
        changed = (s.folder / "abc.json").read_bytes()
        assert changed == GOLDEN.replace(b'"tries":1,"reason":"no room"', b'"tries":0,"reason":""')

    run_virtual(scene())


def test_work_goes_on_from_what_it_kept_after_a_kill_and_after_an_orderly_end(tmp_path: Path) -> None:
    begun: list[dict[str, Any]] = []

    async def count(running: Running) -> AsyncIterator[Progress]:
        begun.append(dict(running.kept))
        for page in range(running.kept.get("page", 0), 10):
            running.keep({"page": page})
            await asyncio.sleep(1)
            yield Progress(phase="reading", done=page + 1, total=10, unit="files")

    async def scene() -> None:
        s = Scene(tmp_path)
        s.own.offer("count", count)
        s.own.add("count", title="Count")
        await asyncio.sleep(3.5)
        assert s.jobs.lines()[0].text().endswith("running    guestbook: Count  reading 30%")
        await s.jobs.close()  # no app was withdrawn: as a kill
        s.open()
        s.own.offer("count", count)
        await asyncio.sleep(2.5)
        await s.jobs.withdraw("guestbook")
        await s.jobs.close()
        assert s.states() == ["waiting"]
        s.open()
        s.own.offer("count", count)
        await asyncio.sleep(20)
        assert s.states() == ["done"]
        await s.jobs.close()
        assert begun == [{}, {"page": 3}, {"page": 5}]

    run_virtual(scene())


def test_progress_is_followed_to_the_end(tmp_path: Path) -> None:
    async def steps(running: Running) -> AsyncIterator[Progress]:
        for done in (1, 2, 3):
            await asyncio.sleep(1)
            yield Progress(phase="step", done=done)

    async def scene() -> None:
        s = Scene(tmp_path)
        s.own.offer("steps", steps)
        job = s.own.add("steps")
        assert [p.done async for p in s.own.follow(job.id)] == [1, 2, 3]
        assert [p async for p in s.own.follow(job.id)] == []
        again = s.own.add("steps")
        await asyncio.sleep(1.5)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(FOLLOWERS_MAX):
                await anext(await stack.enter_async_context(contextlib.aclosing(s.own.follow(again.id))))
            with pytest.raises(LimitExceeded, match="follow jobs already"):
                await anext(s.own.follow(again.id))
        await s.jobs.close()

    run_virtual(scene())


def test_a_paused_run_ends_before_the_next_begins(tmp_path: Path) -> None:
    at_once, most = 0, 0

    async def slow_to_end(running: Running) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            at_once -= 1

    async def scene() -> None:
        s = Scene(tmp_path)
        s.own.offer("slow", slow_to_end)
        job = s.own.add("slow")
        await asyncio.sleep(1)
        s.own.pause(job.id)
        s.own.resume(job.id)
        await asyncio.sleep(5)
        assert (most, at_once, s.states()) == (1, 1, ["running"])
        s.own.cancel(job.id)
        await asyncio.sleep(5)
        await s.jobs.close()
        assert (at_once, s.states()) == (0, ["cancelled"])

    run_virtual(scene())


def test_one_that_fails_again_and_again_is_told(tmp_path: Path) -> None:
    async def fail(running: Running) -> None:
        raise OSError("no paper")

    async def scene() -> None:
        s = Scene(tmp_path)
        s.own.offer("print", fail)
        s.own.add("print")
        await asyncio.sleep(10_000)
        assert s.states() == ["failed"]
        assert s.told == ["the job 'print' failed: OSError: no paper"]
        await s.jobs.close()

    run_virtual(scene())


def test_mains_power_comes_and_goes(tmp_path: Path) -> None:
    async def work(running: Running) -> None:
        await asyncio.sleep(1_000)

    async def scene() -> None:
        s = Scene(tmp_path)
        s.around.now = Surroundings(on_mains=False)
        s.own.offer("heavy", work)
        s.own.add("heavy", when=When(on_mains=True))
        await asyncio.sleep(100)
        assert s.jobs.lines()[0].reason == "waits for mains power"
        s.around.now = Surroundings()
        await asyncio.sleep(100)
        assert s.states() == ["running"]
        s.around.now = Surroundings(on_mains=False)
        await asyncio.sleep(100)
        assert s.states() == ["waiting"]
        await s.jobs.close()

    run_virtual(scene())


def test_an_app_has_no_hand_in_the_jobs_of_others(tmp_path: Path) -> None:
    async def scene() -> None:
        s = Scene(tmp_path)
        job = AppJobs(s.jobs, "other", Tasks()).add("k")
        assert s.own.all() == []
        with pytest.raises(UsageError, match="the app 'guestbook' has no job"):
            s.own.cancel(job.id)
        await s.jobs.close()

    run_virtual(scene())


# ---- what the system says


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("supplies", "is_there"),
    [
        ({}, True),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}, True),
        (
            {"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Discharging"}},
            False,
        ),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, False),
        ({"mouse": {"type": "Battery", "status": "Discharging", "scope": "Device"}}, True),
    ],
)
def test_power_is_what_the_system_says(
    tmp_path: Path, supplies: dict[str, dict[str, str]], is_there: bool
) -> None:
    for name, files in supplies.items():
        supply(tmp_path, name, **files)
    assert is_on_mains(tmp_path) is is_there
    assert is_on_mains(tmp_path / "missing")


@pytest.mark.parametrize(
    ("command", "is_metered"),
    [
        ("echo u 1", True),
        ("echo u 3", True),
        ("echo u 4", False),
        ("echo", False),
        ("false", False),
        ("no-such-program", False),
    ],
)
def test_the_network_manager_is_asked_where_there_is_one(
    tmp_path: Path, command: str, is_metered: bool
) -> None:
    lookout = Lookout(tmp_path, command.split())
    assert run(lookout.look()).is_metered is is_metered


def test_idle_is_how_long_the_load_was_low(tmp_path: Path) -> None:
    load, now = 0.1, 100.0
    lookout = Lookout(tmp_path, ["no-such-program"], lambda: load, lambda: now)
    assert run(lookout.look()).idle_s == 0
    now = 160.0
    assert run(lookout.look()).idle_s == 60
    load = 0.9
    assert run(lookout.look()).idle_s == 0


# ---- through a node


class Guestbook:
    def __init__(self, context: Any) -> None:
        self.context = context

    async def start(self) -> None:
        self.context.jobs.offer("scan", self.scan)

    async def scan(self, running: Running) -> AsyncIterator[Progress]:
        yield Progress(phase="scanning", done=1, total=2, unit="files")
        await asyncio.sleep(60)

    async def close(self) -> None:
        pass


GUESTBOOK = App(name="guestbook", summary="", create=Guestbook, commands="")


def test_the_commands_and_a_restart(tmp_path: Path) -> None:
    by_path = {c.path: c for c in load_commands("node", "coterie.control.commands")}

    async def scene() -> None:
        async def call(*path: str, **parameters: Any) -> Any:
            items = [item async for item in invoke(by_path[path], node, parameters)]
            assert isinstance(items[-1], Result)
            return items[-1].value

        async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
            assert "jobs" not in node.status().services
            job = node.guestbook.context.jobs.add("scan", title="Scan")
            await asyncio.sleep(0.05)
            [line] = await call("jobs")
            assert (line["state"], line["progress"]["phase"]) == ("running", "scanning")
            assert (line["progress"]["done"], line["progress"]["total"]) == (1, 2)
            assert node.status().services["jobs"] == {"running": 1}
            async with contextlib.aclosing(invoke(by_path["jobs", "watch"], node, {"job": job.id})) as items:
                first = await anext(items)
                assert isinstance(first, Event)
                assert first.line()["phase"] == "scanning"
            assert (await call("jobs", "pause", job=job.id))["state"] == "paused"
        async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
            assert (await call("jobs"))[0]["state"] == "paused"
            assert (await call("jobs", "resume", job=job.id))["state"] == "running"
        async with Node.open(tmp_path, offline=True, apps=[]) as node:
            assert (await call("jobs"))[0]["reason"] == "waits for the app 'guestbook'"
            assert (await call("jobs", "cancel", job=job.id))["state"] == "cancelled"

    run(scene())
