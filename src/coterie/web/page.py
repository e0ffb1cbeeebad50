"""The page as an ASGI application: views, forms of every command, calls, live rows, search, files of the program.

Whoever asks has passed `coterie.control.page_gate`; which rights the browser has stands in the scope.
"""

import contextlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from coterie.apps.command import Command
from coterie.apps.panel import View
from coterie.control.answers import status_of
from coterie.control.browsers import Browser
from coterie.control.page_gate import BROWSER
from coterie.control.request_body import Asgi
from coterie.control.server import Surroundings
from coterie.errors import AccessDenied, CoterieError, NotFound
from coterie.home import Home
from coterie.texts import tr
from coterie.web import home
from coterie.web.arrivals import Arrivals
from coterie.web.calls import Call, Calls, said
from coterie.web.folders import folder_lines
from coterie.web.forms import fields_of, read_form, read_pairs
from coterie.web.guard import Guard
from coterie.web.live import Link, Lives
from coterie.web.panels import Panels
from coterie.web.phones import PREFIX, Everybody, service_in
from coterie.web.previews.decoding import missing
from coterie.web.reader import Asked, Commands
from coterie.web.search import found_by
from coterie.web.shown import FilesShown
from coterie.web.templates import STATIC, Templates
from coterie.web.uploads import UploadFolder, Uploads
from coterie.web.wording import Wording, by_purpose, in_words

log = logging.getLogger(__name__)

