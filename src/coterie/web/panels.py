"""What apps show on the page, beside what the page itself does."""

import importlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie.apps.command import Command
from coterie.apps.panel import Card, Panel, View
from coterie.control.browsers import Browser
from coterie.control.server import NODE_APP

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """Something of the panel of `app`."""

    app: str
    of: Any


class Panels:
    """The panels of the page itself and of apps; one that cannot be loaded is left out, and said in the log."""

    def __init__(self, node: Any, own: Iterable[tuple[str, Panel]]) -> None:
        """`own`: the panels of the page itself."""
        self.all: list[tuple[str, Panel]] = list(own)
        self.folders: dict[str, Path] = {}
        for name, app in node.apps.items():
            if not getattr(app, "panel", ""):
                continue
            try:
                module, _, attribute = app.panel.partition(":")
                found = importlib.import_module(module)
                panel = getattr(found, attribute)
                if not isinstance(panel, Panel):
                    raise TypeError(f"{app.panel} is no Panel")
            except Exception as error:
                log.error("the panel of the app '%s' cannot be loaded", name, exc_info=error)
                continue
            self.all.append((name, panel))
            self.folders[name] = Path(str(found.__file__)).parent / "templates"
        self._views = {view.name: Shown(app, view) for app, view in self._each("views")}
        self._lives = {f"{app}.{live.name}": Shown(app, live) for app, live in self._each("lives")}

    def _each(self, what: str) -> Iterator[tuple[str, Any]]:
        return ((app, one) for app, panel in self.all for one in getattr(panel, what))

    def of(self, app: str) -> list[Panel]:
        """The panels of `app`."""
        return [panel for name, panel in self.all if name == app]

    def view(self, name: str) -> Shown | None:
        """The view called so."""
        return self._views.get(name)

    def live(self, name: str) -> Shown | None:
        """The rows called "APP.NAME"."""
        return self._lives.get(name)

    def navigation(self, browser: Browser) -> list[View]:
        """The views that stand in the navigation of `browser`, in order."""
        views = [shown.of for shown in self._views.values()]
        return sorted((v for v in views if v.place and browser.may(v.right)), key=lambda v: (v.place, v.name))

    def result_template(self, app: str, name: str) -> str:
        """The template of what a command of `app` tells or returns; "": it has none of its own."""
        return next((panel.results[name] for panel in self.of(app) if name in panel.results), "")

    def cards(self, browser: Browser, view: str) -> list[tuple[str, Card]]:
        """The cards of a view with their apps, in order."""
        cards = [(app, card) for app, card in self._each("cards") if card.on == view]
        may = {name for name, shown in self._lives.items() if browser.may(shown.of.right)}
        return sorted(((a, c) for a, c in cards if c.live in may), key=lambda both: both[1].place)

    def may_call(self, browser: Browser, command: Command) -> bool:
        """Whether `browser` has a right that opens `command`; default: only who may do everything."""
        words = " ".join(command.path)
        return browser.may("") or any(
            browser.may(right) and words in opened
            for panel in self.of(command.app)
            for right, opened in panel.rights.items()
        )


def service_of(node: Any, app: str) -> Any:
    """The running service of `app`, the node itself for its own. Raises `NotFound`."""
    return node if app == NODE_APP else node.service(app)
