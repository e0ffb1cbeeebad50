"""The local API inside a running node: Starlette and uvicorn on the node's own event loop, 127.0.0.1 only."""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from coterie import json_text
from coterie.apps.command import Command
from coterie.apps.invoke import load_commands, to_plain
from coterie.control.answers import Answers, error_response
from coterie.control.browsers import KEY_LASTS_S, Browsers
from coterie.control.gate import Gate
from coterie.control.openapi import API_ROOT, describe, path_of
from coterie.control.page_gate import FILES_HOST, OPEN_PATH, PageGate
from coterie.control.request_body import Asgi
from coterie.errors import NotFound, TransportError
from coterie.home import Home
from coterie.local_http import HOST, HOSTS, LocalServer, listen
from coterie.private_file import write_private
from coterie.services.local.callers import caller_of, can_ask, is_trusted
from coterie.texts import speaking, tr

if TYPE_CHECKING:
    from coterie.node import Node

log = logging.getLogger(__name__)

NODE_APP = "node"  # commands of the node itself stand beside those of the apps under this name
NODE_COMMANDS = "coterie.control.commands"
TOKEN_BYTES = 32
PREPARE_S = 0.01  # after an address was given out, so that its answer is not kept waiting


class Api(msgspec.Struct, frozen=True):
    """Where the local API answers, and the secret that opens it."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Api({self.url})"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the page gets. `closing` is set when the node stops."""

    node: "Node"
    commands: Sequence[Command]
    browsers: Browsers
    closing: asyncio.Event


MakePage = Callable[[Surroundings], Asgi]


@contextlib.asynccontextmanager
async def serve(
    node: "Node",
    stop: asyncio.Event,
    make_page: MakePage | None = None,
    beside: Callable[["Node", Asgi], None] = lambda node, page: None,
) -> AsyncIterator[Api]:
    """Answer the local API for `node` while the block runs; a call of `shutdown` sets `stop`.

    `make_page` makes what browsers see, when the first one asks. `beside` shows the page elsewhere, too; there it is
    asked by others who comes.

    Raises:
        TransportError: the port in the settings is taken.
    """
    home = Home.locate(node.home)
    listener = _listen(home, node.config.api_port)
    port = listener.getsockname()[1]
    api = Api(f"http://{HOST}:{port}", secrets.token_urlsafe(TOKEN_BYTES))
    open_ports = {("tcp", port): tr("the local API and the page")}
    node.ports.claim(lambda: open_ports)
    answers = Answers(node.people.in_names)
    commands, browsers, closing = _commands(node), Browsers(home.browsers_file), asyncio.Event()
    page = opening = None
    if make_page is not None:
        made = Surroundings(node, commands, browsers, closing)
        hosts = {f"{name}:{port}" for name in HOSTS}
        lazy = _Lazy(make_page, made)
        files = f"http://{FILES_HOST}:{port}"
        page = PageGate(
            lazy, browsers, hosts.__contains__, cookie=f"coterie-{port}", files=lambda host: files
        )
        opening = _Opening(api.url, browsers, lazy.prepare)
        beside(node, lazy)
    routes = _routes(node, answers, stop, commands, opening)
    server = LocalServer(
        Gate(_in_their_language(routes), port, api.token, page),
        _is_ours,
        page.may_upgrade if page is not None else None,
    )
    task = node.tasks.start(server.serve([listener]), "local API")
    try:
        note = {"url": api.url, "token": api.token, "pid": os.getpid()}
        write_private(home.api_file, msgspec.json.encode(note))
        yield api
    finally:
        open_ports.clear()
        home.api_file.unlink(missing_ok=True)
        closing.set()
        answers.close()
        server.stop()
        await task


def _is_ours(accepted: Any) -> bool:
    """Whether the program at the other end is the owner's; true where the system does not say whose it is.

    A browser sends its cookie to every port of this computer, also to one of another user.
    """
    return not can_ask() or is_trusted(caller_of(accepted))


