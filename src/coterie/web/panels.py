"""What apps show on the page, beside what the page itself does."""

import contextlib
import importlib
import logging
import os.path
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie.access.names import fit
from coterie.access.resource import PROTOCOL, ResourceKind
from coterie.apps.command import Command
from coterie.apps.panel import Card, Panel, View
from coterie.control.browsers import Browser
from coterie.control.server import NODE_APP
from coterie.errors import AccessDenied, CoterieError
from coterie.texts import tr
from coterie.web import rights

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
        self._node = node
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

    def kinds(self) -> list[ResourceKind]:
        """The kinds of resources there are here."""
        return [PROTOCOL, *(kind for app in self._node.apps.values() for kind in getattr(app, "kinds", ()))]

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

    def templates(self, view: str = "") -> list[str]:
        """The templates that the page of `view` needs: its own, those of its app and cards; "": those of all views."""
        shown = [one for name, one in self._views.items() if view in ("", name)]
        cards = [card for _, card in self._each("cards") if view in ("", card.on)]
        apps, carded = {one.app for one in shown}, {card.live for card in cards}
        lives = [live.of for name, live in self._lives.items() if live.app in apps or name in carded]
        return [
            *(one.of.template for one in shown),
            "base.html",
            "cards.html",
            *(card.empty for card in cards if card.empty),
            *(live.template for live in lives),
        ]

    def may_call(self, browser: Browser, command: Command) -> bool:
        """Whether `browser` has a right that opens `command`; default: only who may do everything."""
        return browser.may("") or rights.may_call(browser.rights, command, self.rights_of(command))

    def checked(self, browser: Browser, command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a call by `browser`. Raises `AccessDenied`: it may not, or names files that it may not."""
        if browser.may(""):
            return dict(given)
        roots = self._roots(browser)
        return rights.check_call(browser.rights, command, given, roots, self.rights_of(command))

    def check_file(self, browser: Browser, path: Path) -> None:
        """Raises `AccessDenied` where `browser` may not see this file."""
        if not browser.may("") and not (
            browser.may(rights.SHOWN) and rights.is_inside(str(path), self._roots(browser))
        ):
            raise AccessDenied(tr("this browser may not see {path}", path=path))

    def kept_folder(self, browser: Browser) -> Path:
        """Where what `browser` keeps here goes: the folder of its owner, or for a phone one of its own below."""
        if browser.may(""):
            return Path.home()
        return self._downloads() / (fit(browser.name) or browser.id)

    def _roots(self, browser: Browser) -> list[Path]:
        """The real paths of the folders that a phone may name files in: its own first, what arrives, what is shared."""
        found = [self.kept_folder(browser), self._downloads()]
        with contextlib.suppress(CoterieError):  # the app does not run
            found += [Path(share.path) for share in self._node.service("files").shared()]
        return [Path(os.path.realpath(one)) for one in dict.fromkeys(found)]

    def _downloads(self) -> Path:
        said = self._node.config.app.get("send", {}).get("folder", "~/Downloads")
        return Path(str(said)).expanduser()

    def rights_of(self, command: Command) -> Mapping[str, tuple[str, ...]]:
        """What the app of `command` says which rights open."""
        return {right: its for panel in self.of(command.app) for right, its in panel.rights.items()}


def service_of(node: Any, app: str) -> Any:
    """The running service of `app`, the node itself for its own. Raises `NotFound`."""
    return node if app == NODE_APP else node.service(app)
