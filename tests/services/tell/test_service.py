"""Notices on disk, for those who follow them, and on the desktop; and through a whole node."""

import asyncio
import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.app import App
from coterie.errors import LimitExceeded
from coterie.node import Node
from coterie.services.tell.core import NOTICES_PER_APP_MAX
from coterie.services.tell.desktop import FAILURES_MAX, Desktop
from coterie.services.tell.service import FOLLOWED_MAX, FOLLOWERS_MAX, LINES_MAX, Notices, Tell
from coterie.tasks import Tasks
from tests.support import run, run_virtual

GOLDEN = (
    b'{"id":1,"app":"files","said":"the disk is full","key":"disk","first_at":5.0,"at":5.0,"times":1}\n'
    b'{"id":1,"app":"files","said":"the disk is very full","key":"disk","first_at":5.0,"at":6.0,"times":2}\n'
)


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def notices(folder: Path, **settings: Any) -> Notices:
    return Notices(folder / "notices.jsonl", Tasks(), clock=settings.pop("clock", Clock()), **settings)


def test_the_form_on_disk_stays(tmp_path: Path) -> None:
    clock = Clock()
    told = notices(tmp_path, clock=clock)
    Tell(told, "files").say("the disk is full", key="disk")
    clock.now = 6.0
    Tell(told, "files").say("the disk is very full", key="disk")
    path = tmp_path / "notices.jsonl"
    assert path.read_bytes() == GOLDEN
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(n.said, n.times) for n in notices(tmp_path).all()] == [("the disk is very full", 2)]


def test_a_crash_at_any_byte_loses_at_most_the_last_notice(tmp_path: Path) -> None:
    path = tmp_path / "notices.jsonl"
    for cut in range(len(GOLDEN)):
        path.write_bytes(GOLDEN[:cut])
        told = notices(tmp_path)
        before = len(told.all())
        told.tell("a", "after the crash")
        assert len(notices(tmp_path).all()) == before + 1, f"cut at byte {cut}"
    assert before == 1


def test_the_file_is_bounded(tmp_path: Path) -> None:
    told = notices(tmp_path)
    for number in range(LINES_MAX + 1):
        told.tell("loud", f"{number}")
    lines = (tmp_path / "notices.jsonl").read_bytes().splitlines()
    assert len(lines) == NOTICES_PER_APP_MAX
    assert json.loads(lines[-1])["said"] == f"{LINES_MAX}"


def test_nothing_is_read_or_made_before_there_is_a_notice(tmp_path: Path) -> None:
    told = notices(tmp_path)
    assert told.status() == {}
    assert told.all() == []
    assert told.clear() == 0
    assert not (tmp_path / "notices.jsonl").exists()


def test_a_notice_is_told_although_the_disk_refuses_it(tmp_path: Path) -> None:
    told = Notices(tmp_path / "missing" / "notices.jsonl", Tasks())
    Tell(told, "a").say("still here")
    assert [n.said for n in told.all()] == ["still here"]


def test_an_app_takes_back_its_own_only(tmp_path: Path) -> None:
    told = notices(tmp_path)
    Tell(told, "a").say("full", key="disk")
    Tell(told, "b").say("full", key="disk")
    Tell(told, "a").withdraw("disk")
    assert Tell(told, "a").all() == []
    assert [n.app for n in notices(tmp_path).all()] == ["b"]


def test_one_who_follows_gets_what_is_kept_and_what_comes(tmp_path: Path) -> None:
    async def scene() -> None:
        told = notices(tmp_path)
        told.tell("a", "before")
        async with contextlib.aclosing(told.follow()) as followed:
            assert (await anext(followed)).said == "before"
            told.tell("a", "after")
            assert (await anext(followed)).said == "after"
            for number in range(FOLLOWED_MAX + 1):
                told.tell("a", f"{number}")
            assert (await anext(followed)).said == "1"

    run_virtual(scene())


def test_followers_are_bounded_and_leave(tmp_path: Path) -> None:
    async def scene() -> None:
        told = notices(tmp_path)
        told.tell("a", "x")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(FOLLOWERS_MAX):
                await anext(await stack.enter_async_context(contextlib.aclosing(told.follow())))
            with pytest.raises(LimitExceeded, match=f"{FOLLOWERS_MAX} programs follow"):
                await anext(told.follow())
        async with contextlib.aclosing(told.follow()) as followed:
            await anext(followed)

    run_virtual(scene())


def test_the_desktop_shows_news_and_is_left_alone_when_it_fails(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    broken = False

    async def show(title: str, text: str) -> None:
        shown.append((title, text))
        if broken:
            raise OSError("no notification service")

    async def scene() -> None:
        nonlocal broken
        tasks = Tasks()
        desktop = Desktop(lambda: show)
        told = Notices(tmp_path / "n", tasks, desktop=desktop, clock=Clock())
        told.tell("a", "line\nbreak \x1b[31m")
        told.tell("a", "line\nbreak \x1b[31m")
        await tasks.close(5.0)
        assert shown == [("coterie: a", "line\ufffdbreak \ufffd[31m")]
        broken = True
        for number in range(FAILURES_MAX):
            assert desktop.is_there()
            await desktop.show("a", f"{number}")
        assert not desktop.is_there()

    run(scene())


def test_without_a_desktop_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    assert not Desktop().is_there()


# ---- through a node


class Guestbook:
    def __init__(self, context: Any) -> None:
        self.context = context

    async def start(self) -> None:
        self.context.tell.say("anna wrote in your guestbook")
        raise OSError("its page is torn")

    async def close(self) -> None:
        pass


GUESTBOOK = App(name="guestbook", summary="", create=Guestbook, commands="")


def test_an_app_that_fails_is_told_and_its_own_notices_stay(tmp_path: Path) -> None:
    async def scene() -> None:
        for times in (1, 2):
            async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
                said = [(n.app, n.said, n.times) for n in node.notices.all()]
                assert said == [
                    ("guestbook", "anna wrote in your guestbook", times),
                    (
                        "guestbook",
                        "this app failed: it failed while starting: OSError: its page is torn",
                        times,
                    ),
                ]
                assert node.status().services["notices"] == {"kept": 2}
                assert re.search(r"^notices +2 kept$", node.status().text(), re.MULTILINE)

    run(scene())


def test_what_nobody_uses_leaves_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Node.open(tmp_path, offline=True) as node:
            assert "notices" not in node.status().services
        assert "notices.jsonl" not in os.listdir(tmp_path)

    run(scene())


def test_the_commands_list_follow_and_clear(tmp_path: Path) -> None:
    from coterie.apps.invoke import Event, Result, invoke, load_commands

    by_path = {c.path: c for c in load_commands("node", "coterie.control.commands")}

    async def scene() -> None:
        async with Node.open(tmp_path, offline=True, apps=[]) as node:
            node.notices.tell("a", "one")

            async def call(*path: str, **parameters: Any) -> Any:
                items = [item async for item in invoke(by_path[path], node, parameters)]
                assert isinstance(items[-1], Result)
                return items[-1]

            assert (await call("notices")).value[0]["said"] == "one"
            async with contextlib.aclosing(invoke(by_path["notices",], node, {"follow": True})) as items:
                first = await anext(items)
                assert isinstance(first, Event)
                assert first.line()["live"] is True
                node.notices.tell("b", "two")
                async with asyncio.timeout(5):
                    second = await anext(items)
                assert second.line()["said"] == "two"
            assert (await call("notices", "clear", app="a")).text == "1 notice cleared"
            assert [n.app for n in node.notices.all()] == ["b"]

    run(scene())
