"""A server of uploads alone: in the loop of a test, or as a process that a test kills (`python -m ... FOLDER PORT`)."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request

from coterie.local_http import LocalServer, listen, welcome
from coterie.web.uploads import UploadFolder, Uploads

TUS = {"Tus-Resumable": "1.0.0"}
MEDIA = {"Content-Type": "application/offset+octet-stream"}
BATCH = "batch-of-a-test"


def owner_of(request: Request) -> str:
    welcome(request.scope)
    return request.headers.get("x-owner", "anna")


class Served:
    """A running server: where it answers; and what it has, where it runs in this process."""

    uploads: Uploads
    folder: UploadFolder
    removed: set[str]

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> HTTPResponse:
        """The answer, its body read (`.said`), from a thread."""
        return await asyncio.to_thread(self.ask_now, method, path, headers or {}, body)

    def ask_now(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {**TUS, **headers})
        answer = connection.getresponse()
        answer.said = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    async def begin(self, size: int, name: str = "a.txt", **more: str) -> str:
        """The path of a new upload."""
        headers = {"Upload-Length": str(size), "Upload-Metadata": described(name)} | more
        answer = await self.ask("POST", "/up/files", headers)
        assert answer.status == 201, answer.said  # type: ignore[attr-defined]
        return answer.headers["Location"]

    async def add(self, path: str, offset: int, body: bytes, **more: str) -> HTTPResponse:
        """The answer to more bytes of an upload."""
        return await self.ask("PATCH", path, {**MEDIA, "Upload-Offset": str(offset)} | more, body)


def described(name: str, batch: str = BATCH) -> str:
    import base64

    def said(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    return f"filename {said(name)},batch {said(batch)}"


@contextlib.asynccontextmanager
async def served(folder: Path, port: int = 0, **options: object) -> AsyncIterator[Served]:
    """`options` as for `UploadFolder`."""
    removed: set[str] = set()
    uploads = Uploads(
        UploadFolder(folder, **options),  # type: ignore[arg-type]
        owner_of,
        is_few=lambda request: owner_of(request).startswith("phone"),
        may_still=lambda request: owner_of(request) not in removed,
    )
    listener = listen(port, "")
    server = LocalServer(Starlette(routes=uploads.routes()))
    task = asyncio.ensure_future(server.serve([listener]))
    try:
        here = Served(listener.getsockname()[1])
        here.uploads, here.folder, here.removed = uploads, uploads.folder, removed
        yield here
    finally:
        server.stop()
        await task


async def main() -> None:
    async with served(Path(sys.argv[1]), int(sys.argv[2])) as here:
        sys.stdout.write(f"{here.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
