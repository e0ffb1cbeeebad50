"""One app that fails harms no other: at import, at start, later; each time it is said which and why."""

import asyncio
import dataclasses
import sys
import time
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from coterie import app_host
from coterie.access.resource import ResourceKind, Verb
from coterie.app_host import STUCK_MAX, AppHost
from coterie.apps.app import App
from coterie.errors import NotFound
from coterie.tasks import Tasks
from tests.support import run, run_virtual


class Context:
    """What the host needs of a context: whether it was taken back."""

    def __init__(self, app: App, withdrawn: list[str]) -> None:
        self._name = app.name
        self._withdrawn = withdrawn

    async def withdraw(self) -> None:
        self._withdrawn.append(self._name)


class Good:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    async def start(self) -> None:
        self.log.append(f"start {self.name}")

    async def close(self) -> None:
        self.log.append(f"close {self.name}")


class Scene:
    """Apps made up for one test, and what happened."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.withdrawn: list[str] = []
        self.host = AppHost(lambda app: Context(app, self.withdrawn), Tasks(), stuck_s=0.6)  # type: ignore[arg-type,return-value]

    def app(self, name: str, *requires: str, service: Any = None) -> App:
        return App(
            name=name,
            summary="",
            create=lambda context, *required: service or Good(self.log, name),
            commands="",
            requires=requires,
        )

    def says(self) -> dict[str, tuple[str, str]]:
        return {state.name: (state.state, state.reason) for state in self.host.states()}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points instead of those of this environment."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(app_host, "entry_points", lambda group: points)
    return points


def test_they_start_in_the_order_of_what_they_require_and_close_the_other_way(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()
        await s.host.start([s.app("a", "c"), s.app("b"), s.app("c", "b")])
        await s.host.close()
        assert s.log == ["start b", "start c", "start a", "close a", "close c", "close b"]
        assert s.withdrawn == ["a", "c", "b"]

    run_virtual(scene())


def test_a_command_that_is_soon_over_waits_for_its_own_app_and_the_early_ones(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()
        early = dataclasses.replace(s.app("early"), early=True)
        await s.host.start([s.app("a", "b"), s.app("b"), s.app("late", "a"), early], first="a")
        assert s.log == ["start b", "start early", "start a"]
        assert not s.host.started.is_set()
        with pytest.raises(NotFound, match="late"):
            s.host.service("late")
        await s.host.start_rest()
        assert s.log[3:] == ["start late"]
        assert s.host.started.is_set()
        await s.host.close()
        assert s.log[4:] == ["close late", "close a", "close early", "close b"]

    run_virtual(scene())


def test_what_cannot_be_loaded_is_named_and_the_rest_runs(installed: list[EntryPoint]) -> None:
    installed += [
        EntryPoint("missing", "no_such_module_at_all:APP", app_host.APPS_GROUP),
        EntryPoint("raising", "tests.fakes.app_that_raises:APP", app_host.APPS_GROUP),
        EntryPoint("nothing", "tests.support:run", app_host.APPS_GROUP),
        EntryPoint("alias", "coterie.apps.overlay.app:APP", app_host.APPS_GROUP),
    ]

    async def scene() -> None:
        s = Scene()
        await s.host.start(
            [s.app("good"), s.app("needy", "missing"), "missing", "raising", "nothing", "alias"]
        )
        said = s.says()
        assert said["good"] == ("running", "")
        assert said["needy"] == ("left out", "it needs 'missing', which does not run")
        assert "No module named 'no_such_module_at_all'" in said["missing"][1]
        assert said["raising"] == ("failed", "it cannot be loaded: ZeroDivisionError: division by zero")
        assert "is no App" in said["nothing"][1]
        assert "calls itself 'overlay', and is registered as 'alias'" in said["alias"][1]
        with pytest.raises(NotFound, match="does not run: it cannot be loaded: ZeroDivisionError"):
            s.host.service("raising")
        await s.host.close()

    run_virtual(scene())


def test_a_circle_of_requirements_is_left_out(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()
        await s.host.start([s.app("a", "b"), s.app("b", "a"), s.app("good")])
        assert s.says()["a"] == ("left out", "it needs 'b', which waits for it in turn")
        assert s.says()["good"][0] == "running"
        await s.host.close()

    run_virtual(scene())


def test_one_whose_creation_or_start_raises(installed: Any) -> None:
    class Raises(Good):
        async def start(self) -> None:
            raise RuntimeError("no luck\ntoday")

    def refuse(context: Any) -> Any:
        raise OSError("no disk")

    async def scene() -> None:
        s = Scene()
        broken = App(name="broken", summary="", create=refuse, commands="")
        raises = s.app("raises", service=Raises(s.log, "raises"))
        await s.host.start([broken, raises, s.app("needs", "raises"), s.app("good")])
        assert s.says()["broken"] == ("failed", "it failed while starting: OSError: no disk")
        assert s.says()["raises"] == ("failed", "it failed while starting: RuntimeError: no luck today")
        assert s.says()["needs"] == ("left out", "it needs 'raises', which does not run")
        assert s.says()["good"] == ("running", "")
        await asyncio.sleep(1)
        assert sorted(s.withdrawn) == ["broken", "needs", "raises"]
        assert list(s.host.services()) == ["good"]
        await s.host.close()

    run_virtual(scene())


def test_one_whose_start_hangs_and_one_whose_close_hangs(installed: Any) -> None:
    class Hangs(Good):
        async def start(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            await asyncio.Event().wait()

    async def scene() -> None:
        s = Scene()
        await s.host.start([s.app("hangs", service=Hangs(s.log, "hangs")), s.app("good")])
        assert s.says()["hangs"] == ("failed", "it did not start within 10 s")
        assert s.says()["good"] == ("running", "")
        assert s.withdrawn == ["hangs"]
        await s.host.close()

    run_virtual(scene())


def test_one_that_is_ended_later_takes_along_what_requires_it(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()
        await s.host.start([s.app("a"), s.app("b", "a"), s.app("c", "b"), s.app("good")])
        s.host.fail("a", "its database is gone")
        s.host.fail("a", "and again")
        await asyncio.sleep(1)
        assert s.says()["a"] == ("failed", "its database is gone")
        assert s.says()["c"] == ("left out", "it needs 'a', which does not run")
        assert list(s.host.services()) == ["good"]
        assert sorted(s.withdrawn) == ["a", "b", "c"]
        await s.host.close()
        assert s.log[-1] == "close good"

    run_virtual(scene())


def loop_for_ever() -> None:
    end = time.thread_time() + 60
    while time.thread_time() < end:
        pass


def test_a_handler_that_loops_is_interrupted_and_the_third_time_the_app_ends(installed: Any) -> None:
    async def handler() -> None:
        loop_for_ever()

    def create(context: Any) -> Any:  # its module is the one whose code may be interrupted
        return Good([], "loops")

    async def scene() -> None:
        s = Scene()
        await s.host.start([App(name="loops", summary="", create=create, commands=""), s.app("good")])
        for time_no in range(1, STUCK_MAX + 1):
            await asyncio.gather(asyncio.ensure_future(handler()), return_exceptions=True)
            await asyncio.sleep(0.01)
            state, reason = s.says()["loops"]
            assert state == ("failed" if time_no == STUCK_MAX else "troubled")
            assert (
                "kept the node busy and was interrupted, in tests.test_app_host.loop_for_ever, line" in reason
            )
        assert list(s.host.services()) == ["good"]
        await s.host.close()

    run(scene())


def test_a_service_is_made_with_those_that_it_requires_in_their_order(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()
        got: list[Any] = []

        def create(context: Any, *required: Any) -> Good:
            got.extend(required)
            return Good(s.log, "c")

        c = App(name="c", summary="", create=create, commands="", requires=("b", "a"))
        await s.host.start([c, s.app("a"), s.app("b", "a")])
        assert got == [s.host.service("b"), s.host.service("a")]
        await s.host.close()

    run(scene())


def test_chosen_ones_bring_what_they_require(installed: list[EntryPoint]) -> None:
    installed += [
        EntryPoint(name, f"coterie.apps.{name}.app:APP", app_host.APPS_GROUP)
        for name in ("circles", "contacts", "grants")
    ]

    async def scene() -> None:
        s = Scene()
        with pytest.raises(NotFound, match="'chess' is not installed; installed: circles, contacts, grants"):
            await s.host.start(["chess"])

    run_virtual(scene())


def test_a_kind_of_resources_belongs_to_one_app(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()

        def having(name: str, kind: str, verbs: Verb = Verb.READ) -> App:
            kinds = (ResourceKind(kind, verbs, "something"),)
            return App(name=name, summary="", create=lambda c: Good(s.log, name), commands="", kinds=kinds)

        await s.host.start(
            [
                having("a", "letter"),
                having("b", "letter"),
                having("c", "protocol"),
                having("d", "letter/private"),
                having("e", "Letter"),
                having("f", "picture", Verb(0)),
                having("g", "picture", Verb(32)),
                having("h", "picture"),
            ]
        )
        said = s.says()
        assert (said["a"][0], said["h"][0]) == ("running", "running")
        assert "declares the kind of resources 'letter', as 'a' does" in said["b"][1]
        assert "as the node does" in said["c"][1]
        assert "'letter/private' cannot be a kind" in said["d"][1]
        assert "'Letter' cannot be a kind" in said["e"][1]
        assert "'picture' has no verbs" in said["f"][1]
        assert "'picture' has no verbs" in said["g"][1]
        await s.host.close()

    run_virtual(scene())


def test_a_signature_for_one_purpose_is_never_good_for_another(installed: Any) -> None:
    async def scene() -> None:
        s = Scene()

        def signing(name: str, *begins: bytes) -> App:
            return App(name=name, summary="", create=lambda c: Good(s.log, name), commands="", signs=begins)

        await s.host.start(
            [
                signing("a", b"letters 1\0"),
                signing("b", b"letters 1\0of b"),
                signing("c", b"short"),
                signing("d", b""),
                signing("e", b"coterie peer record\0"),
                signing("f", b"pictures 1\0"),
            ]
        )
        said = s.says()
        assert (said["a"][0], said["f"][0]) == ("running", "running")
        assert "it wants to sign what 'a' signs" in said["b"][1]
        assert "fewer than 8 bytes" in said["c"][1]
        assert "fewer than 8 bytes" in said["d"][1]
        assert "it wants to sign what the node signs" in said["e"][1]
        await s.host.close()

    run_virtual(scene())


def test_one_that_wants_to_end_the_program_ends_only_itself(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At import, at start, in work of its own, when it is closed."""
    real = EntryPoint.load
    monkeypatch.setattr(
        EntryPoint, "load", lambda point: sys.exit(3) if point.name == "script" else real(point)
    )
    installed.append(EntryPoint("script", "no_such_module_at_all:APP", app_host.APPS_GROUP))

    async def leave() -> None:
        sys.exit(4)

    class Leaves(Good):
        async def start(self) -> None:
            await leave()

    class LeavesLate(Good):
        async def close(self) -> None:
            await leave()

    async def scene() -> None:
        s, tasks = Scene(), Tasks()
        leaves = s.app("leaves", service=Leaves(s.log, "leaves"))
        late = s.app("late", service=LeavesLate(s.log, "late"))
        await s.host.start([s.app("good"), late, leaves, "script"])
        assert s.says()["script"] == ("failed", "it cannot be loaded: SystemExit: 3")
        assert s.says()["leaves"][0] == "failed"
        assert "sys.exit(4)" in s.says()["leaves"][1]
        once, lasting = tasks.start(leave(), "once"), tasks.keep(leave, "lasting")
        await asyncio.sleep(0.1)
        assert sorted(trouble.name for trouble in tasks.troubles()) == ["lasting", "once"]
        assert once.done()
        assert not lasting.done()
        await tasks.close()
        await s.host.close()
        assert s.log[-1] == "close good"

    run_virtual(scene())


def test_one_that_awaits_what_it_has_cancelled_keeps_no_other_from_being_closed(installed: Any) -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        await asyncio.sleep(0)
        task.cancel()
        await task

    class Careless(Good):
        async def close(self) -> None:
            await cancelled()

    class NeverUp(Good):
        async def start(self) -> None:
            await cancelled()

    async def scene() -> None:
        s = Scene()
        careless = s.app("careless", service=Careless(s.log, "careless"))
        await s.host.start([s.app("good"), careless, s.app("never", service=NeverUp(s.log, "never"))])
        assert s.says()["never"] == ("failed", "it cancelled its own start")
        await s.host.close()
        assert s.log[-1] == "close good"
        assert sorted(s.withdrawn) == ["careless", "good", "never"]

    run_virtual(scene())
