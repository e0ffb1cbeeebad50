"""Answers: a command's result as JSON, or its events as lines; errors with their HTTP status."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coterie import json_text
from coterie.apps.command import Command
from coterie.apps.invoke import Event, Result, invoke, read_parameters
from coterie.control.request_body import Receive, Send
from coterie.decoding import decoder
from coterie.errors import (
    AccessDenied,
    CoterieError,
    LimitExceeded,
    NotFound,
    PeerError,
    StorageError,
    TransportError,
    UsageError,
)
from coterie.plain_text import one_line
from coterie.texts import tr

HEARTBEAT_S = 3.0  # an empty line this often: a client that is gone is noticed
LINES_TYPE = "application/x-ndjson"

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[CoterieError], int], ...] = (
    (UsageError, 400),
    (AccessDenied, 403),
    (NotFound, 404),
    (LimitExceeded, 429),
    (PeerError, 502),
    (TransportError, 503),
    (StorageError, 507),
    (CoterieError, 500),
)


def status_of(error: CoterieError) -> int:
    """The HTTP status that says whose fault `error` is."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def error_body(error: BaseException) -> dict[str, dict[str, str]]:
    """`error` as both kinds of answers carry it, in one line; an unexpected one is logged and not shown."""
    if isinstance(error, CoterieError):
        return {"error": {"code": error.code, "message": one_line(str(error))}}
    log.error("a command failed unexpectedly", exc_info=error)
    text = f"unexpected {type(error).__name__} in the node; its log has the details"
    return {"error": {"code": "internal", "message": text}}


def error_response(error: BaseException) -> Response:
    """The answer to a request that failed before any line was sent."""
    status = status_of(error) if isinstance(error, CoterieError) else 500
    return JSONResponse(error_body(error), status)


class Answers:
    """Turns calls of commands into responses; `close` ends the ones under way."""

    def __init__(self, in_names: Callable[[str], str] = str) -> None:
        """`in_names` says an error with the names of those whose ids stand in it."""
        self._closing = asyncio.Event()
        self._in_names = in_names

    def close(self) -> None:
        """End every call under way with an error that says the node is stopping."""
        self._closing.set()

    async def answer(self, command: Command, service: Any, request: Request) -> Response:
        """Call `command` with the parameters in the request's body."""
        try:
            raw = _parameters(await request.body(), request.headers.get("content-type", ""))
            read_parameters(
                command, raw
            )  # wrong parameters get a status of their own, not a line in a stream
        except CoterieError as error:
            return error_response(error)
        calls = invoke(command, service, raw, in_names=self._in_names)
        if command.streams or LINES_TYPE in request.headers.get("accept", ""):
            return _Lines(calls, self._closing)
        return await self._single(calls, request)

    async def _single(self, calls: AsyncIterator[Event | Result], request: Request) -> Response:
        call = asyncio.ensure_future(_only_result(calls))
        gone = asyncio.ensure_future(_disconnected(request.receive))
        closing = asyncio.ensure_future(self._closing.wait())
        await _first_of(call, gone, closing)
        if not call.done() or call.cancelled():
            return error_response(_stopping())
        if error := call.exception():
            return error_response(error)
        return Response(json_text.encode(call.result().value), media_type="application/json")


class _Lines(Response):
    """Events and the result as JSON lines; a client that goes away cancels the command."""

    def __init__(self, calls: AsyncIterator[Event | Result], closing: asyncio.Event) -> None:
        super().__init__(media_type=LINES_TYPE)
        self._calls = calls
        self._closing = closing

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = [(b"content-type", LINES_TYPE.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        pump = asyncio.ensure_future(self._pump(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        closing = asyncio.ensure_future(self._closing.wait())
        await _first_of(pump, gone, closing)
        if not gone.cancelled():
            return  # nobody is there to be told
        if pump.cancelled():
            await _send_line(send, error_body(_stopping()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        try:
            async for item in _with_heartbeats(self._calls):
                await _send_line(send, _line(item))
        except Exception as error:  # noqa: BLE001 - the boundary: what failed is said to the client and logged
            await _send_line(send, error_body(error))


async def _with_heartbeats(calls: AsyncIterator[Event | Result]) -> AsyncIterator[Event | Result | None]:
    """The items of `calls`, and None whenever there was none for `HEARTBEAT_S`."""
    while True:
        following = asyncio.ensure_future(anext(calls, None))
        try:
            while not (await asyncio.wait({following}, timeout=HEARTBEAT_S))[0]:
                yield None
        finally:
            if not following.done():
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
        item = following.result()
        if item is None:
            return
        yield item


async def _first_of(work: "asyncio.Future[Any]", *ends: "asyncio.Future[Any]") -> None:
    """Wait until `work` is done or one of `ends` comes; cancel what is left and wait for that."""
    everything = (work, *ends)
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in everything:
            future.cancel()
        await asyncio.gather(*everything, return_exceptions=True)


async def _only_result(calls: AsyncIterator[Event | Result]) -> Result:
    async for item in calls:
        if isinstance(item, Result):
            return item
    return Result(None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _stopping() -> CoterieError:
    return TransportError(tr("the node is stopping"))


@decoder(UsageError, "the request body")
def _parameters(body: bytes, content_type: str) -> Any:
    if not body:
        return {}
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UsageError(tr("send the parameters as application/json"))
    try:
        return json_text.decode(body, object)
    except UsageError as error:
        raise UsageError(tr("the request body is not JSON: {error}", error=error)) from None


def _line(item: Event | Result | None) -> dict[str, Any] | None:
    return None if item is None else item.line()


async def _send_line(send: Send, line: dict[str, Any] | None) -> None:
    body = b"\n" if line is None else json_text.encode(line) + b"\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
