"""In front of the page: whether a phone may ask for this route at all, and what goes to the origin of files."""

from typing import Any

from starlette.responses import PlainTextResponse

from coterie.control.browsers import Browser
from coterie.control.page_gate import BROWSER, FILES
from coterie.control.request_body import Asgi, Receive, Send
from coterie.errors import NotFound
from coterie.texts import tr
from coterie.web.panels import Panels
from coterie.web.reader import Commands
from coterie.web.rights import may_ask, right_of


class Guard:
    """ASGI wrapper around the routes of the page."""

    def __init__(self, app: Asgi, files: Asgi, panels: Panels, commands: Commands) -> None:
        """`files` answers what comes to the origin of files of others."""
        self._app = app
        self._files = files
        self._panels = panels
        self._commands = commands

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass on what may be asked; answer 403 to the rest."""
        if scope.get(FILES):
            await self._files(scope, receive, send)
            return
        browser: Browser | None = scope.get(BROWSER)
        if browser is None or may_ask(browser.rights, scope["path"], self._right_at, self._right_of_view):
            await self._app(scope, receive, send)  # without a browser only files of the program come here
            return
        if scope["type"] == "http":
            text = tr("This phone may not do this. On the computer: coterie phone may")
            await PlainTextResponse(text + "\n", 403)(scope, receive, send)

    def _right_at(self, app: str, path: str) -> str | None:
        try:
            command = self._commands.at(app, path)
        except NotFound:
            return None
        return right_of(command, self._panels.rights_of(command))

    def _right_of_view(self, name: str) -> str | None:
        shown = self._panels.view(name)
        return None if shown is None else str(shown.of.right)
