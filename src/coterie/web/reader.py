"""One request of a browser, as the functions of panels get it."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from coterie.apps.command import Command
from coterie.apps.invoke import Result, invoke
from coterie.apps.panel import Answer
from coterie.control.browsers import Browser
from coterie.errors import AccessDenied, NotFound
from coterie.texts import tr
from coterie.web.calls import Calls
from coterie.web.panels import Panels, service_of
from coterie.web.wording import title_of

BESIDE_MAX = 8  # commands that a form shows beside itself


class Commands:
    """Every command of the node, by its words."""

    def __init__(self, commands: Any) -> None:
        """`commands`: those of the node and of all apps."""
        self.all: list[Command] = list(commands)
        self._by_words: dict[str, Command] = {}
        self._by_path = {(c.app, "-".join(c.path)): c for c in self.all}
        for command in self.all:
            self._by_words.setdefault(" ".join(command.path), command)

    def called(self, words: str) -> Command:
        """The command with these words. Raises `NotFound`: the app that has it is not here."""
        if (found := self._by_words.get(words)) is None:
            raise NotFound(tr("there is no command '{words}' here", words=words))
        return found

    def beside(self, command: Command) -> list[Command]:
        """Others about the same: of the same first word, else of the same app; BESIDE_MAX at most, each title once."""
        of_app = [c for c in self.all if c.app == command.app and title_of(c) != title_of(command)]
        root = command.path[0].rstrip("s")
        near = [c for c in of_app if c.path[0].rstrip("s") == root]
        once = {title_of(c): c for c in (near + [c for c in of_app if c.purpose == command.purpose])}
        return [*once.values()][:BESIDE_MAX]

    def at(self, app: str, path: str) -> Command:
        """The command at /do/APP/PATH. Raises `NotFound`."""
        if (found := self._by_path.get((app, path))) is None:
            raise NotFound(tr("there is no command '{words}' here", words=path.replace("-", " ")))
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A `coterie.apps.panel.Reader`."""

    node: Any
    app: str
    browser: Browser
    commands: Commands
    panels: Panels
    args: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    calls: Calls | None = None
    is_skipped: bool = False

    @property
    def service(self) -> Any:
        return service_of(self.node, self.app)

    def of(self, app: str, args: Mapping[str, str] | None = None) -> "Asked":
        """The same request for the panel of another app."""
        given = self.args if args is None else args
        return replace(self, app=app, args=given)

    def name_of(self, short_id: str) -> str:
        return str(self.node.people.by_short_id().get(short_id, short_id))

    def may_call(self, words: str) -> bool:
        """Whether this browser may use the command with these words."""
        return self.panels.may_call(self.browser, self.commands.called(words))

    def button(self, answer: Answer) -> dict[str, Any]:
        """`answer` as templates draw it: see "button.html"."""
        command = self.commands.called(answer.words)
        return {
            "path": f"/do/{command.app}/{'-'.join(command.path)}",
            "label": answer.label,
            "parameters": {**answer.parameters},
            "icon": answer.icon,
            "is_main": answer.is_main,
            "undo": answer.undo,
        }

    async def call(self, words: str, **parameters: Any) -> Any:
        command = self.commands.called(words)
        if not self.panels.may_call(self.browser, command):
            raise AccessDenied(tr("this browser may not use `coterie {words}`", words=words))
        parameters = self.panels.checked(self.browser, command, parameters)
        service = service_of(self.node, command.app)
        items = invoke(command, service, parameters, in_names=self.node.people.in_names)
        result: Any = None
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Result):
                    result = item.value
        return result