def _listen(home: Home, wanted: int) -> Any:
    """The port of the settings, or the one used last, so that a page that is open finds the node again; or any."""
    advice = "choose another with `coterie config set api_port PORT` (0 takes any free one)"
    if wanted:
        return listen(wanted, advice)
    try:
        listener = listen(int(home.api_port_file.read_text(encoding="ascii")[:5]), advice)
    except (OSError, ValueError, OverflowError, TransportError):
        listener = listen(0, advice)
        write_private(home.api_port_file, str(listener.getsockname()[1]).encode())
    return listener


class _Lazy:
    """The page, made at the first request: who never opens it pays nothing for it."""

    def __init__(self, make_page: MakePage, surroundings: Surroundings) -> None:
        self._make_page = make_page
        self._surroundings = surroundings
        self._page: Asgi | None = None

    def prepare(self) -> Asgi:
        """The page, made where it was not yet."""
        if self._page is None:
            self._page = self._make_page(self._surroundings)
        return self._page

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.prepare()(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Opening:
    """Makes addresses that open the page once, and the page while the browser is still on its way."""

    url: str
    browsers: Browsers
    prepare: Callable[[], Any]

    def __call__(self) -> dict[str, Any]:
        asyncio.get_running_loop().call_later(PREPARE_S, self.prepare)
        return {
            "url": f"{self.url}{OPEN_PATH}{self.browsers.new_key()}",
            "page": f"{self.url}/",
            "lasts_s": KEY_LASTS_S,
        }


def _in_their_language(app: ASGIApp) -> ASGIApp:
    async def speak(scope: Scope, receive: Receive, send: Send) -> None:
        with speaking(Headers(scope=scope).get("accept-language") if scope["type"] == "http" else None):
            await app(scope, receive, send)

    return speak


def _commands(node: "Node") -> list[Command]:
    commands = load_commands(NODE_APP, NODE_COMMANDS)
    for name, app in node.apps.items():
        try:
            commands += load_commands(name, app.commands)
        except Exception as error:
            log.error("the commands of the app '%s' cannot be loaded", name, exc_info=error)
    return commands


def _routes(
    node: "Node",
    answers: Answers,
    stop: asyncio.Event,
    commands: Sequence[Command],
    opening: Callable[[], dict[str, Any]] | None,
) -> Starlette:

    async def openapi(request: Request) -> Response:
        return JSONResponse(describe(commands))  # 80 ms and some MB: nobody asks twice

    async def status(request: Request) -> Response:
        return Response(json_text.encode(to_plain(node.status())), media_type="application/json")

    async def shutdown(request: Request) -> Response:
        stop.set()
        return JSONResponse({"pid": os.getpid()})

    async def page(request: Request) -> Response:
        if opening is None:
            return error_response(NotFound(tr("this node has no page")))
        return JSONResponse(opening())

    routes = [
        Route(f"{API_ROOT}/openapi.json", openapi, methods=["GET"]),
        Route(f"{API_ROOT}/status", status, methods=["GET"]),
        Route(f"{API_ROOT}/shutdown", shutdown, methods=["POST"]),
        Route(f"{API_ROOT}/page", page, methods=["POST"]),
        *(_route(command, node, answers) for command in commands),
    ]
    handlers: Any = {HTTPException: _refuse, Exception: _fail}
    return Starlette(routes=routes, exception_handlers=handlers)


def _route(command: Command, node: "Node", answers: Answers) -> Route:
    async def call(request: Request) -> Response:
        try:
            service = node if command.app == NODE_APP else node.service(command.app)
        except NotFound as error:  # the app does not run; the text says why
            return error_response(error)
        return await answers.answer(command, service, request)

    return Route(path_of(command), call, methods=["POST"])


async def _refuse(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return error_response(
            NotFound(
                tr(
                    "no such route: {path}; see {api_root}/openapi.json",
                    path=request.url.path,
                    api_root=API_ROOT,
                )
            )
        )
    text = f"{request.method} is not for {request.url.path}"
    return JSONResponse(
        {"error": {"code": "usage", "message": text}}, error.status_code, headers=error.headers
    )


async def _fail(request: Request, error: Exception) -> Response:
    return error_response(error)
