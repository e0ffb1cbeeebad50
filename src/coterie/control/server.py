"""The local API inside a running node: Starlette and uvicorn on the node's own event loop, 127.0.0.1 only."""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator
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
from coterie.control.gate import Gate
from coterie.control.openapi import API_ROOT, describe, path_of
from coterie.errors import NotFound
from coterie.home import Home
from coterie.local_http import HOST, LocalServer, listen
from coterie.private_file import write_private
from coterie.texts import speaking, tr

if TYPE_CHECKING:
    from coterie.node import Node

log = logging.getLogger(__name__)

NODE_APP = "node"  # commands of the node itself stand beside those of the apps under this name
NODE_COMMANDS = "coterie.control.commands"
TOKEN_BYTES = 32


class Api(msgspec.Struct, frozen=True):
    """Where the local API answers, and the secret that opens it."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Api({self.url})"


@contextlib.asynccontextmanager
async def serve(node: "Node", stop: asyncio.Event) -> AsyncIterator[Api]:
    """Answer the local API for `node` while the block runs; a call of `shutdown` sets `stop`.

    Raises:
        TransportError: the port in the settings is taken.
    """
    home = Home.locate(node.home)
    listener = listen(
        node.config.api_port,
        "choose another with `coterie config set api_port PORT` (0 takes any free one)",
    )
    port = listener.getsockname()[1]
    api = Api(f"http://{HOST}:{port}", secrets.token_urlsafe(TOKEN_BYTES))
    open_ports = {("tcp", port): tr("the local API and the page")}
    node.ports.claim(lambda: open_ports)
    answers = Answers(node.people.in_names)
    server = LocalServer(Gate(_in_their_language(_routes(node, answers, stop)), port, api.token))
    task = node.tasks.start(server.serve([listener]), "local API")
    try:
        note = {"url": api.url, "token": api.token, "pid": os.getpid()}
        write_private(home.api_file, msgspec.json.encode(note))
        yield api
    finally:
        open_ports.clear()
        home.api_file.unlink(missing_ok=True)
        answers.close()
        server.stop()
        await task


def _in_their_language(app: ASGIApp) -> ASGIApp:
    async def speak(scope: Scope, receive: Receive, send: Send) -> None:
        with speaking(Headers(scope=scope).get("accept-language") if scope["type"] == "http" else None):
            await app(scope, receive, send)

    return speak


def _routes(node: "Node", answers: Answers, stop: asyncio.Event) -> Starlette:
    commands = load_commands(NODE_APP, NODE_COMMANDS)
    for name, app in node.apps.items():
        try:
            commands += load_commands(name, app.commands)
        except Exception as error:
            log.error("the commands of the app '%s' cannot be loaded", name, exc_info=error)
    document = describe(commands)

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    async def status(request: Request) -> Response:
        return Response(json_text.encode(to_plain(node.status())), media_type="application/json")

    async def shutdown(request: Request) -> Response:
        stop.set()
        return JSONResponse({"pid": os.getpid()})

    routes = [
        Route(f"{API_ROOT}/openapi.json", openapi, methods=["GET"]),
        Route(f"{API_ROOT}/status", status, methods=["GET"]),
        Route(f"{API_ROOT}/shutdown", shutdown, methods=["POST"]),
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