LISTED_MAX = 500  # values that a picker offers
WINDOW = 50  # rows of a list that stand in the page when it is loaded
STATIC_KINDS = {  # systems have tables of their own, some of them wrong
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
STATIC_S = 365 * 86_400  # a changed file has another address
SKIPPED = "coterie-skipped"  # the cookie of who wants no first steps
THEMES = ("auto", "light", "dark")


def make_page(given: Surroundings) -> Asgi:
    """The application."""
    return Page(given).app


class Page:
    """All that a browser may ask."""

    def __init__(self, given: Surroundings) -> None:
        self._node = given.node
        self._browsers = given.browsers
        self._closing = given.closing
        self._commands = Commands(given.commands)
        self._panels = Panels(given.node, [home.panel()])
        home_folder = Home.locate(given.node.home)
        self._templates = Templates(
            self._panels.folders, Wording(self._commands.all), home_folder.compiled_templates
        )
        self._templates.offer(
            shown_as=self._panels.result_template,
            things=in_words(self._panels.kinds()),
            previews_missing=missing,
        )
        self._lives = Lives(self._panels, self._reader)
        self._everybody = Everybody(given.browsers, given.node)
        self._calls = Calls(given.node, self._everybody.still)
        self._uploads = Uploads(
            UploadFolder(home_folder.uploads),
            lambda request: _browser(request).id,
            is_few=lambda request: not _browser(request).may(""),
            may_still=lambda request: self._everybody.still(_browser(request)) is not None,
        )
        self._uploads.keep_swept(given.node.tasks)
        self._arrivals = Arrivals(
            given.node,
            self._uploads,
            self._commands.called,
            self._panels.kept_folder,
            self._everybody.with_id,
        )
        self._arrivals.start()
        self._files = FilesShown(given.node, self._panels, self._everybody)
        if (phones := service_in(given.node)) is not None:
            phones.on_removed(self._removed)
        ahead = self._panels.templates("home"), self._panels.templates()
        given.node.tasks.start(self._templates.compile_ahead(*ahead), "compiling templates")
        app = Starlette(
            routes=[
                Route("/", self._home),
                Route("/sw.js", self._worker),
                *self._files.routes(),
                *self._arrivals.routes(),
                *self._uploads.routes(),
                Route("/static/{path:path}", self._static),
                Route("/favicon.ico", self._favicon),
                Route("/do", self._everything),
                Route("/do/{app}/{command}", self._form, methods=["GET"]),
                Route("/do/{app}/{command}", self._do, methods=["POST"]),
                Route("/values/{app}/{command}/{parameter}", self._values),
                Route("/folders", self._folders),
                Route("/calls/{id}", self._call),
                Route("/calls/{id}/cancel", self._cancel, methods=["POST"]),
                Route("/search", self._search),
                Route("/theme", self._theme, methods=["POST"]),
                Route("/skip", self._skip, methods=["POST"]),
                WebSocketRoute("/live", self._live),
                Route("/{view}", self._view),
                Route("/{view}/-/{part}", self._part),
                Route(
                    "/{view}/=/{rest:path}", self._answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]
                ),
                Route("/{view}/{rest:path}", self._view),
            ],
            exception_handlers={Exception: self._failed, CoterieError: self._failed, 404: self._missing},
        )
        self.routes = app.routes
        self.app = Guard(app, self._files.previews, self._panels, self._commands)

    # ---- views

    async def _home(self, request: Request) -> Response:
        return await self._show("home", request, "")

    async def _view(self, request: Request) -> Response:
        name = request.path_params["view"]
        return await self._show(name, request, request.path_params.get("rest", ""))

    async def _show(self, name: str, request: Request, path: str) -> Response:
        app, view = self._find(name, request)
        asked = self._asked(request, app, path)
        return await self._html(
            view.template, request, **await _settled(view.fill(asked)), view=view, asked=asked
        )

    async def _part(self, request: Request) -> Response:
        app, view = self._find(request.path_params["view"], request)
        if (part := view.parts.get(request.path_params["part"])) is None:
            raise NotFound(tr("there is no page here"))
        template, fill = part
        asked = self._asked(request, app, "")
        return await self._html(template, request, **await _settled(fill(asked)), view=view, asked=asked)

    async def _answer(self, request: Request) -> Response:
        app, view = self._find(request.path_params["view"], request)
        if view.answers is None:
            raise NotFound(tr("there is no page here"))
        response: Response = await view.answers(
            self._asked(request, app, request.path_params["rest"]), request
        )
        return response

    def _find(self, name: str, request: Request) -> tuple[str, View]:
        shown = self._panels.view(name)
        if shown is None:
            raise NotFound(tr("there is no page here"))
        if not _browser(request).may(shown.of.right):
            raise AccessDenied(tr("this browser may not see this"))
        return shown.app, shown.of

    # ---- forms and calls

    async def _everything(self, request: Request) -> Response:
        browser = _browser(request)
        purposes = by_purpose(c for c in self._commands.all if self._panels.may_call(browser, c))
        return await self._html("everything.html", request, purposes=purposes)

    async def _form(self, request: Request) -> Response:
        command = self._command(request)
        fields = fields_of(command, {**request.query_params})
        beside = [c for c in self._commands.beside(command) if self._panels.may_call(_browser(request), c)]
        return await self._html(
            "form.html", request, command=command, fields=fields, beside=beside, call=None
        )

    async def _do(self, request: Request) -> Response:
        command = self._command(request)
        form = await _form(request)
        try:
            here = str(self._panels.kept_folder(_browser(request)))
            parameters = self._panels.checked(_browser(request), command, read_form(command, form, here))
            call = self._calls.start(command, parameters, _browser(request))
            await self._calls.quick(call)
            if call.state == "failed" and call.error is not None:
                return await self._refused(command, form, call.error, request)
        except CoterieError as error:
            return await self._refused(command, form, said(error), request)
        return await self._shown(call, request)

    async def _refused(
        self, command: Command, form: Sequence[tuple[str, str]], error: Mapping[str, str], request: Request
    ) -> Response:
        """What went wrong, with what can be chosen then."""
        asks = command.asks.get(error["code"], ())
        template = "toast.html" if _wants(request, "toast") else "refused.html"
        return await self._html(
            template,
            request,
            command=command,
            form=form,
            error=error,
            asks=asks,
            call=None,
            said=error["message"],
        )

    async def _shown(self, call: Call, request: Request) -> Response:
        if _wants(request, "toast"):
            return await self._html("toast.html", request, call=call, error=None, said=_line(call))
        return await self._html("call_part.html" if _is_htmx(request) else "call.html", request, call=call)

    async def _call(self, request: Request) -> Response:
        return await self._shown(self._calls.find(request.path_params["id"], _browser(request)), request)

    async def _cancel(self, request: Request) -> Response:
        call = self._calls.cancel(request.path_params["id"], _browser(request))
        await self._calls.quick(call)
        return await self._shown(call, request)

    def _command(self, request: Request) -> Command:
        command = self._commands.at(request.path_params["app"], request.path_params["command"])
        if not self._panels.may_call(_browser(request), command):
            raise AccessDenied(tr("this browser may not use `coterie {words}`", words=" ".join(command.path)))
        return command

    async def _values(self, request: Request) -> Response:
        """What a parameter may be, as options."""
        command = self._command(request)
        name = request.path_params["parameter"]
        parameter = next((p for p in command.parameters if p.name == name and p.values is not None), None)
        if parameter is None or parameter.values is None:
            raise NotFound(tr("there is no page here"))
        listed = parameter.values
        given = {n: request.query_params[n] for n in listed.given if request.query_params.get(n)}
        try:
            rows = await self._asked(request, command.app, "").call(listed.command, **given)
        except CoterieError:
            rows = []
        values = [str(row[listed.field]) for row in rows or () if row.get(listed.field)]
        return await self._html("values.html", request, values=[*dict.fromkeys(values)][:LISTED_MAX])

    async def _folders(self, request: Request) -> Response:
        """What is in a folder of this computer: for who may do everything."""
        if not _browser(request).may(""):
            raise AccessDenied(tr("this browser may not see this"))
        at = Path(request.query_params.get("at") or Path.home()).absolute()
        return await self._html(
            "folders.html", request, at=at, lines=folder_lines(at), to=request.query_params.get("to", "")
        )

    async def _search(self, request: Request) -> Response:
        text = request.query_params.get("q", "").strip()[:200]
        found = await found_by(self._asked(request, "node", ""), text)
        return await self._html("found.html", request, found=found, text=text)

    # ---- the rest

    async def _theme(self, request: Request) -> Response:
        theme = dict(await _form(request)).get("theme", "")
        response = Response(status_code=204)
        if theme in THEMES:
            response.set_cookie("coterie-theme", theme, max_age=STATIC_S, samesite="strict")
        return response

    async def _skip(self, request: Request) -> Response:
        """Show the first steps no more in this browser."""
        response = RedirectResponse("/", 303)
        response.set_cookie(SKIPPED, "1", max_age=STATIC_S, samesite="strict", httponly=True)
        return response

    async def _favicon(self, request: Request) -> Response:
        return RedirectResponse(self._templates.static("icon.svg"))

    async def _static(self, request: Request) -> Response:
        path = _static_file(request.path_params["path"])
        headers = {
            "Cache-Control": f"max-age={STATIC_S}, immutable" if "v" in request.query_params else "no-cache"
        }
        kind = STATIC_KINDS.get(path.suffix, "text/plain")
        return Response(
            path.read_bytes(), media_type=kind, headers=headers
        )  # 90 kB at most: no thread for them

    async def _worker(self, request: Request) -> Response:
        """The worker of the page as an app: at the root, since a worker is for what lies below it."""
        text = (STATIC / "phone" / "sw.js").read_bytes()
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    def _removed(self, phone: str) -> None:
        """A phone is let in no more: what it began ends."""
        self._files.previews.end(PREFIX + phone)
        self._node.tasks.start(self._uploads.end(PREFIX + phone), "uploads of a removed phone")

    async def _live(self, socket: WebSocket) -> None:
        hello = {"hello": self._node.status().uptime_s, "version": self._templates.version}
        browser: Browser = socket.scope[BROWSER]
        link = Link(
            socket,
            browser,
            lives=self._lives,
            browsers=self._everybody,
            render=self._templates.row,
            hello=hello,
        )
        await link.serve(self._closing)

    async def _failed(self, request: Request, error: Exception) -> Response:
        status = status_of(error) if isinstance(error, CoterieError) else 500
        told = said(error)
        if BROWSER not in request.scope:  # who asks without a cookie learns nothing of this node
            return PlainTextResponse(told["message"] + "\n", status)
        template = "toast.html" if _wants(request, "toast") or _is_htmx(request) else "failed.html"
        return await self._html(template, request, status, error=told, said=told["message"], call=None)

    async def _missing(self, request: Request, error: Exception) -> Response:
        return await self._failed(request, NotFound(tr("there is no page here")))

    # ---- rendering

    def _reader(self, app: str, browser: Browser, args: Mapping[str, str]) -> Asked:
        return Asked(self._node, app, browser, self._commands, self._panels, args, calls=self._calls)

    def _asked(self, request: Request, app: str, path: str) -> Asked:
        args = {**request.query_params}
        is_skipped = SKIPPED in request.cookies
        return replace(self._reader(app, _browser(request), args), path=path, is_skipped=is_skipped)

    async def _html(self, template: str, request: Request, status: int = 200, /, **given: Any) -> Response:
        browser = request.scope.get(BROWSER)

        async def live(name: str, /, **args: Any) -> Any:
            return await self._rows(name, browser, {key: str(value) for key, value in args.items()})

        theme = request.cookies.get("coterie-theme", "auto")
        navigation = self._panels.navigation(browser) if browser else []
        view = given.get("view")
        cards = self._panels.cards(browser, view.name) if browser and view is not None else []
        text = await self._templates.render(
            template,
            **{
                "browser": browser,
                "node": self._node,
                "navigation": navigation,
                "cards": cards,
                "path": request.url.path,
                "theme": theme if theme in THEMES else "auto",
                "live": live,
                "view": None,
            }
            | given,
        )
        return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})

    async def _rows(self, name: str, browser: Browser | None, args: Mapping[str, str]) -> Any:
        """The first rows of a list, in the element that the page keeps true."""
        found = self._lives.find(name, browser) if browser is not None else None
        if found is None or browser is None:
            return ""
        app, live = found
        try:
            rows, total = await self._lives.seen(app, live, browser, args, 0, WINDOW)
            return await self._templates.rows(name, app, live, rows, args, total)
        except CoterieError:  # an app that does not run any more has no rows
            return await self._templates.rows(name, app, live, (), args, 0)
        except Exception:
            log.exception("the rows '%s' cannot be shown", name)
            return await self._templates.rows(name, app, live, (), args, 0)


def _static_file(name: str) -> Path:
    """The file of the program called so. Raises `NotFound`."""
    with contextlib.suppress(OSError, ValueError):  # no file can be called so
        path = (STATIC / name).resolve()
        if path.is_relative_to(STATIC) and path.is_file():
            return path
    raise NotFound(tr("there is no page here"))


def _line(call: Call) -> str:
    """What a call says in one line."""
    if call.state == "cancelled":
        return tr("stopped")
    if call.result is not None and call.result.text:
        return call.result.text.splitlines()[0]
    return tr("done") if call.state == "done" else tr("it goes on")


def _browser(request: Request) -> Browser:
    browser: Browser = request.scope[BROWSER]
    return browser


async def _form(request: Request) -> list[tuple[str, str]]:
    """The pairs of a form. Raises `UsageError`."""
    return read_pairs(await request.body())


def _is_htmx(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def _wants(request: Request, what: str) -> bool:
    return request.headers.get("hx-target") == what


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
