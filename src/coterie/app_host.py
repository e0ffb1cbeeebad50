"""Apps of a node: found, put in order, started, and kept from hurting it.

One that fails (at import, at start, later) is marked with its reason, what requires it is left out, and everything
else runs. Apps are trusted code: this isolates from faults, not from malice.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Literal, Protocol

import msgspec

from coterie.access.resource import PROTOCOL, kind_fault
from coterie.apps.app import SIGNED_BYTES_MIN, App, Service
from coterie.apps.context import Context
from coterie.errors import NotFound
from coterie.services.mail.signed import CONTEXTS as MAIL_CONTEXTS
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.watchdog import STUCK_S, Stuck, Watchdog
from coterie.wire.record import CONTEXT as RECORD_CONTEXT

log = logging.getLogger(__name__)

APPS_GROUP = "coterie.apps"
START_MAX_S = 10.0  # for one app; guess: ours take under 0.2 s with large homes
CLOSE_MAX_S = 5.0  # for one app; guess: a last message to a peer
STUCK_MAX = 3  # interruptions after which an app is ended; guess: the first may be one bad input
REASON_CHARS_MAX = 300

State = Literal["running", "troubled", "failed", "left out"]


class AppState(msgspec.Struct, frozen=True, kw_only=True):
    """How one app is. `reason` says why it is troubled, failed or left out."""

    name: str
    state: State
    reason: str = ""

    def text(self) -> str:
        """For people: one line."""
        return f"{self.name}: {self.state}" + (f" ({self.reason})" if self.reason else "")


class HostedContext(Context, Protocol):
    """What the host gives to an app, and how it takes that back."""

    async def withdraw(self) -> None:
        """Serve its protocols no longer, end its background work."""
        ...


class AppHost:
    """Starts, isolates and stops apps."""

    def __init__(
        self,
        make_context: Callable[[App], HostedContext],
        tasks: Tasks,
        *,
        stuck_s: float = STUCK_S,
        on_failure: Callable[[str, str], object] = lambda app, reason: None,
    ) -> None:
        """`on_failure` gets the name of each app that fails, and why."""
        self.apps: Mapping[str, App] = MappingProxyType({})
        """Those that can be loaded, in the order of starting, by name."""
        self.started = asyncio.Event()  # whether every app has been asked to start
        self._make_context = make_context
        self._on_failure = on_failure
        self._services: dict[str, Service] = {}
        self._contexts: dict[str, HostedContext] = {}
        self._states: dict[str, AppState] = {}
        self._packages: dict[str, str] = {}
        self._stuck: dict[str, int] = {}
        self._tasks = tasks
        self._stuck_s = stuck_s
        self._watchdog = Watchdog(
            self._owner_of, self._on_stuck, stuck_s=START_MAX_S
        )  # until all have started

    async def start(self, chosen: Sequence[str | App] | None = None, *, first: str = "") -> None:
        """Start the apps that are installed, or of them and of given ones only those `chosen` and what they require.

        `first`: this one, those that are `early`, and what they require; the others wait for `start_rest`.
        """
        apps = self._in_order(self._choose(self._load(chosen), chosen))
        self.apps = MappingProxyType({app.name: app for app in apps})
        self._watchdog.start()
        if not first:
            await self.start_rest()
            return
        wanted = _with_required([first, *(app.name for app in apps if app.early)], self.apps)
        await self._start([app for app in apps if app.name in wanted])

    async def start_rest(self) -> None:
        """Start those that were not started yet."""
        await self._start([app for app in self.apps.values() if app.name not in self._states])
        self._watchdog.stuck_s = self._stuck_s
        self.started.set()

    async def _start(self, apps: Sequence[App]) -> None:
        for app in apps:
            if self._is_imported(app) and self._may_run(app):
                await self._guarded(app, self._create(app))
        for app in apps:
            if app.name in self._services and self._may_run(app):
                await self._guarded(app, self._services[app.name].start())

    def _is_imported(self, app: App) -> bool:
        """Import its module here, where no time is counted; False, and marked, where that fails."""
        try:
            if isinstance(app.create, str):
                importlib.import_module(app.module)
        except (Exception, SystemExit) as error:
            log.error("the app '%s' cannot be loaded", app.name, exc_info=error)
            self._mark(app.name, "failed", f"it cannot be loaded: {_in_words(error)}")
            return False
        return True

    async def close(self) -> None:
        """End all apps, those first that require others. Their services can still be looked at."""
        for app in reversed(list(self.apps)):
            await self._end(app, (self._services.get(app), self._contexts.pop(app, None)))
        self._watchdog.close()
        await self._tasks.close(CLOSE_MAX_S)

    def states(self) -> list[AppState]:
        """Every app that is installed, in the order of starting; those that cannot be loaded first."""
        troubled = {}
        for trouble in self._tasks.troubles():
            app, named, _ = trouble.name.partition(": ")
            if named and app in self._services:
                troubled[app] = trouble.text()
        return [
            AppState(name=state.name, state="troubled", reason=troubled[state.name])
            if state.state == "running" and state.name in troubled
            else state
            for state in self._states.values()
        ]

    def services(self) -> Mapping[str, Any]:
        """The services of what runs."""
        return MappingProxyType(self._services)

    def service(self, app: str) -> Any:
        """The running service of `app`. Raises NotFound, which says why it does not run."""
        if app in self._services:
            return self._services[app]
        state = self._states.get(app)
        if state is not None:
            why = state.reason or "this node is closing"
            raise NotFound(tr("the app '{app}' does not run: {why}", app=app, why=why))
        raise NotFound(
            tr(
                "there is no app '{app}' on this node; it has {services}",
                app=app,
                services=", ".join(self._services) or "none",
            )
        )

    def trouble(self, app: str, reason: str) -> None:
        """Mark an app that goes on although something of it failed."""
        if app in self._services:
            self._mark(app, "troubled", reason)

    def fail(self, app: str, reason: str) -> None:
        """End an app that runs, and what requires it."""
        if app not in self._services:
            return
        self._mark(app, "failed", reason)
        log.error("the app '%s' was ended: %s", app, reason)
        for other in self.apps.values():
            if other.name in self._services and app in _with_required(other.requires, self.apps):
                self._mark(other.name, "left out", f"it needs '{app}', which does not run")
                self._end_later(other.name)
        self._end_later(app)

    def _load(self, chosen: Sequence[str | App] | None) -> dict[str, App]:
        apps: dict[str, App] = {}
        for entry in sorted(entry_points(group=APPS_GROUP), key=lambda entry: entry.name):
            try:
                app = _load_entry(entry)
            except (Exception, SystemExit) as error:
                log.error("the app '%s' cannot be loaded", entry.name, exc_info=error)
                self._mark(entry.name, "failed", f"it cannot be loaded: {_in_words(error)}")
                continue
            apps[app.name] = app
            self._packages[app.name] = entry.module.rpartition(".")[0] or entry.module
        given = [app for app in chosen or () if isinstance(app, App)]
        for app in given:
            self._packages[app.name] = app.module
        return apps | {app.name: app for app in given}

    def _choose(self, apps: dict[str, App], chosen: Sequence[str | App] | None) -> dict[str, App]:
        if chosen is None:
            return apps
        wanted = [app.name if isinstance(app, App) else app for app in chosen]
        for name in wanted:
            if name not in apps and name not in self._states:
                raise NotFound(
                    tr(
                        "the app '{name}' is not installed; installed: {apps}",
                        name=name,
                        apps=", ".join(apps) or "none",
                    )
                )
        kept = _with_required(wanted, apps)
        self._states = {name: state for name, state in self._states.items() if name in kept}
        return {name: app for name, app in apps.items() if name in kept}

    def _in_order(self, apps: dict[str, App]) -> list[App]:
        """Those first that others require; what lacks something, or waits for itself, is left out."""
        ordered: dict[str, App] = {}
        waiting = dict(apps)
        while ready := [a for a in waiting.values() if all(name in ordered for name in a.requires)]:
            for app in ready:
                ordered[app.name] = waiting.pop(app.name)
        for app in waiting.values():
            missing = [name for name in app.requires if name not in ordered]
            why = (
                "which waits for it in turn"
                if all(name in waiting for name in missing)
                else "which does not run"
            )
            absent = [name for name in missing if name not in waiting] or missing
            self._mark(app.name, "left out", f"it needs '{absent[0]}', {why}")
        return list(ordered.values())

    async def _create(self, app: App) -> None:
        self._check_signs(app)
        self._check_kinds(app)
        self._contexts[app.name] = context = self._make_context(app)
        self._services[app.name] = _created(app, context, *(self._services[name] for name in app.requires))
        self._mark(app.name, "running", "")

    def _check_signs(self, app: App) -> None:
        """Raises ValueError where a signature of `app` might be taken for one with another purpose."""
        taken = dict.fromkeys((RECORD_CONTEXT, *MAIL_CONTEXTS), "the node") | {
            begin: f"'{other}'" for other in self._services for begin in self.apps[other].signs
        }
        for mine in app.signs:
            if len(mine) < SIGNED_BYTES_MIN:
                raise ValueError(f"what it signs begins with fewer than {SIGNED_BYTES_MIN} bytes: {mine!r}")
            for theirs, owner in taken.items():
                if mine.startswith(theirs) or theirs.startswith(mine):
                    raise ValueError(f"it wants to sign what {owner} signs: {mine!r}")

    def _check_kinds(self, app: App) -> None:
        """Raises ValueError where `app` declares a kind of resources that cannot be, or that another one has."""
        taken = {PROTOCOL.name: "the node"} | {
            kind.name: f"'{other}'" for other in self._services for kind in self.apps[other].kinds
        }
        for kind in app.kinds:
            if fault := kind_fault(kind):
                raise ValueError(fault)
            if kind.name in taken:
                raise ValueError(
                    f"it declares the kind of resources '{kind.name}', as {taken[kind.name]} does"
                )

    def _may_run(self, app: App) -> bool:
        """False, and marked, when what `app` requires does not run."""
        missing = next((name for name in app.requires if name not in self._services), None)
        if missing is None:
            return True
        self._mark(app.name, "left out", f"it needs '{missing}', which does not run")
        if app.name in self._services:
            self._end_later(app.name)
        return False

    async def _guarded(self, app: App, work: Any) -> None:
        """Do one step of starting `app`, within its time; a failure ends the app and nothing else."""
        task = self._tasks.start(work, f"start {app.name}", is_awaited=True)
        done, _ = await asyncio.wait({task}, timeout=START_MAX_S)
        if not done:
            task.cancel()  # if it does not listen, it goes on in the background
            self._mark(app.name, "failed", f"it did not start within {START_MAX_S:g} s")
        elif task.cancelled():
            self._mark(app.name, "failed", "it cancelled its own start")
        elif (error := task.exception()) is None:
            return
        else:
            log.error("the app '%s' failed while starting", app.name, exc_info=error)
            self._mark(app.name, "failed", f"it failed while starting: {_in_words(error)}")
        if app.name in self._contexts:
            await self._end(app.name, self._take(app.name))

    def _end_later(self, app: str) -> None:
        self._tasks.start(self._end(app, self._take(app)), f"end {app}", is_awaited=True)

    def _take(self, app: str) -> "tuple[Service | None, HostedContext | None]":
        """From now on nobody gets the service any more."""
        return self._services.pop(app, None), self._contexts.pop(app, None)

    async def _end(self, app: str, taken: "tuple[Service | None, HostedContext | None]") -> None:
        """Close the service, then take everything back. Whatever goes wrong is logged: others are to be closed too."""
        service, context = taken
        for what in (service.close() if service else None, context.withdraw() if context else None):
            if what is None:
                continue
            try:
                async with asyncio.timeout(CLOSE_MAX_S):
                    await what
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                log.error("closing the app '%s' failed: it awaited what it had cancelled", app)
            except (Exception, SystemExit, Stuck) as error:
                log.error("closing the app '%s' failed", app, exc_info=error)

    def _owner_of(self, module: str) -> str | None:
        for app, package in self._packages.items():
            if package and (module == package or module.startswith(f"{package}.")):
                return app
        return None

    def _on_stuck(self, app: str, place: str) -> None:
        self._stuck[app] = self._stuck.get(app, 0) + 1
        reason = f"its code kept the node busy and was interrupted, in {place}"
        if self._stuck[app] >= STUCK_MAX:
            self.fail(app, f"{reason}, {STUCK_MAX} times")
        else:
            self.trouble(app, reason)

    def _mark(self, app: str, state: State, reason: str) -> None:
        self._states[app] = AppState(name=app, state=state, reason=reason[:REASON_CHARS_MAX])
        if state == "failed":
            self._on_failure(app, reason)


def _with_required(wanted: Iterable[str], apps: Mapping[str, App]) -> set[str]:
    """The names of all that is wanted, and of what that requires, directly or not."""
    found: set[str] = set()
    left = list(wanted)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(apps[name].requires if name in apps else ())
    return found


def _load_entry(entry: EntryPoint) -> App:
    app = entry.load()
    if not isinstance(app, App):
        raise TypeError(f"{entry.value} is no App")
    if app.name != entry.name:
        raise ValueError(f"it calls itself '{app.name}', and is registered as '{entry.name}'")
    return app


def _created(app: App, context: Context, *required: Service) -> Service:
    if not isinstance(app.create, str):
        return app.create(context, *required)
    module, _, name = app.create.partition(":")
    service: Service = getattr(importlib.import_module(module), name)(context, *required)
    return service


def _in_words(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
