"""The body of a request, read whole before anything is done with it: bounded in size and time."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BODY_BYTES_MAX = 1024 * 1024  # parameters only: files go by path
DRAIN_BYTES_MAX = (
    8 * BODY_BYTES_MAX
)  # read and dropped so that a client which only sends first gets the answer
BODY_TIMEOUT_S = 10.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes | tuple[int, str, str]:
    """The request's body, or why it is refused."""
    too_large = (413, "limit", f"a request body has at most {BODY_BYTES_MAX} bytes")
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if int(declared) > DRAIN_BYTES_MAX:
        return too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return 400, "usage", "the connection ended within the request"
                part = message.get("body", b"")
                size += len(part)
                if size <= BODY_BYTES_MAX:
                    parts.append(part)
                if size > DRAIN_BYTES_MAX:
                    return too_large
                if not message.get("more_body", False):
                    return b"".join(parts) if size <= BODY_BYTES_MAX else too_large
    except TimeoutError:
        return 408, "limit", f"the request body did not arrive within {BODY_TIMEOUT_S:g} s"


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out `body` once and then waits for the disconnect."""
    unread = [body]

    async def replayed() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replayed
